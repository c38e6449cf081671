//! Tables that grow in place: columns and tables that a later layout adds to live ones.
//!
//! ```text
//!   begin ── columns and empty tables, under a short lock; nobody follows the collection from here on
//!     │      (rows are rewritten by the layout with them: RowStore, chunk by chunk)
//!   finish ── the new layout is that of the collection              give_up ── the new columns are dropped again
//! ```
//!
//! Adding a nullable column changes the catalog alone, so that readers wait for no longer than that takes (PostgreSQL
//! documentation, "ALTER TABLE"); where it has to wait for a lock itself, it gives way to them and tries again.

use std::collections::BTreeMap;
use std::time::Instant;

use gizer_schema::{ColumnId, Growth, Layout, TableId};

use crate::connect::Session;
use crate::ddl::{add_columns, add_key, comments, create_table, key_names};
use crate::error::PgError;
use crate::load::SwapSettings;
use crate::load::description::describe;
use crate::load::grants;
use crate::load::holders::holders;
use crate::load::locks::{MAINTENANCE_TIMEOUT, set_lock_timeout};
use crate::state::{self, NewVersion, UnfinishedVersion};

/// The statements that make live tables those of a later layout, in their order; those for rights are not among them.
///
/// # Errors
/// [`PgError::UnusableName`] if a table or a column cannot be named.
pub fn statements(schema: &str, after: &Layout, growth: &Growth) -> Result<Vec<String>, PgError> {
    let at = |id: TableId| crate::ident::Qualified::new(schema, &after.table(id).name);
    let mut columns: BTreeMap<TableId, Vec<ColumnId>> = BTreeMap::new();
    growth.columns.iter().for_each(|(table, column)| columns.entry(*table).or_default().push(*column));
    let mut statements = Vec::new();
    for (id, columns) in &columns {
        statements.extend(add_columns(after, *id, columns, &at(*id)?)?);
    }
    let keys = key_names(after);
    for id in &growth.tables {
        statements.push(create_table(after, *id, &at(*id)?)?);
        statements.push(add_key(after, *id, &at(*id)?, &keys[id.0])?);
        statements.extend(comments(after, *id, &at(*id)?)?);
    }
    Ok(statements)
}

/// Adds the columns and tables of a new version to the live tables, in a transaction of its own. New tables belong to the owner
/// of the root table, and whoever may do something with that may do so with them.
///
/// # Errors
/// [`PgError::Fenced`] if the collection is not followed any more or has another layout than that of the version;
/// [`PgError::TablesHeld`] if readers held the tables all the time.
pub async fn begin(
    session: &Session,
    after: &Layout,
    growth: &Growth,
    new: &NewVersion,
    settings: &SwapSettings,
) -> Result<UnfinishedVersion, PgError> {
    let version = giving_way(session, after, settings, async || {
        make_room(session, after, growth).await?;
        state::begin_version(session, new, &names(after)).await
    });
    let version = version.await?;
    Ok(UnfinishedVersion { version, new: new.clone(), place: None, rewritten: (0, 0), failed: None })
}

fn names(layout: &Layout) -> Vec<String> {
    layout.tables.iter().map(|table| table.name.clone()).collect()
}

async fn make_room(session: &Session, after: &Layout, growth: &Growth) -> Result<(), PgError> {
    let doing = format!("adding columns to the tables of {}", after.collection);
    for statement in statements(session.schema(), after, growth)? {
        session.run(&doing, &statement).await?;
    }
    let root = session.relation(&after.tables[0].name)?;
    let sql = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2";
    let oid = session.query_one(&doing, sql, &[&root.schema(), &root.name()]).await?.get(0);
    let rights = grants::read_one(session, &root, oid).await?;
    for id in &growth.tables {
        let rights = rights.for_table(session.relation(&after.table(*id).name)?);
        grants::apply(session, &[&rights]).await?;
    }
    remember(session, after, growth).await
}

/// Records how the new columns and tables are left, next to how the others were.
async fn remember(session: &Session, after: &Layout, growth: &Growth) -> Result<(), PgError> {
    let names: Vec<&str> = after.tables.iter().map(|table| table.name.as_str()).collect();
    let mut left = state::tables_as_left(session, &after.collection).await?;
    if left.is_empty() {
        return Ok(());
    }
    let mut now = describe(session, &names).await?;
    for id in &growth.tables {
        let name = &after.table(*id).name;
        left.insert(name.clone(), now.remove(name).unwrap_or_default());
    }
    for (id, column) in &growth.columns {
        let (table, column) = (after.table(*id), &after.table(*id).columns[column.0].name);
        let (Some(left), Some(now)) = (left.get_mut(&table.name), now.get(&table.name)) else { continue };
        for item in [format!("column {column}"), format!("comment on column {column}")] {
            left.extend(now.get(&item).map(|value| (item, value.clone())));
        }
    }
    state::remember_tables(session, &after.collection, &left).await
}

/// Makes the new layout that of the collection, in the open transaction, which has rewritten the last rows. `paths` are those
/// that have a place now.
///
/// # Errors
/// [`PgError::Fenced`] if a load or another run came in between.
pub async fn finish(session: &Session, version: &UnfinishedVersion, paths: &[String]) -> Result<(), PgError> {
    state::finish_version(session, version, paths, false).await
}

/// Drops the columns and tables of a version that cannot be done, and records why. No row may have a value in them: values of
/// rows that were rewritten have gone back before.
///
/// # Errors
/// [`PgError::TablesHeld`] if readers held the tables all the time.
pub async fn give_up(
    session: &Session,
    after: &Layout,
    growth: &Growth,
    (collection, version): (&str, i64),
    why: &str,
    settings: &SwapSettings,
) -> Result<(), PgError> {
    let doing = format!("dropping the columns that were added to the tables of {}", after.collection);
    giving_way(session, after, settings, async || {
        for id in growth.tables.iter().rev() {
            let table = session.relation(&after.table(*id).name)?;
            session.run(&doing, &format!("DROP TABLE {table}")).await?;
        }
        for (id, column) in &growth.columns {
            let (table, column) = (after.table(*id), &after.table(*id).columns[column.0]);
            let (table, column) = (session.relation(&table.name)?, crate::ident::quote_identifier(&column.name)?);
            session.run(&doing, &format!("ALTER TABLE {table} DROP COLUMN {column}")).await?;
        }
        let mut left = names(after);
        left.retain(|name| growth.tables.iter().all(|id| after.table(*id).name != *name));
        state::fail_version(session, (collection, version), why, &left).await
    })
    .await
}

/// Does something that locks tables against everybody, in a transaction: it waits for a lock for a moment only, so that
/// readers who come later do not wait behind it for long, and then tries again.
pub(crate) async fn giving_way<T>(
    session: &Session,
    after: &Layout,
    settings: &SwapSettings,
    mut work: impl AsyncFnMut() -> Result<T, PgError>,
) -> Result<T, PgError> {
    let (started, mut pause) = (Instant::now(), settings.first_pause);
    loop {
        let attempt = session.in_transaction(async {
            keep_maintenance_away(session, after, settings).await?;
            set_lock_timeout(session, settings.lock_timeout).await?;
            work().await
        });
        match attempt.await {
            Err(error) if !error.is_lock_conflict() => return Err(error),
            Err(_) if started.elapsed() + pause > settings.limit => {
                let names: Vec<&str> = after.tables.iter().map(|table| table.name.as_str()).collect();
                return Err(PgError::TablesHeld {
                    schema: session.schema().to_owned(),
                    collection: after.collection.clone(),
                    waited: started.elapsed(),
                    blockers: holders(session, &names).await.unwrap_or_default(),
                });
            }
            Err(error) => {
                tracing::debug!(collection = after.collection, %error, "gave way");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(settings.longest_pause);
            }
            done => return done,
        }
    }
}

/// Waits for vacuum, DDL and the like to let go of the live tables, in a mode that readers and
/// writers do not notice. PostgreSQL cancels an autovacuum that is in the way, but only after its
/// `deadlock_timeout`, which is longer than anybody may be kept waiting.
async fn keep_maintenance_away(session: &Session, after: &Layout, settings: &SwapSettings) -> Result<(), PgError> {
    let names = state::tables_of(session, &after.collection).await?;
    let tables: Vec<String> =
        names.iter().map(|name| Ok(session.relation(name)?.to_string())).collect::<Result<_, PgError>>()?;
    if tables.is_empty() {
        return Ok(());
    }
    set_lock_timeout(session, settings.lock_timeout.max(MAINTENANCE_TIMEOUT)).await?;
    let lock = format!("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE", tables.join(", "));
    session.run(format!("keeping maintenance from the tables of {}", after.collection), &lock).await
}
