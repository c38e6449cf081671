//! A set of root keys.

use std::collections::HashMap;

use gizer_flatten::{Cell, Scope, TableSet};
use gizer_schema::{ColumnType, Layout, TableId};

use crate::column_type::identity;
use crate::copy::write_cell;

/// Root keys of touched documents, each once: a set, numbered from 0 in the order in which they came.
///
/// Each has a [`Scope`]: the tables whose rows under this key are looked at. It is [`Scope::All`] unless said otherwise.
///
/// Two keys are one if PostgreSQL's `=` says so of their columns: 0 and −0 of a `float8`, 1.5 and 1.50 of a `numeric` are.
#[derive(Debug, Clone)]
pub struct Keys {
    ty: ColumnType,
    /// Their binary form, each with its length before it.
    elements: Vec<u8>,
    /// Where each one's value begins in `elements`.
    starts: Vec<usize>,
    scopes: Vec<Scope>,
    numbers: HashMap<Box<[u8]>, u32>,
}

impl Keys {
    /// No keys, for the tables of this layout.
    pub fn new(layout: &Layout) -> Keys {
        Keys::of_type(layout.key.ty)
    }

    fn of_type(ty: ColumnType) -> Keys {
        let (elements, starts, scopes) = (Vec::new(), Vec::new(), Vec::new());
        Keys { ty, elements, starts, scopes, numbers: HashMap::new() }
    }

    /// Adds a key, as a cell of the key's column, in the scope of all tables; gives its number. `None` of [`Cell::Null`],
    /// which is no key.
    pub fn insert(&mut self, key: &Cell<'_>) -> Option<u32> {
        self.insert_within(key, &Scope::All)
    }

    /// The same with a scope. A key that is there already gets it in addition to the one it has.
    pub fn insert_within(&mut self, key: &Cell<'_>, scope: &Scope) -> Option<u32> {
        Some(self.insert_field(&value(key)?, scope))
    }

    fn insert_field(&mut self, field: &[u8], scope: &Scope) -> u32 {
        let identity = identity(self.ty, field);
        if let Some(&number) = self.numbers.get(identity.as_ref()) {
            self.scopes[number as usize].add(scope);
            return number;
        }
        let number = u32::try_from(self.starts.len()).expect("a batch has fewer than 2^32 keys: it is held in memory");
        self.numbers.insert(identity.into(), number);
        let length = i32::try_from(field.len()).expect("a key is far shorter than 2 GiB");
        self.elements.extend_from_slice(&length.to_be_bytes());
        self.starts.push(self.elements.len());
        self.elements.extend_from_slice(field);
        self.scopes.push(scope.clone());
        number
    }

    /// Adds a key as its column is read in binary form, in the scope of all tables; gives its number.
    pub fn insert_stored(&mut self, field: &[u8]) -> u32 {
        self.insert_field(field, &Scope::All)
    }

    /// The tables in which a key is looked at.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn scope(&self, number: u32) -> &Scope {
        &self.scopes[number as usize]
    }

    /// From now on a key is looked at in all tables.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn widen(&mut self, number: u32) {
        self.scopes[number as usize] = Scope::All;
    }

    /// Adds the keys that have these numbers in another set of the same tables, in the scope of all tables.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn add(&mut self, other: &Keys, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.insert_field(other.field(number), &Scope::All);
        }
    }

    /// The keys with these numbers, renumbered in the order given, each looked at in those of its tables that are among
    /// `tables`.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn part(&self, numbers: impl IntoIterator<Item = u32>, tables: &TableSet) -> Keys {
        let mut part = Keys::of_type(self.ty);
        for number in numbers {
            part.insert_field(self.field(number), &self.scope(number).within(tables));
        }
        part
    }

    /// The keys for which `is_first` says so of their numbers, and the others, each renumbered, in their scopes.
    #[must_use]
    pub fn split(&self, is_first: impl Fn(u32) -> bool) -> (Keys, Keys) {
        let (mut first, mut others) = (Keys::of_type(self.ty), Keys::of_type(self.ty));
        for number in 0..u32::try_from(self.len()).unwrap_or(u32::MAX) {
            let side = if is_first(number) { &mut first } else { &mut others };
            side.insert_field(self.field(number), self.scope(number));
        }
        (first, others)
    }

    /// The number of a key, if it is in the set.
    pub fn number_of(&self, key: &Cell<'_>) -> Option<u32> {
        self.number_of_stored(&value(key)?)
    }

    /// The number of a key as its column is read in binary form, if it is in the set.
    pub fn number_of_stored(&self, field: &[u8]) -> Option<u32> {
        self.numbers.get(identity(self.ty, field).as_ref()).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The key with this number, in the binary form of its column.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn field(&self, number: u32) -> &[u8] {
        let at = number as usize;
        // Behind a value comes the length of the next one.
        let end = self.starts.get(at + 1).map_or(self.elements.len(), |next| next - size_of::<i32>());
        &self.elements[self.starts[at]..end]
    }

    /// For each number its place among all keys in byte order. That is about the order of the primary key's index:
    /// writes in it touch each page once.
    pub fn ranks(&self) -> Vec<u32> {
        let mut ranks = vec![0; self.len()];
        for (rank, number) in self.sorted().into_iter().enumerate() {
            ranks[number as usize] = rank as u32;
        }
        ranks
    }

    /// Type of the key's column.
    pub(super) fn ty(&self) -> ColumnType {
        self.ty
    }

    /// How many of these keys are looked at in a table, and their values, each with its length before it.
    pub(super) fn elements(&self, numbers: &[u32], table: TableId) -> (usize, Vec<u8>) {
        let (mut count, mut elements) = (0, Vec::new());
        for &number in numbers.iter().filter(|number| self.scope(**number).contains(table)) {
            elements.extend_from_slice(self.element(number));
            count += 1;
        }
        (count, elements)
    }

    /// A key with its length before it.
    fn element(&self, number: u32) -> &[u8] {
        let start = self.starts[number as usize];
        &self.elements[start - size_of::<i32>()..start + self.field(number).len()]
    }

    /// The values of all of them in the order of their bytes, each with its length before it.
    pub(super) fn all_elements(&self) -> Vec<u8> {
        let mut elements = Vec::with_capacity(self.elements.len());
        for number in self.sorted() {
            elements.extend_from_slice(self.element(number));
        }
        elements
    }

    /// Their numbers in the order of their bytes.
    pub(super) fn sorted(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        numbers.sort_by(|a, b| self.field(*a).cmp(self.field(*b)));
        numbers
    }
}

/// The binary form of a key; `None` of NULL.
fn value(key: &Cell<'_>) -> Option<Vec<u8>> {
    let mut element = Vec::new();
    write_cell(&mut element, key);
    (*key != Cell::Null).then(|| element.split_off(size_of::<i32>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gizer_flatten::Decimal;
    use gizer_schema::file;

    fn keys(ty: &str) -> Keys {
        let schema = format!(r#"{{"$gizer": 1, "fields": {{"_id": "{ty}"}}}}"#);
        Keys::new(&Layout::new(&file::parse("posts", &schema).unwrap()).unwrap())
    }

    #[test]
    fn a_key_is_there_once() {
        let mut set = keys("STRING");
        assert_eq!(set.insert(&Cell::Text("b".into())), Some(0));
        assert_eq!(set.insert(&Cell::Text("".into())), Some(1));
        assert_eq!(set.insert(&Cell::Text("b".into())), Some(0));
        assert_eq!(set.insert(&Cell::Text("ab".into())), Some(2));
        assert_eq!((set.len(), set.field(0), set.field(1), set.field(2)), (3, &b"b"[..], &b""[..], &b"ab"[..]));
        assert_eq!(set.number_of(&Cell::Text("ab".into())), Some(2));
        assert_eq!(set.number_of_stored(b"ab"), Some(2));
        assert_eq!(set.number_of(&Cell::Text("x".into())), None);
        assert_eq!((set.insert(&Cell::Null), set.number_of(&Cell::Null)), (None, None));
        assert_eq!(set.ranks(), [2, 0, 1]);
        assert_eq!(set.elements(&set.sorted(), TableId(0)), (3, b"\0\0\0\0\0\0\0\x02ab\0\0\0\x01b".to_vec()));
    }

    #[test]
    fn a_key_is_looked_at_where_anything_said_so() {
        let mut tables = TableSet::default();
        tables.insert(TableId(0));
        let root = Scope::Tables(tables.clone());
        let mut set = keys("STRING");
        let (a, b) = (Cell::Text("a".into()), Cell::Text("b".into()));
        set.insert_within(&a, &root);
        set.insert_within(&b, &root);
        assert_eq!(set.elements(&set.sorted(), TableId(1)), (0, vec![]));
        set.insert_within(&b, &Scope::All);
        set.insert_within(&b, &root);
        assert_eq!((set.scope(0), set.scope(1)), (&root, &Scope::All));
        assert_eq!(set.elements(&set.sorted(), TableId(1)), (1, b"\0\0\0\x01b".to_vec()));
        let part = set.part([1], &tables);
        assert_eq!((part.number_of(&b), part.number_of(&a), part.scope(0)), (Some(0), None, &root));
        assert_eq!(part.field(0), b"b");
        tables.insert(TableId(1));
        assert_eq!(set.part([0], &tables).scope(0), &root, "what was not looked at before is not looked at now");
        set.widen(0);
        assert_eq!(set.elements(&set.sorted(), TableId(1)).0, 2);
    }

    #[test]
    fn what_the_server_takes_for_equal_is_one_key() {
        let mut doubles = keys("DOUBLE");
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1);
        let numbers = [0.0, -0.0, f64::NAN, other_nan, -f64::NAN, 1.5].map(|n| doubles.insert(&Cell::Double(n)));
        assert_eq!(numbers, [0, 0, 1, 1, 1, 2].map(Some));
        let mut decimals = keys("DECIMAL");
        let decimal = |negative, digits, exponent| Cell::Numeric(Decimal { negative, digits, exponent });
        let cells = [decimal(false, 15, -1), decimal(false, 150, -2), decimal(false, 0, 0), decimal(true, 0, -3)];
        assert_eq!(cells.map(|cell| decimals.insert(&cell)), [0, 0, 1, 1].map(Some));
        assert_eq!(decimals.insert(&decimal(false, 15, 0)), Some(2));
        assert_eq!(decimals.insert(&Cell::NumericNaN), Some(3));
        assert_eq!(
            identity(ColumnType::Json, b"\x01{\"b\":1,\"a\":[{\"d\":1,\"c\":2}]}"),
            identity(ColumnType::Json, b"\x01{\"a\": [{\"c\": 2, \"d\": 1}], \"b\": 1}")
        );
    }
}
