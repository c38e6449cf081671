//! The statements that make a collection's tables, from its [`Layout`].
//!
//! A table is made in three steps: without keys ([`create_table`]), its key once the data are there ([`add_key`]), and
//! comments that hold the source paths ([`comments`]). The comment of a table is also gizer's mark on it: a table
//! without one was not made by gizer ([`mark`]).

use gizer_schema::names::{MAX_IDENTIFIER_BYTES, Taken, hashed};
use gizer_schema::{
    Column, ColumnId, ColumnSource, ColumnType, Dialect, DocumentPlan, KeySource, Layout, PathId, Plan, Table, TableId,
};
use sha2::{Digest, Sha256};

use crate::error::PgError;
use crate::ident::{Qualified, quote_identifier, quote_literal};

/// How every comment on a table of gizer begins.
const MARK: &str = "gizer: ";

/// What the names of staging tables and of their indexes begin with.
const STAGING_PREFIX: &str = "gizer_new_";

/// The name under which a table or an index is filled, next to the live one.
pub fn staging_name(name: &str) -> String {
    let wanted = format!("{STAGING_PREFIX}{name}");
    if wanted.len() <= MAX_IDENTIFIER_BYTES { wanted } else { hashed(&wanted, name) }
}

/// The name of each table's key, in the order of the tables. It is `<table>_pkey`, or `<table>_idx` of a plain index
/// ([`add_key`]), hashed where that is too long or taken.
pub fn key_names(layout: &Layout) -> Vec<String> {
    let mut taken = Taken::default();
    for table in &layout.tables {
        taken.take(&table.name, &table.name);
    }
    let suffix = if is_unique(layout) { "pkey" } else { "idx" };
    layout.tables.iter().map(|table| taken.take(&format!("{}_{suffix}", table.name), &table.name)).collect()
}

/// Whether the root key identifies a document: `id` in a schema without `_id` is neither unique nor always there.
pub fn is_unique(layout: &Layout) -> bool {
    layout.key.source == KeySource::UnderscoreId
}

/// `CREATE TABLE` for a table of the layout under the name `at`, without its key.
///
/// # Errors
/// [`PgError::UnusableName`] if a column cannot be named.
pub fn create_table(layout: &Layout, id: TableId, at: &Qualified) -> Result<String, PgError> {
    let table = layout.table(id);
    Ok(format!("CREATE TABLE {at} (\n    {}\n)", definitions(layout, table)?.join(",\n    ")))
}

/// The definitions of a table's columns.
pub(crate) fn definitions(layout: &Layout, table: &Table) -> Result<Vec<String>, PgError> {
    let definition = |(i, column)| column_definition(layout, column, i == table.key.0);
    table.columns.iter().enumerate().map(definition).collect()
}

/// The definition of a column; `is_key` says whether it is that of the root key.
fn column_definition(layout: &Layout, column: &Column, is_key: bool) -> Result<String, PgError> {
    let mut definition = format!("{} {}", quote_identifier(&column.name)?, column.ty.pg_name());
    if (is_key || matches!(column.source, ColumnSource::Position(_))) && column.ty.is_text() {
        // Byte order: the same on every system, and what MongoDB has without a collation.
        definition.push_str(" COLLATE \"C\"");
    }
    let always_there = match column.source {
        ColumnSource::Position(_) => true,
        ColumnSource::Field(_) | ColumnSource::RootKey => is_key && is_unique(layout),
        ColumnSource::Extra => false,
    };
    if always_there {
        definition.push_str(" NOT NULL");
    }
    Ok(definition)
}

/// Adds the key `key` to the table at `at`: root key, then positions. It is a PRIMARY KEY, or a plain index where the
/// root key is not unique.
///
/// # Errors
/// [`PgError::UnusableName`] if a column cannot be named.
pub fn add_key(layout: &Layout, id: TableId, at: &Qualified, key: &str) -> Result<String, PgError> {
    let (key, columns) = (quote_identifier(key)?, quoted(layout.table(id).key_columns())?.join(", "));
    Ok(if is_unique(layout) {
        format!("ALTER TABLE {at} ADD CONSTRAINT {key} PRIMARY KEY ({columns})")
    } else {
        format!("CREATE INDEX {key} ON {at} ({columns})")
    })
}

/// The names of columns in quotes.
pub(crate) fn quoted<'c>(columns: impl IntoIterator<Item = &'c Column>) -> Result<Vec<String>, PgError> {
    columns.into_iter().map(|column| quote_identifier(&column.name)).collect()
}

/// `COMMENT ON` the table at `at` and on each of its columns: the source paths.
///
/// # Errors
/// [`PgError::UnusableName`] if a column cannot be named.
pub fn comments(layout: &Layout, id: TableId, at: &Qualified) -> Result<Vec<String>, PgError> {
    let table = layout.table(id);
    let mut statements = vec![format!("COMMENT ON TABLE {at} IS {}", comment_literal(&mark(layout, id))?)];
    for column in &table.columns {
        statements.push(column_comment(layout, id, column, at)?);
    }
    Ok(statements)
}

fn column_comment(layout: &Layout, id: TableId, column: &Column, at: &Qualified) -> Result<String, PgError> {
    let source = comment_literal(&column_path(layout, id, column))?;
    Ok(format!("COMMENT ON COLUMN {at}.{} IS {source}", quote_identifier(&column.name)?))
}

/// What adds these columns to the table at `at`, which may have rows, and says what they hold.
///
/// # Errors
/// [`PgError::UnusableName`] if a column cannot be named.
pub(crate) fn add_columns(
    layout: &Layout,
    id: TableId,
    columns: &[ColumnId],
    at: &Qualified,
) -> Result<Vec<String>, PgError> {
    let columns = || columns.iter().map(|column| &layout.table(id).columns[column.0]);
    let additions = columns().map(|column| Ok(format!("ADD COLUMN {}", column_definition(layout, column, false)?)));
    let additions = additions.collect::<Result<Vec<_>, PgError>>()?.join(", ");
    let mut statements = vec![format!("ALTER TABLE {at} {additions}")];
    for column in columns() {
        statements.push(column_comment(layout, id, column, at)?);
    }
    Ok(statements)
}

/// A field's name may hold a NUL in a schema file, though in no document.
fn comment_literal(text: &str) -> Result<String, PgError> {
    quote_literal(&text.replace('\0', "\\0"))
}

/// The comment on a table: `gizer: posts` on a root table, `gizer: posts.comments[].items[]` on a child table.
pub fn mark(layout: &Layout, id: TableId) -> String {
    match layout.table(id).path {
        None => format!("{MARK}{}", layout.collection),
        Some(_) => format!("{MARK}{}.{}", layout.collection, table_path(layout, id)),
    }
}

/// Whether a table's comment says that it was made by gizer.
pub(crate) fn is_marked(comment: Option<&str>) -> bool {
    comment.is_some_and(|comment| comment.starts_with(MARK))
}

/// Whether a comment marks a table of this collection. One collection's name may be another's with a dot and more
/// behind it, so that this alone does not tell `a` with an array `b.c` from `a.b` with an array `c`.
pub(crate) fn is_marked_for(comment: Option<&str>, collection: &str) -> bool {
    table_path_of(comment, collection).is_some()
}

/// The path that a comment says its table is of, if it marks one of this collection: `comments[].items[]`, or nothing for
/// the root table.
pub(crate) fn table_path_of<'c>(comment: Option<&'c str>, collection: &str) -> Option<&'c str> {
    match comment?.strip_prefix(MARK)?.strip_prefix(collection)? {
        "" => Some(""),
        rest => rest.strip_prefix('.').filter(|path| path.ends_with("[]") || path.ends_with("{}")),
    }
}

/// The path of a child table with its arrays marked: `comments[].items[]`.
fn table_path(layout: &Layout, id: TableId) -> String {
    layout.table(id).path.map_or_else(String::new, |path| marked_path(layout, path))
}

/// Field names joined by dots, with `[]` behind every array that has a table. An array directly in an array is
/// `matrix[][]`.
fn marked_path(layout: &Layout, path: PathId) -> String {
    let mut marked = String::new();
    let mut fields = layout.path(path).fields.iter();
    let mut at = Some(&layout.document);
    while let Some(field) = fields.next() {
        if !marked.is_empty() {
            marked.push('.');
        }
        marked.push_str(field);
        let mut plan = at.and_then(|document| plan_of(document, field));
        // One name for each array: the first its own, those inside of it what the layout calls them.
        while let Some(outer @ (Plan::Table { element: inside, .. } | Plan::Map { value: inside, .. })) = plan {
            marked.push_str(if matches!(outer, Plan::Map { .. }) { "{}" } else { "[]" });
            plan = Some(inside);
            if matches!(**inside, Plan::Table { .. } | Plan::Map { .. }) && fields.next().is_none() {
                break;
            }
        }
        at = match plan {
            Some(Plan::Document(document) | Plan::ObjectIdPair { fields: document, .. }) => Some(document),
            _ => None,
        };
    }
    marked
}

/// What happens to this field; a plan's fields are in byte order of their names.
fn plan_of<'l>(document: &'l DocumentPlan, field: &str) -> Option<&'l Plan> {
    let found = document.fields.binary_search_by(|plan| plan.name.as_str().cmp(field)).ok()?;
    Some(&document.fields[found].plan)
}

/// The paths of the arrays around a table's rows, outermost first.
fn array_paths(layout: &Layout, table: &Table) -> Vec<PathId> {
    let mut paths = Vec::new();
    let mut at = Some(table);
    while let Some(table) = at {
        paths.extend(table.path);
        at = table.parent.map(|parent| layout.table(parent));
    }
    paths.reverse();
    paths
}

fn column_path(layout: &Layout, id: TableId, column: &Column) -> String {
    let table = layout.table(id);
    match column.source {
        ColumnSource::Field(path) => marked_path(layout, path),
        ColumnSource::RootKey => {
            let root = layout.table(TableId(0));
            column_path(layout, TableId(0), &root.columns[root.key.0])
        }
        ColumnSource::Position(depth) => {
            let what = if column.ty.is_text() { "key" } else { "position" };
            format!("{what} in {}", marked_path(layout, array_paths(layout, table)[depth]))
        }
        ColumnSource::Extra if table.path.is_none() => "what has no column, or does not fit it".to_owned(),
        ColumnSource::Extra => format!("what of {} has no column, or does not fit it", table_path(layout, id)),
    }
}

/// All statements of a collection as readable SQL: tables, keys, comments, each ended by `;` and a line end.
///
/// # Errors
/// [`PgError::UnusableName`] if the schema or a column cannot be named.
pub fn render(layout: &Layout, schema: &str) -> Result<String, PgError> {
    let keys = key_names(layout);
    let mut sql = String::new();
    for (i, table) in layout.tables.iter().enumerate() {
        let (id, at) = (TableId(i), Qualified::new(schema, &table.name)?);
        let mut statements = vec![create_table(layout, id, &at)?, add_key(layout, id, &at, &keys[i])?];
        statements.extend(comments(layout, id, &at)?);
        if i > 0 {
            sql.push('\n');
        }
        for statement in statements {
            sql.push_str(&statement);
            sql.push_str(";\n");
        }
    }
    Ok(sql)
}

/// SHA-256 in hex of what [`render`] shows of a layout and of what its values mean. Layouts with one hash have the
/// same tables and write values alike.
///
/// # Errors
/// As [`render`].
pub fn layout_hash(layout: &Layout) -> Result<String, PgError> {
    let mut hash = Sha256::new_with_prefix(render(layout, "-")?);
    if let Dialect::Gizer { exact_types } = layout.dialect {
        hash.update([u8::from(exact_types)]);
        for column in layout.tables.iter().flat_map(|table| &table.columns) {
            // Text may be a string, an ObjectId, or a tagged key; arrays of text too.
            hash.update(column.ty.schema_name());
            if let ColumnType::List(element) = column.ty {
                hash.update(element.name());
            }
            hash.update([0]);
        }
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
#[path = "ddl_tests.rs"]
mod tests;
