//! Look-ups on the servers that documents are read from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::ClusterTime;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};

use super::queue::Queue;
use super::transaction::SnapshotTransaction;
use super::{LookUp, ReadAt, WantedId, WatchedCollection, command};
use crate::collections::Collection;
use crate::connect::{Cluster, Deployment, Topology};
use crate::error::{MalformedReply, MongoError};
use crate::position::Oplog;
use crate::reply::Reply;
use crate::version::ReleaseLine;

/// `SnapshotTooOld` and `SnapshotUnavailable` of the server's `error_codes.yml`.
const OUT_OF_REACH: [i32; 2] = [239, 246];

/// `NamespaceNotFound`: a transaction of 4.4 says so of a collection that was not there at its time.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// From where on a command outside of a transaction may ask for a time (MongoDB manual, "Read Concern snapshot").
const SNAPSHOT_READS: ReleaseLine = ReleaseLine(5, 0);

/// Looks documents up on every server that they are read from.
pub struct ClusterLookUp {
    servers: Servers,
    /// Of the look-up under way.
    job: Option<Job>,
    read_until: ClusterTime,
}

struct Servers {
    sources: Vec<Source>,
}

struct Source {
    /// The name of its oplog; none of a router, behind which are all shards.
    shard: Option<Arc<str>>,
    deployment: Deployment,
    /// For servers that read at a time in transactions only.
    transaction: Option<SnapshotTransaction>,
}

struct Job {
    collection: WatchedCollection,
    at: ReadAt,
    queue: Queue,
    cursor: Option<(usize, RawBatchCursor)>,
    /// Ids whose documents did not fit into one reply of a transaction.
    halves: Vec<(usize, Vec<Bytes>)>,
}

impl Cluster {
    /// Looks documents up where this cluster reads them. `oplogs` are its oplogs, after which the shards are named.
    pub fn look_up(&self, oplogs: &[Oplog]) -> ClusterLookUp {
        let source = |deployment: &Deployment| {
            let shard = shard_of(deployment, oplogs).map(Arc::from);
            Source { shard, deployment: deployment.clone(), transaction: None }
        };
        let sources = self.deployments().iter().map(source).collect();
        ClusterLookUp { servers: Servers { sources }, job: None, read_until: ClusterTime::default() }
    }

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

impl WatchedCollection {
    /// The UUID that it must have on a source: that of the shard; behind a router all shards have the same.
    fn uuid_on(&self, source: &Source) -> Option<[u8; 16]> {
        match &source.shard {
            Some(shard) => self.uuids.get(&**shard).copied(),
            None => self.uuids.values().next().copied(),
        }
    }
}

impl LookUp for ClusterLookUp {
    async fn begin(
        &mut self,
        collection: &WatchedCollection,
        ids: Vec<WantedId>,
        at: ReadAt,
    ) -> Result<(), MongoError> {
        self.job = None;
        self.servers.end_transactions().await;
        self.servers.check_uuids(collection).await?;
        let queue = self.servers.queue(collection, ids)?;
        self.job = Some(Job { collection: collection.clone(), at, queue, cursor: None, halves: Vec::new() });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<DocumentBatch>, MongoError> {
        let Some(mut job) = self.job.take() else { return Ok(None) };
        let step = self.servers.step(&mut job).await;
        if let Ok(Some(documents)) = step {
            job.queue.found(&documents);
            self.job = Some(job);
            return Ok(Some(documents));
        }
        let Job { collection, at, .. } = job;
        self.servers.end_transactions().await;
        step?;
        self.read_until = self.servers.finish(&collection, at).await?;
        Ok(None)
    }

    fn read_until(&self) -> ClusterTime {
        self.read_until
    }
}

impl Servers {
    /// The ids by the server that is to be asked for them.
    fn queue(&self, collection: &WatchedCollection, ids: Vec<WantedId>) -> Result<Queue, MongoError> {
        // A shard that does not have the collection has nothing to give; without any, nobody knows anything.
        if !self.sources.iter().any(|source| collection.uuid_on(source).is_some()) {
            return Err(changed(&self.sources[0], collection));
        }
        Ok(Queue::new(self.sources.iter().map(|source| source.shard.clone()).collect(), ids))
    }

    /// The next documents of a job, empty replies passed over.
    async fn step(&mut self, job: &mut Job) -> Result<Option<DocumentBatch>, MongoError> {
        loop {
            if let Some((source, cursor)) = &mut job.cursor {
                let source = &self.sources[*source];
                match cursor.next().await {
                    Some(Ok(reply)) => {
                        let reply = understand(source, reply)?;
                        if reply.closes_cursor {
                            job.cursor = None;
                        }
                        if !reply.documents.is_empty() {
                            return Ok(Some(reply.documents));
                        }
                        continue;
                    }
                    Some(Err(error)) => return Err(explain(source, &error, "getMore", job)),
                    // The reply that closes a cursor is the last; what ends before it has been cut off.
                    None => return Err(malformed(source, MalformedReply::EndedBefore)),
                }
            }
            let Some((source, ids)) = job.halves.pop().or_else(|| job.queue.next()) else { return Ok(None) };
            if job.collection.uuid_on(&self.sources[source]).is_none() {
                continue;
            }
            if let Some(documents) = self.ask(job, source, ids).await? {
                return Ok(Some(documents));
            }
        }
    }

    /// Asks for these ids: opens a cursor or, in a transaction, gives what fits into one reply.
    async fn ask(&mut self, job: &mut Job, at: usize, ids: Vec<Bytes>) -> Result<Option<DocumentBatch>, MongoError> {
        let source = &mut self.sources[at];
        let exact = matches!(job.at, ReadAt::Exactly(_));
        if exact && source.deployment.version().line() < SNAPSHOT_READS {
            return self.ask_in_transaction(job, at, ids).await;
        }
        let command = command(&self.sources[at], job, &ids, None)?;
        let source = &self.sources[at];
        let database = source.deployment.database(&job.collection.namespace.database);
        let cursor = database.run_raw_cursor_command(command).batch().await;
        job.cursor = Some((at, cursor.map_err(|error| explain(source, &error, "find", job))?));
        Ok(None)
    }

    /// The driver's cursors do not go on in a transaction that it does not know of. So whatever does not fit into one
    /// reply is asked for in two halves; one document always fits.
    async fn ask_in_transaction(
        &mut self,
        job: &mut Job,
        at: usize,
        ids: Vec<Bytes>,
    ) -> Result<Option<DocumentBatch>, MongoError> {
        let mut transaction = match self.sources[at].transaction.take() {
            Some(transaction) => transaction,
            None => {
                let begun = SnapshotTransaction::new(&self.sources[at].deployment).await;
                let mut new = begun.map_err(|error| explain(&self.sources[at], &error, "find", job))?;
                new.renew();
                new
            }
        };
        let source = &self.sources[at];
        let command = command(source, job, &ids, Some(&transaction.join()))?;
        let database = &job.collection.namespace.database;
        let reply = transaction.first_reply(&source.deployment, database, command).await;
        let reply = match reply {
            Ok(reply) => reply.ok_or_else(|| malformed(source, MalformedReply::EndedBefore)),
            Err(error) => Err(explain(source, &error, "find", job)),
        };
        let reply = reply.and_then(|reply| understand(source, reply));
        self.sources[at].transaction = Some(transaction);
        let reply = reply?;
        if reply.closes_cursor || ids.len() == 1 {
            return Ok(Some(reply.documents).filter(|documents| !documents.is_empty()));
        }
        let mut ids = ids;
        let half = ids.split_off(ids.len() / 2);
        job.halves.extend([(at, half), (at, ids)]);
        Ok(None)
    }

    /// Whether the collection is still the same, and by when everything was read.
    async fn finish(&self, collection: &WatchedCollection, at: ReadAt) -> Result<ClusterTime, MongoError> {
        let mut until = match at {
            ReadAt::Exactly(time) | ReadAt::NotBefore(time) => time,
        };
        if matches!(at, ReadAt::NotBefore(_)) {
            for source in &self.sources {
                until = until.max(source.deployment.latest_time().await?);
            }
        }
        self.check_uuids(collection).await?;
        Ok(until)
    }

    async fn check_uuids(&self, collection: &WatchedCollection) -> Result<(), MongoError> {
        for source in &self.sources {
            let WatchedCollection { namespace, .. } = collection;
            let found = source.deployment.uuid_of(&namespace.database, &namespace.collection).await?;
            // A shard may have come to have the collection: its documents are in entries that are yet to be read.
            if found != collection.uuid_on(source) {
                return Err(changed(source, collection));
            }
        }
        Ok(())
    }

    async fn end_transactions(&mut self) {
        for source in &mut self.sources {
            if let Some(transaction) = &mut source.transaction {
                transaction.end(&source.deployment).await;
                transaction.renew();
            }
        }
    }
}

fn changed(source: &Source, collection: &WatchedCollection) -> MongoError {
    let hosts = source.deployment.hosts().clone();
    MongoError::CollectionChanged { hosts, namespace: collection.namespace.to_string() }
}

fn understand(source: &Source, reply: RawBatch) -> Result<Reply, MongoError> {
    Reply::read(reply).map_err(|found| malformed(source, found))
}

fn malformed(source: &Source, found: MalformedReply) -> MongoError {
    let hosts = source.deployment.hosts().clone();
    MongoError::MalformedReply { hosts, command: "find", expected: "a cursor with documents", found }
}

fn explain(source: &Source, error: &mongodb::error::Error, command: &'static str, job: &Job) -> MongoError {
    let namespace = job.collection.namespace.to_string();
    match (source.deployment.explain(error, command, &namespace), job.at) {
        (MongoError::Server { code, message, .. }, ReadAt::Exactly(at)) if OUT_OF_REACH.contains(&code) => {
            MongoError::TimeOutOfReach { namespace, at, message }
        }
        (MongoError::Server { code: NAMESPACE_NOT_FOUND, .. }, _) => changed(source, &job.collection),
        (error, _) => error,
    }
}

fn command(
    source: &Source,
    job: &Job,
    ids: &[Bytes],
    transaction: Option<&command::InTransaction>,
) -> Result<bson::RawDocumentBuf, MongoError> {
    let WatchedCollection { namespace, .. } = &job.collection;
    command::find(&namespace.collection, ids, job.at, transaction).map_err(|error| MongoError::Driver {
        hosts: source.deployment.hosts().clone(),
        command: "find",
        namespace: namespace.to_string(),
        message: error.to_string(),
    })
}

impl fmt::Debug for ClusterLookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            self.servers.sources.iter().map(|source| source.shard.as_deref().unwrap_or("router")).collect();
        f.debug_struct("ClusterLookUp").field("sources", &names).field("under_way", &self.job.is_some()).finish()
    }
}
