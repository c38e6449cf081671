//! `gizer status`: the state of collections, tables and runs.

mod audits;
mod check;
mod schemas;
mod source;
mod unfit;

use gizer_flatten::change::Positions;
use gizer_oplog::position_json;
use gizer_pg::state::{self, CollectionStatus, HistoryRow, RunRow, Status};
use serde_json::{Value, json};

use super::Context;
use crate::args::{Format, StatusArgs};
use crate::exit::{ExitCode, Failure, failure_json};
use crate::ui::report::{self, thousands};
use gizer_engine::due::{CopyStanding, CopyStandings, StandingKind};
use gizer_schema::names::shortened;
pub(crate) use schemas::Grown;
use source::OplogStatus;
pub(crate) use unfit::Misplaced;
use unfit::section;

/// Reads the state tables and prints what they say.
///
/// # Errors
/// [`Failure`] if PostgreSQL cannot be read, or a collection that was named is not known.
pub async fn run(context: &Context, args: &StatusArgs) -> Result<ExitCode, Failure> {
    let read = async {
        let session = context.env.postgres().await?;
        // The last run is looked at, even if it is not shown.
        let status = state::read_status(&session, args.runs.max(1)).await?.unwrap_or_default();
        let source = OplogStatus::ask(context, &status, &state::read_followed(&session).await?).await;
        let grown = Grown::read(&session, &context.env).await?;
        Ok((status, source, Misplaced::read(&session).await?, grown))
    };
    let (mut status, source, mut misplaced, mut grown) = context.env.stop.or_done(read).await?;
    let mut standings = CopyStandings::recorded(&context.env, &status)?;
    if !args.collections.is_empty() {
        let is_known = |name: &str| {
            status.collections.iter().any(|known| known.collection == name)
                || standings.0.iter().any(|(expected, _)| expected == name)
        };
        if let Some(name) = args.collections.iter().find(|name| !is_known(name)) {
            return Err(Failure::failed(format!("nothing is known of the collection {}", shortened(name)))
                .remedy(format!("run `{}`", report::command("load", [shortened(name)], &[]))));
        }
        status.collections.retain(|collection| args.collections.contains(&collection.collection));
        misplaced.retain(&args.collections);
        grown.retain(&args.collections);
        standings.0.retain(|(name, _)| args.collections.contains(name));
        for rows in [&mut status.repairs, &mut status.reloads] {
            rows.retain(|row| args.collections.contains(&row.collection));
        }
    }
    let warnings = args.check.then(|| check::warnings(&status, &source, &standings, args.limits));
    status.runs.truncate(args.runs as usize);
    match (context.format, &warnings) {
        (Format::Json, _) => {
            report::json(&as_json(&status, &source, &standings, (&misplaced, &grown), warnings.as_deref()));
        }
        (Format::Text, None) => {
            report::text(&report::lines(&as_text(&status, &source, &standings, (&misplaced, &grown))));
        }
        (Format::Text, Some(warnings)) if warnings.is_empty() => report::text("ok\n"),
        (Format::Text, Some(warnings)) => {
            let line = |warning: &String| format!("warning: {}\n", report::printable(warning));
            report::text(&warnings.iter().map(line).collect::<String>());
        }
    }
    Ok(if warnings.is_some_and(|warnings| !warnings.is_empty()) { ExitCode::Warning } else { ExitCode::Done })
}

fn as_text(
    status: &Status,
    source: &OplogStatus,
    standings: &CopyStandings,
    (misplaced, grown): (&Misplaced, &Grown),
) -> String {
    if status.collections.is_empty() && status.runs.is_empty() && standings.0.is_empty() {
        return "nothing has been loaded yet: run `gizer schema infer`, then `gizer load`\n".to_owned();
    }
    let mut text = match status.collections.is_empty() {
        true => String::new(),
        false => collections(&status.collections),
    };
    let is_shown = |name: &str| not_followed(standings).any(|(shown, _)| shown == name);
    for each in status.collections.iter().filter(|each| !is_shown(&each.collection) && each.resync.is_none()) {
        if let Some(reason) = &each.reason {
            text.push_str(&format!("{}: {reason}\n", each.collection));
        }
    }
    text.push_str(&not_copied(standings));
    if !status.stream.is_empty() {
        text.push_str(&format!("\n{}\n", standing(status)));
        if let Some(verified) = &status.verified_up_to {
            text.push_str(&format!("verified up to {}\n", report::positions(verified)));
        }
        text.push_str(&source.text());
    }
    text.push_str(&audits::text(&status.collections));
    text.push_str(&misplaced.rejects_text());
    text.push_str(&unfit(&status.collections));
    text.push_str(&misplaced.unfit_text());
    text.push_str(&grown.text());
    for (title, rows) in [("documents repaired", &status.repairs), ("collections reloaded", &status.reloads)] {
        if !rows.is_empty() {
            text.push_str(&format!("\n{title}\n{}", history(rows)));
        }
    }
    if !status.runs.is_empty() {
        text.push_str("\nlast runs\n");
        text.push_str(&runs(&status.runs));
    }
    text
}

fn not_followed(standings: &CopyStandings) -> impl Iterator<Item = &(String, CopyStanding)> {
    let is_as_wanted = |kind| matches!(kind, StandingKind::Followed | StandingKind::Copy);
    standings.0.iter().filter(move |(_, standing)| !is_as_wanted(standing.kind))
}

/// What is expected and not followed, with what can be done; nothing if all is.
fn not_copied(standings: &CopyStandings) -> String {
    let row = |(name, standing): &(String, CopyStanding)| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let why = match &standing.remedy {
            Some(remedy) => format!("{} ({remedy})", text(&standing.reason)),
            None => text(&standing.reason),
        };
        vec![name.clone(), standing.kind.to_string(), text(&standing.since), text(&standing.next_try), why]
    };
    let rows: Vec<Vec<String>> = not_followed(standings).map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\nnot followed\n{}", report::table(&["collection", "standing", "since", "next try", "why"], &[], rows))
}

/// How the tables of all that is followed stand to MongoDB.
fn standing(status: &Status) -> String {
    let at = report::positions(&status.stream);
    let when = status.updated_at.as_ref().map(|when| format!(" (recorded {when})")).unwrap_or_default();
    match (status.applied, status.ahead) {
        (false, _) => format!("changes are to be followed from {at}"),
        (true, None) => format!("up to date as of {at}{when}"),
        (true, Some(ahead)) => {
            let exact = match &status.exact_at {
                Some(exact_at) => format!("; last exact at {}", report::positions(exact_at)),
                None => String::new(),
            };
            let ahead = report::utc(ahead);
            format!("catching up: changes are applied up to {at}{when}, exact from {ahead} on{exact}")
        }
    }
}

fn collections(collections: &[CollectionStatus]) -> String {
    let header = ["collection", "state", "table", "rows (estimate)", "documents", "rejected", "loaded"];
    let numbers = ["rows (estimate)", "documents", "rejected"];
    let mut rows = Vec::new();
    for each in collections {
        let mut first = vec![each.collection.clone(), state_text(each), String::new(), String::new()];
        first.push(each.ledger.as_ref().map(|ledger| thousands(ledger.loaded)).unwrap_or_default());
        first.push(thousands(each.rejected));
        first.push(each.loaded_at.clone().unwrap_or_else(|| "never".to_owned()));
        for (i, table) in each.tables.iter().enumerate() {
            let mut row = if i == 0 { std::mem::take(&mut first) } else { vec![String::new(); header.len()] };
            row[2].clone_from(&table.name);
            row[3] = table.estimate.map_or_else(|| "not there".to_owned(), thousands);
            rows.push(row);
        }
        if !first.is_empty() {
            rows.push(first);
        }
    }
    report::table(&header, &numbers, rows)
}

/// What did not fit into its column when it was loaded; nothing if all did.
fn unfit(collections: &[CollectionStatus]) -> String {
    let of = |each: &CollectionStatus| -> Vec<(String, u64)> {
        each.ledger.iter().flat_map(|ledger| ledger.unfit.clone()).collect()
    };
    let mut all: Vec<(String, u64)> = collections.iter().flat_map(of).collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rows = all.into_iter().map(|(what, count)| vec![what, thousands(count)]).collect();
    section("values that did not fit, at the last load", &["what", "times"], &["times"], rows)
}

fn state_text(collection: &CollectionStatus) -> String {
    let state = collection.state.name();
    if collection.resync.is_some() {
        return if collection.loading_now { "resyncing" } else { "resync interrupted" }.to_owned();
    }
    match (collection.loading_now, collection.live) {
        (true, true) => format!("{state}, reloading"),
        _ => state.to_owned(),
    }
}

fn history(rows: &[HistoryRow]) -> String {
    let row =
        |row: &HistoryRow| vec![row.collection.clone(), row.reason.clone(), thousands(row.count), row.last_at.clone()];
    report::table(&["collection", "reason", "times", "last"], &["times"], rows.iter().map(row))
}

fn runs(runs: &[RunRow]) -> String {
    let row = |run: &RunRow| {
        let result = match (&run.ended, run.error, &run.reason) {
            (None, _, _) => "running, or died".to_owned(),
            (Some(_), Some(true), reason) => format!("load due: {}", reason.as_deref().unwrap_or("")),
            (Some(_), _, Some(reason)) => format!("failed: {reason}"),
            _ => "done".to_owned(),
        };
        vec![
            run.started.clone().unwrap_or_default(),
            run.ended.clone().unwrap_or_default(),
            run.comment.clone().unwrap_or_default(),
            run.records.map(|records| thousands(u64::try_from(records).unwrap_or_default())).unwrap_or_default(),
            result,
        ]
    };
    report::table(&["started", "ended", "what", "records", "result"], &["records"], runs.iter().map(row))
}

/// The version of the object's shape, which `docs/status.md` promises.
const JSON_VERSION: u32 = 1;

fn as_json(
    status: &Status,
    source: &OplogStatus,
    standings: &CopyStandings,
    (misplaced, grown): (&Misplaced, &Grown),
    warnings: Option<&[String]>,
) -> Value {
    let silent = match source {
        OplogStatus::Silent(failure) => Some(failure_json(failure)),
        OplogStatus::NotAsked | OplogStatus::Told(_) => None,
    };
    let mut object = json!({
        "version": JSON_VERSION,
        "collections": status.collections.iter().map(|each| collection_json(each, misplaced, grown)).collect::<Vec<Value>>(),
        "expected": report::standings_json(standings),
        "stream": {
            "position": positions_json(&status.stream), "applied": status.applied, "updated_at": status.updated_at,
            "exact_at": status.exact_at.as_ref().map(positions_json),
            "ahead": status.ahead.map(|ahead| ahead.to_string()),
        },
        "runs": status.runs.iter().map(run_json).collect::<Vec<Value>>(),
        "verified_up_to": status.verified_up_to.as_ref().map(positions_json),
        "repairs": status.repairs.iter().map(history_json).collect::<Vec<Value>>(),
        "reloads": status.reloads.iter().map(history_json).collect::<Vec<Value>>(),
        "oplogs": source.json(), "oplogs_error": silent,
    });
    if let Some(warnings) = warnings {
        object["warnings"] = warnings.into();
    }
    object
}

fn collection_json(each: &CollectionStatus, misplaced: &Misplaced, grown: &Grown) -> Value {
    let tables: Vec<Value> =
        each.tables.iter().map(|table| json!({"name": table.name, "rows_estimate": table.estimate})).collect();
    let ledger = each.ledger.as_ref().map(|ledger| {
        json!({
            "read": ledger.read, "loaded": ledger.loaded, "rejected": ledger.rejected, "filtered": ledger.filtered,
            "rows": ledger.rows, "unfit": ledger.unfit, "seconds": ledger.millis.map(|millis| millis as f64 / 1e3),
            "resync_seconds": ledger.resync_millis.map(|millis| millis as f64 / 1e3),
        })
    });
    json!({
        "name": each.collection, "namespace": each.namespace, "state": each.state.name(), "live": each.live,
        "loading_now": each.loading_now, "reason": each.reason, "tables": tables, "rejected": each.rejected,
        "loaded_at": each.loaded_at, "captured": each.captured.as_ref().map(positions_json),
        "exact_at": each.exact_at.as_ref().map(positions_json), "ledger": ledger,
        "reject_reasons": misplaced.rejects_json(&each.collection), "unfit": misplaced.unfit_json(&each.collection),
        "schema_versions": grown.json(&each.collection), "adoptable": grown.adoptable_json(&each.collection),
        "resync": each.resync.map(|resync| {
            json!({"documents": resync.documents, "rows": resync.rows, "differed": resync.differed})
        }),
        "last_full_audit": audits::last_full_json(each), "unfinished_audit": audits::unfinished_json(each),
    })
}

fn positions_json(positions: &Positions) -> Value {
    positions.iter().map(|(name, at)| (name.clone(), position_json(at))).collect::<serde_json::Map<_, _>>().into()
}

fn history_json(row: &HistoryRow) -> Value {
    json!({"collection": row.collection, "reason": row.reason, "count": row.count, "last_at": row.last_at})
}

fn run_json(run: &RunRow) -> Value {
    json!({
        "run": run.run, "status": run.status, "comment": run.comment, "started": run.started, "ended": run.ended,
        "ts": run.ts, "records": run.records, "queries": run.queries, "error": run.error, "reason": run.reason,
    })
}
