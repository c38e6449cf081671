//! Decides what is due for a collection from its facts.

use std::fmt;

use gizer_oplog::SkipReason;
use gizer_pg::state::{Choice, CollectionState, CollectionStatus, Obstacle, ObstacleKind, POSITION_LOST};

use super::standing::{CopyStanding, CopyStandings};
use super::weigh::{LostPosition, ResyncEstimate};
use crate::wording::command;

/// What to do for one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DueStep {
    /// Infer a schema file, then load.
    Infer,
    /// Widen the key in `run`'s schema file to any `_id`, then load.
    WidenKey,
    /// Load it.
    Load(Cause),
    /// Make its tables equal in place.
    Resync {
        /// Why its position is lost.
        cause: Cause,
        /// Why not a load.
        why: String,
    },
    /// Its position is lost, and a person decides what to do.
    Stop(Cause),
    /// Apply its changes.
    Follow,
    /// Nothing to do.
    Leave {
        /// Why.
        why: String,
    },
    /// Only a person can help.
    Refuse {
        /// Why.
        why: String,
        /// What a person can do.
        remedy: Option<String>,
    },
}

/// Why a collection must be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It was never loaded.
    Never,
    /// A load was interrupted: it is resumed if possible.
    Unfinished,
    /// The state tables give this reason.
    Due(String),
    /// The schema file has changed since the load.
    SchemaChanged,
    /// This shard's oplog no longer reaches back to the tables' position.
    RolledOver(String),
    /// Following has found out that its changes cannot be read, for this reason.
    Lost(String),
    /// The tables were changed, in this way.
    TablesChanged(String),
    /// It was requested.
    Asked,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Never => f.write_str("never loaded"),
            Cause::Unfinished => f.write_str("resuming an interrupted load"),
            Cause::Due(reason) | Cause::Lost(reason) => f.write_str(reason),
            Cause::SchemaChanged => f.write_str("its schema file has changed since it was loaded"),
            Cause::RolledOver(shard) => {
                write!(f, "the oplog of {shard} no longer reaches back to its position")
            }
            Cause::TablesChanged(difference) => write!(f, "its tables were changed: {difference}"),
            Cause::Asked => f.write_str("--load-only"),
        }
    }
}

/// Which collections may get schema files by inference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InferPolicy {
    /// All, while none has one.
    #[default]
    NoneYet,
    /// Every one without.
    Missing,
    /// None.
    Never,
}

/// What a run may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Which collections may get schema files by inference.
    pub infer: InferPolicy,
    /// Load everything, follow nothing.
    pub load_only: bool,
    /// The recorded choice of expected collections, if any.
    pub choice: Option<Choice>,
    /// Which failures are retried.
    pub tries: Tries,
    /// What is done where a position is lost.
    pub lost_position: LostPosition,
}

impl Policy {
    /// What decides which collections are expected.
    fn choice(self, any_schema: bool) -> Choice {
        match (self.infer, self.choice) {
            (InferPolicy::Missing, _) => Choice::Database,
            (_, Some(choice)) => choice,
            (InferPolicy::NoneYet, None) if !any_schema => Choice::Database,
            (InferPolicy::NoneYet | InferPolicy::Never, None) => Choice::Files,
        }
    }
}

/// Which failures are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// All: a person has started the run.
    All,
    /// Those due by their back-off.
    Due,
}

/// Facts about one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The collection.
    pub name: String,
    /// Its schema file.
    pub schema: SchemaFile,
    /// Whether it is in MongoDB.
    pub source: Presence,
    /// Its state tables.
    pub known: Option<CollectionStatus>,
    /// A shard whose oplog no longer reaches back to the tables' position.
    pub rolled_over: Option<String>,
    /// Whether the tables' position is lost.
    pub position_lost: bool,
    /// Why its changes cannot be read, as following has found out.
    pub lost: Option<String>,
    /// A resync weighed against a load, if both are possible.
    pub estimate: Option<ResyncEstimate>,
    /// How the tables differ from gizer's, if they do.
    pub tables_changed: Option<String>,
    /// Whether there is a row in `gizer_expected`.
    pub is_recorded: bool,
    /// What prevents the copy.
    pub obstacle: Option<Obstacle>,
    /// Whether settings exclude it.
    pub is_excluded: bool,
    /// Whether the schema file's key fits all documents.
    pub key: KeyFit,
}

impl Facts {
    /// Whether its changes are applied.
    pub fn is_followed(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.live && known.state == CollectionState::Following)
    }

    /// Why the current bearer of its name is not copied.
    pub fn not_copied(&self) -> Option<String> {
        match self.source {
            Presence::Skipped(reason) => {
                Some(format!("it is {reason} now, which is not copied; its tables are emptied"))
            }
            Presence::There | Presence::Absent => None,
        }
    }

    /// Whether a missing collection counts as empty: its tables were followed on this server.
    fn may_be_emptied(&self) -> bool {
        let had_followed = |known: &CollectionStatus| {
            known.live && matches!(known.state, CollectionState::Following | CollectionState::LoadDue)
        };
        let is_lost = self.rolled_over.is_some() || self.position_lost || self.lost.is_some();
        self.known.as_ref().is_some_and(had_followed) && !is_lost
    }

    /// Whether a load is due because the position is lost, of tables that a resync could make equal.
    pub fn can_be_resynced(&self) -> bool {
        match &self.schema {
            SchemaFile::Usable { hash, has_underscore_id: true } => {
                cause(self, hash).is_some_and(|cause| is_lost(self, hash, &cause))
            }
            _ => false,
        }
    }

    /// Whether it should be copied, exclusion aside.
    fn is_expected(&self, choice: Choice) -> bool {
        let is_there = choice == Choice::Database && self.source == Presence::There;
        is_there || self.schema != SchemaFile::Missing || self.known.as_ref().is_some_and(|known| known.live)
    }
}

/// Its schema file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaFile {
    /// There is none.
    Missing,
    /// It is unusable.
    Unusable {
        /// Why.
        why: String,
        /// What a person can do.
        remedy: Option<String>,
    },
    /// It is usable.
    Usable {
        /// Hash of the layout.
        hash: String,
        /// Whether its key is `_id`, which following needs.
        has_underscore_id: bool,
    },
}

/// Whether a schema file's key fits all documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFit {
    /// It fits any `_id`, or a person chose it.
    Settled,
    /// `run` chose its type, and may widen it.
    Open,
    /// `run` chose its type, and there are `_id`s that do not fit.
    Unfit,
}

/// Whether it is in MongoDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    There,
    /// It is not.
    Absent,
    /// Its name belongs to something that cannot be copied.
    Skipped(SkipReason),
}

/// What to do for one collection, and its standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueCollection {
    /// The collection.
    pub name: String,
    /// What to do.
    pub step: DueStep,
    /// `None` if it is not expected to be copied.
    pub standing: Option<CopyStanding>,
}

/// What to do for all collections, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// By collection.
    pub all: Vec<DueCollection>,
    /// What decides which collections are expected.
    pub choice: Choice,
}

impl Due {
    /// Decides for each collection.
    pub fn of(facts: &[Facts], policy: Policy) -> Due {
        let any_schema = facts.iter().any(|facts| facts.schema != SchemaFile::Missing);
        let choice = policy.choice(any_schema);
        let of_one = |facts: &Facts| {
            let step = step(facts, policy, choice);
            let standing = facts.is_expected(choice).then(|| CopyStanding::of(facts, &step));
            DueCollection { name: facts.name.clone(), step, standing }
        };
        Due { all: facts.iter().map(of_one).collect(), choice }
    }

    /// Names of collections whose step matches.
    pub fn names(&self, is: impl Fn(&DueStep) -> bool) -> Vec<String> {
        self.all.iter().filter(|each| is(&each.step)).map(|each| each.name.clone()).collect()
    }

    /// Names of collections to resync.
    pub fn resyncs(&self) -> Vec<String> {
        self.names(|step| matches!(step, DueStep::Resync { .. }))
    }

    /// Names of collections to load.
    pub fn loads(&self) -> Vec<String> {
        self.names(|step| matches!(step, DueStep::Load(_)))
    }

    /// Standings of expected collections.
    pub fn standings(&self) -> CopyStandings {
        let standing = |each: &DueCollection| Some((each.name.clone(), each.standing.clone()?));
        CopyStandings(self.all.iter().filter_map(standing).collect())
    }

    /// Whether any collection is to be followed.
    pub fn follows(&self) -> bool {
        self.all.iter().any(|each| each.step == DueStep::Follow)
    }
}

fn leave(why: &str) -> DueStep {
    DueStep::Leave { why: why.to_owned() }
}

fn refuse(why: &str) -> DueStep {
    DueStep::Refuse { why: why.to_owned(), remedy: None }
}

fn step(facts: &Facts, policy: Policy, choice: Choice) -> DueStep {
    let followed = facts.is_followed();
    if facts.is_excluded {
        return leave("excluded by [schemas] include or exclude");
    }
    if let Some(obstacle) = facts.obstacle.as_ref().filter(|obstacle| obstacle.kind == ObstacleKind::Paused) {
        return leave(&format!("paused: {}", obstacle.reason));
    }
    let (hash, has_underscore_id) = match &facts.schema {
        SchemaFile::Unusable { why, remedy } => {
            return DueStep::Refuse { why: why.clone(), remedy: remedy.clone() };
        }
        SchemaFile::Missing => return without_schema(facts, policy, choice),
        SchemaFile::Usable { hash, has_underscore_id } => (hash, *has_underscore_id),
    };
    if facts.known.as_ref().is_some_and(|known| known.loading_now) {
        return leave("another run is loading it");
    }
    if facts.key == KeyFit::Unfit && facts.source == Presence::There && policy.infer != InferPolicy::Never {
        return DueStep::WidenKey;
    }
    // A dropped collection is followed: that empties its tables, even if a view has its name now.
    match facts.source {
        Presence::Absent if !followed && !facts.may_be_emptied() => {
            return refuse("there is no such collection in MongoDB");
        }
        Presence::Skipped(_) if followed && !policy.load_only => return DueStep::Follow,
        Presence::Skipped(reason) => return refuse(&format!("it is {reason}, which cannot be copied")),
        Presence::Absent | Presence::There => {}
    }
    let cause = cause(facts, hash);
    if policy.load_only && facts.source == Presence::There {
        return match (&facts.known, cause) {
            (Some(known), None) if known.state == CollectionState::Copy && has_underscore_id => leave(&copy(known)),
            (_, cause) => DueStep::Load(cause.unwrap_or(Cause::Asked)),
        };
    }
    match (cause, &facts.known) {
        (Some(_), _) if facts.source == Presence::Absent && !facts.may_be_emptied() => {
            refuse("a load is due, but it is no longer in MongoDB")
        }
        (Some(cause), _) => backing_off(facts, policy).unwrap_or_else(|| recover(facts, policy, hash, cause)),
        (None, Some(known)) if known.state == CollectionState::Copy => leave(&copy(known)),
        (None, _) if policy.load_only => leave("it is no longer in MongoDB"),
        (None, _) => DueStep::Follow,
    }
}

/// Whether a position is lost, and the tables are those of the schema file.
fn is_lost(facts: &Facts, hash: &str, cause: &Cause) -> bool {
    let has_tables = |known: &CollectionStatus| known.live && known.layout_hash.as_deref() == Some(hash);
    let is_lost = matches!(cause, Cause::Due(_) | Cause::RolledOver(_) | Cause::Lost(_));
    is_lost && facts.tables_changed.is_none() && facts.known.as_ref().is_some_and(has_tables)
}

/// Loads, or resyncs where that is possible and better.
fn recover(facts: &Facts, policy: Policy, hash: &str, cause: Cause) -> DueStep {
    if !is_lost(facts, hash, &cause) {
        return DueStep::Load(cause);
    }
    let is_begun = facts.known.as_ref().is_some_and(|known| known.resync.is_some());
    let resync = |cause, why: &str| DueStep::Resync { cause, why: why.to_owned() };
    match policy.lost_position {
        LostPosition::Load => DueStep::Load(cause),
        LostPosition::Stop => DueStep::Stop(cause),
        LostPosition::Resync => resync(cause, "run.lost_position is resync"),
        LostPosition::Auto if is_begun => resync(cause, "an interrupted resync is resumed"),
        LostPosition::Auto => match facts.estimate.as_ref().map(ResyncEstimate::choose) {
            Some(Ok(why)) => resync(cause, &why),
            Some(Err(_)) | None => DueStep::Load(cause),
        },
    }
}

/// The step of a collection without a schema file.
fn without_schema(facts: &Facts, policy: Policy, choice: Choice) -> DueStep {
    match (facts.source, &facts.known) {
        _ if facts.is_followed() => return refuse("it is followed but has no schema file"),
        (Presence::Skipped(reason), _) => return leave(&reason.to_string()),
        // Tables under a prefix have a state of their own.
        (Presence::Absent, Some(known)) if known.state == CollectionState::Copy => return leave(&copy(known)),
        (Presence::Absent, _) => return leave("it has no schema file and is no longer in MongoDB"),
        (Presence::There, _) => {}
    }
    match (choice, policy.infer) {
        (Choice::Files, _) => leave("it has no schema file"),
        (Choice::Database, InferPolicy::Never) => DueStep::Refuse {
            why: "it has no schema file, and schemas.infer is never".to_owned(),
            remedy: Some(format!("`{}`", command("schema infer", [&facts.name], &[]))),
        },
        (Choice::Database, _) => backing_off(facts, policy).unwrap_or(DueStep::Infer),
    }
}

/// Failures wait for their back-off.
fn backing_off(facts: &Facts, policy: Policy) -> Option<DueStep> {
    let obstacle = facts.obstacle.as_ref().filter(|_| policy.tries == Tries::Due)?;
    let waits = match obstacle.kind {
        ObstacleKind::Failing => !obstacle.is_due,
        ObstacleKind::Refused | ObstacleKind::Paused => true,
        ObstacleKind::Waiting => false,
    };
    waits.then(|| leave(&obstacle.reason))
}

/// Why it must be loaded; `None` if it need not be.
fn cause(facts: &Facts, hash: &str) -> Option<Cause> {
    let Some(known) = &facts.known else { return Some(Cause::Never) };
    match known.state {
        _ if !known.live && known.load_started.is_some() => Some(Cause::Unfinished),
        CollectionState::LoadDue => {
            Some(Cause::Due(known.reason.clone().unwrap_or_else(|| "a load is due".to_owned())))
        }
        _ if !known.live => Some(Cause::Never),
        // A copy was made on purpose.
        CollectionState::Copy => None,
        CollectionState::Following | CollectionState::Loading => match &facts.rolled_over {
            _ if known.layout_hash.as_deref() != Some(hash) => Some(Cause::SchemaChanged),
            _ if facts.position_lost => Some(Cause::Due(POSITION_LOST.to_owned())),
            _ if facts.lost.is_some() => facts.lost.clone().map(Cause::Lost),
            None if facts.tables_changed.is_some() => facts.tables_changed.clone().map(Cause::TablesChanged),
            Some(shard) => Some(Cause::RolledOver(shard.clone())),
            // It was interrupted next to followed tables: its remains must not stay.
            None if known.load_started.is_some() && !known.loading_now => Some(Cause::Unfinished),
            None => None,
        },
    }
}

fn copy(known: &CollectionStatus) -> String {
    let reason = known.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("it is a copy, which is not kept up to date{reason}")
}

#[cfg(test)]
mod tests;
