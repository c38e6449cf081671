//! Reads chunks from all servers.

use std::fmt;
use std::time::Duration;

use bson::{Bson, doc};
use gizer_flatten::DocumentBatch;
use gizer_flatten::range::IdBound;

use super::{Chunk, Stretch, command};
use crate::connect::Cluster;
use crate::error::{MalformedReply, MongoError};
use crate::position::Oplog;
use crate::sources::{ReadAt, ReadRequest, SourceServer, SourceServers, WatchedCollection};

/// Reads a collection chunk by chunk, from every server that has its documents.
///
/// # Contract
/// * **Complete.** A chunk has exactly the documents whose `_id` is after the stretch's `after` and
///   not after [`Chunk::last`] or else `upto`. A document that two shards have, because a migration
///   left a copy, is given by each.
/// * **Progress.** A chunk without [`Chunk::last`] ends its stretch; any other has at least one
///   document, of whatever size.
/// * **As of a time.** See [`ReadAt`].
/// * **Absent means deleted.** The collection's UUID was the same before and after the reads, on
///   every shard.
/// * **Ordered by the server.** It compares `_id`s over all BSON types, under the collection's
///   collation. `_id`s equal to it, as 1 and 1.0, are equal bounds; a stretch whose `upto` is
///   before its `after`, or equal in other bytes, is a server error.
/// * **Bounded.** At most `most` documents, but one of each source; one reply and one document per
///   source.
///
/// # What an error means
/// Nothing was read. [`MongoError::TimeOutOfReach`]: the server no longer keeps that time; use
/// [`ReadAt::NotBefore`] or [`ReadAt::Committed`]. [`MongoError::CollectionChanged`]: dropped,
/// renamed or replaced, now or by that time.
pub struct ClusterChunks {
    servers: SourceServers,
}

impl Cluster {
    /// Reads chunks where this cluster reads documents. `oplogs` name the shards.
    pub fn chunks(&self, oplogs: &[Oplog]) -> ClusterChunks {
        ClusterChunks { servers: SourceServers::new(self, oplogs) }
    }
}

impl ClusterChunks {
    /// Limits reads [at a time](ReadAt::Exactly); past it the time counts as out of reach. A read
    /// that waits for a prepared transaction would take as long as that does.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.servers.limit(limit);
        self
    }

    /// The first documents of a stretch, at most `most`.
    ///
    /// # Errors
    /// See the contract of the type.
    pub async fn read(
        &mut self,
        collection: &WatchedCollection,
        stretch: &Stretch,
        at: ReadAt,
        most: usize,
    ) -> Result<Chunk, MongoError> {
        let reading = ReadRequest { collection, at };
        self.servers.begin(reading).await?;
        let read = read_all(&mut self.servers, reading, stretch, most).await;
        self.servers.end_transactions().await;
        let (documents, last) = read?;
        Ok(Chunk { documents, last, read_until: self.servers.finish(reading).await? })
    }
}

/// One source's documents of a stretch.
struct SourcePart {
    documents: Vec<DocumentBatch>,
    /// Where it ends; `None` at the stretch's end.
    last: Option<IdBound>,
}

/// The first documents of a stretch from all sources, and their end unless it is the stretch's.
///
/// A source with more documents than fit sets the chunk's end; sources that were read past it are
/// read again up to it. Only the server can compare `_id`s.
async fn read_all(
    servers: &mut SourceServers,
    reading: ReadRequest<'_>,
    stretch: &Stretch,
    most: usize,
) -> Result<(Vec<DocumentBatch>, Option<IdBound>), MongoError> {
    let having = |source: &&mut SourceServer| source.has(reading.collection);
    let mut sources: Vec<&mut SourceServer> = servers.sources.iter_mut().filter(having).collect();
    let most = (most / sources.len().max(1)).max(1);
    let mut parts: Vec<Option<Vec<DocumentBatch>>> = vec![None; sources.len()];
    let mut end: Option<IdBound> = None;
    while let Some(next) = parts.iter().position(Option::is_none) {
        let upto = end.as_ref().or(stretch.upto.as_ref());
        let SourcePart { documents, last } = read(sources[next], reading, stretch.after.as_ref(), upto, most).await?;
        if last.is_some() {
            end = last;
            parts.fill(None);
        }
        parts[next] = Some(documents);
    }
    Ok((parts.into_iter().flatten().flatten().collect(), end))
}

/// The first documents of a stretch from one source.
async fn read(
    source: &mut SourceServer,
    reading: ReadRequest<'_>,
    after: Option<&IdBound>,
    upto: Option<&IdBound>,
    most: usize,
) -> Result<SourcePart, MongoError> {
    let name = &reading.collection.namespace.collection;
    let upto = upto.cloned().unwrap_or_else(|| bound_of(Bson::MaxKey));
    // The server rejects an empty range.
    if after == Some(&upto) {
        return Ok(SourcePart { documents: Vec::new(), last: None });
    }
    let unsendable = |source: &SourceServer, error: command::Unsendable| source.unsendable(reading.collection, &*error);
    let mut documents = Vec::new();
    // Nothing is before MinKey.
    if upto != bound_of(Bson::MinKey) {
        let command = command::find_between(name, after, &upto, most).map_err(|error| unsendable(source, error))?;
        let reply = source.first(reading, command).await?;
        if !reply.closes_cursor || reply.documents.len() >= most {
            let last = last_id(source, &reply.documents)?;
            return Ok(SourcePart { documents: vec![reply.documents], last: Some(last) });
        }
        documents.push(reply.documents);
    }
    let command = command::find_last(name, &upto).map_err(|error| unsendable(source, error))?;
    documents.push(source.first(reading, command).await?.documents);
    documents.retain(|batch| !batch.is_empty());
    Ok(SourcePart { documents, last: None })
}

/// An unbounded `find` ends before MaxKey (seen on 4.4 to 6.0), so the end is always named.
fn bound_of(id: Bson) -> IdBound {
    let document = doc! { "_id": id }.to_vec().expect("a document of a constant");
    IdBound::from_bytes(document).expect("it is BSON")
}

/// The last `_id` of a reply.
fn last_id(source: &SourceServer, documents: &DocumentBatch) -> Result<IdBound, MongoError> {
    let last = documents.documents().last().map(IdBound::of);
    match last {
        Some(Ok(Some(bound))) => Ok(bound),
        Some(Err(malformed)) => Err(source.malformed(malformed.into())),
        Some(Ok(None)) | None => Err(source.malformed(MalformedReply::Missing)),
    }
}

impl fmt::Debug for ClusterChunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterChunks").field("sources", &self.servers.names()).finish()
    }
}
