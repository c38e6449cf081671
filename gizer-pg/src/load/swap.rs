//! The swap: staging tables take the place of live ones, in one transaction, of one collection or of several.
//!
//! Why no reader sees an error or a mixture: all live tables and the views on them are locked before the first is
//! dropped, so that a statement has either locked all of its tables before (then the swap waits, for a moment, and gives
//! way) or waits for the commit. PostgreSQL looks names up again after having waited for a lock, and a READ COMMITTED
//! statement takes its snapshot after its locks: it reads the new tables, and all of them.

use std::time::{Duration, Instant};

use gizer_schema::Layout;

use super::additions;
use super::grants;
use super::holders::holders;
use super::lifecycle::{Load, LoadSource};
use super::locks::{LockOrder, list, set_lock_timeout};
use super::remake;
use super::settings;
use super::staging::StagingTable;
use super::survey::{Extent, LiveTable, Survey, survey_in_transaction};
use super::views::{self, View};
use crate::connect::Session;
use crate::ddl::layout_hash;
use crate::error::PgError;
use crate::state::{self, Ledger, Loaded, Standing};

/// A load to swap in, and what is recorded of it.
#[derive(Debug, Clone, Copy)]
pub struct SwapPart<'p> {
    /// The load; its keys are built.
    pub load: &'p Load<'p>,
    /// What became of its documents.
    pub ledger: &'p Ledger,
    /// Position of the tables relative to the oplog; `None` of a copy and of a load that was not aligned.
    pub standing: Option<&'p Standing>,
}

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swapped {
    /// Attempts that gave way to readers.
    pub gave_way: u32,
    /// From the first attempt to the commit.
    pub took: Duration,
    /// Live tables that the layout no longer has.
    pub dropped: Vec<String>,
    /// Views that were recreated: `"public"."recent_posts"`.
    pub views: Vec<String>,
}

/// How often to lock views that came while the tables were locked, or start over because something vanished before it
/// was locked.
const LOCK_ATTEMPTS: usize = 3;

/// Swaps the staging tables of all these loads in, records what was loaded, and releases the loads' locks. One
/// transaction, tried again while readers hold the live tables: a reader sees all of the collections as they were, or
/// all of them new. With no parts it does nothing.
///
/// The loads are of one schema and of a collection each. Everything is done on the first one's session.
///
/// # Errors
/// As [`Load::swap`], for any of the loads; [`PgError::Fenced`] names the collection that another run has taken over. None
/// of them is swapped in then.
pub async fn swap_together(parts: &[SwapPart<'_>], settings: &SwapSettings) -> Result<Swapped, PgError> {
    let mut ready = parts.iter().map(Ready::new).collect::<Result<Vec<_>, _>>()?;
    // One order for everybody who locks rows of several collections.
    ready.sort_by(|a, b| a.part.load.fence().collection.cmp(&b.part.load.fence().collection));
    let Some(first) = parts.first() else { return Ok(Swapped::default()) };
    let swapped = swap(first.load.session, &Loads(ready), settings).await?;
    for part in parts {
        state::release_load(part.load.session, &part.load.fence().collection).await;
    }
    Ok(swapped)
}

/// Staging tables, and whose place they take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replacement<'r> {
    pub(super) layout: &'r Layout,
    pub(super) tables: &'r [StagingTable],
    pub(super) extent: Extent<'r>,
}

/// What is swapped in, and what is recorded in the same transaction.
pub(super) trait Swapping: Sync {
    /// The tables.
    fn replacements(&self) -> Vec<Replacement<'_>>;

    /// Before anything is locked: whether it may still be done.
    fn claim(&self, session: &Session) -> impl Future<Output = Result<(), PgError>> + Send;

    /// Once the tables have their names.
    fn record(&self, session: &Session) -> impl Future<Output = Result<(), PgError>> + Send;
}

/// Loads that are swapped in together.
struct Loads<'p>(Vec<Ready<'p>>);

impl Swapping for Loads<'_> {
    fn replacements(&self) -> Vec<Replacement<'_>> {
        self.0.iter().map(Ready::replacement).collect()
    }

    async fn claim(&self, session: &Session) -> Result<(), PgError> {
        for part in &self.0 {
            state::claim_swap(session, part.part.load.fence()).await?;
        }
        Ok(())
    }

    async fn record(&self, session: &Session) -> Result<(), PgError> {
        for part in &self.0 {
            let fence = part.part.load.fence();
            state::finish_load(session, fence.load_epoch, &part.loaded()).await?;
            state::clear_rejects(session, &fence.collection, fence.load_epoch).await?;
            state::clear_unfit(session, &fence.collection).await?;
            state::clear_ranges(session, &fence.collection).await?;
        }
        state::settle_position(session).await
    }
}

/// A part with what is derived from it.
struct Ready<'p> {
    part: SwapPart<'p>,
    names: Vec<String>,
    hash: String,
}

impl<'p> Ready<'p> {
    fn new(part: &SwapPart<'p>) -> Result<Ready<'p>, PgError> {
        let names = part.load.tables.iter().map(|table| table.live.name().to_owned()).collect();
        Ok(Ready { part: *part, names, hash: layout_hash(part.load.request.layout)? })
    }

    fn replacement(&self) -> Replacement<'p> {
        let load = self.part.load;
        Replacement { layout: load.request.layout, tables: &load.tables, extent: Extent::All }
    }

    fn loaded(&self) -> Loaded<'_> {
        let SwapPart { load, ledger, standing } = self.part;
        let copy_because = match &load.request.source {
            LoadSource::Followable { .. } => None,
            LoadSource::Copy { reason } => Some(reason.as_str()),
        };
        let (tables, layout_hash) = (&self.names, &self.hash);
        Loaded { row: load.request.row(None), tables, layout_hash, ledger, standing, copy_because }
    }
}

/// Swaps, giving way to readers until the limit.
pub(super) async fn swap(
    session: &Session,
    swapping: &impl Swapping,
    settings: &SwapSettings,
) -> Result<Swapped, PgError> {
    let started = Instant::now();
    let mut pause = settings.first_pause;
    let (mut gave_way, mut vanished) = (0, 0);
    let mut order = LockOrder::default();
    let parts = swapping.replacements();
    loop {
        match session.in_transaction(attempt(session, swapping, &parts, settings, &mut order)).await {
            Ok(swapped) => return Ok(Swapped { gave_way, took: started.elapsed(), ..swapped }),
            Err(error) if error.is_vanished_object() && vanished < LOCK_ATTEMPTS => vanished += 1,
            Err(error) if !error.is_lock_conflict() => return Err(error),
            Err(_) if started.elapsed() + pause > settings.limit => {
                let tables = parts.iter().flat_map(|part| part.tables);
                let mut names: Vec<&str> = tables.map(|table| table.live.name()).collect();
                names.extend(order.waited_for());
                return Err(PgError::TablesBusy {
                    schema: session.schema().to_owned(),
                    collection: collections(&parts),
                    waited: started.elapsed(),
                    blockers: holders(session, &names).await.unwrap_or_default(),
                });
            }
            Err(error) => {
                gave_way += 1;
                tracing::debug!(collections = collections(&parts), gave_way, %error, "swap gave way");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(settings.longest_pause);
            }
        }
    }
}

/// For messages.
fn collections(parts: &[Replacement<'_>]) -> String {
    let names: Vec<&str> = parts.iter().map(|part| part.layout.collection.as_str()).collect();
    names.join(", ")
}

/// One attempt, in the open transaction.
async fn attempt(
    session: &Session,
    swapping: &impl Swapping,
    parts: &[Replacement<'_>],
    settings: &SwapSettings,
    order: &mut LockOrder,
) -> Result<Swapped, PgError> {
    // This commit waits for the disk, and with it everything committed before: the units of the load.
    session.run("beginning the swap", "SET LOCAL synchronous_commit TO on").await?;
    set_lock_timeout(session, settings.lock_timeout).await?;
    swapping.claim(session).await?;
    let FoundTables { surveys, live, views } = lock_found(session, parts, settings, order).await?;
    let remakes = remake::read(session, &views).await?;
    let grants = grants::read(session, &live).await?;
    let mut settings_of_tables = Vec::new();
    for (part, survey) in parts.iter().zip(&surveys) {
        additions::match_up(session, &survey.additions, part.tables).await?;
        settings_of_tables.push(settings::read(session, &survey.live, &survey.left).await?);
    }
    remake::drop_views(session, &remakes).await?;
    drop_live(session, &live).await?;
    for ((part, survey), settings_of_tables) in parts.iter().zip(&surveys).zip(&settings_of_tables) {
        rename(session, part.layout, part.tables).await?;
        additions::settle(session, &survey.additions).await?;
        let others = survey.left_of_others(part.extent);
        settings::apply(session, part.layout, part.extent, settings_of_tables, others).await?;
    }
    grants::apply(session, &grants.iter().collect::<Vec<_>>()).await?;
    remake::create(session, &remakes, &live).await?;
    swapping.record(session).await?;
    let dropped = live.into_iter().filter(|table| !table.in_layout).map(|table| table.name).collect();
    let views = views.iter().map(|view| view.at.to_string()).collect();
    Ok(Swapped { dropped, views, ..Swapped::default() })
}

/// What the swap replaces and recreates.
struct FoundTables {
    /// One a part.
    surveys: Vec<Survey>,
    /// The tables of all parts, by name.
    live: Vec<LiveTable>,
    /// The views on any of them, each behind those that it uses.
    views: Vec<View>,
}

async fn look(session: &Session, parts: &[Replacement<'_>]) -> Result<FoundTables, PgError> {
    let mut surveys = Vec::new();
    for part in parts {
        surveys.push(survey_in_transaction(session, part.layout, part.extent).await?);
    }
    let mut live: Vec<LiveTable> = surveys.iter().flat_map(|survey| survey.live.clone()).collect();
    live.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let views = views::hanging(session, &live).await?;
    Ok(FoundTables { surveys, live, views })
}

/// Locks what is found. Only what is true under the lock is true, so that it looks again: a view may have been made
/// meanwhile.
async fn lock_found(
    session: &Session,
    parts: &[Replacement<'_>],
    settings: &SwapSettings,
    order: &mut LockOrder,
) -> Result<FoundTables, PgError> {
    let mut found = look(session, parts).await?;
    for _ in 0..LOCK_ATTEMPTS {
        order.lock(session, &found.live, &found.views, settings).await?;
        let again = look(session, parts).await?;
        if again.live != found.live {
            break;
        }
        if again.views == found.views {
            return Ok(again);
        }
        found = again;
    }
    Err(changed_meanwhile(session, parts))
}

async fn drop_live(session: &Session, live: &[LiveTable]) -> Result<(), PgError> {
    if live.is_empty() {
        return Ok(());
    }
    let sql = format!("DROP TABLE {}", list(session, live)?);
    session.run("dropping the tables that are replaced", &sql).await
}

/// Tables and keys get their final names.
async fn rename(session: &Session, layout: &Layout, tables: &[StagingTable]) -> Result<(), PgError> {
    for table in tables {
        let statements = table.style.rename(session, layout, table)?;
        session.run(format!("renaming {} to {}", table.staging, table.live), &statements.join("; ")).await?;
    }
    Ok(())
}

fn changed_meanwhile(session: &Session, parts: &[Replacement<'_>]) -> PgError {
    PgError::ForeignTable {
        schema: session.schema().to_owned(),
        table: parts.first().map_or_else(String::new, |part| part.layout.tables[0].name.clone()),
        why: "tables or views came, went or were replaced while the new ones were swapped in".to_owned(),
    }
}
