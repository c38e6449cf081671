//! Progress on standard error: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gizer_engine::{Counters, ExpectedWork};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::report::{self, thousands};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How often a bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// Shows counters until it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    task: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts to show `counters` under `name`; what is `expected` is an estimate, if there is one. Needs a tokio runtime.
    pub(super) fn start(name: &str, counters: Arc<Counters>, expected: Option<ExpectedWork>) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress { task: tokio::spawn(write_lines(name.to_owned(), counters, expected)), bar: None };
        }
        let bar = bar(name, &counters, expected);
        Progress { task: tokio::spawn(draw(bar.clone(), counters, expected)), bar: Some(bar) }
    }

    /// Starts to show that something goes on whose end is not known: `orders: keys and indexes`.
    pub(super) fn of_step(name: &str, step: &'static str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress { task: tokio::spawn(write_step(name.to_owned(), step)), bar: None };
        }
        let bar = unseen(None, "{prefix:24!} {spinner} {msg}, {elapsed}", name);
        bar.set_message(step);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        Progress { task: tokio::spawn(spin(bar.clone())), bar: Some(bar) }
    }
}

async fn spin(bar: ProgressBar) {
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    loop {
        ticks.tick().await;
        bar.tick();
    }
}

async fn write_step(name: String, step: &'static str) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval_at((start + LINE_EVERY).into(), LINE_EVERY);
    loop {
        ticks.tick().await;
        report::note(format!("{name}: {step}, {} s", start.elapsed().as_secs()));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar that is not drawn yet: each of its parts would be, as it is set.
fn unseen(total: Option<u64>, template: &str, name: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(name.to_owned());
    bar
}

fn bar(name: &str, counters: &Counters, expected: Option<ExpectedWork>) -> ProgressBar {
    let template = match expected {
        Some(ExpectedWork::Documents(_)) => "{prefix:24!} {bar:24} {human_pos}/{human_len} {msg}, {eta} left",
        Some(ExpectedWork::Bytes(_)) => "{prefix:24!} {bar:24} {binary_bytes}/{binary_total_bytes} {msg}, {eta} left",
        None => "{prefix:24!} {spinner} {human_pos} documents {msg}",
    };
    let bar = unseen(expected.map(ExpectedWork::total), template, name);
    bar.set_message(rates(counters, Duration::ZERO));
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar
}

async fn draw(bar: ProgressBar, counters: Arc<Counters>, expected: Option<ExpectedWork>) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    loop {
        ticks.tick().await;
        // A collection may have grown since its size was asked for.
        let done = expected.map_or_else(|| counters.documents(), |expected| expected.done(&counters));
        if bar.length().is_some_and(|length| length < done) {
            bar.set_length(done);
        }
        bar.set_position(done);
        bar.set_message(rates(&counters, start.elapsed()));
    }
}

async fn write_lines(name: String, counters: Arc<Counters>, expected: Option<ExpectedWork>) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval_at((start + LINE_EVERY).into(), LINE_EVERY);
    loop {
        ticks.tick().await;
        let elapsed = start.elapsed();
        let left = expected.and_then(|expected| {
            let (left, now) =
                (expected.total().checked_sub(expected.done(&counters))?, expected.done_in_this_run(&counters));
            (left > 0 && now > 0).then(|| elapsed.mul_f64(left as f64 / now as f64))
        });
        let left = left.map(|left| format!(", about {} left", HumanDuration(left))).unwrap_or_default();
        let rates = rates(&counters, elapsed);
        let done = match counters.documents() {
            // Files of rows say nothing of documents.
            0 => report::bytes(counters.bytes()),
            documents => format!("{} documents", thousands(documents)),
        };
        report::note(format!("{name}: {done}, {rates}{left}"));
    }
}

/// `12,345 docs/s, 8.1 MiB/s, 98,765 rows/s`
fn rates(counters: &Counters, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let per_second = |count: u64| (count as f64 / seconds) as u64;
    let done = counters.in_this_run();
    let documents = thousands(per_second(done.documents));
    let bytes = report::bytes(per_second(done.bytes));
    match (done.documents, done.rows) {
        (_, 0) => format!("{documents} docs/s, {bytes}/s"),
        (0, rows) => format!("{bytes}/s, {} rows/s", thousands(per_second(rows))),
        (_, rows) => format!("{documents} docs/s, {bytes}/s, {} rows/s", thousands(per_second(rows))),
    }
}
