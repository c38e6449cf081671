//! Statements that must not outlive the future that waits for them.
//!
//! A server does not notice that nobody waits for a statement any more until the statement has ended; an index build of
//! an hour goes on for that hour, and keeps the staging tables locked. So dropping the future cancels the statement.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::connect::{CancelHandle, Session};

/// How long a cancel request may take. It needs a connection of its own.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// Cancel requests on their way.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    sent: Mutex<Vec<JoinHandle<()>>>,
}

impl Cancels {
    /// What cancels whatever runs on these sessions if it is dropped before [`CancelOnDrop::disarm`].
    pub(super) fn on_drop(&self, sessions: &[&Session]) -> CancelOnDrop<'_> {
        CancelOnDrop { cancels: self, handles: sessions.iter().map(|session| session.cancel_handle()).collect() }
    }

    /// Waits until all requests have been sent, or have failed. Says whether there were any.
    pub(super) async fn settle(&self) -> bool {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
        let any = !sent.is_empty();
        join_all(sent).await;
        any
    }
}

/// See [`Cancels::on_drop`].
#[derive(Debug)]
pub(super) struct CancelOnDrop<'c> {
    cancels: &'c Cancels,
    handles: Vec<CancelHandle>,
}

impl CancelOnDrop<'_> {
    /// Nothing runs any more.
    pub(super) fn disarm(mut self) {
        self.handles.clear();
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        // Without a runtime the connections, which live on it, have ended too.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut sent = self.cancels.sent.lock().unwrap_or_else(PoisonError::into_inner);
        for handle in self.handles.drain(..) {
            sent.push(runtime.spawn(async move {
                if !matches!(timeout(CANCEL_TIMEOUT, handle.cancel()).await, Ok(Ok(()))) {
                    tracing::debug!(?handle, "a statement could not be cancelled");
                }
            }));
        }
    }
}
