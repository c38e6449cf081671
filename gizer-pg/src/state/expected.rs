//! `gizer_expected`: the collections that should be copied, and what keeps any of them from it.
//!
//! A row says that a collection is expected; `gizer_collection` says what has been loaded of it. Together they decide how it
//! stands. A row without an obstacle says that nothing is known to be wrong with it, not that it is copied.

use strum::{Display, EnumString, IntoStaticStr};

use super::definitions::EXPECTED;
use super::tables;
use crate::connect::Session;
use crate::error::PgError;

/// A collection that should be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its name.
    pub collection: String,
    /// What keeps it from being copied or followed, if anything is known to.
    pub obstacle: Option<Obstacle>,
    /// How it was chosen; `None` where nothing was decided yet.
    pub chosen_by: Option<Choice>,
    /// The layout hash of the schema file that `run` has made for it, if it has. A file with another one is a person's.
    pub inferred_hash: Option<String>,
}

/// What decides which collections are expected. It is decided once, by the first `run`, and every row says it, so that it is
/// lost only with all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Choice {
    /// The database: every collection in it, those that appear later among them.
    Database,
    /// The schema files: every collection that has one.
    Files,
}

impl Choice {
    /// The text in the column.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What was decided, if anything was.
pub fn choice(expected: &[Expected]) -> Option<Choice> {
    expected.iter().find_map(|each| each.chosen_by)
}

/// What keeps a collection from being copied or followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What kind it is.
    pub kind: ObstacleKind,
    /// What happened.
    pub reason: String,
    /// What a person can do about it.
    pub remedy: Option<String>,
    /// When it was first met, ISO 8601 in UTC.
    pub since: String,
    /// How often it was met, the first time included.
    pub attempts: u32,
    /// When it is tried again, ISO 8601 in UTC; `None` if not before a person or the source has changed something.
    pub next_try: Option<String>,
    /// Whether that time has come, by the server's clock.
    pub is_due: bool,
}

/// The kinds of [`Obstacle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum ObstacleKind {
    /// It has no schema yet, because there is nothing to infer one from.
    Waiting,
    /// Something went wrong that may pass; it is tried again by itself.
    Failing,
    /// Only a person can help.
    Refused,
    /// A person wants it left alone.
    Paused,
}

impl ObstacleKind {
    /// The text in the column.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The expected collections, by the bytes of their names; none where nothing was decided yet.
///
/// # Errors
/// As [`expected`].
pub async fn read_expected(session: &Session) -> Result<Vec<Expected>, PgError> {
    session.in_snapshot(expected_if_readable(session)).await
}

/// As [`read_expected`], in the open transaction.
pub(super) async fn expected_if_readable(session: &Session) -> Result<Vec<Expected>, PgError> {
    if tables::may_read(session, EXPECTED).await? { expected(session).await } else { Ok(Vec::new()) }
}

/// As [`read_expected`], in the open transaction; the table must be there.
///
/// # Errors
/// [`PgError::UnreadableState`]; whatever the server says.
pub async fn expected(session: &Session) -> Result<Vec<Expected>, PgError> {
    let sql = format!(
        "SELECT collection, obstacle, coalesce(reason, ''), remedy, \
                pg_catalog.to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), attempts, \
                pg_catalog.to_char(next_try AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
                coalesce(next_try <= pg_catalog.now(), false), pg_catalog.to_jsonb(e) ->> 'chosen_by', \
                pg_catalog.to_jsonb(e) ->> 'inferred_hash' \
         FROM {} AS e ORDER BY collection COLLATE \"C\"",
        session.relation(EXPECTED)?
    );
    let mut all = Vec::new();
    for row in session.query("reading which collections are expected", &sql, &[]).await? {
        let kind: Option<String> = row.get(1);
        let obstacle = match kind {
            None => None,
            Some(kind) => Some(Obstacle {
                kind: kind
                    .parse()
                    .map_err(|_| session.unreadable(EXPECTED, "waiting, failing, refused or paused", kind))?,
                reason: row.get(2),
                remedy: row.get(3),
                since: row.get::<_, Option<String>>(4).unwrap_or_default(),
                attempts: u32::try_from(row.get::<_, i32>(5)).unwrap_or_default(),
                next_try: row.get(6),
                is_due: row.get(7),
            }),
        };
        let chosen_by = row.get::<_, Option<String>>(8).and_then(|name| name.parse().ok());
        all.push(Expected { collection: row.get(0), obstacle, chosen_by, inferred_hash: row.get(9) });
    }
    Ok(all)
}

/// From now on these collections are expected, in the open transaction, because of this choice if one was made. What is known of
/// those that already are stays.
pub async fn expect(session: &Session, collections: &[&str], choice: Option<Choice>) -> Result<(), PgError> {
    if collections.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {} AS e (collection, chosen_by) \
         SELECT DISTINCT name, $2::pg_catalog.text FROM pg_catalog.unnest($1::pg_catalog.text[]) AS name ORDER BY name \
         ON CONFLICT (collection) DO UPDATE SET chosen_by = excluded.chosen_by \
             WHERE e.chosen_by IS NULL AND excluded.chosen_by IS NOT NULL",
        session.relation(EXPECTED)?
    );
    let choice = choice.map(Choice::name);
    session.execute("recording which collections are expected", &sql, &[&collections, &choice]).await.map(|_| ())
}

/// Records that `run` made this collection's schema file, with the hash of its layout, in the open transaction or in
/// one of its own.
pub async fn record_inferred(session: &Session, collection: &str, layout_hash: &str) -> Result<(), PgError> {
    let sql = format!(
        "INSERT INTO {} (collection, inferred_hash) VALUES ($1, $2) \
         ON CONFLICT (collection) DO UPDATE SET inferred_hash = excluded.inferred_hash",
        session.relation(EXPECTED)?
    );
    let doing = format!("recording the schema file of {collection}");
    session.execute(doing, &sql, &[&collection, &layout_hash]).await.map(|_| ())
}

/// These collections are no longer expected, in the open transaction.
pub async fn no_longer_expect(session: &Session, collections: &[&str]) -> Result<(), PgError> {
    if collections.is_empty() {
        return Ok(());
    }
    let sql = format!("DELETE FROM {} WHERE collection = ANY ($1)", session.relation(EXPECTED)?);
    session.execute("recording which collections are expected", &sql, &[&collections]).await.map(|_| ())
}

/// Records what keeps a collection from being copied or followed, in the open transaction or in one of its own. From
/// now on it is expected. The same kind again counts an attempt and keeps `since`. One that is *failing* is tried
/// again after 30 s, then after twice as long each time, an hour at most. One that is *paused* stays so, whatever
/// happens to it meanwhile.
pub async fn set_obstacle(
    session: &Session,
    collection: &str,
    kind: ObstacleKind,
    reason: &str,
    remedy: Option<&str>,
) -> Result<(), PgError> {
    let sql = format!(
        "INSERT INTO {} AS e (collection, obstacle, reason, remedy, since, attempts, next_try) \
         VALUES ($1, $2, $3, $4, pg_catalog.now(), 1, \
                 CASE WHEN $2 = 'failing' THEN pg_catalog.now() + pg_catalog.make_interval(secs => 30) END) \
         ON CONFLICT (collection) DO UPDATE SET \
             obstacle = excluded.obstacle, reason = excluded.reason, remedy = excluded.remedy, \
             since = CASE WHEN e.obstacle = excluded.obstacle THEN e.since ELSE excluded.since END, \
             attempts = CASE WHEN e.obstacle = excluded.obstacle THEN e.attempts + 1 ELSE 1 END, \
             next_try = CASE WHEN excluded.next_try IS NULL OR e.obstacle IS DISTINCT FROM excluded.obstacle \
                 THEN excluded.next_try \
                 ELSE pg_catalog.now() \
                     + pg_catalog.make_interval(secs => least(3600, 30 * pg_catalog.power(2, least(e.attempts, 7)))) END \
             WHERE e.obstacle IS DISTINCT FROM 'paused' OR excluded.obstacle = 'paused'",
        session.relation(EXPECTED)?
    );
    let doing = format!("recording that {collection} is {kind}");
    session.execute(doing, &sql, &[&collection, &kind.name(), &reason, &remedy]).await.map(|_| ())
}

/// Nothing keeps the collection from being copied and followed any more, in the open transaction or in one of its own. Gives
/// whether anything did. Only [`resume`] ends a pause.
pub async fn clear_obstacle(session: &Session, collection: &str) -> Result<bool, PgError> {
    clear_where(session, collection, "obstacle <> 'paused'").await
}

/// The collection is paused no longer, in the open transaction or in one of its own. Gives whether it was.
pub async fn resume(session: &Session, collection: &str) -> Result<bool, PgError> {
    clear_where(session, collection, "obstacle = 'paused'").await
}

async fn clear_where(session: &Session, collection: &str, condition: &str) -> Result<bool, PgError> {
    let sql = format!(
        "UPDATE {} SET obstacle = NULL, reason = NULL, remedy = NULL, since = NULL, attempts = 0, next_try = NULL \
         WHERE collection = $1 AND {condition}",
        session.relation(EXPECTED)?
    );
    let doing = format!("recording that nothing is wrong with {collection} any more");
    Ok(session.execute(doing, &sql, &[&collection]).await? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_back() {
        for kind in ["waiting", "failing", "refused", "paused"] {
            assert_eq!(kind.parse::<ObstacleKind>().unwrap().to_string(), kind);
        }
        assert!("gone".parse::<ObstacleKind>().is_err());
        for choice in ["database", "files"] {
            assert_eq!(choice.parse::<Choice>().unwrap().name(), choice);
        }
    }
}
