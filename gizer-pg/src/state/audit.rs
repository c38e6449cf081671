//! `gizer_audit` and `gizer_audit_segment`: what audits have found, and how far an unfinished one has come.
//!
//! A row of `gizer_audit` is one audit of one collection; its segments are there until it is finished. Their reports are the
//! caller's, as JSON.

use std::collections::HashMap;

use serde_json::Value;

use super::definitions::{AUDIT_SEGMENTS, AUDITS};
use super::lock::{self, AdvisoryKey};
use super::tables;
use crate::connect::Session;
use crate::error::PgError;

/// Audits of one collection and kind that are remembered. The last that is finished always is, however many of the other kind
/// come after it.
const MAX_KEPT_AUDITS: i64 = 20;

/// An audit that is running or was interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditId {
    /// The collection.
    pub collection: String,
    /// Counts the collection's audits.
    pub number: i64,
}

impl AuditId {
    fn fenced(&self) -> PgError {
        PgError::Fenced { what: format!("the audit of {}", self.collection) }
    }
}

/// What an audit is of: an interrupted one is resumed only where all of it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSubject {
    /// The load that the tables are of.
    pub live_epoch: i64,
    /// `full`, or `sample`.
    pub kind: &'static str,
    /// Whatever else must be the same: the layout, what is compared.
    pub identity: String,
}

/// A part of a collection that one worker goes through, and how far that has been done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditSegment {
    /// Its number in the audit.
    pub number: i32,
    /// Behind this `_id`, as a document of this field, it goes on; `None`: at the beginning.
    pub after: Option<Vec<u8>>,
    /// The same as a key of the tables, in binary form, where they have one.
    pub after_key: Option<Vec<u8>>,
    /// The last `_id` in it; `None`: to the end.
    pub upto: Option<Vec<u8>>,
    /// The same as a key of the tables.
    pub upto_key: Option<Vec<u8>>,
    /// Whether all of it has been done.
    pub done: bool,
    /// What has been found so far.
    pub report: Value,
}

/// What is known of the audits of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audits {
    /// The last that looked at all of it and was finished.
    pub last_full: Option<FinishedAudit>,
    /// The one that is running or was interrupted.
    pub unfinished: Option<UnfinishedAudit>,
}

/// An audit that came to its end. Times are ISO 8601 in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedAudit {
    /// The load that the tables were of.
    pub live_epoch: i64,
    /// When it began.
    pub started_at: String,
    /// When it was finished.
    pub finished_at: String,
    /// In a word.
    pub outcome: Option<String>,
    /// What was found.
    pub report: Value,
}

/// An audit that did not finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedAudit {
    /// `full`, or `sample`.
    pub kind: String,
    /// When it began: ISO 8601 in UTC.
    pub started_at: String,
    /// Whether a run is alive that audits the collection.
    pub under_way: bool,
    /// Segments that are done.
    pub done: u64,
    /// Segments in all.
    pub segments: u64,
}

/// Holds the lock of a collection's audits for as long as the session lives.
///
/// # Errors
/// [`PgError::Locked`] if another run audits it.
pub async fn hold_audit(session: &Session, collection: &str) -> Result<(), PgError> {
    lock::hold(session, &AdvisoryKey::audit(session.schema(), collection)).await
}

/// Records that an audit begins, and what it is going to look at. What an earlier one has left unfinished is forgotten.
pub async fn begin_audit(
    session: &Session,
    collection: &str,
    subject: &AuditSubject,
    segments: &[AuditSegment],
) -> Result<AuditId, PgError> {
    session
        .in_transaction(async {
            let (audits, parts) = (session.relation(AUDITS)?, session.relation(AUDIT_SEGMENTS)?);
            let doing = || format!("writing down an audit of {collection}");
            let sql = format!(
                "INSERT INTO {audits} (collection, audit, live_epoch, kind, identity, started_at) \
                 SELECT $1, coalesce(max(audit), 0) + 1, $2, $3, $4, now() \
                 FROM {audits} WHERE collection = $1 RETURNING audit"
            );
            let AuditSubject { live_epoch, kind, identity } = subject;
            let row = session.query_one(doing(), &sql, &[&collection, live_epoch, kind, identity]).await?;
            let id = AuditId { collection: collection.to_owned(), number: row.get(0) };
            // Only now: whoever takes a number that was another's before would be taken for that one.
            session.execute(doing(), &format!("DELETE FROM {parts} WHERE collection = $1"), &[&collection]).await?;
            let sql = format!(
                "DELETE FROM {audits} a WHERE collection = $1 AND audit < $3 AND (finished_at IS NULL OR audit <= \
                     (SELECT max(audit) - $2 FROM {audits} b \
                      WHERE b.collection = $1 AND b.kind = a.kind AND b.finished_at IS NOT NULL))"
            );
            session.execute(doing(), &sql, &[&collection, &MAX_KEPT_AUDITS, &id.number]).await?;
            let sql = format!(
                "INSERT INTO {parts} (collection, audit, segment, after, after_key, upto, upto_key, done, report) \
                 SELECT $1, $2, plan.*, false, '{{}}' \
                 FROM unnest($3::int[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[]) AS plan"
            );
            let numbers: Vec<i32> = segments.iter().map(|segment| segment.number).collect();
            let ends = |of: fn(&AuditSegment) -> &Option<Vec<u8>>| -> Vec<Option<&[u8]>> {
                segments.iter().map(|segment| of(segment).as_deref()).collect()
            };
            let (after, after_key) = (ends(|segment| &segment.after), ends(|segment| &segment.after_key));
            let (upto, upto_key) = (ends(|segment| &segment.upto), ends(|segment| &segment.upto_key));
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                [&collection, &id.number, &numbers, &after, &after_key, &upto, &upto_key];
            session.execute(doing(), &sql, &params).await?;
            Ok(id)
        })
        .await
}

/// The audit of a collection that did not finish, if it is of the same, with all of its segments.
pub async fn unfinished_audit(
    session: &Session,
    collection: &str,
    subject: &AuditSubject,
) -> Result<Option<(AuditId, Vec<AuditSegment>)>, PgError> {
    let doing = || format!("looking for an audit of {collection} that did not come to its end");
    let sql = format!(
        "SELECT audit FROM {} WHERE collection = $1 AND live_epoch = $2 AND kind = $3 AND identity = $4 \
             AND finished_at IS NULL ORDER BY audit DESC LIMIT 1",
        session.relation(AUDITS)?
    );
    let AuditSubject { live_epoch, kind, identity } = subject;
    let found = session.query_opt(doing(), &sql, &[&collection, live_epoch, kind, identity]).await?;
    let Some(row) = found else { return Ok(None) };
    let id = AuditId { collection: collection.to_owned(), number: row.get(0) };
    let sql = format!(
        "SELECT segment, after, after_key, upto, upto_key, done, report::text FROM {} \
         WHERE collection = $1 AND audit = $2 ORDER BY segment",
        session.relation(AUDIT_SEGMENTS)?
    );
    let rows = session.query(doing(), &sql, &[&collection, &id.number]).await?;
    let segment = |row: &tokio_postgres::Row| AuditSegment {
        number: row.get(0),
        after: row.get(1),
        after_key: row.get(2),
        upto: row.get(3),
        upto_key: row.get(4),
        done: row.get(5),
        report: serde_json::from_str(row.get(6)).unwrap_or_default(),
    };
    let segments: Vec<AuditSegment> = rows.iter().map(segment).collect();
    Ok((!segments.is_empty()).then_some((id, segments)))
}

/// Records how far a segment has come.
///
/// # Errors
/// [`PgError::Fenced`] if another audit of the collection has begun.
pub async fn save_audit_segment(session: &Session, id: &AuditId, segment: &AuditSegment) -> Result<(), PgError> {
    let sql = format!(
        "UPDATE {} SET after = $4, after_key = $5, done = $6, report = $7::text::jsonb \
         WHERE collection = $1 AND audit = $2 AND segment = $3",
        session.relation(AUDIT_SEGMENTS)?
    );
    let AuditSegment { number, after, after_key, done, report, .. } = segment;
    let doing = format!("writing down how far the audit of {} has come", id.collection);
    let report = report.to_string();
    let changed =
        session.execute(doing, &sql, &[&id.collection, &id.number, number, after, after_key, done, &report]).await?;
    if changed == 1 { Ok(()) } else { Err(id.fenced()) }
}

/// Records that an audit is finished, with its report; its segments are forgotten.
///
/// # Errors
/// [`PgError::Fenced`] if another audit of the collection has begun.
pub async fn finish_audit(session: &Session, id: &AuditId, outcome: &str, report: &Value) -> Result<(), PgError> {
    let work = async {
        let doing = || format!("writing down the outcome of an audit of {}", id.collection);
        let sql = format!(
            "UPDATE {} SET finished_at = now(), outcome = $3, report = $4::text::jsonb \
             WHERE collection = $1 AND audit = $2",
            session.relation(AUDITS)?
        );
        let report = report.to_string();
        if session.execute(doing(), &sql, &[&id.collection, &id.number, &outcome, &report]).await? != 1 {
            return Err(id.fenced());
        }
        let sql = format!("DELETE FROM {} WHERE collection = $1 AND audit = $2", session.relation(AUDIT_SEGMENTS)?);
        session.execute(doing(), &sql, &[&id.collection, &id.number]).await.map(|_| ())
    };
    session.in_transaction(work).await
}

/// What is known of the audits of each collection, for the status. It is nothing where an older version made no such
/// tables, or this role may not read them.
pub(super) async fn audits(session: &Session) -> Result<HashMap<String, Audits>, PgError> {
    let mut found: HashMap<String, Audits> = HashMap::new();
    if !tables::may_read(session, AUDITS).await? {
        return Ok(found);
    }
    let time = |column: &str| format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    let sql = format!(
        "SELECT DISTINCT ON (collection) collection, live_epoch, {}, {}, outcome, report::text FROM {} \
         WHERE kind = 'full' AND finished_at IS NOT NULL ORDER BY collection, audit DESC",
        time("started_at"),
        time("finished_at"),
        session.relation(AUDITS)?
    );
    for row in session.query("reading the last audits", &sql, &[]).await? {
        found.entry(row.get(0)).or_default().last_full = Some(FinishedAudit {
            live_epoch: row.get(1),
            started_at: row.get(2),
            finished_at: row.get(3),
            outcome: row.get(4),
            report: row.get::<_, Option<&str>>(5).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        });
    }
    if !tables::may_read(session, AUDIT_SEGMENTS).await? {
        return Ok(found);
    }
    let sql = format!(
        "SELECT a.collection, a.kind, {}, count(*) FILTER (WHERE p.done), count(*) \
         FROM {} a JOIN {} p USING (collection, audit) WHERE a.finished_at IS NULL \
         GROUP BY a.collection, a.audit, a.kind, a.started_at ORDER BY a.collection, a.audit",
        time("a.started_at"),
        session.relation(AUDITS)?,
        session.relation(AUDIT_SEGMENTS)?
    );
    for row in session.query("reading how far audits have come", &sql, &[]).await? {
        let collection: String = row.get(0);
        let under_way = lock::is_held(session, &AdvisoryKey::audit(session.schema(), &collection)).await?;
        let count = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        found.entry(collection).or_default().unfinished = Some(UnfinishedAudit {
            kind: row.get(1),
            started_at: row.get(2),
            under_way,
            done: count(3),
            segments: count(4),
        });
    }
    Ok(found)
}
