//! Rows that change are deleted and added: a form of writing in which no two rows are in each other's way half-way.
//!
//! With UPDATE a unique index sees every row by itself: two that swap a value conflict. Here all that goes is gone before anything
//! comes. Columns that people have added keep their values: those of a row that goes are held in a temporary table until the end of
//! the transaction, and a row that comes under the same key and positions gets them.

use super::changes::{RowChanges, RowCounts, TableCounts};
use super::keys::Keys;
use super::parameter::ArrayParameter;
use super::store::{PLANNING, RowStore};
use crate::error::PgError;
use crate::ident::{Qualified, quote_identifier};

/// How rows that change are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writing {
    /// By UPDATE: the fast way.
    #[default]
    InPlace,
    /// They are deleted and added.
    Replacing,
}

/// Foreign keys of others that point at the tables of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct References {
    /// There is one: rows cannot be replaced, or what points at them would go or change with them.
    pub any: bool,
    /// There is one of a table that is not the collection's, whose rows go or change with those that they point at.
    pub cascading: bool,
}

/// What is said about one table where its rows are replaced.
#[derive(Debug)]
pub(super) struct Replacing {
    table: Qualified,
    /// The temporary table of rows to change, and the one of columns that are not gizer's.
    staged: Qualified,
    held: Qualified,
    names: Vec<String>,
    identity: Vec<String>,
}

impl Replacing {
    pub(super) fn new(
        table: &Qualified,
        staged: &Qualified,
        names: Vec<String>,
        identity: Vec<String>,
    ) -> Result<Replacing, PgError> {
        let held = Qualified::new("pg_temp", &staged.name().replace("gizer_changed_", "gizer_held_"))?;
        Ok(Replacing { table: table.clone(), staged: staged.clone(), held, names, identity })
    }

    fn list<'n>(of: &str, names: impl IntoIterator<Item = &'n String>) -> String {
        names.into_iter().map(|name| format!("{of}.{name}")).collect::<Vec<_>>().join(", ")
    }

    /// Whether a row of `left` is one of `right`.
    fn is_same(&self, left: &str, right: &str) -> String {
        let equal: Vec<String> = self.identity.iter().map(|name| format!("{left}.{name} = {right}.{name}")).collect();
        equal.join(" AND ")
    }

    /// Makes the table of what is held, unless it is there. It goes with the transaction: columns of people's come and go.
    fn hold(&self, own: &[String]) -> String {
        let Replacing { table, held, .. } = self;
        let columns = self.held_columns(own);
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {held} ON COMMIT DROP AS SELECT {columns} FROM {table} AS t WITH NO DATA"
        )
    }

    /// What is held of a row `t`.
    fn held_columns(&self, own: &[String]) -> String {
        Self::list("t", self.identity.iter().chain(own))
    }

    /// Holds the columns of rows that are about to be replaced.
    fn hold_staged(&self, own: &[String]) -> String {
        let Replacing { table, staged, held, .. } = self;
        let (columns, same) = (self.held_columns(own), self.is_same("t", "n"));
        format!("INSERT INTO {held} SELECT {columns} FROM {table} AS t JOIN {staged} AS n ON {same}")
    }

    fn delete_staged(&self) -> String {
        format!("DELETE FROM {} AS t USING {} AS n WHERE {}", self.table, self.staged, self.is_same("t", "n"))
    }

    /// Adds the staged rows for which nothing is held; with no columns of people's, all of them.
    fn add(&self, own: &[String]) -> String {
        let Replacing { table, staged, held, names, .. } = self;
        let rest = match own.is_empty() {
            true => String::new(),
            false => format!(" WHERE NOT EXISTS (SELECT FROM {held} AS h WHERE {})", self.is_same("h", "n")),
        };
        format!("INSERT INTO {table} ({}) SELECT {} FROM {staged} AS n{rest}", names.join(", "), Self::list("n", names))
    }

    /// Adds the staged rows for which something is held, with that.
    fn add_held(&self, own: &[String]) -> String {
        let Replacing { table, staged, held, names, .. } = self;
        let (columns, values) = (names.join(", "), Self::list("n", names));
        let (own, own_values) = (own.join(", "), Self::list("h", own));
        format!(
            "INSERT INTO {table} ({columns}, {own}) OVERRIDING SYSTEM VALUE \
             SELECT {values}, {own_values} FROM {staged} AS n JOIN {held} AS h ON {}",
            self.is_same("h", "n")
        )
    }

    /// What is held of rows that have come is of no use any more.
    fn forget_held(&self) -> String {
        format!("DELETE FROM {} AS h USING {} AS n WHERE {}", self.held, self.staged, self.is_same("h", "n"))
    }
}

impl RowStore<'_> {
    /// From now on rows that change are written in this way.
    pub fn set_writing(&mut self, writing: Writing) {
        self.writing = writing;
    }

    /// The foreign keys that point at these tables.
    pub async fn references(&mut self) -> Result<References, PgError> {
        self.statements += 1;
        let tables: Vec<String> = self.tables.iter().map(|table| table.table.to_string()).collect();
        let sql = "WITH own AS (SELECT pg_catalog.to_regclass(name) AS oid FROM pg_catalog.unnest($1::pg_catalog.text[]) AS name) \
                   SELECT count(*) > 0, \
                          coalesce(pg_catalog.bool_or(confdeltype IN ('c', 'n', 'd') \
                              AND conrelid NOT IN (SELECT oid FROM own WHERE oid IS NOT NULL)), false) \
                   FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid IN (SELECT oid FROM own)";
        let row = self.session.query_one("looking for foreign keys", sql, &[&tables]).await?;
        Ok(References { any: row.get(0), cascading: row.get(1) })
    }

    /// Deletes all rows under these keys, whatever their scope. The values of people's own columns are held until the
    /// transaction ends, in case the rows come after all.
    pub async fn set_apart(&mut self, keys: &Keys) -> Result<RowCounts, PgError> {
        if keys.is_empty() {
            return self.delete_documents(keys).await;
        }
        let apart = ArrayParameter::new(keys.ty(), keys.len(), &keys.all_elements());
        for at in 0..self.tables.len() {
            let own = self.own_columns(at).await?;
            if own.is_empty() {
                continue;
            }
            self.run("making a temporary table", &self.tables[at].replacing.hold(&own)).await?;
            self.statements += 1;
            let hold = self.tables[at].hold_documents(&own);
            let doing = format!("holding columns of {}", self.tables[at].table);
            self.session.execute(doing, &hold, &[&apart]).await?;
        }
        self.delete_documents(keys).await
    }

    /// As [`write`](RowStore::write), with rows that change deleted and added.
    pub(super) async fn replace(&mut self, changes: &RowChanges) -> Result<RowCounts, PgError> {
        let mut counts = RowCounts { tables: vec![TableCounts::default(); self.tables.len()] };
        self.run("setting how to plan", PLANNING).await?;
        let mut own = vec![Vec::new(); self.tables.len()];
        for (at, table) in changes.tables.iter().enumerate() {
            if table.updated.is_empty() && table.inserted.is_empty() {
                continue;
            }
            own[at] = self.own_columns(at).await?;
            self.stage(at, &table.updated).await?;
            if !own[at].is_empty() {
                let replacing = &self.tables[at].replacing;
                let hold = format!("{}; {}", replacing.hold(&own[at]), replacing.hold_staged(&own[at]));
                self.run(format!("holding columns of {}", self.tables[at].table), &hold).await?;
            }
        }
        for (at, table) in changes.tables.iter().enumerate().rev() {
            counts.tables[at].deleted = self.delete_rows(at, table).await?;
            if !table.updated.is_empty() {
                let sql = self.tables[at].replacing.delete_staged();
                counts.tables[at].updated = self.change(at, "changing rows of", &sql).await?;
            }
        }
        for (at, table) in changes.tables.iter().enumerate() {
            if table.updated.is_empty() && table.inserted.is_empty() {
                continue;
            }
            let copy_staged = self.tables[at].copy_staged.clone();
            if !table.inserted.is_empty() {
                self.copy(at, "gathering rows of", &copy_staged, &table.inserted).await?;
            }
            let mut added = 0;
            if !own[at].is_empty() {
                added += self.change(at, "adding rows to", &self.tables[at].replacing.add_held(&own[at])).await?;
            }
            added += self.change(at, "adding rows to", &self.tables[at].replacing.add(&own[at])).await?;
            if !own[at].is_empty() {
                self.change(at, "adding rows to", &self.tables[at].replacing.forget_held()).await?;
            }
            counts.tables[at].inserted = added.saturating_sub(counts.tables[at].updated);
        }
        Ok(counts)
    }

    async fn change(&mut self, at: usize, doing: &str, sql: &str) -> Result<u64, PgError> {
        self.statements += 1;
        self.session.execute(format!("{doing} {}", self.tables[at].table), sql, &[]).await
    }

    /// The columns of a table that are not gizer's, and that can be given a value; quoted.
    async fn own_columns(&mut self, at: usize) -> Result<Vec<String>, PgError> {
        self.statements += 1;
        let sql = "SELECT attname::pg_catalog.text FROM pg_catalog.pg_attribute \
                   WHERE attrelid = pg_catalog.to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' \
                     AND attname <> ALL ($2) ORDER BY attnum";
        let names: Vec<&str> = self.layout.tables[at].columns.iter().map(|column| column.name.as_str()).collect();
        let table = self.tables[at].table.to_string();
        let rows = self.session.query("looking for columns", sql, &[&table, &names]).await?;
        rows.iter().map(|row| quote_identifier(row.get(0))).collect()
    }
}

impl super::statements::TableStatements {
    /// Holds the columns of all rows of documents: takes their keys.
    fn hold_documents(&self, own: &[String]) -> String {
        let Replacing { held, table, identity, .. } = &self.replacing;
        let (columns, ty) = (self.replacing.held_columns(own), self.key_type());
        format!("INSERT INTO {held} SELECT {columns} FROM {table} AS t WHERE t.{} = ANY ($1::{ty}[])", identity[0])
    }
}
