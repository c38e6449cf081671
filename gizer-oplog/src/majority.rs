//! Reads that see everything acknowledged and nothing that can be rolled back.
//!
//! A copy must not hold what a fail-over may roll back, so documents are read with read concern
//! `majority`. Such a read lags: a write with `w: 1`, the default up to 4.4, is acknowledged before
//! a majority has it, so whoever writes and then loads would miss the last documents (seen on 4.4,
//! with a set of one member). So a read first waits until the majority has caught up with the
//! server: `afterClusterTime` (MongoDB manual, "Causal Consistency and Read and Write Concerns").

use std::time::Duration;

use bson::doc;
use gizer_flatten::change::{ClusterTime, Namespace};

use crate::connect::{Deployment, Topology};
use crate::error::MongoError;
use crate::waiting::ReplyLimit;

/// How long a majority may take to catch up with one member. Where it never does, as in a set of a
/// primary, an arbiter and a dead secondary, the operator has to know.
const MAJORITY_LIMIT: Duration = Duration::from_secs(10);

/// `MaxTimeMSExpired` of the server's `error_codes.yml`.
const TIME_EXPIRED: i32 = 50;

impl Deployment {
    /// Waits until `majority` reads of this collection see everything acknowledged before the call.
    ///
    /// # Errors
    /// [`MongoError::MajorityLags`] after 10 seconds; connection errors.
    pub(crate) async fn wait_for_majority(&self, namespace: &Namespace) -> Result<(), MongoError> {
        // A standalone server has no majority and no clock.
        if *self.topology() == Topology::Standalone {
            return Ok(());
        }
        let pong = self.admin("ping").await?;
        let Ok(now) = pong.get_timestamp("operationTime") else { return Ok(()) };
        let read = doc! {
            "find": &namespace.collection,
            // Matches nothing: a read waits for prepared transactions that wrote its documents.
            "filter": { "_id": { "$in": [] } },
            "limit": 1,
            "singleBatch": true,
            "projection": { "_id": 1 },
            "readConcern": { "level": "majority", "afterClusterTime": now },
            "maxTimeMS": MAJORITY_LIMIT.as_millis() as i64,
        };
        let database = self.database(&namespace.database);
        let limit = ReplyLimit::Within(MAJORITY_LIMIT);
        match self.answered("find", &namespace.to_string(), limit, database.run_command(read)).await {
            Ok(_) => Ok(()),
            Err(MongoError::Server { code: TIME_EXPIRED, .. }) => Err(MongoError::MajorityLags {
                hosts: self.hosts().clone(),
                waited: MAJORITY_LIMIT,
                time: ClusterTime { seconds: now.time, increment: now.increment },
            }),
            Err(error) => Err(error),
        }
    }
}
