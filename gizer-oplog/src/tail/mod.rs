//! The raw entries of one oplog, from a saved position on.

mod entry;
mod patience;
mod undecided;

use std::fmt;
use std::time::Duration;

use bson::{Document, Timestamp, doc};
use bytes::Bytes;
use futures::TryStreamExt;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::ClusterTime;
use mongodb::options::{CursorType, FindOptions, ReadConcern};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::time::Instant;

pub use entry::RawEntry;
pub(crate) use patience::Patience;

use crate::error::{MalformedReply, MongoError};
use crate::position::OplogPosition;
use crate::position::{CAPPED_POSITION_LOST, Oplog};
use crate::reply::Reply;
use crate::waiting::{ReplyLimit, ReplyWait};

const NAMESPACE: &str = "local.oplog.rs";

/// How an oplog is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailOptions {
    /// How long failures that may pass (an election, a restart, a member that lags) may keep the tail from reading on
    /// before they are given as errors. With zero, each is given at once.
    pub patience: Duration,
    /// How long the server waits for a new entry before it answers that there is none.
    pub wait: Duration,
}

impl Default for TailOptions {
    fn default() -> Self {
        TailOptions { patience: Duration::from_secs(60), wait: Duration::from_secs(1) }
    }
}

/// Entries of an oplog, as one reply of the server.
#[derive(Debug, Clone)]
pub struct OplogBatch {
    documents: DocumentBatch,
    /// Entries at the front that have been given before: the saved one.
    skip: usize,
    position: OplogPosition,
    reached: ClusterTime,
}

impl OplogBatch {
    /// The caller has read each entry, or knows that each can be.
    pub(crate) fn new(
        documents: DocumentBatch,
        skip: usize,
        position: OplogPosition,
        reached: ClusterTime,
    ) -> OplogBatch {
        OplogBatch { documents, skip, position, reached }
    }

    /// One of the entries by its number; `None` if there are not so many. It keeps the batch in memory as long as it lives.
    pub(crate) fn entry(&self, number: usize) -> Option<Bytes> {
        self.documents.share(self.skip + number)
    }

    /// The entries in the oplog's order, which is that of their times.
    pub fn entries(&self) -> impl Iterator<Item = RawEntry<'_>> {
        let read = |document| RawEntry::read(document).expect("all were read when the batch was made");
        self.documents.documents().skip(self.skip).map(read)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.documents.len() - self.skip
    }

    /// Whether there is none: nothing new has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last entry that has been given, in this batch or an earlier one; at first the saved position. Reading can go on
    /// from here.
    pub fn position(&self) -> OplogPosition {
        self.position
    }

    /// Every entry up to and at this time has been given. It may lie after the last entry, where the server has said
    /// that there is nothing in between; it is no position, and reading cannot go on from here.
    pub fn reached(&self) -> ClusterTime {
        self.reached
    }

    /// Bytes of memory that the batch keeps.
    pub fn memory_bytes(&self) -> usize {
        self.documents.memory_bytes()
    }
}

/// One oplog, followed from a saved position on.
///
/// # What it owes
/// * **Complete, in order, once.** Every entry after the saved position that a majority of the members has is given exactly
///   once, in the oplog's order, as it is stored. What is given cannot be rolled back by a fail-over (read concern `majority`).
/// * **Exact resumption.** A cursor that was lost is opened again at the last entry that was given, and only if that
///   entry is still there; it is not given again. That holds for [`OplogBatch::position`] of any run as well.
/// * **Alive.** Where nothing is written, an empty batch comes after [`TailOptions::wait`], and says how far the log is
///   known to have been read.
/// * **Bounded.** A batch is one reply of the server: 16 MiB and one entry at most; nothing is read ahead.
///
/// # What ends it
/// Nothing: a tail is followed until it is dropped. A call may be dropped before it is ready; no entry is lost, and the
/// next call goes on.
///
/// # What an error means
/// The saved position against what the log holds (`docs/architecture/oplog.md`):
///
/// | in the log | error |
/// |---|---|
/// | the first entry at or after the saved time is the saved one, time and term | none: it goes on after it |
/// | the oldest entry is younger | [`MongoError::RolledOver`]: a load is due |
/// | it would lie inside, and is not there or of another term | [`MongoError::Diverged`]: a load is due |
/// | the newest entry is older | [`MongoError::MemberLags`], once patience is over |
///
/// Failures that may pass are tried again with growing pauses until [`TailOptions::patience`] is over. After any error
/// a further call tries to go on from the same place.
pub struct OplogTail {
    oplog: Oplog,
    options: TailOptions,
    position: OplogPosition,
    reached: ClusterTime,
    cursor: Option<RawBatchCursor>,
    /// The `operationTime` of the latest reply of this cursor.
    majority: Option<ClusterTime>,
    /// The reply that is waited for.
    wait: Option<ReplyWait>,
    /// Since when no reply has come, if waits for one have failed.
    silent_since: Option<Instant>,
    /// What came with the check of the position, and has not been asked for yet.
    first: Option<OplogBatch>,
    patience: Patience,
}

impl OplogTail {
    /// Opens the oplog at the saved position and checks that it is there. Entries are given from the one after it on.
    ///
    /// # Errors
    /// See the contract; [`MongoError::NoRights`] if the user may not read the database `local`.
    pub async fn open(oplog: &Oplog, saved: OplogPosition, options: TailOptions) -> Result<OplogTail, MongoError> {
        let mut tail = OplogTail {
            oplog: oplog.clone(),
            options,
            position: saved,
            reached: saved.time,
            cursor: None,
            majority: None,
            wait: None,
            silent_since: None,
            first: None,
            patience: Patience::new(options.patience),
        };
        tail.first = Some(tail.read().await?);
        Ok(tail)
    }

    /// The last entry that has been given: where another tail would go on.
    pub fn position(&self) -> OplogPosition {
        self.position
    }

    /// The oplog's name.
    pub fn shard(&self) -> &str {
        self.oplog.name()
    }

    /// The next entries, or none after [`TailOptions::wait`].
    ///
    /// # Errors
    /// See the contract.
    pub async fn next_batch(&mut self) -> Result<OplogBatch, MongoError> {
        let batch = match self.first.take() {
            Some(first) => first,
            None => self.read().await?,
        };
        (self.position, self.reached) = (batch.position, batch.reached);
        Ok(batch)
    }

    async fn read(&mut self) -> Result<OplogBatch, MongoError> {
        let mut overtaken = false;
        loop {
            match self.step().await {
                Ok(batch) => return Ok(batch),
                // The log has rolled over under the cursor. Whether the position is gone too shows when it is looked for.
                Err(MongoError::Server { code: CAPPED_POSITION_LOST, .. }) if !overtaken => {
                    (self.cursor, overtaken) = (None, true);
                }
                Err(error) => {
                    self.cursor = None;
                    self.patience.pause(self.oplog.name(), error).await?;
                }
            }
        }
    }

    /// Nothing is lost when this is dropped half-way: a cursor that has given nothing is opened anew, and the driver keeps
    /// a request under way in the cursor.
    async fn step(&mut self) -> Result<OplogBatch, MongoError> {
        let Some(cursor) = &mut self.cursor else {
            let (cursor, reply) = self.open_cursor().await?;
            (self.cursor, self.majority) = (Some(cursor), None);
            return self.take(reply, 1);
        };
        let wait = self.wait.get_or_insert_with(|| ReplyWait::new(ReplyLimit::Within(self.options.wait)));
        let deployment = self.oplog.deployment();
        let reply = deployment.answered_in(wait, "getMore", NAMESPACE, cursor.try_next()).await;
        self.note_wait(reply.is_ok());
        let reply = match reply? {
            Some(reply) => reply,
            None => return Err(self.lost("the server closed the cursor")),
        };
        let reply = self.understand(reply, "getMore")?;
        // A position that is found again and again, and then nothing more, is no way forward: only this is.
        self.patience.reset();
        self.take(reply, 0)
    }

    /// A cursor whose first entry is the saved one, and its first reply.
    async fn open_cursor(&mut self) -> Result<(RawBatchCursor, Reply), MongoError> {
        let ClusterTime { seconds, increment } = self.position.time;
        let saved = Timestamp { time: seconds, increment };
        let oplog = self.oplog.deployment().database("local").collection::<Document>("oplog.rs");
        let find = oplog.find(doc! { "ts": { "$gte": saved } }).with_options(self.find_options());
        let open = async {
            let mut cursor = find.batch().await?;
            let reply = cursor.try_next().await?;
            Ok((cursor, reply))
        };
        let silent_since = self.silent_since;
        let wait = self.wait.get_or_insert_with(|| ReplyWait::since(ReplyLimit::Short, silent_since));
        let opened = self.oplog.deployment().answered_in(wait, "find", NAMESPACE, open).await;
        self.note_wait(opened.is_ok());
        let (cursor, reply) = opened?;
        let reply = match reply {
            Some(reply) => reply,
            None => return Err(self.lost("the server gave no reply")),
        };
        let reply = self.understand(reply, "find")?;
        let first = reply.documents.documents().next().map(RawEntry::read);
        match first.transpose().map_err(|found| self.malformed("find", found.into()))? {
            Some(first) if first.position() == self.position => Ok((cursor, reply)),
            Some(first) if first.position().time == self.position.time => Err(self.diverged()),
            Some(_) => Err(self.why_absent().await?),
            None => Err(self.why_nothing().await?),
        }
    }

    /// A wait has ended, with a reply or without.
    fn note_wait(&mut self, came: bool) {
        let began = self.wait.take().map(|wait| wait.began());
        self.silent_since = if came { None } else { self.silent_since.or(began) };
    }

    fn find_options(&self) -> FindOptions {
        let mut find = FindOptions::default();
        find.cursor_type = Some(CursorType::TailableAwait);
        find.max_await_time = Some(self.options.wait);
        // What comes after may hold the tail up for longer than the ten minutes after which the server closes an idle cursor.
        find.no_cursor_timeout = Some(true);
        find.read_concern = Some(ReadConcern::majority());
        find
    }

    /// Why the saved entry is not there, where later ones are. The oldest entry is asked for after the saved one was
    /// looked for: if it is older still, the saved one was never there.
    async fn why_absent(&mut self) -> Result<MongoError, MongoError> {
        let oldest = self.oplog.oldest().await?.time;
        Ok(if oldest > self.position.time {
            MongoError::RolledOver { shard: self.shard().to_owned(), saved: self.position, oldest }
        } else {
            self.diverged()
        })
    }

    /// There is neither the saved entry nor any after it. Where the newest is not older, it has only just come: that
    /// passes too.
    async fn why_nothing(&mut self) -> Result<MongoError, MongoError> {
        let newest = self.oplog.newest().await?.time;
        Ok(MongoError::MemberLags { shard: self.shard().to_owned(), saved: self.position, newest })
    }

    /// How far a reply leads.
    ///
    /// An empty one says that there is nothing up to what a majority had *before* it was asked for, which is what the
    /// reply before it tells. Its own `operationTime` is taken after the server has looked, when there may be more.
    fn take(&mut self, reply: Reply, skip: usize) -> Result<OplogBatch, MongoError> {
        let (mut position, mut reached) = (self.position, self.reached);
        for document in reply.documents.documents().skip(skip) {
            let entry = RawEntry::read(document).map_err(|found| self.malformed("getMore", found.into()))?;
            position = entry.position();
        }
        if reply.documents.is_empty() {
            reached = reached.max(self.majority.unwrap_or_default());
        }
        reached = reached.max(position.time);
        self.majority = reply.operation_time;
        Ok(OplogBatch::new(reply.documents, skip, position, reached))
    }

    fn understand(&self, reply: RawBatch, command: &'static str) -> Result<Reply, MongoError> {
        Reply::read(reply).map_err(|found| self.malformed(command, found))
    }

    fn malformed(&self, command: &'static str, found: MalformedReply) -> MongoError {
        let hosts = self.oplog.deployment().hosts().clone();
        MongoError::MalformedReply { hosts, command, expected: "a cursor with oplog entries", found }
    }

    fn diverged(&self) -> MongoError {
        MongoError::Diverged { shard: self.shard().to_owned(), saved: self.position }
    }

    fn lost(&self, message: &str) -> MongoError {
        let hosts = self.oplog.deployment().hosts().clone();
        MongoError::CursorLost { hosts, namespace: NAMESPACE.to_owned(), message: message.to_owned() }
    }
}

impl fmt::Debug for OplogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OplogTail")
            .field("oplog", &self.oplog)
            .field("position", &self.position)
            .field("open", &self.cursor.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That it compiles is the test: a tail can be followed in a task of its own.
    #[allow(dead_code)]
    fn a_tail_can_be_spawned(oplog: &'static Oplog, tail: &'static mut OplogTail) {
        fn spawnable(_: impl Future + Send) {}
        spawnable(OplogTail::open(oplog, OplogPosition::default(), TailOptions::default()));
        spawnable(tail.next_batch());
    }
}
