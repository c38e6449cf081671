//! `gizer plan`: what `gizer run` would do, and what it takes. Nothing is written.

use std::collections::BTreeMap;
use std::time::Duration;

use gizer_oplog::{Cluster, Collection, CollectionSize, MongoError, Oplog, newest_positions};
use gizer_pg::Session;
use gizer_pg::readiness::{Readiness, readiness};
use gizer_schema::Layout;
use gizer_schema::names::shortened;

use super::status::{Grown, Misplaced};
use super::{Context, plan_report};
use crate::args::{Format, PlanArgs};
use crate::config::Config;
use crate::exit::{ExitCode, Failure};
use crate::ui::report;
use gizer_engine::due::{
    Due, DueCollection, DueStep, Estimate, Facts, LogStanding, Overview, Policy, ResyncEstimate, Sizes, Tries,
};

/// What would be done.
pub(super) struct RunPlan {
    pub(super) due: Due,
    pub(super) loads: Vec<PlannedLoad>,
    /// What is done about lost positions.
    pub(super) lost: Vec<LostPositionPlan>,
    pub(super) logs: BTreeMap<String, LogStanding>,
    /// What `run` would fail at.
    pub(super) hindrances: Vec<Remark>,
    /// What it would suffer from.
    pub(super) warnings: Vec<Remark>,
}

/// A load that would be done.
pub(super) struct PlannedLoad {
    pub(super) collection: String,
    pub(super) why: String,
    /// How large it is in MongoDB, if that is known.
    pub(super) size: Option<CollectionSize>,
    /// By name, with what happens to them; none before there is a schema file.
    pub(super) tables: Vec<(String, TableFate)>,
    /// `None` if it is not known.
    pub(super) estimate: Option<Estimate>,
}

/// A collection whose position is lost, and both ways to recover it.
pub(super) struct LostPositionPlan {
    pub(super) collection: String,
    /// What would be done.
    pub(super) step: DueStep,
    pub(super) resync: ResyncEstimate,
    /// What a load would take, if that is known.
    pub(super) load: Option<Estimate>,
}

/// What happens to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableFate {
    Made,
    Replaced,
    Dropped,
}

/// Something an operator should know before.
pub(super) struct Remark {
    pub(super) what: String,
    pub(super) remedy: Option<String>,
}

impl Remark {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Remark {
        Remark { what: what.into(), remedy: Some(remedy.into()) }
    }

    fn of(failure: Failure) -> Remark {
        Remark { what: failure.message, remedy: failure.remedy }
    }
}

/// Why a key is widened.
pub(super) const UNFIT_KEY: &str = "its _id has turned out to be of another type than in its schema file";

/// Reports what `run` would do.
///
/// # Errors
/// [`Failure`] if what is due cannot be found out.
pub async fn run(context: &Context, args: &PlanArgs) -> Result<ExitCode, Failure> {
    let plan = context.env.stop.or_done(plan(context, args)).await?;
    match context.format {
        Format::Text => report::text(&plan_report::as_text(&plan)),
        Format::Json => report::json(&plan_report::as_json(&plan)),
    }
    Ok(if plan.hindrances.is_empty() { ExitCode::Done } else { ExitCode::Failed })
}

async fn plan(context: &Context, args: &PlanArgs) -> Result<RunPlan, Failure> {
    let (cluster, session) = tokio::try_join!(context.env.mongo(), context.env.postgres())?;
    let mut hindrances = Vec::new();
    let oplogs = readable_oplogs(&cluster, &mut hindrances).await?;
    let standing = Overview::look(&context.env, &session, &cluster, &oplogs, Sizes::Wanted).await?;
    let (infer, load_only) = (context.env.settings.infer, args.load_only);
    let (choice, lost_position) = (standing.choice(), context.env.settings.lost_position);
    let policy = Policy { infer, load_only, choice, tries: Tries::All, lost_position };
    let mut facts = standing.facts(&context.env.settings.selection)?;
    if !load_only {
        standing.weigh(&session, &cluster, &oplogs, &mut facts).await?;
    }
    let due = Due::of(&facts, policy);
    for DueCollection { name, step, .. } in &due.all {
        if let DueStep::Refuse { why, remedy } = step {
            hindrances.push(Remark { what: format!("{name}: {why}"), remedy: remedy.clone() });
        }
    }
    let ready = ask(&session, &standing, &due).await?;
    let mut loads = Vec::new();
    for DueCollection { name, step, .. } in &due.all {
        let size = standing.source.get(name).and_then(Collection::size);
        let (cause, layout) = match (step, standing.layout(name)) {
            (DueStep::Load(cause), Some(layout)) => (cause, layout),
            (DueStep::Infer | DueStep::WidenKey, _) => {
                let why = if *step == DueStep::Infer { "it has no schema file" } else { UNFIT_KEY }.to_owned();
                loads.push(PlannedLoad { collection: name.clone(), why, size, tables: Vec::new(), estimate: None });
                continue;
            }
            _ => continue,
        };
        let estimate = estimate(&cluster, &standing, layout, &ready).await.unwrap_or_else(|failure| {
            hindrances.push(Remark::of(Failure { message: format!("{name}: {failure}"), ..failure }));
            None
        });
        let tables = table_changes(&standing, layout);
        loads.push(PlannedLoad { collection: name.clone(), why: cause.to_string(), size, tables, estimate });
    }
    let lost = lost_positions(&cluster, &standing, &facts, &due, &ready).await?;
    not_ready(&ready, &context.config, &mut hindrances);
    let mut warnings = Vec::new();
    settings_that_hurt(&ready, &loads, &mut warnings);
    windows_that_are_short(&standing.logs, &loads, &context.config, &mut warnings);
    rejects(&loads, &mut warnings);
    not_exact(&standing, &due, &mut warnings);
    likely_maps(&standing, &due, &mut warnings);
    for (collection, what) in Misplaced::read(&session).await?.in_lines() {
        let evolve = report::command("schema evolve", [&collection], &["--dry-run"]);
        let load = report::command("load", [&collection], &[]);
        let help =
            format!("`{evolve}` shows which could get columns in place; or change its schema file, then `{load}`");
        warnings.push(Remark::new(format!("{collection}: {what}"), help));
    }
    let grown = Grown::read(&session, &context.env).await?;
    for (collection, paths) in grown.to_ask_about() {
        let help = format!("see `{}`", report::command("schema evolve", [collection], &["--dry-run"]));
        warnings.push(Remark::new(format!("{collection}: fields could get columns in place: {paths}"), help));
    }
    Ok(RunPlan { due, loads, lost, logs: standing.logs, hindrances, warnings })
}

/// The oplogs, if they can be read; otherwise none, and why.
async fn readable_oplogs(cluster: &Cluster, hindrances: &mut Vec<Remark>) -> Result<Vec<Oplog>, Failure> {
    let read = async {
        let oplogs = cluster.oplogs().await?;
        newest_positions(&oplogs).await?;
        Ok(oplogs)
    };
    match read.await {
        Ok(oplogs) => Ok(oplogs),
        Err(
            error @ (MongoError::NoRights { .. }
            | MongoError::Standalone { .. }
            | MongoError::RouterWithoutOplog { .. }),
        ) => {
            hindrances.push(Remark::of(error.into()));
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

async fn ask(session: &Session, standing: &Overview, due: &Due) -> Result<Readiness, Failure> {
    let names = due.names(|step| matches!(step, DueStep::Load(_) | DueStep::Resync { .. } | DueStep::Stop(_)));
    let known = names.into_iter().filter_map(|name| standing.known(&name).cloned());
    let tables: Vec<String> = known.flat_map(|known| known.tables.into_iter().map(|table| table.name)).collect();
    Ok(readiness(session, &tables).await?)
}

/// Both ways of what is done about each lost position.
async fn lost_positions(
    cluster: &Cluster,
    standing: &Overview,
    facts: &[Facts],
    due: &Due,
    ready: &Readiness,
) -> Result<Vec<LostPositionPlan>, Failure> {
    let mut lost = Vec::new();
    for (facts, DueCollection { name, step, .. }) in facts.iter().zip(&due.all) {
        let (Some(resync), Some(layout)) = (&facts.estimate, standing.layout(name)) else { continue };
        let load = estimate(cluster, standing, layout, ready).await?;
        lost.push(LostPositionPlan { collection: name.clone(), step: step.clone(), resync: resync.clone(), load });
    }
    Ok(lost)
}

async fn estimate(
    cluster: &Cluster,
    standing: &Overview,
    layout: &Layout,
    ready: &Readiness,
) -> Result<Option<Estimate>, Failure> {
    let Some(collection) = standing.source.get(&layout.collection) else { return Ok(None) };
    let known = standing.known(&layout.collection).filter(|known| known.live);
    let changes = table_changes(standing, layout);
    // Tables that stay as they are tell what they take.
    let same = known.is_some() && changes.iter().all(|(_, change)| *change == TableFate::Replaced);
    let sizes: Option<u64> = layout.tables.iter().map(|table| ready.sizes.get(&table.name)).sum();
    Estimate::of(cluster, collection, layout, known, sizes.filter(|_| same)).await
}

fn table_changes(standing: &Overview, layout: &Layout) -> Vec<(String, TableFate)> {
    let known = standing.known(&layout.collection).filter(|known| known.live);
    let live: Vec<&str> = known.iter().flat_map(|known| &known.tables).map(|table| table.name.as_str()).collect();
    let change = |name: &str| if live.contains(&name) { TableFate::Replaced } else { TableFate::Made };
    let of_layout = |name: &str| layout.tables.iter().any(|table| table.name == name);
    let mut changes: Vec<_> = layout.tables.iter().map(|table| (table.name.clone(), change(&table.name))).collect();
    let dropped = live.iter().filter(|name| !of_layout(name));
    changes.extend(dropped.map(|name| ((*name).to_owned(), TableFate::Dropped)));
    changes
}

/// What keeps gizer from writing.
fn not_ready(ready: &Readiness, config: &Config, hindrances: &mut Vec<Remark>) {
    for right in &ready.missing {
        let grant = format!("run as the owner: {};", right.grant);
        hindrances.push(Remark::new(format!("PostgreSQL: a right is missing for {}", right.what), grant));
    }
    if ready.standby {
        let remedy = "name the primary in postgres.uri";
        hindrances.push(Remark::new("PostgreSQL: this server is a standby, which cannot be written to", remedy));
    }
    // A session to steer, one for each worker, one for the spool in a second PostgreSQL, and one for the audit of a load.
    let needed = i64::try_from(config.load_workers).unwrap_or(i64::MAX).saturating_add(3);
    if ready.free_connections < needed {
        let what = format!("PostgreSQL: {} connections are left, a load needs {needed}", ready.free_connections);
        hindrances.push(Remark::new(what, "raise max_connections, or lower load.workers"));
    }
}

const MIB: u64 = 1 << 20;

/// Settings of PostgreSQL that a load or following suffers from (PostgreSQL documentation, "Populating a Database").
fn settings_that_hurt(ready: &Readiness, loads: &[PlannedLoad], warnings: &mut Vec<Remark>) {
    let is = |name: &str, value: &str| ready.settings.get(name).is_some_and(|set| set == value);
    let disk: u64 = loads.iter().filter_map(|load| load.estimate.as_ref()).map(|estimate| estimate.disk).sum();
    // In MiB.
    if let Some(most) = ready.number("max_wal_size").and_then(|most| u64::try_from(most).ok())
        && disk > 4 * most * MIB
    {
        let what = format!(
            "PostgreSQL: max_wal_size is {} for about {} to be written: checkpoints will follow close on each other",
            report::bytes(most * MIB),
            report::bytes(disk)
        );
        warnings.push(Remark::new(what, "raise max_wal_size for the time of the load, 4GB or more"));
    }
    // In pages of 8 KiB.
    if let Some(buffers) = ready.number("shared_buffers").and_then(|pages| u64::try_from(pages).ok())
        && buffers * 8192 < 128 * MIB
    {
        let what = format!("PostgreSQL: shared_buffers is only {}", report::bytes(buffers * 8192));
        warnings.push(Remark::new(what, "raise it to a quarter of the server's memory"));
    }
    if is("autovacuum", "off") {
        let what = "PostgreSQL: autovacuum is off: tables that are followed grow with every change";
        warnings.push(Remark::new(what, "turn it on"));
    }
    if is("fsync", "off") {
        let what = "PostgreSQL: fsync is off: a crash of the machine may spoil the tables and the position in them";
        warnings.push(Remark::new(what, "turn it on, or run `gizer verify` after a crash"));
    }
}

/// A night in which nobody looks.
const SHORT_WINDOW: Duration = Duration::from_secs(24 * 3600);

fn windows_that_are_short(
    logs: &BTreeMap<String, LogStanding>,
    loads: &[PlannedLoad],
    config: &Config,
    warnings: &mut Vec<Remark>,
) {
    let longest: Duration =
        loads.iter().filter_map(|load| load.estimate.as_ref()).map(|estimate| estimate.time.1).sum();
    for (shard, LogStanding { window, needed }) in logs {
        let reach = window.headroom(needed.unwrap_or(window.newest.time));
        if window.rolls_over() && reach < SHORT_WINDOW {
            let what = format!(
                "MongoDB: at the write rate of the last {} the oplog of {shard} keeps an entry for about {}: if gizer does not run \
                 for that long, everything has to be reloaded",
                report::duration(window.span()),
                report::duration(reach)
            );
            warnings.push(Remark::new(what, "enlarge the oplog (replSetResizeOplog), 24 hours or more"));
        }
        let Some(fill) = window.fill else { continue };
        let rate = fill.bytes as f64 / window.span().as_secs_f64().max(1.0);
        let written = rate * longest.as_secs_f64();
        if longest > window.headroom(window.newest.time) && written > config.spool_limit as f64 {
            let what = format!(
                "MongoDB: the loads may take up to {}, for longer than the oplog of {shard} reaches back; what comes \
                 meanwhile, about {}, is more than may be spooled",
                report::duration(longest),
                report::bytes(written as u64)
            );
            let remedy =
                format!("raise load.spool_limit ({}), or enlarge the oplog", report::bytes(config.spool_limit));
            warnings.push(Remark::new(what, remedy));
        }
    }
}

/// What is followed and not as it should be.
fn not_exact(standing: &Overview, due: &Due, warnings: &mut Vec<Remark>) {
    for DueCollection { name, .. } in due.all.iter().filter(|each| each.step == DueStep::Follow) {
        let Some(known) = standing.known(name) else { continue };
        if let Some(reason) = &known.reason {
            warnings.push(Remark { what: format!("{name}: {reason}"), remedy: None });
        }
        if known.rejected > 0 {
            let rejected = report::counted(known.rejected, "document is", "documents are");
            let remedy = "`gizer status` counts them by reason; gizer_reject holds them";
            warnings.push(Remark::new(format!("{name}: {rejected} rejected and not in the tables"), remedy));
        }
    }
}

/// Field names that are data, of which a stored schema has made tables and columns.
fn likely_maps(standing: &Overview, due: &Due, warnings: &mut Vec<Remark>) {
    for layout in due.all.iter().filter_map(|each| standing.layout(&each.name)) {
        for map in layout.likely_maps() {
            let (tables, columns) = (map.tables as u64, map.columns as u64);
            let many = match tables > 0 {
                true => report::counted(tables, "table", "tables"),
                false => report::counted(columns, "column", "columns"),
            };
            let collection = &layout.collection;
            let path = report::printable(&shortened(&layout.path(map.path).dotted()));
            let what = format!("{collection}.{path}: {many} for {} names, which may be data", map.names);
            let infer = report::command("schema infer", [collection], &["--force"]);
            let help =
                format!("as a map they are one table with a column key: see `{infer}`, or $as in the schema file");
            warnings.push(Remark::new(what, help));
        }
    }
}

fn rejects(loads: &[PlannedLoad], warnings: &mut Vec<Remark>) {
    for load in loads {
        let rejected = load.estimate.as_ref().map_or(0, |estimate| estimate.rejected);
        if rejected > 0 {
            let what = format!(
                "{}: {} of the sample would be rejected",
                load.collection,
                report::counted(rejected, "document", "documents")
            );
            let remedy = "fix the schema file (`gizer schema infer --force`), or allow some with --max-rejects";
            warnings.push(Remark::new(what, remedy));
        }
    }
}
