//! The torture machine with its seeds: traffic and faults from a seed, on each version of MongoDB.
//!
//! | variable | meaning |
//! |---|---|
//! | | the same few seeds each time, short ones |
//! | `GIZER_TORTURE_SEEDS=100` | so many seeds on each version |
//! | `GIZER_TORTURE_SECONDS=3600` | long seeds until so much time is over, on each version |
//! | `GIZER_TORTURE_SEED=17` | one seed alone |
//! | `GIZER_TORTURE_KEEP=1,4-9` | of that seed, these events alone |
//! | `GIZER_TORTURE_FROM=1000` | the first seed is about this one, not 0 |
//! | `GIZER_TORTURE_LONG=1` | long seeds, of many more writes, as with `GIZER_TORTURE_SECONDS`; with 0, short ones there, too |
//! | `GIZER_TORTURE_SHRINK=60` | for how many seconds events are left out of a seed that fails |

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use integration_tests::rig::{Mongod, Postgres, Version, wait_until};

use super::machine::{Figures, KINDS, Length, Plan, perform, shrink};
use super::world::{LIMIT, one_of_two};

/// Seeds of each version, unless told: few writes, and every kind of fault more than once.
const FIXED_SEEDS: [[u64; 3]; 3] = [[2139, 57, 2346], [2860, 2086, 3949], [5189, 4895, 1049]];

/// Seconds of shrinking, unless told.
const SHRINK_SECONDS: u64 = 60;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: expected a number, got {text:?}")))
}

/// What the environment asks for.
struct Wanted {
    seeds: Box<dyn Iterator<Item = u64>>,
    until: Option<Instant>,
    length: Length,
    kept: Option<BTreeSet<usize>>,
    shrinking: Duration,
}

impl Wanted {
    fn of(version: Version) -> Self {
        let seconds = number("GIZER_TORTURE_SECONDS").map(Duration::from_secs);
        let first = number("GIZER_TORTURE_FROM").unwrap_or(0);
        let nth = move |n: u64| 3 * (first / 3 + n) + version as u64;
        let seeds: Box<dyn Iterator<Item = u64>> = match (number("GIZER_TORTURE_SEED"), seconds) {
            (Some(seed), _) => Box::new([seed].into_iter()),
            (None, Some(_)) => Box::new((0..).map(nth)),
            (None, None) => match number("GIZER_TORTURE_SEEDS") {
                Some(count) => Box::new((0..count).map(nth)),
                None => Box::new(FIXED_SEEDS[version as usize].into_iter()),
            },
        };
        Self {
            seeds,
            until: seconds.map(|seconds| Instant::now() + seconds),
            length: match number("GIZER_TORTURE_LONG").map_or(seconds.is_some(), |long| long > 0) {
                true => Length::Long,
                false => Length::Short,
            },
            kept: env::var("GIZER_TORTURE_KEEP").ok().map(|text| numbers_of(&text)),
            shrinking: Duration::from_secs(number("GIZER_TORTURE_SHRINK").unwrap_or(SHRINK_SECONDS)),
        }
    }
}

/// `1,4-6` is 1, 4, 5 and 6.
fn numbers_of(text: &str) -> BTreeSet<usize> {
    let number = |text: &str| text.trim().parse().expect("numbers of events, such as 1,4-9");
    let range = |text: &str| match text.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(text)..=number(text),
    };
    text.split(',').flat_map(range).collect()
}

/// The inverse.
fn text_of(numbers: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

/// The servers of a version, which all of its seeds use.
struct Servers {
    version: Version,
    shards: [Mongod; 2],
    postgres: Postgres,
}

impl Servers {
    async fn start(version: Version) -> Self {
        let shard = |name| one_of_two(version, name);
        let (one, other, postgres) = tokio::try_join!(shard("rs0"), shard("rs1"), Postgres::start()).unwrap();
        Self { version, shards: [one, other], postgres }
    }

    /// Does what a plan says; what it found is printed by its panic.
    async fn attempt(&self, plan: &Plan) -> Option<Figures> {
        let attempt = AssertUnwindSafe(perform(&self.shards, &self.postgres, plan)).catch_unwind().await;
        if attempt.is_err() {
            self.restore().await;
        }
        attempt.ok()
    }

    /// A seed that failed may have left a server that is down.
    async fn restore(&self) {
        for shard in self.shards.iter().filter(|shard| shard.pid().is_none()) {
            shard.restart().await.unwrap();
        }
        if self.postgres.pid().is_none() {
            self.postgres.restart().await.unwrap();
        }
        let answers = async || self.postgres.client("postgres").await.is_ok();
        wait_until("PostgreSQL to answer", LIMIT, answers).await.unwrap();
    }

    /// Prints how to see a failure again, and the least that shows it.
    async fn explain(&self, plan: &Plan, wanted: &Wanted) {
        let test = format!("seeds_on_{}", self.version.to_string().replace('.', "_"));
        let long = if wanted.length == Length::Long { " GIZER_TORTURE_LONG=1" } else { "" };
        let command = |kept: &str| {
            let variables = format!("GIZER_TORTURE_SEED={}{long}{kept}", plan.seed);
            format!("{variables} cargo test -p integration-tests --test torture {test} -- --nocapture")
        };
        println!("seed {} failed; again by\n  {}", plan.seed, command(""));
        let began = Instant::now();
        let shrunk = shrink(plan, wanted.shrinking, async |plan| self.attempt(plan).await.is_none()).await;
        let mut text = format!("shrunk in {:.0} s to\n{shrunk}", began.elapsed().as_secs_f64());
        let kept = format!(" GIZER_TORTURE_KEEP={}", text_of(&shrunk.numbers()));
        write!(text, "again by\n  {}", command(&kept)).unwrap();
        println!("{text}");
    }
}

/// All seeds of a version, on servers that are theirs. Those that fail are named at the end, all of them.
async fn seeds_of(version: Version) {
    let mut wanted = Wanted::of(version);
    let servers = Servers::start(version).await;
    let (mut figures, mut failed) = (Figures::default(), Vec::new());
    let began = Instant::now();
    while let Some(seed) = wanted.seeds.next() {
        if wanted.until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let whole = Plan::draw(seed, wanted.length);
        let plan = wanted.kept.as_ref().map_or(whole.clone(), |kept| whole.with(kept));
        println!("seed {seed}: MongoDB {version} with {} shards, {} faults", plan.shards, plan.faults().count());
        match servers.attempt(&plan).await {
            Some(done) => figures += done,
            None => {
                failed.push(seed);
                servers.explain(&plan, &wanted).await;
            }
        }
    }
    println!("MongoDB {version}: {figures} in {:.0} s; failed: {failed:?}", began.elapsed().as_secs_f64());
    assert!(figures.seeds < 3 || figures.versions > 0, "MongoDB {version}: no schema has grown");
    assert!(failed.is_empty(), "MongoDB {version}: seeds {failed:?} failed; see above how to run one again");
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

#[test]
fn numbers_of_events_are_written_short() {
    let numbers = BTreeSet::from([1, 4, 5, 6, 9]);
    assert_eq!(text_of(&numbers), "1,4-6,9");
    assert_eq!(numbers_of("1,4-6,9"), numbers);
}

#[test]
fn the_fixed_seeds_have_every_kind_of_fault() {
    let plans = FIXED_SEEDS.iter().flatten().map(|seed| Plan::draw(*seed, Length::Short).to_string());
    let plans: Vec<String> = plans.collect();
    for kind in KINDS {
        let having = plans.iter().filter(|plan| plan.contains(kind)).count();
        assert!(having >= 2, "{having} of the plans have {kind}");
    }
}
