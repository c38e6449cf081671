//! Schema files made by `gizer run`, and keys that turn out too narrow.
//!
//! A file with the layout that `run` made is `run`'s own. If an `_id` does not fit its key, the key
//! becomes `KEY`, which takes any `_id`: in place if the collection is followed, or else by a load.
//! A file that a person wrote or changed stays; such documents are rejected and counted.

use gizer_pg::Session;
use gizer_pg::ddl::layout_hash;
use gizer_pg::state;

use crate::env::Env;
use crate::evolve::{EvolvePolicy, widen_key, with_any_key};
use crate::failure::Failure;
use crate::failures::Failures;
use crate::layouts::Layouts;
use crate::notice::Notice;

/// Records these files as made by `run`.
pub async fn record_inferred(session: &Session, env: &Env, names: &[String]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    for layout in Layouts::read(env, names)?.usable {
        state::record_inferred(session, &layout.collection, &layout_hash(&layout)?).await?;
    }
    Ok(())
}

/// Widens the keys of these collections, whose files are `run`'s own: those of followed ones in
/// place, where schemas grow by themselves; the others get another schema file, and with it a load
/// is due. Returns the failures.
pub async fn widen_keys(session: &Session, env: &Env, names: &[String]) -> Result<Failures, Failure> {
    let files = env.schema_files()?;
    let mut failures = Failures::default();
    for name in names {
        if env.settings.evolve.policy == EvolvePolicy::Auto {
            match Box::pin(widen_key(env, session, name)).await {
                Ok(None) => {}
                Ok(Some(_)) => {
                    state::clear_obstacle(session, name).await?;
                    env.notice(&Notice::WidenedKey { collection: name.clone() });
                    continue;
                }
                Err(failure) if failure.ends_run => return Err(failure),
                Err(failure) => {
                    failures.add(name, failure);
                    continue;
                }
            }
        }
        let widened = files.read(name).and_then(|schema| {
            let (schema, layout) = with_any_key(schema)?;
            files.write(&schema)?;
            Ok(layout)
        });
        match widened {
            Ok(layout) => {
                state::record_inferred(session, name, &layout_hash(&layout)?).await?;
                // Its obstacle was of the old schema.
                state::clear_obstacle(session, name).await?;
                env.notice(&Notice::WidenedKey { collection: name.clone() });
            }
            Err(failure) if failure.ends_run => return Err(failure),
            Err(failure) => failures.add(name, failure),
        }
    }
    Ok(failures)
}

#[cfg(test)]
mod tests {
    use gizer_schema::{ColumnType, file};

    use super::*;

    #[test]
    fn all_but_the_key_stays() {
        let text = |id: &str| {
            let id = format!(r#"{{"$type": "{id}", "$name": "key"}}"#);
            format!(r#"{{"$gizer": 1, "collection": "a", "fields": {{"_id": {id}, "n": "INT"}}}}"#)
        };
        let (schema, layout) = with_any_key(file::parse("a", &text("INT")).unwrap()).unwrap();
        assert_eq!(layout.key.ty, ColumnType::Key);
        assert_eq!(schema, file::parse("a", &text("KEY")).unwrap());
    }
}
