//! Reads at a time on 4.4, in a transaction.
//!
//! The driver's transactions do not support `atClusterTime`, so the transaction fields (MongoDB's
//! specification "Transactions": `txnNumber`, `startTransaction`, `autocommit`) are written into
//! commands of a driver session, which adds its `lsid`.

use std::sync::atomic::{AtomicI64, Ordering};

use bson::doc;
use futures::StreamExt;
use mongodb::ClientSession;

use crate::connect::Deployment;
use crate::waiting::ReplyLimit;

/// Transaction fields of a command.
pub(super) struct InTransaction {
    pub(super) number: i64,
    pub(super) first: bool,
}

/// The next transaction number. The driver reuses server sessions without knowing the numbers used
/// in them, so numbers are unique in the process.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// A session and its open transaction.
pub(super) struct SnapshotTransaction {
    session: ClientSession,
    number: i64,
    /// Whether the server has seen it.
    begun: bool,
}

impl SnapshotTransaction {
    pub(super) async fn new(deployment: &Deployment) -> Result<SnapshotTransaction, mongodb::error::Error> {
        let session = deployment.client().start_session().causal_consistency(false).await?;
        Ok(SnapshotTransaction { session, number: 0, begun: false })
    }

    /// Makes the next command start a new transaction.
    pub(super) fn renew(&mut self) {
        (self.number, self.begun) = (NEXT.fetch_add(1, Ordering::Relaxed), false);
    }

    /// Fields for the next command.
    pub(super) fn join(&mut self) -> InTransaction {
        let first = !std::mem::replace(&mut self.begun, true);
        InTransaction { number: self.number, first }
    }

    /// Aborts the read-only transaction, so that the server can drop its snapshot; otherwise it
    /// does so after a minute.
    pub(super) async fn end(&mut self, deployment: &Deployment) {
        if !std::mem::replace(&mut self.begun, false) {
            return;
        }
        let command = doc! { "abortTransaction": 1, "txnNumber": self.number, "autocommit": false };
        let admin = deployment.database("admin");
        let end = admin.run_command(command).session(&mut self.session);
        if let Err(error) = deployment.answered("abortTransaction", "admin", ReplyLimit::Short, end).await {
            tracing::debug!(hosts = %deployment.hosts(), %error, "could not end a read-only transaction");
        }
    }

    /// The first reply only; the caller checks whether it closes the cursor.
    pub(super) async fn first_reply(
        &mut self,
        deployment: &Deployment,
        database: &str,
        command: bson::RawDocumentBuf,
    ) -> Result<Option<mongodb::raw_batch_cursor::RawBatch>, mongodb::error::Error> {
        let database = deployment.database(database);
        let mut cursor = database.run_raw_cursor_command(command).session(&mut self.session).batch().await?;
        cursor.stream(&mut self.session).next().await.transpose()
    }
}
