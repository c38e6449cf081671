//! How schemas have grown, and what could grow.

use std::collections::BTreeMap;

use gizer_engine::Env;
use gizer_engine::evolve::{EvolvePolicy, SchemaChange, changes_in};
use gizer_pg::Session;
use gizer_pg::state::{self, SchemaVersion};
use gizer_schema::Dialect;
use serde_json::{Value, json};

use super::unfit::section;
use crate::exit::Failure;
use crate::ui::report::thousands;

/// Paths that are named in one line.
const MAX_NAMED_PATHS: usize = 3;

/// Versions of schemas, and fields that could get a place, by collection.
#[derive(Debug, Default)]
pub(crate) struct Grown {
    versions: BTreeMap<String, Vec<SchemaVersion>>,
    /// Fields that have come in enough documents with what has no place, with how many.
    adoptable: BTreeMap<String, Vec<(String, u64)>>,
    policy: EvolvePolicy,
}

impl Grown {
    /// Reads it from the state tables.
    pub(crate) async fn read(session: &Session, env: &Env) -> Result<Grown, Failure> {
        let (settings, files) = (&env.settings.evolve, env.schema_files()?);
        let mut adoptable: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (name, rows) in state::read_unfit(session).await? {
            // Of the classic dialect none can grow.
            if !files.read(&name).is_ok_and(|schema| schema.dialect != Dialect::Classic) {
                continue;
            }
            for what in rows.into_iter().filter_map(|row| row.what) {
                *adoptable.entry(name.clone()).or_default().entry(what.path).or_default() += what.documents;
            }
        }
        let enough = |(_, documents): &(String, u64)| *documents >= settings.documents;
        let adoptable = adoptable.into_iter().map(|(name, paths)| (name, paths.into_iter().filter(enough).collect()));
        let adoptable = adoptable.filter(|(_, paths): &(String, Vec<_>)| !paths.is_empty()).collect();
        Ok(Grown { versions: state::schema_versions(session).await?, adoptable, policy: settings.policy })
    }

    /// Keeps what is of these collections.
    pub(crate) fn retain(&mut self, collections: &[String]) {
        self.versions.retain(|name, _| collections.contains(name));
        self.adoptable.retain(|name, _| collections.contains(name));
    }

    /// For each collection the fields that could get a place, where nobody gives it to them unasked.
    pub(crate) fn to_ask_about(&self) -> impl Iterator<Item = (&str, String)> {
        let adoptable = self.adoptable.iter().filter(|_| self.policy == EvolvePolicy::Ask);
        adoptable.map(|(name, paths)| (name.as_str(), in_a_line(paths.iter().map(|(path, _)| path.clone()).collect())))
    }

    /// For people; nothing if no schema has grown or could.
    pub(super) fn text(&self) -> String {
        let all = self.versions.iter().flat_map(|(name, versions)| versions.iter().rev().map(move |one| (name, one)));
        let row = |(name, version): (&String, &SchemaVersion)| {
            let fields = in_a_line(changes_in(&version.changes).into_iter().map(|change| change.path).collect());
            let result = match (&version.finished_at, &version.failed) {
                (None, None) => "rows are being rewritten".to_owned(),
                (None, Some(why)) => format!("going back: {why}"),
                (Some(_), Some(why)) => format!("failed: {why}"),
                (Some(_), None) => "done".to_owned(),
            };
            let number = version.version.to_string();
            vec![name.clone(), number, version.began_at.clone(), fields, thousands(version.rows), result]
        };
        let header = ["collection", "version", "since", "fields", "rows", "result"];
        let mut text = section("schemas that have grown", &header, &["version", "rows"], all.map(row).collect());
        let asked = self
            .to_ask_about()
            .map(|(name, paths)| vec![name.to_owned(), paths, format!("gizer schema evolve {name} --dry-run")]);
        let header = ["collection", "fields", "see"];
        text.push_str(&section("fields that could get columns, or wider ones", &header, &[], asked.collect()));
        text
    }

    pub(super) fn json(&self, collection: &str) -> Value {
        let one = |version: &SchemaVersion| {
            let adopted = changes_in(&version.changes).into_iter();
            let adopted = adopted.map(|SchemaChange { path, chosen, from }| match from {
                None => json!({"path": path, "chosen": chosen}),
                Some(from) => json!({"path": path, "chosen": chosen, "from": from}),
            });
            json!({
                "version": version.version, "began_at": version.began_at, "finished_at": version.finished_at,
                "failed": version.failed, "documents": version.documents, "rows": version.rows,
                "adopted": adopted.collect::<Vec<_>>(),
            })
        };
        self.versions.get(collection).into_iter().flatten().map(one).collect::<Vec<_>>().into()
    }

    pub(super) fn adoptable_json(&self, collection: &str) -> Value {
        let paths = self.adoptable.get(collection).into_iter().flatten();
        paths.map(|(path, documents)| json!({"path": path, "documents": documents})).collect::<Vec<_>>().into()
    }
}

/// The first names, and how many more.
fn in_a_line(mut paths: Vec<String>) -> String {
    let more = paths.len().saturating_sub(MAX_NAMED_PATHS);
    paths.truncate(MAX_NAMED_PATHS);
    if more > 0 {
        paths.push(format!("{} more", thousands(more as u64)));
    }
    paths.join(", ")
}
