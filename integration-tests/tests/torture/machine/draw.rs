//! Drawing a plan from a seed.

use std::time::Duration;

use integration_tests::random::Random;
use integration_tests::traffic::{COLLECTIONS, Growing, Shape, Step, Traffic};

use super::growth::GrowthDraw;
use super::plan::{
    Activity, BackendFault, Ddl, Event, Fault, LockMode, Plan, Round, SLOT_COUNT, ServerFault, Side, TargetChange,
    Trouble, Wanderer,
};
use crate::fail_points::FAIL_POINTS;
use crate::resync;

/// Rounds of each seed.
const ROUNDS: usize = 4;

/// How much a seed does. Faults are the same in number, so that each meets more writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Short,
    Long,
}

impl Length {
    /// Writes in a round, at most.
    fn writes(self) -> u64 {
        match self {
            Length::Short => 45,
            Length::Long => 4_000,
        }
    }
}

/// Seconds by which gizer's clock is off after a step: about a minute, and more than any window or back-off.
const CLOCK_STEPS: [i64; 5] = [-100_000, -70, 0, 70, 100_000];

/// Documents that wander between two shards.
const WANDERERS: u64 = 4;

/// What the sequence of random numbers is for.
const PLAN: u64 = 0x706c_616e;

/// The same for resyncs, which came later: all else of a seed stays as it is.
const RESYNCS: u64 = 0x7265_7363;

/// What is drawn from, and what has been decided so far.
struct Draw {
    random: Random,
    resyncs: Random,
    shards: usize,
    traffic: Vec<Traffic>,
    shapes: Vec<Shape>,
    growth: GrowthDraw,
    length: Length,
    next: usize,
    /// Tables with a trigger cannot be swapped, and so not loaded.
    triggers: bool,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn draw(seed: u64, length: Length) -> Self {
        let mut random = Random::of(seed, PLAN, 0);
        let shards = if random.percent(30) { 2 } else { 1 };
        let shapes: Vec<Shape> = (0..random.between(1, 3)).map(|number| Shape::of(seed, number)).collect();
        let of_shard = |shard| Traffic::of_shard(seed, shard, shards as u64);
        let traffic = (0..shards as u64).map(of_shard).collect();
        let growth = GrowthDraw::of(seed);
        let resyncs = Random::of(seed, RESYNCS, 0);
        let mut draw = Draw { random, resyncs, shards, traffic, shapes, growth, length, next: 0, triggers: false };
        let rounds = (0..ROUNDS).map(|_| draw.round()).collect();
        let shapes = draw.shapes.into_iter().chain([Growing::of(seed).shape().clone()]).collect();
        Self { seed, shards, shapes, rounds }
    }
}

impl Draw {
    fn round(&mut self) -> Round {
        let mut activity = self.activity();
        let mut fail_point = self.random.percent(25).then(|| self.random.pick(&FAIL_POINTS));
        let mut lost = false;
        if self.resyncs.percent(25) {
            lost = self.resyncs.percent(40);
            let at = self.resyncs.below(self.collections());
            activity = Activity::Resync(self.collection_at(at));
            // It is aligned as what is followed.
            let points = [&resync::FAIL_POINTS[..], &FAIL_POINTS].concat();
            fail_point = self.resyncs.percent(50).then(|| self.resyncs.pick(&points));
        }
        let mut events = self.writes();
        // Most rounds have several faults, some have none.
        let faults = if self.random.percent(15) { 0 } else { self.random.between(1, 4) };
        for _ in 0..faults {
            let fault = self.fault();
            let at = self.random.below(events.len() as u64 + 1) as usize;
            events.insert(at, Event::Fault(fault));
        }
        self.growth.add_to(&mut activity, &mut events, self.shards as u64);
        let before = self.random.below(events.len() as u64 + 1) as usize;
        let first = self.next;
        self.next += events.len();
        Round {
            activity,
            fail_point,
            lost,
            before,
            events: (first..).zip(events).collect(),
            // Where the position is lost, all others have to be recovered, too.
            settle: if self.random.percent(60) && !lost { "sync" } else { "run" },
            grows: self.growth.is_at_rest(),
            audited: self.random.percent(35),
        }
    }

    fn activity(&mut self) -> Activity {
        match self.random.below(20) {
            0..5 => Activity::Sync,
            5..8 => Activity::Run,
            8..14 => Activity::Follow,
            14..16 => Activity::RunOn,
            16..18 if !self.triggers => Activity::Load(self.collection()),
            _ => Activity::Repair,
        }
    }

    fn collection(&mut self) -> String {
        let at = self.random.below(self.collections());
        self.collection_at(at)
    }

    fn collections(&self) -> u64 {
        (COLLECTIONS.len() + self.shapes.len()) as u64
    }

    fn collection_at(&self, at: u64) -> String {
        let at = at as usize;
        match COLLECTIONS.get(at) {
            Some(collection) => collection.name.to_owned(),
            None => self.shapes[at - COLLECTIONS.len()].name.clone(),
        }
    }

    fn shard(&mut self) -> usize {
        self.random.below(self.shards as u64) as usize
    }

    /// Writes of a round, to both shards or to one alone: the other is idle then.
    fn writes(&mut self) -> Vec<Event> {
        let only = self.random.percent(30).then(|| self.shard());
        let mut events = Vec::new();
        for _ in 0..self.random.between(5, self.length.writes()) {
            if self.shards > 1 && self.random.percent(8) {
                events.push(Event::Wander(Wanderer {
                    number: self.random.below(WANDERERS),
                    count: self.random.below(1_000) as i32,
                    insert_first: self.random.percent(50),
                }));
                continue;
            }
            if self.random.percent(6) {
                let one = self.random.below(SLOT_COUNT as u64) as i32;
                let other = self.random.below(SLOT_COUNT as u64) as i32;
                events.push(Event::Swap(one, other));
                continue;
            }
            let shard = only.unwrap_or_else(|| self.shard());
            let step = match self.random.percent(55) {
                true => self.traffic[shard].next().expect("traffic does not end"),
                false => {
                    let at = self.random.below(self.shapes.len() as u64) as usize;
                    Step::Command(self.shapes[at].command(&mut self.random, shard as u64, self.shards as u64))
                }
            };
            events.push(Event::Write(shard, step));
        }
        events
    }

    fn fault(&mut self) -> Fault {
        let fault = self.any_fault();
        self.triggers |= matches!(fault, Fault::Target(TargetChange::Trigger));
        fault
    }

    fn any_fault(&mut self) -> Fault {
        match self.random.below(40) {
            0..9 => Fault::KillGizer(self.millis(500)),
            9..12 => Fault::TerminateGizer(self.millis(500)),
            12..15 => Fault::Mongod(self.shard(), self.server_fault(true)),
            15..17 => Fault::Postgres(self.server_fault(false)),
            17..26 => {
                let side = if self.random.percent(50) { Side::Postgres } else { Side::Mongo(self.shard()) };
                Fault::Network(side, self.trouble())
            }
            26..31 => Fault::Ddl(self.ddl()),
            31..34 => Fault::Target(self.target_change()),
            34..37 => {
                let modes = [LockMode::Exclusive, LockMode::Rows, LockMode::Reading];
                Fault::Hold(self.collection(), self.random.pick(&modes), self.millis(2_500))
            }
            37..39 => Fault::Backend(self.random.pick(&[BackendFault::Terminated, BackendFault::Canceled])),
            _ => Fault::Clock(self.random.pick(&CLOCK_STEPS)),
        }
    }

    fn server_fault(&mut self, is_mongod: bool) -> ServerFault {
        let faults = [ServerFault::Restarted, ServerFault::Killed, ServerFault::SteppedDown];
        let some = if is_mongod { &faults[..] } else { &faults[..2] };
        self.random.pick(some)
    }

    fn trouble(&mut self) -> Trouble {
        match self.random.below(7) {
            0 => Trouble::Delay(self.millis(15)),
            1 => Trouble::Cut,
            2 | 3 => Trouble::CutAfter(self.bytes()),
            4 => Trouble::Stall(self.millis(4_000)),
            5 => Trouble::StallAfter(self.bytes(), self.millis(4_000)),
            _ => Trouble::Refuse(self.millis(1_500)),
        }
    }

    /// Few, or about as many as a batch has.
    fn bytes(&mut self) -> u64 {
        let most = self.random.pick(&[300, 3_000, 60_000]);
        self.random.below(most)
    }

    fn ddl(&mut self) -> Ddl {
        match self.random.below(20) {
            0..6 => Ddl::Drop(self.collection()),
            6..11 => Ddl::Rename(self.collection()),
            11..16 => Ddl::Out(self.collection()),
            16..18 => Ddl::Create,
            _ => Ddl::DropDatabase,
        }
    }

    fn target_change(&mut self) -> TargetChange {
        match self.random.below(12) {
            0..4 => TargetChange::Index,
            10.. => TargetChange::Unique,
            4..6 => TargetChange::Check,
            6..8 => TargetChange::Trigger,
            8 => TargetChange::Refusing,
            _ => TargetChange::NotNull,
        }
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.skewed_below(most))
    }
}

/// What a plan may have in it, by a part of its text.
pub(crate) const KINDS: [&str; 40] = [
    "KillGizer",
    "TerminateGizer",
    "Mongod(0, Killed",
    "Mongod(1",
    "SteppedDown",
    "Postgres(Killed",
    "Delay(",
    "Cut)",
    "CutAfter(",
    "Stall(",
    "StallAfter(",
    "Refuse(",
    "Drop(",
    "DropDatabase",
    "Rename(",
    "Out(",
    "Create",
    "Index",
    "Unique",
    "Swap(",
    "Check",
    "Trigger",
    "Refusing",
    "NotNull",
    "Exclusive",
    "Rows",
    "Reading",
    "Terminated",
    "Canceled",
    "Clock(-",
    "Wander(",
    "Evolve(ByItself",
    "Evolve(KilledAfter",
    "Evolve(DiesAt",
    "dies at",
    "Repair",
    "Load(",
    "Resync(",
    "dies at resync",
    "the position is lost",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_all_that_a_plan_depends_on() {
        let plan = |seed| format!("{:?}", Plan::draw(seed, Length::Short));
        assert_eq!(plan(3), plan(3));
        assert_ne!(plan(3), plan(4));
    }
}
