//! Transactions in progress while a position is taken.

use bson::{Document, Timestamp, doc};
use futures::TryStreamExt;
use gizer_flatten::change::ClusterTime;
use mongodb::options::ReadConcern;

use super::NAMESPACE;
use crate::error::{MalformedReply, MongoError};
use crate::position::OplogPosition;
use crate::position::{Oplog, position};
use crate::waiting::ReplyLimit;

/// Where a replica set records its transactions.
const TRANSACTIONS: &str = "config.transactions";

impl Oplog {
    /// The entry before the oldest transaction whose parts are in the log and whose decision is
    /// not: a prepared one, or a large one not fully replicated. `None` if there is none.
    ///
    /// Decoding from a position needs the entries of transactions that commit after it, and those
    /// can be before it. To have them all: take the newest position, then this, then the newest
    /// position again. Everything needed from the second position on is after the earlier of the
    /// first one and this.
    ///
    /// Without the right to read `config` (role `clusterMonitor`) it is `None`. Missing entries
    /// then show while decoding: `prevOpTime` leads to entries that are not there.
    ///
    /// # Errors
    /// [`MongoError::RolledOver`] if such a transaction has left the log; connection errors.
    pub async fn before_undecided(&self) -> Result<Option<OplogPosition>, MongoError> {
        let oldest = match self.oldest_undecided().await {
            Err(MongoError::NoRights { .. }) => {
                tracing::info!(
                    shard = self.name(),
                    "the user may not read config.transactions: open transactions are unknown"
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

    /// The time of the first entry of any open transaction.
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
