//! Cursor replies as batches of documents, without a copy.

use bytes::Bytes;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::ClusterTime;
use gizer_schema::raw::{RawDoc, Value};
use mongodb::raw_batch_cursor::RawBatch;

use crate::error::MalformedReply;

/// A reply to `find`, `aggregate` or `getMore` (MongoDB manual, "Database Commands"):
/// `{cursor: {firstBatch | nextBatch: […], id, ns}, ok: 1, operationTime, …}`.
pub(crate) struct Reply {
    pub(crate) documents: DocumentBatch,
    /// Whether it is the last.
    pub(crate) closes_cursor: bool,
    /// `operationTime`: for read concern `majority`, what the majority had then.
    pub(crate) operation_time: Option<ClusterTime>,
}

/// A reply's bytes in the driver's buffer: a [`Bytes`] owns it, so that no document is copied.
struct ReplyBytes(RawBatch);

impl AsRef<[u8]> for ReplyBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_raw_document().as_bytes()
    }
}

impl Reply {
    pub(crate) fn read(reply: RawBatch) -> Result<Reply, MalformedReply> {
        let bytes = ReplyBytes(reply);
        let ReplyParts { documents_at, closes_cursor, operation_time } = find_parts(bytes.as_ref())?;
        let documents = DocumentBatch::from_array(Bytes::from_owner(bytes), documents_at)?;
        Ok(Reply { documents, closes_cursor, operation_time })
    }
}

#[derive(Debug, PartialEq)]
struct ReplyParts {
    /// Offset of the array of documents.
    documents_at: usize,
    /// Whether the cursor's id is 0, which closes it.
    closes_cursor: bool,
    operation_time: Option<ClusterTime>,
}

fn find_parts(reply: &[u8]) -> Result<ReplyParts, MalformedReply> {
    let (mut documents_at, mut closes_cursor, mut operation_time) = (None, None, None);
    for element in RawDoc::new(reply)?.elements() {
        let element = element?;
        match (element.name, element.value()?) {
            (b"cursor", Value::Document(cursor)) => {
                for part in cursor.elements() {
                    let part = part?;
                    match part.name {
                        // The array borrows from the reply, so pointer distance is its offset.
                        b"firstBatch" | b"nextBatch" => {
                            documents_at = Some(part.bytes.as_ptr().addr() - reply.as_ptr().addr());
                        }
                        b"id" => closes_cursor = Some(part.value()? == Value::Int64(0)),
                        _ => {}
                    }
                }
            }
            (b"operationTime", Value::Timestamp { seconds, increment }) => {
                operation_time = Some(ClusterTime { seconds, increment });
            }
            _ => {}
        }
    }
    let (documents_at, closes_cursor) = documents_at.zip(closes_cursor).ok_or(MalformedReply::Missing)?;
    Ok(ReplyParts { documents_at, closes_cursor, operation_time })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Timestamp, doc};

    #[test]
    fn documents_id_and_operation_time_are_found_where_they_lie() {
        let ts = Timestamp { time: 9, increment: 3 };
        for (batch, id) in [("firstBatch", 77_i64), ("nextBatch", 0)] {
            let cursor = doc! { batch: [{ "_id": 1 }, {}], "id": id, "ns": "a.b" };
            let reply = doc! { "cursor": cursor, "ok": 1.0, "operationTime": ts }.to_vec().unwrap();
            let ReplyParts { documents_at, closes_cursor, operation_time } = find_parts(&reply).unwrap();
            assert_eq!(closes_cursor, id == 0);
            assert_eq!(operation_time, Some(ClusterTime { seconds: 9, increment: 3 }));
            assert_eq!(DocumentBatch::from_array(Bytes::from(reply), documents_at).unwrap().len(), 2);
        }
    }

    #[test]
    fn a_server_without_a_cluster_time_gives_no_operation_time() {
        let reply = doc! { "cursor": { "firstBatch": [], "id": 0_i64 }, "ok": 1.0 }.to_vec().unwrap();
        assert_eq!(find_parts(&reply).unwrap().operation_time, None);
    }

    #[test]
    fn a_reply_without_documents_or_without_an_id_is_malformed() {
        for reply in [doc! { "ok": 1 }, doc! { "cursor": { "id": 0_i64 } }, doc! { "cursor": { "firstBatch": [] } }] {
            assert_eq!(find_parts(&reply.to_vec().unwrap()), Err(MalformedReply::Missing));
        }
        assert!(matches!(find_parts(&[1, 2, 3]), Err(MalformedReply::Bson(_))));
    }
}
