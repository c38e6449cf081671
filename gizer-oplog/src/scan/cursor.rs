//! A cursor over documents that tells its end from a lost one.

use futures::StreamExt;
use gizer_flatten::DocumentBatch;
use mongodb::raw_batch_cursor::RawBatchCursor;

use super::part::Part;
use crate::error::{MalformedReply, MongoError};
use crate::reply::Reply;

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
        Ok(Some(reply.documents))
    }
}
