//! Follows one oplog's raw entries from a saved position.

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

/// Options of a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailOptions {
    /// How long transient failures (elections, restarts, lagging members) are retried before they
    /// are returned. Zero returns them at once.
    pub patience: Duration,
    /// How long the server waits for new entries before an empty reply.
    pub wait: Duration,
}

impl Default for TailOptions {
    fn default() -> Self {
        TailOptions { patience: Duration::from_secs(60), wait: Duration::from_secs(1) }
    }
}

/// Entries of an oplog: one server reply.
#[derive(Debug, Clone)]
pub struct OplogBatch {
    documents: DocumentBatch,
    /// Leading entries given before: the saved one.
    skip: usize,
    position: OplogPosition,
    reached: ClusterTime,
}

impl OplogBatch {
    /// The caller has checked that each entry can be read.
    pub(crate) fn new(
        documents: DocumentBatch,
        skip: usize,
        position: OplogPosition,
        reached: ClusterTime,
    ) -> OplogBatch {
        OplogBatch { documents, skip, position, reached }
    }

    /// An entry by index; `None` past the end. It keeps the batch in memory while it lives.
    pub(crate) fn entry(&self, number: usize) -> Option<Bytes> {
        self.documents.share(self.skip + number)
    }

    /// The entries in oplog order, which is by time.
    pub fn entries(&self) -> impl Iterator<Item = RawEntry<'_>> {
        let read = |document| RawEntry::read(document).expect("all were read when the batch was made");
        self.documents.documents().skip(self.skip).map(read)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.documents.len() - self.skip
    }

    /// Whether nothing new was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last entry given so far; at first the saved position. Reading can resume here.
    pub fn position(&self) -> OplogPosition {
        self.position
    }

    /// Every entry up to and at this time has been given. It may be later than the last entry,
    /// where the server reported nothing in between; reading cannot resume here.
    pub fn reached(&self) -> ClusterTime {
        self.reached
    }

    /// Memory of the batch in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.documents.memory_bytes()
    }
}

/// An oplog followed from a saved position.
///
/// # What it owes
/// * **Complete, ordered, once.** Every entry after the saved position that a majority has is given
///   exactly once, in oplog order, as stored. No fail-over rolls it back (read concern `majority`).
/// * **Exact resumption.** A lost cursor is reopened at the last entry given, if that is still
///   there, and the entry is not repeated. The same holds for [`OplogBatch::position`] of any run.
/// * **Live.** Without writes an empty batch comes after [`TailOptions::wait`], and reports how far
///   the log has been read.
/// * **Bounded.** A batch is one server reply: at most 16 MiB and one entry; nothing is read ahead.
///
/// # What ends it
/// Nothing: a tail is followed until it is dropped. Calls are cancel-safe.
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
/// Transient failures are retried with growing pauses for [`TailOptions::patience`]. After any
/// error a further call resumes at the same place.
pub struct OplogTail {
    oplog: Oplog,
    options: TailOptions,
    position: OplogPosition,
    reached: ClusterTime,
    cursor: Option<RawBatchCursor>,
    /// The `operationTime` of the latest reply of this cursor.
    majority: Option<ClusterTime>,
    wait: Option<ReplyWait>,
    /// When waits began to fail, if they have.
    silent_since: Option<Instant>,
    /// The batch read with the position check, until it is asked for.
    first: Option<OplogBatch>,
    patience: Patience,
}

impl OplogTail {
    /// Opens the oplog and checks the saved position. Entries after it are given.
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

    /// The last entry given: where another tail would resume.
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
        loop {
            match self.step().await {
                Ok(batch) => return Ok(batch),
                // The log rolled over under the cursor, or where it was to open. Reopening checks the position.
                Err(MongoError::Server { code: CAPPED_POSITION_LOST, .. }) => {
                    self.cursor = None;
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    self.cursor = None;
                    self.patience.pause(self.oplog.name(), error).await?;
                }
            }
        }
    }

    /// Cancel-safe: a fresh cursor is reopened, the driver keeps a pending request.
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
        let reply = self.parse_reply(reply, "getMore")?;
        // Only a reply is progress; finding the position again is not.
        self.patience.reset();
        self.take(reply, 0)
    }

    /// Opens a cursor whose first entry is the saved one; returns its first reply too.
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
        let reply = self.parse_reply(reply, "find")?;
        let first = reply.documents.documents().next().map(RawEntry::read);
        match first.transpose().map_err(|found| self.malformed("find", found.into()))? {
            Some(first) if first.position() == self.position => Ok((cursor, reply)),
            Some(first) if first.position().time == self.position.time => Err(self.diverged()),
            Some(_) => Err(self.explain_missing().await?),
            None => Err(self.explain_empty().await?),
        }
    }

    /// Records the end of a wait.
    fn note_wait(&mut self, came: bool) {
        let began = self.wait.take().map(|wait| wait.began());
        self.silent_since = if came { None } else { self.silent_since.or(began) };
    }

    fn find_options(&self) -> FindOptions {
        let mut find = FindOptions::default();
        find.cursor_type = Some(CursorType::TailableAwait);
        find.max_await_time = Some(self.options.wait);
        // Downstream may stall the tail beyond the server's cursor timeout of ten minutes.
        find.no_cursor_timeout = Some(true);
        find.read_concern = Some(ReadConcern::majority());
        find
    }

    /// Explains why the saved entry is missing while later ones exist. The oldest entry is read
    /// after the saved one was looked for: if it is older, the saved one was never there.
    async fn explain_missing(&mut self) -> Result<MongoError, MongoError> {
        let oldest = self.oplog.oldest().await?.time;
        Ok(if oldest > self.position.time {
            MongoError::RolledOver { shard: self.shard().to_owned(), saved: self.position, oldest }
        } else {
            self.diverged()
        })
    }

    /// Explains why neither the saved entry nor any later one exists. If the newest is not older,
    /// it has only just arrived: transient too.
    async fn explain_empty(&mut self) -> Result<MongoError, MongoError> {
        let newest = self.oplog.newest().await?.time;
        Ok(MongoError::MemberLags { shard: self.shard().to_owned(), saved: self.position, newest })
    }

    /// Turns a reply into a batch with its progress.
    ///
    /// An empty reply covers what the majority had *before* the request, which the previous reply
    /// tells. Its own `operationTime` is taken after the server looked, when there may be more.
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

    fn parse_reply(&self, reply: RawBatch, command: &'static str) -> Result<Reply, MongoError> {
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
