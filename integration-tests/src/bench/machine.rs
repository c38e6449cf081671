//! What figures depend on: the machine and the build.

use std::fs;

use serde_json::{Value, json};

/// The machine, as Linux describes it.
#[derive(Debug)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// Of the sources, where `scripts/bench` knows it.
    commit: Option<String>,
}

impl Machine {
    /// The machine that this runs on.
    pub fn this() -> Machine {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let kib = field(&memory, "MemTotal").and_then(|value| value.trim_end_matches(" kB").parse::<u64>().ok());
        Machine {
            cpu: field(&cpus, "model name").unwrap_or_else(|| "unknown processor".into()),
            cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            memory_mib: kib.unwrap_or_default() / 1024,
            kernel: kernel.trim().to_owned(),
            commit: std::env::var("BENCH_COMMIT").ok().filter(|commit| !commit.is_empty()),
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        let gib = self.memory_mib as f64 / 1024.0;
        format!("{}, {} cores, {gib:.1} GiB of memory, Linux {}", self.cpu, self.cores, self.kernel)
    }

    /// The build in one line.
    pub fn build_line(&self) -> String {
        format!("release profile, commit {}", self.commit.as_deref().unwrap_or("unknown"))
    }

    /// For the file of figures.
    pub fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "memory_mib": self.memory_mib, "kernel": self.kernel,
            "commit": self.commit, "profile": "release",
        })
    }
}
