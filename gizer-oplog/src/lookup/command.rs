//! The command that reads documents by `_id`.

use bson::raw::cstr;
use bson::raw::{RawArrayBuf, RawDocument, RawDocumentBuf};
use bson::rawdoc;
use bytes::Bytes;

/// More than fits in 16 MiB, so that replies are full. By default the first has 101 documents.
const BATCH_SIZE: i32 = 10_000_000;

/// `find` for these ids (MongoDB manual, "find").
pub(super) fn find(collection: &str, ids: &[Bytes], ids_only: bool) -> Result<RawDocumentBuf, bson::error::Error> {
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
    if ids_only {
        command.append(cstr!("projection"), rawdoc! { "_id": 1 });
    }
    Ok(command)
}
