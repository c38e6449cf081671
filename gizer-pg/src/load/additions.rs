//! Indexes and constraints that somebody has added to live tables: recreated on the tables that replace them.
//!
//! ```text
//!   survey ── what cannot be carried over is refused, by name
//!   begin  ── each is tried on the empty staging table
//!   keys   ── each is built there, after the data and the key, under a name of its own
//!   swap   ── what was built is what the live tables have now, and gets its names
//! ```

use std::collections::BTreeSet;

use gizer_schema::{Layout, Table};
use tokio_postgres::Row;

use super::staging::StagingTable;
use super::survey::{LiveTable, Origin};
use crate::connect::Session;
use crate::ddl::{is_marked, is_unique, key_names, staging_name};
use crate::error::PgError;
use crate::ident::{Qualified, quote_identifier, quote_literal};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AdditionKind {
    Index {
        unique: bool,
    },
    /// UNIQUE or EXCLUDE: a constraint with an index of its name.
    IndexedConstraint,
    Check,
    PrimaryKey,
}

/// An index or a constraint of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addition {
    /// Name of its table.
    table: String,
    name: String,
    kind: AdditionKind,
    /// What follows the table's name in CREATE INDEX, or the constraint's name in ADD CONSTRAINT. `None` if it could not be
    /// distinguished from the rest of the statement.
    definition: Option<String>,
    /// The columns that it needs, in the order of the key where it is a primary key.
    columns: Vec<String>,
    comment: Option<String>,
}

/// Indexes and constraints of the tables `$2` in schema `$1`, but for foreign keys, which stop a load by themselves.
const ADDITIONS: &str = "\
    SELECT t.relname::text, i.relname::text, coalesce(con.contype::text, 'i'), x.indisunique, \
           CASE WHEN con.oid IS NOT NULL THEN pg_get_constraintdef(con.oid) \
                WHEN starts_with(def.whole, def.head) THEN substr(def.whole, length(def.head) + 1) END, \
           CASE WHEN con.contype = 'p' THEN ARRAY( \
               SELECT a.attname::text FROM unnest(con.conkey) WITH ORDINALITY AS key (num, at) \
               JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = key.num ORDER BY key.at) \
           ELSE ARRAY( \
               SELECT DISTINCT a.attname::text FROM pg_depend d \
               JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid AND a.attnum > 0 \
               WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid \
                 AND ((d.classid = 'pg_class'::regclass AND d.objid = i.oid) \
                   OR (d.classid = 'pg_constraint'::regclass AND d.objid = con.oid))) END, \
           CASE WHEN con.contype = 'p' OR con.oid IS NULL THEN obj_description(i.oid, 'pg_class') \
                ELSE obj_description(con.oid, 'pg_constraint') END \
    FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace \
    JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid \
    LEFT JOIN pg_constraint con ON con.conindid = i.oid AND con.conrelid = t.oid AND con.contype IN ('p', 'u', 'x') \
    CROSS JOIN LATERAL (SELECT pg_get_indexdef(i.oid), format('CREATE %sINDEX %I ON %I.%I ', \
        CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END, i.relname, n.nspname, t.relname)) AS def (whole, head) \
    WHERE n.nspname = $1 AND t.relname = ANY ($2) \
    UNION ALL \
    SELECT t.relname::text, con.conname::text, 'c', false, pg_get_constraintdef(con.oid), ARRAY( \
               SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = ANY (con.conkey)), \
           obj_description(con.oid, 'pg_constraint') \
    FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_constraint con ON con.conrelid = t.oid \
    WHERE n.nspname = $1 AND t.relname = ANY ($2) AND con.contype = 'c' \
    ORDER BY 1, 2";

/// All indexes and constraints of these tables, gizer's own keys among them.
async fn read(session: &Session, tables: &[&str]) -> Result<Vec<Addition>, PgError> {
    let rows = session.query("reading indexes and constraints", ADDITIONS, &[&session.schema(), &tables]).await?;
    Ok(rows.iter().map(addition).collect())
}

fn addition(row: &Row) -> Addition {
    let kind = match row.get::<_, &str>(2) {
        "p" => AdditionKind::PrimaryKey,
        "u" | "x" => AdditionKind::IndexedConstraint,
        "c" => AdditionKind::Check,
        _ => AdditionKind::Index { unique: row.get(3) },
    };
    Addition {
        table: row.get(0),
        name: row.get(1),
        kind,
        definition: row.get(4),
        columns: row.get(5),
        comment: row.get(6),
    }
}

/// What has been added to the live tables, without the keys that gizer makes itself.
pub(super) async fn on_live(session: &Session, layout: &Layout, live: &[LiveTable]) -> Result<Vec<Addition>, PgError> {
    let names: Vec<&str> = live.iter().map(|table| table.name.as_str()).collect();
    let all = read(session, &names).await?;
    let keys = key_names(layout);
    let is_key = |addition: &Addition| {
        let described = |table: &str| all.iter().any(|each| each.table == table && is_marked(each.comment.as_deref()));
        let by_gizer = live.iter().any(|table| table.name == addition.table && table.origin == Origin::Gizer);
        let again = is_unique(layout)
            && new_table(layout, &addition.table)
                .is_some_and(|table| table.key_columns().map(|column| &column.name).eq(&addition.columns));
        is_marked(addition.comment.as_deref())
            || (addition.kind == AdditionKind::PrimaryKey && again)
            // Keys that an older version has made bear no mark.
            || (by_gizer
                && !described(&addition.table)
                && (addition.kind == AdditionKind::PrimaryKey || keys.contains(&addition.name)))
    };
    Ok(all.iter().filter(|addition| !is_key(addition)).cloned().collect())
}

fn new_table<'l>(layout: &'l Layout, name: &str) -> Option<&'l Table> {
    layout.tables.iter().find(|table| table.name == name)
}

impl Addition {
    /// Name of its table.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// For messages: `index posts_n`.
    pub(super) fn label(&self) -> String {
        let kind = match self.kind {
            AdditionKind::Index { unique: false } => "index",
            AdditionKind::Index { unique: true } => "unique index",
            AdditionKind::IndexedConstraint | AdditionKind::Check => "constraint",
            AdditionKind::PrimaryKey => "primary key",
        };
        format!("{kind} {}", self.name)
    }

    /// Why it cannot be carried over, if it can be told without trying.
    pub(super) fn cannot_be_carried_over(&self, layout: &Layout) -> Option<String> {
        let label = self.label();
        let Some(table) = new_table(layout, &self.table) else {
            return Some(format!("{label}, whose table is no longer in the schema"));
        };
        let gone = |column: &&String| !table.columns.iter().any(|each| each.name == **column);
        if let Some(column) = self.columns.iter().find(gone) {
            return Some(format!("{label}, whose column {column} is no longer in the schema"));
        }
        if key_names(layout).contains(&self.name) && self.kind != AdditionKind::Check {
            return Some(format!("{label}, whose name a key of gizer needs"));
        }
        (self.kind == AdditionKind::PrimaryKey || self.definition.is_none()).then_some(label)
    }

    /// Its name on the staging table. Constraints without an index are named table by table.
    fn staging_name(&self) -> String {
        if self.kind == AdditionKind::Check { self.name.clone() } else { staging_name(&self.name) }
    }

    fn create(&self, staging: &Qualified) -> Result<String, PgError> {
        let (name, definition) = (quote_identifier(&self.staging_name())?, self.definition.as_deref().unwrap_or(""));
        Ok(match self.kind {
            AdditionKind::Index { unique } => {
                let unique = if unique { "UNIQUE " } else { "" };
                format!("CREATE {unique}INDEX {name} ON {staging} {definition}")
            }
            _ => format!("ALTER TABLE {staging} ADD CONSTRAINT {name} {definition}"),
        })
    }

    /// Whether `built` is this one on a staging table.
    fn is_built_as(&self, built: &Addition) -> bool {
        built.table == staging_name(&self.table)
            && built.name == self.staging_name()
            && built.kind == self.kind
            && built.definition == self.definition
    }

    /// Gives what was built its name and its comment, now that its table has got its own.
    fn settle(&self, session: &Session) -> Result<String, PgError> {
        let (table, name) = (session.relation(&self.table)?, quote_identifier(&self.name)?);
        let mut sql = match self.kind {
            AdditionKind::Index { .. } => {
                format!("ALTER INDEX {} RENAME TO {name};", session.relation(&self.staging_name())?)
            }
            AdditionKind::Check => String::new(),
            _ => {
                let staging = quote_identifier(&self.staging_name())?;
                format!("ALTER TABLE {table} RENAME CONSTRAINT {staging} TO {name};")
            }
        };
        if let Some(comment) = &self.comment {
            let on = match self.kind {
                AdditionKind::Index { .. } => format!("INDEX {}", session.relation(&self.name)?),
                _ => format!("CONSTRAINT {name} ON {table}"),
            };
            sql.push_str(&format!("COMMENT ON {on} IS {};", quote_literal(comment)?));
        }
        Ok(sql)
    }

    /// Takes what was built off its staging table again.
    fn remove(&self, session: &Session) -> Result<String, PgError> {
        Ok(match self.kind {
            AdditionKind::Index { .. } => format!("DROP INDEX {}", session.relation(&self.name)?),
            _ => {
                let (table, name) = (session.relation(&self.table)?, quote_identifier(&self.name)?);
                format!("ALTER TABLE {table} DROP CONSTRAINT {name}")
            }
        })
    }
}

/// Makes one on the staging table, in the open transaction.
pub(super) async fn create(session: &Session, addition: &Addition, table: &StagingTable) -> Result<(), PgError> {
    let doing = format!("making {} on {}", addition.label(), table.staging);
    match session.run(doing, &addition.create(&table.staging)?).await {
        Err(PgError::Database { said, .. } | PgError::DataRejected { said, .. }) => Err(PgError::NotCarriedOver {
            schema: table.live.schema().to_owned(),
            table: table.live.name().to_owned(),
            object: addition.label(),
            said,
        }),
        outcome => outcome,
    }
}

/// Gives a staging table with its key what the live table has by now, in the open transaction. It makes what is
/// missing and removes what is gone or has changed.
pub(super) async fn catch_up(session: &Session, additions: &[Addition], table: &StagingTable) -> Result<(), PgError> {
    let wanted: Vec<&Addition> = additions.iter().filter(|each| each.table == table.live.name()).collect();
    let mut built = read(session, &[table.staging.name()]).await?;
    built.retain(|each| each.name != table.staging_key);
    // First what is gone: what is missing may have its name.
    for gone in built.iter().filter(|built| !wanted.iter().any(|addition| addition.is_built_as(built))) {
        session.run(format!("removing {}", gone.label()), &gone.remove(session)?).await?;
    }
    for missing in wanted.iter().filter(|addition| !built.iter().any(|built| addition.is_built_as(built))) {
        create(session, missing, table).await?;
    }
    Ok(())
}

/// Makes all of them on the empty staging tables, to see that it can be done, and none in the end.
pub(super) async fn rehearse(
    session: &Session,
    additions: &[Addition],
    tables: &[StagingTable],
) -> Result<(), PgError> {
    if additions.is_empty() {
        return Ok(());
    }
    session.run("setting a savepoint", "SAVEPOINT rehearsal").await?;
    for addition in additions {
        if let Some(table) = tables.iter().find(|table| table.live.name() == addition.table) {
            create(session, addition, table).await?;
        }
    }
    session.run("rolling back", "ROLLBACK TO SAVEPOINT rehearsal; RELEASE SAVEPOINT rehearsal").await
}

/// Checks, before the swap, that what was built is what the live tables have; takes off what they have no longer.
///
/// # Errors
/// [`PgError::Dependents`] if something was added after the keys were built.
pub(super) async fn match_up(
    session: &Session,
    additions: &[Addition],
    tables: &[StagingTable],
) -> Result<(), PgError> {
    let names: Vec<&str> = tables.iter().map(|table| table.staging.name()).collect();
    let keys: BTreeSet<&str> = tables.iter().map(|table| table.staging_key.as_str()).collect();
    let built: Vec<Addition> =
        read(session, &names).await?.into_iter().filter(|each| !keys.contains(each.name.as_str())).collect();
    if let Some(new) = additions.iter().find(|addition| !built.iter().any(|built| addition.is_built_as(built))) {
        let dependents = vec![format!("{}, which was made or changed while the load was running", new.label())];
        let (schema, table) = (session.schema().to_owned(), new.table.clone());
        return Err(PgError::Dependents { schema, table, dependents });
    }
    for gone in built.iter().filter(|built| !additions.iter().any(|addition| addition.is_built_as(built))) {
        session.run(format!("removing {}", gone.label()), &gone.remove(session)?).await?;
    }
    Ok(())
}

/// Gives what was built its final names, once the tables have theirs.
pub(super) async fn settle(session: &Session, additions: &[Addition]) -> Result<(), PgError> {
    for addition in additions {
        session.run(format!("renaming {}", addition.label()), &addition.settle(session)?).await?;
    }
    Ok(())
}
