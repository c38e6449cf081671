//! The rows of tables of gizer's dialect, read by plain SQL as text, for rebuilding documents from them.

use std::collections::BTreeMap;

use gizer_flatten::{StoredCell, StoredRow};
use gizer_schema::{ColumnType, Layout, Table};
use tokio_postgres::{Client, Row};

/// The rows of one document, by table in the order of the layout.
pub type StoredRows = Vec<Vec<StoredRow>>;

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's word.
    #[error(transparent)]
    Server(#[from] tokio_postgres::Error),

    /// A value is not what its column's type prints.
    #[error("{table}.{column} holds {text:?}")]
    Value {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Its text.
        text: String,
    },
}

/// All rows of a layout's tables, by the text of the root key.
///
/// # Errors
/// [`Error`] if a table cannot be read, or holds what gizer would not write.
pub async fn stored_rows(
    client: &Client,
    schema: &str,
    layout: &Layout,
) -> Result<BTreeMap<String, StoredRows>, Error> {
    let mut documents: BTreeMap<String, StoredRows> = BTreeMap::new();
    for (at, table) in layout.tables.iter().enumerate() {
        for row in client.query(&select(schema, table), &[]).await? {
            let (key, row) = read(table, &row)?;
            documents.entry(key).or_insert_with(|| vec![Vec::new(); layout.tables.len()])[at].push(row);
        }
    }
    Ok(documents)
}

fn select(schema: &str, table: &Table) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns = table.columns.iter().map(|column| match column.ty {
        ColumnType::TimestampTz => format!("(extract(epoch FROM {}) * 1000)::bigint::text", quoted(&column.name)),
        _ => format!("{}::text", quoted(&column.name)),
    });
    let columns: Vec<String> = columns.collect();
    format!("SELECT {} FROM {}.{}", columns.join(", "), quoted(schema), quoted(&table.name))
}

fn read(table: &Table, row: &Row) -> Result<(String, StoredRow), Error> {
    let data = table.columns.len() - usize::from(table.has_extra);
    let text = |at: usize| row.get::<_, Option<&str>>(at);
    let wrong = |at: usize, text: &str| Error::Value {
        table: table.name.clone(),
        column: table.columns[at].name.clone(),
        text: text.to_owned(),
    };
    let mut cells = Vec::with_capacity(data);
    for at in 0..data {
        cells.push(match text(at) {
            None => StoredCell::Null,
            Some(text) => cell(table.columns[at].ty, text).ok_or_else(|| wrong(at, text))?,
        });
    }
    let extra = match text(data).filter(|_| table.has_extra) {
        None => None,
        Some(text) => Some(serde_json::from_str(text).map_err(|_| wrong(data, text))?),
    };
    let key = text(table.key.0).ok_or_else(|| wrong(table.key.0, "NULL"))?;
    Ok((key.to_owned(), StoredRow { cells, extra }))
}

/// A value as PostgreSQL prints it. Arrays in one column are not read.
fn cell(ty: ColumnType, text: &str) -> Option<StoredCell> {
    Some(match ty {
        ColumnType::Text | ColumnType::ObjectId | ColumnType::Key => StoredCell::Text(text.to_owned()),
        ColumnType::SmallInt => StoredCell::SmallInt(text.parse().ok()?),
        ColumnType::Integer => StoredCell::Integer(text.parse().ok()?),
        ColumnType::BigInt => StoredCell::BigInt(text.parse().ok()?),
        ColumnType::Double => StoredCell::Double(text.parse().ok()?),
        ColumnType::Boolean => StoredCell::Boolean(text.parse().ok()?),
        ColumnType::TimestampTz => StoredCell::Timestamp(text.parse().ok()?),
        ColumnType::Numeric => StoredCell::Numeric(text.to_owned()),
        ColumnType::Bytea => StoredCell::Bytes(unhex(text.strip_prefix("\\x")?)?),
        ColumnType::Uuid => StoredCell::Uuid(unhex(&text.replace('-', ""))?.try_into().ok()?),
        ColumnType::Json => StoredCell::Json(serde_json::from_str(text).ok()?),
        ColumnType::List(_) => return None,
    })
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}
