//! `gizer resync`: tables are made equal to the documents in place, and followed again.

use gizer_engine::Failures;
use gizer_engine::resync::{ResyncOptions, ResyncedCollection, resync};
use serde_json::{Value, json};

use super::Context;
use crate::args::{Format, ResyncArgs};
use crate::exit::{ExitCode, Failure};
use crate::ui::report::{self, counted, thousands};

/// Resyncs the collections, one after the other.
///
/// # Errors
/// [`Failure`] if there is nothing to resync. What becomes of single collections is printed.
pub async fn run(context: &Context, args: &ResyncArgs) -> Result<ExitCode, Failure> {
    let ResyncArgs { collections, restart, differences } = args;
    let options =
        ResyncOptions { collections: collections.clone(), restart: *restart, named: *differences, empties_gone: false };
    let (resynced, failures) = resync(&context.env, &options).await?;
    print(context.format, &resynced, &failures);
    Ok(report::exit(&failures))
}

/// Prints what was resynced, and what was not.
pub(super) fn print(format: Format, resynced: &[ResyncedCollection], failures: &Failures) {
    match format {
        Format::Text => {
            if !resynced.is_empty() {
                report::text(&summary(resynced));
                resynced.iter().map(line).for_each(|line| report::text(&line));
            }
            let named = resynced.iter().flat_map(|each| &each.found.differences);
            named.for_each(|each| report::note(each.described()));
            resynced.iter().flat_map(|each| report::unfit_lines(&each.unfit, &each.name)).for_each(report::note);
        }
        Format::Json => report::json(&as_json(resynced, failures)),
    }
    report::failures(failures);
}

/// One object of all that became of them.
pub(super) fn as_json(resynced: &[ResyncedCollection], failures: &Failures) -> Value {
    let mut object = json!({"collections": resynced.iter().map(collection).collect::<Vec<Value>>()});
    report::add_failures(failures, &mut object);
    object
}

fn collection(each: &ResyncedCollection) -> Value {
    let table = |(name, rows): &(String, u64)| json!({"name": name, "rows": rows});
    let mut object = json!({
        "name": each.name,
        "documents": each.found.documents,
        "rows": each.found.rows,
        "equal": each.found.equal,
        "different": each.found.different,
        "only_in_mongodb": each.found.only_in_mongodb,
        "only_in_postgresql": each.found.only_in_postgresql,
        "rejected": each.ledger.rejected,
        "rows_inserted": each.written.inserted,
        "rows_updated": each.written.updated,
        "rows_deleted": each.written.deleted,
        "differences": each.found.without_values().differences,
        "differences_not_named": each.found.more,
        "tables": each.tables.iter().map(table).collect::<Vec<Value>>(),
        "bytes": each.bytes,
        "seconds": each.took.as_secs_f64(),
    });
    report::add_unfit(&each.unfit, &mut object);
    object
}

fn summary(resynced: &[ResyncedCollection]) -> String {
    let header = ["collection", "documents", "rows", "differed", "rows written", "rejected", "read", "time", "docs/s"];
    let row = |each: &ResyncedCollection| {
        let seconds = each.took.as_secs_f64();
        let written = each.written.inserted + each.written.updated + each.written.deleted;
        vec![
            each.name.clone(),
            thousands(each.found.documents),
            thousands(each.found.rows),
            thousands(each.found.differing()),
            thousands(written),
            thousands(each.ledger.rejected),
            report::bytes(each.bytes),
            format!("{seconds:.1} s"),
            thousands((each.read_now as f64 / seconds.max(0.001)) as u64),
        ]
    };
    report::table(&header, &header[1..], resynced.iter().map(row))
}

/// `orders: 10 differed, 2 were missing, 1 was left over: brought up to date, and followed again`.
fn line(each: &ResyncedCollection) -> String {
    let found = &each.found;
    let emptied = each.written.deleted;
    let what = if found.is_equal() && found.documents == 0 && emptied > 0 {
        format!("{} of no document deleted", counted(emptied, "row", "rows"))
    } else if found.is_equal() {
        "all rows were equal".to_owned()
    } else {
        format!(
            "{}, {} without rows, {} of rows without a document",
            counted(found.different, "document differed", "documents differed"),
            thousands(found.only_in_mongodb),
            counted(found.only_in_postgresql, "key", "keys")
        )
    };
    format!(" {}: {what}; equal now, and followed again\n", report::printable(&each.name))
}
