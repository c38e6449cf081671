//! Measurements in turn, round after round, and what they have in common.

use serde_json::{Value, json};

use super::usage::Usage;

/// One measurement.
#[derive(Debug)]
pub struct Sample {
    /// Wall time and processor time.
    pub usage: Usage,
    /// Seconds of its parts.
    pub phases: Vec<(&'static str, f64)>,
    /// The most memory of the `gizer` process, in bytes.
    pub peak: Option<u64>,
    /// Bytes that PostgreSQL has written to its log.
    pub wal: Option<u64>,
}

impl Sample {
    /// A measurement that wrote nothing.
    pub fn new(usage: Usage) -> Sample {
        Sample { usage, phases: Vec::new(), peak: None, wal: None }
    }

    fn json(&self) -> Value {
        let mut sample = self.usage.json();
        for (name, seconds) in &self.phases {
            sample["phases_s"][name] = json!(seconds);
        }
        sample["gizer_peak_bytes"] = json!(self.peak);
        sample["wal_bytes"] = json!(self.wal);
        sample
    }
}

/// The same measurement in all rounds.
#[derive(Debug)]
pub struct Series {
    /// What it is called in the report.
    pub title: &'static str,
    /// One of each round.
    pub samples: Vec<Sample>,
}

impl Series {
    /// Without samples yet.
    pub fn new(title: &'static str) -> Series {
        Series { title, samples: Vec::new() }
    }

    /// A figure of each sample; `NaN` without samples.
    pub fn spread(&self, of: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(of))
    }

    /// Seconds.
    pub fn wall(&self) -> Spread {
        self.spread(|sample| sample.usage.wall)
    }

    /// For the file of figures.
    pub fn json(&self) -> Value {
        json!({
            "title": self.title,
            "wall_s": self.wall().json(),
            "rounds": self.samples.iter().map(Sample::json).collect::<Vec<Value>>(),
        })
    }
}

/// Median and range.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these figures; `NaN` if there are none.
    pub fn of(figures: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
        let (last, middle) = (sorted.len().saturating_sub(1), sorted.len() / 2);
        let median = if sorted.len() % 2 == 1 { at(middle) } else { (at(middle.saturating_sub(1)) + at(middle)) / 2.0 };
        Spread { median, min: at(0), max: at(last) }
    }

    /// For the file of figures.
    pub fn json(&self) -> Value {
        json!({"median": self.median, "min": self.min, "max": self.max})
    }

    /// `4.10 (3.98..4.42)`.
    pub fn text(&self) -> String {
        let Spread { median, min, max } = self;
        format!("{median:.2} ({min:.2}..{max:.2})")
    }
}
