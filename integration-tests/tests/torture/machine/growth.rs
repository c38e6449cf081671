//! Schemas that grow: what lets them is drawn, and done.

use std::time::Duration;

use integration_tests::random::Random;
use integration_tests::rig::{Finished, Gizer, RunningGizer};
use integration_tests::traffic::{Growing, Step};

use super::perform::Run;
use super::plan::{Activity, Ddl, EndOfGrowth, Event, Fault};
use crate::world::World;

/// Where `schema evolve` may die by itself.
const FAIL_POINTS: [&str; 4] = ["evolve.after_begin", "evolve.in_chunk", "evolve.after_chunk", "evolve.after_finish"];

/// What the sequence of random numbers is for.
const GROWTH: u64 = 0x6576_6f6c;

/// The number of the signal by which gizer dies at a fail point: POSIX.
const SIGABRT: i32 = 6;

/// Draws what lets schemas grow, with random numbers of its own: all else of a seed stays as it is.
pub(super) struct GrowthDraw {
    random: Random,
    growing: Growing,
}

impl GrowthDraw {
    pub(super) fn of(seed: u64) -> Self {
        Self { random: Random::of(seed, GROWTH, 0), growing: Growing::of(seed) }
    }

    /// Puts writes to the collection that grows and runs of `schema evolve` between the events of a
    /// round. Some of what the round does to one collection is done to that one.
    pub(super) fn add_to(&mut self, activity: &mut Activity, events: &mut Vec<Event>, shards: u64) {
        if let Activity::Load(name) | Activity::Resync(name) = activity {
            self.redirect(name);
        }
        for event in events.iter_mut() {
            if let Event::Fault(
                Fault::Ddl(Ddl::Drop(name) | Ddl::Rename(name) | Ddl::Out(name)) | Fault::Hold(name, ..),
            ) = event
            {
                self.redirect(name);
            }
        }
        for _ in 0..self.random.between(4, 12 + events.len() as u64 / 4) {
            let shard = self.random.below(shards);
            let command = self.growing.command(shard, shards);
            self.insert(events, Event::Write(shard as usize, Step::Command(command)));
        }
        for _ in 0..self.random.below(3) {
            let end = self.end();
            self.insert(events, Event::Evolve(end));
        }
    }

    /// Whether a round ends with `schema evolve`, at rest.
    pub(super) fn is_at_rest(&mut self) -> bool {
        self.random.percent(50)
    }

    /// At any place.
    fn insert(&mut self, events: &mut Vec<Event>, event: Event) {
        let at = self.random.below(events.len() as u64 + 1) as usize;
        events.insert(at, event);
    }

    fn end(&mut self) -> EndOfGrowth {
        match self.random.below(4) {
            0 => EndOfGrowth::KilledAfter(Duration::from_millis(self.random.skewed_below(600))),
            1 => EndOfGrowth::DiesAt(self.random.pick(&FAIL_POINTS)),
            _ => EndOfGrowth::ByItself,
        }
    }

    fn redirect(&mut self, name: &mut String) {
        if self.random.percent(30) {
            name.clone_from(&self.growing.shape().name);
        }
    }
}

/// Two documents are enough from now on, and `run` lets schemas grow as often as it can.
pub(super) fn let_grow_often(gizer: &Gizer) {
    let path = gizer.config_path();
    let config = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, config + "\n[schemas]\nevolve_documents = 2\nevolve_every = 0\n").unwrap();
}

/// Versions of schemas that have been reached.
pub(super) async fn versions(world: &World<'_>) -> u64 {
    let has_any = "SELECT to_regclass('public.gizer_schema_history') IS NOT NULL AS has_any";
    if world.rows(has_any).await[0]["has_any"] == false {
        return 0;
    }
    let finished = "SELECT count(*) FROM gizer_schema_history WHERE finished_at IS NOT NULL AND failed IS NULL";
    world.rows(finished).await[0]["count"].as_u64().unwrap()
}

/// `schema evolve`, next to the activity of a round.
pub(super) struct Evolving {
    gizer: RunningGizer,
    end: EndOfGrowth,
}

impl Run<'_, '_> {
    /// Starts `schema evolve`, once an earlier one has ended.
    pub(super) async fn evolve(&mut self, end: EndOfGrowth) {
        println!("    schema evolve: {end:?}");
        self.end_growth().await;
        let env: &[(&str, &str)] = match end {
            EndOfGrowth::DiesAt(point) => &[("GIZER_FAIL_POINT", point)],
            _ => &[],
        };
        self.figures.runs += 1;
        let gizer = self.world.gizer.spawn_with(["schema", "evolve"], env).unwrap();
        match end {
            EndOfGrowth::KilledAfter(after) => {
                // Any moment will do, also one after its end.
                tokio::time::sleep(after).await;
                let ended = gizer.kill().await.unwrap();
                if ended.signal().is_none() {
                    self.expect_fair_growth(&ended);
                }
            }
            _ => self.evolving = Some(Evolving { gizer, end }),
        }
    }

    /// Waits for the end of `schema evolve`, if it runs.
    pub(super) async fn end_growth(&mut self) {
        let Some(Evolving { gizer, end }) = self.evolving.take() else { return };
        let ended = gizer.wait().await.unwrap();
        let died = matches!(end, EndOfGrowth::DiesAt(_)) && ended.signal() == Some(SIGABRT);
        if !died {
            self.expect_fair_growth(&ended);
        }
    }

    /// Another run may hold a collection; all else goes wrong only where something is broken.
    fn expect_fair_growth(&self, ended: &Finished) {
        const LOCKED: i32 = 5;
        let is_fair =
            matches!(ended.code(), Some(0 | LOCKED)) || (self.disturbed && matches!(ended.code(), Some(1 | 3)));
        let Finished { status, stdout, stderr } = ended;
        assert!(is_fair, "schema evolve ended with {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        let is_silent = ended.code() != Some(0) && !stderr.lines().any(|line| line.starts_with("gizer: "));
        assert!(!is_silent, "schema evolve ended with {status} and does not say why");
    }

    /// Nothing breaks, and nobody else runs: what may grow does.
    pub(super) async fn grow_at_rest(&mut self) {
        self.figures.runs += 1;
        self.world.run(&["schema", "evolve"]).await.expect_code(0);
    }
}
