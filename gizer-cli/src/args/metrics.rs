//! What commands take that stay on and can be watched, and which of them are runs.

use std::net::SocketAddr;

use clap::Args;

use super::Action;
use crate::config::Config;

/// Where metrics are served by a command that has `--follow`.
#[derive(Debug, Clone, Default, Args)]
pub struct MetricsArgs {
    /// While following, serve metrics for Prometheus at this address: http://ADDR/metrics. Port 0 is any that is free.
    #[arg(long = "metrics", value_name = "ADDR", requires = "follow")]
    pub address: Option<SocketAddr>,
}

impl MetricsArgs {
    /// The address in force, if there is one: that of the flag, or else that of the configuration.
    pub fn address(&self, config: &Config) -> Option<SocketAddr> {
        self.address.or(config.metrics_listen)
    }
}

impl Action {
    /// The name of a command that moves or compares data, each run of which monitors learn of.
    pub fn run_name(&self) -> Option<&'static str> {
        match self {
            Action::Run(_) => Some("run"),
            Action::Load(_) => Some("load"),
            Action::Extract(_) => Some("extract"),
            Action::Copy(_) => Some("copy"),
            Action::Sync(_) => Some("sync"),
            Action::Resync(_) => Some("resync"),
            Action::Verify(_) => Some("verify"),
            _ => None,
        }
    }
}
