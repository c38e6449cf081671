//! What happens to a seed's collections, drawn before anything of it is done.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use bson::Document;
use integration_tests::traffic::{Shape, Step};

/// A collection in which no two documents have the same `slot`, at any time.
pub(crate) const SLOTS: &str = "slots";

/// The documents of [`SLOTS`], whose `_id`s begin at 0.
pub(crate) const SLOT_COUNT: i32 = 8;

/// Everything that happens, in its order.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// One replica set or two.
    pub(crate) shards: usize,
    /// The collections of the seed's own making, next to those of the traffic.
    /// The last one changes its shape over time.
    pub(crate) shapes: Vec<Shape>,
    pub(crate) rounds: Vec<Round>,
}

/// What gizer does in a round, and what happens meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) activity: Activity,
    /// The fail point at which gizer dies by itself, if it comes by.
    pub(crate) fail_point: Option<&'static str>,
    /// Whether the position in the oplog is lost before.
    pub(crate) lost: bool,
    /// How many of the events come before gizer is started.
    pub(crate) before: usize,
    /// By their number in the whole plan.
    pub(crate) events: Vec<(usize, Event)>,
    /// The command that brings everything to rest.
    pub(crate) settle: &'static str,
    /// Whether `schema evolve` comes next.
    pub(crate) grows: bool,
    /// Whether an audit follows.
    pub(crate) audited: bool,
}

/// What gizer is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Activity {
    /// `sync`, once.
    Sync,
    /// `run`, once.
    Run,
    /// `sync --follow`.
    Follow,
    /// `run --follow`.
    RunOn,
    /// `load` of one collection, which is there already.
    Load(String),
    /// `verify --repair`.
    Repair,
    /// `resync` of one collection, which is there already.
    Resync(String),
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A write to a shard.
    Write(usize, Step),
    /// A document leaves one shard for the other.
    Wander(Wanderer),
    /// Two documents of [`SLOTS`] exchange what is unique to each of them, in one transaction.
    Swap(i32, i32),
    /// `schema evolve`, next to what gizer does in the round.
    Evolve(EndOfGrowth),
    /// Something goes wrong.
    Fault(Fault),
}

/// How a run of `schema evolve` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndOfGrowth {
    ByItself,
    /// By `kill -9`.
    KilledAfter(Duration),
    /// At this fail point, if it comes by.
    DiesAt(&'static str),
}

/// A document that changes its shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanderer {
    pub(crate) number: u64,
    pub(crate) count: i32,
    /// Whether it is on both shards for a moment, or on none.
    pub(crate) insert_first: bool,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// `kill -9` of gizer, after so long; it is started again.
    KillGizer(Duration),
    /// SIGTERM to gizer, after so long; it is started again.
    TerminateGizer(Duration),
    /// A replica set of one.
    Mongod(usize, ServerFault),
    /// The target's server.
    Postgres(ServerFault),
    /// A proxy.
    Network(Side, Trouble),
    /// The source changes its collections, on all shards.
    Ddl(Ddl),
    /// Somebody changes the tables.
    Target(TargetChange),
    /// Somebody holds a lock on a collection's root table for so long.
    Hold(String, LockMode, Duration),
    /// Somebody ends gizer's sessions, or cancels their statements.
    Backend(BackendFault),
    /// gizer's clock is so many seconds off from now on.
    Clock(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerFault {
    Restarted,
    Killed,
    /// Of a mongod alone.
    SteppedDown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Mongo(usize),
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Each piece is late, for the rest of the round.
    Delay(Duration),
    /// Connections are reset.
    Cut,
    /// Connections are reset after so many bytes.
    CutAfter(u64),
    /// Nothing passes for so long.
    Stall(Duration),
    /// Nothing passes for so long, after so many bytes.
    StallAfter(u64, Duration),
    /// No connection comes about for so long.
    Refuse(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ddl {
    Drop(String),
    DropDatabase,
    /// The collection gets another name, or its own name back.
    Rename(String),
    /// `$out` of a part of the collection into itself.
    Out(String),
    /// A collection that nobody knows.
    Create,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetChange {
    /// An index of the user's.
    Index,
    /// A unique index that what is in the source satisfies.
    Unique,
    /// A CHECK that all values satisfy.
    Check,
    /// A trigger that writes into a table of the user's.
    Trigger,
    /// A CHECK that refuses some documents.
    Refusing,
    /// A column that some documents leave out must not be NULL.
    NotNull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// ACCESS EXCLUSIVE on the table.
    Exclusive,
    /// All rows `FOR UPDATE`.
    Rows,
    /// ACCESS SHARE, as a long report has it.
    Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackendFault {
    Terminated,
    Canceled,
}

impl Plan {
    /// The numbers of all events.
    pub(crate) fn numbers(&self) -> BTreeSet<usize> {
        self.rounds.iter().flat_map(|round| &round.events).map(|(number, _)| *number).collect()
    }

    /// The same with these events alone.
    pub(crate) fn with(&self, kept: &BTreeSet<usize>) -> Self {
        let mut plan = self.clone();
        for round in &mut plan.rounds {
            let before = round.events.iter().take(round.before).filter(|(number, _)| kept.contains(number)).count();
            round.before = before;
            round.events.retain(|(number, _)| kept.contains(number));
        }
        plan
    }

    pub(crate) fn faults(&self) -> impl Iterator<Item = &Fault> {
        let events = self.rounds.iter().flat_map(|round| &round.events);
        events.filter_map(|(_, event)| match event {
            Event::Fault(fault) => Some(fault),
            _ => None,
        })
    }
}

impl Event {
    /// Enough of it for a person.
    fn shown(&self) -> String {
        const LONGEST: usize = 400;
        let text = match self {
            Self::Write(shard, Step::Command(command)) => format!("shard {shard}: {}", command),
            Self::Write(shard, Step::Transaction { commands, commit }) => {
                let commands: Vec<String> = commands.iter().map(Document::to_string).collect();
                format!("shard {shard}: transaction, commit: {commit}, of {}", commands.join(", "))
            }
            Self::Wander(_) | Self::Swap(..) | Self::Evolve(_) | Self::Fault(_) => format!("{self:?}"),
        };
        text.chars().take(LONGEST).collect()
    }
}

/// As a person wants to see what is left of it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, round) in self.rounds.iter().enumerate() {
            let fail_point = round.fail_point.map(|point| format!(", dies at {point}")).unwrap_or_default();
            let lost = if round.lost { ", the position is lost" } else { "" };
            let (number, activity, settle) = (number + 1, &round.activity, round.settle);
            writeln!(f, "round {number}: {activity:?}{lost}{fail_point}, settled by {settle}")?;
            for (at, (number, event)) in round.events.iter().enumerate() {
                let when = if at < round.before { "before" } else { "during" };
                writeln!(f, "  {number:4} {when}: {}", event.shown())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::draw::Length;
    use super::*;

    #[test]
    fn events_are_left_out_by_number() {
        let plan = Plan::draw(3, Length::Short);
        let numbers = plan.numbers();
        let first = plan.rounds[0].events[0].0;
        let without: BTreeSet<usize> = numbers.iter().copied().filter(|number| *number != first).collect();
        let less = plan.with(&without);
        assert_eq!(less.numbers(), without);
        assert_eq!(less.rounds[0].before, plan.rounds[0].before.saturating_sub(1));
    }
}
