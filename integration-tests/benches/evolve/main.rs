//! `scripts/bench evolve`: how long `gizer schema evolve` takes for one new column, next to the `UPDATE` that does the same.
//!
//! One load; each measurement works on a copy of its database, in turn:
//!
//! ```text
//!   a  gizer schema evolve          ADD COLUMN, then the rows that hold the field in _extra are rewritten and read back
//!   b  ALTER TABLE; UPDATE … SET    the same by hand: unchecked
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use bson::{RawDocumentBuf, doc};
use clap::Parser;
use integration_tests::bench::{
    Bed, LIMIT, Machine, Result, Sample, Scene, Series, Spread, Stopwatch, begin, count, load, note, print, report,
    run as run_gizer, write_json,
};
use integration_tests::rig::{Mongod, Version};
use serde_json::json;

/// Measures `gizer schema evolve` next to a plain UPDATE, on private servers.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench evolve", bin_name = "scripts/bench evolve")]
struct Options {
    /// Documents, of which one in ten has the new field.
    #[arg(long, value_name = "N", default_value = "1M", value_parser = count)]
    documents: u64,

    /// Rounds; medians are shown.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Write all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The folder that relative paths are relative to: cargo runs benchmarks in a folder of its own choice.
    #[arg(long, hide = true, default_value = ".")]
    relative_to: PathBuf,

    /// cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Settings that are shown with the figures.
const SHOWN: &[&str] =
    &["server_version", "fsync", "synchronous_commit", "max_wal_size", "shared_buffers", "autovacuum"];

const SCHEMA: &str = r#"{"$gizer": 1, "fields": {"_id": "INT", "name": "STRING", "number": "INT"}}"#;

const BY_HAND: &str = "BEGIN; ALTER TABLE things ADD COLUMN coupon text; \
    UPDATE things SET coupon = _extra ->> '/coupon', _extra = nullif(_extra - '/coupon', '{}') WHERE _extra ? '/coupon'; COMMIT";

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    begin("evolve", options.bench, run(&options)).await
}

async fn run(options: &Options) -> Result<()> {
    let machine = Machine::this();
    note("starting mongod and PostgreSQL");
    let bed = Bed::start(Mongod::builder(Version::V6_0), Bed::CACHE_GB, &[], String::new()).await?;
    let servers = bed.json(SHOWN).await?;
    print(&report::head(&machine, &servers, ""))?;
    let source = bed.scene("loaded").await?;
    fill(&source, options.documents).await?;
    schema_file(&source)?;
    load(&bed, &source, "things", &[]).await?;
    let Scene { source: database, target, gizer: _gizer } = source;
    drop(target);
    let mut all = ["gizer schema evolve", "ALTER TABLE and UPDATE"].map(Series::new);
    for round in 1..=options.rounds {
        let copy = format!("evolved{round}");
        let scene = copied(&bed, database.name(), &copy).await?;
        let evolved = run_gizer(&bed, (&scene.gizer, &scene.target), &["schema", "evolve", "things"]).await?;
        if evolved.report["collections"][0]["documents"] != json!(options.documents.div_ceil(10)) {
            return Err(format!("expected every tenth document to be rewritten, got {}", evolved.report).into());
        }
        all[0].samples.push(evolved.sample);
        let copy = format!("by_hand{round}");
        let scene = copied(&bed, database.name(), &copy).await?;
        let watch = Stopwatch::start(bed.servers()?)?;
        scene.target.batch_execute(BY_HAND).await?;
        all[1].samples.push(Sample::new(watch.stop()?));
        note(format!("round {round} of {}", options.rounds));
    }
    print(&text(options, &all))?;
    if let Some(path) = &options.json {
        let series = all.each_ref().map(Series::json);
        let figures =
            json!({"machine": machine.json(), "servers": servers, "documents": options.documents, "series": series});
        write_json(&figures, &options.relative_to.join(path))?;
    }
    Ok(())
}

async fn fill(scene: &Scene, documents: u64) -> Result<()> {
    note(format!("inserting {documents} documents"));
    let collection = scene.collection("things");
    for start in (0..documents).step_by(10_000) {
        let one = |n: u64| {
            let mut document =
                doc! { "_id": n as i64, "name": format!("the thing of number {n}"), "number": (n % 1_000) as i32 };
            if n.is_multiple_of(10) {
                document.insert("coupon", format!("coupon {n}"));
            }
            RawDocumentBuf::try_from(&document)
        };
        let batch: std::result::Result<Vec<_>, _> = (start..documents.min(start + 10_000)).map(one).collect();
        collection.insert_many(batch?).await?;
    }
    Ok(())
}

fn schema_file(scene: &Scene) -> Result<()> {
    let folder = scene.gizer.folder().join("schemas");
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join("things.json"), SCHEMA)?)
}

/// A copy of the loaded database, and gizer between MongoDB and it.
async fn copied(bed: &Bed, database: &str, name: &str) -> Result<Scene> {
    let copy = format!("CREATE DATABASE {name} TEMPLATE {database}");
    bed.postgres.client("postgres").await?.batch_execute(&copy).await?;
    let scene = Scene {
        source: bed.mongod.client().await?.database(database),
        target: bed.postgres.client(name).await?,
        gizer: bed.gizer(database, name, "")?.limit(LIMIT),
    };
    schema_file(&scene)?;
    scene.target.batch_execute("VACUUM ANALYZE things").await?;
    scene.settle().await?;
    Ok(scene)
}

fn text(options: &Options, all: &[Series; 2]) -> String {
    let of = |sample: &Sample| sample.usage.wall;
    let pairs = all[0].samples.iter().zip(&all[1].samples);
    let ratio = Spread::of(pairs.map(|(evolved, by_hand)| of(evolved) / of(by_hand)));
    let mut text = format!("\n{} documents, one in ten with the field:\n", report::thousands(options.documents as f64));
    for series in all {
        text.push_str(&format!("{:<39} {} s\n", series.title, series.wall().text()));
    }
    text.push_str(&report::target(&format!("evolve/UPDATE: {}", ratio.text()), "at most 1.5", ratio.median <= 1.5));
    text.push_str(&report::effort(39, all));
    text.push_str(&report::disturbance(all));
    text
}
