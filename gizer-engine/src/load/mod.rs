//! Loads: collections into staging tables next to the live ones, which they replace when they are complete.
//!
//! ```text
//!   job     capture T0 ──▶ fill ──▶ align ──▶ verify ──▶ swap     documents of a server
//!   dump                   fill ─────────────────────▶ swap     what mongodump has written
//!   text                   fill ─────────────────────▶ swap     text files of an extract
//! ```
//!
//! Readers see the old tables or the new ones. What is interrupted is resumed by the next load of the same collection, if nothing
//! stands against it, and starts over otherwise. `docs/architecture/capture.md` and `swap.md` say why it is exact.

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

use gizer_pg::load::Written;
use gizer_pg::state::Ledger;

pub use dump::{COPY_OF_A_DUMP, refuse_with_dump};
pub use extract::{ExtractOptions, extract};
pub(crate) use run_row::TIDYING_LIMIT;
pub use text::{TextLoad, load_text};

use crate::env::Env;
use crate::failure::Failure;
use crate::failures::Failures;
use crate::layouts::Layouts;
use crate::observer::Event;
use crate::unfit::UnfitReport;
use fill::Wanted;

/// What to load, and how.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Collections; none: all that have a schema file.
    pub collections: Vec<String>,
    /// A collection is swapped in although up to so many of its documents were rejected.
    pub max_rejects: u64,
    /// Whether to start over even where an interrupted load could be resumed.
    pub restart: bool,
    /// How much is compared with the documents before tables are swapped in.
    pub comparison: Comparison,
    /// Only documents that match this query: a copy, which cannot be followed.
    pub filter: Option<bson::Document>,
    /// All collections are swapped in in one transaction, or none.
    pub together: bool,
    /// Into tables whose names begin with this: a copy, which cannot be followed.
    pub prefix: Option<String>,
    /// From what mongodump has written, and not from a server.
    pub dump: Option<PathBuf>,
    /// Whether a collection that has tables and is gone from MongoDB is loaded as an empty one.
    pub empties_gone: bool,
}

/// How much of a load is compared with the documents before it is swapped in.
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
    /// A load of these collections, with nothing out of the ordinary.
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

    /// A load that is due for these collections. One of them may have gone from MongoDB: its tables are emptied then, as by
    /// any drop.
    pub fn due(collections: Vec<String>) -> LoadOptions {
        LoadOptions { empties_gone: true, ..LoadOptions::of(collections) }
    }
}

/// What became of one collection that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Its name in MongoDB.
    pub name: String,
    /// What became of its documents.
    pub ledger: Ledger,
    /// Rows by table, in the order of the layout.
    pub tables: Vec<(String, u64)>,
    /// Bytes that each of them takes, with keys and indexes, or as text files.
    pub sizes: Vec<u64>,
    /// What the schema has no place for.
    pub unfit: UnfitReport,
    /// Bytes of BSON.
    pub bytes: u64,
    /// Documents that this run has read: less than all if it has resumed an interrupted load.
    pub read_now: u64,
    /// From the beginning to the swap.
    pub took: Duration,
    /// What PostgreSQL has taken.
    pub written: Written,
}

/// Loads collections, one after the other. One that cannot be loaded does not keep the others from it, unless they are to
/// be swapped in together.
///
/// # Errors
/// [`Failure`] if there is no schema file at all. What keeps single collections, or all of them, from being loaded is in the
/// [`Failures`] next to what was loaded.
pub async fn load(env: &Env, options: &LoadOptions) -> Result<(Vec<Loaded>, Failures), Failure> {
    let filtered = options.filter.is_some();
    let (dump, Layouts { usable, mut failures }) =
        dump::open(env, options.dump.as_deref(), filtered, &options.collections)?;
    let wanted = Wanted::all(usable, options.prefix.as_deref(), &mut failures);
    let mut loaded = Vec::new();
    match &dump {
        _ if wanted.is_empty() => {}
        Some(dump) => dump::load_all(env, options, dump, &wanted, &mut loaded, &mut failures).await,
        None => job::load_all(env, options, &wanted, &mut loaded, &mut failures).await,
    }
    loaded.iter().for_each(|each| env.observer.observe(Event::Loaded(each)));
    Ok((loaded, failures))
}
