//! (a) Pre-made SQL: rows that were encoded beforehand, in sets, through nothing but tokio-postgres.

use std::pin::pin;

use bytes::Bytes;
use futures::SinkExt;
use gizer_pg::ident::{Qualified, quote_identifier};
use gizer_schema::{Layout, Table};
use integration_tests::bench::{Result, Sample, Stopwatch, wal_bytes};
use tokio_postgres::Client;

use crate::bed::{Bed, Copy};
use crate::rows::{Batch, CopyData};

/// Bytes of one CopyData message: where PostgreSQL is as fast as it gets.
const CHUNK_BYTES: usize = 256 * 1024;

/// How new rows come into their tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a temporary table and INSERT.
    Staged,
    /// By COPY.
    Direct,
}

/// Writes all batches, a transaction each, on one connection that is open already.
///
/// # Errors
/// PostgreSQL's; if it wrote another number of rows than it was given.
pub(crate) async fn write(bed: &Bed, copy: &Copy, layout: &Layout, batches: &[Batch], way: Way) -> Result<Sample> {
    let statements = Statements::new(layout)?;
    let wal_before = wal_bytes(&copy.target).await?;
    let watch = Stopwatch::start(bed.servers()?)?;
    copy.target.batch_execute(&statements.begin).await?;
    for batch in batches {
        copy.target.batch_execute("BEGIN").await?;
        statements.write(&copy.target, batch, way).await?;
        copy.target.batch_execute("COMMIT").await?;
    }
    let usage = watch.stop()?;
    let wal = wal_bytes(&copy.target).await? - wal_before;
    Ok(Sample { wal: Some(wal), ..Sample::new(usage) })
}

struct Statements {
    begin: String,
    copy_gone: String,
    analyze_gone: String,
    tables: Vec<TableStatements>,
}

struct TableStatements {
    delete: String,
    copy_updated: String,
    analyze_updated: String,
    update: String,
    copy_staged: String,
    insert_staged: String,
    copy: String,
}

impl Statements {
    fn new(layout: &Layout) -> Result<Statements> {
        // Compiling a statement takes longer than running it.
        let mut begin = "SET jit TO off; ".to_owned();
        let mut tables = Vec::new();
        for (i, table) in layout.tables.iter().enumerate() {
            let at = Qualified::new("public", &table.name)?;
            let key = quote_identifier(&table.columns[table.key.0].name)?;
            if i == 0 {
                begin.push_str(&format!(
                    "CREATE TEMPORARY TABLE gone ON COMMIT DELETE ROWS AS SELECT {key} AS key FROM {at} WITH NO DATA; "
                ));
            }
            for name in ["updated", "inserted"] {
                begin.push_str(&format!("CREATE TEMPORARY TABLE {name}_{i} (LIKE {at}) ON COMMIT DELETE ROWS; "));
            }
            tables.push(TableStatements::new(table, i, &at, &key)?);
        }
        let copy_gone = "COPY gone FROM STDIN (FORMAT binary)".to_owned();
        Ok(Statements { begin, copy_gone, analyze_gone: "ANALYZE gone".to_owned(), tables })
    }

    async fn write(&self, client: &Client, batch: &Batch, way: Way) -> Result<()> {
        if batch.gone.rows > 0 {
            copy(client, &self.copy_gone, &batch.gone).await?;
            client.batch_execute(&self.analyze_gone).await?;
            let mut deleted = 0;
            for table in self.tables.iter().rev() {
                deleted += client.execute(&table.delete, &[]).await?;
            }
            expect_rows(deleted, batch.deleted)?;
        }
        for (table, rows) in self.tables.iter().zip(&batch.tables) {
            if rows.updated.rows > 0 {
                copy(client, &table.copy_updated, &rows.updated).await?;
                client.batch_execute(&table.analyze_updated).await?;
                expect_rows(client.execute(&table.update, &[]).await?, rows.updated.rows)?;
            }
            match way {
                _ if rows.inserted.rows == 0 => {}
                Way::Direct => copy(client, &table.copy, &rows.inserted).await?,
                Way::Staged => {
                    copy(client, &table.copy_staged, &rows.inserted).await?;
                    expect_rows(client.execute(&table.insert_staged, &[]).await?, rows.inserted.rows)?;
                }
            }
        }
        Ok(())
    }
}

impl TableStatements {
    fn new(table: &Table, number: usize, at: &Qualified, key: &str) -> Result<TableStatements> {
        let quoted = |name: &String| quote_identifier(name);
        let names: Vec<String> =
            table.columns.iter().map(|column| quoted(&column.name)).collect::<std::result::Result<_, _>>()?;
        let identity: Vec<String> =
            table.key_columns().map(|column| quoted(&column.name)).collect::<std::result::Result<_, _>>()?;
        let sets: Vec<String> =
            names.iter().filter(|name| !identity.contains(name)).map(|name| format!("{name} = n.{name}")).collect();
        let equal: Vec<String> = identity.iter().map(|name| format!("t.{name} = n.{name}")).collect();
        let columns = names.join(", ");
        let copy = |into: &str| format!("COPY {into} ({columns}) FROM STDIN (FORMAT binary)");
        let (updated, inserted) = (format!("updated_{number}"), format!("inserted_{number}"));
        // Of a table without other columns there is nothing to update, and no update is ever run.
        let sets = if sets.is_empty() { format!("{key} = n.{key}") } else { sets.join(", ") };
        Ok(TableStatements {
            delete: format!("DELETE FROM {at} AS t USING gone WHERE t.{key} = gone.key"),
            copy_updated: copy(&updated),
            analyze_updated: format!("ANALYZE {updated} ({})", identity.join(", ")),
            update: format!("UPDATE {at} AS t SET {sets} FROM {updated} AS n WHERE {}", equal.join(" AND ")),
            copy_staged: copy(&inserted),
            insert_staged: format!("INSERT INTO {at} ({columns}) SELECT {columns} FROM {inserted}"),
            copy: copy(&at.to_string()),
        })
    }
}

async fn copy(client: &Client, statement: &str, data: &CopyData) -> Result<()> {
    let mut stream = pin!(client.copy_in::<_, Bytes>(statement).await?);
    let mut bytes = data.bytes.clone();
    while !bytes.is_empty() {
        let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES));
        stream.feed(chunk).await?;
    }
    expect_rows(stream.finish().await?, data.rows)
}

fn expect_rows(written: u64, given: u64) -> Result<()> {
    if written == given { Ok(()) } else { Err(format!("gave {given} rows, but PostgreSQL wrote {written}").into()) }
}
