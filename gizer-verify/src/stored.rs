//! The rows that are stored under some keys, in memory.

use std::ops::Range;

use gizer_pg::PgError;
use gizer_pg::rows::{KeyStretch, Keys, RowStore, StoredTuple};
use gizer_schema::{Layout, Table, TableId};

use crate::field::Reader;

/// All rows of some keys, by table, key and positions. The fields of all rows of a table lie in one buffer.
#[derive(Debug)]
pub(crate) struct StoredRows {
    tables: Vec<StoredTable>,
}

/// The rows of one table.
#[derive(Debug)]
pub(crate) struct StoredTable {
    /// How many positions a row has.
    depth: usize,
    /// Where among the columns they are.
    position_columns: Range<usize>,
    /// The number of each row's key.
    keys: Vec<u32>,
    /// The positions of each row, one row after the other.
    positions: Vec<i64>,
    /// Where each row's fields begin.
    starts: Vec<usize>,
    /// Fields, each with its length before it.
    bytes: Vec<u8>,
    /// The rows in the order of their keys' numbers and their positions.
    sorted: Vec<u32>,
    /// For the number of each key, and one more, where its rows begin in `sorted`.
    first_of_key: Vec<u32>,
}

impl StoredRows {
    /// Reads them, in the open transaction.
    pub(crate) async fn read(store: &mut RowStore<'_>, keys: &Keys) -> Result<StoredRows, PgError> {
        let mut rows = StoredRows::new(store.layout());
        store.read(keys, |table, key, tuple| rows.tables[table.0].push(key, tuple)).await?;
        for table in &mut rows.tables {
            table.sort(keys.len());
        }
        Ok(rows)
    }

    /// Reads those of a stretch of keys, in a snapshot; their keys are added to `keys`.
    pub(crate) async fn read_stretch(
        store: &mut RowStore<'_>,
        stretch: KeyStretch<'_>,
        keys: &mut Keys,
    ) -> Result<StoredRows, PgError> {
        let mut rows = StoredRows::new(store.layout());
        store.read_stretch(stretch, keys, |table, key, tuple| rows.tables[table.0].push(key, tuple)).await?;
        for table in &mut rows.tables {
            table.sort(keys.len());
        }
        Ok(rows)
    }

    fn new(layout: &Layout) -> StoredRows {
        let table = |table: &Table| StoredTable {
            depth: table.positions,
            position_columns: table.data_columns()..table.data_columns() + table.positions,
            keys: Vec::new(),
            positions: Vec::new(),
            starts: Vec::new(),
            bytes: Vec::new(),
            sorted: Vec::new(),
            first_of_key: Vec::new(),
        };
        StoredRows { tables: layout.tables.iter().map(table).collect() }
    }

    pub(crate) fn table(&self, id: TableId) -> &StoredTable {
        &self.tables[id.0]
    }

    /// How many rows there are, by table.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.tables.iter().map(|table| table.keys.len() as u64).collect()
    }

    /// How many rows there are, over all tables.
    pub(crate) fn len(&self) -> u64 {
        self.tables.iter().map(|table| table.keys.len() as u64).sum()
    }
}

impl StoredTable {
    fn push(&mut self, key: u32, tuple: StoredTuple<'_>) {
        let start = self.bytes.len();
        self.keys.push(key);
        self.starts.push(start);
        tuple.append_to(&mut self.bytes);
        if self.depth == 0 {
            return;
        }
        let mut fields = Reader(&self.bytes[start..]);
        for column in 0..self.position_columns.end {
            let field = fields.field().flatten();
            if column >= self.position_columns.start {
                // The column is of type bigint, and part of the primary key.
                let position = field.and_then(|field| Some(i64::from_be_bytes(field.try_into().ok()?)));
                self.positions.push(position.unwrap_or_default());
            }
        }
    }

    fn sort(&mut self, keys: usize) {
        let mut sorted: Vec<u32> = (0..self.keys.len() as u32).collect();
        let identity = |row: u32| (self.keys[row as usize], self.positions_of(row));
        sorted.sort_by(|a, b| identity(*a).cmp(&identity(*b)));
        self.sorted = sorted;
        let mut first = vec![0; keys + 1];
        for key in &self.keys {
            first[*key as usize + 1] += 1;
        }
        for key in 0..keys {
            first[key + 1] += first[key];
        }
        self.first_of_key = first;
    }

    /// The rows of a key, as places in the order of keys and positions.
    pub(crate) fn of_key(&self, key: u32) -> Range<u32> {
        self.first_of_key[key as usize]..self.first_of_key[key as usize + 1]
    }

    /// The positions of the row at this place, outermost first.
    pub(crate) fn positions(&self, place: u32) -> &[i64] {
        self.positions_of(self.sorted[place as usize])
    }

    fn positions_of(&self, row: u32) -> &[i64] {
        let start = row as usize * self.depth;
        &self.positions[start..start + self.depth]
    }

    /// The fields of the row at this place.
    pub(crate) fn fields(&self, place: u32) -> Reader<'_> {
        Reader(&self.bytes[self.starts[self.sorted[place as usize] as usize]..])
    }
}
