//! The read time of commands.

use bson::raw::{RawDocumentBuf, cstr};
use bson::{Timestamp, rawdoc};
use gizer_flatten::change::ClusterTime;

use super::ReadAt;
use super::transaction::InTransaction;

/// Adds the read time and transaction to a command (MongoDB manual, "Read Concern").
///
/// `atClusterTime` of read concern `snapshot` works in any command since 5.0, and on 4.4 in the
/// first command of a transaction.
pub(super) fn read_as_of(command: &mut RawDocumentBuf, at: ReadAt, transaction: Option<&InTransaction>) {
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
}

fn read_concern(at: ReadAt) -> RawDocumentBuf {
    let timestamp = |time: ClusterTime| Timestamp { time: time.seconds, increment: time.increment };
    match at {
        ReadAt::Exactly(time) => rawdoc! { "level": "snapshot", "atClusterTime": timestamp(time) },
        ReadAt::NotBefore(time) => rawdoc! { "level": "majority", "afterClusterTime": timestamp(time) },
        ReadAt::Committed(_) => rawdoc! { "level": "majority" },
    }
}
