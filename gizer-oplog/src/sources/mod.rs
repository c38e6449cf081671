//! Servers that a collection's documents are read from, as of a time.
//!
//! Shared by look-ups and chunks: which servers there are, whether the collection is unchanged on
//! each, and how to read as of a time.

mod command;
mod transaction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::RawDocumentBuf;
use bson::raw::cstr;
use futures::TryStreamExt;
use gizer_flatten::change::{ClusterTime, Namespace};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};

use self::transaction::SnapshotTransaction;
use crate::collections::Collection;
use crate::connect::{Cluster, Deployment, Topology};
use crate::error::{MalformedReply, MongoError};
use crate::position::Oplog;
use crate::reply::Reply;
use crate::version::ReleaseLine;
use crate::waiting::ReplyLimit;

/// `SnapshotTooOld` and `SnapshotUnavailable` of the server's `error_codes.yml`, and
/// `MaxTimeMSExpired` for a limited read at a time.
const OUT_OF_REACH: [i32; 3] = [239, 246, 50];

/// `NamespaceNotFound`: 4.4 reports it for a collection that did not exist at a transaction's time.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// The first release with snapshot reads outside of transactions.
const SNAPSHOT_READS: ReleaseLine = ReleaseLine(5, 0);

/// The first release whose oplog has deletions of capped collections (seen on 4.4.2, 5.0 and 6.0).
const LOGGED_DELETIONS: ReleaseLine = ReleaseLine(5, 0);

/// A collection identified by UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedCollection {
    /// Its current name.
    pub namespace: Namespace,
    /// Its UUID on each shard that has it, by the name of the shard's oplog. Two replica sets
    /// without a router have different ones.
    pub uuids: BTreeMap<String, [u8; 16]>,
}

/// The time as of which documents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAt {
    /// As of exactly this time.
    Exactly(ClusterTime),
    /// As of now, each at its own time but none before this one. A read waits for prepared
    /// transactions that wrote a document of it, as one [at a time](ReadAt::Exactly) after the
    /// prepare entry does.
    NotBefore(ClusterTime),
    /// As committed by a majority now, none older than this time. Undecided prepared transactions
    /// do not count, and nothing waits for them.
    Committed(ClusterTime),
}

/// A collection and its read time.
#[derive(Clone, Copy)]
pub(crate) struct ReadRequest<'r> {
    pub(crate) collection: &'r WatchedCollection,
    pub(crate) at: ReadAt,
}

impl Cluster {
    /// A collection's UUIDs by shard, for [`WatchedCollection::uuids`]. Behind a router every shard
    /// has the same, with or without documents of the collection.
    pub fn uuids(&self, collection: &Collection, oplogs: &[Oplog]) -> BTreeMap<String, [u8; 16]> {
        let mut uuids = BTreeMap::new();
        for (deployment, source) in self.deployments().iter().zip(&collection.sources) {
            let Some(uuid) = source.and_then(|source| source.uuid) else { continue };
            match shard_of(deployment, oplogs) {
                Some(shard) => drop(uuids.insert(shard.to_owned(), uuid)),
                None => uuids.extend(oplogs.iter().map(|oplog| (oplog.name().to_owned(), uuid))),
            }
        }
        uuids
    }
}

/// The oplog of a replica set; `None` for a router.
fn shard_of<'o>(deployment: &Deployment, oplogs: &'o [Oplog]) -> Option<&'o str> {
    let same = |oplog: &&Oplog| oplog.deployment().topology() == deployment.topology();
    match deployment.topology() {
        Topology::ReplicaSet { .. } => oplogs.iter().find(same).map(Oplog::name),
        Topology::Standalone | Topology::Router => None,
    }
}

/// All servers that documents are read from, in URI order.
pub(crate) struct SourceServers {
    pub(crate) sources: Vec<SourceServer>,
    /// Whether the oplog lacks deletions of the latest collection.
    pub(crate) hides_deletions: bool,
}

impl SourceServers {
    pub(crate) fn new(cluster: &Cluster, oplogs: &[Oplog]) -> SourceServers {
        let source = |deployment: &Deployment| {
            let shard = shard_of(deployment, oplogs).map(Arc::from);
            SourceServer { shard, deployment: deployment.clone(), transaction: None, limit: None }
        };
        SourceServers { sources: cluster.deployments().iter().map(source).collect(), hides_deletions: false }
    }

    /// Limits reads at a time.
    pub(crate) fn limit(&mut self, limit: Duration) {
        self.sources.iter_mut().for_each(|source| source.limit = Some(limit));
    }

    /// Their names, for `Debug`.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.sources.iter().map(|source| source.shard.as_deref().unwrap_or("router")).collect()
    }

    /// Before reading: checks that the collection is the expected one.
    pub(crate) async fn begin(&mut self, reading: ReadRequest<'_>) -> Result<(), MongoError> {
        let collection = reading.collection;
        self.end_transactions().await;
        self.hides_deletions = self.check_uuids(collection).await?;
        if let ReadAt::Committed(_) = reading.at {
            // A read without a time may return an earlier majority state.
            for source in &self.sources {
                source.deployment.wait_for_majority(&collection.namespace).await?;
            }
        }
        // A shard without the collection has nothing; if all lack it, that proves nothing.
        if !self.sources.iter().any(|source| source.has(collection)) {
            return Err(self.sources[0].changed(collection));
        }
        Ok(())
    }

    /// After reading: checks the collection again, and gives the time by which all was read.
    pub(crate) async fn finish(&self, reading: ReadRequest<'_>) -> Result<ClusterTime, MongoError> {
        let mut until = match reading.at {
            ReadAt::Exactly(time) | ReadAt::NotBefore(time) | ReadAt::Committed(time) => time,
        };
        if !matches!(reading.at, ReadAt::Exactly(_)) {
            for source in &self.sources {
                until = until.max(source.deployment.latest_time().await?);
            }
        }
        self.check_uuids(reading.collection).await.map(drop)?;
        Ok(until)
    }

    /// Checks the UUIDs; returns whether the oplog lacks deletions.
    async fn check_uuids(&self, collection: &WatchedCollection) -> Result<bool, MongoError> {
        let mut hides_deletions = false;
        for source in &self.sources {
            let WatchedCollection { namespace, .. } = collection;
            let found = source.deployment.uuid_and_capped(&namespace.database, &namespace.collection).await?;
            let is_capped = found.is_some_and(|(_, is_capped)| is_capped);
            hides_deletions |= is_capped && source.deployment.version().line() < LOGGED_DELETIONS;
            // A shard may have got the collection since, with documents in unread entries.
            if found.and_then(|(uuid, _)| uuid) != source.uuid_of(collection) {
                return Err(source.changed(collection));
            }
        }
        Ok(hides_deletions)
    }

    /// Ends the reads' transactions, so that servers can drop their snapshots.
    pub(crate) async fn end_transactions(&mut self) {
        for source in &mut self.sources {
            if let Some(transaction) = &mut source.transaction {
                transaction.end(&source.deployment).await;
                transaction.renew();
            }
        }
    }
}

/// A server that documents are read from.
pub(crate) struct SourceServer {
    /// Name of its oplog; `None` for a router.
    pub(crate) shard: Option<Arc<str>>,
    deployment: Deployment,
    /// For servers that read at a time only in transactions.
    transaction: Option<SnapshotTransaction>,
    /// Limit of a read at a time.
    limit: Option<Duration>,
}

impl SourceServer {
    pub(crate) fn has(&self, collection: &WatchedCollection) -> bool {
        self.uuid_of(collection).is_some()
    }

    /// The UUID that the collection must have here; behind a router all shards have the same.
    fn uuid_of(&self, collection: &WatchedCollection) -> Option<[u8; 16]> {
        match &self.shard {
            Some(shard) => collection.uuids.get(&**shard).copied(),
            None => collection.uuids.values().next().copied(),
        }
    }

    /// Whether it reads at that time only in a transaction: by
    /// [`SourceServer::first_in_transaction`], not [`SourceServer::open`].
    pub(crate) fn needs_transaction(&self, at: ReadAt) -> bool {
        matches!(at, ReadAt::Exactly(_)) && self.deployment.version().line() < SNAPSHOT_READS
    }

    /// The first reply only; the caller checks whether it closes the cursor.
    pub(crate) async fn first(
        &mut self,
        reading: ReadRequest<'_>,
        command: RawDocumentBuf,
    ) -> Result<Reply, MongoError> {
        if self.needs_transaction(reading.at) {
            return self.first_in_transaction(reading, command).await;
        }
        let mut cursor = self.open(reading, command).await?;
        self.next(reading, &mut cursor).await
    }

    /// Opens a cursor outside of a transaction. The command has no read time yet.
    pub(crate) async fn open(
        &self,
        reading: ReadRequest<'_>,
        mut command: RawDocumentBuf,
    ) -> Result<RawBatchCursor, MongoError> {
        self.limit_time(&mut command, reading.at);
        command::read_as_of(&mut command, reading.at, None);
        let database = self.deployment.database(&reading.collection.namespace.database);
        self.answered("find", reading, database.run_raw_cursor_command(command).batch()).await
    }

    /// The next reply of an open cursor.
    pub(crate) async fn next(
        &self,
        reading: ReadRequest<'_>,
        cursor: &mut RawBatchCursor,
    ) -> Result<Reply, MongoError> {
        match self.answered("getMore", reading, cursor.try_next()).await? {
            Some(reply) => self.parse_reply(reply),
            // A stream that ends before the closing reply was cut off.
            None => Err(self.malformed(MalformedReply::EndedBefore)),
        }
    }

    /// As [`SourceServer::first`], in the transaction until [`SourceServers::end_transactions`],
    /// where the driver's cursors do not work.
    pub(crate) async fn first_in_transaction(
        &mut self,
        reading: ReadRequest<'_>,
        mut command: RawDocumentBuf,
    ) -> Result<Reply, MongoError> {
        let mut transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => {
                let mut new = self.answered("find", reading, SnapshotTransaction::new(&self.deployment)).await?;
                new.renew();
                new
            }
        };
        self.limit_time(&mut command, reading.at);
        command::read_as_of(&mut command, reading.at, Some(&transaction.join()));
        let database = &reading.collection.namespace.database;
        let first = transaction.first_reply(&self.deployment, database, command);
        let reply = self.answered("find", reading, first).await;
        self.transaction = Some(transaction);
        match reply? {
            Some(reply) => self.parse_reply(reply),
            None => Err(self.malformed(MalformedReply::EndedBefore)),
        }
    }

    fn limit_time(&self, command: &mut RawDocumentBuf, at: ReadAt) {
        if let (Some(limit), ReadAt::Exactly(_)) = (self.limit, at) {
            command.append(cstr!("maxTimeMS"), i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        }
    }

    fn parse_reply(&self, reply: RawBatch) -> Result<Reply, MongoError> {
        Reply::read(reply).map_err(|found| self.malformed(found))
    }

    pub(crate) fn changed(&self, collection: &WatchedCollection) -> MongoError {
        let hosts = self.deployment.hosts().clone();
        MongoError::CollectionChanged { hosts, namespace: collection.namespace.to_string() }
    }

    pub(crate) fn malformed(&self, found: MalformedReply) -> MongoError {
        let hosts = self.deployment.hosts().clone();
        MongoError::MalformedReply { hosts, command: "find", expected: "a cursor with documents", found }
    }

    /// The error of a command that cannot be built.
    pub(crate) fn unsendable(&self, collection: &WatchedCollection, error: &dyn std::error::Error) -> MongoError {
        MongoError::Driver {
            hosts: self.deployment.hosts().clone(),
            command: "find",
            namespace: collection.namespace.to_string(),
            message: error.to_string(),
        }
    }

    async fn answered<T>(
        &self,
        command: &'static str,
        reading: ReadRequest<'_>,
        work: impl IntoFuture<Output = Result<T, mongodb::error::Error>>,
    ) -> Result<T, MongoError> {
        let namespace = reading.collection.namespace.to_string();
        let answer = self.deployment.answered(command, &namespace, ReplyLimit::Short, work).await;
        answer.map_err(|error| match (error, reading.at) {
            (MongoError::Server { code, message, .. }, ReadAt::Exactly(at)) if OUT_OF_REACH.contains(&code) => {
                MongoError::TimeOutOfReach { namespace, at, message }
            }
            (MongoError::Server { code: NAMESPACE_NOT_FOUND, .. }, _) => self.changed(reading.collection),
            (error, _) => error,
        })
    }
}
