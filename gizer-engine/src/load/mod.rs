//! Loads collections into staging tables, which replace the live ones once complete.
//!
//! ```text
//!   job     capture T0 ──▶ fill ──▶ align ──▶ verify ──▶ swap     documents of a server
//!   dump                   fill ─────────────────────▶ swap     what mongodump has written
//!   text                   fill ─────────────────────▶ swap     text files of an extract
//! ```
//!
//! Readers see either the old or the new tables. The next load of a collection resumes an
//! interrupted one if possible, and starts over otherwise. `docs/architecture/capture.md` and
//! `swap.md` say why it is exact.

mod align;
mod begin;
mod dump;
mod extract;
mod fill;
mod job;
mod run_row;
mod text;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use gizer_pg::Session;
use gizer_pg::load::Written;
use gizer_pg::state::Ledger;

pub(crate) use align::Alignment;
pub(crate) use begin::identity;
pub use dump::{COPY_OF_A_DUMP, refuse_with_dump};
pub use extract::{ExtractOptions, extract};
pub(crate) use run_row::{LoadRunRow, TIDYING_LIMIT};
pub use text::{TextLoad, load_text};

use crate::env::Env;
use crate::evolve::restore_schema_files;
use crate::failure::Failure;
use crate::failures::Failures;
use crate::layouts::Layouts;
use crate::notice::Notice;
use crate::observer::Event;
use crate::unfit::UnfitReport;
use fill::WantedCollection;

/// Options of a load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Collections; empty for all that have a schema file.
    pub collections: Vec<String>,
    /// Limit of rejected documents per collection.
    pub max_rejects: u64,
    /// Whether to start over instead of resuming an interrupted load.
    pub restart: bool,
    /// How much is compared with documents before the swap.
    pub comparison: Comparison,
    /// A query: makes a copy, which cannot be followed.
    pub filter: Option<bson::Document>,
    /// Whether all collections are swapped in together, or none.
    pub together: bool,
    /// Prefix of the tables: makes a copy, which cannot be followed.
    pub prefix: Option<String>,
    /// A dump to read instead of a server.
    pub dump: Option<PathBuf>,
    /// Whether a collection that is gone from MongoDB is loaded as an empty one.
    pub empties_gone: bool,
}

/// How much of a load is compared with documents before the swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// All of it.
    Full,
    /// About 2,000 documents of each collection, and the rows between them.
    Sample,
    /// Nothing.
    Off,
}

impl LoadOptions {
    /// A plain load of these collections.
    pub fn of(collections: Vec<String>) -> LoadOptions {
        LoadOptions {
            collections,
            max_rejects: 0,
            restart: false,
            comparison: Comparison::Sample,
            filter: None,
            together: false,
            prefix: None,
            dump: None,
            empties_gone: false,
        }
    }

    /// A due load of these collections; tables of those gone from MongoDB are emptied.
    pub fn due(collections: Vec<String>) -> LoadOptions {
        LoadOptions { empties_gone: true, ..LoadOptions::of(collections) }
    }
}

/// A loaded collection.
#[derive(Debug)]
pub struct LoadedCollection {
    /// Its name in MongoDB.
    pub name: String,
    /// Counts of its documents.
    pub ledger: Ledger,
    /// Rows by table, in the order of the layout.
    pub tables: Vec<(String, u64)>,
    /// Bytes of each table, with keys and indexes, or of its text files.
    pub sizes: Vec<u64>,
    /// Values without a place in the schema.
    pub unfit: UnfitReport,
    /// Bytes of BSON.
    pub bytes: u64,
    /// Documents read by this run: less than all after resuming.
    pub read_now: u64,
    /// Duration up to the swap.
    pub took: Duration,
    /// What was written.
    pub written: Written,
}

/// Drops what loads that failed have left next to tables of which no load is due.
pub async fn drop_leftovers(env: &Env, session: &Session) {
    match gizer_pg::load::drop_leftovers(session).await {
        Ok(dropped) => dropped.into_iter().for_each(|(collection, tables)| {
            env.notice(&Notice::DroppedLeftovers { collection, tables });
        }),
        Err(error) => {
            tracing::warn!(%error, "what a failed load left behind could not be dropped; the next run tries again");
        }
    }
}

/// Loads collections one by one. With `together` one failure stops all.
///
/// # Errors
/// [`Failure`] if there is no schema file. Failures of collections are in [`Failures`].
pub async fn load(env: &Env, options: &LoadOptions) -> Result<(Vec<LoadedCollection>, Failures), Failure> {
    let filtered = options.filter.is_some();
    if options.prefix.is_none() {
        let restored = async { restore_schema_files(env, &env.postgres().await?).await };
        env.stop.or_done(restored).await?;
    }
    let (dump, Layouts { usable, mut failures }) =
        dump::open(env, options.dump.as_deref(), filtered, &options.collections)?;
    let wanted = WantedCollection::all(usable, options.prefix.as_deref(), &mut failures);
    let mut loaded = Vec::new();
    match &dump {
        _ if wanted.is_empty() => {}
        Some(dump) => dump::load_all(env, options, dump, &wanted, &mut loaded, &mut failures).await,
        None => job::load_all(env, options, &wanted, &mut loaded, &mut failures).await,
    }
    loaded.iter().for_each(|each| env.observer.observe(Event::Loaded(each)));
    Ok((loaded, failures))
}
