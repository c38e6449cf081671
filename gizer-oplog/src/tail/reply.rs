//! The server's replies to a cursor on the oplog.

use bytes::Bytes;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::ClusterTime;
use gizer_schema::raw::{RawDoc, Value};
use mongodb::raw_batch_cursor::RawBatch;

use crate::error::MalformedReply;

/// A reply to `find` or `getMore`: `{cursor: {firstBatch | nextBatch: […], …}, operationTime, …}`.
pub(super) struct Reply {
    pub(super) entries: DocumentBatch,
    /// What a majority had once the reply was made: the meaning of `operationTime` where the read concern is
    /// `majority`.
    pub(super) operation_time: Option<ClusterTime>,
}

/// The bytes of a reply where the driver has put them: a [`Bytes`] can own this, so that no entry is copied.
struct ReplyBytes(RawBatch);

impl AsRef<[u8]> for ReplyBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_raw_document().as_bytes()
    }
}

impl Reply {
    pub(super) fn read(reply: RawBatch) -> Result<Reply, MalformedReply> {
        let bytes = ReplyBytes(reply);
        let (entries_at, operation_time) = find_parts(bytes.as_ref())?;
        let entries = DocumentBatch::from_array(Bytes::from_owner(bytes), entries_at)?;
        Ok(Reply { entries, operation_time })
    }
}

/// Where the array of entries lies in a reply, and its `operationTime`.
fn find_parts(reply: &[u8]) -> Result<(usize, Option<ClusterTime>), MalformedReply> {
    let (mut entries_at, mut operation_time) = (None, None);
    for element in RawDoc::new(reply)?.elements() {
        let element = element?;
        match (element.name, element.value()?) {
            (b"cursor", Value::Document(cursor)) => {
                for part in cursor.elements() {
                    let part = part?;
                    if matches!(part.name, b"firstBatch" | b"nextBatch") {
                        // The array borrows from the reply, so the distance between the two is its place.
                        entries_at = Some(part.bytes.as_ptr().addr() - reply.as_ptr().addr());
                    }
                }
            }
            (b"operationTime", Value::Timestamp { seconds, increment }) => {
                operation_time = Some(ClusterTime { seconds, increment });
            }
            _ => {}
        }
    }
    Ok((entries_at.ok_or(MalformedReply::Missing)?, operation_time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Timestamp, doc};

    #[test]
    fn entries_and_operation_time_are_found() {
        for batch in ["firstBatch", "nextBatch"] {
            let ts = Timestamp { time: 9, increment: 3 };
            let reply = doc! { "cursor": { "id": 7_i64, batch: [{ "ts": ts }, {}] }, "ok": 1.0, "operationTime": ts };
            let reply = reply.to_vec().unwrap();
            let (at, time) = find_parts(&reply).unwrap();
            assert_eq!(time, Some(ClusterTime { seconds: 9, increment: 3 }));
            assert_eq!(DocumentBatch::from_array(Bytes::from(reply), at).unwrap().len(), 2);
        }
    }

    #[test]
    fn a_reply_without_entries_is_malformed() {
        for reply in [doc! { "ok": 1 }, doc! { "cursor": { "id": 0_i64 } }] {
            assert_eq!(find_parts(&reply.to_vec().unwrap()), Err(MalformedReply::Missing));
        }
    }
}
