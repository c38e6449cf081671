//! A guard against absurd schemas: no more tables for a collection, columns in a table and bytes in a row than the limits.
//!
//! ```text
//! too many tables               ──► the document with most tables in it becomes JSON, and so on; then the rarest arrays and maps
//! too many columns, or a row
//! that no page of 8 kB holds    ──► the document with most columns of this table becomes JSON, and so on; then the rarest
//!                                   fields are left to _extra
//! ```
//!
//! Of the last document only what is too much becomes JSON, if that is a few documents in it ([`DocumentTree`]). Maps stay: they are
//! narrow. Each is reported as a [`Finding`], with what there would have been.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::document_tree::DocumentTree;
use super::resolve::Finding;
use super::row_width::RowWidth;
use crate::column_type::ScalarType;
use crate::model::{Field, Fields, Node};

/// How large the tables of a collection may become by inference. What people write in a schema file has no limits but
/// PostgreSQL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Tables of a collection, its root table among them.
    pub tables: usize,
    /// Columns of a table that hold fields. PostgreSQL takes 1,600 ("Limits"), the key's and `_extra` among them.
    pub columns: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { tables: 200, columns: 1_000 }
    }
}

/// Bytes of the fields of a row of at most 8,160: so much is left by its header, which marks each NULL, the key and `_extra`.
const MAX_ROW_BYTES: usize = 7_600;

/// Of what there would be too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowded {
    /// The collection would have so many tables.
    Tables(usize),
    /// A table would have so many columns.
    Columns(usize),
    /// A row of the table would have up to so many bytes, with what is stored outside of it left out.
    RowBytes(usize),
}

/// What was seen of paths that decides what becomes narrower.
#[derive(Debug, Default)]
pub(super) struct SeenOf {
    /// Values, by path.
    values: BTreeMap<Vec<String>, u64>,
    /// The most bytes of a row, by the path of the table; with what is in maps and JSON.
    rows: BTreeMap<Vec<String>, usize>,
    /// The most bytes of the own fields of a document, by its path.
    own: BTreeMap<Vec<String>, usize>,
}

impl SeenOf {
    /// Notes how many values a field has; its elements have the same path, and come later.
    pub(super) fn values(&mut self, path: &[String], count: u64) {
        self.values.entry(path.to_vec()).or_insert(count);
    }

    pub(super) fn own(&mut self, path: &[String], bytes: usize) {
        let most = self.own.entry(path.to_vec()).or_default();
        *most = bytes.max(*most);
    }

    pub(super) fn row(&mut self, path: &[String], bytes: usize) {
        let most = self.rows.entry(path.to_vec()).or_default();
        *most = bytes.max(*most);
    }
}

/// Keeps the schema within the limits; what that took.
pub(super) fn narrow(fields: &mut Fields, limits: &Limits, seen: &SeenOf) -> Vec<Finding> {
    let mut narrow = Narrow { limits, seen, findings: Vec::new() };
    narrow.tables(fields);
    narrow.columns(fields, &mut Vec::new());
    narrow.findings
}

struct Narrow<'n> {
    limits: &'n Limits,
    seen: &'n SeenOf,
    findings: Vec<Finding>,
}

impl Narrow<'_> {
    fn tables(&mut self, fields: &mut Fields) {
        let tables = 1 + weight_of(fields, &Measure::Tables).bytes();
        let crowded = Crowded::Tables(tables);
        if self.documents_to_json(fields, &[], &Measure::Tables, self.limits.tables.saturating_sub(1), crowded) {
            return;
        }
        // None is in a document any more.
        let mut found = Vec::new();
        containers(fields, &mut Vec::new(), &mut found);
        found.sort_by_key(|path| (self.seen.values.get(path).copied().unwrap_or_default(), Reverse(path.clone())));
        for path in found {
            if weight_of(fields, &Measure::Tables).bytes() < self.limits.tables {
                break;
            }
            let field = field_at(fields, &path, false);
            self.keep_as_json(field, &[], &path, crowded);
        }
    }

    /// Narrows the table of `fields`, and the tables below.
    fn columns(&mut self, fields: &mut Fields, path: &mut Vec<String>) {
        let columns = weight_of(fields, &Measure::Columns).bytes();
        self.fit(fields, path, &Measure::Columns, self.limits.columns, Crowded::Columns(columns));
        let longest = self.longest_row(fields, path);
        if longest > MAX_ROW_BYTES {
            self.fit(fields, path, &Measure::Bytes, MAX_ROW_BYTES, Crowded::RowBytes(longest));
        }
        self.tables_below(fields, path);
    }

    /// The most bytes that a row of this table can have by what was seen, in columns that may be wider than their values.
    fn longest_row(&self, fields: &Fields, path: &mut Vec<String>) -> usize {
        let seen = self.seen.rows.get(path).copied().unwrap_or_default();
        seen.min(self.own_bytes(fields, path)) + wide_columns(fields) * RowWidth::AS_TEXT
    }

    /// The same of documents that have columns of their own.
    fn own_bytes(&self, fields: &Fields, path: &mut Vec<String>) -> usize {
        let mut bytes = self.seen.own.get(path).copied().unwrap_or_default();
        for (name, field) in fields {
            if let Node::Document(fields) = &field.node {
                path.push(name.clone());
                bytes += self.own_bytes(fields, path);
                path.pop();
            }
        }
        bytes
    }

    fn tables_below(&mut self, fields: &mut Fields, path: &mut Vec<String>) {
        for (name, field) in fields {
            path.push(name.clone());
            match &mut field.node {
                Node::Document(fields) => self.tables_below(fields, path),
                Node::Array(inside) | Node::Map(inside) => {
                    if let Node::Document(fields) = &mut inside.node {
                        self.columns(fields, path);
                    }
                }
                _ => {}
            }
            path.pop();
        }
    }

    fn fit(&mut self, fields: &mut Fields, table: &[String], measure: &Measure, limit: usize, crowded: Crowded) {
        if self.documents_to_json(fields, table, measure, limit, crowded) {
            return;
        }
        let count = |name: &String| {
            let path: Vec<String> = table.iter().chain([name]).cloned().collect();
            self.seen.values.get(&path).copied().unwrap_or_default()
        };
        let mut names: Vec<(u64, String)> = fields.keys().map(|name| (count(name), name.clone())).collect();
        names.retain(|(_, name)| !table.is_empty() || name != "_id");
        names.sort_by_key(|(count, name)| (*count, Reverse(name.clone())));
        let mut left_out = 0;
        for (count, name) in names {
            if weight_of(fields, measure).bytes() <= limit {
                break;
            }
            if weight(&fields[&name], measure) != RowWidth::default() {
                fields.remove(&name);
                left_out += count;
            }
        }
        if left_out > 0 {
            let finding = Finding::new(table, "DOCUMENT");
            self.findings.push(Finding { names_beyond_limit: left_out, crowded: Some(crowded), ..finding });
        }
    }

    /// Whether all is within the limit now.
    fn documents_to_json(
        &mut self,
        fields: &mut Fields,
        table: &[String],
        measure: &Measure,
        limit: usize,
        crowded: Crowded,
    ) -> bool {
        let tree = DocumentTree::of(fields, measure);
        let (chosen, is_enough) = tree.choose(limit);
        for document in chosen {
            let field = field_at(fields, &document.path, document.inside);
            self.keep_as_json(field, table, &document.path, crowded);
        }
        is_enough
    }

    fn keep_as_json(&mut self, field: Option<&mut Field>, table: &[String], path: &[String], crowded: Crowded) {
        if let Some(field) = field {
            field.node = Node::Scalar(ScalarType::Json);
            field.seen.clear();
            let path: Vec<String> = table.iter().chain(path).cloned().collect();
            self.findings.push(Finding { crowded: Some(crowded), ..Finding::new(&path, "JSON") });
        }
    }
}

/// What is counted.
pub(super) enum Measure {
    /// The tables of a collection.
    Tables,
    /// The columns of one table.
    Columns,
    /// The bytes that they have in a row at most, if long values are stored outside of it.
    Bytes,
}

impl Measure {
    /// What a field that is no document has by itself; of tables and columns their number, as bytes.
    pub(super) fn of(&self, field: &Field) -> RowWidth {
        match (self, &field.node) {
            (_, Node::Document(_) | Node::Ignored) => RowWidth::default(),
            (Measure::Tables, Node::Array(_) | Node::NestedTable(_) | Node::Map(_)) => RowWidth::anywhere(1),
            (Measure::Tables, _) | (_, Node::Array(_) | Node::NestedTable(_) | Node::Map(_)) => RowWidth::default(),
            (Measure::Columns, _) => RowWidth::anywhere(1),
            (Measure::Bytes, Node::Scalar(scalar)) => RowWidth::of_column(*scalar),
            (Measure::Bytes, Node::List(_)) => RowWidth::of_column(ScalarType::Json),
        }
    }
}

/// Columns whose values may have been shorter than they are in there: numbers as text or as `numeric`.
fn wide_columns(fields: &Fields) -> usize {
    let of = |field: &Field| match &field.node {
        Node::Document(fields) => wide_columns(fields),
        Node::Scalar(ScalarType::Json | ScalarType::Decimal) => 1,
        _ => 0,
    };
    fields.values().map(of).sum()
}

/// What fields have, documents in them included; of tables, also what is in arrays and maps.
fn weight_of(fields: &Fields, measure: &Measure) -> RowWidth {
    fields.values().fold(RowWidth::default(), |mut all, field| {
        all += weight(field, measure);
        all
    })
}

pub(super) fn weight(field: &Field, measure: &Measure) -> RowWidth {
    let mut all = match &field.node {
        Node::Document(fields) => weight_of(fields, measure),
        Node::Array(inside) | Node::NestedTable(inside) | Node::Map(inside) if matches!(measure, Measure::Tables) => {
            weight(inside, measure)
        }
        _ => RowWidth::default(),
    };
    all += measure.of(field);
    all
}

/// The arrays and maps in these fields and documents, not those in others.
fn containers(fields: &Fields, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    for (name, field) in fields {
        path.push(name.clone());
        match &field.node {
            Node::Document(fields) => containers(fields, path, found),
            Node::Array(_) | Node::NestedTable(_) | Node::Map(_) => found.push(path.clone()),
            _ => {}
        }
        path.pop();
    }
}

/// The field at a path, or what is in the array or map there.
fn field_at<'f>(fields: &'f mut Fields, path: &[String], inside: bool) -> Option<&'f mut Field> {
    let (first, rest) = path.split_first()?;
    let field = fields.get_mut(first)?;
    if rest.is_empty() {
        return Some(if inside { innermost(field) } else { field });
    }
    match &mut innermost(field).node {
        Node::Document(fields) => field_at(fields, rest, inside),
        _ => None,
    }
}

/// What is in arrays and maps.
fn innermost(field: &mut Field) -> &mut Field {
    if !matches!(field.node, Node::Array(_) | Node::NestedTable(_) | Node::Map(_)) {
        return field;
    }
    match &mut field.node {
        Node::Array(inside) | Node::NestedTable(inside) | Node::Map(inside) => innermost(inside),
        _ => unreachable!("it is one of these"),
    }
}
