//! What monitors read: Prometheus' text, over HTTP while gizer follows, and in a file after each run.
//!
//! ```text
//!   follow ─┐                      ┌─▶ serve:    GET /metrics, while following (--metrics, [metrics] listen)
//!   load   ─┼─▶ Metrics (Registry) ┤
//!   verify ─┘    [`catalog`]       └─▶ textfile: when a run begins and ends, each 15 s while following ([metrics] textfile)
//! ```
//!
//! - **Truth.** A metric that is not known is absent, not 0: there is no lag before both the position and the newest entry of the
//!   oplog are known, and none any more when MongoDB has not told the newest entry. Counters count what is committed.
//! - **Cost.** Following reports its counts once a batch. What needs a question to MongoDB is asked on a clock of its own
//!   (`Metrics::watch`): the newest entry each 5 s, the oldest each 15 s. A scrape copies the numbers, and its text goes to the
//!   client without any lock.
//! - **The textfile** is one file for all runs of one configuration. Counters add up from run to run and over runs at the same time;
//!   what was told of the last `verify` stays when `load` writes ([`catalog::Lasting`]). It is replaced by a rename, under a lock
//!   on its folder.
//! - **The registry** is a page of our own: the official client writes OpenMetrics, of whose names (`# TYPE` without `_total`) the text
//!   format, which the node exporter's textfiles have to be in, makes counters of no type.
//!
//! A command has the handle in its `Context`. One that stays on says
//! `let _published = context.metrics.publish(address).await?;` before it begins.

pub mod catalog;
mod following;
mod registry;
mod run;
mod serve;
#[cfg(test)]
mod tests;
mod textfile;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gizer_engine::audit::VerifiedCollection;
use gizer_engine::due::{CopyStandings, StandingKind};
use gizer_engine::load::LoadedCollection;
use gizer_engine::resync::ResyncedCollection;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::exit::Failure;
use crate::ui::report;
use following::{Standing, Watched};
use registry::Registry;
pub(crate) use run::Run;
use serve::MetricsServer;
use textfile::Textfile;

/// How often the textfile is written while gizer follows.
const WRITE_EVERY: Duration = Duration::from_secs(15);

/// A handle to all metrics of the process; clones are the same.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    /// What is followed, by shard.
    standing: Mutex<BTreeMap<String, Standing>>,
    textfile: Option<Arc<Textfile>>,
    /// Whether what the textfile says of lag and headroom is void.
    lost: AtomicBool,
    /// Whether they are served.
    served: AtomicBool,
    /// The oplogs that are looked at.
    watched: Mutex<Option<Watched>>,
}

impl Metrics {
    /// Metrics that count, for a process with this configuration.
    pub fn new(config: &Config) -> Metrics {
        let registry = Registry::new();
        registry.set(&catalog::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        registry.set(&catalog::PROCESS_STARTED, &[], now());
        let textfile = config.metrics_textfile.clone().map(|path| Arc::new(Textfile::new(path)));
        let (standing, lost, served, watched) = Default::default();
        Metrics(Arc::new(Inner { registry, standing, textfile, lost, served, watched }))
    }

    fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// All metrics as text, as they are now.
    pub(crate) fn text(&self) -> String {
        let registry = self.registry();
        if let Some(bytes) = resident_memory() {
            registry.set(&catalog::PROCESS_MEMORY, &[], bytes as f64);
        }
        registry.snapshot().text()
    }

    /// A collection was loaded, and its tables are swapped in.
    fn loaded(&self, loaded: &LoadedCollection) {
        let LoadedCollection { name, ledger, tables, .. } = loaded;
        self.registry().together(|values| {
            values.add(&catalog::LOADED, &[name], ledger.loaded);
            values.add(&catalog::REJECTED, &[name], ledger.rejected);
            values.add(&catalog::ROWS, &[name, "copy"], tables.iter().map(|(_, rows)| rows).sum());
        });
    }

    fn resynced(&self, resynced: &ResyncedCollection) {
        let ResyncedCollection { name, ledger, found, written, .. } = resynced;
        self.registry().together(|values| {
            values.add(&catalog::RESYNCED, &[name], found.documents);
            values.add(&catalog::RESYNC_DIFFERED, &[name], found.differing());
            values.add(&catalog::REJECTED, &[name], ledger.rejected);
            let rows = [("insert", written.inserted), ("update", written.updated), ("delete", written.deleted)];
            rows.iter().for_each(|(operation, count)| values.add(&catalog::ROWS, &[name, operation], *count));
        });
    }

    /// The expected collections stand like this now.
    pub(crate) fn standings(&self, standings: &CopyStandings) {
        self.registry().together(|values| {
            for (collection, standing) in &standings.0 {
                for kind in StandingKind::ALL {
                    let labels = [collection.as_str(), kind.name()];
                    match kind == standing.kind {
                        true => values.set(&catalog::STANDING, &labels, 1.0),
                        false => values.forget(&catalog::STANDING, &labels),
                    }
                }
            }
        });
    }

    /// An audit of a collection has ended, with so many documents and keys that differ now.
    fn verified(&self, verified: &VerifiedCollection) {
        let differing = verified.left.as_ref().unwrap_or(&verified.found).differing();
        self.registry().together(|values| {
            values.set(&catalog::DIFFERING, &[&verified.name], differing as f64);
            values.set(&catalog::VERIFY_ENDED, &[&verified.name], now());
        });
    }

    /// Publishes metrics until the returned tasks are dropped: at this address and in the textfile, where set.
    ///
    /// # Errors
    /// [`Failure`] of kind [`Usage`](crate::exit::FailureKind::Usage) if the address cannot be listened at.
    pub async fn publish(&self, address: Option<SocketAddr>) -> Result<JoinSet<()>, Failure> {
        let mut tasks = JoinSet::new();
        if let Some(address) = address {
            let server = MetricsServer::open(address).await?;
            report::note(format!("metrics are served at http://{}/metrics", server.address()));
            self.0.served.store(true, Ordering::Relaxed);
            tasks.spawn(server.run(self.clone()));
        }
        if self.0.textfile.is_some() {
            let metrics = self.clone();
            tasks.spawn(async move {
                let mut ticks = tokio::time::interval(WRITE_EVERY);
                loop {
                    ticks.tick().await;
                    metrics.write_textfile().await;
                }
            });
        }
        Ok(tasks)
    }

    /// Whether anybody reads them, so that questions to MongoDB are worth asking.
    pub(crate) fn are_read(&self) -> bool {
        self.0.textfile.is_some() || self.0.served.load(Ordering::Relaxed)
    }

    /// Lag and headroom, of which the textfile may tell from an earlier run, are not known any more.
    fn lose_track(&self) {
        self.0.lost.store(true, Ordering::Relaxed);
    }

    /// Writes the textfile, if one is set. What keeps it from being written is told, and changes nothing else.
    pub(crate) async fn write_textfile(&self) {
        let Some(file) = self.0.textfile.clone() else { return };
        let inner = Arc::clone(&self.0);
        let write = move || {
            if let Err(error) = file.write(&inner.registry.snapshot(), inner.lost.load(Ordering::Relaxed)) {
                file.warn(&error);
            }
        };
        // A panic in it does not end the run.
        let _ = tokio::task::spawn_blocking(write).await;
    }
}

/// Now, in seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Milliseconds are enough, and have no long tail of digits.
    since.as_millis() as f64 / 1e3
}

/// `VmRSS` of proc(5), in bytes; `None` where there is no such file.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
