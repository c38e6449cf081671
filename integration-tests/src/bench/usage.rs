//! What a measurement takes: wall time, processor time by process, idle time by core, peak memory.
//!
//! All from `/proc` (proc(5)), which counts in ticks of 10 ms.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use super::Result;

/// Ticks of a second in `/proc`: USER_HZ, which is 100 on every architecture that the servers are built for.
const TICKS: f64 = 100.0;

/// The servers' processes.
#[derive(Debug, Clone, Copy)]
pub struct Servers {
    /// One process.
    pub mongod: u32,
    /// The postmaster; its children are counted with it.
    pub postgres: u32,
}

/// What was used between two moments.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Seconds.
    pub wall: f64,
    /// Seconds of processor time of the `gizer` processes that ended meanwhile.
    pub gizer: f64,
    /// Seconds of processor time of this process.
    pub bench: f64,
    /// Seconds of processor time of the postmaster and all of its children, those that ended included.
    pub postgres: f64,
    /// Seconds of processor time of mongod.
    pub mongod: f64,
    /// Seconds of processor time of everything else on the machine. Large, and the figures are not worth much.
    pub others: f64,
    /// Each core's shares.
    pub cores: Vec<CoreShares>,
}

/// Parts of a core's time, from 0 to 1.
#[derive(Debug, Clone, Copy)]
pub struct CoreShares {
    /// Nothing to do, or waiting for a disk.
    pub idle: f64,
    /// The part of `idle` in which a process waited for a disk.
    pub waiting: f64,
    /// Taken by other virtual machines.
    pub stolen: f64,
}

impl Usage {
    /// For the file of figures.
    pub fn json(&self) -> Value {
        let core = |core: &CoreShares| json!({"idle": core.idle, "waiting": core.waiting, "stolen": core.stolen});
        json!({
            "wall_s": self.wall,
            "cpu_s": {
                "gizer": self.gizer, "bench": self.bench, "postgres": self.postgres, "mongod": self.mongod,
                "others": self.others,
            },
            "cores": self.cores.iter().map(core).collect::<Vec<Value>>(),
        })
    }
}

/// A moment, and what had been used by then.
#[derive(Debug)]
pub struct Stopwatch {
    servers: Servers,
    before: Counts,
    started: Instant,
}

impl Stopwatch {
    /// Starts.
    ///
    /// # Errors
    /// If `/proc` does not say what proc(5) promises, or a server is gone.
    pub fn start(servers: Servers) -> Result<Stopwatch> {
        let before = Counts::now(servers)?;
        Ok(Stopwatch { servers, before, started: Instant::now() })
    }

    /// What was used since the start.
    ///
    /// # Errors
    /// As [`Stopwatch::start`].
    pub fn stop(self) -> Result<Usage> {
        let wall = self.started.elapsed().as_secs_f64();
        let (before, after) = (self.before, Counts::now(self.servers)?);
        let seconds = |of: fn(&Counts) -> u64| (of(&after).saturating_sub(of(&before))) as f64 / TICKS;
        let gizer = seconds(|counts| counts.ended_children);
        let (bench, postgres, mongod) = (seconds(|c| c.own), seconds(|c| c.postgres), seconds(|c| c.mongod));
        let busy = seconds(|counts| counts.cores.iter().map(|core| core.busy).sum());
        let others = (busy - gizer - bench - postgres - mongod).max(0.0);
        let cores = before.cores.iter().zip(&after.cores).map(|(before, after)| after.since(before)).collect();
        Ok(Usage { wall, gizer, bench, postgres, mongod, others, cores })
    }
}

/// Ticks since the beginning of each process.
#[derive(Debug)]
struct Counts {
    own: u64,
    /// Of this process' children that have ended and been waited for. While a measurement runs, that is gizer.
    ended_children: u64,
    postgres: u64,
    mongod: u64,
    cores: Vec<Core>,
}

impl Counts {
    fn now(servers: Servers) -> Result<Counts> {
        let own = Process::read("self").ok_or("expected this process in /proc")?;
        let mongod = Process::read(&servers.mongod.to_string()).ok_or("expected mongod to be running")?;
        Ok(Counts {
            own: own.ticks,
            ended_children: own.ended_children,
            postgres: with_children(servers.postgres)?,
            mongod: mongod.ticks,
            cores: cores()?,
        })
    }
}

/// Ticks of the postmaster and all of its children, dead or alive.
fn with_children(postmaster: u32) -> Result<u64> {
    let gone = || "expected PostgreSQL to be running".to_owned();
    let read = || Process::read(&postmaster.to_string()).ok_or_else(gone);
    loop {
        let before = read()?;
        let living: u64 = fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| Process::read(entry.file_name().to_str()?))
            .filter(|process| process.parent == postmaster)
            .map(|process| process.ticks)
            .sum();
        // A child that ended meanwhile could be counted twice or not at all.
        if before.ended_children == read()?.ended_children {
            return Ok(before.ticks + before.ended_children + living);
        }
    }
}

/// What `/proc/PID/stat` says of a process.
struct Process {
    parent: u32,
    /// utime and stime.
    ticks: u64,
    /// cutime and cstime.
    ended_children: u64,
}

impl Process {
    /// `None` if there is no such process.
    fn read(pid: &str) -> Option<Process> {
        if pid != "self" && !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before may hold anything, the closing parenthesis included. The first field after it is the third.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Process {
            parent: u32::try_from(number(4)?).ok()?,
            ticks: number(14)? + number(15)?,
            ended_children: number(16)? + number(17)?,
        })
    }
}

/// Ticks of a core.
#[derive(Debug, Clone, Copy)]
struct Core {
    busy: u64,
    idle: u64,
    waiting: u64,
    stolen: u64,
}

impl Core {
    fn since(&self, before: &Core) -> CoreShares {
        let part = |of: fn(&Core) -> u64| of(self).saturating_sub(of(before)) as f64;
        let (busy, idle, waiting, stolen) =
            (part(|core| core.busy), part(|core| core.idle), part(|core| core.waiting), part(|core| core.stolen));
        let all = (busy + idle + waiting + stolen).max(1.0);
        CoreShares { idle: (idle + waiting) / all, waiting: waiting / all, stolen: stolen / all }
    }
}

/// The lines `cpu0 …`, `cpu1 …` of `/proc/stat`.
fn cores() -> Result<Vec<Core>> {
    let stat = fs::read_to_string("/proc/stat")?;
    let lines = stat.lines().filter_map(|line| line.strip_prefix("cpu")).filter(|rest| !rest.starts_with(' '));
    let core = |line: &str| {
        let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
        match ticks[..] {
            [user, nice, system, idle, waiting, irq, softirq, stolen, ..] => {
                Ok(Core { busy: user + nice + system + irq + softirq, idle, waiting, stolen })
            }
            _ => Err(format!("expected eight numbers of a core in /proc/stat, got {line:?}").into()),
        }
    };
    lines.map(core).collect()
}

/// The most memory that a process has had so far, in bytes (VmHWM); `None` once it has ended.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}
