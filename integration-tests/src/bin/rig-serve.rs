//! Starts one mongod and one PostgreSQL for a demo, prints where they are, and ends them when standard input
//! closes or at SIGINT or SIGTERM.
//!
//! ```text
//! rig-serve [4.4|5.0|6.0]
//! ```
//!
//! Prints one line of JSON once both are ready: `version`, `mongo_uri`, `mongod_pid`, `postgres_uri` (an empty database
//! `gizer`), `postgres_pid`.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use integration_tests::rig::{Mongod, Postgres, Version};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "rig-serve: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    // Before the servers, so that a signal while they start ends them in an orderly way too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let version = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => Version::V6_0,
    };
    let serve = async {
        let (mongod, postgres) = tokio::try_join!(Mongod::start(version), Postgres::start())?;
        postgres.create_database_named("gizer").await?;
        let line = json!({
            "version": version.full(),
            "mongo_uri": mongod.uri(),
            "mongod_pid": mongod.pid(),
            "postgres_uri": postgres.uri("gizer"),
            "postgres_pid": postgres.pid(),
        });
        let mut stdout = io::stdout();
        writeln!(stdout, "{line}")?;
        stdout.flush()?;
        // A sender that is dropped tells as much as one that sends.
        let _ = end_of_input().await;
        Ok(())
    };
    tokio::select! {
        served = serve => served,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// Completes when standard input is at its end. A thread reads it, since tokio's own reader would keep the runtime from ending.
fn end_of_input() -> oneshot::Receiver<()> {
    let (at_end, ended) = oneshot::channel();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = at_end.send(());
    });
    ended
}
