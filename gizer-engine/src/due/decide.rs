//! From how a collection stands to what is due for it.

use std::fmt;

use gizer_oplog::SkipReason;
use gizer_pg::state::{Choice, CollectionState, CollectionStatus, Obstacle, ObstacleKind, POSITION_LOST};

use super::standing::{CopyStanding, CopyStandings};
use crate::wording::command;

/// What is due for one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A schema file is to be made, and then it is loaded.
    Infer,
    /// The key in the schema file that `run` has made is to take any `_id`, and then it is loaded.
    WidenKey,
    /// It is to be loaded.
    Load(Cause),
    /// Its changes are to be applied.
    Follow,
    /// Nothing is to be done.
    Leave {
        /// Why.
        why: String,
    },
    /// Nothing can be done.
    Refuse {
        /// Why.
        why: String,
        /// What a person can do.
        remedy: Option<String>,
    },
}

/// Why a collection is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It never was.
    Never,
    /// A load has begun, and died: it goes on if it can.
    Unfinished,
    /// The state tables say so, and why.
    Due(String),
    /// The tables were loaded by another schema file.
    SchemaChanged,
    /// The oplog of this shard no longer reaches back to where the tables stand.
    RolledOver(String),
    /// The tables are not as gizer left them: how they differ.
    TablesChanged(String),
    /// It was asked for.
    Asked,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Never => f.write_str("never loaded"),
            Cause::Unfinished => f.write_str("a load that did not come to its end goes on"),
            Cause::Due(reason) => f.write_str(reason),
            Cause::SchemaChanged => f.write_str("its schema file is not the one that its tables were loaded by"),
            Cause::RolledOver(shard) => {
                write!(f, "the oplog of {shard} no longer reaches back to where its tables stand")
            }
            Cause::TablesChanged(difference) => write!(f, "its tables were changed: {difference}"),
            Cause::Asked => f.write_str("--load-only"),
        }
    }
}

/// For which collections schema files may be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InferPolicy {
    /// For all, as long as none has one.
    #[default]
    NoneYet,
    /// For every one that has none.
    Missing,
    /// For none.
    Never,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// For which collections schema files may be made.
    pub infer: InferPolicy,
    /// Everything is loaded, and nothing followed.
    pub load_only: bool,
    /// What was decided about which collections are expected, if anything was.
    pub choice: Option<Choice>,
    /// What is tried again of what has failed.
    pub tries: Tries,
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

/// What is tried again of what has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// Everything: somebody has just called.
    All,
    /// What is due by its back-off.
    Due,
}

/// How one collection stands, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The collection.
    pub name: String,
    /// Its schema file.
    pub schema: SchemaFile,
    /// Whether it is in MongoDB.
    pub source: Presence,
    /// What the state tables say of it.
    pub known: Option<CollectionStatus>,
    /// A shard whose oplog no longer reaches back to where the tables stand.
    pub rolled_over: Option<String>,
    /// Nobody knows where the tables stand.
    pub position_lost: bool,
    /// How the tables differ from those that gizer left, if they do.
    pub tables_changed: Option<String>,
    /// Whether there is a row in `gizer_expected`.
    pub is_recorded: bool,
    /// What keeps it from being copied.
    pub obstacle: Option<Obstacle>,
    /// Whether the configuration leaves it out.
    pub is_excluded: bool,
    /// Whether the key in the schema file takes what comes.
    pub key: KeyFit,
}

impl Facts {
    /// Whether its changes are applied.
    pub fn is_followed(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.live && known.state == CollectionState::Following)
    }

    /// Why what has its name now is not copied.
    pub fn not_copied(&self) -> Option<String> {
        match self.source {
            Presence::Skipped(reason) => {
                Some(format!("it is {reason} now, which is not copied; its tables are emptied"))
            }
            Presence::There | Presence::Absent => None,
        }
    }

    /// Whether a load may take what is gone from MongoDB for empty: its tables were followed up to some place in the history of this
    /// very server.
    fn may_be_emptied(&self) -> bool {
        let had_followed = |known: &CollectionStatus| {
            known.live && matches!(known.state, CollectionState::Following | CollectionState::LoadDue)
        };
        self.known.as_ref().is_some_and(had_followed) && self.rolled_over.is_none() && !self.position_lost
    }

    /// Whether it should be copied, unless it is excluded.
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
    /// It leads to no tables.
    Unusable {
        /// Why.
        why: String,
        /// What a person can do.
        remedy: Option<String>,
    },
    /// It leads to tables.
    Usable {
        /// Of the layout.
        hash: String,
        /// Whether its key is `_id`, without which changes cannot be followed.
        has_underscore_id: bool,
    },
}

/// Whether the key in a schema file takes what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFit {
    /// It takes any `_id`, or a person has chosen it.
    Settled,
    /// `run` has chosen its type, and may choose another one.
    Open,
    /// So it is, and there are documents whose `_id` it does not take.
    Unfit,
}

/// Whether it is in MongoDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    There,
    /// It is not.
    Absent,
    /// Something of this name is that cannot be copied.
    Skipped(SkipReason),
}

/// What is due for one collection, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueCollection {
    /// The collection.
    pub name: String,
    /// What is due.
    pub step: Step,
    /// `None` if nobody expects it to be copied.
    pub standing: Option<CopyStanding>,
}

/// What is due for all of them, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// One for each.
    pub all: Vec<DueCollection>,
    /// What decides which are expected.
    pub choice: Choice,
}

impl Due {
    /// Decides for each.
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

    /// The collections whose step is one of these.
    pub fn names(&self, is: impl Fn(&Step) -> bool) -> Vec<String> {
        self.all.iter().filter(|each| is(&each.step)).map(|each| each.name.clone()).collect()
    }

    /// The collections that are to be loaded.
    pub fn loads(&self) -> Vec<String> {
        self.names(|step| matches!(step, Step::Load(_)))
    }

    /// How those stand that are expected.
    pub fn standings(&self) -> CopyStandings {
        let standing = |each: &DueCollection| Some((each.name.clone(), each.standing.clone()?));
        CopyStandings(self.all.iter().filter_map(standing).collect())
    }

    /// Whether any collection has changes to be applied.
    pub fn follows(&self) -> bool {
        self.all.iter().any(|each| each.step == Step::Follow)
    }
}

fn leave(why: &str) -> Step {
    Step::Leave { why: why.to_owned() }
}

fn refuse(why: &str) -> Step {
    Step::Refuse { why: why.to_owned(), remedy: None }
}

fn step(facts: &Facts, policy: Policy, choice: Choice) -> Step {
    let followed = facts.is_followed();
    if facts.is_excluded {
        return leave("excluded by [schemas] include or exclude");
    }
    if let Some(obstacle) = facts.obstacle.as_ref().filter(|obstacle| obstacle.kind == ObstacleKind::Paused) {
        return leave(&format!("paused: {}", obstacle.reason));
    }
    let (hash, has_underscore_id) = match &facts.schema {
        SchemaFile::Unusable { why, remedy } => {
            return Step::Refuse { why: why.clone(), remedy: remedy.clone() };
        }
        SchemaFile::Missing => return without_schema(facts, policy, choice),
        SchemaFile::Usable { hash, has_underscore_id } => (hash, *has_underscore_id),
    };
    if facts.known.as_ref().is_some_and(|known| known.loading_now) {
        return leave("another run loads it");
    }
    if facts.key == KeyFit::Unfit && facts.source == Presence::There && policy.infer != InferPolicy::Never {
        return Step::WidenKey;
    }
    // One that was dropped is followed: its tables are emptied by that, also where a view has its name now.
    match facts.source {
        Presence::Absent if !followed && !facts.may_be_emptied() => {
            return refuse("there is no such collection in MongoDB");
        }
        Presence::Skipped(_) if followed && !policy.load_only => return Step::Follow,
        Presence::Skipped(reason) => return refuse(&format!("it is {reason}, which cannot be copied")),
        Presence::Absent | Presence::There => {}
    }
    let cause = cause(facts, hash);
    if policy.load_only && facts.source == Presence::There {
        return match (&facts.known, cause) {
            (Some(known), None) if known.state == CollectionState::Copy && has_underscore_id => leave(&copy(known)),
            (_, cause) => Step::Load(cause.unwrap_or(Cause::Asked)),
        };
    }
    match (cause, &facts.known) {
        (Some(_), _) if facts.source == Presence::Absent && !facts.may_be_emptied() => {
            refuse("a load is due, and it is not in MongoDB any more")
        }
        (Some(cause), _) => held_back(facts, policy).unwrap_or(Step::Load(cause)),
        (None, Some(known)) if known.state == CollectionState::Copy => leave(&copy(known)),
        (None, _) if policy.load_only => leave("it is not in MongoDB any more"),
        (None, _) => Step::Follow,
    }
}

/// What is due for a collection that has no schema file.
fn without_schema(facts: &Facts, policy: Policy, choice: Choice) -> Step {
    match (facts.source, &facts.known) {
        _ if facts.is_followed() => return refuse("it is followed, and has no schema file"),
        (Presence::Skipped(reason), _) => return leave(&reason.to_string()),
        // Tables under a prefix are known by a name of their own.
        (Presence::Absent, Some(known)) if known.state == CollectionState::Copy => return leave(&copy(known)),
        (Presence::Absent, _) => return leave("it has no schema file, and is not in MongoDB any more"),
        (Presence::There, _) => {}
    }
    match (choice, policy.infer) {
        (Choice::Files, _) => leave("it has no schema file"),
        (Choice::Database, InferPolicy::Never) => Step::Refuse {
            why: "it has no schema file, and schemas.infer is never".to_owned(),
            remedy: Some(format!("`{}`", command("schema infer", [&facts.name], &[]))),
        },
        (Choice::Database, _) => held_back(facts, policy).unwrap_or(Step::Infer),
    }
}

/// What has failed is left alone until it is due again.
fn held_back(facts: &Facts, policy: Policy) -> Option<Step> {
    let obstacle = facts.obstacle.as_ref().filter(|_| policy.tries == Tries::Due)?;
    let waits = match obstacle.kind {
        ObstacleKind::Failing => !obstacle.is_due,
        ObstacleKind::Refused | ObstacleKind::Paused => true,
        ObstacleKind::Waiting => false,
    };
    waits.then(|| leave(&obstacle.reason))
}

/// Why it has to be loaded; `None` if it need not be.
fn cause(facts: &Facts, hash: &str) -> Option<Cause> {
    let Some(known) = &facts.known else { return Some(Cause::Never) };
    match known.state {
        _ if !known.live && known.load_started.is_some() => Some(Cause::Unfinished),
        CollectionState::LoadDue => {
            Some(Cause::Due(known.reason.clone().unwrap_or_else(|| "a load is due".to_owned())))
        }
        _ if !known.live => Some(Cause::Never),
        // A copy is what somebody has made of it.
        CollectionState::Copy => None,
        CollectionState::Following | CollectionState::Loading => match &facts.rolled_over {
            _ if known.layout_hash.as_deref() != Some(hash) => Some(Cause::SchemaChanged),
            _ if facts.position_lost => Some(Cause::Due(POSITION_LOST.to_owned())),
            None if facts.tables_changed.is_some() => facts.tables_changed.clone().map(Cause::TablesChanged),
            Some(shard) => Some(Cause::RolledOver(shard.clone())),
            // It died next to tables that are followed: what it has left is not to stay for good.
            None if known.load_started.is_some() && !known.loading_now => Some(Cause::Unfinished),
            None => None,
        },
    }
}

fn copy(known: &CollectionStatus) -> String {
    let reason = known.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("it is a copy, which nothing keeps up to date{reason}")
}

#[cfg(test)]
mod tests;
