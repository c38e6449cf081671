//! A document walked along with its rows: the quick way to see that it comes back from them.
//!
//! Nothing is built. Every value of the document has to be found where the plan says that it would come back from: in a
//! column of the current row, in `_extra`, or as the next row of a child table. And nothing may be left over: a column that is not
//! NULL, an entry of `_extra`, a row. Then [`rebuild`](gizer_flatten::rebuild) would give this document, and no other.
//!
//! It gives a sure yes, or none: what is rare, such as a document kept whole, is left to the definition. So is everything that
//! differs, which is to be named.

use gizer_schema::raw::{Element, Kind, RawDoc, Value};
use gizer_schema::{ColumnSource, ColumnType, DocumentPlan, Layout, Plan, TableId};

use super::extended::{self, entries};
use super::holds::holds;
use super::same::Numbers;
use crate::stored::StoredRows;

/// What has to be found for a value.
#[derive(Debug, Clone, Copy)]
enum WalkStep {
    Column {
        column: usize,
        ty: ColumnType,
        numbers: Numbers,
    },
    /// The fields of a document, by this node.
    Document(usize),
    /// Rows of this table.
    Table(usize),
    /// Rows of this table, in the order of their keys.
    Map(usize),
    Ignored,
}

/// The fields of one document of the plan.
#[derive(Debug, Default)]
struct WalkedNode {
    /// In the order of their names.
    fields: Vec<WalkedField>,
    /// For each field, and before it for the beginning, the field that came next last time.
    next: Vec<usize>,
    /// JSON Pointer of the document in its row.
    pointer: Vec<u8>,
}

#[derive(Debug)]
struct WalkedField {
    name: Box<[u8]>,
    /// JSON Pointer in its row.
    pointer: Vec<u8>,
    step: WalkStep,
    /// The last document in which it was found.
    seen_in: u64,
}

/// The current row of one table.
#[derive(Debug)]
struct OpenRow {
    /// What becomes of an element; of the root table, of the document.
    step: WalkStep,
    /// Which columns are of fields: not the key of a child table, nor positions, nor `_extra`.
    of_fields: Vec<bool>,
    has_extra: bool,
    /// For each of its columns where its field is in the bytes of the row, with its length; `None` for NULL.
    cells: Vec<Option<(usize, usize)>>,
    /// How many of these have not been found in the document.
    left: usize,
    extra: Vec<KeptEntry>,
    /// The place of the next row.
    place: u32,
    /// Behind the last row.
    end: u32,
}

/// An entry of `_extra`: places in the bytes of the row.
#[derive(Debug, Clone, Copy)]
struct KeptEntry {
    pointer: (usize, usize),
    value: (usize, usize),
    taken: bool,
}

/// Walks documents of one collection.
#[derive(Debug)]
pub(super) struct Beside {
    nodes: Vec<WalkedNode>,
    tables: Vec<OpenRow>,
    /// In the arrays and maps around the current row; 0 in a map.
    positions: Vec<i64>,
    keys: OpenKeys,
    /// Number of the last document, nested or not.
    walked: u64,
}

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ValuePlace {
    InField,
    AsElement,
}

impl Beside {
    pub(super) fn new(layout: &Layout) -> Beside {
        let open = |table: &gizer_schema::Table| OpenRow {
            step: WalkStep::Ignored,
            of_fields: table.columns.iter().map(|column| matches!(column.source, ColumnSource::Field(_))).collect(),
            has_extra: table.has_extra,
            cells: Vec::new(),
            left: 0,
            extra: Vec::new(),
            place: 0,
            end: 0,
        };
        let tables = layout.tables.iter().map(open).collect();
        let mut beside =
            Beside { nodes: Vec::new(), tables, positions: Vec::new(), keys: OpenKeys::default(), walked: 0 };
        beside.tables[0].step = WalkStep::Document(beside.node(layout, &layout.document, 0, Vec::new()));
        beside
    }

    fn node(&mut self, layout: &Layout, plan: &DocumentPlan, table: usize, pointer: Vec<u8>) -> usize {
        let id = self.nodes.len();
        self.nodes.push(WalkedNode::default());
        let mut fields = Vec::with_capacity(plan.fields.len());
        for field in &plan.fields {
            let pointer = [&pointer, &b"/"[..], &escaped(field.name.as_bytes())].concat();
            let step = self.step(layout, &field.plan, table, pointer.clone());
            fields.push(WalkedField { name: field.name.as_bytes().into(), pointer, step, seen_in: 0 });
        }
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        self.nodes[id] = WalkedNode { next: vec![0; fields.len() + 1], fields, pointer };
        id
    }

    fn step(&mut self, layout: &Layout, plan: &Plan, table: usize, pointer: Vec<u8>) -> WalkStep {
        match plan {
            Plan::Column(column) => {
                let ty = layout.tables[table].columns[column.0].ty;
                WalkStep::Column { column: column.0, ty, numbers: Numbers::of_column(layout, ty) }
            }
            Plan::Document(document) => WalkStep::Document(self.node(layout, document, table, pointer)),
            Plan::Table { table: child, element } => {
                self.tables[child.0].step = self.step(layout, element, child.0, Vec::new());
                WalkStep::Table(child.0)
            }
            Plan::Map { table: child, value, .. } => {
                self.tables[child.0].step = self.step(layout, value, child.0, Vec::new());
                WalkStep::Map(child.0)
            }
            // A pair is of the classic dialect, which is not checked.
            Plan::Ignored | Plan::ObjectIdPair { .. } => WalkStep::Ignored,
        }
    }

    /// Whether the rows under this key surely give the document.
    pub(super) fn gives(&mut self, document: RawDoc<'_>, key: u32, stored: &StoredRows) -> bool {
        for (at, table) in self.tables.iter_mut().enumerate() {
            let places = stored.table(TableId(at)).of_key(key);
            (table.place, table.end) = (places.start, places.end);
        }
        self.positions.clear();
        self.keys.clear();
        let WalkStep::Document(node) = self.tables[0].step else { return false };
        self.begin_row(0, stored) == Some(())
            && self.document(node, 0, document, stored).is_some()
            && self.end_row(0).is_some()
            && self.tables.iter().all(|table| table.place == table.end)
    }

    /// Takes the next row of a table, if it is the one at the current positions.
    fn begin_row(&mut self, table: usize, stored: &StoredRows) -> Option<()> {
        let rows = stored.table(TableId(table));
        let open = &mut self.tables[table];
        if open.place == open.end || !rows.stands_at(open.place, &self.positions, self.keys.iter()) {
            return None;
        }
        let bytes = rows.bytes(open.place);
        open.place += 1;
        open.cells.clear();
        open.extra.clear();
        open.left = 0;
        let mut at = 0;
        for of_field in &open.of_fields {
            let length = i32::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
            at += size_of::<i32>();
            let cell = usize::try_from(length).ok().map(|length| (at, length));
            at += cell.map_or(0, |(_, length)| length);
            open.left += usize::from(*of_field && cell.is_some());
            open.cells.push(cell);
        }
        let last = *open.cells.last()?;
        if let Some((start, length)) = last.filter(|_| open.has_extra) {
            let text = bytes.get(start..start + length)?.strip_prefix(&[1])?;
            let place = |part: &[u8]| (part.as_ptr() as usize - bytes.as_ptr() as usize, part.len());
            entries(text, |pointer, value| {
                open.extra.push(KeptEntry { pointer: place(pointer), value: place(value), taken: false });
            })?;
        }
        Some(())
    }

    /// Nothing of the row may be left.
    fn end_row(&self, table: usize) -> Option<()> {
        let open = &self.tables[table];
        (open.left == 0 && open.extra.iter().all(|entry| entry.taken)).then_some(())
    }

    fn document(&mut self, node: usize, table: usize, document: RawDoc<'_>, stored: &StoredRows) -> Option<()> {
        self.walked += 1;
        let (number, mut last) = (self.walked, 0);
        for element in document.elements() {
            let element = element.ok()?;
            let Some(at) = self.nodes[node].find(&mut last, element.name) else {
                let WalkedNode { pointer, .. } = &self.nodes[node];
                self.tables[table].take_kept(stored, table, &element, |kept| is_under(kept, pointer, element.name))?;
                continue;
            };
            let field = &mut self.nodes[node].fields[at];
            let step = field.step;
            if matches!(step, WalkStep::Ignored) {
                continue;
            }
            // A name that comes twice would be found twice in the same place.
            if std::mem::replace(&mut field.seen_in, number) == number {
                return None;
            }
            if !self.tables[table].extra.is_empty() {
                let pointer = &self.nodes[node].fields[at].pointer;
                let open = &mut self.tables[table];
                if open.take_kept(stored, table, &element, |kept| kept == pointer).is_some() {
                    open.pass_over(step, stored, table, &element)?;
                    continue;
                }
            }
            self.value(step, table, ValuePlace::InField, &element, stored)?;
        }
        Some(())
    }

    fn value(
        &mut self,
        step: WalkStep,
        table: usize,
        stands: ValuePlace,
        element: &Element<'_>,
        stored: &StoredRows,
    ) -> Option<()> {
        match step {
            WalkStep::Ignored => Some(()),
            WalkStep::Column { column, ty, numbers } => {
                let open = &mut self.tables[table];
                let Some((start, length)) = open.cells[column] else {
                    // A field would be missing.
                    return (stands == ValuePlace::AsElement && element.kind == Kind::Null).then_some(());
                };
                open.left -= 1;
                let field = open.bytes(stored, table, (start, length))?;
                holds(ty, numbers, field, element).then_some(())
            }
            WalkStep::Document(node) => match element.value().ok()? {
                // A field would be missing.
                Value::Document(document) if document.is_empty() && stands == ValuePlace::InField => None,
                Value::Document(document) => self.document(node, table, document, stored),
                _ => None,
            },
            WalkStep::Map(child) => match element.value().ok()? {
                Value::Document(map) if map.is_empty() && stands == ValuePlace::InField => None,
                Value::Document(map) => self.map(child, map, stored),
                _ => None,
            },
            WalkStep::Table(child) => match element.value().ok()? {
                Value::Array(array) if array.is_empty() && stands == ValuePlace::InField => None,
                Value::Array(array) => self.array(child, array, stored),
                _ => None,
            },
        }
    }

    fn array(&mut self, table: usize, array: RawDoc<'_>, stored: &StoredRows) -> Option<()> {
        let step = self.tables[table].step;
        // Positions begin at 1.
        self.positions.push(0);
        for element in array.elements() {
            *self.positions.last_mut()? += 1;
            self.row(table, step, &element.ok()?, stored)?;
        }
        self.positions.pop();
        Some(())
    }

    fn map(&mut self, table: usize, map: RawDoc<'_>, stored: &StoredRows) -> Option<()> {
        let step = self.tables[table].step;
        let mut entries = map.elements().collect::<Result<Vec<_>, _>>().ok()?;
        entries.sort_unstable_by(|a, b| a.name.cmp(b.name));
        self.positions.push(0);
        for entry in &entries {
            // A name that comes twice does not find its row twice.
            self.keys.push(entry.name);
            self.row(table, step, entry, stored)?;
            self.keys.pop();
        }
        self.positions.pop();
        Some(())
    }

    /// The next row of a child table, which is that of this element or entry.
    fn row(&mut self, table: usize, step: WalkStep, element: &Element<'_>, stored: &StoredRows) -> Option<()> {
        self.begin_row(table, stored)?;
        let open = &mut self.tables[table];
        if !open.extra.is_empty() && open.take_kept(stored, table, element, <[u8]>::is_empty).is_some() {
            open.pass_over(step, stored, table, element)?;
        } else {
            self.value(step, table, ValuePlace::AsElement, element, stored)?;
        }
        self.end_row(table)
    }
}

/// The keys of the maps around the current row, outermost first.
#[derive(Debug, Default)]
struct OpenKeys {
    bytes: Vec<u8>,
    /// Where each begins.
    starts: Vec<usize>,
}

impl OpenKeys {
    fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    fn push(&mut self, key: &[u8]) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(key);
    }

    fn pop(&mut self) {
        if let Some(start) = self.starts.pop() {
            self.bytes.truncate(start);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len()]);
        self.starts.iter().zip(ends).map(|(start, end)| &self.bytes[*start..end])
    }
}

impl WalkedNode {
    /// The field of this name: the one that followed the last one before, or else by looking for it.
    fn find(&mut self, last: &mut usize, name: &[u8]) -> Option<usize> {
        let expected = self.next[*last];
        let at = match self.fields.get(expected) {
            Some(field) if *field.name == *name => expected,
            _ => {
                let at = self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok()?;
                self.next[*last] = at;
                at
            }
        };
        *last = at + 1;
        Some(at)
    }
}

impl OpenRow {
    /// A part of the current row.
    fn bytes<'s>(&self, stored: &'s StoredRows, table: usize, (start, length): (usize, usize)) -> Option<&'s [u8]> {
        stored.table(TableId(table)).bytes(self.place - 1).get(start..start + length)
    }

    /// Takes the entry of `_extra` under this pointer, if it is surely the value.
    fn take_kept(
        &mut self,
        stored: &StoredRows,
        table: usize,
        element: &Element<'_>,
        is: impl Fn(&[u8]) -> bool,
    ) -> Option<()> {
        for at in 0..self.extra.len() {
            let KeptEntry { pointer, value, taken } = self.extra[at];
            if !taken && is(self.bytes(stored, table, pointer)?) {
                // One that is another value is left over, and so seen.
                self.extra[at].taken = extended::is(self.bytes(stored, table, value)?, element);
                return self.extra[at].taken.then_some(());
            }
        }
        None
    }

    /// What is kept in `_extra` stands over what the column has, which should be the same in the column's type.
    fn pass_over(&mut self, step: WalkStep, stored: &StoredRows, table: usize, element: &Element<'_>) -> Option<()> {
        let WalkStep::Column { column, ty, .. } = step else { return Some(()) };
        let Some(cell) = self.cells[column] else { return Some(()) };
        self.left -= 1;
        holds(ty, Numbers::ByValue, self.bytes(stored, table, cell)?, element).then_some(())
    }
}

/// A name in a JSON Pointer (RFC 6901).
fn escaped(name: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b'~' => b"~0".to_vec(),
        b'/' => b"~1".to_vec(),
        byte => vec![*byte],
    };
    name.iter().flat_map(escape).collect()
}

/// Whether a pointer is that of this name in the document at `prefix`.
fn is_under(pointer: &[u8], prefix: &[u8], name: &[u8]) -> bool {
    let Some(rest) = pointer.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(b"/")) else { return false };
    rest == name && !name.iter().any(|byte| matches!(byte, b'~' | b'/')) || rest == escaped(name)
}
