//! How long it takes from an acknowledged write to its being seen in PostgreSQL, with `gizer sync --follow`.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{RawDocumentBuf, doc};
use integration_tests::bench::report::{self, MIB};
use integration_tests::bench::{Result, SEED, Stopwatch, Usage, note, peak_memory};
use integration_tests::random::Random;
use integration_tests::rig::Signal;
use mongodb::{Collection, Database};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::Client;

use crate::backlog::Orders;
use crate::bed::{Bed, Verify};
use crate::options::Options;
use crate::zipf::random;

/// Orders that are loaded before.
const ORDERS: u64 = 100_000;

/// Connections that write.
const WRITERS: u32 = 4;

/// Updates of one command.
const UPDATES: u32 = 10;

/// How often the marker is written.
const MARK_EVERY: Duration = Duration::from_millis(20);

/// How often PostgreSQL is asked for the marker.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How long to write before it counts.
const WARMING_UP: Duration = Duration::from_secs(3);

/// How long to wait for the last marker.
const LAST_LIMIT: Duration = Duration::from_secs(30);

/// What the marker counts in: far above any that the shop gives.
const FIRST_MARK: i64 = 1 << 60;

/// What was seen.
#[derive(Debug)]
pub(crate) struct Latency {
    rate: f64,
    /// Milliseconds, ascending.
    sorted: Vec<f64>,
    usage: Usage,
    seconds: f64,
    /// Bytes.
    peak: u64,
    report: Value,
}

/// When which marker was acknowledged, until it has been seen.
type Waiting = Arc<Mutex<Vec<(i64, Instant)>>>;

/// Writes steadily while gizer follows, and looks for a marker.
///
/// # Errors
/// The servers', gizer's.
pub(crate) async fn measure(bed: &Bed, options: &Options) -> Result<Latency> {
    note("latency: loading");
    let scene = bed.scene("latency").await?;
    scene.load_orders(bed, ORDERS).await?;
    let layout = scene.layout("orders")?;
    let key = layout.tables[0].columns[layout.tables[0].key.0].name.clone();
    let copy = bed.copy(&scene, "latency_copy", Verify::All).await?;
    let orders = Orders::loaded(ORDERS);
    let ids = (0..ORDERS as usize).filter_map(|number| orders.get(number)?.get_object_id("_id").ok());
    let ids: Arc<Vec<ObjectId>> = Arc::new(ids.collect());
    let marker = ids[0];

    note(format!("latency: {} writes a second for {} s", options.rate, options.seconds));
    let running = copy.gizer.spawn(["sync", "--follow", "--format", "json"])?;
    let stopped = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let database = bed.mongod.client().await?.database(&scene.name);
        let every = Duration::from_secs_f64(f64::from(UPDATES * WRITERS) / f64::from(options.rate));
        writers.push(tokio::spawn(write(database, Arc::clone(&ids), writer, every, Arc::clone(&stopped))));
    }
    let waiting = Waiting::default();
    let marking = tokio::spawn(mark(scene.collection("orders"), marker, Arc::clone(&waiting), Arc::clone(&stopped)));
    let looker = bed.postgres.client("latency_copy").await?;
    let sql = format!("SELECT payment_reference::bigint FROM orders WHERE \"{key}\" = '{}'", marker.to_hex());
    let begun = Instant::now();
    look(&looker, &sql, &waiting, begun + WARMING_UP, false).await?;
    let watch = Stopwatch::start(bed.servers()?)?;
    let counted = Instant::now();
    let end = counted + Duration::from_secs(options.seconds.into());
    let mut seen = look(&looker, &sql, &waiting, end, false).await?;
    let usage = watch.stop()?;
    let seconds = counted.elapsed().as_secs_f64();
    stopped.store(true, Ordering::Relaxed);
    marking.await??;
    seen.extend(look(&looker, &sql, &waiting, Instant::now() + LAST_LIMIT, true).await?);
    let mut written = 0;
    for writer in writers {
        written += writer.await??;
    }
    let rate = written as f64 / begun.elapsed().as_secs_f64();
    let peak = peak_memory(running.pid()).unwrap_or_default();
    running.signal(Signal::Interrupt)?;
    let ended = running.wait().await?;
    let report = serde_json::from_str(&ended.stdout)
        .map_err(|error| format!("gizer sync --follow reported no JSON ({error}): {}{}", ended.stdout, ended.stderr))?;
    seen.sort_by(f64::total_cmp);
    Ok(Latency { rate, sorted: seen, usage, seconds, peak, report })
}

/// Updates orders at random, some at a time; gives how many.
async fn write(
    database: Database,
    ids: Arc<Vec<ObjectId>>,
    writer: u32,
    every: Duration,
    stopped: Arc<AtomicBool>,
) -> Result<u64> {
    let mut random = random(SEED, u64::from(writer) + 1);
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut written = 0;
    while !stopped.load(Ordering::Relaxed) {
        tick.tick().await;
        let update = |random: &mut Random, number: u64| {
            let id = ids[1 + random.below(ids.len() as u64 - 1) as usize];
            doc! { "q": { "_id": id }, "u": { "$set": { "payment_reference": number as i64 } } }
        };
        let updates: Vec<_> = (0..u64::from(UPDATES)).map(|i| update(&mut random, written + i)).collect();
        database.run_command(doc! { "update": "orders", "updates": updates }).await?;
        written += u64::from(UPDATES);
    }
    Ok(written)
}

/// Counts the marker up, and notes when each was acknowledged.
async fn mark(
    collection: Collection<RawDocumentBuf>,
    marker: ObjectId,
    waiting: Waiting,
    stopped: Arc<AtomicBool>,
) -> Result<()> {
    let mut tick = interval(MARK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = FIRST_MARK;
    while !stopped.load(Ordering::Relaxed) {
        tick.tick().await;
        number += 1;
        let set = doc! { "$set": { "payment_reference": number } };
        collection.update_one(doc! { "_id": marker }, set).await?;
        waiting.lock().unwrap_or_else(PoisonError::into_inner).push((number, Instant::now()));
    }
    Ok(())
}

/// Looks for the marker until then, or until none is waited for; gives how long each took that was seen, in milliseconds.
async fn look(client: &Client, sql: &str, waiting: &Waiting, until: Instant, to_the_last: bool) -> Result<Vec<f64>> {
    let statement = client.prepare(sql).await?;
    let mut seen = Vec::new();
    while Instant::now() < until {
        let shown: i64 = client.query_one(&statement, &[]).await?.get(0);
        let now = Instant::now();
        let none_left = {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let (came, rest): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(|(number, _)| *number <= shown);
            seen.extend(came.iter().map(|(_, acknowledged)| 1_000.0 * (now - *acknowledged).as_secs_f64()));
            *waiting = rest;
            waiting.is_empty()
        };
        if to_the_last && none_left {
            return Ok(seen);
        }
        sleep(LOOK_EVERY).await;
    }
    match to_the_last {
        true => Err("expected the last marker to come within half a minute".into()),
        false => Ok(seen),
    }
}

impl Latency {
    /// The time that this part of all markers took at most, from 0 to 1.
    fn quantile(&self, part: f64) -> f64 {
        let at = (part * self.sorted.len() as f64).ceil() as usize;
        self.sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

/// As text.
pub(crate) fn text(found: &Latency) -> String {
    let (median, most) = (found.quantile(0.5), found.quantile(0.99));
    let line = format!(
        "gizer sync --follow, {:.0} writes/s, {} markers: median {median:.0} ms, 95 % {:.0} ms, 99 % {most:.0} ms, most {:.0} ms",
        found.rate,
        found.sorted.len(),
        found.quantile(0.95),
        found.quantile(1.0),
    );
    let Usage { postgres, mongod, bench, others, .. } = found.usage;
    format!(
        "\n{}seconds of processor time in {:.0} s: PostgreSQL {postgres:.1}, mongod {mongod:.1}, writers {bench:.1}, gizer and \
         others {others:.1}; {} batches; peak {:.0} MiB\n",
        report::target(&line, "median at most 300 ms, 99 % at most 1 s", median <= 300.0 && most <= 1_000.0),
        found.seconds,
        found.report["batches"],
        found.peak as f64 / MIB,
    )
}

/// For the file of figures.
pub(crate) fn json(found: &Latency) -> Value {
    json!({
        "writes_per_s": found.rate, "markers": found.sorted.len(), "usage": found.usage.json(),
        "milliseconds": {
            "median": found.quantile(0.5), "95": found.quantile(0.95), "99": found.quantile(0.99),
            "most": found.quantile(1.0),
        },
        "gizer_peak_mib": found.peak as f64 / MIB, "report": found.report,
    })
}
