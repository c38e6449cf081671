//! The servers that the documents of a collection are read from, as of a time.
//!
//! What looking documents up by `_id` and reading them chunk by chunk have in common: which servers there are, whether the
//! collection is still the same on each, and how a server is asked for a time.

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

/// `SnapshotTooOld` and `SnapshotUnavailable` of the server's `error_codes.yml`; and `MaxTimeMSExpired`, where a read at a time has a
/// limit.
const OUT_OF_REACH: [i32; 3] = [239, 246, 50];

/// `NamespaceNotFound`: a transaction of 4.4 says so of a collection that was not there at its time.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// From where on a command outside of a transaction may ask for a time (MongoDB manual, "Read Concern snapshot").
const SNAPSHOT_READS: ReleaseLine = ReleaseLine(5, 0);

/// From where on it is in the oplog that a capped collection loses documents (tried on 4.4.2, 5.0 and 6.0).
const LOGGED_DELETIONS: ReleaseLine = ReleaseLine(5, 0);

/// A collection as it is followed: by UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedCollection {
    /// The name under which documents are read.
    pub namespace: Namespace,
    /// Its UUID on each shard that has it, by the name of the shard's oplog. Two replica sets without a router have two.
    pub uuids: BTreeMap<String, [u8; 16]>,
}

/// As of when documents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAt {
    /// All of them as of this time.
    Exactly(ClusterTime),
    /// As they are now, each at a time of its own that is not before this one. A read waits for the decision of a
    /// transaction that is prepared and has written a document of it, as one [at a time](ReadAt::Exactly) after the prepare entry does.
    NotBefore(ClusterTime),
    /// As a majority has them now, none of them older than this time. What a prepared transaction has written that is not decided
    /// does not count yet, and nothing waits for it.
    Committed(ClusterTime),
}

/// A collection, and as of when it is read.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'r> {
    pub(crate) collection: &'r WatchedCollection,
    pub(crate) at: ReadAt,
}

impl Cluster {
    /// The UUIDs of a collection by the names of the shards' oplogs, as [`WatchedCollection::uuids`]. Behind a router every shard
    /// has the same, whether it has documents of the collection or not.
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

/// The name of the oplog of a replica set; none of a router.
fn shard_of<'o>(deployment: &Deployment, oplogs: &'o [Oplog]) -> Option<&'o str> {
    let same = |oplog: &&Oplog| oplog.deployment().topology() == deployment.topology();
    match deployment.topology() {
        Topology::ReplicaSet { .. } => oplogs.iter().find(same).map(Oplog::name),
        Topology::Standalone | Topology::Router => None,
    }
}

/// All servers that documents are read from, in the order of the URIs.
pub(crate) struct Servers {
    pub(crate) sources: Vec<Source>,
    /// Whether the oplog does not tell what is gone of the collection that was last looked at.
    pub(crate) hides_deletions: bool,
}

impl Servers {
    pub(crate) fn new(cluster: &Cluster, oplogs: &[Oplog]) -> Servers {
        let source = |deployment: &Deployment| {
            let shard = shard_of(deployment, oplogs).map(Arc::from);
            Source { shard, deployment: deployment.clone(), transaction: None, limit: None }
        };
        Servers { sources: cluster.deployments().iter().map(source).collect(), hides_deletions: false }
    }

    /// Gives a read at a time up that takes longer, as if the time were out of reach.
    pub(crate) fn limit(&mut self, limit: Duration) {
        self.sources.iter_mut().for_each(|source| source.limit = Some(limit));
    }

    /// Their names, for showing.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.sources.iter().map(|source| source.shard.as_deref().unwrap_or("router")).collect()
    }

    /// Before anything is read: whether the collection is the one that is meant.
    pub(crate) async fn begin(&mut self, reading: Reading<'_>) -> Result<(), MongoError> {
        let collection = reading.collection;
        self.end_transactions().await;
        self.hides_deletions = self.check_uuids(collection).await?;
        if let ReadAt::Committed(_) = reading.at {
            // A read that names no time may be of what a majority had before.
            for source in &self.sources {
                source.deployment.wait_for_majority(&collection.namespace).await?;
            }
        }
        // A shard that does not have the collection has nothing to give; without any, nobody knows anything.
        if !self.sources.iter().any(|source| source.has(collection)) {
            return Err(self.sources[0].changed(collection));
        }
        Ok(())
    }

    /// Once all is read: whether the collection is still the same, and by when everything was read.
    pub(crate) async fn finish(&self, reading: Reading<'_>) -> Result<ClusterTime, MongoError> {
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

    /// Gives whether the oplog does not tell what is gone of it.
    async fn check_uuids(&self, collection: &WatchedCollection) -> Result<bool, MongoError> {
        let mut hides_deletions = false;
        for source in &self.sources {
            let WatchedCollection { namespace, .. } = collection;
            let found = source.deployment.look_at(&namespace.database, &namespace.collection).await?;
            let is_capped = found.is_some_and(|(_, is_capped)| is_capped);
            hides_deletions |= is_capped && source.deployment.version().line() < LOGGED_DELETIONS;
            // A shard may have come to have the collection: its documents are in entries that are yet to be read.
            if found.and_then(|(uuid, _)| uuid) != source.uuid_of(collection) {
                return Err(source.changed(collection));
            }
        }
        Ok(hides_deletions)
    }

    /// Ends the transactions that reads have begun, so that the servers need not keep their snapshots.
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
pub(crate) struct Source {
    /// The name of its oplog; none of a router, behind which are all shards.
    pub(crate) shard: Option<Arc<str>>,
    deployment: Deployment,
    /// For servers that read at a time in transactions only.
    transaction: Option<SnapshotTransaction>,
    /// How long a read at a time may take.
    limit: Option<Duration>,
}

impl Source {
    /// Whether the collection is there.
    pub(crate) fn has(&self, collection: &WatchedCollection) -> bool {
        self.uuid_of(collection).is_some()
    }

    /// The UUID that a collection must have here: that of the shard; behind a router all shards have the same.
    fn uuid_of(&self, collection: &WatchedCollection) -> Option<[u8; 16]> {
        match &self.shard {
            Some(shard) => collection.uuids.get(&**shard).copied(),
            None => collection.uuids.values().next().copied(),
        }
    }

    /// Whether it reads as of that time in a transaction only: then there is [`Source::first_in_transaction`] and no
    /// [`Source::open`].
    pub(crate) fn needs_transaction(&self, at: ReadAt) -> bool {
        matches!(at, ReadAt::Exactly(_)) && self.deployment.version().line() < SNAPSHOT_READS
    }

    /// The first reply to a cursor command, and no other: whether it closes the cursor is for the caller to see.
    pub(crate) async fn first(&mut self, reading: Reading<'_>, command: RawDocumentBuf) -> Result<Reply, MongoError> {
        if self.needs_transaction(reading.at) {
            return self.first_in_transaction(reading, command).await;
        }
        let mut cursor = self.open(reading, command).await?;
        self.next(reading, &mut cursor).await
    }

    /// Opens a cursor outside of a transaction. The command says nothing of a time.
    pub(crate) async fn open(
        &self,
        reading: Reading<'_>,
        mut command: RawDocumentBuf,
    ) -> Result<RawBatchCursor, MongoError> {
        self.limit_time(&mut command, reading.at);
        command::read_as_of(&mut command, reading.at, None);
        let database = self.deployment.database(&reading.collection.namespace.database);
        self.answered("find", reading, database.run_raw_cursor_command(command).batch()).await
    }

    /// The next reply to a cursor that has not been closed.
    pub(crate) async fn next(&self, reading: Reading<'_>, cursor: &mut RawBatchCursor) -> Result<Reply, MongoError> {
        match self.answered("getMore", reading, cursor.try_next()).await? {
            Some(reply) => self.understand(reply),
            // The reply that closes a cursor is the last; what ends before it has been cut off.
            None => Err(self.malformed(MalformedReply::EndedBefore)),
        }
    }

    /// As [`Source::first`], in the transaction that goes on until [`Servers::end_transactions`]. The driver's cursors do not
    /// go on in a transaction that it does not know of.
    pub(crate) async fn first_in_transaction(
        &mut self,
        reading: Reading<'_>,
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
            Some(reply) => self.understand(reply),
            None => Err(self.malformed(MalformedReply::EndedBefore)),
        }
    }

    fn limit_time(&self, command: &mut RawDocumentBuf, at: ReadAt) {
        if let (Some(limit), ReadAt::Exactly(_)) = (self.limit, at) {
            command.append(cstr!("maxTimeMS"), i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
        }
    }

    fn understand(&self, reply: RawBatch) -> Result<Reply, MongoError> {
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

    /// What is wrong with a command before it is sent.
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
        reading: Reading<'_>,
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
