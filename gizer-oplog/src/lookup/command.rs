//! The command that reads documents by `_id`.

use bson::raw::cstr;
use bson::raw::{RawArrayBuf, RawDocument, RawDocumentBuf};
use bson::{Timestamp, rawdoc};
use bytes::Bytes;
use gizer_flatten::change::ClusterTime;

use super::ReadAt;

/// More than fits into a reply of 16 MiB: the server fills each of them. Without it the first has 101 documents.
const BATCH_SIZE: i32 = 10_000_000;

/// The part of a command that makes it one of a transaction.
pub(super) struct InTransaction {
    pub(super) number: i64,
    pub(super) first: bool,
}

/// `find` for these ids (MongoDB manual, "find", "Read Concern").
///
/// A time is asked for by `atClusterTime` of read concern `snapshot`: of 5.0 and later in any command, of 4.4 in the first
/// command of a transaction.
pub(super) fn find(
    collection: &str,
    ids: &[Bytes],
    at: ReadAt,
    transaction: Option<&InTransaction>,
) -> Result<RawDocumentBuf, bson::error::Error> {
    let mut wanted = RawArrayBuf::new();
    for id in ids {
        if let Some(id) = RawDocument::from_bytes(id)?.get("_id")? {
            wanted.push(id);
        }
    }
    let mut command = rawdoc! {
        "find": collection,
        "filter": { "_id": { "$in": wanted } },
        "batchSize": BATCH_SIZE,
        "noCursorTimeout": false,
    };
    if transaction.is_none_or(|transaction| transaction.first) {
        command.append(cstr!("readConcern"), read_concern(at));
    }
    if let Some(transaction) = transaction {
        if transaction.first {
            command.append(cstr!("startTransaction"), true);
        }
        command.append(cstr!("txnNumber"), transaction.number);
        command.append(cstr!("autocommit"), false);
    }
    Ok(command)
}

fn read_concern(at: ReadAt) -> RawDocumentBuf {
    let timestamp = |time: ClusterTime| Timestamp { time: time.seconds, increment: time.increment };
    match at {
        ReadAt::Exactly(time) => rawdoc! { "level": "snapshot", "atClusterTime": timestamp(time) },
        ReadAt::NotBefore(time) => rawdoc! { "level": "majority", "afterClusterTime": timestamp(time) },
    }
}
