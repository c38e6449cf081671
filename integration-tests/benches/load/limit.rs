//! (b) The limit: the same rows, already encoded, through nothing but tokio-postgres.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::SinkExt;
use gizer_pg::ddl;
use gizer_pg::ident::{Qualified, quote_identifier};
use gizer_schema::{Layout, TableId};
use integration_tests::bench::{Bed, Result, Sample, Scene, Stopwatch, wal_bytes};
use tokio::task::JoinSet;
use tokio_postgres::{Client, CopyInSink, Statement};

use crate::orders::{Encoded, TableRows};

/// The schema of the limit's tables.
const SCHEMA: &str = "bound";

/// Bytes of one CopyData message: where PostgreSQL is as fast as it gets.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a binary COPY begins with: signature, flags, and the length of an extension that there is none of (PostgreSQL
/// documentation, COPY, Binary Format).
const HEADER_BYTES: usize = 19;

/// What it ends with: a number of fields of -1.
const TRAILER_BYTES: usize = 2;

/// How the rows are divided into COPY commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A COPY for each table of each unit, a transaction for each unit.
    Units,
    /// A COPY for each table and connection, as long as there are rows, and a transaction for each.
    Tables,
    /// As `Tables`, and then no parallel workers for the keys: where the connections keep all cores busy, workers only
    /// cost.
    TablesKeysAlone,
}

impl Way {
    pub(crate) const ALL: [Way; 3] = [Way::Units, Way::Tables, Way::TablesKeysAlone];

    /// What each connection is told first.
    fn settings(self) -> &'static str {
        match self {
            Way::Units | Way::Tables => "SET maintenance_work_mem TO '256MB'",
            Way::TablesKeysAlone => "SET maintenance_work_mem TO '256MB'; SET max_parallel_maintenance_workers TO 0",
        }
    }
}

/// What the tables are while they are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// In PostgreSQL's log from the beginning.
    Logged,
    /// `UNLOGGED`, and `SET LOGGED` once they have their keys.
    LoggedAtTheEnd,
}

/// Loads the rows into tables of their own, and drops those afterwards, beside the clock.
///
/// # Errors
/// PostgreSQL's; tables that do not have as many rows as were encoded.
pub(crate) async fn load(
    bed: &Bed,
    scene: &Scene,
    layout: &Arc<Layout>,
    encoded: &Arc<Encoded>,
    workers: u16,
    way: Way,
    persistence: Persistence,
) -> Result<Sample> {
    let database: String = scene.target.query_one("SELECT current_database()::text", &[]).await?.get(0);
    let mut clients = Vec::new();
    for _ in 0..workers {
        let client = bed.postgres.client(&database).await?;
        client.batch_execute(way.settings()).await?;
        clients.push(Arc::new(client));
    }
    let fresh = format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}");
    scene.target.batch_execute(&fresh).await?;
    scene.settle().await?;
    let wal_before = wal_bytes(&scene.target).await?;

    let job = Arc::new(Job::new(layout, encoded, persistence)?);
    let watch = Stopwatch::start(bed.servers()?)?;
    scene.target.batch_execute(&job.create).await?;
    let copying = Instant::now();
    job.copy(&clients, way).await?;
    let copied = copying.elapsed().as_secs_f64();
    let finishing = Instant::now();
    job.finish(&clients).await?;
    let finished = finishing.elapsed().as_secs_f64();
    let usage = watch.stop()?;

    let wal = wal_bytes(&scene.target).await? - wal_before;
    job.check(&scene.target).await?;
    scene.target.batch_execute(&format!("DROP SCHEMA {SCHEMA} CASCADE")).await?;
    Ok(Sample { usage, phases: vec![("COPY", copied), ("keys and ANALYZE", finished)], peak: None, wal: Some(wal) })
}

/// Everything that is said to PostgreSQL, and who has to say what next.
#[derive(Debug)]
struct Job {
    encoded: Arc<Encoded>,
    create: String,
    /// In the order of the layout.
    tables: Vec<Table>,
    /// Indexes of tables, the largest first.
    by_size: Vec<usize>,
    next_unit: AtomicUsize,
    next_to_finish: AtomicUsize,
}

#[derive(Debug)]
struct Table {
    id: TableId,
    at: Qualified,
    copy: String,
    finish: String,
    /// The next unit whose rows of this table nobody has taken.
    next_unit: AtomicUsize,
}

impl Job {
    fn new(layout: &Layout, encoded: &Arc<Encoded>, persistence: Persistence) -> Result<Job> {
        let mut create = String::new();
        let mut tables = Vec::new();
        for ((i, table), key) in layout.tables.iter().enumerate().zip(ddl::key_names(layout)) {
            let (id, at) = (TableId(i), Qualified::new(SCHEMA, &table.name)?);
            // As gizer makes its staging tables.
            let mut statement = ddl::create_table(layout, id, &at)? + " WITH (autovacuum_enabled = off); ";
            let mut finish = ddl::add_key(layout, id, &at, &key)? + "; ";
            if persistence == Persistence::LoggedAtTheEnd {
                statement = statement.replacen("CREATE TABLE", "CREATE UNLOGGED TABLE", 1);
                finish = finish + &format!("ALTER TABLE {at} SET LOGGED; ");
            }
            create.push_str(&statement);
            let columns = table.columns.iter().map(|column| quote_identifier(&column.name));
            let columns = columns.collect::<std::result::Result<Vec<String>, _>>()?.join(", ");
            tables.push(Table {
                id,
                copy: format!("COPY {at} ({columns}) FROM STDIN (FORMAT binary)"),
                finish: finish + &format!("ANALYZE {at}"),
                at,
                next_unit: AtomicUsize::new(0),
            });
        }
        let mut by_size: Vec<usize> = (0..tables.len()).collect();
        by_size.sort_by_key(|&table| std::cmp::Reverse(encoded.tables[table].bytes));
        Ok(Job {
            encoded: Arc::clone(encoded),
            create,
            tables,
            by_size,
            next_unit: AtomicUsize::new(0),
            next_to_finish: AtomicUsize::new(0),
        })
    }

    /// Copies all units, over all connections at once.
    async fn copy(self: &Arc<Job>, clients: &[Arc<Client>], way: Way) -> Result<()> {
        on_each(clients, |number, client| {
            let job = Arc::clone(self);
            async move {
                match way {
                    Way::Units => job.copy_units(&client, number).await,
                    Way::Tables | Way::TablesKeysAlone => job.copy_tables(&client, number).await,
                }
            }
        })
        .await
    }

    /// Unit after unit, as long as there are any.
    async fn copy_units(&self, client: &Client, number: usize) -> Result<()> {
        let mut statements = Vec::new();
        for table in &self.tables {
            statements.push(client.prepare(&table.copy).await?);
        }
        while let Some(unit) = self.encoded.units.get(self.next_unit.fetch_add(1, Ordering::Relaxed)) {
            // What the keys' commit writes to the disk, this one need not wait for.
            client.batch_execute("BEGIN; SET LOCAL synchronous_commit TO off").await?;
            // Each connection begins with another table: less waiting for each other where a table is extended.
            for i in 0..unit.0.len() {
                let rows = &unit.0[(i + number) % unit.0.len()];
                copy_unit(client, &statements[rows.table.0], rows).await?;
            }
            client.batch_execute("COMMIT").await?;
        }
        Ok(())
    }

    /// Table after table, each as long as there are rows that nobody has taken.
    async fn copy_tables(&self, client: &Client, number: usize) -> Result<()> {
        for i in 0..self.tables.len() {
            let table = &self.tables[self.by_size[(i + number) % self.by_size.len()]];
            let statement = client.prepare(&table.copy).await?;
            client.batch_execute("BEGIN; SET LOCAL synchronous_commit TO off").await?;
            self.copy_rest(client, &statement, table).await?;
            client.batch_execute("COMMIT").await?;
        }
        Ok(())
    }

    /// One COPY of all rows of a table that nobody has taken by the time that they are to be sent; none if there are none.
    async fn copy_rest(&self, client: &Client, statement: &Statement, table: &Table) -> Result<()> {
        let Some(first) = self.take_rows(table) else { return Ok(()) };
        let mut stream = pin!(client.copy_in::<_, Bytes>(statement).await?);
        let trailer = first.bytes.slice(first.bytes.len() - TRAILER_BYTES..);
        let mut sent = first.rows;
        feed(stream.as_mut(), first.bytes.slice(..first.bytes.len() - TRAILER_BYTES)).await?;
        while let Some(rows) = self.take_rows(table) {
            feed(stream.as_mut(), rows.bytes.slice(HEADER_BYTES..rows.bytes.len() - TRAILER_BYTES)).await?;
            sent += rows.rows;
        }
        stream.feed(trailer).await?;
        expect_rows(stream.finish().await?, sent)
    }

    /// The next rows of a table; each are given once.
    fn take_rows(&self, table: &Table) -> Option<&TableRows> {
        loop {
            let unit = self.encoded.units.get(table.next_unit.fetch_add(1, Ordering::Relaxed))?;
            let rows = unit.0.iter().find(|rows| rows.table == table.id);
            if rows.is_some() {
                return rows;
            }
        }
    }

    /// Keys and statistics, table after table, over all connections at once.
    async fn finish(self: &Arc<Job>, clients: &[Arc<Client>]) -> Result<()> {
        on_each(clients, |_, client| {
            let job = Arc::clone(self);
            async move {
                while let Some(&table) = job.by_size.get(job.next_to_finish.fetch_add(1, Ordering::Relaxed)) {
                    client.batch_execute(&job.tables[table].finish).await?;
                }
                Ok(())
            }
        })
        .await
    }

    /// Whether each table has the rows that were encoded, a key, and a place in the log.
    async fn check(&self, client: &Client) -> Result<()> {
        for (table, size) in self.tables.iter().zip(&self.encoded.tables) {
            let stored: i64 = client.query_one(&format!("SELECT count(*) FROM {}", table.at), &[]).await?.get(0);
            expect_rows(u64::try_from(stored)?, size.rows)?;
            let sql = "SELECT relpersistence = 'p' AND relhasindex FROM pg_class WHERE oid = $1::text::regclass";
            let kept: bool = client.query_one(sql, &[&table.at.to_string()]).await?.get(0);
            if !kept {
                return Err(format!("expected {} to be logged and to have a key", table.at).into());
            }
        }
        Ok(())
    }
}

/// Does the same on each connection, in a task of its own, with the connection's number.
async fn on_each<F>(clients: &[Arc<Client>], work: impl Fn(usize, Arc<Client>) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        tasks.spawn(work(number, Arc::clone(client)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn copy_unit(client: &Client, statement: &Statement, rows: &TableRows) -> Result<()> {
    let mut stream = pin!(client.copy_in::<_, Bytes>(statement).await?);
    feed(stream.as_mut(), rows.bytes.clone()).await?;
    expect_rows(stream.finish().await?, rows.rows)
}

async fn feed(mut stream: Pin<&mut CopyInSink<Bytes>>, mut bytes: Bytes) -> Result<()> {
    while !bytes.is_empty() {
        let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES));
        stream.feed(chunk).await?;
    }
    Ok(())
}

fn expect_rows(stored: u64, sent: u64) -> Result<()> {
    if stored == sent { Ok(()) } else { Err(format!("sent {sent} rows, but PostgreSQL has {stored}").into()) }
}
