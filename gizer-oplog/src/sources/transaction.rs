//! Reading at a time on 4.4: in a transaction.
//!
//! The driver's own transactions take no `atClusterTime`, so the fields of a transaction (MongoDB's specification
//! "Transactions": `txnNumber`, `startTransaction`, `autocommit`) are written by hand into commands of a session of the driver, which
//! adds its `lsid`.

use std::sync::atomic::{AtomicI64, Ordering};

use bson::doc;
use futures::StreamExt;
use mongodb::ClientSession;

use crate::connect::Deployment;
use crate::waiting::ReplyLimit;

/// The part of a command that makes it one of a transaction.
pub(super) struct InTransaction {
    pub(super) number: i64,
    pub(super) first: bool,
}

/// The number of the next transaction. The driver hands the sessions of the server out again that were given back, and knows nothing
/// of the numbers that were used in them: none of the process may come twice.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// A session, and the transaction that is open in it.
pub(super) struct SnapshotTransaction {
    session: ClientSession,
    number: i64,
    /// Whether the server knows of it.
    begun: bool,
}

impl SnapshotTransaction {
    pub(super) async fn new(deployment: &Deployment) -> Result<SnapshotTransaction, mongodb::error::Error> {
        let session = deployment.client().start_session().causal_consistency(false).await?;
        Ok(SnapshotTransaction { session, number: 0, begun: false })
    }

    /// The next command is the first of a new transaction.
    pub(super) fn renew(&mut self) {
        (self.number, self.begun) = (NEXT.fetch_add(1, Ordering::Relaxed), false);
    }

    /// What the next command says.
    pub(super) fn join(&mut self) -> InTransaction {
        let first = !std::mem::replace(&mut self.begun, true);
        InTransaction { number: self.number, first }
    }

    /// Ends the transaction, so that the server need not keep its snapshot. It has only read: if this fails, the server ends it
    /// after a minute.
    pub(super) async fn end(&mut self, deployment: &Deployment) {
        if !std::mem::replace(&mut self.begun, false) {
            return;
        }
        let command = doc! { "abortTransaction": 1, "txnNumber": self.number, "autocommit": false };
        let admin = deployment.database("admin");
        let end = admin.run_command(command).session(&mut self.session);
        if let Err(error) = deployment.answered("abortTransaction", "admin", ReplyLimit::Short, end).await {
            tracing::debug!(hosts = %deployment.hosts(), %error, "a transaction that has only read was not ended");
        }
    }

    /// The first reply to a cursor command, and no other: whether it closes the cursor is for the caller to see.
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
