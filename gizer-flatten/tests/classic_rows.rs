//! Every case of the classic tool: schema and document in, rows and warnings out.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use bson::Bson;
use gizer_flatten::{Cell, Flattener, Row, RowSink};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, file};
use serde_json::{Value, json};

/// Rows as the case files have them: JSON, by table.
#[derive(Default)]
struct Rows<'l> {
    names: Vec<&'l str>,
    rows: BTreeMap<&'l str, Vec<Value>>,
}

impl RowSink for Rows<'_> {
    fn begin_document(&mut self) {
        self.rows.clear();
    }

    fn row(&mut self, row: Row<'_>) {
        let cells: Vec<Value> = row.cells.iter().map(as_json).collect();
        self.rows.entry(self.names[row.table.0]).or_default().push(json!(cells));
    }

    fn discard_document(&mut self) {
        self.rows.clear();
    }
}

fn as_json(cell: &Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => json!(text.as_str()),
        Cell::ObjectId(id) => json!(bson::oid::ObjectId::from_bytes(*id).to_hex()),
        Cell::SmallInt(n) => json!(n),
        Cell::Integer(n) => json!(n),
        Cell::BigInt(n) => json!(n),
        Cell::Double(n) if n.fract() == 0.0 => json!(*n as i64),
        Cell::Double(n) => json!(n),
        Cell::Boolean(b) => json!(b),
        Cell::Timestamp(millis) => {
            json!({"$date": bson::DateTime::from_millis(*millis).try_to_rfc3339_string().unwrap()})
        }
        other => panic!("no classic case has {other:?}"),
    }
}

#[test]
fn mapping_cases() {
    let path = format!("{}/../testdata/classic/mapping.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut documents = 0;
    for case in &cases {
        let collection = case["collection"].as_str().unwrap();
        let layout = Layout::new(&file::parse(collection, &case["schema"].to_string()).unwrap()).unwrap();
        let mut flattener = Flattener::new(&layout);
        for record in case["records"].as_array().unwrap() {
            documents += 1;
            let name = format!("{} {}", case["case"], record["document"]);
            let Bson::Document(document) = serde_json::from_value(record["document"].clone()).unwrap() else {
                panic!("{name} is no document")
            };
            let bytes = document.to_vec().unwrap();
            let mut rows =
                Rows { names: layout.tables.iter().map(|t| t.name.as_str()).collect(), rows: BTreeMap::new() };
            flattener.flatten([RawDoc::new(&bytes).unwrap()], &mut rows, |_, rejection| {
                panic!("{name} was rejected: {rejection:?}")
            });
            assert_eq!(json!(rows.rows), record["rows"], "rows of {name}");

            let tally = flattener.take_tally();
            assert_eq!((tally.read, tally.loaded, tally.rejected), (1, 1, 0));
            // The classic tool was silent about a scalar where a document or an array is expected; gizer counts it.
            let warnings: BTreeMap<String, u64> = tally
                .mismatches(&layout)
                .into_iter()
                .filter(|m| m.expected != "DOCUMENT" && m.expected != "ARRAY")
                .map(|m| (m.classic_warning(collection), m.count))
                .collect();
            assert_eq!(json!(warnings), record["warnings"], "warnings of {name}");
        }
    }
    assert_eq!(documents, 17, "the case file has 17 documents");
}
