//! The commands that read a stretch of a collection.

use bson::raw::{RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;
use gizer_flatten::range::IdBound;

/// The most documents that a request may ask for: the server takes a 32-bit signed number.
const MOST_DOCUMENTS: i32 = i32::MAX;

/// Why a command cannot be made.
pub(super) type Unsendable = Box<dyn std::error::Error + Send + Sync>;

/// `find` for the first documents behind `after` and before `upto` (MongoDB manual, "find", "cursor.min()").
///
/// `min` and `max` are boundaries in the index, over all BSON types and under its collation; `$gt` and `$lt` would compare within
/// one type only. `min` belongs to what is read, so it is taken out by value; `max` does not, see [`find_last`].
///
/// The limit is the size of a batch as well, so that a cursor stays open for one reason only: the reply has ended at 16 MiB.
pub(super) fn find_between(
    collection: &str,
    after: Option<&IdBound>,
    upto: &IdBound,
    most: usize,
) -> Result<RawDocumentBuf, Unsendable> {
    let most = i32::try_from(most).unwrap_or(MOST_DOCUMENTS);
    let mut command = rawdoc! {
        "find": collection,
        "hint": { "_id": 1 },
        "sort": { "_id": 1 },
        "limit": most,
        "batchSize": most,
    };
    if let Some(after) = after {
        command.append(cstr!("min"), RawDocument::from_bytes(after.as_bytes())?);
        command.append(cstr!("filter"), compared(b"$ne", after)?);
    }
    command.append(cstr!("max"), RawDocument::from_bytes(upto.as_bytes())?);
    Ok(command)
}

/// `find` for the document with the last `_id` of a stretch.
pub(super) fn find_last(collection: &str, upto: &IdBound) -> Result<RawDocumentBuf, Unsendable> {
    Ok(rawdoc! { "find": collection, "filter": compared(b"$eq", upto)?, "limit": 1 })
}

/// `{_id: {$eq: <the _id>}}`, or with another operator of three characters. It takes the place of the name in the boundary, so that
/// the value stays as it was stored: also text that is not UTF-8, for which there is no other form here.
fn compared(operator: &[u8; 3], bound: &IdBound) -> Result<RawDocumentBuf, Unsendable> {
    let mut bytes = bound.as_bytes().to_vec();
    // After the length and the tag.
    if bytes.get(5..9) != Some(b"_id\0".as_slice()) {
        return Err("expected a boundary that is an _id, got another document".into());
    }
    bytes[5..8].copy_from_slice(operator);
    Ok(rawdoc! { "_id": RawDocumentBuf::from_bytes(bytes)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn an_operator_takes_the_place_of_the_name() {
        let bound = IdBound::from_bytes(doc! { "_id": { "a": [1, "x"] } }.to_vec().unwrap()).unwrap();
        let filter = compared(b"$ne", &bound).unwrap();
        assert_eq!(filter.as_bytes(), doc! { "_id": { "$ne": { "a": [1, "x"] } } }.to_vec().unwrap());
        for other in [doc! {}, doc! { "id": 1 }, doc! { "_id2": 1 }] {
            let bound = IdBound::from_bytes(other.to_vec().unwrap()).unwrap();
            assert!(compared(b"$eq", &bound).is_err());
        }
    }
}
