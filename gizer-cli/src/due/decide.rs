//! From how a collection stands to what is due for it.

use std::fmt;

use gizer_oplog::SkipReason;
use gizer_pg::state::CollectionState;

use crate::config::file::InferPolicy;

/// What is due for one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A schema file is to be made, and then it is loaded.
    Infer,
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
    },
}

/// Why a collection is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
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
            Cause::Asked => f.write_str("--load-only"),
        }
    }
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// For which collections schema files may be made.
    pub(crate) infer: InferPolicy,
    /// Everything is loaded, and nothing followed.
    pub(crate) load_only: bool,
}

/// How one collection stands, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) schema: SchemaFile,
    pub(crate) source: Presence,
    pub(crate) known: Option<Known>,
    /// A shard whose oplog no longer reaches back to where the tables stand.
    pub(crate) rolled_over: Option<String>,
}

/// Its schema file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SchemaFile {
    Missing,
    Unusable { why: String },
    Usable { hash: String, has_underscore_id: bool },
}

/// Whether it is in MongoDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Absent,
    Skipped(SkipReason),
}

/// What the state tables say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) state: CollectionState,
    pub(crate) live: bool,
    pub(crate) reason: Option<String>,
    pub(crate) layout_hash: Option<String>,
    pub(crate) load_began: bool,
    pub(crate) loading_now: bool,
}

/// What is due for all of them, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Due(pub(crate) Vec<(String, Step)>);

impl Due {
    /// Decides for each.
    pub(crate) fn of(facts: &[Facts], policy: Policy) -> Due {
        let any_schema = facts.iter().any(|facts| facts.schema != SchemaFile::Missing);
        let may_infer = match policy.infer {
            InferPolicy::NoneYet => !any_schema,
            InferPolicy::Missing => true,
            InferPolicy::Never => false,
        };
        Due(facts.iter().map(|facts| (facts.name.clone(), step(facts, policy, may_infer))).collect())
    }

    /// The collections whose step is one of these.
    pub(crate) fn names(&self, is: impl Fn(&Step) -> bool) -> Vec<String> {
        self.0.iter().filter(|(_, step)| is(step)).map(|(name, _)| name.clone()).collect()
    }

    /// The collections that are to be loaded.
    pub(crate) fn loads(&self) -> Vec<String> {
        self.names(|step| matches!(step, Step::Load(_)))
    }

    /// Whether any collection has changes to be applied.
    pub(crate) fn follows(&self) -> bool {
        self.0.iter().any(|(_, step)| *step == Step::Follow)
    }
}

fn step(facts: &Facts, policy: Policy, may_infer: bool) -> Step {
    let leave = |why: &str| Step::Leave { why: why.to_owned() };
    let refuse = |why: &str| Step::Refuse { why: why.to_owned() };
    let followed = facts.known.as_ref().is_some_and(|known| known.live && known.state == CollectionState::Following);
    let (hash, has_underscore_id) = match (&facts.schema, facts.source) {
        (SchemaFile::Unusable { why }, _) => return refuse(why),
        (SchemaFile::Missing, _) if followed => return refuse("it is followed, and has no schema file"),
        (SchemaFile::Missing, Presence::Skipped(reason)) => return leave(&reason.to_string()),
        (SchemaFile::Missing, Presence::There) if may_infer => return Step::Infer,
        (SchemaFile::Missing, Presence::There) => return leave("it has no schema file"),
        (SchemaFile::Missing, Presence::Absent) => {
            // Tables under a prefix are known by a name of their own.
            if let Some(known) = facts.known.as_ref().filter(|known| known.state == CollectionState::Copy) {
                return leave(&copy(known));
            }
            return leave("it has no schema file, and is not in MongoDB any more");
        }
        (SchemaFile::Usable { hash, has_underscore_id }, _) => (hash, *has_underscore_id),
    };
    if facts.known.as_ref().is_some_and(|known| known.loading_now) {
        return leave("another run loads it");
    }
    // One that was dropped is followed: its tables are emptied by that.
    match facts.source {
        Presence::Absent if !followed => return refuse("there is no such collection in MongoDB"),
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
        (Some(_), _) if facts.source == Presence::Absent => refuse("a load is due, and it is not in MongoDB any more"),
        (Some(cause), _) => Step::Load(cause),
        (None, Some(known)) if known.state == CollectionState::Copy => leave(&copy(known)),
        (None, _) if policy.load_only => leave("it is not in MongoDB any more"),
        (None, _) => Step::Follow,
    }
}

/// Why it has to be loaded; `None` if it need not be.
fn cause(facts: &Facts, hash: &str) -> Option<Cause> {
    let Some(known) = &facts.known else { return Some(Cause::Never) };
    match known.state {
        _ if !known.live && known.load_began => Some(Cause::Unfinished),
        CollectionState::LoadDue => {
            Some(Cause::Due(known.reason.clone().unwrap_or_else(|| "a load is due".to_owned())))
        }
        _ if !known.live => Some(Cause::Never),
        // A copy is what somebody has made of it.
        CollectionState::Copy => None,
        CollectionState::Following | CollectionState::Loading => match &facts.rolled_over {
            _ if known.layout_hash.as_deref() != Some(hash) => Some(Cause::SchemaChanged),
            Some(shard) => Some(Cause::RolledOver(shard.clone())),
            None => None,
        },
    }
}

fn copy(known: &Known) -> String {
    let reason = known.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("it is a copy, which nothing keeps up to date{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Policy = Policy { infer: InferPolicy::NoneYet, load_only: false };

    fn followed() -> Facts {
        Facts {
            name: "orders".to_owned(),
            schema: SchemaFile::Usable { hash: "h".to_owned(), has_underscore_id: true },
            source: Presence::There,
            known: Some(Known {
                state: CollectionState::Following,
                live: true,
                reason: None,
                layout_hash: Some("h".to_owned()),
                load_began: false,
                loading_now: false,
            }),
            rolled_over: None,
        }
    }

    fn with(change: impl Fn(&mut Known)) -> Facts {
        let mut facts = followed();
        change(facts.known.as_mut().unwrap());
        facts
    }

    fn decided(facts: Facts, policy: Policy) -> Step {
        Due::of(&[facts], policy).0.remove(0).1
    }

    #[test]
    fn what_stands_well_is_followed() {
        assert_eq!(decided(followed(), EVERY), Step::Follow);
        let dropped = Facts { source: Presence::Absent, ..followed() };
        assert_eq!(decided(dropped, EVERY), Step::Follow);
    }

    #[test]
    fn each_reason_for_a_load_is_told() {
        let loads = [
            (Facts { known: None, ..followed() }, Cause::Never),
            (with(|known| known.layout_hash = Some("other".to_owned())), Cause::SchemaChanged),
            (Facts { rolled_over: Some("rs0".to_owned()), ..followed() }, Cause::RolledOver("rs0".to_owned())),
            (
                with(|known| {
                    (known.state, known.reason) = (CollectionState::LoadDue, Some("it was replaced".to_owned()));
                }),
                Cause::Due("it was replaced".to_owned()),
            ),
            (
                with(|known| {
                    (known.state, known.live, known.load_began) = (CollectionState::Loading, false, true);
                }),
                Cause::Unfinished,
            ),
            (
                with(|known| {
                    (known.state, known.live, known.load_began) = (CollectionState::LoadDue, false, false);
                }),
                Cause::Due("a load is due".to_owned()),
            ),
        ];
        for (facts, cause) in loads {
            assert_eq!(decided(facts, EVERY), Step::Load(cause));
        }
    }

    #[test]
    fn schema_files_are_made_as_far_as_that_is_allowed() {
        let new = Facts { schema: SchemaFile::Missing, known: None, ..followed() };
        let policy = |infer| Policy { infer, load_only: false };
        assert_eq!(decided(new.clone(), policy(InferPolicy::NoneYet)), Step::Infer);
        assert!(matches!(decided(new.clone(), policy(InferPolicy::Never)), Step::Leave { .. }));
        // Beside others that have one.
        let both = |infer| Due::of(&[followed(), new.clone()], policy(infer)).0.remove(1).1;
        assert!(matches!(both(InferPolicy::NoneYet), Step::Leave { .. }));
        assert_eq!(both(InferPolicy::Missing), Step::Infer);
        let view = Facts { source: Presence::Skipped(SkipReason::View), ..new };
        assert_eq!(decided(view, policy(InferPolicy::Missing)), Step::Leave { why: "a view".to_owned() });
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let refused = [
            Facts { schema: SchemaFile::Unusable { why: "no key".to_owned() }, ..followed() },
            Facts { schema: SchemaFile::Missing, ..followed() },
            Facts { source: Presence::Absent, known: None, ..followed() },
            Facts { source: Presence::Skipped(SkipReason::View), known: None, ..followed() },
            Facts { source: Presence::Absent, rolled_over: Some("rs0".to_owned()), ..followed() },
        ];
        for facts in refused {
            assert!(matches!(decided(facts.clone(), EVERY), Step::Refuse { .. }), "{facts:?}");
        }
    }

    #[test]
    fn copies_and_loads_under_way_are_left_alone() {
        let copy = with(|known| {
            (known.state, known.reason) = (CollectionState::Copy, Some("it was loaded with --filter".to_owned()));
        });
        let busy = with(|known| known.loading_now = true);
        for (facts, word) in [(copy, "--filter"), (busy, "another run")] {
            for load_only in [false, true] {
                let step = decided(facts.clone(), Policy { load_only, ..EVERY });
                assert!(matches!(&step, Step::Leave { why } if why.contains(word)), "{step:?}");
            }
        }
    }

    #[test]
    fn load_only_loads_everything_that_is_there() {
        let policy = Policy { load_only: true, ..EVERY };
        assert_eq!(decided(followed(), policy), Step::Load(Cause::Asked));
        let copy = with(|known| known.state = CollectionState::Copy);
        let without_id = SchemaFile::Usable { hash: "h".to_owned(), has_underscore_id: false };
        assert_eq!(decided(Facts { schema: without_id, ..copy }, policy), Step::Load(Cause::Asked));
        let dropped = Facts { source: Presence::Absent, ..followed() };
        assert!(matches!(decided(dropped, policy), Step::Leave { .. }));
    }
}
