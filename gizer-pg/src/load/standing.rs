//! The tables of a collection as they are, for comparing them with those that follow from its schema file.

use std::collections::{BTreeMap, BTreeSet};

use gizer_schema::Layout;
use gizer_schema::diff::{ColumnShape, TableShape, shapes};

use crate::connect::Session;
use crate::ddl::{is_marked_for, table_path_of};
use crate::error::PgError;
use crate::state;

/// Columns of the tables `$2` in schema `$1`, in their order; whether they are of the primary key, and at which place.
const COLUMNS: &str = "\
    SELECT c.relname::text, obj_description(c.oid, 'pg_class'), a.attname::text, format_type(a.atttypid, a.atttypmod), \
           col_description(c.oid, a.attnum), array_position(i.indkey::int2[], a.attnum) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
    WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p') ORDER BY c.relname, a.attnum";

/// What is there of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its tables, by name: those of the names that the layout wants, whoever made them, and those of its last load.
    pub tables: Vec<TableShape>,
    /// What the layout's hash was when they were loaded ([`layout_hash`](crate::ddl::layout_hash)); `None` if gizer has not
    /// loaded them.
    pub loaded_as: Option<String>,
}

/// Reads from the catalog what is there of a collection. Nothing is made or locked, and the state tables need not be there.
///
/// # Errors
/// [`PgError::NoRights`] if this role may not read the state tables that are there; whatever the server says.
pub async fn standing(session: &Session, layout: &Layout) -> Result<Standing, PgError> {
    session.in_snapshot(read(session, layout)).await
}

/// Which of these collections have tables that somebody changed, and how: a table or a column is missing, or has
/// another type. What somebody has added is no difference.
pub async fn changed_tables(session: &Session, layouts: &[&Layout]) -> Result<BTreeMap<String, String>, PgError> {
    let names: Vec<&str> = layouts.iter().flat_map(|layout| &layout.tables).map(|table| table.name.as_str()).collect();
    let mut there: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for row in session.query("reading which tables are there", TYPES, &[&session.schema(), &names]).await? {
        let columns = there.entry(row.get(0)).or_default();
        if let Some(name) = row.get::<_, Option<String>>(1) {
            columns.insert(name, row.get(2));
        }
    }
    let changed = |layout: &&Layout| Some((layout.collection.clone(), difference(layout, &there)?));
    Ok(layouts.iter().filter_map(changed).collect())
}

/// Columns of the tables `$2` in schema `$1` with their types.
const TYPES: &str = "\
    SELECT c.relname::pg_catalog.text, a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, a.atttypmod) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind IN ('r', 'p')";

fn difference(layout: &Layout, there: &BTreeMap<String, BTreeMap<String, String>>) -> Option<String> {
    for table in &layout.tables {
        let Some(columns) = there.get(&table.name) else { return Some(format!("table {} is missing", table.name)) };
        for column in &table.columns {
            let expected = column.ty.catalog_name();
            match columns.get(&column.name) {
                None => return Some(format!("column {} of table {} is missing", column.name, table.name)),
                Some(came) if *came != expected => {
                    let (table, column) = (&table.name, &column.name);
                    return Some(format!("column {column} of table {table} is {came}, expected {expected}"));
                }
                Some(_) => {}
            }
        }
    }
    None
}

async fn read(session: &Session, layout: &Layout) -> Result<Standing, PgError> {
    let (earlier, loaded_as) = state::loaded_as(session, &layout.collection).await?;
    let expected = shapes(layout);
    let wanted: BTreeSet<&str> = expected.iter().map(|table| table.name.as_str()).collect();
    let names: BTreeSet<&str> = wanted.iter().copied().chain(earlier.iter().map(String::as_str)).collect();
    let names: Vec<&str> = names.into_iter().collect();
    // A comment that gizer would not write is somebody's own, and says nothing about what the column holds.
    let known: BTreeSet<&str> =
        expected.iter().flat_map(|table| &table.columns).filter_map(|column| column.holds.as_deref()).collect();
    let mut tables: BTreeMap<String, FoundColumns> = BTreeMap::new();
    let doing = format!("reading the tables of {}", layout.collection);
    for row in session.query(doing, COLUMNS, &[&session.schema(), &names]).await? {
        let (name, comment): (String, Option<String>) = (row.get(0), row.get(1));
        let found = tables.entry(name).or_insert_with(|| FoundColumns { comment, ..FoundColumns::default() });
        let Some(name) = row.get::<_, Option<String>>(2) else { continue };
        found.key.extend(row.get::<_, Option<i32>>(5).map(|at| (at, name.clone())));
        let holds = row.get::<_, Option<String>>(4).filter(|comment| known.contains(comment.as_str()));
        found.columns.push(ColumnShape { holds, name, sql_type: row.get(3), schema_type: None });
    }
    let ours = |(name, found): &(String, FoundColumns)| {
        wanted.contains(name.as_str()) || is_marked_for(found.comment.as_deref(), &layout.collection)
    };
    let tables = tables.into_iter().filter(ours).map(|(name, found)| found.shape(name, &layout.collection));
    Ok(Standing { tables: tables.collect(), loaded_as })
}

#[derive(Default)]
struct FoundColumns {
    comment: Option<String>,
    columns: Vec<ColumnShape>,
    /// Columns of the primary key with their places in it.
    key: Vec<(i32, String)>,
}

impl FoundColumns {
    fn shape(mut self, name: String, collection: &str) -> TableShape {
        self.key.sort_unstable();
        let key = self.key.into_iter().map(|(_, column)| column).collect();
        let path = table_path_of(self.comment.as_deref(), collection).map(str::to_owned);
        TableShape { path, name, columns: self.columns, key }
    }
}
