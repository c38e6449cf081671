//! What comes out of logs that are made up.

mod large;
mod log;
mod random;

use std::sync::Arc;

use bson::Document;
use gizer_flatten::change::SourcePosition;

use self::log::{
    FEW, MANY, MadeUp, Seen, Written, abort, all, at, commit, create, entry, insert, merged, next, no_op,
    of_transaction, orders, pieces, place, seen,
};
use super::interest::Interest;
use super::merge::{Limits, MergedLog};
use crate::changes::ChangeEvent;
use crate::error::MongoError;
use crate::position::OplogPosition;

/// All shards read from before their first entries, in batches of one size.
fn read(shards: &[(&str, Vec<Document>)], end: u32, size: usize, limits: Limits) -> MergedLog<MadeUp> {
    let logs = shards.iter().map(|(name, entries)| {
        let written = Arc::new(Written::new(entries.clone(), end));
        (MadeUp::new(name, &written, OplogPosition::default(), &[size]), OplogPosition::default())
    });
    merged(logs.collect(), 1 << 20, limits)
}

fn change(tick: u32, shard: &str, id: i32) -> Seen {
    Seen::Change(tick, shard.to_owned(), id)
}

fn watermark(tick: u32, positions: &[(&str, u32)]) -> Seen {
    Seen::Watermark(tick, positions.iter().map(|(shard, tick)| ((*shard).to_owned(), *tick)).collect())
}

fn only_changes(seen: Vec<Seen>) -> Vec<Seen> {
    seen.into_iter().filter(|seen| matches!(seen, Seen::Change(..))).collect()
}

fn order(tick: u32, id: i32) -> Document {
    entry(tick, insert("orders", id))
}

#[test]
fn shards_are_merged_by_time_and_at_equal_times_by_name() {
    let a = vec![order(1, 1), order(4, 4), order(9, 9)];
    let b = vec![order(2, 2), order(4, 44), entry(5, insert("others", 5)), no_op(6)];
    for size in [1, 2, 10] {
        let mut merged = read(&[("b", b.clone()), ("a", a.clone())], 20, size, MANY);
        let seen = all(&mut merged);
        let ids = [(1, "a", 1), (2, "b", 2), (4, "a", 4), (4, "b", 44), (9, "a", 9)];
        assert_eq!(only_changes(seen.clone()), ids.map(|(tick, shard, id)| change(tick, shard, id)), "{size}");
        assert_eq!(seen.last(), Some(&watermark(20, &[("a", 9), ("b", 6)])));
        // There is none between two entries of one time.
        let between = |pair: &[Seen]| matches!((&pair[0], &pair[1]), (Seen::Change(4, ..), Seen::Watermark(..)));
        assert_eq!(
            seen.windows(2).position(between),
            seen.windows(2).position(|pair| pair[0] == change(4, "b", 44) && between(pair))
        );
    }
}

#[test]
fn a_watermark_comes_after_so_many_changes_and_when_all_was_given() {
    let mut merged = read(&[("a", (1..=8).map(|tick| order(tick, tick as i32)).collect())], 8, 8, FEW);
    let ticks = all(&mut merged).into_iter().filter_map(|seen| match seen {
        Seen::Watermark(tick, _) => Some(tick),
        Seen::Change(..) => None,
    });
    assert_eq!(ticks.collect::<Vec<u32>>(), [3, 6, 8]);
}

#[test]
fn a_shard_that_has_much_to_give_waits_for_one_that_has_not() {
    let busy: Vec<Document> = (1..=50).map(|tick| order(tick, 1)).collect();
    let mut merged = read(&[("a", busy), ("b", vec![no_op(7)])], 7, 5, MANY);
    let seen = all(&mut merged);
    assert_eq!(only_changes(seen.clone()).len(), 7);
    assert_eq!(seen.last(), Some(&watermark(7, &[("a", 7), ("b", 7)])));
}

#[test]
fn ddl_stands_between_two_watermarks() {
    let entries = vec![order(1, 1), create(2, "baskets"), order(3, 3), no_op(4)];
    let seen = all(&mut read(&[("a", entries)], 4, 10, MANY));
    let of = |tick| watermark(tick, &[("a", tick)]);
    assert_eq!(seen, [change(1, "a", 1), of(1), change(2, "a", -1), of(2), change(3, "a", 3), of(4)]);
    // Not where another entry has the same time.
    let seen = all(&mut read(&[("a", vec![create(2, "baskets")]), ("b", vec![order(2, 2)])], 4, 10, MANY));
    assert_eq!(seen[..2], [change(2, "a", -1), change(2, "b", 2)]);
}

/// A chain of three pieces with another insert between, prepared or not, and the same for another transaction that is aborted.
fn chains(prepared: bool) -> Vec<Document> {
    let partial = |ids: &[i32]| pieces(ids.iter().map(|id| insert("orders", *id)).collect(), Some("partialTxn"));
    let flag = prepared.then_some("prepare");
    let mut entries = vec![
        of_transaction(1, 1, 5, 0, partial(&[1, 2])),
        of_transaction(2, 2, 5, 0, partial(&[-9])),
        order(3, 30),
        of_transaction(4, 1, 5, 1, pieces(vec![insert("others", 8), insert("orders", 3)], Some("partialTxn"))),
        of_transaction(5, 2, 5, 2, abort()),
        of_transaction(6, 1, 5, 4, pieces(vec![insert("orders", 4)], flag)),
    ];
    if prepared {
        entries.extend([order(7, 70), of_transaction(8, 1, 5, 6, commit())]);
    }
    entries.push(order(9, 90));
    entries
}

#[test]
fn a_chain_is_given_at_its_last_entry() {
    for (size, held) in [(1, 0), (3, 1 << 20), (20, 60)] {
        let written = Arc::new(Written::new(chains(false), 9));
        let log = MadeUp::new("a", &written, OplogPosition::default(), &[size]);
        let mut merged = merged(vec![(log, OplogPosition::default())], held, FEW);
        let expected = [(3, 30), (6, 1), (6, 2), (6, 3), (6, 4), (9, 90)].map(|(tick, id)| change(tick, "a", id));
        let seen = all(&mut merged);
        assert_eq!(only_changes(seen.clone()), expected);
        // None in the midst of the transaction, although so many changes were given.
        assert!(seen.windows(4).any(|four| four == &expected[1..5]), "{seen:?}");
    }
}

#[test]
fn a_prepared_transaction_is_given_at_its_commit_and_holds_the_watermark_back() {
    for size in [1, 2, 20] {
        let mut merged = read(&[("a", chains(true)), ("b", vec![order(6, 60), no_op(9)])], 9, size, FEW);
        let seen = all(&mut merged);
        let expected = [(3, "a", 30), (6, "b", 60), (7, "a", 70), (8, "a", 1), (8, "a", 2), (8, "a", 3), (8, "a", 4)];
        let mut expected = expected.map(|(tick, shard, id)| change(tick, shard, id)).to_vec();
        expected.push(change(9, "a", 90));
        assert_eq!(only_changes(seen.clone()), expected);
        assert!(seen.iter().all(|seen| !matches!(seen, Seen::Watermark(6 | 7, _))), "{seen:?}");
    }
}

#[test]
fn an_undecided_transaction_leaves_the_watermark_before_it_and_says_how_far_was_read() {
    let mut entries = vec![order(1, 1)];
    entries.push(of_transaction(3, 1, 5, 0, pieces(vec![insert("orders", 3)], Some("prepare"))));
    entries.extend([no_op(5), no_op(6)]);
    for size in [1, 10] {
        let mut merged = read(&[("a", entries.clone())], 7, size, MANY);
        let mut latest = None;
        while let Some(event) = next(&mut merged).unwrap() {
            latest = Some(event);
        }
        let Some(ChangeEvent::Watermark { time, positions, read_to }) = latest else { panic!("{latest:?}") };
        assert_eq!((time, &positions["a"], read_to), (at(1), &place(1).into(), at(7)));
    }

    // Whether or not something is given after it, and before the first watermark, too.
    let mut entries = vec![of_transaction(3, 1, 5, 0, pieces(vec![insert("orders", 3)], Some("prepare")))];
    entries.extend([order(5, 5), no_op(6)]);
    for size in [1, 10] {
        let mut merged = read(&[("a", entries.clone())], 7, size, MANY);
        let mut seen = Vec::new();
        while let Some(event) = next(&mut merged).unwrap() {
            seen.push(event);
        }
        let Some(ChangeEvent::Watermark { time, positions, read_to }) = seen.pop() else { panic!("{seen:?}") };
        let start = SourcePosition::from(OplogPosition::default());
        assert_eq!((time, &positions["a"], read_to), (Default::default(), &start, at(7)));
        assert!(seen.iter().any(|event| matches!(event, ChangeEvent::Change(_))), "{seen:?}");
    }

    // One that touches nothing of interest holds nothing back.
    let mut entries = vec![order(1, 1)];
    entries.push(of_transaction(3, 1, 5, 0, pieces(vec![insert("others", 3)], Some("prepare"))));
    entries.push(order(5, 5));
    assert_eq!(all(&mut read(&[("a", entries)], 7, 1, MANY)).last(), Some(&watermark(7, &[("a", 5)])));
}

#[test]
fn what_lies_before_the_position_is_looked_up() {
    for prepared in [false, true] {
        let written = Arc::new(Written::new(chains(prepared), 9));
        let all_of_it = only_changes(all(&mut read(&[("a", chains(prepared))], 9, 20, MANY)));
        for from in 1..=9 {
            let log = MadeUp::new("a", &written, place(from), &[2]);
            let seen = only_changes(all(&mut merged(vec![(log, place(from))], 1 << 20, MANY)));
            let after = |seen: &&Seen| matches!(seen, Seen::Change(tick, ..) if *tick > from);
            assert_eq!(seen, all_of_it.iter().filter(after).cloned().collect::<Vec<Seen>>(), "from {from}");
        }
        let log = MadeUp::new("a", &written, place(2), &[2]).forget_before(2);
        let mut merged = merged(vec![(log, place(2))], 1 << 20, MANY);
        let error = loop {
            match next(&mut merged) {
                Ok(event) => assert!(event.is_some(), "no error"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, MongoError::RolledOver { saved, .. } if saved == place(1)), "{error}");
    }
}

/// Nothing is known of a shard before its first batch, which may begin a transaction.
#[test]
fn no_watermark_comes_before_each_shard_was_read_at_all() {
    let prepare = of_transaction(4, 1, 5, 0, pieces(vec![insert("orders", 4)], Some("prepare")));
    let a = Arc::new(Written::new(vec![prepare, no_op(5), of_transaction(8, 1, 5, 4, commit())], 9));
    let b = Arc::new(Written::new(vec![order(2, 2), order(5, 5)], 9));
    let logs = vec![
        // Slower than the other one.
        (MadeUp::new("a", &a, place(3), &[1]).ready_every(20), place(3)),
        (MadeUp::new("b", &b, place(1), &[1]), place(1)),
    ];
    let mut seen = Vec::new();
    for event in all(&mut merged(logs, 1 << 20, MANY)) {
        // The first watermark comes again, and says how far was read meanwhile.
        if !seen.contains(&event) {
            seen.push(event);
        }
    }
    let positions = [("a", 8), ("b", 5)];
    let [first, decided, last] =
        [watermark(3, &[("a", 3), ("b", 2)]), watermark(8, &positions), watermark(9, &positions)];
    assert_eq!(seen, [change(2, "b", 2), first, change(5, "b", 5), change(8, "a", 4), decided, last]);
}

#[test]
fn collections_that_matter_from_now_on_are_found_in_transactions_under_way() {
    let written = Arc::new(Written::new(chains(false), 9));
    let log = MadeUp::new("a", &written, OplogPosition::default(), &[1]);
    let mut merged = merged(vec![(log, OplogPosition::default())], 1 << 20, MANY);
    let mut ids = Vec::new();
    while let Some(event) = next(&mut merged).unwrap() {
        match seen(event) {
            Seen::Change(_, _, id) => ids.push(id),
            Seen::Watermark(4, _) => merged.set_interest(Interest { collections: None, ..orders() }),
            Seen::Watermark(..) => {}
        }
    }
    assert_eq!(ids, [30, 1, 2, 8, 3, 4, 90]);
}

#[test]
fn an_entry_that_cannot_be_decoded_is_told_with_its_place_after_what_lies_before_it() {
    let strange = entry(3, bson::doc! { "op": "z", "ns": "shop.orders", "o": {} });
    let mut merged = read(&[("a", vec![order(1, 1), strange])], 7, 10, MANY);
    assert_eq!(next(&mut merged).unwrap().map(seen), Some(change(1, "a", 1)));
    let error = next(&mut merged).unwrap_err();
    assert!(matches!(error, MongoError::MalformedEntry { position, .. } if position == place(3)), "{error}");
    assert!(error.to_string().contains("Timestamp(3, 1) of the oplog of a") && error.remedy().is_some(), "{error}");
}
