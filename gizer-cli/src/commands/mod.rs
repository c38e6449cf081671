//! The commands, one module each.

pub mod ddl;
pub mod infer;
pub mod load;
mod load_report;
pub mod status;

use gizer_oplog::{Cluster, ErrorClass, MongoError, OplogSettings, SecretUri, Settings};
use gizer_pg::{ErrorKind, PgError, Session, Target};
use gizer_schema::{Layout, LayoutError};

use crate::args::Format;
use crate::config::Config;
use crate::exit::{ExitCode, Failure};
use crate::interrupt::Signals;
use crate::schema_files::SchemaFiles;

/// What every command works with.
#[derive(Debug)]
pub struct Context {
    /// The effective configuration.
    pub config: Config,
    /// How results are printed.
    pub format: Format,
    /// What asks the command to stop.
    pub signals: Signals,
}

impl Context {
    /// The folder of schema files.
    pub fn schema_files(&self) -> SchemaFiles {
        SchemaFiles::new(&self.config.schemas_dir)
    }

    /// Connects to MongoDB.
    ///
    /// # Errors
    /// [`Failure`] if it is not configured or cannot be reached.
    pub async fn mongo(&self) -> Result<Cluster, Failure> {
        let uris = self.config.mongo()?.iter().map(|uri| SecretUri::parse(uri)).collect::<Result<_, _>>()?;
        let oplog = |(name, uri): &(String, String)| {
            Ok::<_, MongoError>(OplogSettings { name: name.clone(), uri: SecretUri::parse(uri)? })
        };
        let oplogs = self.config.oplogs.iter().map(oplog).collect::<Result<_, _>>()?;
        let settings = Settings { uris, database: self.config.database()?.to_owned(), oplogs };
        Ok(Cluster::connect(settings).await?)
    }

    /// Where tables are written.
    ///
    /// # Errors
    /// [`Failure`] if it is not configured, or not a usable URI.
    pub fn target(&self) -> Result<Target, Failure> {
        Ok(Target::parse(self.config.postgres()?, &self.config.postgres_schema)?)
    }

    /// Connects to PostgreSQL.
    ///
    /// # Errors
    /// [`Failure`] if it is not configured or cannot be reached.
    pub async fn postgres(&self) -> Result<Session, Failure> {
        Ok(gizer_pg::connect(&self.target()?).await?)
    }

    /// The layouts of these collections, or of all that have a schema file.
    ///
    /// # Errors
    /// [`Failure`] with [`ExitCode::Usage`]: no schema file, one that is wrong, or two collections that want one table.
    pub fn layouts(&self, collections: &[String]) -> Result<Vec<Layout>, Failure> {
        let files = self.schema_files();
        let known = files.collections()?;
        if collections.is_empty() && known.is_empty() {
            let folder = files.folder().display();
            return Err(Failure::usage(format!("there is no schema file in {folder}"))
                .remedy("run `gizer schema infer` to make schema files"));
        }
        let mut names: Vec<&String> =
            if collections.is_empty() { known.iter().collect() } else { collections.iter().collect() };
        names.sort_unstable();
        names.dedup();
        let layout = |name: &String| {
            let schema = files.read(name)?;
            Layout::new(&schema).map_err(|error| unusable_schema(&files, name, &error))
        };
        let layouts: Vec<Layout> = names.into_iter().map(layout).collect::<Result<_, _>>()?;
        check_distinct_tables(&layouts)?;
        Ok(layouts)
    }
}

fn unusable_schema(files: &SchemaFiles, collection: &str, error: &LayoutError) -> Failure {
    let path = files.existing(collection).unwrap_or_else(|| files.path(collection));
    let failure = Failure::usage(format!("{}: {error}", path.display()));
    match error {
        LayoutError::NoKey { .. } => failure.remedy("add the field _id with its type"),
        LayoutError::UnusableKey { .. } => failure
            .remedy("leave this collection out: keys of several values cannot be written in a classic schema file"),
        LayoutError::TooManyColumns { .. } => failure.remedy("take fields out of the schema file"),
    }
}

/// Two collections may want one table: `a` with an array `b_c`, `a_b` with an array `c`.
fn check_distinct_tables(layouts: &[Layout]) -> Result<(), Failure> {
    let mut owners = std::collections::HashMap::new();
    for layout in layouts {
        for table in &layout.tables {
            if let Some(other) = owners.insert(table.name.as_str(), layout.collection.as_str()) {
                let message =
                    format!("the collections {other} and {} both want the table {}", layout.collection, table.name);
                return Err(Failure::usage(message).remedy("load one of them into another [postgres] schema"));
            }
        }
    }
    Ok(())
}

impl From<MongoError> for Failure {
    fn from(error: MongoError) -> Failure {
        let exit = match error.class() {
            ErrorClass::Configuration => ExitCode::Usage,
            ErrorClass::Failed => ExitCode::Failed,
            ErrorClass::LoadDue => ExitCode::LoadDue,
        };
        Failure { exit, message: error.to_string(), remedy: error.remedy() }
    }
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Failure {
        let exit = match error.kind() {
            ErrorKind::Config => ExitCode::Usage,
            ErrorKind::HeldByAnotherRun => ExitCode::Locked,
            ErrorKind::Interrupted => ExitCode::Interrupted,
            ErrorKind::Failed => ExitCode::Failed,
        };
        Failure { exit, message: error.to_string(), remedy: error.remedy() }
    }
}
