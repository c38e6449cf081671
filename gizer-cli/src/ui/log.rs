//! The log, on standard error: by default one line for each run and one for each batch that is committed, and warnings.
//!
//! As text, with colours on a terminal that wants them (<https://no-color.org>); or with `[log] format = "json"` as one JSON object a line,
//! by which everything that gizer says on standard error is told then: `timestamp` (ISO 8601 in UTC), `level`, `message`, `target`
//! and the fields of the event. Errors of the command line itself come before the log begins, and are text.
//!
//! What documents hold is in no line of it, at whichever level.

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ArgMatches;
use gizer_engine::BATCH_TARGET;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::sees_colours;
use crate::config::file::LogFormat;

/// The target of the line that the log has for each run.
pub(crate) const RUN_TARGET: &str = "gizer::run";

/// The target of what is said to people, where that is part of the log.
pub(crate) const NOTE_TARGET: &str = "gizer::note";

static JSON: AtomicBool = AtomicBool::new(false);

/// Whether a person reads standard error, and has not asked for more.
static PERSON: AtomicBool = AtomicBool::new(false);

/// Whether what is said on standard error is JSON.
pub(crate) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Whether a run needs no line of its own: a person at a terminal has just read its summary.
pub(crate) fn summary_is_enough() -> bool {
    PERSON.load(Ordering::Relaxed) && !is_json()
}

/// From now on the log has this form.
pub(crate) fn set_format(format: LogFormat) {
    JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

/// The form of the log as command line and environment have it, before the configuration is read.
pub(crate) fn early_format(matches: &ArgMatches) -> LogFormat {
    let given = matches.get_one::<String>("log-format").cloned();
    let given = given.or_else(|| std::env::var("GIZER_LOG_FORMAT").ok());
    given.and_then(|format| format.parse().ok()).unwrap_or_default()
}

/// Starts the log. `-v` tells gizer's own doings, `-vv` details; `RUST_LOG` has the last word.
pub(crate) fn start(verbose: u8) {
    let person = verbose == 0 && std::io::stderr().is_terminal() && std::env::var_os("RUST_LOG").is_none();
    PERSON.store(person, Ordering::Relaxed);
    // A second start, as in tests, keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter(verbose))
        .with_writer(std::io::stderr)
        .with_ansi(sees_colours(&std::io::stderr()))
        .event_format(LogLines::default())
        .try_init();
}

fn filter(verbose: u8) -> EnvFilter {
    let default = match verbose {
        0 => format!("warn,{BATCH_TARGET}=info,{RUN_TARGET}=info"),
        1 => "gizer=info,gizer_cli=info,gizer_engine=info,gizer_oplog=info,gizer_pg=info,warn".to_owned(),
        _ => "gizer=debug,gizer_cli=debug,gizer_engine=debug,gizer_oplog=debug,gizer_pg=debug,info".to_owned(),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    match format!("{NOTE_TARGET}=info").parse() {
        Ok(notes) => filter.add_directive(notes),
        Err(_) => filter,
    }
}

/// Lines of the form that is asked for at the time.
#[derive(Debug)]
struct LogLines {
    text: Format<Full>,
    json: Format<Json>,
}

impl Default for LogLines {
    fn default() -> LogLines {
        let json = Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false);
        LogLines { text: Format::default(), json }
    }
}

impl<S, N> FormatEvent<S, N> for LogLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        match is_json() {
            true => self.json.format_event(context, writer, event),
            false => self.text.format_event(context, writer, event),
        }
    }
}
