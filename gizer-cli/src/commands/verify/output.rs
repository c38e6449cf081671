//! What `gizer verify` prints.

use gizer_engine::Failures;
use gizer_engine::audit::{AuditReport, Extent, VerifiedCollection};
use gizer_engine::due::CopyStandings;
use serde_json::{Value, json};

use crate::args::{Format, VerifyArgs};
use crate::exit::ExitCode;
use crate::ui::report::{self, thousands};

/// The outcome for a person, who takes *equal* for all there is.
fn outcome_text(verified: &VerifiedCollection) -> String {
    let outcome = verified.outcome();
    let found = verified.left.as_ref().unwrap_or(&verified.found);
    match outcome {
        "differs" => outcome.to_owned(),
        _ if found.not_compared > 0 => format!("{outcome}, as far as compared"),
        _ if found.rejected > 0 => format!("{outcome}, but for those rejected"),
        _ => outcome.to_owned(),
    }
}

fn as_json(verified: &VerifiedCollection) -> Value {
    let mut value = serde_json::to_value(&verified.found).unwrap_or_default();
    value["collection"] = json!(verified.name);
    value["kind"] = json!(verified.extent.name());
    value["state"] = json!(verified.outcome());
    value["seconds"] = json!(verified.took.as_secs_f64());
    let tables = verified.found.tables.iter().map(|(name, table)| {
        let mut value = serde_json::to_value(table).unwrap_or_default();
        value["table"] = json!(name);
        value
    });
    value["tables"] = tables.collect();
    if let Some(object) = value.as_object_mut() {
        object.remove("untold");
    }
    if let Some(left) = &verified.left {
        value["left"] = serde_json::to_value(left).unwrap_or_default();
    }
    value
}

/// Prints what was found: tables for people, or one object.
///
/// `standings` are those of all that is expected, if all of it was to be audited; gives how the process ends.
pub(super) fn print(
    format: Format,
    verified: &[VerifiedCollection],
    failures: &Failures,
    standings: Option<&CopyStandings>,
    args: &VerifyArgs,
) -> ExitCode {
    let exit = match failures.is_empty() {
        true if verified.iter().any(|each| !each.is_equal()) => ExitCode::Differs,
        true if standings.is_some_and(|standings| !standings.are_complete()) => ExitCode::NotAll,
        true => ExitCode::Done,
        false => report::exit(failures),
    };
    if format == Format::Json {
        let collections: Vec<Value> = verified.iter().map(as_json).collect();
        let mut value = json!({"collections": collections, "exit_code": exit as u8});
        if let Some(standings) = standings {
            value["missing"] = report::missing_json(standings);
        }
        report::add_failures(failures, &mut value);
        report::json(&value);
    } else if !verified.is_empty() {
        report::text(&summary(verified));
        for each in verified {
            report::text(&report::lines(&details(each, args)));
        }
    }
    report::failures(failures);
    if let Some(standings) = standings {
        report::missing(standings);
    }
    exit
}

fn summary(verified: &[VerifiedCollection]) -> String {
    let header = [
        "collection",
        "documents",
        "rows",
        "equal",
        "different",
        "only in MongoDB",
        "only in PostgreSQL",
        "rejected",
        "not compared",
        "time",
        "",
    ];
    let numbers = &header[1..10];
    let row = |each: &VerifiedCollection| {
        let AuditReport {
            documents,
            rows,
            equal,
            different,
            only_in_mongodb,
            only_in_postgresql,
            rejected,
            not_compared,
            ..
        } = &each.found;
        let mut row = vec![each.name.clone()];
        let counts = [documents, rows, equal, different, only_in_mongodb, only_in_postgresql, rejected, not_compared];
        row.extend(counts.map(|count| thousands(*count)));
        row.push(format!("{:.1} s", each.took.as_secs_f64()));
        row.push(outcome_text(each));
        row
    };
    report::table(&header, numbers, verified.iter().map(row))
}

/// A row for each table in which something differs.
fn differing_tables(found: &AuditReport) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (name, table) in &found.tables {
        if table.missing + table.left_over + table.repeated == 0 && table.cells.is_empty() {
            continue;
        }
        let cells: Vec<String> =
            table.cells.iter().map(|(column, count)| format!("{column} {}", thousands(*count))).collect();
        let mut row = vec![name.clone()];
        row.extend([table.rows, table.missing, table.left_over, table.repeated].map(thousands));
        row.push(cells.join(", "));
        rows.push(row);
    }
    rows
}

/// What differs, and what else is to be known.
fn details(each: &VerifiedCollection, args: &VerifyArgs) -> String {
    let mut text = String::new();
    let found = &each.found;
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    if let Some(proven) = &found.proven {
        let what = if each.extent == Extent::Full { "all documents" } else { "a sample of the documents" };
        let when = report::stretch(proven.from, proven.until);
        line(format!("\n{}: {what} compared, as of {when}", report::printable(&each.name)));
    }
    if found.not_compared > 0 {
        line(format!(
            "  {} changed since the tables were brought up to date: the next `gizer sync` compares them",
            report::counted(found.not_compared, "document has", "documents have")
        ));
    }
    let tables = differing_tables(found);
    if !tables.is_empty() {
        let header = ["table", "rows", "missing", "left over", "repeated", "rows with another value, by column"];
        line(report::table(&header, &header[1..5], tables).trim_end().to_owned());
    }
    for difference in &found.differences {
        line(format!("  {}", difference.described()));
    }
    if found.more > 0 {
        line(format!("  and {} more (--differences N names more of them)", thousands(found.more)));
    }
    match &each.left {
        None if !found.is_equal() && !args.repair => {
            line(format!("  `{}` makes them equal", report::command("verify", [&each.name], &["--repair"])));
        }
        Some(left) if !left.is_equal() => {
            line("  after the repair these still differ, or differ again:".to_owned());
            for difference in &left.differences {
                line(format!("  {}", difference.described()));
            }
        }
        Some(_) => line(format!(
            "  repaired: {}",
            report::counted(found.repaired, "document is equal now", "documents are equal now")
        )),
        None => {}
    }
    text
}
