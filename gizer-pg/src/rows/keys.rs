//! A set of root keys.

use std::borrow::Cow;
use std::collections::HashMap;

use gizer_flatten::Cell;
use gizer_schema::{ColumnType, Layout};
use serde_json::Value;

use crate::copy::write_cell;

/// Root keys of touched documents, each once: a set, numbered from 0 in the order in which they came.
///
/// Two keys are one if PostgreSQL's `=` says so of their columns: 0 and −0 of a `float8`, 1.5 and 1.50 of a `numeric` are.
#[derive(Debug, Clone)]
pub struct Keys {
    ty: ColumnType,
    /// Their binary form, each with its length before it.
    elements: Vec<u8>,
    /// Where each one's value begins in `elements`.
    starts: Vec<usize>,
    numbers: HashMap<Box<[u8]>, u32>,
}

impl Keys {
    /// No keys, for the tables of this layout.
    pub fn new(layout: &Layout) -> Keys {
        Keys { ty: layout.key.ty, elements: Vec::new(), starts: Vec::new(), numbers: HashMap::new() }
    }

    /// Adds a key, as a cell of the key's column; gives its number. `None` of [`Cell::Null`], which is no key.
    pub fn insert(&mut self, key: &Cell<'_>) -> Option<u32> {
        let value = value(key)?;
        let identity = identity(self.ty, &value);
        if let Some(number) = self.numbers.get(identity.as_ref()) {
            return Some(*number);
        }
        let number = u32::try_from(self.starts.len()).expect("a batch has fewer than 2^32 keys: it is held in memory");
        self.numbers.insert(identity.into(), number);
        write_cell(&mut self.elements, key);
        self.starts.push(self.elements.len() - value.len());
        Some(number)
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

    /// For each number its place among all keys in the order of their bytes, which is about that of the primary key's
    /// index: what is written in this order touches each of its pages once.
    pub fn ranks(&self) -> Vec<u32> {
        let mut ranks = vec![0; self.len()];
        for (rank, number) in self.sorted().into_iter().enumerate() {
            ranks[number as usize] = rank as u32;
        }
        ranks
    }

    /// Bytes of memory that the set keeps, about.
    pub fn memory_bytes(&self) -> usize {
        // A key stands in the elements and in the map, whose entries are about this long.
        2 * self.elements.len() + self.len() * (size_of::<usize>() + size_of::<(Box<[u8]>, u32)>() + 8)
    }

    /// Type of the key's column.
    pub(super) fn ty(&self) -> ColumnType {
        self.ty
    }

    /// All of them in the order of their bytes, each with its length before it.
    pub(super) fn elements(&self) -> Vec<u8> {
        let mut elements = Vec::with_capacity(self.elements.len());
        for number in self.sorted() {
            let field = self.field(number);
            let start = self.starts[number as usize] - size_of::<i32>();
            elements.extend_from_slice(&self.elements[start..start + size_of::<i32>() + field.len()]);
        }
        elements
    }

    fn sorted(&self) -> Vec<u32> {
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

/// The same bytes for values that PostgreSQL takes for equal.
fn identity(ty: ColumnType, field: &[u8]) -> Cow<'_, [u8]> {
    match ty {
        ColumnType::Double => match field.try_into().map(f64::from_be_bytes) {
            Ok(number) if number.is_nan() => f64::NAN.to_be_bytes().to_vec().into(),
            Ok(0.0) => 0f64.to_be_bytes().to_vec().into(),
            _ => field.into(),
        },
        // All but the scale, which is how many digits are shown.
        ColumnType::Numeric if field.len() >= 8 => [&field[..6], &field[8..]].concat().into(),
        // jsonb comes back with its fields in another order, and with blanks.
        ColumnType::Json => match serde_json::from_slice::<Value>(field.get(1..).unwrap_or_default()) {
            Ok(mut value) => {
                value.sort_all_objects();
                value.to_string().into_bytes().into()
            }
            Err(_) => field.into(),
        },
        _ => field.into(),
    }
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
        assert_eq!(set.elements(), b"\0\0\0\0\0\0\0\x02ab\0\0\0\x01b");
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
