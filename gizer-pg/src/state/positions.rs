//! Positions as the state tables hold them: as JSON for gizer, as text for monitors of the classic tool.

use std::collections::BTreeMap;

use gizer_flatten::change::{ClusterTime, Position, Positions};
use serde_json::{Map, Value, json};

use crate::error::PgError;

/// One position a shard, by the shard's name in alphabetical order; `None` for a shard whose oplog is empty.
pub type ShardPositions = BTreeMap<String, Option<Position>>;

/// The classic form, for the column `ts`: `Timestamp(1454960732, 1)` a shard, joined by `;` in alphabetical order of the
/// shards' names, `None` for a shard without a position.
pub fn classic_ts(positions: &ShardPositions) -> String {
    let each: Vec<String> =
        positions.values().map(|at| at.map_or_else(|| "None".to_owned(), |at| at.time.to_string())).collect();
    each.join(";")
}

/// `{"rs0": {"seconds": 1454960732, "increment": 1, "term": 7}}`
pub(crate) fn to_json(positions: &Positions) -> String {
    let shards: Map<String, Value> = positions
        .iter()
        .map(|(shard, at)| {
            let at = json!({"seconds": at.time.seconds, "increment": at.time.increment, "term": at.term});
            (shard.clone(), at)
        })
        .collect();
    Value::Object(shards).to_string()
}

/// The inverse of [`to_json`].
pub(super) fn from_json(text: &str, schema: &str, table: &'static str) -> Result<Positions, PgError> {
    parse(text).ok_or_else(|| PgError::UnreadableState {
        schema: schema.to_owned(),
        table,
        expected: "a position (seconds, increment, term) a shard",
        came: text.to_owned(),
    })
}

/// A time as state tables hold it: `Timestamp(1454960732, 1)`.
pub(super) fn time_from_text(
    text: Option<&str>,
    schema: &str,
    table: &'static str,
) -> Result<Option<ClusterTime>, PgError> {
    let unreadable = |came: &str| PgError::UnreadableState {
        schema: schema.to_owned(),
        table,
        expected: "Timestamp(<seconds>, <increment>)",
        came: came.to_owned(),
    };
    text.map(|text| text.parse().map_err(|_| unreadable(text))).transpose()
}

/// The inverse of [`to_json`]; `None` if it is something else.
pub(crate) fn parse(text: &str) -> Option<Positions> {
    let Ok(Value::Object(shards)) = serde_json::from_str(text) else { return None };
    let number = |at: &Value, part: &str| at.get(part).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    shards
        .iter()
        .map(|(shard, at)| {
            let time = ClusterTime { seconds: number(at, "seconds")?, increment: number(at, "increment")? };
            Some((shard.clone(), Position { time, term: at.get("term")?.as_i64()? }))
        })
        .collect()
}

/// For each shard that any of them names, the earliest position: from there on nothing of any is missed.
pub(super) fn earliest(all: impl IntoIterator<Item = Positions>) -> Positions {
    let mut earliest = Positions::new();
    for (shard, at) in all.into_iter().flatten() {
        earliest.entry(shard).and_modify(|least: &mut Position| *least = at.min(*least)).or_insert(at);
    }
    earliest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32, increment: u32, term: i64) -> Position {
        Position { time: ClusterTime { seconds, increment }, term }
    }

    fn positions(shards: &[(&str, Position)]) -> Positions {
        shards.iter().map(|(shard, at)| ((*shard).to_owned(), *at)).collect()
    }

    #[test]
    fn the_classic_text_is_in_order_of_the_shards() {
        let shards = [("b", Some(at(5, 2, 1))), ("a", None), ("c", Some(at(1_454_960_732, 7, 1)))];
        let shards = shards.into_iter().map(|(shard, at)| (shard.to_owned(), at)).collect();
        assert_eq!(classic_ts(&shards), "None;Timestamp(5, 2);Timestamp(1454960732, 7)");
        assert_eq!(classic_ts(&ShardPositions::new()), "");
    }

    #[test]
    fn json_reads_back_and_nonsense_does_not() {
        let some = positions(&[("rs\"0", at(u32::MAX, 1, -1)), ("ü", at(0, 0, i64::MAX))]);
        assert_eq!(from_json(&to_json(&some), "s", "t").unwrap(), some);
        assert_eq!(from_json("{}", "s", "t").unwrap(), Positions::new());
        for nonsense in
            ["", "[]", "null", r#"{"a": 1}"#, r#"{"a": {"seconds": 4294967296, "increment": 1, "term": 1}}"#]
        {
            assert!(matches!(from_json(nonsense, "s", "t"), Err(PgError::UnreadableState { .. })), "{nonsense}");
        }
    }

    #[test]
    fn the_earliest_is_taken_shard_by_shard_as_numbers() {
        let one = positions(&[("a", at(99, 9, 1)), ("b", at(566, 1, 1))]);
        let two = positions(&[("a", at(566, 1, 1)), ("b", at(99, 10, 1)), ("c", at(7, 7, 1))]);
        let expected = positions(&[("a", at(99, 9, 1)), ("b", at(99, 10, 1)), ("c", at(7, 7, 1))]);
        assert_eq!(earliest([one, two]), expected);
    }
}
