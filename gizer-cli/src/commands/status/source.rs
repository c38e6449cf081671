//! Position of the tables relative to MongoDB's oplogs: lag and headroom.

use std::collections::BTreeMap;
use std::time::Duration;

use gizer_oplog::{LogWindow, Oplog};
use gizer_pg::state::{Followed, Status};
use serde_json::{Value, json};

use crate::commands::Context;
use crate::exit::Failure;
use crate::ui::report::{self, duration};

/// How long MongoDB may take to answer: a status that is wanted at night must come soon.
const MONGO_TIMEOUT: Duration = Duration::from_secs(5);

/// What MongoDB said.
#[derive(Debug)]
pub(super) enum OplogStatus {
    /// Nothing is followed, or MongoDB is not configured: there is nothing to ask.
    NotAsked,
    /// By shard.
    Told(BTreeMap<String, ShardStanding>),
    /// It did not answer, or may not be asked.
    Silent(Failure),
}

/// Position of the tables relative to one oplog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardStanding {
    /// From the earliest position of what is followed to the newest entry; `None` of a shard without a position.
    pub(super) lag: Option<Duration>,
    /// Until the position is no longer in the log.
    pub(super) headroom: Option<Duration>,
    /// From where everything is verified to the newest entry; `None` if nothing is.
    pub(super) unverified: Option<Duration>,
    /// What the log holds.
    pub(super) span: Duration,
    /// Whether it drops old entries by now: before, `headroom` is a guess from what may be a short time.
    pub(super) rolls_over: bool,
}

impl OplogStatus {
    /// Asks every shard, if anything is followed.
    pub(super) async fn ask(context: &Context, status: &Status, followed: &[Followed]) -> OplogStatus {
        if followed.is_empty() || context.config.mongo_uris.is_empty() {
            return OplogStatus::NotAsked;
        }
        let ask = async {
            let oplogs = context.env.mongo().await?.oplogs().await?;
            let mut shards = BTreeMap::new();
            for oplog in &oplogs {
                shards.insert(oplog.name().to_owned(), standing(oplog, oplog.window().await?, status, followed));
            }
            Ok::<_, Failure>(shards)
        };
        match tokio::time::timeout(MONGO_TIMEOUT, ask).await {
            Ok(Ok(shards)) => OplogStatus::Told(shards),
            Ok(Err(failure)) => OplogStatus::Silent(failure),
            Err(_) => OplogStatus::Silent(Failure::failed(format!(
                "MongoDB did not answer within {} s",
                MONGO_TIMEOUT.as_secs()
            ))),
        }
    }

    /// A table, or why there is none.
    pub(super) fn text(&self) -> String {
        let shards = match self {
            OplogStatus::NotAsked => return String::new(),
            OplogStatus::Silent(failure) => return format!("\nlag and headroom are not known: {failure}\n"),
            OplogStatus::Told(shards) => shards,
        };
        let told = |time: Option<Duration>| time.map_or_else(|| "unknown".to_owned(), duration);
        let row = |(shard, standing): (&String, &ShardStanding)| {
            let headroom = match standing.headroom {
                Some(Duration::ZERO) => "a load is due".to_owned(),
                headroom => told(headroom),
            };
            vec![shard.clone(), told(standing.lag), headroom, told(standing.unverified), duration(standing.span)]
        };
        let header = ["shard", "lag", "headroom", "unverified", "oplog reaches back"];
        format!("\n{}", report::table(&header, &[], shards.iter().map(row)))
    }

    /// A list by shard; null if it is not known.
    pub(super) fn json(&self) -> Value {
        let OplogStatus::Told(shards) = self else { return Value::Null };
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        let shard = |(shard, standing): (&String, &ShardStanding)| {
            json!({
                "shard": shard, "lag_seconds": seconds(standing.lag), "headroom_seconds": seconds(standing.headroom),
                "unverified_seconds": seconds(standing.unverified), "oplog_seconds": standing.span.as_secs(),
                "oplog_rolls_over": standing.rolls_over,
            })
        };
        shards.iter().map(shard).collect()
    }
}

fn standing(oplog: &Oplog, window: LogWindow, status: &Status, followed: &[Followed]) -> ShardStanding {
    // What was loaded since the last sync is elsewhere than the stream.
    let positions = followed.iter().filter_map(|each| each.position_on(&status.stream, oplog.name()));
    let position = positions.map(|at| at.time()).min();
    let verified = status.verified_up_to.as_ref().and_then(|verified| verified.get(oplog.name()));
    ShardStanding {
        lag: position.map(|at| window.behind(at)),
        headroom: position.map(|at| window.headroom(at)),
        unverified: verified.map(|at| window.behind(at.time())),
        span: window.span(),
        rolls_over: window.rolls_over(),
    }
}
