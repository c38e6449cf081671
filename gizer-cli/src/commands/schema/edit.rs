//! `gizer schema merge`, `patch` and `tables`: what the classic tool's helpers did with schema files.

use std::io::Read;
use std::path::Path;

use gizer_schema::edit::{self, TypeChange, WrongValue};
use gizer_schema::{Schema, file};
use serde_json::{Value, json};

use super::layouts;
use crate::args::{Format, MergeArgs, PatchArgs, TablesArgs};
use crate::commands::Context;
use crate::exit::{ExitCode, Failure};
use crate::ui::report;
use gizer_engine::schema_files;

/// Takes types over from one schema file into another.
///
/// # Errors
/// [`Failure`] if a file cannot be read, is no schema, or cannot be written.
pub(super) fn merge(context: &Context, args: &MergeArgs) -> Result<ExitCode, Failure> {
    let mut primary = read(&args.primary)?;
    let secondary = read(&args.secondary)?;
    let changes = edit::merge(&mut primary, &secondary);
    write(args.output.as_deref().unwrap_or(&args.primary), &primary)?;
    print_changes(context, &changes, &[]);
    Ok(ExitCode::Done)
}

/// Sets types by a load's report of values that did not fit.
///
/// # Errors
/// [`Failure`] if a file cannot be read or written, or nothing in the report could be followed.
pub(super) fn patch(context: &Context, args: &PatchArgs) -> Result<ExitCode, Failure> {
    let mut schema = read(&args.schema)?;
    let report = read_report(&args.report)?;
    let wrong: Vec<WrongValue> = wrong_values(&report, &schema.collection);
    if wrong.is_empty() {
        return Err(Failure::usage(format!("{}: no line says `wrong value (TYPE) for …`", args.report.display()))
            .remedy("give the warnings of a load, or what `gizer load --format json` printed"));
    }
    let patched = edit::patch(&mut schema, &wrong);
    write(args.output.as_deref().unwrap_or(&args.schema), &schema)?;
    print_changes(context, &patched.changes, &patched.refused);
    if patched.changes.is_empty() && !patched.refused.is_empty() {
        return Err(Failure::failed("nothing could be patched"));
    }
    Ok(ExitCode::Done)
}

/// Prints the names of the tables that follow from schema files.
///
/// # Errors
/// [`Failure`] if a schema file is missing or wrong.
pub(super) fn tables(context: &Context, args: &TablesArgs) -> Result<ExitCode, Failure> {
    let layouts = layouts(context, &args.collections)?;
    let tables = layouts.iter().flat_map(|layout| &layout.tables);
    let names: Vec<&str> = tables.map(|table| table.name.as_str()).collect();
    match context.format {
        Format::Text => {
            let shown: Vec<String> = names.iter().map(|name| report::printable(name)).collect();
            report::text(&(shown.join(&unescaped(&args.delimiter)) + "\n"));
        }
        Format::Json => report::json(&json!({"tables": names})),
    }
    Ok(ExitCode::Done)
}

/// `\n` and `\t` as a person types them.
fn unescaped(delimiter: &str) -> String {
    delimiter.replace("\\n", "\n").replace("\\t", "\t")
}

fn read(path: &Path) -> Result<Schema, Failure> {
    let failed = |problem: &dyn std::fmt::Display| Failure::usage(format!("{}: {problem}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let collection = schema_files::collection_of(path);
    file::parse(&collection, &text).map_err(|error| failed(&error))
}

fn write(path: &Path, schema: &Schema) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let unfinished = path.with_extension("json.new");
    std::fs::write(&unfinished, file::write(schema)).map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)
}

fn read_report(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// From lines of warnings, or from the JSON of `gizer load`.
fn wrong_values(report: &str, collection: &str) -> Vec<WrongValue> {
    let Ok(json) = serde_json::from_str::<Value>(report) else {
        return report.lines().filter_map(WrongValue::parse).collect();
    };
    let collections = json["collections"].as_array().into_iter().flatten();
    let of_this = collections.filter(|each| each["name"] == collection);
    let mismatches = of_this.flat_map(|each| each["mismatches"].as_array().into_iter().flatten());
    let wrong = mismatches.filter_map(|mismatch| {
        Some(WrongValue {
            path: format!("{collection}.{}", mismatch["path"].as_str()?),
            actual: mismatch["actual"].as_str()?.to_owned(),
            expected: mismatch["expected"].as_str()?.to_owned(),
            count: mismatch["count"].as_u64()?,
        })
    });
    wrong.collect()
}

fn print_changes(context: &Context, changes: &[TypeChange], refused: &[(WrongValue, String)]) {
    match context.format {
        Format::Text => {
            let lines: String = changes.iter().map(|change| format!("{change}\n")).collect();
            report::text(if lines.is_empty() { "nothing has changed\n" } else { &lines });
            for (wrong, reason) in refused {
                report::note(format!("left as it is: {}: {reason}", wrong.path));
            }
        }
        Format::Json => {
            let change = |change: &TypeChange| json!({"path": change.path, "from": change.from, "to": change.to});
            let refusal = |(wrong, reason): &(WrongValue, String)| json!({"path": wrong.path, "reason": reason});
            report::json(&json!({
                "changes": changes.iter().map(change).collect::<Vec<Value>>(),
                "refused": refused.iter().map(refusal).collect::<Vec<Value>>(),
            }));
        }
    }
}
