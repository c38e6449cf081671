//! What `gizer plan` prints.

use serde_json::{Value, json};

use super::plan::{LostPositionPlan, PlannedLoad, Remark, RunPlan, TableFate, UNFIT_KEY};
use crate::ui::report::{self, bytes, counted, duration, thousands};
use gizer_engine::due::{DueCollection, DueStep, Estimate, LogStanding, ResyncEstimate};

pub(super) fn as_text(plan: &RunPlan) -> String {
    let mut text = steps(plan);
    if !plan.loads.is_empty() {
        text.push_str("\nloads\n");
        text.push_str(&loads(&plan.loads));
        text.push_str(&totals(&plan.loads));
    }
    if !plan.lost.is_empty() {
        text.push_str("\nlost positions\n");
        text.push_str(&lost_positions(&plan.lost));
    }
    if !plan.logs.is_empty() {
        text.push_str("\noplogs\n");
        text.push_str(&logs(plan));
    }
    for (title, remarks) in [("problems", &plan.hindrances), ("warnings", &plan.warnings)] {
        if !remarks.is_empty() {
            text.push_str(&format!("\n{title}\n"));
            remarks.iter().for_each(|remark| text.push_str(&remark_text(remark)));
        }
    }
    text
}

fn steps(plan: &RunPlan) -> String {
    if plan.due.all.is_empty() {
        return "nothing to copy: no schema file, no collection\n".to_owned();
    }
    let row = |DueCollection { name, step, standing }: &DueCollection| {
        let (what, why) = step_words(step);
        let standing = standing.as_ref().map_or("", |standing| standing.kind.name());
        vec![name.clone(), standing.to_owned(), what.to_owned(), why]
    };
    let mut text = report::table(&["collection", "standing", "due", "why"], &[], plan.due.all.iter().map(row));
    if plan.loads.is_empty() && plan.lost.is_empty() {
        text.push_str(match plan.due.follows() {
            true => "\nonly a sync is due\n",
            false => "\nnothing is due\n",
        });
    }
    text
}

fn step_words(step: &DueStep) -> (&'static str, String) {
    match step {
        DueStep::Infer => ("schema file, load", "it has no schema file".to_owned()),
        DueStep::WidenKey => ("schema file, load", UNFIT_KEY.to_owned()),
        DueStep::Load(cause) => ("load", cause.to_string()),
        DueStep::Resync { cause, why } => ("resync", format!("{cause}; {why}")),
        DueStep::Stop(cause) => ("a person decides", format!("{cause}; run.lost_position is stop")),
        DueStep::Follow => ("sync", String::new()),
        DueStep::Leave { why } => ("nothing", why.clone()),
        DueStep::Refuse { why, .. } => ("cannot be done", why.clone()),
    }
}

fn loads(loads: &[PlannedLoad]) -> String {
    let header = ["collection", "documents", "size", "table", "", "rows", "disk", "time"];
    let mut rows = Vec::new();
    for load in loads {
        let mut first = vec![load.collection.clone()];
        first.extend(match load.size {
            Some(size) => [thousands(size.documents), bytes(size.bytes)],
            None => ["unknown".to_owned(), String::new()],
        });
        let last = match &load.estimate {
            Some(estimate) => [about(&thousands(estimate.rows)), about(&bytes(estimate.disk)), time(estimate)],
            None => Default::default(),
        };
        if load.tables.is_empty() {
            let unknown = ["unknown until the schema is inferred", "", "", "", ""].map(str::to_owned);
            rows.push(first.iter().cloned().chain(unknown).collect());
        }
        for (i, (table, change)) in load.tables.iter().enumerate() {
            let mut row = if i == 0 { first.clone() } else { vec![String::new(); 3] };
            row.extend([table.clone(), change_word(*change).to_owned()]);
            row.extend(if i == 0 { last.clone() } else { Default::default() });
            rows.push(row);
        }
    }
    report::table(&header, &["documents", "size", "rows", "disk"], rows)
}

/// A resync and a load next to each other.
fn lost_positions(all: &[LostPositionPlan]) -> String {
    let header = ["collection", "differing", "resync", "load", "load's disk", "chosen", "because"];
    let row = |lost: &LostPositionPlan| {
        let ResyncEstimate { sampled, differing, .. } = lost.resync;
        let load = lost.load.as_ref();
        vec![
            lost.collection.clone(),
            format!("{} of {} sampled", thousands(differing), thousands(sampled)),
            lost.resync.expected_resync().map_or_else(|| "unknown".to_owned(), |time| about(&duration(time))),
            load.map_or_else(|| "unknown".to_owned(), time),
            load.map_or_else(String::new, |load| about(&bytes(load.disk))),
            step_words(&lost.step).0.to_owned(),
            chosen_because(lost),
        ]
    };
    report::table(&header, &[], all.iter().map(row))
}

fn chosen_because(lost: &LostPositionPlan) -> String {
    match &lost.step {
        DueStep::Resync { why, .. } => why.clone(),
        DueStep::Load(_) => lost.resync.choose().err().unwrap_or_else(|| "run.lost_position is load".to_owned()),
        DueStep::Stop(_) => "run.lost_position is stop".to_owned(),
        step => step_words(step).1,
    }
}

fn lost_json(lost: &LostPositionPlan) -> Value {
    let ResyncEstimate { hindrance, sampled, differing, size, free, .. } = &lost.resync;
    let load = lost.load.as_ref().map(|load| {
        json!({"seconds_least": load.time.0.as_secs_f64(), "seconds_most": load.time.1.as_secs_f64(), "disk_bytes": load.disk})
    });
    json!({
        "collection": lost.collection, "chosen": step_word(&lost.step), "why": chosen_because(lost),
        "sampled": sampled, "differing": differing, "cannot_be_replaced": hindrance,
        "tables_bytes": size, "disk_free_bytes": free,
        "resync_seconds": lost.resync.expected_resync().map(|time| time.as_secs_f64()), "load": load,
    })
}

fn about(text: &str) -> String {
    format!("about {text}")
}

fn time(estimate: &Estimate) -> String {
    match estimate.measured {
        true => format!("{}, as last time", duration(estimate.time.0)),
        false => format!("{} to {}, a guess", duration(estimate.time.0), duration(estimate.time.1)),
    }
}

/// While tables are replaced, both are there.
fn totals(loads: &[PlannedLoad]) -> String {
    let sizes = || loads.iter().filter_map(|load| load.size);
    let disk: u64 = loads.iter().filter_map(|load| load.estimate.as_ref()).map(|estimate| estimate.disk).sum();
    let disk = if disk > 0 { format!("; about {} of disk", bytes(disk)) } else { String::new() };
    let replaces = loads.iter().any(|load| load.tables.iter().any(|(_, change)| *change != TableFate::Made));
    let next_to_live = if replaces { ", next to the existing tables, until they are swapped" } else { "" };
    format!(
        "{} of {} to be read{disk}{next_to_live}\n",
        counted(sizes().map(|size| size.documents).sum(), "document", "documents"),
        bytes(sizes().map(|size| size.bytes).sum()),
    )
}

fn change_word(change: TableFate) -> &'static str {
    match change {
        TableFate::Made => "made",
        TableFate::Replaced => "replaced",
        TableFate::Dropped => "dropped",
    }
}

fn logs(plan: &RunPlan) -> String {
    let row = |(shard, LogStanding { window, needed }): (&String, &LogStanding)| {
        let standing = needed.map(|at| (duration(window.behind(at)), duration(window.headroom(at))));
        let (behind, left) = standing.unwrap_or_default();
        vec![shard.clone(), duration(window.span()), behind, left]
    };
    report::table(&["shard", "reaches back", "lag", "until a load is due"], &[], plan.logs.iter().map(row))
}

fn remark_text(remark: &Remark) -> String {
    let remedy = remark.remedy.as_ref().map(|remedy| format!("\n    help: {remedy}")).unwrap_or_default();
    format!("  {}{remedy}\n", remark.what)
}

/// What is due, for machines.
fn step_word(step: &DueStep) -> &'static str {
    match step {
        DueStep::Infer => "infer",
        DueStep::WidenKey => "widen_key",
        DueStep::Load(_) => "load",
        DueStep::Resync { .. } => "resync",
        DueStep::Stop(_) => "stop",
        DueStep::Follow => "sync",
        DueStep::Leave { .. } => "none",
        DueStep::Refuse { .. } => "impossible",
    }
}

pub(super) fn as_json(plan: &RunPlan) -> Value {
    let step = |DueCollection { name, step, standing }: &DueCollection| {
        let word = step_word(step);
        let (_, why) = step_words(step);
        let standing = standing.as_ref().map(|standing| standing.kind.name());
        json!({"collection": name, "standing": standing, "due": word, "why": (!why.is_empty()).then_some(why)})
    };
    let remark = |remark: &Remark| json!({"message": remark.what, "remedy": remark.remedy});
    json!({
        "steps": plan.due.all.iter().map(step).collect::<Vec<Value>>(),
        "lost_positions": plan.lost.iter().map(lost_json).collect::<Vec<Value>>(),
        "loads": plan.loads.iter().map(load_json).collect::<Vec<Value>>(),
        "oplogs": plan.logs.iter().map(|(shard, log)| log_json(shard, log)).collect::<Vec<Value>>(),
        "in_the_way": plan.hindrances.iter().map(remark).collect::<Vec<Value>>(),
        "warnings": plan.warnings.iter().map(remark).collect::<Vec<Value>>(),
    })
}

fn load_json(load: &PlannedLoad) -> Value {
    let table = |(name, change): &(String, TableFate)| json!({"name": name, "change": change_word(*change)});
    let estimate = load.estimate.as_ref().map(|estimate| {
        json!({
            "rows": estimate.rows, "disk_bytes": estimate.disk, "seconds_least": estimate.time.0.as_secs_f64(),
            "seconds_most": estimate.time.1.as_secs_f64(), "as_last_time": estimate.measured,
            "rejected_in_sample": estimate.rejected,
        })
    });
    let tables: Vec<Value> = load.tables.iter().map(table).collect();
    json!({
        "collection": load.collection, "why": load.why, "documents": load.size.map(|size| size.documents),
        "bytes": load.size.map(|size| size.bytes), "tables": tables, "estimate": estimate,
    })
}

fn log_json(shard: &str, LogStanding { window, needed }: &LogStanding) -> Value {
    json!({
        "shard": shard, "seconds": window.span().as_secs(),
        "lag_seconds": needed.map(|at| window.behind(at).as_secs()),
        "headroom_seconds": needed.map(|at| window.headroom(at).as_secs()),
    })
}
