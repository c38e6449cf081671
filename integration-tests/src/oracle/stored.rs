//! Reading tables, by SQL that anyone could have written.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use super::cell::Cell;
use super::tables::Table;

/// The temporary table of all keys that documents have.
const KEYS: &str = "pg_temp.oracle_keys";

/// Extra rows that are fetched, to be named; the others are counted.
const EXTRA_ROWS: i64 = 20;

/// The tables of one collection, as one transaction sees them.
pub(super) struct Stored<'t> {
    transaction: &'t Transaction<'t>,
    schema: &'t str,
}

impl<'t> Stored<'t> {
    /// Makes room for the keys of documents, which are of the root key's type.
    pub(super) async fn new(
        transaction: &'t Transaction<'t>,
        schema: &'t str,
        key_type: &str,
    ) -> Result<Self, tokio_postgres::Error> {
        let create = format!("CREATE TEMPORARY TABLE oracle_keys (key {key_type}) ON COMMIT DROP");
        transaction.batch_execute(&create).await?;
        // A thousand keys look like a good reason to read a table from end to end, and that once for every chunk.
        transaction.batch_execute("SET LOCAL enable_seqscan = off").await?;
        Ok(Self { transaction, schema })
    }

    /// Columns of a table in their order, with their types. None if there is no such table.
    pub(super) async fn columns(&self, table: &Table) -> Result<Vec<String>, tokio_postgres::Error> {
        let select = "SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                      FROM pg_attribute a
                      JOIN pg_class c ON c.oid = a.attrelid
                      JOIN pg_namespace n ON n.oid = c.relnamespace
                      WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped
                      ORDER BY a.attnum";
        let rows = self.transaction.query(select, &[&self.schema, &table.name]).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// Notes keys that documents have, for [`Stored::extra_rows`].
    pub(super) async fn note_keys(&self, keys: &[String], key_type: &str) -> Result<(), tokio_postgres::Error> {
        let insert = format!("INSERT INTO {KEYS} SELECT unnest($1::text[]::{key_type}[])");
        self.transaction.execute(&insert, &[&keys]).await?;
        Ok(())
    }

    /// A key that was noted twice, if there is one.
    pub(super) async fn key_noted_twice(&self) -> Result<Option<String>, tokio_postgres::Error> {
        let select = format!("SELECT key::text FROM {KEYS} GROUP BY key HAVING count(*) > 1 LIMIT 1");
        self.transaction.query_opt(&select, &[]).await?.map(|row| row.try_get(0)).transpose()
    }

    /// All rows of these keys.
    pub(super) async fn rows(
        &self,
        table: &Table,
        keys: &[String],
        key_type: &str,
    ) -> Result<Vec<Vec<Cell>>, tokio_postgres::Error> {
        let select = format!(
            "SELECT {} FROM {} WHERE {} = ANY ($1::text[]::{key_type}[])",
            columns_of(table),
            self.name(table),
            quoted(&table.key)
        );
        self.cells(&select, &[&keys]).await
    }

    /// All keys have been noted and all their rows been read: what follows looks at whole tables.
    pub(super) async fn all_keys_are_noted(&self) -> Result<(), tokio_postgres::Error> {
        self.transaction.batch_execute(&format!("SET LOCAL enable_seqscan = on; ANALYZE {KEYS}")).await
    }

    /// How many rows have a key that was never noted, or none, and the first of them.
    pub(super) async fn extra_rows(&self, table: &Table) -> Result<(u64, Vec<Vec<Cell>>), tokio_postgres::Error> {
        let from = format!(
            "FROM {} WHERE NOT EXISTS (SELECT FROM {KEYS} k WHERE k.key = {})",
            self.name(table),
            quoted(&table.key)
        );
        let count = self.count(&format!("SELECT count(*) {from}")).await?;
        if count == 0 {
            return Ok((0, Vec::new()));
        }
        let select = format!("SELECT {} {from} LIMIT {EXTRA_ROWS}", columns_of(table));
        Ok((count, self.cells(&select, &[]).await?))
    }

    /// How many rows a table has.
    pub(super) async fn row_count(&self, table: &Table) -> Result<u64, tokio_postgres::Error> {
        self.count(&format!("SELECT count(*) FROM {}", self.name(table))).await
    }

    async fn count(&self, select: &str) -> Result<u64, tokio_postgres::Error> {
        let count: i64 = self.transaction.query_one(select, &[]).await?.try_get(0)?;
        Ok(count.unsigned_abs())
    }

    async fn cells(
        &self,
        select: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Vec<Cell>>, tokio_postgres::Error> {
        let rows = self.transaction.query(select, parameters).await?;
        rows.iter().map(|row: &Row| (0..row.len()).map(|column| row.try_get(column)).collect()).collect()
    }

    fn name(&self, table: &Table) -> String {
        format!("{}.{}", quoted(self.schema), quoted(&table.name))
    }
}

fn columns_of(table: &Table) -> String {
    table.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
