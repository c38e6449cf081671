//! The stages, joined by channels.
//!
//! ```text
//!   cursors (tokio) ══ranges══▶ flatten + encode (threads) ══parts══▶ sinks (tokio)
//!   source (tokio)  ══batches═▶ infer (threads)
//!   files           ──────────▶ copy (tokio, one connection each)
//! ```
//!
//! `══▶` is a channel of gizer-channel. All cursors share one, and all threads take from it; from there on each thread
//! has a sink of its own, because the parts of a range belong into one transaction, in their order.
//!
//! # Memory
//! `[run] memory` is divided: an eighth for ranges of documents, which are held until they are committed; an eighth for
//! encoded rows in flight; the rest is what the stages hold while they work. Each cursor holds two replies, each thread the rows
//! that it encodes and some buffers, and the allocator what it does not give back. A range, or a document, with more rows than fit
//! goes in parts.
//!
//! The first stage that fails ends the others: its channels close, they stop quietly, and its error is the pipeline's.

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

/// Bytes of documents that a source should give at once, of a budget of `memory` bytes.
pub fn batch_bytes(memory: usize) -> usize {
    (memory / 64).clamp(256 << 10, 4 << 20)
}

/// Bytes of documents that make up a range: one transaction.
///
/// Large enough that the COPY commands of a range's tables do not count, small enough that every worker can have several in flight.
/// The server gives no more than 16 MiB at once.
pub fn range_bytes(memory: usize) -> usize {
    (memory / 32).clamp(256 << 10, 8 << 20)
}

/// Encoded bytes at which a part of a range is sent; most ranges have one part. A buffer that grows doubles, so that this should lie
/// well below a power of two.
fn part_bytes(memory: usize) -> usize {
    (memory / 64 * 3).clamp(512 << 10, 12 << 20)
}

/// Bytes that each of the two channels of a load may hold.
fn share(memory: usize) -> usize {
    memory / 8
}

/// A task has panicked, or was dropped with its runtime.
pub(crate) fn without_result(task: &str, error: &JoinError) -> Failure {
    Failure::failed(format!("a {task} ended without a result: {error}"))
}

/// Runs a stage on a thread of its own; its result comes through the receiver.
fn on_thread<O: Send + 'static>(stage: impl FnOnce() -> O + Send + 'static) -> oneshot::Receiver<O> {
    let (done, output) = oneshot::channel();
    thread::spawn(move || {
        // A pipeline that was dropped waits for nothing.
        let _ = done.send(stage());
    });
    output
}

/// Waits for a stage on a thread.
///
/// # Errors
/// [`Failure`] if the thread panicked.
async fn joined<O>(stage: oneshot::Receiver<O>) -> Result<O, Failure> {
    stage.await.map_err(|_| Failure::failed("a worker thread ended without a result; this is a fault in gizer"))
}
