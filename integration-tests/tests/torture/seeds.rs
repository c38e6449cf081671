//! Following while everything around it breaks: traffic from a seed, and blows that are drawn from it too.
//!
//! `GIZER_TORTURE_SEEDS=100` runs so many seeds on each version of MongoDB, `GIZER_TORTURE_SEED=17` runs one alone.

use std::env;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use integration_tests::random::Random;
use integration_tests::rig::{Finished, Mongod, Postgres, RunningGizer, Signal, Version, wait_until};
use integration_tests::traffic::{Outcome, Traffic};

use super::fail_points::FAIL_POINTS;
use super::judge::{judge_against_fresh_load, judge_traffic};
use super::world::{FOLLOW, LIMIT, Reached, SYNC, World, one_of_two};

/// Seeds on each version, unless told.
const SEEDS: u64 = 7;

/// Rounds of each seed.
const ROUNDS: u64 = 4;

/// Steps of traffic of each shard in a round.
const STEPS: usize = 30;

/// The number of the signal: POSIX.
const SIGTERM: i32 = 15;

/// What the plan's sequence of random numbers is for.
const PLAN: u64 = 0x706c_616e;

/// Documents that wander between two shards.
const WANDERERS: u64 = 4;

/// What happens in a round.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// Traffic, then a run.
    Nothing,
    /// A run while traffic goes on.
    Busy,
    /// `kill -9` of a run that has just begun.
    KilledEarly,
    /// `kill -9` while gizer follows and traffic goes on.
    Killed,
    /// SIGTERM while gizer follows and traffic goes on.
    Terminated,
    /// The program aborts at a step of the commit.
    FailPoint,
    /// A mongod ends and comes back while gizer follows.
    MongodRestarted,
    /// A mongod is killed and comes back while gizer follows.
    MongodKilled,
    /// A primary steps down and is elected again while gizer follows.
    SteppedDown,
    /// PostgreSQL ends and comes back while gizer follows.
    PostgresRestarted,
    /// PostgreSQL is killed and recovers while gizer follows.
    PostgresKilled,
}

/// What breaks gizer alone comes twice as often as what breaks a server.
const BLOWS: [Blow; 16] = [
    Blow::Nothing,
    Blow::Busy,
    Blow::Busy,
    Blow::KilledEarly,
    Blow::KilledEarly,
    Blow::Killed,
    Blow::Killed,
    Blow::Terminated,
    Blow::FailPoint,
    Blow::FailPoint,
    Blow::FailPoint,
    Blow::MongodRestarted,
    Blow::MongodKilled,
    Blow::SteppedDown,
    Blow::PostgresRestarted,
    Blow::PostgresKilled,
];

/// A seed under way.
struct Run<'w, 's> {
    world: &'w World<'s>,
    traffic: Vec<Traffic>,
    plan: Random,
    reached: Reached,
}

impl Run<'_, '_> {
    async fn round(&mut self) {
        let blow = self.plan.pick(&BLOWS);
        println!("  {blow:?}");
        let began = Instant::now();
        match blow {
            Blow::Nothing => {
                self.write(STEPS).await;
                self.world.sync().await;
                judge_traffic(self.world).await.unwrap();
            }
            Blow::Busy => {
                self.write(STEPS / 3).await;
                let running = self.world.spawn(SYNC);
                self.write(STEPS).await;
                running.wait().await.unwrap().expect_code(0);
            }
            Blow::KilledEarly => {
                self.write(STEPS).await;
                let running = self.world.spawn(SYNC);
                // Any moment will do, also one after its end.
                tokio::time::sleep(Duration::from_millis(self.plan.below(400))).await;
                running.kill().await.unwrap();
            }
            Blow::Killed => {
                let running = self.followed().await;
                running.kill().await.unwrap();
            }
            Blow::Terminated => {
                let running = self.followed().await;
                running.signal(Signal::Terminate).unwrap();
                let ended = running.wait().await.unwrap();
                // It may not have come as far as to listen.
                assert!(ended.code() == Some(143) || ended.signal() == Some(SIGTERM), "{ended:?}");
            }
            Blow::FailPoint => {
                let point = self.plan.pick(&FAIL_POINTS);
                self.write(STEPS).await;
                let env = [("GIZER_FAIL_POINT", point)];
                let ended = self.world.gizer.spawn_with(SYNC, &env).unwrap().wait().await.unwrap();
                // A run may have no second batch, and then does not come by between two.
                assert!(ended.signal().is_some() || ended.code() == Some(0), "at {point}: {ended:?}");
            }
            Blow::MongodRestarted | Blow::MongodKilled | Blow::SteppedDown => self.break_a_shard(blow).await,
            Blow::PostgresRestarted | Blow::PostgresKilled => self.break_postgres(blow).await,
        }
        self.expect_no_step_back().await;
        println!("    {:.1} s", began.elapsed().as_secs_f64());
    }

    /// A follower with traffic under its eyes.
    async fn followed(&mut self) -> RunningGizer {
        let running = self.world.spawn(FOLLOW);
        let steps = self.plan.below(STEPS as u64) as usize;
        self.write(steps).await;
        running
    }

    async fn break_a_shard(&mut self, blow: Blow) {
        let running = self.followed().await;
        let at = self.plan.below(self.world.shards.len() as u64) as usize;
        let shard = self.world.shards[at];
        match blow {
            Blow::MongodRestarted => shard.restart().await.unwrap(),
            Blow::MongodKilled => {
                shard.kill().unwrap();
                shard.restart().await.unwrap();
            }
            _ => {
                let step_down = doc! { "replSetStepDown": 1, "secondaryCatchUpPeriodSecs": 0, "force": true };
                self.world.databases[at].client().database("admin").run_command(step_down).await.unwrap();
                shard.wait_until_primary().await.unwrap();
            }
        }
        self.world.wait_for_shards().await;
        self.write(STEPS / 3).await;
        end_follower(running).await;
    }

    async fn break_postgres(&mut self, blow: Blow) {
        let running = self.followed().await;
        if matches!(blow, Blow::PostgresKilled) {
            self.world.postgres.kill().unwrap();
        }
        self.world.postgres.restart().await.unwrap();
        self.write(STEPS / 3).await;
        end_follower(running).await;
    }

    /// So many steps of each shard, or of one alone: the other is idle then.
    async fn write(&mut self, steps: usize) {
        let mut outcome = Outcome::default();
        let idle = self.plan.percent(30).then(|| self.plan.below(2) as usize);
        for _ in 0..steps {
            for (at, traffic) in self.traffic.iter_mut().enumerate() {
                if self.world.shards.len() > 1 && idle == Some(at) {
                    continue;
                }
                let step = traffic.next().unwrap();
                outcome += step.run(&self.world.databases[at]).await.unwrap_or_else(|e| panic!("{e}: {step:?}"));
            }
            if self.world.shards.len() > 1 && self.plan.percent(10) {
                self.wander().await;
            }
        }
        println!("    {outcome:?}");
    }

    /// A document leaves one shard for the other, as far as it is on one. For a moment it is on both, or on none.
    async fn wander(&mut self) {
        let id = format!("wanderer '{}'", self.plan.below(WANDERERS));
        let number = self.plan.below(1_000) as i32;
        let insert_first = self.plan.percent(50);
        let things = |at: usize| self.world.databases[at].collection::<Document>("things");
        for (from, to) in [(0, 1), (1, 0)] {
            if let Some(mut document) = things(from).find_one(doc! { "_id": &id }).await.unwrap() {
                document.insert("count", number);
                if insert_first {
                    things(to).insert_one(document).await.unwrap();
                    things(from).delete_one(doc! { "_id": &id }).await.unwrap();
                } else {
                    things(from).delete_one(doc! { "_id": &id }).await.unwrap();
                    things(to).insert_one(document).await.unwrap();
                }
                return;
            }
        }
        let new = doc! { "_id": &id, "count": number, "tags": ["a", "b"], "items": [{ "parts": [{ "marks": [1] }] }] };
        things(number as usize % 2).insert_one(new).await.unwrap();
    }

    async fn expect_no_step_back(&mut self) {
        let now = self.world.reached().await;
        for (shard, before) in &self.reached {
            let after = now.get(shard).unwrap_or_else(|| panic!("the position of {shard} is gone: {now:?}"));
            assert!(after >= before, "the position of {shard} went back from {before:?} to {after:?}");
        }
        self.reached = now;
    }
}

/// A follower whose server went away may have given up, in good order, or still be at it.
async fn end_follower(mut running: RunningGizer) {
    if running.is_running().unwrap() {
        running.signal(Signal::Terminate).unwrap();
    }
    let ended: Finished = running.wait().await.unwrap();
    assert!(matches!(ended.code(), Some(143 | 1)) || ended.signal() == Some(SIGTERM), "{ended:?}");
    println!("    the follower ended with {}", ended.status);
}

async fn torture(shards: &[Mongod], postgres: &Postgres, seed: u64) {
    let mut plan = Random::of(seed, PLAN, 0);
    let count = if plan.percent(35) { 2 } else { 1 };
    println!("seed {seed}: {} with {count} shards", shards[0].version());
    let world = World::new(&shards[..count], postgres).await;
    let traffic: Vec<Traffic> = (0..count as u64).map(|shard| Traffic::of_shard(seed, shard, count as u64)).collect();
    world.begin(&traffic).await;
    let start = world.reached().await;
    let mut run = Run { world: &world, traffic, plan, reached: start.clone() };
    for _ in 0..ROUNDS {
        run.round().await;
    }
    run.write(STEPS / 3).await;
    world.sync().await;
    run.expect_no_step_back().await;
    for (shard, before) in &start {
        assert!(run.reached[shard] > *before, "the position of {shard} stands at {before:?}");
    }
    judge_traffic(&world).await.unwrap();
    judge_against_fresh_load(&world).await.unwrap();
    // Nothing to do: nothing done.
    world.sync().await;
    judge_traffic(&world).await.unwrap();
}

/// All seeds of a version, on servers that are theirs. Those that fail are named at the end, all of them.
async fn seeds_of(version: Version) {
    let number =
        |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number of seeds, or a seed"));
    let seeds: Vec<u64> = match number("GIZER_TORTURE_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("GIZER_TORTURE_SEEDS").unwrap_or(SEEDS)).map(|n| 3 * n + version as u64).collect(),
    };
    let shard = |name| one_of_two(version, name);
    let (one, other, postgres) = tokio::try_join!(shard("rs0"), shard("rs1"), Postgres::start()).unwrap();
    let shards = [one, other];
    let mut failed = Vec::new();
    for seed in seeds {
        let attempt = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(torture(&shards, &postgres, seed)));
        if attempt.await.is_err() {
            failed.push(seed);
            restore(&shards, &postgres).await;
        }
    }
    assert!(failed.is_empty(), "MongoDB {version}: seeds {failed:?} failed; GIZER_TORTURE_SEED=… runs one again");
}

/// A seed that failed may have left a server that is down.
async fn restore(shards: &[Mongod], postgres: &Postgres) {
    for shard in shards.iter().filter(|shard| shard.pid().is_none()) {
        shard.restart().await.unwrap();
    }
    if postgres.pid().is_none() {
        postgres.restart().await.unwrap();
    }
    wait_until("PostgreSQL to answer", LIMIT, async || postgres.client("postgres").await.is_ok()).await.unwrap();
}

#[tokio::test]
async fn seeds_on_4_4() {
    seeds_of(Version::V4_4).await;
}

#[tokio::test]
async fn seeds_on_5_0() {
    seeds_of(Version::V5_0).await;
}

#[tokio::test]
async fn seeds_on_6_0() {
    seeds_of(Version::V6_0).await;
}
