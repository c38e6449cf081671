//! The commands, one module each.

pub mod config;
pub mod copy;
pub mod etlstatus;
pub mod extract;
pub mod load;
mod load_report;
pub mod pause;
pub mod plan;
mod plan_report;
pub mod resync;
pub mod run;
pub mod schema;
pub mod shell;
pub mod status;
pub mod sync;
mod sync_report;
pub mod verify;

use gizer_engine::Env;

use crate::args::Format;
use crate::config::Config;
use crate::exit::ExitCode;
use crate::metrics::Metrics;

/// What every command works with.
#[derive(Debug)]
pub struct Context {
    /// The effective configuration.
    pub config: Config,
    /// How results are printed.
    pub format: Format,
    /// What the engine works with.
    pub env: Env,
    /// What monitors read.
    pub metrics: Metrics,
}

impl Context {
    /// Has metrics look once more at what was followed, unless a signal has come.
    pub async fn settle_metrics(&self) {
        let settle = async {
            self.metrics.settle().await;
            Ok(())
        };
        // What is not looked at is as it was.
        let _ = self.env.stop.or_done(settle).await;
    }

    /// How the command ends because a signal has come, if one has.
    pub fn signal(&self) -> Option<ExitCode> {
        self.env.stop.reason().as_ref().map(ExitCode::of)
    }
}
