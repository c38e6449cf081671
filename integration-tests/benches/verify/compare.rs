//! Loads and audits, and again.

use integration_tests::bench::{Bed, Ran, Result, Sample, Scene, Series, Spread, load, note, run};
use serde_json::{Value, json};

use crate::options::Options;

/// What is measured, in the order of a round: an audit is always one of tables that were just loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measurement {
    LoadUncompared,
    LoadCompared,
    Load,
    Audit,
    Sample,
}

impl Measurement {
    const ALL: [Measurement; 5] = [
        Measurement::LoadUncompared,
        Measurement::LoadCompared,
        Measurement::Load,
        Measurement::Audit,
        Measurement::Sample,
    ];

    fn title(self) -> &'static str {
        match self {
            Measurement::Load => "a1 gizer load",
            Measurement::LoadUncompared => "a2 gizer load --verify off",
            Measurement::LoadCompared => "a3 gizer load --verify full",
            Measurement::Audit => "b  gizer verify",
            Measurement::Sample => "c  gizer verify --sample",
        }
    }

    fn is_wanted(self, options: &Options) -> bool {
        match self {
            Measurement::Load | Measurement::Audit => true,
            Measurement::LoadUncompared | Measurement::LoadCompared => !options.loads_alike,
            Measurement::Sample => options.sample > 0,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) all: Vec<(Measurement, Series)>,
    /// Documents and rows of the collection.
    pub(crate) documents: u64,
    pub(crate) rows: u64,
    /// Of (c), those that were looked at last.
    pub(crate) sampled: (u64, u64),
}

/// Fills in the orders, and measures all rounds.
///
/// # Errors
/// The servers', gizer's; an audit that finds a difference, or has not seen everything.
pub(crate) async fn measure(bed: &Bed, options: &Options) -> Result<Comparison> {
    let scene = bed.scene("comparison").await?;
    note(format!("inserting {} orders", options.orders));
    scene.fill_orders(0..options.orders).await?;
    note("gizer schema infer");
    scene.infer().await?;
    // It makes the files of PostgreSQL's log, which are used again from then on.
    note("once before the rounds: gizer load");
    let first = load(bed, &scene, "orders", &[]).await?;
    let wanted = Measurement::ALL.into_iter().filter(|each| each.is_wanted(options));
    let all = wanted.map(|each| (each, Series::new(each.title()))).collect();
    let mut found = Comparison { all, documents: first.documents, rows: first.rows, sampled: (0, 0) };
    if found.documents != options.orders {
        return Err(format!("expected {} documents, gizer has read {}", options.orders, found.documents).into());
    }
    let size = (found.documents, found.rows);
    for round in 1..=options.rounds {
        for (measurement, series) in &mut found.all {
            let (sample, seen) = once(bed, &scene, options, *measurement).await?;
            if *measurement == Measurement::Sample {
                found.sampled = seen;
            } else if seen != size {
                let title = series.title;
                return Err(format!("{title}: expected documents and rows {size:?}, gizer says {seen:?}").into());
            }
            note(format!("round {round} of {}: {}: {:.2} s", options.rounds, series.title, sample.usage.wall));
            series.samples.push(sample);
        }
    }
    Ok(found)
}

/// One measurement: what it took, and how many documents and rows gizer says it has loaded or looked at.
async fn once(bed: &Bed, scene: &Scene, options: &Options, measurement: Measurement) -> Result<(Sample, (u64, u64))> {
    let sample = options.sample.to_string();
    match measurement {
        Measurement::Load => loaded(bed, scene, &[]).await,
        Measurement::LoadUncompared => loaded(bed, scene, &["--verify", "off"]).await,
        Measurement::LoadCompared => loaded(bed, scene, &["--verify", "full"]).await,
        Measurement::Audit => audited(bed, scene, &["verify", "orders"]).await,
        Measurement::Sample => audited(bed, scene, &["verify", "orders", "--sample", &sample]).await,
    }
}

async fn loaded(bed: &Bed, scene: &Scene, options: &[&str]) -> Result<(Sample, (u64, u64))> {
    let loaded = load(bed, scene, "orders", options).await?;
    Ok((loaded.sample, (loaded.documents, loaded.rows)))
}

async fn audited(bed: &Bed, scene: &Scene, args: &[&str]) -> Result<(Sample, (u64, u64))> {
    scene.settle().await?;
    // What differs is an exit code other than 0, and with it an error.
    let Ran { sample, report } = run(bed, (&scene.gizer, &scene.target), args).await?;
    let entry = &report["collections"][0];
    let count =
        |name: &str| entry[name].as_u64().ok_or_else(|| format!("expected {name} in the report of gizer verify"));
    let (documents, rows) = (count("documents")?, count("rows")?);
    if count("equal")? != documents {
        return Err(format!("expected {documents} documents to be equal, gizer says {}", entry["equal"]).into());
    }
    Ok((sample, (documents, rows)))
}

impl Comparison {
    /// A measurement's series.
    pub(crate) fn series(&self, wanted: Measurement) -> Option<&Series> {
        self.all.iter().find(|(measurement, _)| *measurement == wanted).map(|(_, series)| series)
    }

    /// How often longer one took than another: medians, and round by round.
    pub(crate) fn ratio(&self, of: Measurement, to: Measurement) -> Option<Spread> {
        let (of, to) = (self.series(of)?, self.series(to)?);
        let pairs = of.samples.iter().zip(&to.samples);
        let by_round = Spread::of(pairs.map(|(of, to)| of.usage.wall / to.usage.wall));
        Some(Spread { median: of.wall().median / to.wall().median, ..by_round })
    }

    /// For the file of figures.
    pub(crate) fn json(&self) -> Value {
        json!({
            "documents": self.documents, "rows": self.rows,
            "series": self.all.iter().map(|(_, series)| series.json()).collect::<Vec<Value>>(),
            "audit_to_load": self.ratio(Measurement::Audit, Measurement::Load).map(|ratio| ratio.json()),
        })
    }
}
