//! Commands that read a stretch of a collection.

use bson::raw::{RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;
use gizer_flatten::range::IdBound;

/// The largest limit that the server accepts.
const MAX_LIMIT: i32 = i32::MAX;

/// Why a command cannot be built.
pub(super) type Unsendable = Box<dyn std::error::Error + Send + Sync>;

/// `find` between bounds, both exclusive (MongoDB manual, "find", "cursor.min()").
///
/// `min` and `max` are index bounds over all BSON types, under the index's collation; `$gt` and
/// `$lt` would compare within one type only. `min` is inclusive, so a filter removes `after`; `max`
/// is exclusive, see [`find_last`].
///
/// The batch size equals the limit, so that a cursor stays open only if the reply reached 16 MiB.
pub(super) fn find_between(
    collection: &str,
    after: Option<&IdBound>,
    upto: &IdBound,
    most: usize,
) -> Result<RawDocumentBuf, Unsendable> {
    let most = i32::try_from(most).unwrap_or(MAX_LIMIT);
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

/// `find` for the document at the end of a stretch.
pub(super) fn find_last(collection: &str, upto: &IdBound) -> Result<RawDocumentBuf, Unsendable> {
    Ok(rawdoc! { "find": collection, "filter": compared(b"$eq", upto)?, "limit": 1 })
}

/// `{_id: {$eq: <_id>}}`, or with another operator of three characters. The operator replaces the
/// name inside the bound, so that the value keeps its stored bytes, even text that is not UTF-8,
/// which the driver's types cannot hold.
fn compared(operator: &[u8; 3], bound: &IdBound) -> Result<RawDocumentBuf, Unsendable> {
    let mut bytes = bound.as_bytes().to_vec();
    // After length and tag.
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
