//! `gizer schema infer`: reads documents and writes schema files.

use gizer_engine::infer::{InferReport, InferredSchema, NOTHING_SEEN, infer};
use gizer_schema::infer::{Crowded, Finding, MapSeen};
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
    for finding in findings.iter().filter(|finding| finding.crowded.is_none()) {
        report::note(format!("  {}", describe(collection, finding)));
    }
    for line in crowded(collection, findings) {
        report::note(format!("  {line}"));
    }
}

/// Paths that are named of those that became JSON for one reason.
const SHOWN_PATHS: usize = 10;

/// What became narrower for one reason.
struct Narrowed {
    why: Crowded,
    /// Paths that are JSON.
    json: Vec<String>,
    /// Values without a column.
    left_out: u64,
}

impl Narrowed {
    fn line(&self, collection: &str) -> String {
        let (too_many, remedy) = match self.why {
            Crowded::Tables(tables) => {
                let tables = report::thousands(tables as u64);
                (format!("there would be {tables} tables"), "more with --max-tables")
            }
            Crowded::Columns(columns) => {
                let columns = report::thousands(columns as u64);
                (format!("a table would have {columns} columns"), "more with --max-columns, up to 1,500")
            }
            Crowded::RowBytes(_) => (
                "a row would not fit into PostgreSQL's page of 8 kB".to_owned(),
                "a schema file by hand can choose others",
            ),
        };
        let mut chosen = Vec::new();
        if !self.json.is_empty() {
            let more = match self.json.len().saturating_sub(SHOWN_PATHS) {
                0 => String::new(),
                more => format!(" and {} more", report::thousands(more as u64)),
            };
            chosen.push(format!("JSON for {}{more}", self.json[..self.json.len().min(SHOWN_PATHS)].join(", ")));
        }
        if self.left_out > 0 {
            chosen.push(format!("no column for {}", counted(self.left_out, "value", "values")));
        }
        format!("{collection}: {too_many}; {} instead ({remedy})", chosen.join(", "))
    }
}

/// What was made narrower than the documents, in a line for each reason.
fn crowded(collection: &str, findings: &[Finding]) -> Vec<String> {
    let mut reasons: Vec<Narrowed> = Vec::new();
    for finding in findings {
        let Some(why) = finding.crowded else { continue };
        let at = reasons.iter().position(|reason| reason.why == why).unwrap_or(reasons.len());
        if at == reasons.len() {
            reasons.push(Narrowed { why, json: Vec::new(), left_out: 0 });
        }
        if finding.chosen == "JSON" {
            reasons[at].json.push(shortened(&finding.path).into_owned());
        }
        reasons[at].left_out += finding.names_beyond_limit;
    }
    reasons.iter().map(|reason| reason.line(collection)).collect()
}

fn describe(collection: &str, finding: &Finding) -> String {
    let name = shortened(&finding.path);
    if let Some(seen) = &finding.map {
        let MapSeen { names, objects, .. } = *seen;
        let (names, objects) = (counted(names, "name", "names"), counted(objects, "object", "objects"));
        let of = report::thousands(seen.names);
        return format!("{collection}.{name}: map, {names} in {objects}, {} of {of} each", names_each(seen));
    }
    if finding.names_beyond_limit > 0 || finding.names_not_utf8 > 0 {
        let path = if name.is_empty() { collection.to_owned() } else { format!("{collection}.{name}") };
        return format!("{path}: {}", describe_names(finding));
    }
    let seen: Vec<String> = finding
        .seen
        .iter()
        .map(|(kind, count)| format!("{} {}", report::thousands(*count), kind.report_name()))
        .collect();
    format!("{collection}.{name}: {} chosen, seen: {}", finding.chosen, seen.join(", "))
}

/// What became of names that are too many, or that no schema file can hold.
fn describe_names(finding: &Finding) -> String {
    let is_json = finding.chosen == "JSON";
    let (many, odd) = (finding.names_beyond_limit, finding.names_not_utf8);
    let mut names = Vec::new();
    if many > 0 && is_json {
        names.push(counted(many, "field name", "different field names"));
    } else if many > 0 {
        names.push(format!("{} of too many different names", counted(many, "field", "fields")));
    }
    if odd > 0 {
        names.push(counted(odd, "field with a name that is not UTF-8", "fields with names that are not UTF-8"));
    }
    let names = names.join(" and ");
    if is_json {
        return format!("{names}, so that it is kept as JSON");
    }
    let have = if many + odd == 1 { "has" } else { "have" };
    format!("{names} {have} no column")
}

/// How many names an object has, on average: one decimal below ten.
fn names_each(seen: &MapSeen) -> String {
    let each = seen.entries as f64 / seen.objects.max(1) as f64;
    let shown = if each < 9.95 { format!("{each:.1}") } else { report::thousands(each.round() as u64) };
    shown.trim_end_matches(".0").to_owned()
}

fn finding_json(finding: &Finding) -> Value {
    let seen: serde_json::Map<String, Value> =
        finding.seen.iter().map(|(kind, count)| (kind.report_name().to_owned(), json!(count))).collect();
    let mut object = json!({
        "path": finding.path, "chosen": finding.chosen, "seen": seen, "names_beyond_limit": finding.names_beyond_limit,
        "names_not_utf8": finding.names_not_utf8,
    });
    if let Some(MapSeen { names, objects, entries }) = finding.map {
        object["map"] = json!({"names": names, "objects": objects, "entries": entries});
    }
    if let Some(crowded) = finding.crowded {
        object["crowded"] = match crowded {
            Crowded::Tables(tables) => json!({"tables": tables}),
            Crowded::Columns(columns) => json!({"columns": columns}),
            Crowded::RowBytes(bytes) => json!({"row_bytes": bytes}),
        };
    }
    object
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use bson::doc;
    use gizer_schema::infer::Inference;
    use gizer_schema::raw::RawDoc;

    use super::*;

    #[test]
    fn names_that_are_not_utf_8_are_given_as_the_reason() {
        let mut bytes = doc! {"_id": 1, "a": {"good": 1, "odd": 2}, "odd": 3}.to_vec().unwrap();
        // No driver would write this; MongoDB stores it.
        for at in 0..bytes.len() - 3 {
            if &bytes[at..at + 3] == b"odd" {
                bytes[at] = 0xff;
            }
        }
        let mut inference = Inference::default();
        inference.observe(RawDoc::new(&bytes).unwrap()).unwrap();
        let (_, findings) = inference.schema("c");
        let lines: Vec<String> = findings.iter().map(|finding| describe("c", finding)).collect();
        let expected = [
            "c: 1 field with a name that is not UTF-8 has no column",
            "c.a: 1 field with a name that is not UTF-8, so that it is kept as JSON",
        ];
        assert_eq!(lines, expected);
        let of_a = finding_json(&findings[1]);
        assert_eq!((&of_a["path"], &of_a["chosen"]), (&json!("a"), &json!("JSON")));
        assert_eq!((&of_a["names_not_utf8"], &of_a["names_beyond_limit"]), (&json!(1), &json!(0)));
    }

    #[test]
    fn both_reasons_of_names_are_told() {
        let finding = |chosen| Finding {
            path: "a".to_owned(),
            chosen,
            seen: Vec::new(),
            names_beyond_limit: 1_100,
            names_not_utf8: 2,
            map: None,
            crowded: None,
        };
        let json =
            "c.a: 1,100 different field names and 2 fields with names that are not UTF-8, so that it is kept as JSON";
        assert_eq!(describe("c", &finding("JSON")), json);
        let columns =
            "c.a: 1,100 fields of too many different names and 2 fields with names that are not UTF-8 have no column";
        assert_eq!(describe("c", &finding("DOCUMENT")), columns);
    }
}
