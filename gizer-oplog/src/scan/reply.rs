//! Replies of the server as batches of documents, without a copy.

use bytes::Bytes;
use futures::StreamExt;
use gizer_flatten::DocumentBatch;
use gizer_schema::raw::{RawDoc, Value};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};

use super::part::Part;
use crate::error::{MalformedReply, MongoError};

pub(super) struct OpenCursor {
    replies: RawBatchCursor,
    /// Whether the latest reply has closed the cursor: there is nothing after it.
    closed: bool,
}

impl OpenCursor {
    pub(super) fn new(replies: RawBatchCursor) -> OpenCursor {
        OpenCursor { replies, closed: false }
    }

    /// The documents of the next reply; `None` after the one that closed the cursor.
    pub(super) async fn next(&mut self, part: &Part) -> Result<Option<DocumentBatch>, MongoError> {
        let reply = match self.replies.next().await {
            Some(Ok(reply)) => reply,
            Some(Err(error)) => return Err(part.explain(&error, "getMore")),
            None if self.closed => return Ok(None),
            None => return Err(part.malformed("a last batch, with cursor id 0,", MalformedReply::EndedBefore)),
        };
        let reply = Reply::read(reply).map_err(|found| part.malformed("a cursor with id and documents", found))?;
        self.closed = reply.closes_cursor;
        let documents = DocumentBatch::from_array(Bytes::from_owner(reply.bytes), reply.documents_at);
        let documents = documents.map_err(|found| part.malformed("an array of documents", found.into()))?;
        Ok(Some(documents))
    }
}

/// A reply to `find` or `getMore` (MongoDB manual, "Database Commands"):
/// `{cursor: {firstBatch | nextBatch: […], id, ns}, ok: 1, …}`.
struct Reply {
    bytes: ReplyBytes,
    /// Where the array of documents begins.
    documents_at: usize,
    closes_cursor: bool,
}

/// The bytes of a reply where the driver has put them: a [`Bytes`] can own this, so that no document is copied.
struct ReplyBytes(RawBatch);

impl AsRef<[u8]> for ReplyBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_raw_document().as_bytes()
    }
}

impl Reply {
    fn read(reply: RawBatch) -> Result<Reply, MalformedReply> {
        let bytes = ReplyBytes(reply);
        let (documents_at, closes_cursor) = find_documents(bytes.as_ref())?;
        Ok(Reply { bytes, documents_at, closes_cursor })
    }
}

/// Where the array of documents lies in a reply, and whether the cursor's id is 0, which closes it.
fn find_documents(reply: &[u8]) -> Result<(usize, bool), MalformedReply> {
    let cursor = RawDoc::new(reply)?.get(b"cursor")?.ok_or(MalformedReply::Missing)?;
    let Value::Document(cursor) = cursor.value()? else { return Err(MalformedReply::Missing) };
    let mut documents_at = None;
    let mut closes_cursor = None;
    for element in cursor.elements() {
        let element = element?;
        match element.name {
            // The array borrows from the reply, so the distance between the two is its place.
            b"firstBatch" | b"nextBatch" => documents_at = Some(element.bytes.as_ptr().addr() - reply.as_ptr().addr()),
            b"id" => closes_cursor = Some(element.value()? == Value::Int64(0)),
            _ => {}
        }
    }
    documents_at.zip(closes_cursor).ok_or(MalformedReply::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn the_documents_of_a_reply_are_found_where_they_lie() {
        for (batch, id) in [("firstBatch", 77_i64), ("nextBatch", 0)] {
            let reply = doc! { "cursor": { batch: [{ "_id": 1 }, { "_id": 2 }], "id": id, "ns": "a.b" }, "ok": 1.0 };
            let reply = reply.to_vec().unwrap();
            let (at, closes) = find_documents(&reply).unwrap();
            assert_eq!(closes, id == 0);
            assert_eq!(DocumentBatch::from_array(Bytes::from(reply), at).unwrap().len(), 2);
        }
    }

    #[test]
    fn a_reply_without_documents_or_without_an_id_is_malformed() {
        for reply in [doc! { "ok": 1 }, doc! { "cursor": { "id": 0_i64 } }, doc! { "cursor": { "firstBatch": [] } }] {
            assert_eq!(find_documents(&reply.to_vec().unwrap()), Err(MalformedReply::Missing));
        }
        assert!(matches!(find_documents(&[1, 2, 3]), Err(MalformedReply::Bson(_))));
    }
}
