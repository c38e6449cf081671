//! Reading and writing the rows of some keys.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;

use gizer_schema::{Layout, TableId};
use tokio::sync::OnceCell;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Row, Statement};

use super::changes::{RowChanges, RowCounts, TableChanges, TableCounts, Tuples};
use super::keys::Keys;
use super::parameter::ArrayParameter;
use super::replace::Writing;
use super::statements::TableStatements;
use crate::column_type::is_of;
use crate::connect::Session;
use crate::ddl::{is_unique, staging_name};
use crate::error::PgError;
use crate::ident::quote_identifier;

/// Bytes of one CopyData message, as a load has them.
const CHUNK_BYTES: usize = 64 * 1024;

/// How statements are planned. The number of rows that are asked for is in the parameters: a plan made without looking at
/// them is made for a hundred rows. Compiling a statement takes longer than running it. And what is read is in the cache
/// when it is written and read again: as for disks of old, the planner would read whole tables for 1,000 keys in 100,000
/// documents, which takes four times as long as looking each of them up.
pub(super) const PLANNING: &str = "SET LOCAL plan_cache_mode TO force_custom_plan; SET LOCAL jit TO off; \
    SET LOCAL random_page_cost TO 1.1";

/// Which tables of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichTables {
    /// Those that people read.
    Live,
    /// Those that a load has filled, to be swapped in. Their keys should be built: without them every batch reads whole tables.
    Staging,
}

/// The tables of one collection on one session.
///
/// # Contract
/// * Everything is done in the transaction that the caller has begun on the session ([`Session::begin`]) and ends. What
///   was written in one that is rolled back has never been written, and the store is as good as before.
/// * Several stores may use one session, one at a time.
/// * After an error the transaction can only be rolled back.
/// * How many statements are run does not depend on the number of keys or rows: at most one a table to read, and
///   to write at most six for each table in which something differs, and none for any other.
///
/// Where rows change it makes a temporary table, once a session.
#[derive(Debug)]
pub struct RowStore<'s> {
    pub(super) session: &'s Session,
    pub(super) layout: Arc<Layout>,
    pub(super) tables: Vec<TableStatements>,
    /// For each table what was prepared at its first use.
    pub(super) prepared: Vec<PreparedStatements>,
    pub(super) statements: u64,
    /// How rows that change are written.
    pub(super) writing: Writing,
}

/// Statements of one table, each prepared at its first use.
#[derive(Debug, Default)]
pub(super) struct PreparedStatements {
    read: OnceCell<Statement>,
    /// Those of [`read_stretch`](RowStore::read_stretch), by which ends the stretch has.
    pub(super) stretches: [OnceCell<Statement>; 4],
    delete: OnceCell<Statement>,
    delete_documents: OnceCell<Statement>,
}

/// A row as it is stored: its fields in the order of the layout's columns, `_extra` included.
#[derive(Debug, Clone, Copy)]
pub struct StoredTuple<'r>(pub(super) TupleForm<'r>);

/// How a row came.
#[derive(Debug, Clone, Copy)]
pub(super) enum TupleForm<'r> {
    /// By a query.
    Row(&'r Row),
    /// By COPY: its fields, each with its length before it.
    Copied(&'r [u8]),
}

impl<'r> StoredTuple<'r> {
    /// Appends all fields to `out`, as COPY has them: each with its length as 32 bits before it, which is −1 for NULL.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        match self.0 {
            TupleForm::Copied(fields) => out.extend_from_slice(fields),
            TupleForm::Row(row) => {
                for at in 0..row.len() {
                    // Of a type that takes every column nothing can fail.
                    let field = row.try_get::<_, StoredField<'r>>(at).map_or(None, |field| field.0);
                    let length = field.map_or(Ok(-1), |field| i32::try_from(field.len()));
                    let length = length.expect("the server's messages are of less than 2 GiB");
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(field.unwrap_or_default());
                }
            }
        }
    }
}

/// A column as it came.
pub(super) struct StoredField<'r>(pub(super) Option<&'r [u8]>);

impl<'r> FromSql<'r> for StoredField<'r> {
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(StoredField(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(StoredField(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl<'s> RowStore<'s> {
    /// The tables of this layout. Needs no transaction.
    ///
    /// # Errors
    /// [`PgError::NoRights`] if the role may not make temporary tables; [`PgError::NotFollowable`] if the root key of the
    /// layout does not identify a document; [`PgError::UnusableName`].
    pub async fn open(session: &'s Session, layout: &Arc<Layout>, which: WhichTables) -> Result<RowStore<'s>, PgError> {
        if !is_unique(layout) {
            return Err(PgError::NotFollowable { collection: layout.collection.clone() });
        }
        let table = |(i, table): (usize, &gizer_schema::Table)| {
            let at = match which {
                WhichTables::Live => session.relation(&table.name)?,
                WhichTables::Staging => session.relation(&staging_name(&table.name))?,
            };
            TableStatements::new(layout, TableId(i), at)
        };
        let tables: Vec<TableStatements> = layout.tables.iter().enumerate().map(table).collect::<Result<_, _>>()?;
        may_make_temporary_tables(session).await?;
        let prepared = tables.iter().map(|_| PreparedStatements::default()).collect();
        let (layout, statements, writing) = (Arc::clone(layout), 0, Writing::InPlace);
        Ok(RowStore { session, layout, tables, prepared, statements, writing })
    }

    /// The layout of the tables.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// How many statements were run so far, those that begin and end transactions not among them.
    pub fn statements(&self) -> u64 {
        self.statements
    }

    /// Gives every stored row under one of the keys, within its scope, to `each`, with its table and the key's number.
    /// Tables come one after another, their rows in no order.
    ///
    /// # Errors
    /// [`PgError::ColumnDiffers`] if a column is not of the type that the layout says; whatever the server says.
    pub async fn read(
        &mut self,
        keys: &Keys,
        mut each: impl FnMut(TableId, u32, StoredTuple<'_>) + Send,
    ) -> Result<(), PgError> {
        if keys.is_empty() {
            return Ok(());
        }
        self.run("setting how to plan", PLANNING).await?;
        let sorted = keys.sorted();
        for at in 0..self.tables.len() {
            let (count, elements) = keys.elements(&sorted, TableId(at));
            if count == 0 {
                continue;
            }
            let wanted = ArrayParameter::new(keys.ty(), count, &elements);
            let statement = self.reader(at).await?.clone();
            self.statements += 1;
            let key = self.layout.tables[at].key.0;
            let doing = format!("reading rows of {}", self.tables[at].table);
            let rows = self.session.client().query_raw(&statement, [&wanted]);
            let mut rows = pin!(self.session.answered(&doing, rows).await?);
            // Rows of one key come one after the other, unless the tables were hashed.
            let mut last: Option<(Vec<u8>, u32)> = None;
            while let Some(row) = self.session.next(&doing, rows.as_mut()).await? {
                let field = row.try_get::<_, StoredField<'_>>(key).map_or(None, |field| field.0).unwrap_or_default();
                let number = match &last {
                    Some((same, number)) if same == field => *number,
                    _ => {
                        let number = keys.number_of_stored(field).ok_or_else(|| PgError::Protocol {
                            server: self.session.server().clone(),
                            doing: doing.clone(),
                            reason: "a row under a key that was not asked for".to_owned(),
                        })?;
                        last = Some((field.to_vec(), number));
                        number
                    }
                };
                each(TableId(at), number, StoredTuple(TupleForm::Row(&row)));
            }
        }
        Ok(())
    }

    /// Deletes, changes and adds rows; gives the server's counts. They are those of the changes unless something in
    /// the database, such as a trigger, interferes.
    ///
    /// Rows that are deleted go first, and child tables before their parents; then parents before their children.
    ///
    /// # Errors
    /// [`PgError::DataRejected`] if the server does not take a row, or a row that is to be added is there already; whatever
    /// else it says.
    pub async fn write(&mut self, changes: &RowChanges) -> Result<RowCounts, PgError> {
        let mut counts = RowCounts { tables: vec![TableCounts::default(); self.tables.len()] };
        if changes.is_empty() {
            return Ok(counts);
        }
        if self.writing == Writing::Replacing {
            return self.replace(changes).await;
        }
        self.run("setting how to plan", PLANNING).await?;
        for (at, table) in changes.tables.iter().enumerate().rev() {
            counts.tables[at].deleted = self.delete_rows(at, table).await?;
        }
        for (at, table) in changes.tables.iter().enumerate() {
            if !table.updated.is_empty() {
                counts.tables[at].updated = self.update(at, &table.updated).await?;
            }
            if !table.inserted.is_empty() {
                let copy = self.tables[at].copy.clone();
                counts.tables[at].inserted = self.copy(at, "adding rows to", &copy, &table.inserted).await?;
            }
        }
        Ok(counts)
    }

    pub(super) async fn delete_rows(&mut self, at: usize, table: &TableChanges) -> Result<u64, PgError> {
        if table.deleted.is_empty() {
            return Ok(0);
        }
        let sql = &self.tables[at].delete;
        let statement = self.prepared[at].delete.get_or_try_init(|| self.prepare(at, sql)).await?;
        self.statements += 1;
        let parameters = table.deleted_parameters();
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|each| each as _).collect();
        let doing = format!("deleting rows of {}", self.tables[at].table);
        self.session.execute(doing, statement, &parameters).await
    }

    /// Deletes all rows that are stored under these keys, whatever their scope; gives how many there were.
    pub async fn delete_documents(&mut self, keys: &Keys) -> Result<RowCounts, PgError> {
        let mut counts = RowCounts { tables: vec![TableCounts::default(); self.tables.len()] };
        if keys.is_empty() {
            return Ok(counts);
        }
        self.run("setting how to plan", PLANNING).await?;
        let gone = ArrayParameter::new(keys.ty(), keys.len(), &keys.all_elements());
        for at in (0..self.tables.len()).rev() {
            let sql = &self.tables[at].delete_documents;
            let statement = self.prepared[at].delete_documents.get_or_try_init(|| self.prepare(at, sql)).await?;
            self.statements += 1;
            let doing = format!("deleting rows of {}", self.tables[at].table);
            counts.tables[at].deleted = self.session.execute(doing, statement, &[&gone]).await?;
        }
        Ok(counts)
    }

    /// Deletes all rows of all tables; gives how many there were. Readers see them until the commit, which TRUNCATE would not
    /// let them.
    pub async fn empty(&mut self) -> Result<u64, PgError> {
        let mut deleted = 0;
        for TableStatements { table, .. } in self.tables.iter().rev() {
            self.statements += 1;
            let sql = format!("DELETE FROM {table}");
            deleted += self.session.execute(format_args!("emptying {table}"), &sql, &[]).await?;
        }
        Ok(deleted)
    }

    async fn update(&mut self, at: usize, rows: &Tuples) -> Result<u64, PgError> {
        self.stage(at, rows).await?;
        self.statements += 1;
        let TableStatements { table, update, .. } = &self.tables[at];
        self.session.execute(format!("changing rows of {table}"), update, &[]).await
    }

    /// Gathers rows in the temporary table, which may be gone: a transaction that made it and was rolled back has taken it along.
    pub(super) async fn stage(&mut self, at: usize, rows: &Tuples) -> Result<(), PgError> {
        let TableStatements { table, stage, copy_staged, analyze, .. } = &self.tables[at];
        let doing = format!("changing rows of {table}");
        let (stage, copy_staged, analyze) = (stage.clone(), copy_staged.clone(), analyze.clone());
        self.statements += 1; // two in one message
        self.run(format!("making a temporary table for rows of {}", self.tables[at].table), &stage).await?;
        self.copy(at, "gathering changed rows of", &copy_staged, rows).await?;
        self.run(&doing, &analyze).await
    }

    /// One COPY; gives the number of rows that it took.
    pub(super) async fn copy(
        &mut self,
        at: usize,
        doing: &str,
        statement: &str,
        rows: &Tuples,
    ) -> Result<u64, PgError> {
        self.statements += 1;
        let table = &self.tables[at].table;
        let mut stream = self.session.copy_in(format!("{doing} {table}"), statement).await?;
        let mut rest = rows.copy_data();
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            stream.feed(chunk).await?;
        }
        stream.finish().await
    }

    pub(super) async fn run(&mut self, doing: impl std::fmt::Display, sql: &str) -> Result<(), PgError> {
        self.statements += 1;
        self.session.run(doing, sql).await
    }

    /// Whether the tables have the columns of the layout, of their types, as the catalog has them now.
    ///
    /// # Errors
    /// [`PgError::ColumnDiffers`]; whatever the server says, for instance that a table or a column is not there.
    pub async fn check_tables(&mut self) -> Result<(), PgError> {
        for at in 0..self.tables.len() {
            self.prepared[at].read = OnceCell::new();
            self.reader(at).await?;
        }
        Ok(())
    }

    pub(super) async fn reader(&self, at: usize) -> Result<&Statement, PgError> {
        self.prepared[at].read.get_or_try_init(|| self.prepare_reader(at)).await
    }

    /// Prepares to read a table, and checks the types of its columns.
    async fn prepare_reader(&self, at: usize) -> Result<Statement, PgError> {
        let statement = self.prepare(at, &self.tables[at].read).await?;
        for (column, came) in self.layout.tables[at].columns.iter().zip(statement.columns()) {
            if !is_of(column.ty, came.type_()) {
                return Err(PgError::ColumnDiffers {
                    schema: self.tables[at].table.schema().to_owned(),
                    table: self.tables[at].table.name().to_owned(),
                    column: column.name.clone(),
                    expected: column.ty.pg_name(),
                    came: came.type_().name().to_owned(),
                });
            }
        }
        Ok(statement)
    }

    pub(super) async fn prepare(&self, at: usize, sql: &str) -> Result<Statement, PgError> {
        self.session.prepare(format!("looking at {}", self.tables[at].table), sql).await
    }
}

async fn may_make_temporary_tables(session: &Session) -> Result<(), PgError> {
    let sql = "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')";
    let doing = "making temporary tables";
    if session.query_one(doing, sql, &[]).await?.get(0) {
        return Ok(());
    }
    let (database, user) = (quote_identifier(&session.server().database)?, quote_identifier(&session.server().user)?);
    let grant = format!("GRANT TEMPORARY ON DATABASE {database} TO {user}");
    let reason = format!("changed rows are gathered in a temporary table, and {database} gives no right to make one");
    Err(session.no_rights(doing, reason, grant))
}
