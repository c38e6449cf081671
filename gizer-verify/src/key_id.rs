//! From a stored key back to the `_id` that has it.

use std::cmp::Ordering;

use bson::{Bson, doc};
use bytes::Bytes;
use gizer_flatten::{Flattener, StoredCell, StoredRow, rebuild_id};
use gizer_pg::rows::{Keys, RowStore};
use gizer_schema::raw::RawDoc;
use gizer_schema::{ColumnType, Layout, TableId};

use crate::VerifyError;
use crate::rebuilt::decode;
use crate::stored::StoredRows;

/// An `_id` that has this key, which is in the binary form of its column, as a document of this one field. `None` where
/// no `_id` has it (an ObjectId column that holds something else), or where the key does not tell: a hash.
///
/// Numbers come back in a type of their own; MongoDB compares `_id`s by value.
pub fn id_of_key(layout: &Layout, flattener: &Flattener, key: &[u8]) -> Option<Bytes> {
    let ty = layout.key.ty;
    if matches!(ty, ColumnType::Json | ColumnType::List(_)) {
        return None;
    }
    let table = &layout.tables[0];
    let mut cells = vec![StoredCell::Null; table.columns.len() - usize::from(table.has_extra)];
    cells[table.key.0] = decode::cell(ty, key)?;
    let own = rebuild_id(layout, &StoredRow { cells, extra: None });
    // The key of an ObjectId in two columns is text.
    let of_pair = || std::str::from_utf8(key).ok()?.parse().ok().and_then(|id| document(Bson::ObjectId(id)));
    let ids = [own, (ty == ColumnType::Text).then(of_pair).flatten()];
    ids.into_iter().flatten().map(Bytes::from).find(|id| has_key(layout, flattener, id, key))
}

fn document(id: Bson) -> Option<Vec<u8>> {
    doc! { "_id": id }.to_vec().ok()
}

/// For each key the `_id` from its root row, as a document of this one field; `None` where the row is missing or does
/// not hold it. In the snapshot, or transaction, that the store has begun.
///
/// # Errors
/// [`VerifyError::Tables`] if the rows cannot be read.
pub async fn ids_in_rows(
    store: &mut RowStore<'_>,
    flattener: &Flattener,
    keys: &[Vec<u8>],
) -> Result<Vec<Option<Bytes>>, VerifyError> {
    let layout = &std::sync::Arc::clone(store.layout());
    let mut wanted = Keys::new(layout);
    let numbers: Vec<u32> = keys.iter().map(|key| wanted.insert_stored(key)).collect();
    let stored = StoredRows::read(store, &wanted).await?;
    let id = |(key, number): (&Vec<u8>, u32)| {
        let root = stored.table(TableId(0));
        let row = decode::row(&layout.tables[0], root.fields(root.of_key(number).next()?)).ok()?;
        let id = Bytes::from(rebuild_id(layout, &row)?);
        has_key(layout, flattener, &id, key).then_some(id)
    };
    Ok(keys.iter().zip(numbers).map(id).collect())
}

/// Whatever an `_id` was taken for: its key must be what is stored.
fn has_key(layout: &Layout, flattener: &Flattener, id: &[u8], key: &[u8]) -> bool {
    let mut keys = Keys::new(layout);
    let again = RawDoc::new(id).ok().and_then(|id| keys.insert(&flattener.key_of(id).ok()?));
    again.is_some() && keys.number_of_stored(key) == again
}

/// Compares two keys in the binary form of their column.
pub type KeyOrder = fn(&[u8], &[u8]) -> Ordering;

/// Compares keys in the order of their column, where MongoDB's order is the same. `None` of doubles (NaN), decimals,
/// binary (MongoDB looks at the length first) and tagged keys. It presumes that the collection has no collation.
pub fn key_order(ty: ColumnType) -> Option<KeyOrder> {
    match ty {
        // As bytes: text is COLLATE "C".
        ColumnType::Text | ColumnType::ObjectId | ColumnType::Uuid | ColumnType::Boolean => Some(Ord::cmp),
        ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt | ColumnType::TimestampTz => Some(by_number),
        _ => None,
    }
}

/// Signed numbers of one width, big-endian.
fn by_number(a: &[u8], b: &[u8]) -> Ordering {
    let flipped = |key: &[u8]| key.first().map(|first| first ^ 0x80);
    flipped(a).cmp(&flipped(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gizer_schema::file;

    const EPOCH_MICROS: i64 = 946_684_800_000_000;

    fn id_of(ty: &str, key: &[u8]) -> Option<Bson> {
        let schema = format!(r#"{{"$gizer": 1, "fields": {{"_id": "{ty}"}}}}"#);
        let layout = Layout::new(&file::parse("posts", &schema).unwrap()).unwrap();
        let id = id_of_key(&layout, &Flattener::new(&layout), key)?;
        bson::Document::from_reader(&*id).unwrap().remove("_id")
    }

    #[test]
    fn keys_lead_back_to_ids() {
        let oid = "56b8da59f9fcee1b00000007";
        assert_eq!(id_of("OBJECTID", oid.as_bytes()), Some(Bson::ObjectId(oid.parse().unwrap())));
        assert_eq!(id_of("OBJECTID", b"something else"), None);
        assert_eq!(id_of("OBJECTID", oid.to_uppercase().as_bytes()), None, "no ObjectId is stored so");
        assert_eq!(id_of("STRING", "ü".as_bytes()), Some(Bson::String("ü".into())));
        assert_eq!(id_of("STRING", oid.as_bytes()), Some(Bson::String(oid.into())));
        assert_eq!(id_of("BIGINT", &(-7i64).to_be_bytes()), Some(Bson::Int64(-7)));
        let at = bson::DateTime::from_millis(1_500);
        assert_eq!(id_of("TIMESTAMP", &(1_500_000 - EPOCH_MICROS).to_be_bytes()), Some(Bson::DateTime(at)));
        assert_eq!(id_of("TIMESTAMP", &(1_500_001 - EPOCH_MICROS).to_be_bytes()), None, "BSON has milliseconds");
        assert_eq!(id_of("KEY", b"n15e-1"), Some(Bson::Decimal128("1.5".parse().unwrap())));
        assert_eq!(id_of("KEY", b"n150e-2"), None, "no number is stored so");
        assert_eq!(id_of("KEY", b"#00"), None);
        assert_eq!(id_of("DOUBLE", &f64::NAN.to_be_bytes()).map(|id| id.as_f64().unwrap().is_nan()), Some(true));
    }

    #[test]
    fn numbers_are_in_order() {
        let order = key_order(ColumnType::BigInt).unwrap();
        let numbers = [i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX];
        assert!(numbers.map(i64::to_be_bytes).is_sorted_by(|a, b| order(a, b).is_lt()));
        assert!(key_order(ColumnType::Double).is_none() && key_order(ColumnType::Key).is_none());
    }
}
