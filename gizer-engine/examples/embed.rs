//! Another program copies a collection, and keeps it up to date for as long as it runs.
//!
//! ```text
//! embed <MongoDB URI> <database> <collection> <PostgreSQL URI> <folder>
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to a person")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gizer_engine::follow::{SyncOptions, sync};
use gizer_engine::infer::{InferOptions, infer};
use gizer_engine::load::{LoadOptions, load};
use gizer_engine::{Env, Event, Failure, FixedServers, Observer, Settings, Stop};

/// Says on standard output what is committed.
#[derive(Debug)]
struct Commits;

impl Observer for Commits {
    fn observe(&self, event: Event<'_>) {
        if let Event::Committed(batch) = event {
            println!("committed: {:?}", batch.applied);
        }
    }
}

async fn copy(mongo: &str, database: &str, collection: &str, postgres: &str, folder: &str) -> Result<(), Failure> {
    let servers = FixedServers::new((mongo, database), (postgres, "public"), format!("{folder}/spool"))?;
    let (stopper, stop) = Stop::new();
    let settings = Settings::new(Arc::new(servers), folder);
    let env = Env { settings, stop, observer: Arc::new(Commits) };
    let collections = vec![collection.to_owned()];

    if env.schema_files()?.existing(collection).is_none() {
        let options = InferOptions { collections: collections.clone(), ..InferOptions::default() };
        infer(&env, &options).await?.failures.into_first().map_or(Ok(()), Err)?;
    }
    let (loaded, failures) = load(&env, &LoadOptions::of(collections)).await?;
    failures.into_first().map_or(Ok(()), Err)?;
    println!("loaded: {} documents", loaded[0].ledger.loaded);

    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stopper.stop(Failure::failed("interrupted"));
        }
    });
    let (_, failure) =
        sync(&env, SyncOptions { stays_on: true, ..SyncOptions::default() }, &AtomicBool::new(false)).await;
    failure.map_or(Ok(()), Err)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mongo, database, collection, postgres, folder] = arguments.as_slice() else {
        eprintln!("usage: embed <MongoDB URI> <database> <collection> <PostgreSQL URI> <folder>");
        return ExitCode::from(2);
    };
    match copy(mongo, database, collection, postgres, folder).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
