//! `scripts/bench resync`: how long `gizer resync` takes next to the load of the same orders.
//!
//! ```text
//!   a  gizer load                   everything is read, written next to the live tables and swapped in
//!   b  gizer resync, 0 % changed    everything is read and compared
//!   c  gizer resync, 1 % changed    … and one document in a hundred is written, all over the tables
//!   d  the same, the newest 1 %     … at the end of the tables
//!   e  gizer resync, 100 % changed
//! ```
//!
//! All in one run, in turn. Nobody follows, so that what has changed is not in the tables.

use std::path::PathBuf;
use std::process::ExitCode;

use bson::{Document, doc};
use clap::Parser;
use futures::TryStreamExt;
use integration_tests::bench::{
    Bed, Machine, Ran, Result, Sample, Scene, Series, Spread, begin, count, load, note, print, report,
    run as run_gizer, write_json,
};
use integration_tests::rig::{Mongod, Version};
use serde_json::json;

/// Measures `gizer resync` next to `gizer load`, on private servers.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench resync", bin_name = "scripts/bench resync")]
struct Options {
    /// Orders.
    #[arg(long, value_name = "N", default_value = "400k", value_parser = count)]
    orders: u64,

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

/// Which documents have changed.
#[derive(Debug, Clone, Copy)]
enum Changed {
    Nothing,
    OneIn(i32),
    /// One in so many, those with the last `_id`s.
    Newest(u64),
}

const CHANGED: [Changed; 4] = [Changed::Nothing, Changed::OneIn(100), Changed::Newest(100), Changed::OneIn(1)];

const TITLES: [&str; 5] = [
    "a  gizer load",
    "b  gizer resync, 0 % changed",
    "c  gizer resync, 1 % changed",
    "d  the same, the newest 1 %",
    "e  gizer resync, 100 % changed",
];

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    begin("resync", options.bench, run(&options)).await
}

async fn run(options: &Options) -> Result<()> {
    let machine = Machine::this();
    note("starting mongod and PostgreSQL");
    let bed = Bed::start(Mongod::builder(Version::V6_0), Bed::CACHE_GB, &[], String::new()).await?;
    let servers = bed.json(SHOWN).await?;
    print(&report::head(&machine, &servers, ""))?;
    let scene = bed.scene("shop").await?;
    note(format!("inserting {} orders", options.orders));
    scene.fill_orders(0..options.orders).await?;
    number(&scene).await?;
    scene.infer().await?;
    // The first load makes the tables.
    load(&bed, &scene, "orders", &[]).await?;
    let mut all = TITLES.map(Series::new);
    for round in 1..=options.rounds {
        all[0].samples.push(load(&bed, &scene, "orders", &[]).await?.sample);
        for (series, which) in all[1..].iter_mut().zip(CHANGED) {
            let changed = change(&scene, which, options.orders, round).await?;
            // Reading pages with dead rows of the measurement before would prune them, and write that to the log.
            scene.target.batch_execute("VACUUM ANALYZE").await?;
            scene.settle().await?;
            let Ran { sample, report } = run_gizer(&bed, (&scene.gizer, &scene.target), &["resync", "orders"]).await?;
            if report["collections"][0]["different"] != json!(changed) {
                return Err(format!("expected {changed} documents to differ, got {report}").into());
            }
            series.samples.push(sample);
        }
        note(format!("round {round} of {}", options.rounds));
    }
    print(&text(options, &all))?;
    if let Some(path) = &options.json {
        let series = all.each_ref().map(Series::json);
        let figures =
            json!({"machine": machine.json(), "servers": servers, "orders": options.orders, "series": series});
        write_json(&figures, &options.relative_to.join(path))?;
    }
    Ok(())
}

/// Numbers the orders at random: by that some of them are chosen, wherever they are.
async fn number(scene: &Scene) -> Result<()> {
    let orders = scene.source.collection::<Document>("orders");
    let number = doc! { "$set": { "chosen_by": { "$toInt": { "$multiply": [{ "$rand": {} }, 1_000_000] } } } };
    orders.update_many(doc! {}, vec![number]).await?;
    Ok(())
}

/// Changes orders, and gives how many those were.
async fn change(scene: &Scene, which: Changed, all: u64, round: u32) -> Result<u64> {
    let orders = scene.source.collection::<Document>("orders");
    let chosen = match which {
        Changed::Nothing => return Ok(0),
        Changed::OneIn(many) => doc! { "chosen_by": { "$mod": [many, i64::from(round) % i64::from(many)] } },
        Changed::Newest(one_in) => {
            let newest = orders.find(doc! {}).sort(doc! { "_id": -1 }).skip(all / one_in).limit(1);
            let last = newest.projection(doc! { "_id": 1 }).await?.try_next().await?;
            let last = last.ok_or("expected orders")?;
            doc! { "_id": { "$gt": last.get("_id") } }
        }
    };
    let change = doc! { "$set": { "state": format!("state {which:?} {round}") } };
    Ok(orders.update_many(chosen, change).await?.modified_count)
}

fn text(options: &Options, all: &[Series; 5]) -> String {
    let of_load = |series: &Series, of: fn(&Sample) -> f64| {
        let pairs = series.samples.iter().zip(&all[0].samples);
        Spread::of(pairs.map(|(sample, load)| of(sample) / of(load)))
    };
    let wal: fn(&Sample) -> f64 = |sample| sample.wal.unwrap_or_default() as f64;
    let mut text = format!("\n{} orders:\n", report::thousands(options.orders as f64));
    for series in all {
        let megabytes = series.spread(wal).median / 1e6;
        text.push_str(&format!("{:<31} {} s, {megabytes:.1} MB of WAL\n", series.title, series.wall().text()));
    }
    for (name, series) in [("c/a", &all[2]), ("d/a", &all[3])] {
        let time = of_load(series, |sample| sample.usage.wall);
        text.push_str(&report::target(&format!("{name}, time: {}", time.text()), "at most 0.6", time.median <= 0.6));
        let written = of_load(series, wal);
        let text_of = format!("{name}, WAL: {}", written.text());
        text.push_str(&report::target(&text_of, "at most 0.05", written.median <= 0.05));
    }
    text.push_str(&report::effort(31, all));
    text.push_str(&report::disturbance(all));
    text
}
