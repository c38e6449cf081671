//! Byte-bounded channels between the stages of gizer, and the one bridge between tokio and worker threads.
//!
//! Readers and writers of sockets run on tokio; flattening and encoding run on plain threads. Between them stand two
//! kinds of channel, and both are bounded by the **bytes** of what they carry, so that peak memory is a setting and
//! not a consequence of the data:
//!
//! * [`to_threads`]: an async sender, receivers on threads (any number of them share the work);
//! * [`to_tokio`]: senders on threads, an async receiver (any number of them share the work).
//!
//! What is received is [`Held`]: its bytes count against the [`Budget`] until it is dropped, not only while it waits
//! in the queue. An item larger than the whole budget passes alone.
//!
//! A stage holds what it received while it waits for bytes for what it sends: two channels in a row therefore need a
//! budget each, or the first could take all and the second wait for ever.
//!
//! # Ends
//! A stream ends when all senders are dropped and the queue is empty: `recv` then gives `None`. When all receivers
//! are dropped, `send` fails with [`Closed`] and gives the item back; a stage that meets it stops quietly, because the
//! stage after it has failed and reports why.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Bytes per semaphore permit: permits are 32-bit, budgets need not be.
const BYTES_PER_PERMIT: usize = 1024;

/// A number of bytes that may be in use at once, shared by everything that draws on it.
#[derive(Debug, Clone)]
pub struct Budget {
    permits: Arc<Semaphore>,
    capacity: u32,
}

impl Budget {
    /// A budget of `bytes`, rounded up to whole KiB; at least one.
    pub fn new(bytes: usize) -> Budget {
        let capacity = u32::try_from(bytes.div_ceil(BYTES_PER_PERMIT)).unwrap_or(u32::MAX).max(1);
        let capacity = capacity.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Budget { permits: Arc::new(Semaphore::new(capacity as usize)), capacity }
    }

    /// Bytes that are free right now.
    pub fn available(&self) -> usize {
        self.permits.available_permits() * BYTES_PER_PERMIT
    }

    /// Waits until `bytes` are free and takes them; more than the whole budget takes the whole budget.
    pub async fn take(&self, bytes: usize) -> Lease {
        let wanted = u32::try_from(bytes.div_ceil(BYTES_PER_PERMIT)).unwrap_or(u32::MAX).min(self.capacity);
        let permit = Arc::clone(&self.permits).acquire_many_owned(wanted).await;
        Lease { _permit: permit.expect("the semaphore of a budget is never closed") }
    }
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub struct Lease {
    _permit: OwnedSemaphorePermit,
}

/// A received item, whose bytes count against the budget until it is dropped.
#[derive(Debug)]
pub struct Held<T> {
    item: T,
    lease: Lease,
}

impl<T> Held<T> {
    /// The item and what it holds of the budget, apart.
    pub fn into_parts(self) -> (T, Lease) {
        (self.item, self.lease)
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.item
    }
}

/// All receivers are gone; the item that could not be sent is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

/// A channel from tokio to threads.
pub fn to_threads<T: Send>(budget: &Budget) -> (AsyncSender<T>, ThreadReceiver<T>) {
    let (queue, items) = crossbeam_channel::unbounded();
    let receivers = Arc::new(Receivers::default());
    (
        AsyncSender { queue, budget: budget.clone(), receivers: Arc::clone(&receivers) },
        ThreadReceiver { items, _alive: Alive::one(receivers) },
    )
}

/// A channel from threads to tokio.
pub fn to_tokio<T: Send>(budget: &Budget) -> (ThreadSender<T>, AsyncReceiver<T>) {
    let (queue, items) = tokio::sync::mpsc::unbounded_channel();
    let receivers = Arc::new(Receivers::default());
    (
        ThreadSender { queue, budget: budget.clone(), receivers: Arc::clone(&receivers) },
        AsyncReceiver { items: Arc::new(tokio::sync::Mutex::new(items)), _alive: Alive::one(receivers) },
    )
}

/// Whether somebody still receives; a sender that waits for bytes must learn when nobody does.
#[derive(Debug, Default)]
struct Receivers {
    count: AtomicUsize,
    gone: Notify,
}

impl Receivers {
    fn none_left(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Waits for `lease`, or for the last receiver to go.
    async fn unless_gone(&self, lease: impl Future<Output = Lease>) -> Option<Lease> {
        let gone = self.gone.notified();
        tokio::pin!(gone);
        gone.as_mut().enable();
        if self.none_left() {
            return None;
        }
        tokio::select! {
            biased;
            () = gone => None,
            lease = lease => Some(lease),
        }
    }
}

#[derive(Debug)]
struct Alive(Arc<Receivers>);

impl Alive {
    fn one(receivers: Arc<Receivers>) -> Alive {
        receivers.count.fetch_add(1, Ordering::AcqRel);
        Alive(receivers)
    }
}

impl Clone for Alive {
    fn clone(&self) -> Self {
        Alive::one(Arc::clone(&self.0))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.gone.notify_waiters();
        }
    }
}

/// Sends from tokio to threads.
#[derive(Debug)]
pub struct AsyncSender<T> {
    queue: crossbeam_channel::Sender<Held<T>>,
    budget: Budget,
    receivers: Arc<Receivers>,
}

impl<T> Clone for AsyncSender<T> {
    fn clone(&self) -> Self {
        AsyncSender { queue: self.queue.clone(), budget: self.budget.clone(), receivers: Arc::clone(&self.receivers) }
    }
}

impl<T: Send> AsyncSender<T> {
    /// Waits until `bytes` are free in the budget, then queues the item.
    ///
    /// # Errors
    /// [`Closed`] with the item if all receivers are gone.
    pub async fn send(&self, item: T, bytes: usize) -> Result<(), Closed<T>> {
        let Some(lease) = self.receivers.unless_gone(self.budget.take(bytes)).await else {
            return Err(Closed(item));
        };
        self.queue.send(Held { item, lease }).map_err(|refused| Closed(refused.0.item))
    }
}

/// Receives on threads; clones share the work.
#[derive(Debug, Clone)]
pub struct ThreadReceiver<T> {
    items: crossbeam_channel::Receiver<Held<T>>,
    _alive: Alive,
}

impl<T> ThreadReceiver<T> {
    /// Blocks until there is an item; `None` once all senders are dropped and nothing is left.
    pub fn recv(&self) -> Option<Held<T>> {
        self.items.recv().ok()
    }
}

/// Sends from threads to tokio.
#[derive(Debug)]
pub struct ThreadSender<T> {
    queue: tokio::sync::mpsc::UnboundedSender<Held<T>>,
    budget: Budget,
    receivers: Arc<Receivers>,
}

impl<T> Clone for ThreadSender<T> {
    fn clone(&self) -> Self {
        ThreadSender { queue: self.queue.clone(), budget: self.budget.clone(), receivers: Arc::clone(&self.receivers) }
    }
}

impl<T: Send> ThreadSender<T> {
    /// Blocks until `bytes` are free in the budget, then queues the item. Not for threads of a tokio runtime.
    ///
    /// # Errors
    /// [`Closed`] with the item if all receivers are gone.
    pub fn send(&self, item: T, bytes: usize) -> Result<(), Closed<T>> {
        let lease = futures::executor::block_on(self.receivers.unless_gone(self.budget.take(bytes)));
        let Some(lease) = lease else { return Err(Closed(item)) };
        self.queue.send(Held { item, lease }).map_err(|refused| Closed(refused.0.item))
    }
}

/// Receives on tokio; clones share the work.
#[derive(Debug)]
pub struct AsyncReceiver<T> {
    items: Arc<tokio::sync::Mutex<tokio::sync::mpsc::UnboundedReceiver<Held<T>>>>,
    _alive: Alive,
}

impl<T> Clone for AsyncReceiver<T> {
    fn clone(&self) -> Self {
        AsyncReceiver { items: Arc::clone(&self.items), _alive: self._alive.clone() }
    }
}

impl<T> AsyncReceiver<T> {
    /// Waits until there is an item; `None` once all senders are dropped and nothing is left. Cancelling loses none.
    pub async fn recv(&self) -> Option<Held<T>> {
        self.items.lock().await.recv().await
    }
}

#[cfg(test)]
mod tests;
