//! Layouts of collections by their schema files, and failures.

use std::collections::HashMap;

use gizer_schema::names::shortened;
use gizer_schema::{Dialect, Layout, LayoutError};

use crate::env::Env;
use crate::failure::Failure;
use crate::failures::Failures;
use crate::schema_files::SchemaFiles;

/// The layouts of several collections.
#[derive(Debug)]
pub struct Layouts {
    /// Usable layouts, by collection name.
    pub usable: Vec<Layout>,
    /// Failures of the others.
    pub failures: Failures,
}

impl Layouts {
    /// Reads the layouts of these collections, or of all with a schema file. Failures are: no
    /// schema file, an invalid one, or two collections that need one table.
    ///
    /// # Errors
    /// [`Failure`] of kind [`Usage`](crate::FailureKind::Usage) if there is no schema file at all,
    /// or the folder cannot be read.
    pub fn read(env: &Env, collections: &[String]) -> Result<Layouts, Failure> {
        let files = env.schema_files()?;
        let mut failures = Failures::default();
        let mut names: Vec<&str> = collections.iter().map(String::as_str).collect();
        if collections.is_empty() {
            names.extend(files.collections());
            for path in files.nameless() {
                let message =
                    "expected the name of a collection in UTF-8 and without a NUL, percent-encoded where needed";
                failures.add(path.display().to_string(), Failure::usage(message).remedy("rename the file"));
            }
        }
        if names.is_empty() && failures.is_empty() {
            let folder = files.folder().display();
            return Err(Failure::usage(format!("there is no schema file in {folder}"))
                .remedy("run `gizer schema infer` to make schema files"));
        }
        names.sort_unstable();
        names.dedup();
        let mut usable = Vec::new();
        for name in names {
            match layout(&files, name) {
                Ok(layout) => usable.push(layout),
                Err(failure) => failures.add(name, failure),
            }
        }
        let usable = with_names_of_their_own(usable, &mut failures);
        Ok(Layouts { usable, failures })
    }
}

fn layout(files: &SchemaFiles, name: &str) -> Result<Layout, Failure> {
    let schema = files.read(name)?;
    Layout::new(&schema).map_err(|error| {
        let failure = unusable_schema(&error);
        let message = format!("{}: {failure}", files.path(name).display());
        Failure { message, ..failure }
    })
}

/// The layout with the prefix, if there is one.
///
/// # Errors
/// [`Failure`] if the prefix cannot stand before the names of the tables.
pub fn prefixed(layout: &Layout, prefix: Option<&str>) -> Result<Layout, Failure> {
    let Some(prefix) = prefix else { return Ok(layout.clone()) };
    layout.prefixed(prefix).map_err(|error| unusable_schema(&error))
}

/// The failure of an unusable schema.
pub fn unusable_schema(error: &LayoutError) -> Failure {
    let failure = Failure::usage(error.to_string());
    match error {
        LayoutError::NoKey { .. } => failure.remedy("add the field _id with its type"),
        LayoutError::UnusableKey { .. } => {
            failure.remedy("give _id the type KEY in a schema file of dialect gizer, as `gizer schema infer` writes it")
        }
        LayoutError::TooManyColumns { .. } => failure.remedy("remove fields from the schema file"),
        LayoutError::TooDeep { .. } => failure.remedy("keep an outer array as JSON: {\"$as\": \"json\"}"),
        LayoutError::NameTaken { .. } => failure.remedy("choose another $name in the schema file"),
        LayoutError::UnusablePrefix { .. } => failure.remedy("choose a prefix of some characters"),
        LayoutError::PrefixTooLong { .. } => failure.remedy("choose a shorter prefix"),
        LayoutError::MisplacedKey { .. } => failure.remedy("give it another type, or {\"$as\": \"json\"}"),
    }
}

/// Two collections may need one table: `a` with an array `b_c`, and `a_b` with an array `c`; or a
/// table may be named like the other's key. The operator has to choose, so neither is used.
fn with_names_of_their_own(layouts: Vec<Layout>, failures: &mut Failures) -> Vec<Layout> {
    let names: Vec<Vec<String>> = layouts.iter().map(relation_names).collect();
    let mut owners: HashMap<&str, Vec<&str>> = HashMap::new();
    for (layout, names) in layouts.iter().zip(&names) {
        for name in names {
            owners.entry(name).or_default().push(&layout.collection);
        }
    }
    let clash = |(layout, names): (&Layout, &Vec<String>)| {
        let name = names.iter().find(|name| owners[name.as_str()].len() > 1)?;
        Some(wanted_twice(&owners[name.as_str()], layout, name))
    };
    let clashes: Vec<Option<Failure>> = layouts.iter().zip(&names).map(clash).collect();
    let mut alone = Vec::new();
    for (layout, clash) in layouts.into_iter().zip(clashes) {
        match clash {
            Some(failure) => failures.add(layout.collection, failure),
            None => alone.push(layout),
        }
    }
    alone
}

/// The names of a layout's tables and keys, which are unique in a PostgreSQL schema.
pub(crate) fn relation_names(layout: &Layout) -> Vec<String> {
    let tables = layout.tables.iter().map(|table| table.name.clone());
    tables.chain(gizer_pg::ddl::key_names(layout)).collect()
}

/// The failure of `layout`, whose collection is one of these.
pub(crate) fn wanted_twice(collections: &[&str], layout: &Layout, name: &str) -> Failure {
    let what = if layout.tables.iter().any(|table| table.name == name) { "table" } else { "key" };
    let collections = collections.join(" and ");
    let keys = gizer_pg::ddl::key_names(layout);
    let table = layout.tables.iter().zip(&keys).find(|(table, key)| table.name == name || *key == name);
    let path = table.and_then(|(table, _)| table.path).map(|path| layout.path(path).dotted());
    let remedy = match (layout.dialect, path) {
        (Dialect::Classic, _) => "load one of them into another [postgres] schema".to_owned(),
        (_, None) => "choose another name for one of them: \"$name\" next to \"fields\" in its schema file".to_owned(),
        (_, Some(path)) => {
            let path = shortened(&path);
            format!("choose another name in the schema file: {path}: {{\"$name\": \"…\", \"$items\": …}}")
        }
    };
    Failure::usage(format!("the collections {collections} both need the {what} {name}")).remedy(remedy)
}
