//! The rows that a document should have become.

use std::collections::HashMap;

use bson::{Bson, Document};

use super::cell::Cell;
use super::tables::{Content, Mapping, Type};

/// The number that BSON has for the type ObjectId.
const OBJECT_ID_TYPE: i64 = 7;

/// A row of the table with this number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) table: usize,
    /// One a column.
    pub(super) cells: Vec<Cell>,
}

/// Cells by the names of their columns; what is missing is NULL.
type Named<'m> = HashMap<&'m str, Cell>;

impl Mapping {
    /// The root key of a document and its rows; `None` if its key does not fit, which has no rows then.
    pub(super) fn rows(&self, document: &Document) -> Option<(Cell, Vec<Row>)> {
        let key = self.key(document);
        if key == Cell::Null {
            return None;
        }
        let mut writing = Writing { mapping: self, key: key.clone(), rows: Vec::new() };
        let mut root = Named::with_capacity(self.tables[0].columns.len());
        writing.fields(&self.root, document, &mut root, &[]);
        writing.finish(0, root);
        Some((key, writing.rows))
    }

    fn key(&self, document: &Document) -> Cell {
        let mut row = Named::new();
        for (name, content) in &self.root {
            if name == self.key_field {
                let mut writing = Writing { mapping: self, key: Cell::Null, rows: Vec::new() };
                writing.value(content, document.get(name), &mut row, &[]);
            }
        }
        row.remove(self.tables[0].key.as_str()).unwrap_or(Cell::Null)
    }
}

struct Writing<'m> {
    mapping: &'m Mapping,
    key: Cell,
    rows: Vec<Row>,
}

impl<'m> Writing<'m> {
    fn fields(
        &mut self,
        contents: &'m [(String, Content)],
        document: &Document,
        row: &mut Named<'m>,
        positions: &[i64],
    ) {
        for (name, content) in contents {
            self.value(content, document.get(name), row, positions);
        }
    }

    /// `row` is the one that the value's columns belong to, `positions` say where it is.
    fn value(&mut self, content: &'m Content, value: Option<&Bson>, row: &mut Named<'m>, positions: &[i64]) {
        match (content, value) {
            (Content::Column(column), Some(value)) => {
                row.insert(&column.name, Cell::of(column.ty, value));
            }
            (Content::ObjectId(fields), Some(Bson::ObjectId(id))) => {
                for (_, content) in fields {
                    let Content::Column(column) = content else { continue };
                    let text = column.ty == Type::Text;
                    let cell = if text { Cell::Text(id.to_hex()) } else { Cell::Integer(OBJECT_ID_TYPE) };
                    row.insert(&column.name, cell);
                }
            }
            (Content::Fields(fields) | Content::ObjectId(fields), Some(Bson::Document(document))) => {
                self.fields(fields, document, row, positions);
            }
            (Content::Rows { table, element }, Some(Bson::Array(values))) => {
                let child_table = &self.mapping.tables[*table];
                for (value, position) in values.iter().zip(1..) {
                    let mut child = Named::with_capacity(child_table.columns.len());
                    let positions = [positions, &[position]].concat();
                    self.value(element, Some(value), &mut child, &positions);
                    child.insert(&child_table.key, self.key.clone());
                    child.extend(
                        child_table.positions.iter().map(String::as_str).zip(positions.into_iter().map(Cell::Integer)),
                    );
                    self.finish(*table, child);
                }
            }
            // Missing, or of another type.
            _ => {}
        }
    }

    /// Puts the cells of a row into the order of its table's columns.
    fn finish(&mut self, table: usize, mut row: Named<'m>) {
        let columns = &self.mapping.tables[table].columns;
        let cells = columns.iter().map(|column| row.remove(column.name.as_str()).unwrap_or(Cell::Null)).collect();
        self.rows.push(Row { table, cells });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bson::doc;
    use serde_json::{Value, json};

    use super::*;

    fn as_json(cell: &Cell) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Text(text) => json!(text),
            Cell::Integer(number) => json!(number),
            Cell::Double(bits) => json!(f64::from_bits(*bits) as i64),
            Cell::Time(micros) => {
                json!({ "$date": bson::DateTime::from_millis(micros / 1_000).try_to_rfc3339_string().unwrap() })
            }
            other => panic!("no classic case has {other}"),
        }
    }

    #[test]
    fn the_rows_are_those_of_the_classic_tool() {
        let path = format!("{}/../testdata/classic/mapping.json", env!("CARGO_MANIFEST_DIR"));
        let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut documents = 0;
        for case in &cases {
            let mapping = Mapping::new(case["collection"].as_str().unwrap(), &case["schema"].to_string()).unwrap();
            for record in case["records"].as_array().unwrap() {
                let document: Document = serde_json::from_value(record["document"].clone()).unwrap();
                let (_, found) = mapping.rows(&document).unwrap();
                let mut rows: BTreeMap<&str, Vec<Vec<Value>>> = BTreeMap::new();
                for row in &found {
                    let name = mapping.tables[row.table].name.as_str();
                    rows.entry(name).or_default().push(row.cells.iter().map(as_json).collect());
                }
                assert_eq!(json!(rows), record["rows"], "{}", case["case"]);
                documents += 1;
            }
        }
        assert_eq!(documents, 17);
    }

    #[test]
    fn a_document_whose_key_does_not_fit_has_no_rows() {
        let by_number = Mapping::new("c", r#"{"_id": "INT", "a": ["INT"]}"#).unwrap();
        for id in [Bson::Null, "x".into(), 5.5.into()] {
            assert!(by_number.rows(&doc! { "_id": id.clone(), "a": [1] }).is_none(), "{id}");
        }
        assert_eq!(by_number.rows(&doc! { "_id": 5.0, "a": [1, 2] }).map(|(_, rows)| rows.len()), Some(3));
        let by_id = Mapping::new("c", r#"{"_id": {"oid": "STRING", "bsontype": "INT"}}"#).unwrap();
        assert!(by_id.rows(&doc! { "_id": 5 }).is_none());
    }
}
