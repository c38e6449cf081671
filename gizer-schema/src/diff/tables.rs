//! What two sets of tables differ in.

use crate::column_type::ColumnType;
use crate::layout::{ColumnSource, DocumentPlan, Layout, Plan, Table, TableId};

/// A table as it is compared: one that follows from a schema, or one that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    /// The path of its array: `comments[].items[]`; of a root table nothing. `None` if nobody knows.
    pub path: Option<String>,
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<ColumnShape>,
    /// The columns of its primary key, by their names; none if it has no primary key.
    pub key: Vec<String>,
}

/// A column as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnShape {
    /// What it holds, as the comment on it says: `comments[].body`, `position in comments[]`. `None` if nobody knows.
    pub holds: Option<String>,
    /// Its name.
    pub name: String,
    /// Its type as PostgreSQL's `format_type` names it.
    pub sql_type: String,
    /// What its values are by the schema: text may be a `STRING`, an `OBJECTID` or a `KEY`. `None` if nobody knows.
    pub schema_type: Option<String>,
}

/// A difference of tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// It is to be made.
    Made(TableShape),
    /// It is no longer needed.
    Dropped(TableShape),
    /// It is another one.
    Changed {
        /// As it was.
        old: TableShape,
        /// As it is to be.
        new: TableShape,
        /// Its columns that differ: those of the new table in their order, then those that it no longer has.
        columns: Vec<ColumnChange>,
        /// Whether its primary key is of other columns, renamed ones aside, or only there in one of them.
        key: bool,
    },
}

/// A difference of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnChange {
    /// It is new.
    Added(ColumnShape),
    /// It is no longer there.
    Removed(ColumnShape),
    /// It has another name, another type, or holds something else.
    Changed(ColumnShape, ColumnShape),
}

/// The tables of a layout as they are compared.
pub fn shapes(layout: &Layout) -> Vec<TableShape> {
    let mut paths = Paths {
        tables: vec![String::new(); layout.tables.len()],
        columns: layout.tables.iter().map(|table| vec![String::new(); table.columns.len()]).collect(),
    };
    paths.document(&layout.document, TableId(0), "");
    let root_key = paths.columns[0][layout.tables[0].key.0].clone();
    let shape = |(at, table): (usize, &Table)| {
        let arrays = arrays_around(layout, TableId(at));
        let holds = |column: usize| match table.columns[column].source {
            ColumnSource::Field(_) => paths.columns[at][column].clone(),
            ColumnSource::RootKey => root_key.clone(),
            ColumnSource::Position(depth) => {
                let what = if table.columns[column].ty == ColumnType::Text { "key" } else { "position" };
                format!("{what} in {}", paths.tables[arrays[depth].0])
            }
            ColumnSource::Extra if at == 0 => "what has no column, or does not fit it".to_owned(),
            ColumnSource::Extra => format!("what of {} has no column, or does not fit it", paths.tables[at]),
        };
        let columns = table.columns.iter().enumerate().map(|(i, column)| ColumnShape {
            holds: Some(holds(i)),
            name: column.name.clone(),
            sql_type: column.ty.catalog_name(),
            schema_type: Some(schema_type(column.ty)),
        });
        // `id` in a schema without `_id` is neither unique nor always there.
        let unique = layout.key.source == crate::KeySource::UnderscoreId;
        let key = table.key_columns().filter(|_| unique).map(|column| column.name.clone());
        TableShape {
            path: Some(paths.tables[at].clone()),
            name: table.name.clone(),
            columns: columns.collect(),
            key: key.collect(),
        }
    };
    layout.tables.iter().enumerate().map(shape).collect()
}

fn schema_type(ty: ColumnType) -> String {
    match ty {
        ColumnType::List(element) => format!("{element}[]"),
        other => other.schema_name().to_owned(),
    }
}

/// The tables of the arrays around a table's rows, outermost first, its own last.
fn arrays_around(layout: &Layout, id: TableId) -> Vec<TableId> {
    let mut arrays = Vec::new();
    let mut at = id;
    while let Some(parent) = layout.table(at).parent {
        arrays.push(at);
        at = parent;
    }
    arrays.reverse();
    arrays
}

/// Paths with their arrays marked, by table, and by table and column.
struct Paths {
    tables: Vec<String>,
    columns: Vec<Vec<String>>,
}

impl Paths {
    fn document(&mut self, document: &DocumentPlan, table: TableId, prefix: &str) {
        for field in &document.fields {
            let dot = if prefix.is_empty() { "" } else { "." };
            self.plan(&field.plan, table, &format!("{prefix}{dot}{}", field.name));
        }
    }

    fn plan(&mut self, plan: &Plan, table: TableId, path: &str) {
        match plan {
            Plan::Column(column) => path.clone_into(&mut self.columns[table.0][column.0]),
            Plan::ObjectIdPair { fields, .. } | Plan::Document(fields) => self.document(fields, table, path),
            Plan::Ignored => {}
            Plan::Table { table, element } => self.child(element, *table, format!("{path}[]")),
            Plan::Map { table, value, .. } => self.child(value, *table, format!("{path}{{}}")),
        }
    }

    fn child(&mut self, inside: &Plan, table: TableId, path: String) {
        self.plan(inside, table, &path);
        self.tables[table.0] = path;
    }
}

/// Compares tables. What is of one path is one table, whatever its name; what has one name is one table, whatever it holds.
pub fn compare_tables(old: &[TableShape], new: &[TableShape]) -> Vec<TableChange> {
    let pairs = pair(old, new, |table| (table.path.as_deref(), &table.name));
    let mut changes = Vec::new();
    for (at, table) in new.iter().enumerate() {
        match pairs.iter().find(|(_, new)| *new == at) {
            None => changes.push(TableChange::Made(table.clone())),
            Some((was, _)) => changes.extend(compare_table(&old[*was], table)),
        }
    }
    let dropped = old.iter().enumerate().filter(|(at, _)| !pairs.iter().any(|(was, _)| was == at));
    changes.extend(dropped.map(|(_, table)| TableChange::Dropped(table.clone())));
    changes
}

fn compare_table(old: &TableShape, new: &TableShape) -> Option<TableChange> {
    let pairs = pair(&old.columns, &new.columns, |column| (column.holds.as_deref(), &column.name));
    let mut columns = Vec::new();
    for (at, column) in new.columns.iter().enumerate() {
        match pairs.iter().find(|(_, new)| *new == at) {
            None => columns.push(ColumnChange::Added(column.clone())),
            Some((was, _)) if differ(&old.columns[*was], column) => {
                columns.push(ColumnChange::Changed(old.columns[*was].clone(), column.clone()));
            }
            Some(_) => {}
        }
    }
    let removed = old.columns.iter().enumerate().filter(|(at, _)| !pairs.iter().any(|(was, _)| was == at));
    columns.extend(removed.map(|(_, column)| ColumnChange::Removed(column.clone())));
    let renamed = |name: &String| {
        let at = old.columns.iter().position(|column| column.name == *name)?;
        let (_, to) = pairs.iter().find(|(was, _)| *was == at)?;
        Some(new.columns[*to].name.clone())
    };
    let key = old.key.iter().map(renamed).collect::<Option<Vec<String>>>().as_ref() != Some(&new.key);
    let same = columns.is_empty() && !key && old.name == new.name && !both_differ(&old.path, &new.path);
    (!same).then(|| TableChange::Changed { old: old.clone(), new: new.clone(), columns, key })
}

fn differ(old: &ColumnShape, new: &ColumnShape) -> bool {
    old.name != new.name
        || old.sql_type != new.sql_type
        || both_differ(&old.schema_type, &new.schema_type)
        || both_differ(&old.holds, &new.holds)
}

/// Whether both are known, and not the same.
fn both_differ(old: &Option<String>, new: &Option<String>) -> bool {
    matches!((old, new), (Some(old), Some(new)) if old != new)
}

/// Pairs old and new by place: first what agrees in path and name, then in the path, then in the name. Fields may have
/// dots in their names, so that two have one path as text.
fn pair<'t, T>(old: &'t [T], new: &'t [T], by: impl Fn(&'t T) -> (Option<&'t str>, &'t String)) -> Vec<(usize, usize)> {
    type Same<'s> = &'s dyn Fn((Option<&str>, &String), (Option<&str>, &String)) -> bool;
    let rounds: [Same<'_>; 3] =
        [&|old, new| old == new, &|old, new| old.0.is_some() && old.0 == new.0, &|old, new| old.1 == new.1];
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for same in rounds {
        for (was, each) in old.iter().enumerate() {
            if pairs.iter().any(|(taken, _)| *taken == was) {
                continue;
            }
            let free = |is: &usize| !pairs.iter().any(|(_, taken)| taken == is);
            let found = (0..new.len()).filter(|is| same(by(each), by(&new[*is]))).find(free);
            pairs.extend(found.map(|is| (was, is)));
        }
    }
    pairs
}
