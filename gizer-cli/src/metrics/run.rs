//! One run of a command: when it began, how it ended, and its line in the log.

use std::time::Instant;

use super::catalog::{
    BATCHES, CHANGES, LOADED, REJECTED, REPAIRS, ROWS, RUN_ENDED, RUN_EXIT_CODE, RUN_STARTED, RUN_SUCCEEDED,
};
use super::{Metrics, now};
use crate::exit::{ExitCode, Failure};
use crate::ui::log;

/// A run that has begun.
#[derive(Debug)]
pub(crate) struct Run {
    metrics: Metrics,
    command: &'static str,
    began: Instant,
}

impl Run {
    /// A run of this command begins: that is in the textfile also of one that does not live to see its end.
    pub(crate) async fn begin(metrics: &Metrics, command: &'static str) -> Run {
        metrics.registry().set(&RUN_STARTED, &[command], now());
        metrics.write_textfile().await;
        Run { metrics: metrics.clone(), command, began: Instant::now() }
    }

    /// It has ended: the metrics are recorded, and the log says so.
    pub(crate) async fn end(self, outcome: &Result<ExitCode, Failure>) {
        let exit = outcome.as_ref().map_or_else(ExitCode::of, |exit| *exit);
        let (registry, now) = (self.metrics.registry(), now());
        registry.set(&RUN_ENDED, &[self.command], now);
        registry.set(&RUN_EXIT_CODE, &[self.command], f64::from(exit as u8));
        if exit == ExitCode::Done {
            registry.set(&RUN_SUCCEEDED, &[self.command], now);
        }
        // A run that was to follow and could not does not know how far the tables are behind, whatever the one before has told. One
        // that another run keeps from it leaves that to the other.
        if self.follows() && exit != ExitCode::Done && exit != ExitCode::Locked {
            self.metrics.lose_track();
        }
        self.metrics.write_textfile().await;
        self.tell(exit);
    }

    /// Whether the command is one that applies changes.
    fn follows(&self) -> bool {
        matches!(self.command, "sync" | "run")
    }

    fn tell(&self, exit: ExitCode) {
        if log::summary_is_enough() {
            return;
        }
        let registry = self.metrics.registry();
        let sum = |of| registry.sum(of);
        let rows = |operation: &str| registry.sum_where(&ROWS, |labels| labels[1] == operation);
        tracing::info!(
            target: log::RUN_TARGET,
            command = self.command,
            exit_code = exit as u8,
            ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            documents_loaded = sum(&LOADED),
            changes = sum(&CHANGES),
            batches = sum(&BATCHES),
            rows_copied = rows("copy"),
            rows_inserted = rows("insert"),
            rows_updated = rows("update"),
            rows_deleted = rows("delete"),
            rejected = sum(&REJECTED),
            repaired = sum(&REPAIRS),
            position = self.metrics.position(),
            "run ended",
        );
    }
}
