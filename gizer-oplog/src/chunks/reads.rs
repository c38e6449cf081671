//! Chunks from the servers that documents are read from.

use std::fmt;
use std::time::Duration;

use bson::{Bson, doc};
use gizer_flatten::DocumentBatch;
use gizer_flatten::range::IdBound;

use super::{Chunk, Stretch, command};
use crate::connect::Cluster;
use crate::error::{MalformedReply, MongoError};
use crate::position::Oplog;
use crate::sources::{ReadAt, Reading, Servers, Source, WatchedCollection};

/// Reads a collection chunk by chunk, from every server that documents are read from.
///
/// # Contract
/// * **Complete.** A chunk has every document of the collection whose `_id` lies behind the stretch's `after` and not behind
///   [`Chunk::last`], or else its `upto`, and no other. A document that two shards have, because a migration has left a copy, is
///   given once for each.
/// * **It goes on.** A chunk that has no [`Chunk::last`] is the end of its stretch; any other has at least one document, whatever
///   its size.
/// * **In time.** As [`ReadAt`] says.
/// * **"Not there" means deleted.** The collection's UUID was the same before and after the reads, on every shard.
/// * **The server's order.** Which `_id` lies behind which is for the server to say: over all BSON types, under the
///   collation of the collection. Where two `_id`s are the same to it, as 1 and 1.0, so are the boundaries; a stretch whose `upto` lies
///   before its `after`, or is the same in other bytes, is an error of the server.
/// * **Bounded.** No more than so many documents (but one of each source), and no more than one reply of the server, of
///   16 MiB, and one document from each source.
///
/// # What an error means
/// Nothing was read. [`MongoError::TimeOutOfReach`]: the server no longer keeps that time, ask for
/// [`ReadAt::NotBefore`] or [`ReadAt::Committed`]. [`MongoError::CollectionChanged`]: dropped, renamed or replaced, now or by that time.
pub struct ClusterChunks {
    servers: Servers,
}

impl Cluster {
    /// Reads chunks where this cluster reads documents. `oplogs` are its oplogs, after which the shards are named.
    pub fn chunks(&self, oplogs: &[Oplog]) -> ClusterChunks {
        ClusterChunks { servers: Servers::new(self, oplogs) }
    }
}

impl ClusterChunks {
    /// A read [at a time](ReadAt::Exactly) that takes longer is given up as if the time were out of reach: one that waits for a prepared
    /// transaction would take as long as that does.
    #[must_use]
    pub fn giving_up_after(mut self, limit: Duration) -> Self {
        self.servers.limit(limit);
        self
    }

    /// The first documents of a stretch, at most so many.
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
        let reading = Reading { collection, at };
        self.servers.begin(reading).await?;
        let read = read_all(&mut self.servers, reading, stretch, most).await;
        self.servers.end_transactions().await;
        let (documents, last) = read?;
        Ok(Chunk { documents, last, read_until: self.servers.finish(reading).await? })
    }
}

/// What one source has of a stretch.
struct Part {
    documents: Vec<DocumentBatch>,
    /// Where it ends, unless that is where the stretch does.
    last: Option<IdBound>,
}

/// The first documents of a stretch from all sources, and where they end if that is before the stretch does.
///
/// Whoever has more than is to be read sets the end of the chunk, and the others are read up to there: those that have
/// been read farther once more. Only the server knows what lies behind what.
async fn read_all(
    servers: &mut Servers,
    reading: Reading<'_>,
    stretch: &Stretch,
    most: usize,
) -> Result<(Vec<DocumentBatch>, Option<IdBound>), MongoError> {
    let having = |source: &&mut Source| source.has(reading.collection);
    let mut sources: Vec<&mut Source> = servers.sources.iter_mut().filter(having).collect();
    let most = (most / sources.len().max(1)).max(1);
    let mut parts: Vec<Option<Vec<DocumentBatch>>> = vec![None; sources.len()];
    let mut end: Option<IdBound> = None;
    while let Some(next) = parts.iter().position(Option::is_none) {
        let upto = end.as_ref().or(stretch.upto.as_ref());
        let Part { documents, last } = read(sources[next], reading, stretch.after.as_ref(), upto, most).await?;
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
    source: &mut Source,
    reading: Reading<'_>,
    after: Option<&IdBound>,
    upto: Option<&IdBound>,
    most: usize,
) -> Result<Part, MongoError> {
    let name = &reading.collection.namespace.collection;
    let upto = upto.cloned().unwrap_or_else(|| bound_of(Bson::MaxKey));
    // The server takes boundaries that leave nothing between them for a mistake.
    if after == Some(&upto) {
        return Ok(Part { documents: Vec::new(), last: None });
    }
    let unsendable = |source: &Source, error: command::Unsendable| source.unsendable(reading.collection, &*error);
    let mut documents = Vec::new();
    // Nothing lies before the first _id that there can be.
    if upto != bound_of(Bson::MinKey) {
        let command = command::find_between(name, after, &upto, most).map_err(|error| unsendable(source, error))?;
        let reply = source.first(reading, command).await?;
        if !reply.closes_cursor || reply.documents.len() >= most {
            let last = last_id(source, &reply.documents)?;
            return Ok(Part { documents: vec![reply.documents], last: Some(last) });
        }
        documents.push(reply.documents);
    }
    let command = command::find_last(name, &upto).map_err(|error| unsendable(source, error))?;
    documents.push(source.first(reading, command).await?.documents);
    documents.retain(|batch| !batch.is_empty());
    Ok(Part { documents, last: None })
}

/// What the server takes for no end ends before MaxKey (seen on 4.4 to 6.0), so that the last `_id` there can be is named.
fn bound_of(id: Bson) -> IdBound {
    let document = doc! { "_id": id }.to_vec().expect("a document of a constant");
    IdBound::from_bytes(document).expect("it is BSON")
}

/// Where a reply ends. Every document of a collection that has an index on `_id` has one.
fn last_id(source: &Source, documents: &DocumentBatch) -> Result<IdBound, MongoError> {
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
