//! Counts of what was done.

use std::fmt;
use std::ops::AddAssign;

/// What one seed or many have been through.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) seeds: u64,
    pub(crate) rounds: u64,
    /// Commands sent to MongoDB.
    pub(crate) operations: u64,
    pub(crate) faults: u64,
    /// Each operation of a round with each fault of the round, as they meet in one way or another.
    pub(crate) meetings: u64,
    /// Versions that schemas have grown to.
    pub(crate) versions: u64,
    /// Runs of gizer that were judged by their exit code.
    pub(crate) runs: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.rounds += other.rounds;
        self.operations += other.operations;
        self.faults += other.faults;
        self.meetings += other.meetings;
        self.versions += other.versions;
        self.runs += other.runs;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, rounds, operations, faults, meetings, versions, runs } = self;
        write!(
            f,
            "{seeds} seeds, {rounds} rounds, {runs} runs of gizer, {operations} operations, \
             {versions} versions of schemas, {faults} faults, {meetings} operations × faults"
        )
    }
}
