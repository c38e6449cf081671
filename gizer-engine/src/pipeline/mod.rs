//! The stages, joined by channels.
//!
//! ```text
//!   cursors (tokio) ══ranges══▶ flatten + encode (threads) ══parts══▶ sinks (tokio)
//!   source (tokio)  ══batches═▶ infer (threads)
//!   files           ──────────▶ copy (tokio, one connection each)
//! ```
//!
//! `══▶` is a channel of gizer-channel. All cursors share one that all threads take from; each
//! thread has its own sink, because the parts of a range belong in one transaction, in order.
//!
//! # Memory
//! `[run] memory` is divided: an eighth for ranges of documents, held until they are committed; an
//! eighth for encoded rows in flight; the rest for the stages themselves: two replies per cursor,
//! rows and buffers per thread, and what the allocator keeps. A range or document with more rows
//! than fit is sent in parts.
//!
//! The first failing stage closes its channels; the others stop, and its error is the result.

mod copy;
mod encode;
mod infer;
mod load;
mod reject_limit;
mod write;

use std::thread;

use tokio::sync::oneshot;
use tokio::task::JoinError;

use crate::failure::Failure;

pub use copy::copy;
pub use infer::infer;
pub use load::{Flow, load};
pub use reject_limit::RejectLimit;

/// Bytes per batch of a source.
pub fn batch_bytes(memory: usize) -> usize {
    (memory / 64).clamp(256 << 10, 4 << 20)
}

/// Bytes of documents in a range: one transaction.
///
/// Large enough to hide the cost of COPY commands, small enough for several in flight per worker.
/// The server gives at most 16 MiB at once.
pub fn range_bytes(memory: usize) -> usize {
    (memory / 32).clamp(256 << 10, 8 << 20)
}

/// Encoded bytes per part, well below a power of two: a growing buffer doubles.
fn part_bytes(memory: usize) -> usize {
    (memory / 64 * 3).clamp(512 << 10, 12 << 20)
}

/// Bytes in each of a load's two channels.
fn share(memory: usize) -> usize {
    memory / 8
}

/// The failure of a task that panicked, or was dropped with its runtime.
pub(crate) fn without_result(task: &str, error: &JoinError) -> Failure {
    Failure::failed(format!("a {task} ended without a result: {error}"))
}

/// Runs a stage on its own thread; its result comes through the receiver.
fn on_thread<O: Send + 'static>(stage: impl FnOnce() -> O + Send + 'static) -> oneshot::Receiver<O> {
    let (done, output) = oneshot::channel();
    thread::spawn(move || {
        // The pipeline may have been dropped.
        let _ = done.send(stage());
    });
    output
}

/// Waits for a stage on a thread.
///
/// # Errors
/// [`Failure`] if the thread panicked.
async fn joined<O>(stage: oneshot::Receiver<O>) -> Result<O, Failure> {
    stage.await.map_err(|_| Failure::failed("a worker thread ended without a result; this is a bug in gizer"))
}
