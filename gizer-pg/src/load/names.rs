//! Names that the tables and keys of a collection need. Tables and indexes of a schema share one space of names.
//!
//! What is gizer's own is kept apart from what others made: nobody is ever advised to drop a table of gizer.

use gizer_schema::{Layout, TableId};

use super::survey::{Extent, LiveTable, oids};
use crate::connect::Session;
use crate::ddl::{key_names, staging_name};
use crate::error::{NameOwner, PgError};
use crate::state;

/// Refuses names that are kept for gizer itself, or that another collection has.
pub(super) async fn refuse_names_of_gizer(session: &Session, layout: &Layout) -> Result<(), PgError> {
    let mut names: Vec<String> = layout.tables.iter().map(|table| table.name.clone()).collect();
    names.extend(key_names(layout));
    let taken = |name: &str, owner| {
        let (schema, collection) = (session.schema().to_owned(), layout.collection.clone());
        Err(PgError::NameTaken { schema, collection, name: name.to_owned(), owner })
    };
    if let Some(name) = names.iter().find(|name| state::is_own_name(name)) {
        return taken(name, NameOwner::State);
    }
    if let Some(name) = names.iter().find(|name| name.starts_with(&staging_name(""))) {
        return taken(name, NameOwner::Staging);
    }
    match state::name_of_another(session, &layout.collection, &names).await? {
        Some((name, owner)) => taken(&name, owner),
        None => Ok(()),
    }
}

/// The names of the keys must be free once the live tables are dropped.
pub(super) async fn refuse_taken_key_names(
    session: &Session,
    layout: &Layout,
    live: &[LiveTable],
    extent: Extent<'_>,
) -> Result<(), PgError> {
    let sql = "SELECT c.relname::text, coalesce(i.indrelid::regclass::text, '') \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN pg_index i ON i.indexrelid = c.oid \
               WHERE n.nspname = $1 AND c.relname = ANY ($2) AND (i.indrelid IS NULL OR i.indrelid <> ALL ($3))";
    let keys = key_names(layout).into_iter().enumerate().filter(|(at, _)| extent.has(TableId(*at)));
    let (keys, oids): (Vec<String>, Vec<u32>) = (keys.map(|(_, name)| name).collect(), oids(live));
    let found = session.query("looking for the names of keys", sql, &[&session.schema(), &keys, &oids]).await?;
    let Some(row) = found.first() else { return Ok(()) };
    let (table, of): (String, String) = (row.get(0), row.get(1));
    let why = match of.as_str() {
        "" => format!("a key of the collection {} needs this name", layout.collection),
        of => format!("a key of the collection {} needs this name, and an index of {of} has it", layout.collection),
    };
    Err(PgError::ForeignTable { schema: session.schema().to_owned(), table, why })
}
