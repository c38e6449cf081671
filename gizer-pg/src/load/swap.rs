//! The swap: staging tables take the place of live ones, in one transaction.
//!
//! Why no reader sees an error or a mixture: all live tables are locked before the first is dropped, so that a
//! statement has either locked all of its tables before (then the swap waits, for a moment, and gives way) or waits for
//! the commit. PostgreSQL looks names up again after having waited for a lock, and a READ COMMITTED statement takes its
//! snapshot after its locks: it reads the new tables, and all of them.

use std::time::{Duration, Instant};

use gizer_schema::Layout;

use super::additions;
use super::grants;
use super::holders::holders;
use super::settings;
use super::sink::LoadFence;
use super::staging::StagingTable;
use super::survey::{LiveTable, survey_in_transaction};
use crate::connect::Session;
use crate::ddl::is_unique;
use crate::error::PgError;
use crate::ident::quote_identifier;
use crate::state::{self, Loaded};

/// How a swap waits for readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapSettings {
    /// How long one attempt waits for one lock, and readers that came later wait behind it. Keep it below the server's
    /// `deadlock_timeout` (1 s unless set): then the swap gives way before PostgreSQL could choose a reader as the
    /// victim of a deadlock.
    pub lock_timeout: Duration,
    /// The pause after the first attempt; it doubles up to [`longest_pause`](SwapSettings::longest_pause).
    pub first_pause: Duration,
    /// The longest pause between two attempts.
    pub longest_pause: Duration,
    /// When to give up.
    pub limit: Duration,
}

impl Default for SwapSettings {
    fn default() -> Self {
        SwapSettings {
            lock_timeout: Duration::from_millis(200),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            limit: Duration::from_secs(60),
        }
    }
}

/// What a swap did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swapped {
    /// Attempts that gave way to readers.
    pub gave_way: u32,
    /// From the first attempt to the commit.
    pub took: Duration,
    /// Live tables that the layout no longer has.
    pub dropped: Vec<String>,
}

/// How long to wait for vacuum, DDL and the like to let go of the live tables. PostgreSQL cancels an autovacuum that
/// is in the way, but only after its `deadlock_timeout`.
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(3);

/// Swaps, giving way to readers until the limit.
pub(super) async fn swap(
    session: &Session,
    layout: &Layout,
    tables: &[StagingTable],
    fence: &LoadFence,
    loaded: &Loaded<'_>,
    settings: &SwapSettings,
) -> Result<Swapped, PgError> {
    let started = Instant::now();
    let mut pause = settings.first_pause;
    let mut gave_way = 0;
    loop {
        session.begin().await?;
        let outcome = attempt(session, layout, tables, fence, loaded, settings).await;
        match session.end(outcome).await {
            Ok(dropped) => return Ok(Swapped { gave_way, took: started.elapsed(), dropped }),
            Err(error) if !error.is_lock_conflict() => return Err(error),
            Err(_) if started.elapsed() + pause > settings.limit => {
                let live_names: Vec<&str> = tables.iter().map(|table| table.live.name()).collect();
                return Err(PgError::TablesBusy {
                    schema: session.schema().to_owned(),
                    collection: layout.collection.clone(),
                    waited: started.elapsed(),
                    blockers: holders(session, &live_names).await.unwrap_or_default(),
                });
            }
            Err(error) => {
                gave_way += 1;
                tracing::debug!(collection = layout.collection, gave_way, %error, "swap gave way");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(settings.longest_pause);
            }
        }
    }
}

/// One attempt, in the open transaction; gives the names of tables that the layout no longer has.
async fn attempt(
    session: &Session,
    layout: &Layout,
    tables: &[StagingTable],
    fence: &LoadFence,
    loaded: &Loaded<'_>,
    settings: &SwapSettings,
) -> Result<Vec<String>, PgError> {
    // This commit waits for the disk, and with it everything committed before: the units of the load.
    session.run("beginning the swap", "SET LOCAL synchronous_commit TO on").await?;
    set_lock_timeout(session, settings.lock_timeout).await?;
    state::claim_swap(session, &fence.collection, fence.load_epoch).await?;
    let live = survey_in_transaction(session, layout).await?.live;
    lock_live(session, &live, settings).await?;
    // Only what was true under the lock is true: a view may have been made meanwhile.
    let survey = survey_in_transaction(session, layout).await?;
    if survey.live != live {
        return Err(changed_meanwhile(session, layout));
    }
    additions::match_up(session, &survey.additions, tables).await?;
    let grants = grants::read(session, &live).await?;
    let settings_of_tables = settings::read(session, &live, &survey.left).await?;
    drop_live(session, &live).await?;
    rename(session, layout, tables).await?;
    additions::settle(session, &survey.additions).await?;
    settings::apply(session, layout, &settings_of_tables).await?;
    grants::apply(session, &grants).await?;
    state::finish_load(session, fence.load_epoch, loaded).await?;
    state::clear_rejects(session, &fence.collection, fence.load_epoch).await?;
    state::clear_ranges(session, &fence.collection).await?;
    state::settle_position(session).await?;
    Ok(live.into_iter().filter(|table| !table.in_layout).map(|table| table.name).collect())
}

async fn set_lock_timeout(session: &Session, timeout: Duration) -> Result<(), PgError> {
    // 0 would mean for ever.
    let sql = format!("SET LOCAL lock_timeout TO '{}ms'", timeout.as_millis().max(1));
    session.run("setting lock_timeout", &sql).await
}

/// Locks the live tables, always in the order of their names, so that two that lock cannot block each other.
///
/// First in a mode that readers and writers do not notice, against vacuum and DDL, which may take their time; then
/// against everybody, which must be quick or not at all.
async fn lock_live(session: &Session, live: &[LiveTable], settings: &SwapSettings) -> Result<(), PgError> {
    if live.is_empty() {
        return Ok(());
    }
    let list = list(session, live)?;
    set_lock_timeout(session, settings.lock_timeout.max(MAINTENANCE_TIMEOUT)).await?;
    session.run("locking the live tables", &format!("LOCK TABLE {list} IN SHARE UPDATE EXCLUSIVE MODE")).await?;
    set_lock_timeout(session, settings.lock_timeout).await?;
    session.run("locking the live tables", &format!("LOCK TABLE {list} IN ACCESS EXCLUSIVE MODE")).await
}

/// The survey gives them in the order of their names.
fn list(session: &Session, live: &[LiveTable]) -> Result<String, PgError> {
    let names: Vec<String> =
        live.iter().map(|table| Ok(session.relation(&table.name)?.to_string())).collect::<Result<_, PgError>>()?;
    Ok(names.join(", "))
}

async fn drop_live(session: &Session, live: &[LiveTable]) -> Result<(), PgError> {
    if live.is_empty() {
        return Ok(());
    }
    let sql = format!("DROP TABLE {}", list(session, live)?);
    session.run("dropping the tables that are replaced", &sql).await
}

/// Tables and keys get their final names, and vacuum may come again.
async fn rename(session: &Session, layout: &Layout, tables: &[StagingTable]) -> Result<(), PgError> {
    for table in tables {
        let (live, key) = (quote_identifier(table.live.name())?, quote_identifier(&table.live_key)?);
        let staging_key = session.relation(&table.staging_key)?;
        let rename_key = if is_unique(layout) {
            let constraint = quote_identifier(&table.staging_key)?;
            format!("ALTER TABLE {} RENAME CONSTRAINT {constraint} TO {key}", table.live)
        } else {
            format!("ALTER INDEX {staging_key} RENAME TO {key}")
        };
        let sql = format!(
            "ALTER TABLE {staging} RENAME TO {live}; {rename_key}; ALTER TABLE {at} RESET (autovacuum_enabled)",
            staging = table.staging,
            at = table.live
        );
        session.run(format!("renaming {} to {}", table.staging, table.live), &sql).await?;
    }
    Ok(())
}

fn changed_meanwhile(session: &Session, layout: &Layout) -> PgError {
    PgError::ForeignTable {
        schema: session.schema().to_owned(),
        table: layout.tables[0].name.clone(),
        why: "tables came, went or were replaced while the new ones were swapped in".to_owned(),
    }
}
