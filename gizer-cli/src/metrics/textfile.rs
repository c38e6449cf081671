//! The file that the node exporter's textfile collector reads.
//!
//! It is one file for all runs, some of them at the same time: each reads what is there, puts its own over it, and renames the new
//! file to its name, under a lock on the folder. So it is never seen half written, and nothing that another run has told is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::catalog::{ALL, HEADROOM, LAG, Lasting, MetricDefinition, MetricKind, POSITION};
use super::registry::{MetricFamily, Snapshot, histogram_series};

/// How long another run may take with the file.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How often to look whether it is done.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A file of metrics that this run and others write.
#[derive(Debug)]
pub(super) struct Textfile {
    path: PathBuf,
    memory: Mutex<TextfileMemory>,
}

/// What this run remembers of it.
#[derive(Debug, Default)]
struct TextfileMemory {
    /// What of this run's counters is in the file already.
    added: BTreeMap<String, f64>,
    /// What was last wrong, so that it is reported once.
    told: Option<String>,
}

impl Textfile {
    pub(super) fn new(path: PathBuf) -> Textfile {
        Textfile { path, memory: Mutex::default() }
    }

    /// Writes what this run knows over what is there. If it has `lost` track, nothing is known of lag and headroom any more.
    pub(super) fn write(&self, now: &Snapshot, lost: bool) -> io::Result<()> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let _lock = lock(folder)?;
        let before = match fs::read_to_string(&self.path) {
            Ok(text) => series(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let name = self.path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut aside = std::ffi::OsString::from(".");
        aside.push(name);
        // The collector reads what ends in .prom.
        aside.push(".new");
        let aside = folder.join(aside);
        // One that died may have left it. Nothing that somebody has put there instead is written to.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let text = merged(&before, now, &memory.added, lost).text();
        File::options().write(true).create_new(true).open(&aside)?.write_all(text.as_bytes())?;
        fs::rename(&aside, &self.path)?;
        memory.added = now.families.iter().filter(|family| adds_up(family.of)).flat_map(|f| f.series.clone()).collect();
        memory.told = None;
        Ok(())
    }

    /// Says that it could not be written, unless that was the last thing to be said of it.
    pub(super) fn warn(&self, error: &io::Error) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let told = error.to_string();
        if memory.told.as_ref() != Some(&told) {
            tracing::warn!(path = %self.path.display(), %error, "could not write the metrics textfile");
            memory.told = Some(told);
        }
    }
}

/// The folder, held against other runs until it is dropped. Where the file system has no locks, there is none.
fn lock(folder: &Path) -> io::Result<File> {
    let held = File::open(folder)?;
    let began = Instant::now();
    loop {
        match held.try_lock() {
            Ok(()) => return Ok(held),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "another program holds the lock on its folder"));
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(held),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// The series of a text, each with its value. What is none is skipped.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    // A label's value may have blanks in it; a number has none.
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

fn adds_up(of: &MetricDefinition) -> bool {
    matches!(of.kind, MetricKind::Counter | MetricKind::Histogram(_))
}

/// What the file has to say now: `before` is what it says, `added` what of this run is in it already.
fn merged(before: &BTreeMap<String, f64>, now: &Snapshot, added: &BTreeMap<String, f64>, lost: bool) -> Snapshot {
    let follows = now.families.iter().any(|family| family.of == &POSITION);
    let family = |of: &&'static MetricDefinition| {
        let own = now.families.iter().find(|family| family.of == *of);
        let own: BTreeMap<&str, f64> =
            own.into_iter().flat_map(|own| &own.series).map(|(name, value)| (name.as_str(), *value)).collect();
        let others =
            before.iter().filter(|(name, _)| belongs_to(name, of)).map(|(name, value)| (name.as_str(), *value));
        let values: BTreeMap<&str, f64> = match of.kind {
            MetricKind::Counter | MetricKind::Histogram(_) => {
                let mut values: BTreeMap<&str, f64> = others.collect();
                for (name, value) in own {
                    *values.entry(name).or_default() += value - added.get(name).copied().unwrap_or_default();
                }
                values
            }
            MetricKind::Gauge(Lasting::Never) => return None,
            MetricKind::Gauge(Lasting::UntilWritten) => own,
            MetricKind::Gauge(Lasting::UntilFollowed) if follows => own,
            MetricKind::Gauge(Lasting::UntilFollowed) if lost && (*of == &LAG || *of == &HEADROOM) => own,
            MetricKind::Gauge(Lasting::ByLabels | Lasting::UntilFollowed) => others.chain(own).collect(),
        };
        let series: Vec<(String, f64)> = match of.kind {
            MetricKind::Histogram(_) if values.is_empty() => Vec::new(),
            MetricKind::Histogram(_) => {
                let value = |name: String| (values.get(name.as_str()).copied().unwrap_or_default(), name);
                histogram_series(of).into_iter().map(value).map(|(value, name)| (name, value)).collect()
            }
            _ => values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        (!series.is_empty()).then_some(MetricFamily { of, series })
    };
    Snapshot { families: ALL.iter().filter_map(family).collect() }
}

/// Whether a series is one of this metric, with the labels that it has today.
fn belongs_to(series: &str, of: &MetricDefinition) -> bool {
    if let MetricKind::Histogram(_) = of.kind {
        return series.starts_with(of.name) && histogram_series(of).iter().any(|name| name == series);
    }
    let labels: BTreeSet<&str> = match series.strip_prefix(of.name) {
        Some("") => BTreeSet::new(),
        Some(labels) => match labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}')) {
            Some(labels) => label_names(labels),
            None => return false,
        },
        None => return false,
    };
    labels.iter().copied().eq(of.labels.iter().copied().collect::<BTreeSet<&str>>())
}

/// The names in `a="1",b="2"`.
fn label_names(labels: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut rest = labels;
    while let Some((name, value)) = rest.split_once("=\"") {
        names.insert(name.trim_start_matches(','));
        let mut escaped = false;
        let end = value.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = end.map_or("", |end| &value[end + 1..]);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::catalog::*;
    use super::super::registry::Registry;
    use super::*;

    fn textfile(folder: &Path) -> Textfile {
        Textfile::new(folder.join("gizer.prom"))
    }

    fn read(folder: &Path) -> BTreeMap<String, f64> {
        series(&fs::read_to_string(folder.join("gizer.prom")).unwrap())
    }

    const INSERTS: &str = r#"gizer_changes_applied_total{collection="a \"b\"",operation="insert"}"#;

    /// Two runs at the same time, and one after them.
    #[test]
    fn runs_add_up_and_keep_what_others_have_told() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (one, other) = (textfile(folder), textfile(folder));
        let (sync, load) = (Registry::new(), Registry::new());
        sync.add(&CHANGES, &["a \"b\"", "insert"], 3);
        sync.set(&POSITION, &["rs0"], 100.0);
        sync.set(&LAG, &["rs0"], 7.0);
        sync.together(|values| values.observe(&BATCH_SECONDS, 0.007));
        one.write(&sync.snapshot(), false).unwrap();
        load.add(&CHANGES, &["a \"b\"", "insert"], 40);
        load.set(&RUN_EXIT_CODE, &["load"], 1.0);
        load.set(&PROCESS_MEMORY, &[], 5.0);
        other.write(&load.snapshot(), false).unwrap();
        sync.add(&CHANGES, &["a \"b\"", "insert"], 1);
        sync.together(|values| values.observe(&BATCH_SECONDS, 0.5));
        sync.together(|values| values.forget(&LAG, &["rs0"]));
        one.write(&sync.snapshot(), false).unwrap();
        one.write(&sync.snapshot(), false).unwrap();
        let series = read(folder);
        assert_eq!(series[INSERTS], 44.0);
        assert_eq!(series[r#"gizer_last_run_exit_code{command="load"}"#], 1.0);
        assert_eq!(series[r#"gizer_position_timestamp_seconds{shard="rs0"}"#], 100.0);
        let bucket = |le: &str| series[&format!("gizer_batch_duration_seconds_bucket{{le=\"{le}\"}}")];
        assert_eq!([bucket("0.005"), bucket("0.01"), bucket("0.5"), bucket("+Inf")], [0.0, 1.0, 2.0, 2.0]);
        assert_eq!(series["gizer_batch_duration_seconds_count"], 2.0);
        assert!(!series.keys().any(|name| name.starts_with("gizer_lag")), "it is not known any more: {series:?}");
        assert!(!series.keys().any(|name| name.starts_with("process_")), "{series:?}");
        // One that is gone starts over with what came since.
        fs::remove_file(folder.join("gizer.prom")).unwrap();
        sync.add(&CHANGES, &["a \"b\"", "insert"], 5);
        one.write(&sync.snapshot(), false).unwrap();
        assert_eq!(read(folder)[INSERTS], 5.0);
        let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["gizer.prom"]);
    }

    #[test]
    fn what_is_none_of_ours_is_not_kept() {
        let kept = r#"gizer_lag_seconds{shard="a,b=\"} c"}"#;
        let text =
            format!("# HELP\n{kept} 5\nother_metric 1\ngizer_lag_seconds 1\ngizer_lag_seconds{{x=\"y\"}} 1\nhalf");
        let merged = merged(&series(&text), &Registry::new().snapshot(), &BTreeMap::new(), false);
        let names: Vec<String> =
            merged.families.into_iter().flat_map(|family| family.series).map(|(name, _)| name).collect();
        assert_eq!(names, [kept]);
    }

    #[test]
    fn a_folder_that_is_held_or_missing_is_an_error_and_not_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let held = File::open(folder.path()).unwrap();
        held.lock().unwrap();
        let error = textfile(folder.path()).write(&Registry::new().snapshot(), false).unwrap_err();
        assert!(error.to_string().contains("holds the lock"), "{error}");
        let missing = textfile(&folder.path().join("missing"));
        assert_eq!(missing.write(&Registry::new().snapshot(), false).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
