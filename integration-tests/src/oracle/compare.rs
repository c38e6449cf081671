//! Documents on one side, rows on the other.

use std::collections::HashMap;

use bson::Document;
use futures::{Stream, StreamExt};
use tokio_postgres::{Client, IsolationLevel};

use super::report::{Difference, Report, TableRows};
use super::stored::Stored;
use super::tables::{Column, Table};
use super::{Cell, Error, Oracle};

/// Documents whose rows are compared at a time …
const CHUNK_DOCUMENTS: usize = 1_000;

/// … unless they have more rows than this.
const CHUNK_ROWS: usize = 20_000;

/// What identifies a row within its table: root key and positions.
type Key = Vec<Cell>;

/// Some documents' root keys, and the rows they should have, by table.
struct Chunk {
    keys: Vec<String>,
    rows: Vec<HashMap<Key, Vec<Cell>>>,
    row_count: usize,
}

impl Chunk {
    fn new(tables: usize) -> Self {
        Self { keys: Vec::new(), rows: vec![HashMap::new(); tables], row_count: 0 }
    }

    fn is_full(&self) -> bool {
        self.keys.len() >= CHUNK_DOCUMENTS || self.row_count >= CHUNK_ROWS
    }
}

impl Oracle {
    /// Compares documents, all of the collection as it should be in PostgreSQL, with the tables.
    ///
    /// What PostgreSQL has is read in one transaction, and nothing of it is changed. A cursor over the collection will
    /// do for `documents` as long as nobody writes to it. Where columns differ, rows are not compared.
    ///
    /// # Errors
    /// [`Error::Mongo`], [`Error::Postgres`], [`Error::SameKey`], [`Error::Unsupported`]. A difference is no error.
    pub async fn compare(
        &self,
        mut documents: impl Stream<Item = mongodb::error::Result<Document>> + Unpin,
        client: &mut Client,
    ) -> Result<Report, Error> {
        let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
        let stored = Stored::new(&transaction, &self.schema, self.key_type()).await?;
        let mut report = Report::new();
        self.compare_columns(&stored, &mut report).await?;
        if !report.is_equal() {
            return Ok(report);
        }
        let mut chunk = self.empty_chunk();
        while let Some(document) = documents.next().await {
            let document = document.map_err(|error| Error::Mongo(Box::new(error)))?;
            self.expect_rows_of(&document, &mut chunk, &mut report)?;
            if chunk.is_full() {
                self.compare_chunk(std::mem::replace(&mut chunk, self.empty_chunk()), &stored, &mut report).await?;
            }
        }
        self.compare_chunk(chunk, &stored, &mut report).await?;
        self.look_for_other_keys(&stored, &mut report).await?;
        Ok(report)
    }

    fn empty_chunk(&self) -> Chunk {
        Chunk::new(self.mapping.tables.len())
    }

    fn key_type(&self) -> &'static str {
        let root = &self.mapping.tables[0];
        let key = root.columns.iter().find(|column| column.name == root.key);
        key.expect("the root key is a column of the root table").ty.sql()
    }

    async fn compare_columns(&self, stored: &Stored<'_>, report: &mut Report) -> Result<(), Error> {
        for table in &self.mapping.tables {
            report.tables.push(TableRows { name: table.name.clone(), expected: 0, stored: 0 });
            let column = |column: &Column| format!("{} {}", column.name, column.ty.sql());
            let expected: Vec<String> = table.columns.iter().map(column).collect();
            let found = stored.columns(table).await?;
            if found != expected {
                report.add(Difference::Columns { table: table.name.clone(), expected, stored: found });
            }
        }
        Ok(())
    }

    fn expect_rows_of(&self, document: &Document, chunk: &mut Chunk, report: &mut Report) -> Result<(), Error> {
        report.documents += 1;
        let Some((key, rows)) = self.mapping.rows(document) else {
            if self.mapping.key_field == "id" {
                let problem = format!("its key is the field id, which this document has no usable one of: {document}");
                return Err(Error::Unsupported { collection: self.collection.clone(), problem });
            }
            report.rejected += 1;
            return Ok(());
        };
        chunk.keys.push(key.key_text());
        chunk.row_count += rows.len();
        for row in rows {
            report.tables[row.table].expected += 1;
            let row_key = key_of(&self.mapping.tables[row.table], &row.cells);
            if chunk.rows[row.table].insert(row_key, row.cells).is_some() {
                return Err(self.same_key(key.key_text()));
            }
        }
        Ok(())
    }

    async fn compare_chunk(&self, mut chunk: Chunk, stored: &Stored<'_>, report: &mut Report) -> Result<(), Error> {
        stored.note_keys(&chunk.keys, self.key_type()).await?;
        for (table, expected) in self.mapping.tables.iter().zip(&mut chunk.rows) {
            for cells in stored.rows(table, &chunk.keys, self.key_type()).await? {
                let key = key_of(table, &cells);
                match expected.remove(&key) {
                    Some(expected) => compare_cells(table, &key, expected, cells, report),
                    None => report.add(Difference::Extra { table: table.name.clone(), key: named(table, &key) }),
                }
            }
            let mut missing: Vec<String> = expected.keys().map(|key| named(table, key)).collect();
            missing.sort_unstable();
            for key in missing {
                report.add(Difference::Missing { table: table.name.clone(), key });
            }
        }
        Ok(())
    }

    async fn look_for_other_keys(&self, stored: &Stored<'_>, report: &mut Report) -> Result<(), Error> {
        stored.all_keys_are_noted().await?;
        if let Some(key) = stored.key_noted_twice().await? {
            return Err(self.same_key(key));
        }
        for (number, table) in self.mapping.tables.iter().enumerate() {
            report.tables[number].stored = stored.row_count(table).await?;
            let (count, rows) = stored.extra_rows(table).await?;
            report.difference_count += count - rows.len() as u64;
            for cells in rows {
                report.add(Difference::Extra { table: table.name.clone(), key: named(table, &key_of(table, &cells)) });
            }
        }
        Ok(())
    }

    fn same_key(&self, key: String) -> Error {
        Error::SameKey { collection: self.collection.clone(), key }
    }
}

fn compare_cells(table: &Table, key: &Key, expected: Vec<Cell>, stored: Vec<Cell>, report: &mut Report) {
    for (column, (expected, stored)) in table.columns.iter().zip(expected.into_iter().zip(stored)) {
        if expected != stored {
            report.add(Difference::Cell {
                table: table.name.clone(),
                key: named(table, key),
                column: column.name.clone(),
                expected,
                stored,
            });
        }
    }
}

/// The cells that identify a row.
fn key_of(table: &Table, cells: &[Cell]) -> Key {
    table.key_columns.iter().map(|&column| cells[column].clone()).collect()
}

/// A row's key for reports: `orders_id_oid = "…", orders_items_idx = 2, idx = 1`.
fn named(table: &Table, key: &Key) -> String {
    let names = table.key_columns.iter().map(|&column| &table.columns[column].name);
    names.zip(key).map(|(name, cell)| format!("{name} = {cell}")).collect::<Vec<_>>().join(", ")
}
