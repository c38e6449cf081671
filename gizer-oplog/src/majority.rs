//! Reading what a majority has, and all of it.
//!
//! A copy must not hold what a fail-over may roll back, so documents are read with read concern `majority`. The price is
//! that such a read lags: what was written with `w: 1`, the default up to 4.4, is acknowledged before a majority has
//! it, and somebody who writes and then loads would miss the last documents (seen on 4.4, with a set of one member).
//! So a read first waits until the majority has what the server had when it was asked: `afterClusterTime` (MongoDB
//! manual, "Causal Consistency and Read and Write Concerns").

use std::time::Duration;

use bson::doc;
use gizer_flatten::change::{ClusterTime, Namespace};

use crate::connect::{Deployment, Topology};
use crate::error::MongoError;
use crate::waiting::ReplyLimit;

/// How long a majority may take to get what one member has. Where it never does, as in a set of a primary, an arbiter and a
/// dead secondary, an operator has to know.
const MAJORITY_LIMIT: Duration = Duration::from_secs(10);

/// `MaxTimeMSExpired` of the server's `error_codes.yml`.
const TIME_EXPIRED: i32 = 50;

impl Deployment {
    /// Waits until reads of this collection with read concern `majority` see everything that was acknowledged
    /// before the call.
    ///
    /// # Errors
    /// [`MongoError::MajorityLags`] after 10 seconds; all that can happen to a connection.
    pub(crate) async fn wait_for_majority(&self, namespace: &Namespace) -> Result<(), MongoError> {
        // A standalone server has no majority, no clock, and nothing that could be rolled back.
        if *self.topology() == Topology::Standalone {
            return Ok(());
        }
        let pong = self.admin("ping").await?;
        let Ok(now) = pong.get_timestamp("operationTime") else { return Ok(()) };
        let read = doc! {
            "find": &namespace.collection,
            // Nothing: such a read waits for whoever has a document in a prepared transaction.
            "filter": { "_id": { "$in": [] } },
            "limit": 1,
            "singleBatch": true,
            "projection": { "_id": 1 },
            "readConcern": { "level": "majority", "afterClusterTime": now },
            // The constant fits by far.
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
