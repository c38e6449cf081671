//! Staging tables: beside the live ones in the same schema, filled without keys.

use std::sync::{Mutex, PoisonError};

use futures::future::join_all;
use gizer_schema::{Layout, TableId};

use super::sink::CopyTarget;
use crate::connect::Session;
use crate::ddl::{add_key, comments, create_table, is_marked_for, key_names, staging_name};
use crate::error::PgError;
use crate::ident::{Qualified, quote_identifier};

/// A table being filled, and what it and its key are called now and after the swap.
#[derive(Debug, Clone)]
pub(super) struct StagingTable {
    pub(super) id: TableId,
    pub(super) staging: Qualified,
    pub(super) live: Qualified,
    pub(super) staging_key: String,
    pub(super) live_key: String,
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
        })
    };
    key_names(layout).into_iter().enumerate().map(table).collect()
}

/// Drops what a dead load of the collection left behind and makes the tables anew, in the open transaction. The
/// tables bear gizer's mark from the start, so that what they are is known even if this load dies too.
///
/// # Errors
/// [`PgError::ForeignTable`] if a relation that no load of this collection made has the name of a staging table.
pub(super) async fn recreate(session: &Session, layout: &Layout, tables: &[StagingTable]) -> Result<(), PgError> {
    for stale in stale(session, layout, tables).await? {
        let sql = format!("DROP TABLE {stale}");
        session.run(format!("dropping {stale}, which an earlier load left behind"), &sql).await?;
    }
    for table in tables {
        let at = &table.staging;
        // Vacuuming a table while it is filled helps nobody, and a vacuum under way would hold the swap up.
        let mut sql = format!("{} WITH (autovacuum_enabled = off)", create_table(layout, table.id, at)?);
        for comment in comments(layout, table.id, at)? {
            sql.push_str("; ");
            sql.push_str(&comment);
        }
        session.run(format!("creating {at}"), &sql).await?;
    }
    Ok(())
}

/// Staging tables of an earlier load of this collection. One whose table is no longer in the layout is found by its
/// mark and its name.
async fn stale(session: &Session, layout: &Layout, tables: &[StagingTable]) -> Result<Vec<Qualified>, PgError> {
    let sql = "SELECT c.relname::text, c.relkind::text, obj_description(c.oid, 'pg_class') \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND (c.relname = ANY ($2) OR (c.relkind = 'r' AND starts_with(c.relname, $3)))";
    let names: Vec<&str> = tables.iter().map(|table| table.staging.name()).collect();
    let prefix = staging_name("");
    let rows = session.query("looking for staging tables", sql, &[&session.schema(), &names, &prefix]).await?;
    let mut stale = Vec::new();
    for row in rows {
        let (name, kind, comment): (String, String, Option<String>) = (row.get(0), row.get(1), row.get(2));
        let marked = kind == "r" && is_marked_for(comment.as_deref(), &layout.collection);
        // A collection may be called like a staging table: its live tables stay what they are.
        let is_live = tables.iter().any(|table| table.live.name() == name);
        if marked && !is_live {
            stale.push(session.relation(&name)?);
        } else if names.contains(&name.as_str()) {
            let why = format!("expected room for a staging table of {}", layout.collection);
            return Err(PgError::ForeignTable { schema: session.schema().to_owned(), table: name, why });
        }
    }
    Ok(stale)
}

/// The COPY statements into the staging tables, in the order of the layout.
pub(super) fn copy_targets(layout: &Layout, tables: &[StagingTable]) -> Result<Vec<CopyTarget>, PgError> {
    let target = |table: &StagingTable| {
        let columns: Vec<String> = layout
            .table(table.id)
            .columns
            .iter()
            .map(|column| quote_identifier(&column.name))
            .collect::<Result<_, _>>()?;
        let statement = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.staging, columns.join(", "));
        Ok(CopyTarget { table: table.staging.clone(), statement })
    };
    tables.iter().map(target).collect()
}

/// How keys are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySettings {
    /// `maintenance_work_mem` of each connection, in MiB; `None` for the server's own setting.
    pub maintenance_work_mem_mib: Option<u32>,
}

impl Default for KeySettings {
    fn default() -> Self {
        KeySettings { maintenance_work_mem_mib: Some(256) }
    }
}

/// Adds keys and analyses, table after table on each of the sessions.
pub(super) async fn build_keys(
    sessions: &[&Session],
    layout: &Layout,
    tables: &[StagingTable],
    settings: KeySettings,
) -> Result<(), PgError> {
    let Some(first) = sessions.first() else { return Ok(()) };
    let queue = Mutex::new(by_size(first, tables).await?);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = async |session: &Session| {
        while let Some(table) = next() {
            if let Err(error) = finish_table(session, layout, table, settings).await {
                // Nobody begins another table once one has failed.
                while next().is_some() {}
                return Err(error);
            }
        }
        Ok(())
    };
    join_all(sessions.iter().map(|session| work(session))).await.into_iter().collect()
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

async fn finish_table(
    session: &Session,
    layout: &Layout,
    table: &StagingTable,
    settings: KeySettings,
) -> Result<(), PgError> {
    session.begin().await?;
    let outcome = finish_in_transaction(session, layout, table, settings).await;
    session.end(outcome).await
}

async fn finish_in_transaction(
    session: &Session,
    layout: &Layout,
    table: &StagingTable,
    settings: KeySettings,
) -> Result<(), PgError> {
    if let Some(mib) = settings.maintenance_work_mem_mib {
        let sql = format!("SET LOCAL maintenance_work_mem TO '{mib}MB'");
        session.run("setting maintenance_work_mem", &sql).await?;
    }
    let at = &table.staging;
    let sql = add_key(layout, table.id, at, &table.staging_key)?;
    session.run(format!("adding the key of {at}"), &sql).await.map_err(|error| match error.sqlstate() {
        Some("23505") => {
            PgError::DuplicateKey { schema: table.live.schema().to_owned(), table: table.live.name().to_owned() }
        }
        _ => error,
    })?;
    session.run(format!("analysing {at}"), &format!("ANALYZE {at}")).await
}
