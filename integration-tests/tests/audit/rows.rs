//! Tables by the catalog, and their rows in the binary form that the server gives of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tokio_postgres::Client;

/// A column of a table.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The name of its type in the catalog: `int4`, `_text`.
    pub(crate) ty: String,
    /// The function that gives its binary form.
    send: String,
}

/// A table of a collection.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// In the order of the table.
    pub(crate) columns: Vec<Column>,
    /// The column of the root key, which the primary key begins with.
    pub(crate) key: usize,
    /// The columns of the positions, which the primary key goes on with.
    pub(crate) positions: Vec<usize>,
}

/// A row, and what it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The root key as SQL has it.
    pub(crate) key: String,
    /// The root key as reports have it.
    pub(crate) reported: String,
    pub(crate) positions: Vec<i64>,
    /// The binary form of each column; `None` is NULL.
    pub(crate) cells: Vec<Option<Vec<u8>>>,
}

/// A difference, as `gizer verify` has to report it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) positions: Vec<i64>,
    /// `missing`, `left over`, `repeated` or `cell`.
    pub(crate) fault: &'static str,
    /// The first column that differs.
    pub(crate) column: Option<String>,
}

/// In one line.
impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { table, key, positions, fault, column } = self;
        write!(f, "{table} {key:?} {positions:?}: {fault} {}", column.as_deref().unwrap_or_default())
    }
}

/// All rows of all tables of a collection.
pub(crate) type Dump = BTreeMap<String, Vec<Row>>;

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Table {
    /// The name with its schema.
    pub(crate) fn sql(&self) -> String {
        format!("public.{}", quoted(&self.name))
    }

    /// The columns that say which row it is.
    pub(crate) fn is_key(&self, column: usize) -> bool {
        column == self.key || self.positions.contains(&column)
    }

    /// Finds one row: the key is parameter 1 as text, the positions parameter 2.
    pub(crate) fn condition(&self) -> String {
        let key = &self.columns[self.key];
        let mut condition = format!("{} = $1::text::{}", quoted(&key.name), key.ty);
        for (at, position) in self.positions.iter().enumerate() {
            condition += &format!(" AND {} = ($2::bigint[])[{}]", quoted(&self.columns[*position].name), at + 1);
        }
        // It must be there for the server to know its type.
        condition + " AND $2::bigint[] IS NOT NULL"
    }

    /// The binary form of a column.
    pub(crate) fn sent(&self, column: usize) -> String {
        format!("{}({})", self.columns[column].send, quoted(&self.columns[column].name))
    }

    /// All rows.
    pub(crate) async fn rows(&self, client: &Client) -> Vec<Row> {
        self.rows_where(client, "$1::text IS NULL", None).await
    }

    /// The rows with a key.
    pub(crate) async fn rows_of(&self, client: &Client, key: &str) -> Vec<Row> {
        let column = &self.columns[self.key];
        self.rows_where(client, &format!("{} = $1::text::{}", quoted(&column.name), column.ty), Some(key)).await
    }

    async fn rows_where(&self, client: &Client, condition: &str, key_text: Option<&str>) -> Vec<Row> {
        let key = &self.columns[self.key];
        let name = quoted(&key.name);
        // As gizer-verify/src/key_text.rs has it; doubles are below.
        let reported = match key.ty.as_str() {
            "uuid" => format!("replace({name}::text, '-', '')"),
            "bytea" => format!("encode({name}, 'hex')"),
            // No date of these tests is outside of the years 1000 to 9999.
            "timestamptz" => format!(
                "rtrim(rtrim(to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'), '0'), '.') || 'Z'"
            ),
            _ => format!("{name}::text"),
        };
        let positions: Vec<String> = self.positions.iter().map(|at| quoted(&self.columns[*at].name)).collect();
        let sent: Vec<String> = (0..self.columns.len()).map(|column| self.sent(column)).collect();
        let sql = format!(
            "SELECT {name}::text, {reported}, ARRAY[{}]::bigint[], {} FROM {} WHERE {condition}",
            positions.join(", "),
            sent.join(", "),
            self.sql()
        );
        let rows = client.query(&sql, &[&key_text]).await.unwrap();
        let row = |row: &tokio_postgres::Row| {
            let cells: Vec<Option<Vec<u8>>> = (0..self.columns.len()).map(|at| row.get(at + 3)).collect();
            let reported = match (key.ty.as_str(), &cells[self.key]) {
                ("float8", Some(bytes)) => format!("{:?}", f64::from_be_bytes(bytes.as_slice().try_into().unwrap())),
                _ => row.get(1),
            };
            Row { key: row.get(0), reported, positions: row.get(2), cells }
        };
        rows.iter().map(row).collect()
    }

    /// The first column in which two rows differ, but for those that say which row it is.
    pub(crate) fn first_difference(&self, one: &Row, other: &Row) -> Option<String> {
        let differs = |at: &usize| !self.is_key(*at) && one.cells[*at] != other.cells[*at];
        (0..self.columns.len()).find(differs).map(|at| self.columns[at].name.clone())
    }

    pub(crate) fn difference(&self, row: &Row, fault: &'static str, column: Option<String>) -> Difference {
        let (key, positions) = (row.reported.clone(), row.positions.clone());
        Difference { table: self.name.clone(), key, positions, fault, column }
    }
}

/// The tables of a collection, the root first. All have their primary keys.
pub(crate) async fn tables(client: &Client, collection: &str) -> Vec<Table> {
    // The server's numbers of a key's columns begin with 0.
    let sql = "SELECT c.relname::text, a.attname::text, t.typname::text, t.typsend::text, \
                      array_position(i.indkey::int2[], a.attnum) \
               FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid \
                    JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
               WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped \
               ORDER BY c.relname, a.attnum";
    let mut tables: BTreeMap<String, (Vec<Column>, BTreeMap<i32, usize>)> = BTreeMap::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let (columns, key) = tables.entry(row.get(0)).or_default();
        if let Some(at) = row.get::<_, Option<i32>>(4) {
            key.insert(at, columns.len());
        }
        columns.push(Column { name: row.get(1), ty: row.get(2), send: row.get(3) });
    }
    let mut tables: Vec<Table> = tables
        .into_iter()
        .map(|(name, (columns, key))| {
            let mut key = key.into_values();
            Table { name, columns, key: key.next().unwrap(), positions: key.collect() }
        })
        .collect();
    let root = tables.iter().find(|table| table.name == collection).expect("the root table is there");
    let root_key = format!("{collection}_{}", root.columns[root.key].name);
    tables.retain(|table| table.name == collection || table.columns[table.key].name == root_key);
    tables.sort_by_key(|table| (table.name != collection, table.name.clone()));
    tables
}

/// All rows of these tables.
pub(crate) async fn dump(client: &Client, tables: &[Table]) -> Dump {
    let mut dump = Dump::new();
    for table in tables {
        dump.insert(table.name.clone(), table.rows(client).await);
    }
    dump
}

/// What has become of the rows between two dumps: what an audit would have to report if the first one is right.
pub(crate) fn differences(tables: &[Table], before: &Dump, after: &Dump) -> BTreeSet<Difference> {
    let mut differences = BTreeSet::new();
    for table in tables {
        let [before, after] = [before, after].map(|dump| {
            let mut rows: BTreeMap<(&str, &[i64]), Vec<&Row>> = BTreeMap::new();
            for row in &dump[&table.name] {
                rows.entry((&row.key, &row.positions)).or_default().push(row);
            }
            rows
        });
        for (name, rows) in &before {
            let row = rows[0];
            match after.get(name).map(Vec::as_slice) {
                None => drop(differences.insert(table.difference(row, "missing", None))),
                Some([other]) => {
                    let column = table.first_difference(row, other);
                    differences.extend(column.map(|column| table.difference(row, "cell", Some(column))));
                }
                Some(_) => drop(differences.insert(table.difference(row, "repeated", None))),
            }
        }
        let left_over = after.iter().filter(|(name, _)| !before.contains_key(name));
        differences.extend(left_over.map(|(_, rows)| table.difference(rows[0], "left over", None)));
    }
    differences
}
