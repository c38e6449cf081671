//! What is to be written, gathered while documents are compared.

use std::iter;
use std::ops::AddAssign;

use bytes::Bytes;
use gizer_flatten::Row;
use gizer_schema::{ColumnType, Layout, Table, TableId};

use super::parameter::ArrayParameter;
use crate::copy::{HEADER, TRAILER, field_count, write_tuple};

/// Rows to delete, to change and to add, encoded.
///
/// Like a [`RowSink`](gizer_flatten::RowSink) it forgets what a discarded document has brought.
#[derive(Debug)]
pub struct RowChanges {
    pub(super) tables: Vec<TableChanges>,
    /// Number of the current document, from 1.
    document: u64,
}

/// What is to be written to one table.
#[derive(Debug)]
pub(super) struct TableChanges {
    /// Number of columns, as each tuple begins with it.
    fields: [u8; 2],
    has_extra: bool,
    key_type: ColumnType,
    pub(super) deleted: Identities,
    pub(super) updated: Tuples,
    pub(super) inserted: Tuples,
    /// The document that brought the last change, and how much there was before it.
    document: u64,
    before: [RowsSize; 3],
}

/// How much there is: rows, and bytes of that of their parts whose length varies.
type RowsSize = (usize, usize);

/// What identifies rows: keys and positions, column by column, each value with its length before it.
#[derive(Debug)]
pub(super) struct Identities {
    rows: usize,
    keys: Vec<u8>,
    positions: Vec<(ColumnType, Vec<u8>)>,
}

/// Whole rows, one after the other.
#[derive(Debug, Default)]
pub(super) struct Tuples {
    bytes: Vec<u8>,
    /// Place of each row's key among all keys, and where the row begins.
    rows: Vec<(u32, usize)>,
}

/// Bytes of an index in an array with its length.
const POSITION: usize = size_of::<i32>() + size_of::<i64>();

impl RowChanges {
    /// Nothing, for the tables of this layout.
    pub fn new(layout: &Layout) -> RowChanges {
        let table = |table: &Table| TableChanges {
            fields: field_count(table.columns.len()),
            has_extra: table.has_extra,
            key_type: layout.key.ty,
            deleted: Identities {
                rows: 0,
                keys: Vec::new(),
                positions: table.position_columns().iter().map(|column| (column.ty, Vec::new())).collect(),
            },
            updated: Tuples::default(),
            inserted: Tuples::default(),
            document: 0,
            before: [(0, 0); 3],
        };
        RowChanges { tables: layout.tables.iter().map(table).collect(), document: 0 }
    }

    /// The changes that another document brings follow.
    pub fn begin_document(&mut self) {
        self.document += 1;
    }

    /// The document that began last is rejected: forget its changes.
    pub fn discard_document(&mut self) {
        for table in self.tables.iter_mut().filter(|table| table.document == self.document) {
            table.deleted.truncate(table.before[0]);
            table.updated.truncate(table.before[1]);
            table.inserted.truncate(table.before[2]);
            table.document = 0;
        }
    }

    /// Deletes all rows of a table that are stored under this key, in the binary form of its column, and these positions,
    /// each in the binary form of its column.
    pub fn delete<'f>(&mut self, table: TableId, key: &[u8], positions: impl IntoIterator<Item = &'f [u8]>) {
        self.table(table).deleted.push(key, positions);
    }

    /// Gives the row that is stored under this row's key and positions its values. `rank` is where its key comes among
    /// all keys ([`Keys::ranks`](super::Keys::ranks)): rows are written in this order.
    pub fn update(&mut self, row: Row<'_>, rank: u32) {
        let table = self.table(row.table);
        let (fields, has_extra) = (table.fields, table.has_extra);
        table.updated.push(fields, has_extra, row, rank);
    }

    /// Adds a row. `rank` as for [`update`](RowChanges::update).
    pub fn insert(&mut self, row: Row<'_>, rank: u32) {
        let table = self.table(row.table);
        let (fields, has_extra) = (table.fields, table.has_extra);
        table.inserted.push(fields, has_extra, row, rank);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.counts().total() == 0
    }

    /// How many rows are to be written, by table.
    pub fn counts(&self) -> RowCounts {
        let count = |table: &TableChanges| TableCounts {
            deleted: table.deleted.rows as u64,
            updated: table.updated.rows.len() as u64,
            inserted: table.inserted.rows.len() as u64,
        };
        RowCounts { tables: self.tables.iter().map(count).collect() }
    }

    /// The table, to which the current document brings a change.
    fn table(&mut self, id: TableId) -> &mut TableChanges {
        let table = &mut self.tables[id.0];
        if table.document != self.document {
            table.document = self.document;
            table.before = [table.deleted.extent(), table.updated.extent(), table.inserted.extent()];
        }
        table
    }
}

impl TableChanges {
    /// The parameters of `DELETE`: keys, then the positions, outermost first.
    pub(super) fn deleted_parameters(&self) -> Vec<ArrayParameter> {
        let deleted = &self.deleted;
        let keys = ArrayParameter::new(self.key_type, deleted.rows, &deleted.keys);
        let positions = deleted.positions.iter();
        let positions = positions.map(|(ty, each)| ArrayParameter::new(*ty, deleted.rows, each));
        iter::once(keys).chain(positions).collect()
    }
}

impl Identities {
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    fn push<'f>(&mut self, key: &[u8], positions: impl IntoIterator<Item = &'f [u8]>) {
        push_field(&mut self.keys, key);
        let mut pushed = 0;
        for ((_, column), position) in self.positions.iter_mut().zip(positions) {
            push_field(column, position);
            pushed += 1;
        }
        self.rows += 1;
        debug_assert_eq!(pushed, self.positions.len(), "one position for each array and map around the row");
    }

    fn extent(&self) -> RowsSize {
        (self.rows, self.keys.len())
    }

    fn truncate(&mut self, (rows, bytes): RowsSize) {
        self.rows = rows;
        self.keys.truncate(bytes);
        for (ty, column) in &mut self.positions {
            // Indexes are of one length; only keys have to be looked at.
            column.truncate(if *ty == ColumnType::BigInt { rows * POSITION } else { length_of(column, rows) });
        }
    }
}

/// Appends a field with its length before it.
fn push_field(column: &mut Vec<u8>, field: &[u8]) {
    let length = i32::try_from(field.len()).expect("a key is far shorter than 2 GiB");
    column.extend_from_slice(&length.to_be_bytes());
    column.extend_from_slice(field);
}

/// Bytes of the first fields of a column.
fn length_of(column: &[u8], fields: usize) -> usize {
    let mut length = 0;
    for _ in 0..fields {
        let Some(field) = column.get(length..).and_then(|rest| rest.first_chunk()) else { break };
        length += size_of::<i32>() + i32::from_be_bytes(*field) as usize;
    }
    length
}

impl Tuples {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn push(&mut self, fields: [u8; 2], has_extra: bool, row: Row<'_>, rank: u32) {
        self.rows.push((rank, self.bytes.len()));
        write_tuple(&mut self.bytes, fields, row.cells, has_extra.then_some(row.extra));
    }

    fn extent(&self) -> RowsSize {
        (self.rows.len(), self.bytes.len())
    }

    fn truncate(&mut self, (rows, bytes): RowsSize) {
        self.rows.truncate(rows);
        self.bytes.truncate(bytes);
    }

    /// All that goes into one binary COPY: the rows in the order of their keys, those of one key as they came.
    pub(super) fn copy_data(&self) -> Bytes {
        let mut data = Vec::with_capacity(HEADER.len() + self.bytes.len() + TRAILER.len());
        data.extend_from_slice(HEADER);
        if self.rows.is_sorted_by_key(|(rank, _)| rank) {
            data.extend_from_slice(&self.bytes);
        } else {
            let ends = self.rows.iter().skip(1).map(|(_, start)| *start).chain([self.bytes.len()]);
            let mut rows: Vec<(u32, usize, usize)> =
                self.rows.iter().zip(ends).map(|(&(rank, start), end)| (rank, start, end)).collect();
            rows.sort_by_key(|(rank, _, _)| *rank);
            for (_, start, end) in rows {
                data.extend_from_slice(&self.bytes[start..end]);
            }
        }
        data.extend_from_slice(&TRAILER);
        Bytes::from(data)
    }
}

/// How many rows were written, by table in the order of the layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// One entry a table.
    pub tables: Vec<TableCounts>,
}

/// How many rows of a table were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Rows deleted.
    pub deleted: u64,
    /// Rows changed.
    pub updated: u64,
    /// Rows added.
    pub inserted: u64,
}

impl RowCounts {
    /// Those of all tables together.
    pub fn sum(&self) -> TableCounts {
        let mut sum = TableCounts::default();
        self.tables.iter().for_each(|table| sum += *table);
        sum
    }

    /// Rows written in all.
    pub fn total(&self) -> u64 {
        let sum = self.sum();
        sum.deleted + sum.updated + sum.inserted
    }
}

impl AddAssign<&RowCounts> for RowCounts {
    fn add_assign(&mut self, other: &RowCounts) {
        if self.tables.len() < other.tables.len() {
            self.tables.resize(other.tables.len(), TableCounts::default());
        }
        for (sum, table) in self.tables.iter_mut().zip(&other.tables) {
            *sum += *table;
        }
    }
}

impl AddAssign for TableCounts {
    fn add_assign(&mut self, other: TableCounts) {
        self.deleted += other.deleted;
        self.updated += other.updated;
        self.inserted += other.inserted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gizer_flatten::{Cell, Extra};
    use gizer_schema::file;

    fn changes() -> RowChanges {
        let schema = file::parse("posts", r#"{"_id": "INT", "l": ["INT"]}"#).unwrap();
        RowChanges::new(&Layout::new(&schema).unwrap())
    }

    fn row<'r>(cells: &'r [Cell<'static>; 1]) -> Row<'r> {
        Row { table: TableId(0), cells, extra: Extra::default() }
    }

    /// The keys of the rows to add, as COPY gets them.
    fn added(changes: &RowChanges) -> Vec<i32> {
        let data = changes.tables[0].inserted.copy_data();
        let tuples = &data[HEADER.len()..data.len() - TRAILER.len()];
        tuples.chunks(10).map(|tuple| i32::from_be_bytes(tuple[6..].try_into().unwrap())).collect()
    }

    #[test]
    fn rows_are_written_in_the_order_of_their_keys() {
        let mut changes = changes();
        for (key, rank) in [(5, 2), (1, 0), (7, 3), (3, 1)] {
            changes.begin_document();
            changes.insert(row(&[Cell::Integer(key)]), rank);
        }
        assert_eq!(added(&changes), [1, 3, 5, 7]);
        assert_eq!(changes.counts().tables[0], TableCounts { deleted: 0, updated: 0, inserted: 4 });
    }

    #[test]
    fn a_discarded_document_leaves_nothing() {
        let mut changes = changes();
        let everything = |changes: &mut RowChanges, key: i32| {
            changes.begin_document();
            changes.delete(TableId(1), &key.to_be_bytes(), [&1_i64.to_be_bytes()[..]]);
            changes.insert(row(&[Cell::Integer(key)]), 0);
            changes.update(row(&[Cell::Integer(key)]), 0);
        };
        everything(&mut changes, 1);
        let before = format!("{:?} {:?}", changes.tables[0].inserted, changes.tables[1].deleted);
        everything(&mut changes, 2);
        changes.discard_document();
        assert_eq!(format!("{:?} {:?}", changes.tables[0].inserted, changes.tables[1].deleted), before);
        changes.begin_document();
        changes.discard_document();
        everything(&mut changes, 3);
        assert_eq!(added(&changes), [1, 3]);
        assert_eq!(changes.counts().total(), 6);
        assert_eq!(changes.tables[1].deleted_parameters().len(), 2, "keys and positions");
    }
}
