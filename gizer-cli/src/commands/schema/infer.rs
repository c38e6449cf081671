//! `gizer schema infer`: reads documents and writes schema files.

use gizer_engine::infer::{InferReport, InferredSchema, NOTHING_SEEN, infer};
use gizer_schema::infer::Finding;
use gizer_schema::names::shortened;
use serde_json::{Value, json};

use crate::args::{Format, InferArgs};
use crate::commands::Context;
use crate::exit::{ExitCode, Failure};
use crate::ui::report::{self, counted};

/// Infers and writes the schemas.
///
/// # Errors
/// [`Failure`] if a collection that was named has a file already, or nothing can be read at all. What becomes of single
/// collections is printed.
pub(super) async fn run(context: &Context, args: &InferArgs) -> Result<ExitCode, Failure> {
    let mut inferred = infer(&context.env, &args.options()).await?;
    for name in &inferred.empty {
        if args.collections.is_empty() {
            report::note(format!("skipped {name}: {NOTHING_SEEN}"));
        } else {
            let remedy = "infer it when it has documents, or write its schema file by hand";
            inferred.failures.add(name, Failure::failed(NOTHING_SEEN).remedy(remedy));
        }
    }
    if context.format == Format::Json {
        report::json(&as_json(&inferred));
    }
    report::failures(&inferred.failures);
    Ok(report::exit(&inferred.failures))
}

/// For machines: what became of the collections.
pub(crate) fn as_json(inferred: &InferReport) -> Value {
    let skipped = inferred.skipped.iter().map(|(name, reason)| json!({"name": name, "reason": reason}));
    let written = inferred.written.iter().map(|each| {
        let findings: Vec<Value> = each.findings.iter().map(finding_json).collect();
        json!({"name": each.collection, "documents": each.documents, "file": each.file, "findings": findings})
    });
    let (written, skipped): (Vec<Value>, Vec<Value>) = (written.collect(), skipped.collect());
    let mut object = json!({"collections": written, "skipped": skipped});
    report::add_failures(&inferred.failures, &mut object);
    object
}

/// Says that a schema file was written, and what was chosen in it.
pub(crate) fn print(written: &InferredSchema) {
    let InferredSchema { collection, documents, file, findings } = written;
    let documents = counted(*documents, "document", "documents");
    let (shown, file) = (report::printable(collection), file.display().to_string());
    report::text(&format!("{shown}: {documents} → {}\n", report::printable(&file)));
    findings.iter().for_each(|finding| report::note(format!("  {}", describe(collection, finding))));
}

fn describe(collection: &str, finding: &Finding) -> String {
    let name = shortened(&finding.path);
    if finding.names_beyond_limit > 0 {
        let path = if name.is_empty() { collection.to_owned() } else { format!("{collection}.{name}") };
        if finding.chosen == "JSON" {
            let names = counted(finding.names_beyond_limit, "field name", "different field names");
            return format!("{path}: {names}, so that it is kept as JSON");
        }
        let fields = counted(finding.names_beyond_limit, "field", "fields");
        return format!("{path}: {fields} of too many different names have no column");
    }
    let seen: Vec<String> = finding
        .seen
        .iter()
        .map(|(kind, count)| format!("{} {}", report::thousands(*count), kind.report_name()))
        .collect();
    format!("{collection}.{name}: {} chosen, seen: {}", finding.chosen, seen.join(", "))
}

fn finding_json(finding: &Finding) -> Value {
    let seen: serde_json::Map<String, Value> =
        finding.seen.iter().map(|(kind, count)| (kind.report_name().to_owned(), json!(count))).collect();
    json!({
        "path": finding.path, "chosen": finding.chosen, "seen": seen, "names_beyond_limit": finding.names_beyond_limit,
    })
}
