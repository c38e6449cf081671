//! `gizer schema evolve`: gives columns to fields that came after the load.

use gizer_engine::Failures;
use gizer_engine::evolve::{EvolveOptions, EvolvedCollection, evolve};
use gizer_schema::infer::Widened;
use gizer_schema::names::shortened;
use serde_json::{Value, json};

use crate::args::{EvolveArgs, Format};
use crate::commands::Context;
use crate::exit::{ExitCode, Failure};
use crate::ui::report::{self, counted};

/// Lets schemas grow, or tells what would be done.
///
/// # Errors
/// [`Failure`] if it cannot be done for any collection. What becomes of single collections is printed.
pub(super) async fn run(context: &Context, args: &EvolveArgs) -> Result<ExitCode, Failure> {
    let EvolveArgs { collections, dry_run } = args;
    let options = EvolveOptions { collections: collections.clone(), dry_run: *dry_run, ..EvolveOptions::default() };
    let (evolved, failures) = evolve(&context.env, &options).await?;
    if context.format == Format::Json {
        report::json(&as_json(&evolved, &failures));
    } else {
        // What has grown was reported when it had.
        evolved.iter().filter(|each| each.version.is_none()).for_each(|each| print_not_grown(each, *dry_run));
    }
    report::failures(&failures);
    Ok(report::exit(&failures))
}

/// Says how a schema has grown.
pub(crate) fn print(evolved: &EvolvedCollection) {
    let name = report::printable(&evolved.collection);
    let version = evolved.version.unwrap_or_default();
    let what = match evolved.resumed {
        true => "is done growing".to_owned(),
        false => format!("has grown by {}", grown_by(evolved)),
    };
    report::text(&format!(
        "{name}: its schema {what} (version {version}); {} rewritten in {}, {:.1} s\n",
        counted(evolved.rows, "row", "rows"),
        counted(evolved.documents, "document", "documents"),
        evolved.took.as_secs_f64()
    ));
    print_fields(evolved);
}

/// `3 fields and 1 wider column`.
fn grown_by(evolved: &EvolvedCollection) -> String {
    let fields = counted(evolved.adopted.len() as u64, "field", "fields");
    let columns = counted(evolved.widened.len() as u64, "wider column", "wider columns");
    match (evolved.adopted.is_empty(), evolved.widened.is_empty()) {
        (false, false) => format!("{fields} and {columns}"),
        (true, false) => columns,
        _ => fields,
    }
}

fn print_not_grown(evolved: &EvolvedCollection, dry_run: bool) {
    let name = report::printable(&evolved.collection);
    if evolved.adopted.is_empty() && evolved.widened.is_empty() {
        report::text(&format!("{name}: no field to give a column, and no column to widen\n"));
        return print_fields(evolved);
    }
    let would = if dry_run { "would grow by" } else { "could not grow before, and is left alone:" };
    report::text(&format!("{name}: its schema {would} {}\n", grown_by(evolved)));
    print_fields(evolved);
    if !dry_run {
        return;
    }
    if !evolved.statements.is_empty() {
        report::text(&format!(
            "\n-- at once, under a lock that readers wait for: ACCESS EXCLUSIVE, 0.2 s at most\n{};\n",
            evolved.statements.join(";\n")
        ));
        report::text(&format!(
            "-- then rows of {} that have such a field in _extra are rewritten; readers do not wait\n",
            evolved.tables.join(", ")
        ));
    }
    if !evolved.swap_statements.is_empty() {
        let is_made = |sql: &&String| sql.starts_with("CREATE");
        let (made, swapped): (Vec<&String>, Vec<&String>) = evolved.swap_statements.iter().partition(is_made);
        report::text(&format!("\n-- tables with wider columns; readers do not wait\n{};\n", joined(&made)));
        report::text(&format!(
            "-- filled from the live rows, with their keys and indexes; then at once, under a lock that readers wait for:\n\
             -- ACCESS EXCLUSIVE, 0.2 s at most\n{};\n",
            joined(&swapped)
        ));
    }
}

fn joined(statements: &[&String]) -> String {
    let statements: Vec<&str> = statements.iter().map(|sql| sql.as_str()).collect();
    statements.join(";\n")
}

/// What got a place, and what has none.
fn print_fields(evolved: &EvolvedCollection) {
    for adopted in &evolved.adopted {
        let documents = counted(adopted.documents, "document", "documents");
        report::note(format!(
            "  {}.{}: {}, in {documents}",
            evolved.collection,
            shortened(&adopted.path),
            adopted.chosen
        ));
    }
    for Widened { path, from, to, documents } in &evolved.widened {
        let documents = counted(*documents, "document does", "documents do");
        let path = shortened(path);
        report::note(format!("  {}.{path}: {from} becomes {to}, {documents} not fit it", evolved.collection));
    }
    for left in evolved.left.iter().take(SHOWN_LEFT) {
        let documents = counted(left.documents, "document", "documents");
        let path = shortened(&left.path);
        report::note(format!("  {}.{path}: stays in _extra, in {documents}: {}", evolved.collection, left.why));
    }
    if evolved.unreadable > 0 {
        let rows = counted(evolved.unreadable, "row", "rows");
        report::warning(format!(
            "{}: {rows} with an _extra that gizer did not write, left out; run `gizer verify`",
            evolved.collection
        ));
    }
    if let more @ 1.. = evolved.left.len().saturating_sub(SHOWN_LEFT) {
        report::note(format!("  and {} more that stay in _extra", report::thousands(more as u64)));
    }
}

/// Fields that are named of those that stay.
const SHOWN_LEFT: usize = 10;

/// For machines.
pub(crate) fn as_json(evolved: &[EvolvedCollection], failures: &Failures) -> Value {
    let one = |each: &EvolvedCollection| {
        let adopted: Vec<Value> = each
            .adopted
            .iter()
            .map(|adopted| json!({"path": adopted.path, "chosen": adopted.chosen, "documents": adopted.documents}))
            .collect();
        let widened = each.widened.iter().map(|Widened { path, from, to, documents }| {
            json!({"path": path, "from": from.to_string(), "chosen": to.to_string(), "documents": documents})
        });
        let widened: Vec<Value> = widened.collect();
        let left: Vec<Value> = each
            .left
            .iter()
            .map(|left| json!({"path": left.path, "documents": left.documents, "why": left.why.to_string()}))
            .collect();
        json!({
            "name": each.collection, "version": each.version, "adopted": adopted, "widened": widened, "left": left,
            "unreadable_rows": each.unreadable, "sql": each.statements, "swap_sql": each.swap_statements,
            "tables": each.tables, "documents": each.documents, "rows": each.rows,
        })
    };
    let mut object = json!({"collections": evolved.iter().map(one).collect::<Vec<_>>()});
    report::add_failures(failures, &mut object);
    object
}
