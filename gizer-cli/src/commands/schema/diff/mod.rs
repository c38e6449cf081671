//! `gizer schema diff`: two schema files, two folders of them, or schema files and the tables that are there.

mod output;

use std::collections::BTreeSet;
use std::path::Path;

use gizer_pg::ddl::layout_hash;
use gizer_pg::load::standing;
use gizer_pg::state::{self, SchemaVersion};
use gizer_schema::diff::{SchemaDiff, TableChange, compare_tables, shapes};
use gizer_schema::{Dialect, Layout, Schema, file};
use serde_json::Value;

use super::layouts;
use crate::args::{DiffArgs, Format, Since};
use crate::commands::Context;
use crate::exit::{ExitCode, Failure, FailureKind};
use crate::ui::{report, sees_colours};
use gizer_engine::layouts::unusable_schema;
use gizer_engine::schema_files::SchemaFiles;

use output::{as_json, as_text};

/// What was found of one collection.
pub(super) struct Compared {
    pub(super) collection: String,
    pub(super) outcome: DiffOutcome,
}

/// What a comparison tells.
pub(super) enum DiffOutcome {
    /// Both sides have a schema of it.
    Files(SchemaDiff),
    /// An earlier version of the schema and the present one, which followed in place.
    Grown(SchemaDiff),
    /// Only the new side has a schema of it; with its tables.
    Added(Vec<TableChange>),
    /// Only the old side has.
    Removed(Vec<TableChange>),
    /// The existing tables, and those that follow from the schema file.
    Live {
        /// What a load would make of them.
        tables: Vec<TableChange>,
        /// Whether gizer has loaded them.
        loaded: bool,
        /// Whether that was by another schema than that of the file, whatever their columns.
        by_another: bool,
    },
}

impl Compared {
    pub(super) fn differs(&self) -> bool {
        match &self.outcome {
            DiffOutcome::Files(diff) | DiffOutcome::Grown(diff) => !diff.is_empty(),
            DiffOutcome::Added(_) | DiffOutcome::Removed(_) => true,
            DiffOutcome::Live { tables, by_another, .. } => !tables.is_empty() || *by_another,
        }
    }

    pub(super) fn load_due(&self) -> bool {
        match &self.outcome {
            DiffOutcome::Files(diff) => diff.load_due(),
            DiffOutcome::Removed(_) | DiffOutcome::Grown(_) => false,
            DiffOutcome::Added(_) | DiffOutcome::Live { .. } => self.differs(),
        }
    }

    pub(super) fn tables(&self) -> &[TableChange] {
        match &self.outcome {
            DiffOutcome::Files(diff) | DiffOutcome::Grown(diff) => &diff.tables,
            DiffOutcome::Added(tables) | DiffOutcome::Removed(tables) | DiffOutcome::Live { tables, .. } => tables,
        }
    }
}

/// Compares and prints. As of `diff`, the exit code is 1 if anything differs, and 2 if that could not be found out.
///
/// # Errors
/// [`Failure`], never of kind [`Failed`](FailureKind::Failed): a file that cannot be read or is no schema; tables that cannot be read.
pub(super) async fn run(context: &Context, args: &DiffArgs) -> Result<ExitCode, Failure> {
    let compared = match &args.since {
        Some(since) => grown(context, &args.inputs, since).await,
        None if args.live => live(context, &args.inputs).await,
        None => files(&args.inputs),
    };
    let compared = compared.map_err(|failure| match failure.kind {
        FailureKind::Failed => Failure { kind: FailureKind::Usage, ..failure },
        _ => failure,
    })?;
    match context.format {
        Format::Text => report::text(&as_text(&compared, args.live, sees_colours(&std::io::stdout()))),
        Format::Json => report::json(&as_json(&compared)),
    }
    Ok(if compared.iter().any(Compared::differs) { ExitCode::Failed } else { ExitCode::Done })
}

async fn live(context: &Context, collections: &[String]) -> Result<Vec<Compared>, Failure> {
    let layouts = layouts(context, collections)?;
    let read = async {
        let session = context.env.postgres().await?;
        let mut compared = Vec::new();
        for layout in &layouts {
            let there = standing(&session, layout).await?;
            let tables = compare_tables(&there.tables, &shapes(layout));
            let hash = layout_hash(layout)?;
            let by_another = there.loaded_as.as_ref().is_some_and(|loaded| *loaded != hash);
            let outcome = DiffOutcome::Live { tables, loaded: there.loaded_as.is_some(), by_another };
            compared.push(Compared { collection: layout.collection.clone(), outcome });
        }
        Ok(compared)
    };
    context.env.stop.or_done(read).await
}

/// Earlier versions of schemas, and what they are now.
async fn grown(context: &Context, collections: &[String], since: &Since) -> Result<Vec<Compared>, Failure> {
    let names: Vec<String> = layouts(context, collections)?.into_iter().map(|layout| layout.collection).collect();
    let files = context.env.schema_files()?;
    let versions = context.env.stop.or_done(async {
        let session = context.env.postgres().await?;
        Ok(state::schema_versions(&session).await?)
    });
    let versions = versions.await?;
    let compare = |name: &String| {
        let new = files.read(name)?;
        let is_later = |version: &&SchemaVersion| match since {
            Since::Version(number) => version.version > *number,
            Since::Time(time) => version.finished_at.as_deref() > Some(time.as_str()),
        };
        let done = versions.get(name).into_iter().flatten();
        let mut done = done.filter(|version| version.finished_at.is_some() && version.failed.is_none());
        let old = match done.find(is_later) {
            Some(version) => parse(name, &version.schema_before, Path::new("gizer_schema_history"))?,
            None => new.clone(),
        };
        Ok(Compared { collection: name.clone(), outcome: DiffOutcome::Grown(between(&old, &new)?) })
    };
    names.iter().map(compare).collect()
}

fn files(inputs: &[String]) -> Result<Vec<Compared>, Failure> {
    let [old, new] = inputs else {
        let message = format!("expected two schema files or two folders of them, got {}", inputs.len());
        return Err(Failure::usage(message).remedy("give two paths, or collections and --live"));
    };
    let (old, new) = (Path::new(old), Path::new(new));
    for path in [old, new] {
        path.metadata().map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    }
    match (old.is_dir(), new.is_dir()) {
        (true, true) => folders(old, new),
        (false, false) => two_files(old, new).map(|compared| vec![compared]),
        _ => {
            let (file, folder) = if new.is_dir() { (old, new) } else { (new, old) };
            let message = format!("{} is a folder, and {} is none", folder.display(), file.display());
            Err(Failure::usage(message).remedy("give two schema files, or two folders of them"))
        }
    }
}

fn two_files(old: &Path, new: &Path) -> Result<Compared, Failure> {
    let (old_text, new_text) = (read(old)?, read(new)?);
    // A file of the classic dialect does not say whose schema it is, and a copy of a file may be called anything.
    let (said, also_said) = (collection_in(&old_text, old), collection_in(&new_text, new));
    let old_name = said.clone().or(also_said.clone()).unwrap_or_else(|| stem(old));
    let new_name = also_said.unwrap_or_else(|| old_name.clone());
    let old = parse(&old_name, &old_text, old)?;
    let new = parse(&new_name, &new_text, new)?;
    Ok(Compared { collection: new_name, outcome: DiffOutcome::Files(between(&old, &new)?) })
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))
}

fn parse(collection: &str, text: &str, path: &Path) -> Result<Schema, Failure> {
    file::parse(collection, text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    percent_encoding::percent_decode_str(&stem).decode_utf8_lossy().into_owned()
}

/// The collection that a file of gizer's dialect names; without its database, if the file goes by the collection alone.
fn collection_in(text: &str, path: &Path) -> Option<String> {
    let file: Value = serde_json::from_str(text).ok()?;
    file.get("$gizer")?;
    let named = file.get("collection")?.as_str()?;
    let stem = stem(path);
    let of_file = named == stem || named.split_once('.').is_some_and(|(_, rest)| rest == stem);
    Some(if of_file { stem } else { named.to_owned() })
}

fn folders(old: &Path, new: &Path) -> Result<Vec<Compared>, Failure> {
    let (old, new) = (SchemaFiles::open(old)?, SchemaFiles::open(new)?);
    let (of_old, of_new): (BTreeSet<&str>, BTreeSet<&str>) = (old.collections().collect(), new.collections().collect());
    if of_old.is_empty() && of_new.is_empty() {
        let (old, new) = (old.folder().display(), new.folder().display());
        return Err(Failure::usage(format!("there is no schema file in {old}, and none in {new}")));
    }
    let compare = |name: &&str| {
        let outcome = match (of_old.contains(name), of_new.contains(name)) {
            (true, true) => DiffOutcome::Files(between(&old.read(name)?, &new.read(name)?)?),
            (true, false) => DiffOutcome::Removed(compare_tables(&shapes(&layout(&old.read(name)?)?), &[])),
            _ => DiffOutcome::Added(compare_tables(&[], &shapes(&layout(&new.read(name)?)?))),
        };
        Ok(Compared { collection: (*name).to_owned(), outcome })
    };
    of_old.union(&of_new).map(compare).collect()
}

fn layout(schema: &Schema) -> Result<Layout, Failure> {
    Layout::new(schema).map_err(|error| unusable_schema(&error))
}

fn between(old: &Schema, new: &Schema) -> Result<SchemaDiff, Failure> {
    SchemaDiff::between(old, new).map_err(|error| unusable_schema(&error))
}

/// A dialect in words.
pub(super) fn dialect(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Classic => "classic",
        Dialect::Gizer { exact_types: false } => "gizer",
        Dialect::Gizer { exact_types: true } => "gizer, exact_types",
    }
}
