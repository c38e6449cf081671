//! The comparison: (a), (b), (c), (d), and again.

use std::sync::Arc;

use gizer_schema::Layout;
use integration_tests::bench::{Bed, Result, Sample, Scene, Series, Spread, load, note};
use serde_json::{Value, json};

use crate::limit::{self, Persistence, Way};
use crate::options::{Letter, Options};
use crate::orders::{Encoded, Orders};
use crate::stages;

/// What is measured, in the order of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measurement {
    Load,
    Limit(Way),
    Scan,
    Flatten,
}

impl Measurement {
    const ALL: [Measurement; 6] = [
        Measurement::Load,
        Measurement::Limit(Way::Units),
        Measurement::Limit(Way::Tables),
        Measurement::Limit(Way::TablesKeysAlone),
        Measurement::Scan,
        Measurement::Flatten,
    ];

    /// What the user calls it.
    pub(crate) fn letter(self) -> Letter {
        match self {
            Measurement::Load => Letter::A,
            Measurement::Limit(_) => Letter::B,
            Measurement::Scan => Letter::C,
            Measurement::Flatten => Letter::D,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Measurement::Load => "a  gizer load",
            Measurement::Limit(Way::Units) => "b1 COPY for each table and unit",
            Measurement::Limit(Way::Tables) => "b2 COPY for each table and connection",
            Measurement::Limit(Way::TablesKeysAlone) => "b3 as b2, keys without parallel workers",
            Measurement::Scan => "c  scan alone",
            Measurement::Flatten => "d  flatten and encode alone",
        }
    }
}

/// The orders, on the servers and in memory.
pub(crate) struct Bench<'b> {
    bed: &'b Bed,
    scene: Scene,
    workers: u16,
    pub(crate) orders: Orders,
    layout: Arc<Layout>,
    pub(crate) encoded: Arc<Encoded>,
}

impl<'b> Bench<'b> {
    /// Fills MongoDB, infers the schema with gizer, and encodes the rows.
    ///
    /// # Errors
    /// The servers', gizer's.
    pub(crate) async fn prepare(bed: &'b Bed, options: &Options) -> Result<Bench<'b>> {
        let scene = bed.scene("comparison").await?;
        note(format!("inserting {} orders", options.orders));
        scene.fill_orders(0..options.orders).await?;
        note("gizer schema infer");
        scene.infer().await?;
        let layout = scene.layout("orders")?;
        note("encoding the rows");
        let orders = Orders::new(options.orders, layout.clone())?;
        let encoded = Arc::new(Encoded::new(&orders)?);
        Ok(Bench { bed, scene, workers: options.workers, orders, layout: Arc::new(layout), encoded })
    }

    /// All rounds of the comparison.
    ///
    /// # Errors
    /// Those of the measurements.
    pub(crate) async fn compare(&self, options: &Options) -> Result<Comparison> {
        let wanted = Measurement::ALL.into_iter().filter(|each| options.wants(each.letter()));
        let mut all: Vec<(Measurement, Series)> = wanted.map(|each| (each, Series::new(each.title()))).collect();
        // The first one makes the files of PostgreSQL's log, which are used again from then on.
        if let Some((first, series)) = all.first() {
            note(format!("once before the rounds: {}", series.title));
            self.measure(*first).await?;
        }
        for round in 1..=options.rounds {
            for (measurement, series) in &mut all {
                let sample = self.measure(*measurement).await?;
                note(format!("round {round} of {}: {}: {:.2} s", options.rounds, series.title, sample.usage.wall));
                series.samples.push(sample);
            }
        }
        Ok(Comparison { all })
    }

    async fn measure(&self, measurement: Measurement) -> Result<Sample> {
        match measurement {
            Measurement::Load => {
                let loaded = load(self.bed, &self.scene, "orders", &[]).await?;
                let (expected, got) = ((self.orders.documents, self.encoded.rows()), (loaded.documents, loaded.rows));
                if expected != got {
                    return Err(format!("expected documents and rows {expected:?}, gizer says {got:?}").into());
                }
                Ok(loaded.sample)
            }
            Measurement::Limit(way) => self.limit(way, Persistence::Logged).await,
            Measurement::Scan => stages::scan(self.bed, &self.scene, &self.orders).await,
            Measurement::Flatten => stages::flatten(self.bed, &self.orders, self.workers, self.encoded.rows()),
        }
    }

    async fn limit(&self, way: Way, persistence: Persistence) -> Result<Sample> {
        limit::load(self.bed, &self.scene, &self.layout, &self.encoded, self.workers, way, persistence).await
    }

    /// (b) with logged tables and with those that become so at the end, in turn.
    ///
    /// # Errors
    /// Those of the measurements.
    pub(crate) async fn compare_staging(&self, rounds: u32) -> Result<Vec<Series>> {
        let mut all = [
            (Persistence::Logged, Series::new("logged tables")),
            (Persistence::LoggedAtTheEnd, Series::new("UNLOGGED, then SET LOGGED")),
        ];
        // The log's files are made, and are used again from then on.
        self.limit(Way::Units, Persistence::Logged).await?;
        for round in 1..=rounds {
            for (persistence, series) in &mut all {
                let sample = self.limit(Way::Units, *persistence).await?;
                note(format!("staging, round {round} of {rounds}: {}: {:.2} s", series.title, sample.usage.wall));
                series.samples.push(sample);
            }
        }
        Ok(all.map(|(_, series)| series).into())
    }

    /// For the file of figures.
    pub(crate) fn json(&self) -> Value {
        let mut data = self.encoded.json();
        data["documents"] = json!(self.orders.documents);
        data["bson_bytes"] = json!(self.orders.bytes);
        data
    }
}

/// What came of the comparison.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) all: Vec<(Measurement, Series)>,
}

impl Comparison {
    /// A measurement's series.
    pub(crate) fn series(&self, wanted: Measurement) -> Option<&Series> {
        self.all.iter().find(|(measurement, _)| *measurement == wanted).map(|(_, series)| series)
    }

    /// The fastest of the ways to reach the limit.
    pub(crate) fn limit(&self) -> Option<&Series> {
        let ways = Way::ALL.iter().filter_map(|&way| self.series(Measurement::Limit(way)));
        ways.min_by(|one, other| one.wall().median.total_cmp(&other.wall().median))
    }

    /// How often longer gizer took than the limit: medians, and round by round.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        let (load, limit) = (self.series(Measurement::Load)?, self.limit()?);
        let pairs = load.samples.iter().zip(&limit.samples);
        let by_round = Spread::of(pairs.map(|(load, limit)| load.usage.wall / limit.usage.wall));
        Some(Spread { median: load.wall().median / limit.wall().median, ..by_round })
    }

    /// For the file of figures.
    pub(crate) fn json(&self) -> Value {
        json!({
            "series": self.all.iter().map(|(_, series)| series.json()).collect::<Vec<Value>>(),
            "limit": self.limit().map(|limit| limit.title),
            "load_to_limit": self.ratio().map(|ratio| ratio.json()),
        })
    }
}
