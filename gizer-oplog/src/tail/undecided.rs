//! Transactions that are under way while a position is taken.

use bson::{Document, Timestamp, doc};
use futures::TryStreamExt;
use gizer_flatten::change::ClusterTime;
use mongodb::options::ReadConcern;

use super::NAMESPACE;
use crate::error::{MalformedReply, MongoError};
use crate::position::OplogPosition;
use crate::position::{Oplog, position};
use crate::waiting::ReplyLimit;

/// Where a replica set keeps what it knows of transactions.
const TRANSACTIONS: &str = "config.transactions";

impl Oplog {
    /// The entry before the oldest transaction of which parts are in the log and the decision is not: one that is prepared, or
    /// a large one whose parts a majority has not got all. `None` if there is none.
    ///
    /// Whoever will decode the log from a position on needs the entries of transactions that commit after it, and those can
    /// lie before it. To have them all: take the newest position, then ask this, then take the newest position again. All that is needed
    /// from the second position on lies after the earlier of the first one and this.
    ///
    /// A user who may not read the database `config` (role `clusterMonitor` allows it) gets `None`. What is then missing
    /// shows when the log is decoded: the decision leads back by `prevOpTime` to entries that are not there.
    ///
    /// # Errors
    /// [`MongoError::RolledOver`] if the log no longer holds what such a transaction needs; all that can happen to a
    /// connection.
    pub async fn before_undecided(&self) -> Result<Option<OplogPosition>, MongoError> {
        let oldest = match self.oldest_undecided().await {
            Err(MongoError::NoRights { .. }) => {
                tracing::info!(
                    shard = self.name(),
                    "the user may not read config.transactions: whether transactions are under way is not known"
                );
                None
            }
            outcome => outcome?,
        };
        let Some(first) = oldest else { return Ok(None) };
        let before = doc! { "ts": { "$lt": Timestamp { time: first.seconds, increment: first.increment } } };
        let log = self.deployment().database("local").collection::<Document>("oplog.rs");
        let entry = log
            .find_one(before)
            .sort(doc! { "$natural": -1 })
            .projection(doc! { "_id": 0, "ts": 1, "t": 1 })
            .read_concern(ReadConcern::majority())
            .await
            .map_err(|error| self.deployment().explain(&error, "find", NAMESPACE))?;
        if let Some(entry) = entry.as_ref().and_then(position) {
            return Ok(Some(entry));
        }
        let oldest = self.oldest().await?.time;
        Err(MongoError::RolledOver {
            shard: self.name().to_owned(),
            saved: OplogPosition { time: first, term: -1 },
            oldest,
        })
    }

    /// The time of the first entry of any transaction under way.
    async fn oldest_undecided(&self) -> Result<Option<ClusterTime>, MongoError> {
        let deployment = self.deployment();
        let transactions = deployment.database("config").collection::<Document>("transactions");
        let undecided = transactions
            .find(doc! { "state": { "$in": ["prepared", "inProgress"] } })
            .projection(doc! { "_id": 0, "startOpTime": 1 })
            .read_concern(ReadConcern::majority());
        let read = async { undecided.await?.try_collect().await };
        let undecided: Vec<Document> = deployment.answered("find", TRANSACTIONS, ReplyLimit::Short, read).await?;
        let starts = undecided.iter().map(|record| {
            let start = record.get_document("startOpTime").ok().and_then(position);
            start.map(|start| start.time).ok_or_else(|| MongoError::MalformedReply {
                hosts: deployment.hosts().clone(),
                command: "find",
                expected: "a transaction with startOpTime",
                found: MalformedReply::Missing,
            })
        });
        starts.collect::<Result<Vec<ClusterTime>, MongoError>>().map(|starts| starts.into_iter().min())
    }
}
