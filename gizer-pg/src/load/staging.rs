//! Staging tables: next to the live ones in the same schema, filled without keys.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use gizer_schema::{Layout, TableId};

use super::additions::{self, Addition};
use super::cancels::Cancels;
use super::holders::holders;
use super::locks::set_lock_timeout;
use super::sink::CopyTarget;
use super::survey::{Extent, survey_of};
use super::swap::Replacement;
use super::table_style::TableStyle;
use crate::connect::Session;
use crate::ddl::{add_key, is_marked_for, key_names, mark, quoted, staging_name};
use crate::error::PgError;
use crate::ident::{Qualified, quote_identifier, quote_literal};

/// A table being filled, and what it and its key are called now and after the swap.
#[derive(Debug, Clone)]
pub(super) struct StagingTable {
    pub(super) id: TableId,
    pub(super) staging: Qualified,
    pub(super) live: Qualified,
    pub(super) staging_key: String,
    pub(super) live_key: String,
    pub(super) style: TableStyle,
}

/// The staging tables of a layout, in its order.
pub(super) fn staging_tables(layout: &Layout, schema: &str) -> Result<Vec<StagingTable>, PgError> {
    let table = |(i, live_key): (usize, String)| {
        let name = &layout.tables[i].name;
        Ok(StagingTable {
            id: TableId(i),
            staging: Qualified::new(schema, &staging_name(name))?,
            live: Qualified::new(schema, name)?,
            staging_key: staging_name(&live_key),
            live_key,
            style: TableStyle::default(),
        })
    };
    key_names(layout).into_iter().enumerate().map(table).collect()
}

/// Drops what an interrupted load of the collection left behind and makes the tables, in the open transaction. The
/// tables bear gizer's mark from the start, so that what they are is known even if this load dies too.
///
/// # Errors
/// [`PgError::ForeignTable`] if a relation that no load of this collection made has the name of a staging table or of its
/// key; `lock_timeout` if somebody holds one of an earlier load ([`busy`]).
pub(super) async fn recreate(session: &Session, layout: &Layout, tables: &[StagingTable]) -> Result<(), PgError> {
    set_lock_timeout(session, STAGING_LOCK_WAIT).await?;
    for stale in staging_of(session, &layout.collection).await? {
        let doing = format!("dropping {stale}, which an earlier load left behind");
        session.run(doing, &format!("DROP TABLE {stale}")).await?;
    }
    refuse_taken_names(session, layout, tables).await?;
    for table in tables {
        let mut statements = vec![table.style.create(layout, table)?];
        statements.extend(table.style.after_create(layout, table)?);
        session.run(format!("creating {}", table.staging), &statements.join("; ")).await?;
    }
    Ok(())
}

/// Whether all staging tables of the layout are there, and are of this collection: those of an interrupted load.
pub(super) async fn are_there(session: &Session, layout: &Layout, tables: &[StagingTable]) -> Result<bool, PgError> {
    let there = staging_of(session, &layout.collection).await?;
    Ok(tables.iter().all(|table| there.contains(&table.staging)))
}

/// How long to wait for what an interrupted load left running. Autovacuum lets go after the server's `deadlock_timeout`.
pub(super) const STAGING_LOCK_WAIT: Duration = Duration::from_secs(5);

/// What it means that [`recreate`] waited for a lock in vain. Outside of its transaction.
pub(super) async fn busy(session: &Session, layout: &Layout) -> PgError {
    let ask = async {
        let stale = session.in_snapshot(staging_of(session, &layout.collection)).await?;
        let names: Vec<&str> = stale.iter().map(Qualified::name).collect();
        holders(session, &names).await
    };
    PgError::StagingBusy {
        schema: session.schema().to_owned(),
        collection: layout.collection.clone(),
        waited: STAGING_LOCK_WAIT,
        blockers: ask.await.unwrap_or_default(),
    }
}

/// Staging tables of an earlier load of this collection. One whose table is no longer in the layout is found by its
/// mark and its name.
pub(super) async fn staging_of(session: &Session, collection: &str) -> Result<Vec<Qualified>, PgError> {
    let sql = "SELECT c.relname::text, obj_description(c.oid, 'pg_class') \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relkind = 'r' AND starts_with(c.relname, $2)";
    let rows = session.query("looking for staging tables", sql, &[&session.schema(), &staging_name("")]).await?;
    let mut stale = Vec::new();
    for row in rows {
        let (name, comment): (String, Option<String>) = (row.get(0), row.get(1));
        if is_marked_for(comment.as_deref(), collection) {
            stale.push(session.relation(&name)?);
        }
    }
    Ok(stale)
}

/// Once the tables of interrupted loads are gone, the names of staging tables and of their keys must be free.
async fn refuse_taken_names(session: &Session, layout: &Layout, tables: &[StagingTable]) -> Result<(), PgError> {
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = ANY ($2) ORDER BY 1 LIMIT 1";
    let names: Vec<&str> = tables.iter().flat_map(|table| [table.staging.name(), table.staging_key.as_str()]).collect();
    match session.query_opt("looking for the names of staging tables", sql, &[&session.schema(), &names]).await? {
        None => Ok(()),
        Some(row) => {
            let why = format!("expected room for a staging table of {}", layout.collection);
            Err(PgError::ForeignTable { schema: session.schema().to_owned(), table: row.get(0), why })
        }
    }
}

/// The COPY statements into the staging tables, in the order of the layout; `form` is what stands in their parentheses.
pub(super) fn copy_targets(layout: &Layout, tables: &[StagingTable], form: &str) -> Result<Vec<CopyTarget>, PgError> {
    let target = |table: &StagingTable| {
        let columns = quoted(&layout.table(table.id).columns)?;
        let statement = format!("COPY {} ({}) FROM STDIN ({form})", table.staging, columns.join(", "));
        Ok(CopyTarget { table: table.staging.clone(), statement })
    };
    tables.iter().map(target).collect()
}

/// How keys are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySettings {
    /// `maintenance_work_mem` of each connection, in MiB; `None` for the server's own setting.
    pub maintenance_work_mem_mib: Option<u32>,
    /// `max_parallel_maintenance_workers` of each connection; `None` for the server's own setting.
    pub parallel_workers: Option<u32>,
}

impl Default for KeySettings {
    fn default() -> Self {
        // The connections work in parallel already; additional workers cost a tenth more (docs/architecture/swap.md).
        KeySettings { maintenance_work_mem_mib: Some(256), parallel_workers: Some(0) }
    }
}

/// Adds keys and analyses, table after table on each of the sessions. Dropping the future cancels what they do.
pub(super) async fn build_keys(
    sessions: &[&Session],
    replacement: Replacement<'_>,
    settings: KeySettings,
    cancels: &Cancels,
) -> Result<(), PgError> {
    let Replacement { layout, tables, extent } = replacement;
    let Some(first) = sessions.first() else { return Ok(()) };
    let queue = Mutex::new(by_size(first, tables).await?);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let additions = additions_now(first, layout, extent).await?;
    let work = async |session: &Session| {
        while let Some(table) = next() {
            let finish = finish_in_transaction(session, layout, table, &additions, settings);
            if let Err(error) = session.in_transaction(finish).await {
                // Nobody begins another table once one has failed.
                while next().is_some() {}
                return Err(error);
            }
        }
        Ok(())
    };
    let running = cancels.on_drop(sessions);
    let outcome = join_all(sessions.iter().map(|session| work(session))).await.into_iter().collect();
    let outcome = match outcome {
        Err(PgError::DuplicateKey { schema, table, .. }) => {
            Err(PgError::DuplicateKey { schema, table, repeated: count_repeated(first, layout, tables).await.ok() })
        }
        outcome => outcome,
    };
    running.disarm();
    outcome
}

/// Whatever has been added to the live tables up to now.
async fn additions_now(session: &Session, layout: &Layout, extent: Extent<'_>) -> Result<Vec<Addition>, PgError> {
    let mut looks = 1;
    loop {
        match survey_of(session, layout, extent).await {
            Err(error) if error.is_vanished_object() && looks < SURVEY_ATTEMPTS => looks += 1,
            outcome => return Ok(outcome?.additions),
        }
    }
}

/// How often to look at live tables that another load may swap away below a view on both.
const SURVEY_ATTEMPTS: usize = 5;

/// How long keys that came more than once are counted: an operator waits for it, and only to learn how bad it is.
const COUNT_TIMEOUT: Duration = Duration::from_secs(20);

/// How many keys of the root table came more than once.
async fn count_repeated(session: &Session, layout: &Layout, tables: &[StagingTable]) -> Result<u64, PgError> {
    let table = layout.table(TableId(0));
    let key = quote_identifier(&table.columns[table.key.0].name)?;
    let root = tables.iter().find(|table| table.id == TableId(0));
    let Some(at) = root.map(|table| &table.staging) else { return Ok(0) };
    let limit = format!("SET LOCAL statement_timeout TO '{}s'", COUNT_TIMEOUT.as_secs());
    let sql = format!("SELECT count(*) FROM (SELECT FROM {at} GROUP BY {key} HAVING count(*) > 1) AS repeated");
    let count = async {
        session.run("setting statement_timeout", &limit).await?;
        Ok(session.query_one("counting keys that came more than once", &sql, &[]).await?.get::<_, i64>(0))
    };
    Ok(u64::try_from(session.in_transaction(count).await?).unwrap_or_default())
}

/// The tables, the largest last: they are taken from the end, so that no large one is left over for the end.
async fn by_size<'t>(session: &Session, tables: &'t [StagingTable]) -> Result<Vec<&'t StagingTable>, PgError> {
    let sql = "SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = ANY ($2) ORDER BY pg_catalog.pg_relation_size(c.oid), c.relname";
    let names: Vec<&str> = tables.iter().map(|table| table.staging.name()).collect();
    let rows = session.query("reading the sizes of staging tables", sql, &[&session.schema(), &names]).await?;
    let find = |name: &str| tables.iter().find(|table| table.staging.name() == name);
    Ok(rows.iter().filter_map(|row| find(row.get(0))).collect())
}

async fn finish_in_transaction(
    session: &Session,
    layout: &Layout,
    table: &StagingTable,
    additions: &[Addition],
    settings: KeySettings,
) -> Result<(), PgError> {
    if let Some(mib) = settings.maintenance_work_mem_mib {
        let sql = format!("SET LOCAL maintenance_work_mem TO '{mib}MB'");
        session.run("setting maintenance_work_mem", &sql).await?;
    }
    if let Some(workers) = settings.parallel_workers {
        let sql = format!("SET LOCAL max_parallel_maintenance_workers TO {workers}");
        session.run("setting max_parallel_maintenance_workers", &sql).await?;
    }
    let at = &table.staging;
    if has_key(session, table).await? {
        // That load may lie days back: what the live tables had then is not what they have now.
        return additions::catch_up(session, additions, table).await;
    }
    let sql = add_key(layout, table.id, at, &table.staging_key)?;
    session.run(format!("adding the key of {at}"), &sql).await.map_err(|error| match error.sqlstate() {
        Some("23505") => {
            let (schema, table) = (table.live.schema().to_owned(), table.live.name().to_owned());
            PgError::DuplicateKey { schema, table, repeated: None }
        }
        _ => error,
    })?;
    // The mark tells the key from indexes that others make.
    let (key, mark) =
        (session.relation(&table.staging_key)?, quote_literal(&mark(layout, table.id).replace('\0', "\\0"))?);
    session.run(format!("marking the key of {at}"), &format!("COMMENT ON INDEX {key} IS {mark}")).await?;
    for addition in additions.iter().filter(|addition| addition.table() == table.live.name()) {
        additions::create(session, addition, table).await?;
    }
    session.run(format!("analysing {at}"), &format!("ANALYZE {at}")).await
}

/// Whether an interrupted load got as far as this table's key, and with it to all that comes in the same transaction.
async fn has_key(session: &Session, table: &StagingTable) -> Result<bool, PgError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
               JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
               WHERE n.nspname = $1 AND t.relname = $2 AND c.relname = $3 AND i.indisvalid)";
    let (schema, name) = (table.staging.schema(), table.staging.name());
    let doing = format!("looking for the key of {}", table.staging);
    Ok(session.query_one(doing, sql, &[&schema, &name, &table.staging_key]).await?.get(0))
}

/// Bytes on disk with keys, indexes and TOAST, in the order of the tables.
pub(super) async fn sizes(session: &Session, tables: &[StagingTable]) -> Result<Vec<u64>, PgError> {
    let sql = "SELECT coalesce(pg_catalog.pg_total_relation_size(c.oid), 0) \
               FROM pg_catalog.unnest($2::pg_catalog.text[]) WITH ORDINALITY AS wanted (name, at) \
               LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1) \
                   ON c.relname = wanted.name ORDER BY wanted.at";
    let names: Vec<&str> = tables.iter().map(|table| table.staging.name()).collect();
    let rows = session.query("reading the sizes of staging tables", sql, &[&session.schema(), &names]).await?;
    Ok(rows.iter().map(|row| u64::try_from(row.get::<_, i64>(0)).unwrap_or_default()).collect())
}
