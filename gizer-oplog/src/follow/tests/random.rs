//! Logs at random, read in batches of random sizes with restarts, against a plain list of what takes effect when.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::Document;
use gizer_flatten::change::Positions;
use proptest::prelude::*;

use super::super::merge::Limits;
use super::log::{
    MadeUp, Seen, Written, abort, at, commit, create, entry, insert, merged, next, no_op, of_transaction, pieces,
    place, seen,
};
use crate::changes::ChangeEvent;
use crate::position::OplogPosition;

const SHARDS: [&str; 3] = ["a", "b", "c"];
const SESSIONS: usize = 3;

/// A transaction under way.
#[derive(Default)]
struct Open {
    number: i64,
    latest: u32,
    ids: Vec<i32>,
    prepared: Option<u32>,
}

/// What was written, and what follows from it.
#[derive(Default)]
struct Model {
    entries: Vec<Vec<Document>>,
    /// By time, then shard.
    changes: Vec<Seen>,
    /// From a prepare entry to its decision, if it touches what is of interest.
    undecided: Vec<(u32, Option<u32>)>,
    open: BTreeMap<(usize, usize), Open>,
    tick: u32,
    ids: i32,
}

impl Model {
    fn new(shards: usize, script: &[(u8, u8, u8, u8)]) -> Model {
        let mut model = Model { entries: vec![Vec::new(); shards], ..Model::default() };
        let mut latest_shard = shards;
        for (shard, action, session, count) in script {
            let shard = usize::from(*shard) % shards;
            // Each shard has an entry of a time once, and in the order of the names, so that the list is in order.
            if shard <= latest_shard || action.is_multiple_of(3) {
                model.tick += 1;
            }
            latest_shard = shard;
            model.write(shard, *action, usize::from(*session) % SESSIONS, *count);
        }
        model.tick += 1;
        for open in model.open.values() {
            model.undecided.extend(open.prepared.filter(|_| !open.ids.is_empty()).map(|from| (from, None)));
        }
        model
    }

    fn write(&mut self, shard: usize, action: u8, session: usize, count: u8) {
        let tick = self.tick;
        let entry = match action % 10 {
            0 | 1 => {
                self.ids += 1;
                self.take_effect(shard, &[self.ids]);
                entry(tick, insert("orders", self.ids))
            }
            2 => entry(tick, insert("others", 0)),
            3 => no_op(tick),
            4 if count.is_multiple_of(4) => {
                self.take_effect(shard, &[-1]);
                create(tick, "baskets")
            }
            _ => self.write_transaction(shard, action, session, count),
        };
        self.entries[shard].push(entry);
    }

    fn write_transaction(&mut self, shard: usize, action: u8, session: usize, count: u8) -> Document {
        let tick = self.tick;
        let mut open =
            self.open.remove(&(shard, session)).unwrap_or_else(|| Open { number: i64::from(tick), ..Open::default() });
        let (number, previous) = (open.number, open.latest);
        open.latest = tick;
        let entry = |command| of_transaction(tick, session as i32, number, previous, command);
        if let Some(prepared) = open.prepared {
            if !open.ids.is_empty() {
                self.undecided.push((prepared, Some(tick)));
            }
            if action.is_multiple_of(2) {
                return entry(abort());
            }
            self.take_effect(shard, &open.ids);
            return entry(commit());
        }
        if action % 10 == 9 && previous > 0 {
            return entry(abort());
        }
        let mut operations = Vec::new();
        for number in 0..count % 4 {
            let ours = number % 2 == 0;
            if ours {
                self.ids += 1;
                open.ids.push(self.ids);
            }
            operations.push(insert(if ours { "orders" } else { "others" }, self.ids));
        }
        match action % 10 {
            5 => {
                self.take_effect(shard, &open.ids);
                entry(pieces(operations, None))
            }
            6 => {
                open.prepared = Some(tick);
                self.open.insert((shard, session), open);
                entry(pieces(operations, Some("prepare")))
            }
            _ => {
                self.open.insert((shard, session), open);
                entry(pieces(operations, Some("partialTxn")))
            }
        }
    }

    fn take_effect(&mut self, shard: usize, ids: &[i32]) {
        let change = |id: &i32| Seen::Change(self.tick, SHARDS[shard].to_owned(), *id);
        self.changes.extend(ids.iter().map(change));
    }

    fn changes_to(&self, time: u32) -> Vec<Seen> {
        let until = |seen: &&Seen| matches!(seen, Seen::Change(tick, ..) if *tick <= time);
        self.changes.iter().take_while(until).cloned().collect()
    }
}

/// How it is read.
#[derive(Debug, Clone)]
struct Reading {
    sizes: Vec<usize>,
    transaction_memory: usize,
    changes: usize,
    /// After how many watermarks each run ends; the last run goes to the end.
    runs: Vec<usize>,
}

fn reading() -> impl Strategy<Value = Reading> {
    let held = prop_oneof![Just(0), Just(150), Just(1 << 20)];
    let runs = prop::collection::vec(0_usize..5, 0..6);
    (prop::collection::vec(1_usize..12, 1..5), held, 1_usize..8, runs)
        .prop_map(|(sizes, transaction_memory, changes, runs)| Reading { sizes, transaction_memory, changes, runs })
}

/// Reads a run, and checks at each watermark that what is committed then is what has taken effect by then.
fn run(
    model: &Model,
    written: &[Arc<Written>],
    reading: &Reading,
    from: &mut Positions,
    committed: &mut Vec<Seen>,
    watermarks: usize,
) -> Result<u32, TestCaseError> {
    let logs = written.iter().zip(SHARDS).map(|(written, name)| {
        let from = OplogPosition::of(&from[name]).unwrap();
        (MadeUp::new(name, written, from, &reading.sizes), from)
    });
    let limits = Limits { changes: reading.changes, bytes: 1 << 20 };
    let mut merged = merged(logs.collect(), reading.transaction_memory, limits);
    let (mut given, mut count, mut latest) = (Vec::new(), 0, 0);
    while count < watermarks {
        let Some(event) = next(&mut merged).unwrap() else { break };
        let (time, positions) = match event {
            // The latest again, or the beginning: what was given since waits for the next one.
            ChangeEvent::Watermark { time, positions, read_to } if read_to > time => {
                prop_assert_eq!(&positions, &*from);
                continue;
            }
            ChangeEvent::Watermark { time, positions, .. } => (time, positions),
            change => {
                given.push(seen(change));
                continue;
            }
        };
        let tick = time.seconds;
        committed.append(&mut given);
        prop_assert_eq!(&*committed, &model.changes_to(tick), "at the watermark {}", tick);
        prop_assert!(tick >= latest, "{} after {}", tick, latest);
        for (written, name) in written.iter().zip(SHARDS) {
            prop_assert_eq!(
                &positions[name],
                &written.last_at(time).unwrap_or_default().into(),
                "{} at {}",
                name,
                tick
            );
        }
        let inside = |(prepare, decision): &&(u32, Option<u32>)| {
            *prepare <= tick && decision.is_none_or(|decision| tick < decision)
        };
        prop_assert!(model.undecided.iter().find(inside).is_none(), "{} lies in an undecided transaction", tick);
        (*from, latest, count) = (positions, tick, count + 1);
    }
    prop_assert!(merged.is_within_its_bounds(reading.transaction_memory));
    Ok(latest)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn all_that_takes_effect_comes_once_and_in_order_however_it_is_read(
        shards in 1_usize..=3,
        script in prop::collection::vec((0_u8..3, 0_u8..10, 0_u8..3, 0_u8..8), 0..120),
        reading in reading(),
    ) {
        let model = Model::new(shards, &script);
        let written: Vec<Arc<Written>> =
            model.entries.iter().map(|entries| Arc::new(Written::new(entries.clone(), model.tick))).collect();
        let mut from: Positions =
            SHARDS[..shards].iter().map(|shard| ((*shard).to_owned(), OplogPosition::default().into())).collect();
        let mut committed = Vec::new();
        for watermarks in reading.runs.iter().copied().chain([usize::MAX]) {
            let latest = run(&model, &written, &reading, &mut from, &mut committed, watermarks)?;
            // One whose pieces lie before the position may touch what is of interest, as far as is known.
            if watermarks == usize::MAX && model.open.values().all(|open| open.prepared.is_none()) {
                prop_assert_eq!(latest, model.tick);
                prop_assert_eq!(&committed, &model.changes);
            }
        }
    }
}

#[test]
fn the_model_is_what_it_should_be() {
    let model = Model::new(2, &[(0, 0, 0, 0), (1, 7, 0, 3), (1, 5, 0, 1), (0, 6, 1, 1), (0, 1, 1, 0), (0, 7, 1, 0)]);
    let change = |tick, shard: &str, id| Seen::Change(tick, shard.to_owned(), id);
    assert_eq!(model.entries.iter().map(Vec::len).collect::<Vec<usize>>(), [4, 2]);
    assert_eq!(model.changes[..4], [change(1, "a", 1), change(2, "b", 2), change(2, "b", 3), change(2, "b", 4)]);
    assert_eq!((at(model.tick), place(model.tick).time), (at(6), at(6)));
}
