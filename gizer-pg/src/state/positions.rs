//! Positions as the state tables hold them: as JSON for gizer, as text for monitors of the classic tool.

use std::collections::BTreeMap;

use gizer_flatten::change::{ClusterTime, Positions, SourcePosition};
use serde_json::{Map, Value};
use tokio_postgres::Row;

use super::definitions::{COLLECTIONS, STREAM};
use crate::connect::Session;
use crate::error::PgError;

/// One position a shard, by the shard's name in alphabetical order; `None` for a shard whose oplog is empty.
pub type ShardPositions = BTreeMap<String, Option<SourcePosition>>;

/// The columns that hold positions.
const COLUMNS: [(&str, &str); 6] = [
    (COLLECTIONS, "captured"),
    (COLLECTIONS, "exact_at"),
    (COLLECTIONS, "load_captured"),
    (STREAM, "position"),
    (STREAM, "exact_at"),
    (STREAM, "verified"),
];

/// The classic form, for the column `ts`: `Timestamp(1454960732, 1)` a shard, joined by `;` in alphabetical order of the
/// shards' names, `None` for a shard without a position.
pub fn classic_ts(positions: &ShardPositions) -> String {
    let text = |at: &Option<SourcePosition>| at.as_ref().map_or_else(|| "None".to_owned(), |at| at.time().to_string());
    positions.values().map(text).collect::<Vec<_>>().join(";")
}

/// `{"rs0": "1454960732.1:8000000000000007"}`
pub(crate) fn to_json(positions: &Positions) -> String {
    let shards = positions.iter().map(|(shard, at)| (shard.clone(), at.to_string().into()));
    Value::Object(shards.collect::<Map<_, _>>()).to_string()
}

/// Rewrites positions that gizer 0.1 has left as `{"rs0": {"seconds": …, "increment": …, "term": …}}`, in the open transaction.
///
/// A run of 0.1 that is still running finds another position than it left, and is fenced off; one that starts later cannot read
/// it, and says so. Where another run holds a row, this waits for it.
pub(super) async fn rewrite_first_version(session: &Session) -> Result<(), PgError> {
    let mut selects = Vec::new();
    for (at, (table, column)) in COLUMNS.iter().enumerate() {
        selects.push(format!(
            "SELECT {at}, {column}::text FROM {} \
             WHERE pg_catalog.jsonb_path_exists({column}, '$.* ? (@.type() == \"object\")')",
            session.relation(table)?
        ));
    }
    let doing = "looking for positions of an earlier version";
    for row in session.query(doing, &selects.join(" UNION "), &[]).await? {
        let (at, old): (i32, String) = (row.get(0), row.get(1));
        let Some((table, column)) = usize::try_from(at).ok().and_then(|at| COLUMNS.get(at)) else { continue };
        let new = to_json(&from_json(&old, session.schema(), table)?);
        let relation = session.relation(table)?;
        let sql = format!("UPDATE {relation} SET {column} = $2::text::jsonb WHERE {column} = $1::text::jsonb");
        session.execute("rewriting positions of an earlier version", &sql, &[&old, &new]).await?;
    }
    Ok(())
}

/// The inverse of [`to_json`].
pub(super) fn from_json(text: &str, schema: &str, table: &'static str) -> Result<Positions, PgError> {
    parse(text).ok_or_else(|| PgError::UnreadableState {
        schema: schema.to_owned(),
        table,
        expected: "a position a shard",
        came: text.to_owned(),
    })
}

/// Positions in a column of a row of `table`; `None` of NULL.
pub(super) fn positions_in(
    row: &Row,
    column: usize,
    session: &Session,
    table: &'static str,
) -> Result<Option<Positions>, PgError> {
    row.get::<_, Option<&str>>(column).map(|text| from_json(text, session.schema(), table)).transpose()
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

/// The inverse of [`to_json`], also of what gizer 0.1 has left; `None` if it is something else.
pub(crate) fn parse(text: &str) -> Option<Positions> {
    let Ok(Value::Object(shards)) = serde_json::from_str(text) else { return None };
    let position = |at: &Value| match at {
        Value::String(text) => text.parse().ok(),
        first_version => {
            let number = |part| first_version.get(part)?.as_u64()?.try_into().ok();
            let time = ClusterTime { seconds: number("seconds")?, increment: number("increment")? };
            Some(SourcePosition::of_first_version(time, first_version.get("term")?.as_i64()?))
        }
    };
    shards.iter().map(|(shard, at)| Some((shard.clone(), position(at)?))).collect()
}

/// For each shard that any of them names, the earliest position: from there on nothing of any is missed.
pub(super) fn earliest(all: impl IntoIterator<Item = Positions>) -> Positions {
    let mut earliest = Positions::new();
    for (shard, at) in all.into_iter().flatten() {
        earliest.entry(shard).and_modify(|least| *least = (&*least).min(&at).clone()).or_insert(at);
    }
    earliest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32, increment: u32, place: u8) -> SourcePosition {
        SourcePosition::new(ClusterTime { seconds, increment }, &[place])
    }

    fn positions(shards: &[(&str, SourcePosition)]) -> Positions {
        shards.iter().map(|(shard, at)| ((*shard).to_owned(), at.clone())).collect()
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
        let some = positions(&[("rs\"0", at(u32::MAX, 1, 0)), ("ü", at(0, 0, u8::MAX))]);
        assert_eq!(from_json(&to_json(&some), "s", "t").unwrap(), some);
        assert_eq!(from_json("{}", "s", "t").unwrap(), Positions::new());
        for nonsense in [
            "",
            "[]",
            "null",
            r#"{"a": 1}"#,
            r#"{"a": "1"}"#,
            r#"{"a": {"seconds": 1, "increment": 1}}"#,
            r#"{"a": {"seconds": 4294967296, "increment": 1, "term": 1}}"#,
        ] {
            assert!(matches!(from_json(nonsense, "s", "t"), Err(PgError::UnreadableState { .. })), "{nonsense}");
        }
    }

    #[test]
    fn positions_of_the_first_version_are_read() {
        let text = r#"{"a": {"term": 7, "seconds": 1454960732, "increment": 1}, "b": "5.2:00"}"#;
        let a = SourcePosition::of_first_version(ClusterTime { seconds: 1_454_960_732, increment: 1 }, 7);
        assert_eq!(parse(text), Some(positions(&[("a", a), ("b", at(5, 2, 0))])));
    }

    #[test]
    fn the_earliest_is_taken_shard_by_shard_as_numbers() {
        let one = positions(&[("a", at(99, 9, 1)), ("b", at(566, 1, 1))]);
        let two = positions(&[("a", at(566, 1, 1)), ("b", at(99, 10, 1)), ("c", at(7, 7, 1))]);
        let expected = positions(&[("a", at(99, 9, 1)), ("b", at(99, 10, 1)), ("c", at(7, 7, 1))]);
        assert_eq!(earliest([one, two]), expected);
    }
}
