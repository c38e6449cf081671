//! The rows that are stored under some keys, in memory.

use std::ops::Range;

use gizer_flatten::{Cell, RowPosition};
use gizer_pg::PgError;
use gizer_pg::rows::{KeyStretch, Keys, RowStore};
use gizer_schema::{Layout, Table, TableId};

use crate::RowTables;
use crate::field::{FieldReader, IS_KEY};
use crate::map_keys::MapKeys;

/// All rows of some keys, by table, key and positions. The fields of all rows of a table lie in one buffer.
#[derive(Debug)]
pub struct StoredRows {
    tables: Vec<StoredTable>,
    /// Whether what differs from them is to be reported with its values.
    shows_values: bool,
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
    /// The positions of each row, one row after the other; of the key of a map its rank ([`MapKeys`]).
    positions: Vec<i64>,
    /// Where a position is the key of a map.
    map_keys: Option<MapKeys>,
    /// Where each row's fields begin.
    starts: Vec<usize>,
    /// Fields, each with its length before it. The key of child rows stands only in the first of its rows that come together: an
    /// array of a hundred thousand elements would have it as often.
    bytes: Vec<u8>,
    /// Which column holds the key.
    key_column: usize,
    /// Of each row of a child table where its key stands in `bytes`, with its length before it.
    key_starts: Vec<usize>,
    /// The rows in the order of their keys' numbers and their positions.
    sorted: Vec<u32>,
    /// For the number of each key, and one more, where its rows begin in `sorted`.
    first_of_key: Vec<u32>,
}

impl StoredRows {
    /// Reads them, in the open transaction.
    ///
    /// # Errors
    /// [`PgError`] if the tables cannot be read, or are not those of the layout.
    pub async fn read(store: &mut impl RowTables, keys: &Keys) -> Result<StoredRows, PgError> {
        let mut rows = StoredRows::new(store.layout());
        store
            .read(keys, |table, key, tuple| {
                rows.tables[table.0].push(key, |bytes| tuple.append_to(bytes));
            })
            .await?;
        Ok(rows.sorted(keys.len()))
    }

    /// Reads those of a stretch of keys, in a snapshot; their keys are added to `keys`.
    pub(crate) async fn read_stretch(
        store: &mut RowStore<'_>,
        stretch: KeyStretch<'_>,
        keys: &mut Keys,
    ) -> Result<StoredRows, PgError> {
        let mut rows = StoredRows::new(store.layout());
        store
            .read_stretch(stretch, keys, |table, key, tuple| {
                rows.tables[table.0].push(key, |bytes| tuple.append_to(bytes));
            })
            .await?;
        Ok(rows.sorted(keys.len()))
    }

    /// Rows that were read in another way: of each the table, the key's number (below `keys`), and its fields in
    /// binary form with `_extra`.
    ///
    /// # Panics
    /// If a number is too high.
    pub fn gathered<'f, F>(
        layout: &Layout,
        keys: usize,
        rows: impl IntoIterator<Item = (TableId, u32, F)>,
    ) -> StoredRows
    where
        F: IntoIterator<Item = Option<&'f [u8]>>,
    {
        let mut stored = StoredRows::new(layout);
        for (table, key, fields) in rows {
            stored.tables[table.0].push(key, |bytes| append(bytes, fields));
        }
        stored.sorted(keys)
    }

    /// The same in the order of their keys, which are so many.
    fn sorted(mut self, keys: usize) -> StoredRows {
        self.tables.iter_mut().for_each(|table| table.sort(keys));
        self
    }

    fn new(layout: &Layout) -> StoredRows {
        let table = |table: &Table| StoredTable {
            depth: table.positions,
            position_columns: table.data_columns()..table.data_columns() + table.positions,
            keys: Vec::new(),
            positions: Vec::new(),
            map_keys: table.has_map_keys().then(|| MapKeys::of(table)),
            starts: Vec::new(),
            bytes: Vec::new(),
            key_column: table.key.0,
            key_starts: Vec::new(),
            sorted: Vec::new(),
            first_of_key: Vec::new(),
        };
        StoredRows { tables: layout.tables.iter().map(table).collect(), shows_values: false }
    }

    /// The same rows; what differs from them is reported with its values, if so.
    pub(crate) fn showing_values(self, shows_values: bool) -> StoredRows {
        StoredRows { shows_values, ..self }
    }

    pub(crate) fn shows_values(&self) -> bool {
        self.shows_values
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
    /// Adds a row of a key; `append` appends its fields, each with its length before it.
    fn push(&mut self, key: u32, append: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.keys.push(key);
        self.starts.push(start);
        append(&mut self.bytes);
        if self.depth == 0 {
            return;
        }
        let mut fields = FieldReader::new(&self.bytes[start..]);
        let mut key_start = start;
        for column in 0..self.position_columns.end {
            if column == self.key_column {
                key_start = self.bytes.len() - fields.left();
            }
            let field = fields.field().flatten();
            if column >= self.position_columns.start {
                let position = match &mut self.map_keys {
                    Some(keys) if keys.are_at(column - self.position_columns.start) => {
                        Some(keys.number_of(field.unwrap_or_default()))
                    }
                    // The column is of type bigint, and part of the primary key.
                    _ => field.and_then(|field| Some(i64::from_be_bytes(field.try_into().ok()?))),
                };
                self.positions.push(position.unwrap_or_default());
            }
        }
        self.share_key(key, key_start);
    }

    /// Takes the key out of the last row, where the row before it has the same.
    fn share_key(&mut self, key: u32, start: usize) {
        let row = self.keys.len() - 1;
        let same = row > 0 && self.keys[row - 1] == key && self.key_at(self.key_starts[row - 1]) == self.key_at(start);
        if !same {
            self.key_starts.push(start);
            return;
        }
        self.key_starts.push(self.key_starts[row - 1]);
        let value = start + size_of::<i32>();
        let end = value + self.key_at(start).len();
        self.bytes.drain(value..end);
        self.bytes[start..value].copy_from_slice(&IS_KEY.to_be_bytes());
    }

    /// The key that stands here.
    fn key_at(&self, start: usize) -> &[u8] {
        FieldReader::new(&self.bytes[start..]).field().flatten().unwrap_or_default()
    }

    fn sort(&mut self, keys: usize) {
        if let Some(map_keys) = &mut self.map_keys {
            map_keys.rank(&mut self.positions, self.depth);
        }
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

    /// A position of a document's row as that of a stored one.
    pub(crate) fn position_of(&self, cell: &Cell<'_>) -> i64 {
        match (cell, &self.map_keys) {
            (Cell::BigInt(position), _) => *position,
            (Cell::Text(key), Some(keys)) => keys.rank_of(key.as_bytes()),
            _ => 0,
        }
    }

    /// The positions of the row at this place in the binary form of their columns.
    pub(crate) fn position_fields(&self, place: u32) -> impl Iterator<Item = &[u8]> {
        let mut fields = self.fields(place);
        let Range { start, end } = self.position_columns;
        (0..end).map_while(move |_| fields.field()).skip(start).map(Option::unwrap_or_default)
    }

    /// Whether the row at this place stands at these positions, of which those in maps are not numbers but `keys`, outermost first.
    pub(crate) fn stands_at<'k>(
        &self,
        place: u32,
        positions: &[i64],
        keys: impl IntoIterator<Item = &'k [u8]>,
    ) -> bool {
        let stored = self.positions(place);
        let Some(map_keys) = &self.map_keys else { return stored == positions };
        let mut keys = keys.into_iter();
        stored.len() == positions.len()
            && stored.iter().zip(positions).enumerate().all(|(at, (stored, position))| match map_keys.are_at(at) {
                true => keys.next() == Some(map_keys.at_rank(*stored)),
                false => stored == position,
            })
    }

    /// The positions of the row at this place, for a report.
    pub(crate) fn row_positions(&self, place: u32) -> Vec<RowPosition> {
        let position = |(at, position): (usize, &i64)| match &self.map_keys {
            Some(keys) if keys.are_at(at) => {
                RowPosition::Key(String::from_utf8_lossy(keys.at_rank(*position)).into_owned())
            }
            _ => RowPosition::Index(*position),
        };
        self.positions(place).iter().enumerate().map(position).collect()
    }

    fn positions_of(&self, row: u32) -> &[i64] {
        let start = row as usize * self.depth;
        &self.positions[start..start + self.depth]
    }

    /// The fields of the row at this place.
    pub(crate) fn fields(&self, place: u32) -> FieldReader<'_> {
        let row = self.sorted[place as usize] as usize;
        let key = self.key_starts.get(row).map_or(&[][..], |start| self.key_at(*start));
        FieldReader::of_row(self.bytes(place), key)
    }

    /// What begins with the fields of the row at this place.
    pub(crate) fn bytes(&self, place: u32) -> &[u8] {
        &self.bytes[self.starts[self.sorted[place as usize] as usize]..]
    }
}

/// Fields as COPY has them, each with its length before it.
fn append<'f>(bytes: &mut Vec<u8>, fields: impl IntoIterator<Item = Option<&'f [u8]>>) {
    for field in fields {
        let length = field.map_or(Ok(-1), |field| i32::try_from(field.len()));
        let length = length.expect("the server's messages are of less than 2 GiB");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(field.unwrap_or_default());
    }
}
