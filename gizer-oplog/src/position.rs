//! Positions in the oplog.

use std::fmt;
use std::time::{Duration, Instant};

use bson::{Document, RawDocumentBuf, Timestamp, doc};
use bytes::Bytes;
use futures::future::try_join_all;
use gizer_flatten::change::{ClusterTime, Positions, SourcePosition};
use gizer_schema::raw::RawDoc;
use mongodb::options::ReadConcern;
use tokio::time::sleep;

use crate::connect::{Deployment, Topology};
use crate::error::{MalformedReply, MongoError};
use crate::tail::RawEntry;
use crate::waiting::ReplyLimit;

/// A position in one shard's oplog: the time of an entry and its election term.
///
/// Elsewhere it is a [`SourcePosition`], whose place is the term, big-endian with the sign bit
/// flipped so that terms sort as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OplogPosition {
    /// The entry's `ts`.
    pub time: ClusterTime,
    /// The entry's `t`; −1 where an entry has none (written before protocol version 1).
    pub term: i64,
}

impl OplogPosition {
    /// The oplog position in a source position; `None` if another kind of source made it.
    pub fn of(position: &SourcePosition) -> Option<OplogPosition> {
        let term = i64::from_be_bytes(position.place().try_into().ok()?) ^ i64::MIN;
        Some(OplogPosition { time: position.time(), term })
    }
}

impl From<OplogPosition> for SourcePosition {
    fn from(OplogPosition { time, term }: OplogPosition) -> SourcePosition {
        SourcePosition::new(time, &(term ^ i64::MIN).to_be_bytes())
    }
}

/// A position in `gizer status --format json`: seconds, increment and an oplog's term.
pub fn position_json(position: &SourcePosition) -> serde_json::Value {
    let ClusterTime { seconds, increment } = position.time();
    let term = OplogPosition::of(position).map(|position| position.term);
    serde_json::json!({"seconds": seconds, "increment": increment, "term": term})
}

const NAMESPACE: &str = "local.oplog.rs";

/// `CappedPositionLost` of the server's `error_codes.yml`.
pub(crate) const CAPPED_POSITION_LOST: i32 = 136;

/// `NotYetInitialized` and `ReadConcernMajorityNotAvailableYet` of the server's `error_codes.yml`:
/// just after its start a member does not know the majority's state.
const STARTING: [i32; 2] = [94, 134];

/// How long that may last.
const START_LIMIT: Duration = Duration::from_secs(10);

const START_PAUSE: Duration = Duration::from_millis(100);

/// The oplog of one shard.
#[derive(Clone)]
pub struct Oplog {
    name: String,
    deployment: Deployment,
}

impl Oplog {
    /// The oplog of a replica set, named after the set unless a name is given.
    pub(crate) fn of(deployment: Deployment, name: Option<&str>) -> Result<Oplog, MongoError> {
        let hosts = deployment.hosts.clone();
        match deployment.topology() {
            Topology::Standalone => Err(MongoError::Standalone { hosts }),
            Topology::Router => Err(MongoError::RouterWithoutOplog { hosts }),
            Topology::ReplicaSet { name: set } => {
                let name = name.unwrap_or(set).to_owned();
                Ok(Oplog { name, deployment })
            }
        }
    }

    /// The shard's name, under which its position is saved.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The replica set that it is read from.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The newest entry that a majority has, so that it cannot be rolled back.
    ///
    /// # Errors
    /// [`MongoError::NoRights`] if the user may not read the database `local`; connection errors.
    pub async fn newest(&self) -> Result<OplogPosition, MongoError> {
        self.end(-1).await
    }

    /// The oldest entry in the oplog.
    ///
    /// # Errors
    /// As [`Oplog::newest`].
    pub async fn oldest(&self) -> Result<OplogPosition, MongoError> {
        self.end(1).await
    }

    /// The entry at a position, as `prevOpTime` of a later entry names it.
    ///
    /// # Errors
    /// [`MongoError::RolledOver`] if the entry has left the log; [`MongoError::Diverged`] if it was
    /// never in it; [`MongoError::MemberLags`]; connection errors.
    pub async fn entry_at(&self, position: OplogPosition) -> Result<Bytes, MongoError> {
        let found = loop {
            match self.first_from(position.time).await {
                // Entries were truncated meanwhile where the server looked.
                Err(MongoError::Server { code: CAPPED_POSITION_LOST, .. }) => tokio::task::yield_now().await,
                found => break found?,
            }
        };
        let Some(found) = found else {
            let newest = self.newest().await?.time;
            return Err(MongoError::MemberLags { shard: self.name.clone(), saved: position, newest });
        };
        let found = Bytes::from(found.into_bytes());
        let entry = RawDoc::new(&found).and_then(RawEntry::read).map_err(|found| MongoError::MalformedReply {
            hosts: self.deployment.hosts.clone(),
            command: "find",
            expected: "an oplog entry",
            found: found.into(),
        })?;
        if entry.position() == position {
            return Ok(found);
        }
        let oldest = self.oldest().await?.time;
        Err(if oldest > position.time {
            MongoError::RolledOver { shard: self.name.clone(), saved: position, oldest }
        } else {
            MongoError::Diverged { shard: self.name.clone(), saved: position }
        })
    }

    /// The first entry of this time or a later one. The server seeks `$gte` on `ts` without scanning what lies before.
    async fn first_from(&self, time: ClusterTime) -> Result<Option<RawDocumentBuf>, MongoError> {
        let ts = Timestamp { time: time.seconds, increment: time.increment };
        let log = self.deployment.database("local").collection::<RawDocumentBuf>("oplog.rs");
        let find = log.find_one(doc! { "ts": { "$gte": ts } }).read_concern(ReadConcern::majority());
        self.deployment.answered("find", NAMESPACE, ReplyLimit::Short, find).await
    }

    /// The first entry in natural order, which is insertion order (MongoDB manual, "Capped
    /// Collections"), or in reverse. Either looks at one entry only.
    async fn end(&self, direction: i32) -> Result<OplogPosition, MongoError> {
        let began = Instant::now();
        loop {
            match self.read_end(direction).await {
                // The oldest entry was truncated meanwhile; another one is the oldest now.
                Err(MongoError::Server { code: CAPPED_POSITION_LOST, .. }) => tokio::task::yield_now().await,
                Err(MongoError::Server { code, .. }) if STARTING.contains(&code) && began.elapsed() < START_LIMIT => {
                    sleep(START_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn read_end(&self, direction: i32) -> Result<OplogPosition, MongoError> {
        let oplog = self.deployment.database("local").collection::<Document>("oplog.rs");
        let find = oplog
            .find_one(doc! {})
            .sort(doc! { "$natural": direction })
            .projection(doc! { "_id": 0, "ts": 1, "t": 1 })
            .read_concern(ReadConcern::majority());
        let entry = self.deployment.answered("find", NAMESPACE, ReplyLimit::Short, find).await?;
        entry.as_ref().and_then(position).ok_or_else(|| MongoError::MalformedReply {
            hosts: self.deployment.hosts.clone(),
            command: "find",
            expected: "an oplog entry with ts",
            found: MalformedReply::Missing,
        })
    }
}

impl fmt::Debug for Oplog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oplog").field("name", &self.name).field("deployment", &self.deployment).finish()
    }
}

/// The newest position of every oplog, queried concurrently.
///
/// # Errors
/// As [`Oplog::newest`], the first that fails.
pub async fn newest_positions(oplogs: &[Oplog]) -> Result<Positions, MongoError> {
    let newest = oplogs.iter().map(async |oplog| Ok((oplog.name.clone(), oplog.newest().await?.into())));
    Ok(try_join_all(newest).await?.into_iter().collect())
}

/// The time of the latest operation known to any oplog's primary, majority-committed or not. Every
/// write acknowledged before, with whichever write concern, is at or before it. It is no position:
/// that operation can still be rolled back.
///
/// # Errors
/// Connection errors.
pub async fn latest_time(oplogs: &[Oplog]) -> Result<ClusterTime, MongoError> {
    let latest = oplogs.iter().map(async |oplog| oplog.deployment.latest_time().await);
    Ok(try_join_all(latest).await?.into_iter().max().unwrap_or_default())
}

impl Deployment {
    /// The server's latest operation: `operationTime` of a reply without read concern (MongoDB's
    /// specification "Causal Consistency").
    pub(crate) async fn latest_time(&self) -> Result<ClusterTime, MongoError> {
        let answer = self.admin("ping").await?;
        let time = answer.get_timestamp("operationTime").map_err(|_| MongoError::MalformedReply {
            hosts: self.hosts.clone(),
            command: "ping",
            expected: "operationTime",
            found: MalformedReply::Missing,
        })?;
        Ok(ClusterTime { seconds: time.time, increment: time.increment })
    }
}

/// The position of an oplog entry. Entries from before protocol version 1 have no `t`.
pub(crate) fn position(entry: &Document) -> Option<OplogPosition> {
    let ts = entry.get_timestamp("ts").ok()?;
    let time = ClusterTime { seconds: ts.time, increment: ts.increment };
    Some(OplogPosition { time, term: entry.get_i64("t").unwrap_or(-1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_source_position_and_back() {
        let times = [(0, 0), (7, 2), (7, 3), (u32::MAX, u32::MAX)];
        let times = times.map(|(seconds, increment)| ClusterTime { seconds, increment });
        let terms = [i64::MIN, -1, 0, 1, 255, 256, i64::MAX];
        let all = times.iter().flat_map(|&time| terms.map(|term| OplogPosition { time, term }));
        let all: Vec<OplogPosition> = all.collect();
        let carried: Vec<SourcePosition> = all.iter().map(|&position| position.into()).collect();
        assert!(all.is_sorted() && carried.is_sorted_by(|one, next| one < next));
        for (position, carried) in all.iter().zip(&carried) {
            assert_eq!(OplogPosition::of(carried), Some(*position));
            assert_eq!(*carried, SourcePosition::of_first_version(position.time, position.term));
        }
        assert_eq!(OplogPosition::of(&SourcePosition::new(times[1], b"a resume token")), None);
    }

    #[test]
    fn an_entry_without_a_term_has_term_minus_one() {
        let ts = Timestamp { time: 7, increment: 2 };
        let time = ClusterTime { seconds: 7, increment: 2 };
        assert_eq!(position(&doc! { "ts": ts, "t": 3_i64 }), Some(OplogPosition { time, term: 3 }));
        assert_eq!(position(&doc! { "ts": ts }), Some(OplogPosition { time, term: -1 }));
        assert_eq!(position(&doc! { "t": 3_i64 }), None);
    }
}
