//! Look-ups on all servers.

use std::fmt;
use std::time::Duration;

use bson::RawDocumentBuf;
use bytes::Bytes;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::ClusterTime;
use mongodb::raw_batch_cursor::RawBatchCursor;

use super::queue::Queue;
use super::{LookUp, WantedId, command};
use crate::connect::Cluster;
use crate::error::MongoError;
use crate::position::Oplog;
use crate::sources::{ReadAt, ReadRequest, SourceServers, WatchedCollection};

/// Looks up documents on every server.
pub struct ClusterLookUp {
    servers: SourceServers,
    ids_only: bool,
    /// The look-up in progress.
    job: Option<LookUpJob>,
    read_until: ClusterTime,
}

struct LookUpJob {
    collection: WatchedCollection,
    at: ReadAt,
    ids_only: bool,
    queue: Queue,
    cursor: Option<(usize, RawBatchCursor)>,
    /// Ids whose documents exceeded one reply of a transaction.
    halves: Vec<(usize, Vec<Bytes>)>,
}

impl Cluster {
    /// Looks up documents where this cluster reads them. `oplogs` name the shards.
    pub fn look_up(&self, oplogs: &[Oplog]) -> ClusterLookUp {
        let servers = SourceServers::new(self, oplogs);
        ClusterLookUp { servers, ids_only: false, job: None, read_until: ClusterTime::default() }
    }
}

impl ClusterLookUp {
    /// Reads only `_id`s: from the index, except under a collation.
    #[must_use]
    pub fn ids_only(self) -> Self {
        ClusterLookUp { ids_only: true, ..self }
    }

    /// Limits reads [at a time](ReadAt::Exactly); past it the time counts as out of reach. A read
    /// that waits for a prepared transaction would take as long as that does.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.servers.limit(limit);
        self
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
        self.servers.begin(ReadRequest { collection, at }).await?;
        let sources = self.servers.sources.iter().map(|source| source.shard.clone()).collect();
        self.job = Some(LookUpJob {
            collection: collection.clone(),
            at,
            ids_only: self.ids_only,
            queue: Queue::new(sources, ids),
            cursor: None,
            halves: Vec::new(),
        });
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<DocumentBatch>, MongoError> {
        let Some(mut job) = self.job.take() else { return Ok(None) };
        let step = job.step(&mut self.servers).await;
        if let Ok(Some(documents)) = step {
            job.queue.found(&documents);
            self.job = Some(job);
            return Ok(Some(documents));
        }
        self.servers.end_transactions().await;
        step?;
        self.read_until = self.servers.finish(job.reading()).await?;
        Ok(None)
    }

    fn hides_deletions(&self) -> bool {
        self.servers.hides_deletions
    }

    fn read_until(&self) -> ClusterTime {
        self.read_until
    }
}

impl LookUpJob {
    fn reading(&self) -> ReadRequest<'_> {
        ReadRequest { collection: &self.collection, at: self.at }
    }

    /// The next documents, skipping empty replies.
    async fn step(&mut self, servers: &mut SourceServers) -> Result<Option<DocumentBatch>, MongoError> {
        loop {
            if let Some((source, cursor)) = &mut self.cursor {
                let reading = ReadRequest { collection: &self.collection, at: self.at };
                let reply = servers.sources[*source].next(reading, cursor).await?;
                if reply.closes_cursor {
                    self.cursor = None;
                }
                if !reply.documents.is_empty() {
                    return Ok(Some(reply.documents));
                }
                continue;
            }
            let Some((source, ids)) = self.halves.pop().or_else(|| self.queue.next()) else { return Ok(None) };
            if !servers.sources[source].has(&self.collection) {
                continue;
            }
            if let Some(documents) = self.ask(servers, source, ids).await? {
                return Ok(Some(documents));
            }
        }
    }

    /// Requests these ids: opens a cursor or, in a transaction, reads one reply.
    async fn ask(
        &mut self,
        servers: &mut SourceServers,
        at: usize,
        ids: Vec<Bytes>,
    ) -> Result<Option<DocumentBatch>, MongoError> {
        let source = &mut servers.sources[at];
        let command = self.command(&ids).map_err(|error| source.unsendable(&self.collection, &error))?;
        if source.needs_transaction(self.at) {
            let reply = source.first_in_transaction(self.reading(), command).await?;
            // More than one reply is requested in two halves; one document always fits.
            if reply.closes_cursor || ids.len() == 1 {
                return Ok(Some(reply.documents).filter(|documents| !documents.is_empty()));
            }
            let mut ids = ids;
            let half = ids.split_off(ids.len() / 2);
            self.halves.extend([(at, half), (at, ids)]);
            return Ok(None);
        }
        self.cursor = Some((at, source.open(self.reading(), command).await?));
        Ok(None)
    }

    fn command(&self, ids: &[Bytes]) -> Result<RawDocumentBuf, bson::error::Error> {
        command::find(&self.collection.namespace.collection, ids, self.ids_only)
    }
}

impl fmt::Debug for ClusterLookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterLookUp")
            .field("sources", &self.servers.names())
            .field("under_way", &self.job.is_some())
            .finish()
    }
}
