//! The comparison: (a1), (a2), (b), (c), and again, for one kind of backlog.

use gizer_schema::Layout;
use integration_tests::bench::{Result, Sample, Series, Spread, note};
use serde_json::{Value, json};

use crate::backlog::{Backlog, Orders};
use crate::bed::{Bed, Copy, Scene, Verify};
use crate::options::{Case, Options};
use crate::premade::Way;
use crate::rows::Batch;
use crate::{apply, gizer, premade, rows};

/// What is measured, in the order of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measurement {
    Premade(Way),
    Sync(Verify),
}

impl Measurement {
    const ALL: [Measurement; 4] = [
        Measurement::Premade(Way::Staged),
        Measurement::Premade(Way::Direct),
        Measurement::Sync(Verify::Off),
        Measurement::Sync(Verify::All),
    ];

    fn title(self) -> &'static str {
        match self {
            Measurement::Premade(Way::Staged) => "a1 pre-made SQL, new rows by INSERT",
            Measurement::Premade(Way::Direct) => "a2 pre-made SQL, new rows by COPY",
            Measurement::Sync(Verify::Off) => "b  gizer sync, not verified",
            Measurement::Sync(Verify::All) => "c  gizer sync, verified",
        }
    }
}

/// What came of one kind of backlog.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) case: Case,
    pub(crate) orders: u64,
    pub(crate) operations: u64,
    /// Documents that (a) writes, each counted once a transaction, its rows and its transactions.
    pub(crate) premade: (u64, u64, u64),
    pub(crate) all: Vec<(Measurement, Series)>,
    /// What gizer has reported last, by measurement.
    pub(crate) reports: Vec<(Measurement, Value)>,
}

/// Measures one kind of backlog.
///
/// # Errors
/// The servers', gizer's; tables that are not the same after each measurement.
pub(crate) async fn measure(bed: &Bed, options: &Options, case: Case) -> Result<Found> {
    let name = format!("{:?}_{:?}", case.mix, case.ids).to_lowercase();
    note(format!("{name}: loading {} orders", options.orders()));
    let scene = bed.scene(&name).await?;
    scene.load_orders(bed, options.orders()).await?;
    let layout = scene.layout("orders")?;
    note(format!("{name}: {} operations, and their rows", options.operations));
    let mut orders = Orders::loaded(options.orders());
    let backlog = Backlog::new(case, &orders, options.operations)?;
    apply::apply(&backlog, &orders, &scene.collection("orders")).await?;
    let batches = rows::batches(&layout, &backlog, &mut orders)?;
    drop(orders);
    let bench = Bench { bed, scene, layout, batches };

    let mut found = Found {
        case,
        orders: options.orders(),
        operations: backlog.len(),
        premade: bench.totals(),
        all: Measurement::ALL.into_iter().map(|each| (each, Series::new(each.title()))).collect(),
        reports: Vec::new(),
    };
    let mut expected = None;
    for round in 1..=options.rounds {
        for (measurement, series) in &mut found.all {
            let (sample, report, copy) = bench.measure(*measurement).await?;
            note(format!("{name}, round {round} of {}: {}: {:.2} s", options.rounds, series.title, sample.usage.wall));
            series.samples.push(sample);
            if round == 1 {
                let tables = bench.tables(&copy).await?;
                let expected = expected.get_or_insert_with(|| tables.clone());
                if *expected != tables {
                    return Err(format!("{}: expected the tables {expected:?}, got {tables:?}", series.title).into());
                }
                found.reports.extend(report.map(|report| (*measurement, report)));
            }
        }
    }
    Ok(found)
}

struct Bench<'b> {
    bed: &'b Bed,
    scene: Scene,
    layout: Layout,
    batches: Vec<Batch>,
}

impl Bench<'_> {
    async fn measure(&self, measurement: Measurement) -> Result<(Sample, Option<Value>, Copy)> {
        let verify = if let Measurement::Sync(verify) = measurement { verify } else { Verify::Off };
        let copy = self.bed.copy(&self.scene, "measured", verify).await?;
        let (sample, report) = match measurement {
            Measurement::Premade(way) => {
                (premade::write(self.bed, &copy, &self.layout, &self.batches, way).await?, None)
            }
            Measurement::Sync(_) => {
                let synced = gizer::sync(self.bed, &copy).await?;
                (synced.sample, Some(synced.report))
            }
        };
        Ok((sample, report, copy))
    }

    /// For each table the number of its rows and a sum over hashes of them.
    async fn tables(&self, copy: &Copy) -> Result<Vec<(String, i64, String)>> {
        let mut all = Vec::new();
        for table in &self.layout.tables {
            let sql = format!(
                "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM \"{}\" AS t",
                table.name
            );
            let row = copy.target.query_one(&sql, &[]).await?;
            all.push((table.name.clone(), row.get(0), row.get(1)));
        }
        Ok(all)
    }

    fn totals(&self) -> (u64, u64, u64) {
        let documents = self.batches.iter().map(|batch| batch.documents).sum();
        let written = self.batches.iter().flat_map(|batch| &batch.tables);
        let written: u64 = written.map(|table| table.updated.rows + table.inserted.rows).sum();
        let deleted: u64 = self.batches.iter().map(|batch| batch.deleted).sum();
        (documents, written + deleted, self.batches.len() as u64)
    }
}

impl Found {
    /// A measurement's series.
    pub(crate) fn series(&self, wanted: Measurement) -> Option<&Series> {
        self.all.iter().find(|(measurement, _)| *measurement == wanted).map(|(_, series)| series)
    }

    /// The faster of the two ways of (a).
    pub(crate) fn limit(&self) -> Option<&Series> {
        let ways = [Way::Staged, Way::Direct].into_iter().filter_map(|way| self.series(Measurement::Premade(way)));
        ways.min_by(|one, other| one.wall().median.total_cmp(&other.wall().median))
    }

    /// The speed of a measurement as a part of that of (a): medians, and round by round.
    pub(crate) fn part_of_limit(&self, measurement: Measurement) -> Option<Spread> {
        let (series, limit) = (self.series(measurement)?, self.limit()?);
        let pairs = series.samples.iter().zip(&limit.samples);
        let by_round = Spread::of(pairs.map(|(sample, limit)| limit.usage.wall / sample.usage.wall));
        Some(Spread { median: limit.wall().median / series.wall().median, ..by_round })
    }

    /// For the file of figures.
    pub(crate) fn json(&self) -> Value {
        let (documents, rows, batches) = self.premade;
        let report =
            |(measurement, report): &(Measurement, Value)| json!({"of": measurement.title(), "report": report});
        let part = |verify| self.part_of_limit(Measurement::Sync(verify)).map(|part| part.json());
        json!({
            "mix": self.case.mix.title(), "ids": self.case.ids.title(),
            "orders": self.orders, "operations": self.operations,
            "premade": {"documents": documents, "rows": rows, "batches": batches},
            "series": self.all.iter().map(|(_, series)| series.json()).collect::<Vec<Value>>(),
            "reports": self.reports.iter().map(report).collect::<Vec<Value>>(),
            "part_of_limit": {"unverified": part(Verify::Off), "verified": part(Verify::All)},
        })
    }
}
