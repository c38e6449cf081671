//! A document cursor that distinguishes its end from a lost one.

use futures::TryStreamExt;
use gizer_flatten::DocumentBatch;
use mongodb::raw_batch_cursor::RawBatchCursor;

use super::part::ScanPart;
use crate::error::{MalformedReply, MongoError};
use crate::reply::Reply;
use crate::waiting::ReplyLimit;

pub(super) struct OpenCursor {
    replies: RawBatchCursor,
    /// Whether the latest reply closed the cursor.
    closed: bool,
    limit: ReplyLimit,
}

impl OpenCursor {
    pub(super) fn new(replies: RawBatchCursor, limit: ReplyLimit) -> OpenCursor {
        OpenCursor { replies, closed: false, limit }
    }

    /// The documents of the next reply; `None` after the one that closed the cursor.
    pub(super) async fn next(&mut self, part: &ScanPart) -> Result<Option<DocumentBatch>, MongoError> {
        let reply = match part.answered("getMore", self.limit, self.replies.try_next()).await? {
            Some(reply) => reply,
            None if self.closed => return Ok(None),
            None => return Err(part.malformed("a last batch, with cursor id 0,", MalformedReply::EndedBefore)),
        };
        let reply = Reply::read(reply).map_err(|found| part.malformed("a cursor with id and documents", found))?;
        self.closed = reply.closes_cursor;
        Ok(Some(reply.documents))
    }
}
