//! What the configuration and the schema files say about following.

use std::sync::Arc;

use gizer_engine::audit::AuditSettings;
use gizer_engine::follow::{self, BATCH_DOCUMENTS, FollowSettings};
use gizer_oplog::FollowOptions;
use gizer_pg::ddl::layout_hash;
use gizer_pg::state::Followed;
use gizer_schema::Layout;
use gizer_verify::{Checks, ReadBack};

use super::{Context, Layouts};
use crate::config::Config;
use crate::config::file::VerifyMode;
use crate::exit::{Failure, FailureKind};
use crate::report;

/// The layout of a collection that is followed, or why there is none: its schema file is missing, cannot be used, or is not the
/// one that its tables were loaded by.
pub(super) type FollowedLayout = Result<Arc<Layout>, Failure>;

/// The layouts of the collections that are followed, in their order.
///
/// # Errors
/// [`Failure`] if one of them has none.
pub(super) fn layouts_of(context: &Context, followed: &[Followed]) -> Result<Vec<Arc<Layout>>, Failure> {
    layouts_or_failures(context, followed)?.into_iter().collect()
}

/// The same, with what is wrong with each.
///
/// # Errors
/// [`Failure`] if schema files cannot be read at all.
pub(super) fn layouts_or_failures(context: &Context, followed: &[Followed]) -> Result<Vec<FollowedLayout>, Failure> {
    let names: Vec<String> = followed.iter().map(|followed| followed.collection.clone()).collect();
    let layouts = context.layouts(&names)?;
    followed.iter().map(|followed| layout_of(&layouts, followed)).collect()
}

fn layout_of(layouts: &Layouts, followed: &Followed) -> Result<FollowedLayout, Failure> {
    let name = &followed.collection;
    if let Some(failure) = layouts.failures.of(name) {
        return Ok(Err(failure.clone()));
    }
    let Some(layout) = layouts.usable.iter().find(|layout| layout.collection == *name) else {
        return Ok(Err(Failure::usage(format!("{name} is followed, and has no schema file"))));
    };
    if layout_hash(layout)? == followed.layout_hash {
        return Ok(Ok(Arc::new(layout.clone())));
    }
    let message = format!(
        "the schema file of {name} is not the one that its tables were loaded by: a load of {name} is due, and until \
         then nothing is applied, so that nothing is lost"
    );
    Ok(Err(Failure::new(FailureKind::LoadDue, message)
        .remedy(format!("`{}`, or put the schema file back as it was", report::command("load", [name], &[])))))
}

/// Of so many documents one is read back with `[verify] mode = "sample"`.
const SAMPLED: u32 = 16;

/// How changes are read.
pub(super) fn source_options(config: &Config) -> FollowOptions {
    follow::source_options(config.memory, &config.spool_dir)
}

/// How an audit reads MongoDB.
pub(super) fn audit_settings(config: &Config) -> AuditSettings {
    AuditSettings { changes: source_options(config), shards_apart: config.mongo_uris.len() > 1 }
}

/// How changes are applied.
pub(super) fn settings(config: &Config) -> FollowSettings {
    FollowSettings {
        batch_documents: BATCH_DOCUMENTS,
        part_bytes: config.memory / 16,
        checks: Checks::from(match config.verify_mode {
            VerifyMode::All => ReadBack::All,
            VerifyMode::Sample => ReadBack::Sample(SAMPLED),
            VerifyMode::Off => ReadBack::Off,
        }),
        max_repairs: config.max_repairs,
        logs_unfit: false,
        max_rejects: config.max_rejects,
    }
}
