//! The document tree of a layout, each field with the table and the columns that it becomes.

use gizer_schema::diff::{TableShape, shapes};
use gizer_schema::{Column, ColumnId, ColumnSource, ColumnType, DocumentPlan, Layout, Plan, TableId};

/// A collection as it is drawn.
pub(super) struct Diagram<'l> {
    pub(super) layout: &'l Layout,
    /// What each table and column holds, in words, by their places in the layout.
    pub(super) shapes: Vec<TableShape>,
    /// The fields in path order.
    pub(super) fields: Vec<FieldRow<'l>>,
}

/// A field of the tree.
pub(super) struct FieldRow<'l> {
    /// Its name; `[]` or `{}` of what is directly in an array or a map, and has none.
    pub(super) name: &'l str,
    /// Its path with arrays marked.
    pub(super) path: String,
    /// For each level from the root to its own: whether the field of that level is the last of its document.
    pub(super) last: Vec<bool>,
    pub(super) kind: RowKind,
    /// The table that its columns are in: of an array its own one.
    pub(super) table: TableId,
    /// The columns that hold it; of an array of values, its elements.
    pub(super) columns: Vec<ColumnId>,
}

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowKind {
    Value,
    Document,
    Array,
    Map,
    Ignored,
}

impl RowKind {
    /// What marks it in paths, if it has a table: the name of one that is directly in another.
    pub(super) fn mark(self) -> &'static str {
        match self {
            RowKind::Array => "[]",
            RowKind::Map => "{}",
            RowKind::Value | RowKind::Document | RowKind::Ignored => "",
        }
    }

    /// Whether it has a table of its own.
    pub(super) fn has_table(self) -> bool {
        !self.mark().is_empty()
    }
}

impl<'l> FieldRow<'l> {
    /// Its name, so that there is something to see of it.
    pub(super) fn shown(&self) -> &'l str {
        if self.name.is_empty() { "\"\"" } else { self.name }
    }
}

impl<'l> Diagram<'l> {
    pub(super) fn new(layout: &'l Layout) -> Diagram<'l> {
        let mut diagram = Diagram { layout, shapes: shapes(layout), fields: Vec::new() };
        diagram.document(&layout.document, TableId(0), "", &[]);
        diagram
    }

    fn document(&mut self, document: &'l DocumentPlan, table: TableId, prefix: &str, above: &[bool]) {
        for (i, field) in document.fields.iter().enumerate() {
            let dot = if prefix.is_empty() { "" } else { "." };
            let last: Vec<bool> = above.iter().copied().chain([i + 1 == document.fields.len()]).collect();
            self.field(&field.name, &field.plan, table, &format!("{prefix}{dot}{}", field.name), &last);
        }
    }

    fn field(&mut self, name: &'l str, plan: &'l Plan, table: TableId, path: &str, last: &[bool]) {
        let row = |path: &str, kind, table, columns| FieldRow {
            name,
            path: path.to_owned(),
            last: last.to_vec(),
            kind,
            table,
            columns,
        };
        match plan {
            Plan::Column(_) | Plan::ObjectIdPair { .. } => {
                self.fields.push(row(path, RowKind::Value, table, value_columns(plan)));
            }
            Plan::Ignored => self.fields.push(row(path, RowKind::Ignored, table, Vec::new())),
            Plan::Document(document) => {
                self.fields.push(row(path, RowKind::Document, table, Vec::new()));
                self.document(document, table, path, last);
            }
            Plan::Table { table: child, element: inside } | Plan::Map { table: child, value: inside, .. } => {
                let kind = if matches!(plan, Plan::Map { .. }) { RowKind::Map } else { RowKind::Array };
                let path = format!("{path}{}", kind.mark());
                self.fields.push(row(&path, kind, *child, value_columns(inside)));
                let within: Vec<bool> = last.iter().copied().chain([true]).collect();
                match &**inside {
                    Plan::Document(document) => self.document(document, *child, &path, last),
                    Plan::Table { .. } => self.field(RowKind::Array.mark(), inside, *child, &path, &within),
                    Plan::Map { .. } => self.field(RowKind::Map.mark(), inside, *child, &path, &within),
                    _ => {}
                }
            }
        }
    }

    /// What the schema says of a field, for people.
    pub(super) fn says(&self, row: &FieldRow<'_>) -> String {
        let ty = row.columns.first().map(|column| self.layout.table(row.table).columns[column.0].ty);
        match (row.kind, ty) {
            (RowKind::Ignored, _) => "ignored".to_owned(),
            (_, Some(_)) if row.columns.len() == 2 => "OBJECTID".to_owned(),
            (_, Some(ColumnType::List(element))) => format!("array of {element}"),
            (_, Some(ty)) => ty.schema_name().to_owned(),
            (_, None) => String::new(),
        }
    }

    /// Whether a column is of the key of its table.
    pub(super) fn is_key(&self, table: TableId, column: ColumnId) -> bool {
        let table = self.layout.table(table);
        table.key_columns().any(|key| std::ptr::eq(key, &table.columns[column.0]))
    }

    /// What a column holds, in words; of a field its path.
    pub(super) fn holds(&self, table: TableId, column: ColumnId) -> &str {
        let holds = self.shapes[table.0].columns[column.0].holds.as_deref();
        // A field may be called nothing.
        holds.filter(|holds| !holds.is_empty()).unwrap_or("\"\"")
    }
}

/// The columns of a value in its table.
fn value_columns(plan: &Plan) -> Vec<ColumnId> {
    match plan {
        Plan::Column(column) => vec![*column],
        Plan::ObjectIdPair { oid, bsontype, .. } => vec![*oid, *bsontype],
        _ => Vec::new(),
    }
}

/// Columns that come from no field: the root's key and the positions in a child table, or `_extra`.
pub(super) fn columns_of(
    layout: &Layout,
    table: TableId,
    wanted: fn(&ColumnSource) -> bool,
) -> impl Iterator<Item = (ColumnId, &Column)> {
    let columns = layout.table(table).columns.iter().enumerate();
    columns.filter(move |(_, column)| wanted(&column.source)).map(|(i, column)| (ColumnId(i), column))
}

/// A column's type by the short name that PostgreSQL takes.
pub(super) fn sql_type(ty: ColumnType) -> String {
    ty.pg_name().to_lowercase().replace("timestamp with time zone", "timestamptz")
}
