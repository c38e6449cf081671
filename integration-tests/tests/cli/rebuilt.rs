//! Documents read back from the tables that gizer made of them.

use std::collections::BTreeMap;

use bson::{Bson, Document};
use gizer_flatten::{StoredCell, StoredRow, rebuild};
use gizer_schema::{ColumnType, Layout, Table, file};

use super::place::Place;

/// The documents of a collection's tables, by the text of their key.
pub(crate) async fn rebuilt(place: &Place, collection: &str) -> BTreeMap<String, Document> {
    let path = place.gizer.folder().join(format!("schemas/{collection}.json"));
    let schema = file::parse(collection, &std::fs::read_to_string(path).unwrap()).unwrap();
    let layout = Layout::new(&schema).unwrap();
    let mut rows: BTreeMap<String, Vec<Vec<StoredRow>>> = BTreeMap::new();
    for (at, table) in layout.tables.iter().enumerate() {
        for (key, row) in read(place, table).await {
            rows.entry(key).or_insert_with(|| vec![Vec::new(); layout.tables.len()])[at].push(row);
        }
    }
    let document = |(key, rows): (String, Vec<Vec<StoredRow>>)| {
        let document = rebuild(&layout, &rows).unwrap_or_else(|error| panic!("{error}: {rows:#?}"));
        (key, document)
    };
    rows.into_iter().map(document).collect()
}

async fn read(place: &Place, table: &Table) -> Vec<(String, StoredRow)> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| match column.ty {
            ColumnType::TimestampTz => {
                format!("(extract(epoch FROM {}) * 1000)::bigint::text", quoted(&column.name))
            }
            _ => format!("{}::text", quoted(&column.name)),
        })
        .collect();
    let sql = format!("SELECT {} FROM {}", columns.join(", "), quoted(&table.name));
    let data = table.columns.len() - usize::from(table.has_extra);
    let rows = place.postgres.query(&sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let text = |at: usize| row.get::<_, Option<&str>>(at);
            let cells = (0..data).map(|at| text(at).map_or(StoredCell::Null, |text| cell(table.columns[at].ty, text)));
            let extra = text(data).map(|text| serde_json::from_str(text).unwrap());
            (text(table.key.0).unwrap().to_owned(), StoredRow { cells: cells.collect(), extra })
        })
        .collect()
}

/// A value as PostgreSQL prints it.
fn cell(ty: ColumnType, text: &str) -> StoredCell {
    match ty {
        ColumnType::Text | ColumnType::ObjectId | ColumnType::Key => StoredCell::Text(text.to_owned()),
        ColumnType::SmallInt => StoredCell::SmallInt(text.parse().unwrap()),
        ColumnType::Integer => StoredCell::Integer(text.parse().unwrap()),
        ColumnType::BigInt => StoredCell::BigInt(text.parse().unwrap()),
        ColumnType::Double => StoredCell::Double(text.parse().unwrap()),
        ColumnType::Boolean => StoredCell::Boolean(text == "true"),
        ColumnType::TimestampTz => StoredCell::Timestamp(text.parse().unwrap()),
        ColumnType::Numeric => StoredCell::Numeric(text.to_owned()),
        ColumnType::Bytea => StoredCell::Bytes(unhex(text.strip_prefix("\\x").unwrap())),
        ColumnType::Uuid => StoredCell::Uuid(unhex(&text.replace('-', "")).try_into().unwrap()),
        ColumnType::Json => StoredCell::Json(serde_json::from_str(text).unwrap()),
        ColumnType::List(_) => panic!("no schema of these tests asks for arrays in one column"),
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Whether two values are the same but for the order of fields and the types of equal numbers.
pub(crate) fn same(a: &Bson, b: &Bson) -> bool {
    match (a, b) {
        (Bson::Document(a), Bson::Document(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        (Bson::Array(a), Bson::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Bson::Double(a), Bson::Double(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || a == b,
        (a, b) if a == b => true,
        (a, b) => number(a).zip(number(b)).is_some_and(|(a, b)| a == b || (a.is_nan() && b.is_nan())),
    }
}

/// The numbers of these tests are few enough digits for a double.
fn number(value: &Bson) -> Option<f64> {
    match value {
        Bson::Int32(n) => Some(f64::from(*n)),
        Bson::Int64(n) => Some(*n as f64),
        Bson::Double(n) => Some(*n),
        Bson::Decimal128(n) => n.to_string().parse().ok(),
        _ => None,
    }
}
