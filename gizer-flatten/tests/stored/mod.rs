//! Rows kept as PostgreSQL would keep them, and documents rebuilt from them.

use bson::Document;
use gizer_flatten::{Cell, Flattener, Rejection, Row, RowSink, StoredCell, StoredRow, rebuild};
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;

struct Kept {
    tables: usize,
    documents: Vec<Vec<Vec<StoredRow>>>,
}

impl RowSink for Kept {
    fn begin_document(&mut self) {
        self.documents.push(vec![Vec::new(); self.tables]);
    }

    fn row(&mut self, row: Row<'_>) {
        let extra = (!row.extra.is_empty()).then(|| {
            let mut json = Vec::new();
            row.extra.write_to(&mut json);
            serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(&json)))
        });
        let cells = row.cells.iter().map(stored).collect();
        self.documents.last_mut().unwrap()[row.table.0].push(StoredRow { cells, extra });
    }

    fn discard_document(&mut self) {
        self.documents.pop();
    }
}

fn stored(cell: &Cell<'_>) -> StoredCell {
    let text = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    };
    match *cell {
        Cell::Null => StoredCell::Null,
        Cell::Text(text) => {
            let text = text.as_str();
            assert!(!text.contains('\0'));
            StoredCell::Text(text.to_owned())
        }
        Cell::ObjectId(id) => StoredCell::Text(bson::oid::ObjectId::from_bytes(id).to_hex()),
        Cell::SmallInt(n) => StoredCell::SmallInt(n),
        Cell::Integer(n) => StoredCell::Integer(n),
        Cell::BigInt(n) => StoredCell::BigInt(n),
        Cell::Double(n) => StoredCell::Double(n),
        Cell::Boolean(b) => StoredCell::Boolean(b),
        Cell::Timestamp(ms) => StoredCell::Timestamp(ms),
        // As PostgreSQL prints it: no exponent, all zeros written out.
        Cell::Numeric(n) => {
            let mut digits = n.digits.to_string();
            if n.exponent >= 0 {
                digits.push_str(&"0".repeat(if n.digits == 0 { 0 } else { n.exponent as usize }));
            } else {
                let scale = n.exponent.unsigned_abs() as usize;
                let padded = format!("{digits:0>width$}", width = scale + 1);
                digits = format!("{}.{}", &padded[..padded.len() - scale], &padded[padded.len() - scale..]);
            }
            let minus = if n.negative && n.digits != 0 { "-" } else { "" };
            StoredCell::Numeric(format!("{minus}{digits}"))
        }
        Cell::NumericNaN => StoredCell::Numeric("NaN".to_owned()),
        Cell::Bytes(bytes) => StoredCell::Bytes(bytes.to_vec()),
        Cell::Uuid(uuid) => StoredCell::Uuid(uuid),
        Cell::Json(json) => StoredCell::Json(serde_json::from_str(&text(&|out| json.write_to(out))).unwrap()),
        Cell::Key(key) => StoredCell::Text(text(&|out| key.write_to(out))),
        Cell::List(list) => StoredCell::List(list.cells().map(|cell| stored(&cell)).collect()),
    }
}

/// The rows of a document, by table.
pub(crate) type Rows = Vec<Vec<StoredRow>>;

/// The rows of each document; `None` for a rejected one.
pub(crate) fn rows(layout: &Layout, documents: &[Vec<u8>]) -> (Vec<Option<Rows>>, Vec<Rejection>) {
    let mut flattener = Flattener::new(layout);
    let mut kept = Kept { tables: layout.tables.len(), documents: Vec::new() };
    let mut rejected = Vec::new();
    let mut all = Vec::new();
    for bytes in documents {
        let before = rejected.len();
        flattener.flatten([RawDoc::new(bytes).unwrap()], &mut kept, |_, rejection| rejected.push(rejection));
        all.push(if rejected.len() == before { kept.documents.pop() } else { None });
    }
    (all, rejected)
}

fn read(bytes: &[u8]) -> Document {
    Document::from_reader(bytes).unwrap()
}

/// Each document from its rows, as BSON.
pub(crate) fn rebuilt_bytes(layout: &Layout, documents: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (rows, rejected) = rows(layout, documents);
    assert_eq!(rejected, []);
    rows.into_iter().map(|rows| rebuild(layout, &rows.unwrap()).unwrap()).collect()
}

/// Each document from its rows; `None` for a rejected one.
pub(crate) fn flatten_and_rebuild(layout: &Layout, documents: &[Vec<u8>]) -> (Vec<Option<Document>>, Vec<Rejection>) {
    let (rows, rejected) = rows(layout, documents);
    let rebuilt = rows.into_iter().map(|rows| {
        rows.map(|rows| read(&rebuild(layout, &rows).unwrap_or_else(|error| panic!("{error}\n{rows:#?}"))))
    });
    (rebuilt.collect(), rejected)
}
