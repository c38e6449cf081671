//! Doing what a plan says, and judging what comes of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use integration_tests::rig::{Finished, Mongod, Postgres, RunningGizer, Signal, wait_until};
use integration_tests::traffic::{Outcome, Step, Traffic};
use tokio::task::JoinHandle;

use super::clock::with_clock;
use super::faults::Network;
use super::figures::Figures;
use super::growth::{self, Evolving};
use super::hindrances::Hindrances;
use super::judged::{Rejects, collections, difference};
use super::plan::{Activity, Event, Plan, Round, SLOT_COUNT, SLOTS, Wanderer};
use super::{leftovers, words};
use crate::judge::judge_against_fresh_load;
use crate::world::{LIMIT, Reached, World};

/// The number of the signal: POSIX.
const SIGTERM: i32 = 15;

/// How long gizer may take to end after a signal (`docs/operations.md`).
const END_LIMIT: Duration = Duration::from_secs(10);

/// How long gizer may take to come to rest once nothing breaks any more.
const REST_LIMIT: Duration = Duration::from_secs(60);

/// A plan in progress.
pub(super) struct Run<'w, 's> {
    pub(super) world: &'w World<'s>,
    pub(super) network: &'w Network,
    pub(super) plan: &'w Plan,
    /// The activity of the round, while it runs.
    pub(super) gizer: Option<RunningGizer>,
    /// `schema evolve`, while it runs.
    pub(super) evolving: Option<Evolving>,
    /// What ends by itself: locks, troubles of the network.
    pub(super) passing: Vec<JoinHandle<()>>,
    /// Whether anything has gone wrong in this round.
    pub(super) disturbed: bool,
    /// Whether `schema evolve` runs next to the activity: each may hold what the other needs.
    grows_meanwhile: bool,
    pub(super) outcome: Outcome,
    /// Whether gizer has been killed, or has died at a fail point.
    pub(super) was_killed: bool,
    /// Whether people keep a collection from being loaded.
    hindered: bool,
    /// What was missing after the last round.
    missing: BTreeSet<String>,
    /// What the last run said.
    said: String,
    reached: Reached,
    pub(super) figures: Figures,
}

/// Does all of it on these servers. What is found is a panic, after which a server may be down.
pub(crate) async fn perform(shards: &[Mongod], postgres: &Postgres, plan: &Plan) -> Figures {
    let shards = &shards[..plan.shards];
    let network = Network::before(shards, postgres);
    let mut world = World::reached_by(shards, postgres, |uri| network.through(uri)).await;
    world.gizer = with_clock(world.gizer, plan.faults());
    growth::let_grow_often(&world.gizer);
    begin(&world, plan).await;
    let mut run = Run {
        world: &world,
        network: &network,
        plan,
        gizer: None,
        evolving: None,
        passing: Vec::new(),
        disturbed: false,
        grows_meanwhile: false,
        outcome: Outcome::default(),
        was_killed: false,
        hindered: false,
        missing: BTreeSet::new(),
        said: String::new(),
        reached: world.reached().await,
        figures: Figures { seeds: 1, ..Figures::default() },
    };
    for round in plan.rounds.iter().filter(|round| !round.events.is_empty()) {
        run.round(round).await;
    }
    run.figures.versions = growth::versions(&world).await;
    let rejects = Rejects::read(&world).await;
    let mut all_there = run.missing.is_empty();
    for collection in collections(plan) {
        all_there &= !world.documents(collection).await.is_empty();
    }
    // What is not in the source any more cannot be loaded.
    if rejects.is_empty() && all_there {
        judge_against_fresh_load(&world).await.unwrap();
    }
    run.figures
}

/// The collections with the documents that they begin with, loaded.
async fn begin(world: &World<'_>, plan: &Plan) {
    let count = plan.shards as u64;
    let traffic: Vec<Traffic> = (0..count).map(|shard| Traffic::of_shard(plan.seed, shard, count)).collect();
    world.fill(&traffic).await;
    let fields = r#"{"$gizer": 1, "collection": "slots", "fields": {"_id": "INT", "slot": "STRING"}}"#;
    world.schema_file(SLOTS, fields);
    let slots = (0..SLOT_COUNT).map(|n| doc! { "_id": n, "slot": format!("slot {n}") });
    world.mongo().collection(SLOTS).insert_many(slots).await.unwrap();
    for shape in &plan.shapes {
        for (shard, database) in (0..).zip(&world.databases) {
            let documents = shape.documents(plan.seed, shard, count);
            database.collection(&shape.name).insert_many(documents).await.unwrap();
        }
        match shape.inferred {
            true => drop(world.run(&["schema", "infer", &shape.name]).await.expect_code(0)),
            false => world.schema_file(&shape.name, &shape.schema_file()),
        }
    }
    world.run(&["load"]).await.expect_code(0);
}

impl Run<'_, '_> {
    async fn round(&mut self, round: &Round) {
        println!("  {:?}{}", round.activity, if round.lost { " of a lost position" } else { "" });
        let began = Instant::now();
        let faults = round.events.iter().filter(|(_, event)| matches!(event, Event::Fault(_))).count();
        self.disturbed = faults > 0 || round.fail_point.is_some();
        self.grows_meanwhile = round.events.iter().any(|(_, event)| matches!(event, Event::Evolve(_)));
        self.outcome = Outcome::default();
        let (before, during) = round.events.split_at(round.before);
        for (_, event) in before {
            self.happen(event, round).await;
        }
        if round.lost {
            self.lose_position().await;
        }
        self.spawn(round, round.fail_point);
        for (_, event) in during {
            self.happen(event, round).await;
        }
        self.calm(round).await;
        let missing = self.rest(round).await;
        if round.grows && missing.is_empty() {
            self.grow_at_rest().await;
        }
        self.judge(round, &missing).await;
        self.missing = missing;
        self.expect_no_step_back().await;
        let commands = self.outcome.commands;
        self.figures.rounds += 1;
        self.figures.operations += commands;
        self.figures.faults += faults as u64;
        self.figures.meetings += commands * faults as u64;
        println!("    {:?}, {faults} faults, {:.1} s", self.outcome, began.elapsed().as_secs_f64());
    }

    async fn happen(&mut self, event: &Event, round: &Round) {
        match event {
            Event::Write(shard, step) => {
                let written = step.run(&self.world.databases[*shard]).await;
                self.outcome += written.unwrap_or_else(|error| panic!("{error}: {step:?}"));
            }
            Event::Wander(wanderer) => self.wander(*wanderer).await,
            Event::Swap(one, other) => self.swap(*one, *other).await,
            Event::Evolve(end) => self.evolve(*end).await,
            Event::Fault(fault) => {
                println!("    {fault:?}");
                self.fault(fault, round).await;
            }
        }
    }

    /// A document leaves one shard for the other, as far as it is on one. For a moment it is on both, or on none.
    async fn wander(&mut self, wanderer: Wanderer) {
        let id = format!("wanderer '{}'", wanderer.number);
        let count = wanderer.count;
        self.outcome.commands += 2;
        let things = |at: usize| self.world.databases[at].collection::<Document>("things");
        for (from, to) in [(0, 1), (1, 0)] {
            if let Some(mut document) = things(from).find_one(doc! { "_id": &id }).await.unwrap() {
                document.insert("count", count);
                if wanderer.insert_first {
                    things(to).insert_one(document).await.unwrap();
                    things(from).delete_one(doc! { "_id": &id }).await.unwrap();
                } else {
                    things(from).delete_one(doc! { "_id": &id }).await.unwrap();
                    things(to).insert_one(document).await.unwrap();
                }
                return;
            }
        }
        let new = doc! { "_id": &id, "count": count, "tags": ["a", "b"], "items": [{ "parts": [{ "marks": [1] }] }] };
        things(count as usize % 2).insert_one(new).await.unwrap();
    }

    /// Two documents exchange their slots, as far as they are there.
    async fn swap(&mut self, one: i32, other: i32) {
        let database = self.world.mongo();
        let slots = database.collection::<Document>(SLOTS);
        let mut found = Vec::new();
        for id in [one, other] {
            found.extend(slots.find_one(doc! { "_id": id }).await.unwrap());
        }
        let [first, second] = found.as_slice() else { return };
        let set = |id: i32, slot: &Document| {
            doc! { "update": SLOTS, "updates": [{ "q": { "_id": id }, "u": { "$set": { "slot": slot["slot"].clone() } } }] }
        };
        let commands = vec![set(one, second), set(other, first)];
        self.outcome += Step::Transaction { commands, commit: true }.run(database).await.unwrap();
    }

    /// Has the stream stand where no oplog reaches back to, as after a weekend in which nobody followed.
    async fn lose_position(&self) {
        let long_ago = "UPDATE gizer_stream SET position = coalesce( \
            (SELECT jsonb_object_agg(key, regexp_replace(value, '^[0-9]+', '1000')) FROM jsonb_each_text(position)), '{}')";
        // The server may be on its way up.
        let lose = async || match self.world.postgres.client(&self.world.target).await {
            Ok(client) => client.batch_execute(long_ago).await.is_ok(),
            Err(_) => false,
        };
        wait_until("the position to be lost", LIMIT, lose).await.unwrap();
    }

    /// Starts the activity of the round, unless it runs.
    pub(super) fn spawn(&mut self, round: &Round, fail_point: Option<&str>) {
        let args: Vec<&str> = match &round.activity {
            Activity::Sync => vec!["sync"],
            Activity::Run => vec!["run"],
            Activity::Follow => vec!["sync", "--follow"],
            Activity::RunOn => vec!["run", "--follow"],
            Activity::Load(collection) => vec!["load", collection],
            Activity::Repair => vec!["verify", "--repair"],
            Activity::Resync(collection) => vec!["resync", collection],
        };
        let env: Vec<(&str, &str)> = fail_point.map(|point| ("GIZER_FAIL_POINT", point)).into_iter().collect();
        self.figures.runs += 1;
        self.gizer = Some(self.world.gizer.spawn_with(args, &env).unwrap());
    }

    /// Ends what breaks things, and then the activity of the round, in good order.
    async fn calm(&mut self, round: &Round) {
        self.network.calm();
        for passing in self.passing.drain(..) {
            passing.await.unwrap();
        }
        self.network.calm();
        self.end_growth().await;
        let Some(gizer) = self.gizer.take() else { return };
        let follows = matches!(round.activity, Activity::Follow | Activity::RunOn);
        let ended = match follows {
            true => terminate(gizer).await,
            false => gizer.wait().await.unwrap(),
        };
        let died = round.fail_point.is_some() && ended.signal().is_some();
        self.was_killed |= died;
        let terminated = follows && (ended.code() == Some(143) || ended.signal() == Some(SIGTERM));
        if !died && !terminated {
            self.expect_fair(&ended);
        }
    }

    /// A run that was ended by the signal that it was sent, or had ended before.
    pub(super) fn expect_ended(&self, ended: &Finished, signal: i32) {
        let by_signal = ended.signal().is_some() || ended.code() == Some(128 + signal);
        if !by_signal {
            self.expect_fair(ended);
        }
    }

    /// Whether a run may have ended so: in good order, or because something went wrong that it names.
    fn expect_fair(&self, ended: &Finished) {
        let code = ended.code();
        let fair = match code {
            Some(0) => true,
            // While something breaks, or where people keep a collection from being loaded, not all is there.
            Some(7) => self.disturbed || self.hindered || self.grows_meanwhile,
            Some(5) => self.disturbed || self.grows_meanwhile,
            Some(1) => self.disturbed || (self.grows_meanwhile && is_half_grown(ended)),
            // Its schema has grown under the eyes of a resync.
            Some(3) if self.grows_meanwhile && ended.stderr.contains("its schema file has changed") => true,
            _ => is_gone(ended) || (self.disturbed && has_nothing_to_follow(ended)),
        };
        assert!(fair, "gizer ended with {}\n--- stdout\n{}\n--- stderr\n{}", ended.status, ended.stdout, ended.stderr);
        let says = |line: &str| line.starts_with("gizer: ") && !line.starts_with("gizer: warning: ");
        let silent = code != Some(0) && !ended.stderr.lines().any(says);
        assert!(!silent, "gizer ended with {} and does not say why: {}", ended.status, ended.stderr);
    }

    /// Nothing breaks any more: gizer has to come to its end, a few failures later at most. Gives what is missing then, which is
    /// what nothing but a person can help.
    async fn rest(&mut self, round: &Round) -> BTreeSet<String> {
        let hindrances = Hindrances::read(self.world).await;
        self.hindered = hindrances.keep_any_missing();
        if let Activity::Load(collection) = &round.activity
            && !hindrances.explain(&BTreeSet::from([collection.clone()]))
            && !self.world.documents(collection).await.is_empty()
        {
            // What a dead load has left is taken up, or away, by the next one.
            self.repeat(&["load", collection], &hindrances).await;
        }
        if let Activity::Resync(collection) = &round.activity {
            // What keeps a load from the tables does not keep a resync from them.
            self.repeat(&["resync", collection], &hindrances).await;
        }
        let missing = self.repeat(&[round.settle], &hindrances).await;
        match hindrances.explain(&missing) {
            true => missing,
            // What `sync` must not do by itself, `run` does.
            false => self.repeat(&["run"], &hindrances).await,
        }
    }

    /// Runs a command until it is done but for what is missing then: what nothing but a person can help, and what `sync` must not
    /// load by itself.
    async fn repeat(&mut self, command: &[&str], hindrances: &Hindrances) -> BTreeSet<String> {
        let (began, mut tried) = (Instant::now(), false);
        loop {
            self.figures.runs += 1;
            let ended = self.world.run(command).await;
            self.said = format!("{}{}", ended.stdout, ended.stderr);
            self.expect_fair(&ended);
            // What is still catching up says so, and is not equal yet.
            let catches_up = ended.stdout.contains("catching up");
            if (ended.code() == Some(0) && !catches_up) || is_gone(&ended) || is_left_to_growth(command, &ended) {
                return BTreeSet::new();
            }
            if (ended.code() == Some(7) && !catches_up) || has_nothing_to_follow(&ended) {
                let missing = words::missing(self.world).await;
                assert!(!missing.is_empty(), "it ended with {} and nothing is missing: {ended:?}", ended.status);
                let unnamed = missing.keys().find(|name| !ended.stderr.contains(name.as_str()));
                assert!(unnamed.is_none(), "{unnamed:?} is missing, and not named: {ended:?}");
                println!("    {command:?}: missing {missing:?}");
                // What is failing to be followed it tries again, and what is failing to be loaded it does not.
                let is_due = missing.values().all(|standing| standing == "load due");
                let left_to_run = command == ["sync"] && (is_due || std::mem::replace(&mut tried, true));
                let names: BTreeSet<String> = missing.into_keys().collect();
                if left_to_run || hindrances.explain(&names) {
                    return names;
                }
            }
            assert!(began.elapsed() < REST_LIMIT, "gizer does not come to rest: {ended:?}");
            let why = ended.stderr.lines().find(|line| line.starts_with("gizer: ")).unwrap_or("it is catching up");
            println!("    {command:?} once more after {}: {why}", ended.status);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn judge(&mut self, round: &Round, missing: &BTreeSet<String>) {
        let hindrances = Hindrances::read(self.world).await;
        let rejects = Rejects::read(self.world).await;
        if let Err(difference) = difference(self.world, self.plan, (&rejects, &hindrances), missing).await {
            panic!("after {} came to rest: {difference}\n--- it said\n{}", round.settle, self.said);
        }
        leftovers::expect_none(self.world, self.was_killed).await;
        words::expect_true(self.world, self.plan, &rejects, missing).await;
        self.figures.runs += 2;
        if round.audited {
            words::expect_audit_to_agree(self.world, missing).await;
            self.figures.runs += 1;
        }
    }

    async fn expect_no_step_back(&mut self) {
        let now = self.world.reached().await;
        for (shard, before) in &self.reached {
            let after = now.get(shard).unwrap_or_else(|| panic!("the position of {shard} is gone: {now:?}"));
            assert!(after >= before, "the position of {shard} went back from {before:?} to {after:?}");
        }
        self.reached = now;
    }

    /// Waits until PostgreSQL answers those who do not go through the proxy.
    pub(super) async fn wait_for_postgres(&self) {
        let world = self.world;
        let answers = async || world.postgres.client(&world.target).await.is_ok();
        integration_tests::rig::wait_until("PostgreSQL to answer", LIMIT, answers).await.unwrap();
    }
}

/// A load of what the source has not got any more.
fn is_gone(ended: &Finished) -> bool {
    ended.code() == Some(2) && ended.stderr.contains("found none")
}

/// A resync of tables that `schema evolve` has left half-way, or has made anew: `run` knows what to do with them.
fn is_left_to_growth(command: &[&str], ended: &Finished) -> bool {
    let why = ["has begun to grow", "its schema file has changed"];
    command[0] == "resync" && ended.code() != Some(0) && why.iter().any(|why| ended.stderr.contains(why))
}

/// `verify` met tables that a killed `schema evolve` has left half-way, and says who resumes it.
fn is_half_grown(ended: &Finished) -> bool {
    ended.stderr.contains("has begun to grow, and the run that did it has ended")
}

/// A load is due of everything that was followed.
fn has_nothing_to_follow(ended: &Finished) -> bool {
    ended.code() == Some(3) && ended.stderr.contains("none of the collections can be followed")
}

/// SIGTERM; gizer ends in time, whatever it is at.
pub(super) async fn terminate(gizer: RunningGizer) -> Finished {
    gizer.signal(Signal::Terminate).unwrap();
    let began = Instant::now();
    let ended = gizer.wait().await.unwrap();
    let took = began.elapsed();
    assert!(took <= END_LIMIT, "SIGTERM ended gizer after {took:?}: {ended:?}");
    ended
}
