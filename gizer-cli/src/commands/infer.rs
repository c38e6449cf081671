//! `gizer schema infer`: reads documents and writes schema files.

use std::sync::Arc;

use gizer_oplog::{Cluster, Collection, CollectionScan, Portion, ScanOptions};
use gizer_schema::Layout;
use gizer_schema::infer::{Finding, Inference};
use serde_json::{Value, json};

use super::Context;
use crate::args::{Format, InferArgs};
use crate::exit::{ExitCode, Failure};
use crate::pipeline;
use crate::progress::{Counters, Progress};
use crate::report::{self, counted};
use crate::schema_files::SchemaFiles;

/// Infers and writes the schemas.
///
/// # Errors
/// [`Failure`] if a collection that was named is not there or has a file already, or reading fails.
pub async fn run(context: &Context, args: &InferArgs) -> Result<ExitCode, Failure> {
    context.signals.unless_interrupted(infer(context, args)).await
}

async fn infer(context: &Context, args: &InferArgs) -> Result<ExitCode, Failure> {
    let files = context.schema_files();
    if !args.force {
        refuse_existing(&files, &args.collections)?;
    }
    let cluster = context.mongo().await?;
    let (collections, skipped) = choose(&cluster, args, &files).await?;
    for (name, reason) in &skipped {
        report::note(format!("skipped {name}: {reason}"));
    }
    let mut reports = Vec::new();
    for collection in &collections {
        reports.push(infer_one(context, &cluster, collection, args, &files).await?);
    }
    if context.format == Format::Json {
        let skipped: Vec<Value> =
            skipped.iter().map(|(name, reason)| json!({"name": name, "reason": reason})).collect();
        report::json(&json!({"collections": reports, "skipped": skipped}));
    }
    Ok(ExitCode::Done)
}

fn refuse_existing(files: &SchemaFiles, collections: &[String]) -> Result<(), Failure> {
    match collections.iter().find_map(|name| files.existing(name)) {
        Some(path) => {
            Err(Failure::usage(format!("{} is there already", path.display())).remedy("give --force to write over it"))
        }
        None => Ok(()),
    }
}

/// What is inferred, and what is not with the reason.
async fn choose(
    cluster: &Cluster,
    args: &InferArgs,
    files: &SchemaFiles,
) -> Result<(Vec<Collection>, Vec<(String, String)>), Failure> {
    let mut chosen = Vec::new();
    let mut skipped = Vec::new();
    if !args.collections.is_empty() {
        for name in &args.collections {
            chosen.push(cluster.collection(name).await?);
        }
        return Ok((chosen, skipped));
    }
    for collection in cluster.collections().await? {
        match (&collection.skip, files.existing(&collection.name)) {
            (Some(reason), _) => skipped.push((collection.name, reason.to_string())),
            (None, Some(path)) if !args.force => {
                let reason = format!("{} is there already (--force writes over it)", path.display());
                skipped.push((collection.name, reason));
            }
            _ => chosen.push(collection),
        }
    }
    Ok((chosen, skipped))
}

async fn infer_one(
    context: &Context,
    cluster: &Cluster,
    collection: &Collection,
    args: &InferArgs,
    files: &SchemaFiles,
) -> Result<Value, Failure> {
    let portion = args.newest.map_or(Portion::All, Portion::Newest);
    let batch_bytes = pipeline::batch_bytes(context.config.memory);
    let scan =
        CollectionScan::new(cluster, collection, ScanOptions { portion, batch_bytes, ..ScanOptions::default() })?;
    let counters = Arc::new(Counters::default());
    let expected = collection.size().map(|size| size.documents.min(args.newest.unwrap_or(u64::MAX)));
    let progress = Progress::start(&collection.name, Arc::clone(&counters), expected);
    let inference = pipeline::infer(scan, context.config.load_workers, context.config.memory, counters).await?;
    drop(progress);
    write(context, collection, &inference, files)
}

fn write(
    context: &Context,
    collection: &Collection,
    inference: &Inference,
    files: &SchemaFiles,
) -> Result<Value, Failure> {
    let (mut schema, findings) = inference.classic_schema(&collection.name);
    if inference.documents() == 0 {
        // Nothing was seen, but every document has an `_id`, and most often it is the one that drivers make.
        schema.fields.insert("_id".to_owned(), gizer_schema::Node::object_id_pair());
    }
    let path = files.write(&schema)?;
    if context.format == Format::Text {
        let documents = counted(inference.documents(), "document", "documents");
        report::text(&format!("{}: {documents} → {}\n", collection.name, path.display()));
        if inference.documents() == 0 {
            report::note(format!("  {} is empty: its _id is taken to be an ObjectId", collection.name));
        }
        findings.iter().for_each(|finding| report::note(format!("  {}", describe(&collection.name, finding))));
        if let Err(error) = Layout::new(&schema) {
            report::note(format!("  {error}"));
        }
    }
    let findings: Vec<Value> = findings.iter().map(finding_json).collect();
    Ok(json!({
        "name": collection.name, "documents": inference.documents(), "file": path, "findings": findings,
    }))
}

fn describe(collection: &str, finding: &Finding) -> String {
    if finding.names_beyond_limit > 0 {
        let path =
            if finding.path.is_empty() { collection.to_owned() } else { format!("{collection}.{}", finding.path) };
        let times = counted(finding.names_beyond_limit, "time", "times");
        return format!("{path}: field names beyond the first 10,000 came {times} and are left out");
    }
    let seen: Vec<String> = finding
        .seen
        .iter()
        .map(|(kind, count)| format!("{} {}", report::thousands(*count), kind.report_name()))
        .collect();
    format!("{collection}.{}: {} chosen, seen: {}", finding.path, finding.chosen, seen.join(", "))
}

fn finding_json(finding: &Finding) -> Value {
    let seen: serde_json::Map<String, Value> =
        finding.seen.iter().map(|(kind, count)| (kind.report_name().to_owned(), json!(count))).collect();
    json!({
        "path": finding.path, "chosen": finding.chosen, "seen": seen, "names_beyond_limit": finding.names_beyond_limit,
    })
}
