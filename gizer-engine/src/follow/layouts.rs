//! Layouts and settings of following.

use std::sync::Arc;

use gizer_oplog::{Cluster, FollowOptions};
use gizer_pg::ddl::layout_hash;
use gizer_pg::state::Followed;
use gizer_schema::Layout;
use gizer_verify::Checks;

use super::{FollowSettings, SyncOptions};
use crate::audit::AuditSettings;
use crate::env::Env;
use crate::failure::{Failure, FailureKind};
use crate::layouts::Layouts;
use crate::wording::command;

/// The layout of a followed collection, or why there is none: its schema file is missing, unusable
/// or changed since the load.
pub(crate) type FollowedLayout = Result<Arc<Layout>, Failure>;

/// The layouts of the followed collections, in order.
///
/// # Errors
/// [`Failure`] if one of them has none.
pub fn layouts_of(env: &Env, followed: &[Followed]) -> Result<Vec<Arc<Layout>>, Failure> {
    layouts_or_failures(env, followed)?.into_iter().collect()
}

/// The same, with a failure for each unusable one.
///
/// # Errors
/// [`Failure`] if schema files cannot be read at all.
pub(crate) fn layouts_or_failures(env: &Env, followed: &[Followed]) -> Result<Vec<FollowedLayout>, Failure> {
    let names: Vec<String> = followed.iter().map(|followed| followed.collection.clone()).collect();
    let layouts = Layouts::read(env, &names)?;
    followed.iter().map(|followed| layout_of(&layouts, followed)).collect()
}

fn layout_of(layouts: &Layouts, followed: &Followed) -> Result<FollowedLayout, Failure> {
    let name = &followed.collection;
    if let Some(failure) = layouts.failures.of(name) {
        return Ok(Err(failure.clone()));
    }
    let Some(layout) = layouts.usable.iter().find(|layout| layout.collection == *name) else {
        return Ok(Err(Failure::usage(format!("{name} is followed but has no schema file"))));
    };
    if layout_hash(layout)? == followed.layout_hash {
        return Ok(Ok(Arc::new(layout.clone())));
    }
    let message = format!(
        "the schema file of {name} has changed since {name} was loaded: a load is due; until then no change is applied"
    );
    Ok(Err(Failure::new(FailureKind::LoadDue, message)
        .remedy(format!("run `{}`, or restore the old schema file", command("load", [name], &[])))))
}

const BATCH_DOCUMENTS: usize = 20_000;

/// Changes between watermarks, where a batch can end.
const WATERMARK_CHANGES: usize = 5_000;

pub(crate) fn source_options(env: &Env) -> FollowOptions {
    let settings = &env.settings;
    FollowOptions {
        watermark_changes: WATERMARK_CHANGES,
        watermark_bytes: settings.memory / 16,
        transaction_memory: settings.memory / 8,
        ..FollowOptions::new(settings.spill_dir.join("held-back"))
    }
}

pub(crate) fn audit_settings(env: &Env, cluster: &Cluster) -> AuditSettings {
    AuditSettings { changes: source_options(env), shards_apart: cluster.reads_shards_apart() }
}

pub(crate) fn settings(env: &Env, options: SyncOptions) -> FollowSettings {
    let settings = &env.settings;
    FollowSettings {
        batch_documents: BATCH_DOCUMENTS,
        part_bytes: settings.memory / 16,
        checks: Checks { read_back: settings.read_back, show_values: options.shows_values },
        max_repairs: settings.max_repairs,
        logs_unfit: options.stays_on,
        max_rejects: settings.max_rejects,
    }
}
