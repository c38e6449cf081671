//! Schema files that a run which ended in between has not written.

use gizer_pg::Session;
use gizer_pg::ddl::layout_hash;
use gizer_pg::state;
use gizer_schema::{Layout, Schema, file};

use crate::env::Env;
use crate::failure::Failure;
use crate::notice::Notice;

/// Writes schema files whose version in the database is a later one: that decides. A file that a
/// person has changed since stays.
///
/// # Errors
/// [`Failure`] if a file cannot be written: its collection would be reloaded by the old schema.
pub async fn restore_schema_files(env: &Env, session: &Session) -> Result<(), Failure> {
    for schema in schemas_to_restore(env, session).await? {
        env.schema_files()?.write(&schema)?;
        env.notice(&Notice::RestoredSchemaFile { collection: schema.collection });
    }
    Ok(())
}

/// The schemas of collections whose file is of an earlier version than the tables.
///
/// # Errors
/// [`Failure`] if PostgreSQL cannot be read.
pub(crate) async fn schemas_to_restore(env: &Env, session: &Session) -> Result<Vec<Schema>, Failure> {
    let (versions, mut schemas) = (state::schema_versions(session).await?, Vec::new());
    if versions.is_empty() {
        return Ok(schemas);
    }
    let files = env.schema_files()?;
    for followed in state::read_followed(session).await? {
        let name = &followed.collection;
        let Some(versions) = versions.get(name) else { continue };
        let Ok(Ok(found)) = files.read(name).map(|schema| Layout::new(&schema)) else { continue };
        let found = layout_hash(&found)?;
        if found == followed.layout_hash {
            continue;
        }
        let done = || versions.iter().filter(|version| version.finished_at.is_some() && version.failed.is_none());
        // The file is of some version, and the tables of a later one.
        let Some(was) = done().position(|version| version.layout_before == found) else { continue };
        let Some(now) = done().skip(was).find(|version| version.layout_after == followed.layout_hash) else { continue };
        match file::parse(name, &now.schema) {
            Ok(schema) => schemas.push(schema),
            Err(_) => tracing::warn!(collection = name, "gizer_schema_history does not hold its schema file"),
        }
    }
    Ok(schemas)
}
