//! What of a status an operator should look at.

use std::time::Duration;

use gizer_pg::state::{RunRow, Status};

use super::audits;
use super::source::{OplogStatus, ShardStanding};
use crate::args::CheckLimits;
use crate::ui::report::{counted, duration, thousands};
use gizer_engine::due::{CopyStanding, CopyStandings, StandingKind};

/// A line for each warning; the gravest first.
pub(super) fn warnings(
    status: &Status,
    source: &OplogStatus,
    standings: &CopyStandings,
    limits: CheckLimits,
) -> Vec<String> {
    if status.collections.is_empty() && standings.0.is_empty() {
        return vec!["nothing has been loaded yet".to_owned()];
    }
    let mut all: Vec<String> = standings.missing().map(|(name, standing)| missing(name, standing)).collect();
    match source {
        OplogStatus::NotAsked => {}
        OplogStatus::Silent(failure) => all.push(format!("lag and headroom are not known: {failure}")),
        OplogStatus::Told(shards) => {
            for (shard, standing) in shards {
                all.extend(of_shard(shard, standing, limits));
            }
        }
    }
    all.extend(status.runs.first().and_then(failed));
    for each in &status.collections {
        if each.rejected > limits.max_rejected {
            let documents = counted(each.rejected, "document is", "documents are");
            all.push(format!(
                "{}: {documents} rejected, the limit is {}",
                each.collection,
                thousands(limits.max_rejected)
            ));
        }
        all.extend(audits::unequal(each).map(|found| format!("{}: {found}", each.collection)));
    }
    all
}

fn missing(name: &str, standing: &CopyStanding) -> String {
    match (standing.kind, &standing.reason) {
        (StandingKind::LoadDue, Some(reason)) => format!("{name}: a load is due: {reason}"),
        _ => format!("{name}: {}", standing.line()),
    }
}

fn of_shard(shard: &str, standing: &ShardStanding, limits: CheckLimits) -> Vec<String> {
    let mut all = Vec::new();
    match standing.headroom {
        Some(Duration::ZERO) => {
            all.push(format!("{shard}: its oplog no longer reaches back to the position: a load is due"));
        }
        Some(headroom) if standing.rolls_over && headroom < limits.min_headroom => all.push(format!(
            "{shard}: at the write rate of the last {} the oplog will overwrite our position in about {} (warning threshold {}); \
             keep gizer running or enlarge the oplog",
            duration(standing.span),
            duration(headroom),
            duration(limits.min_headroom)
        )),
        _ => {}
    }
    match standing.lag {
        None => all.push(format!("{shard}: is not followed yet")),
        Some(lag) if lag > limits.max_lag => {
            all.push(format!("{shard}: the lag is {}, the limit is {}", duration(lag), duration(limits.max_lag)));
        }
        Some(_) => {}
    }
    if let Some(limit) = limits.max_unverified {
        match standing.unverified {
            None => all.push(format!("{shard}: nothing is verified")),
            Some(time) if time > limit => {
                all.push(format!(
                    "{shard}: nothing is verified of the last {}, the limit is {}",
                    duration(time),
                    duration(limit)
                ));
            }
            Some(_) => {}
        }
    }
    all
}

fn failed(run: &RunRow) -> Option<String> {
    run.ended.as_ref()?;
    let what = run.comment.as_deref().unwrap_or("run");
    match (&run.reason, run.error) {
        (Some(reason), _) => Some(format!("the last run ({what}) failed: {reason}")),
        (None, Some(true)) => Some(format!("the last run ({what}) failed: a load is due")),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LIMITS: CheckLimits = CheckLimits {
        max_lag: Duration::from_secs(900),
        min_headroom: Duration::from_secs(21_600),
        max_rejected: 0,
        max_unverified: Some(Duration::from_secs(3_600)),
    };

    fn shard(lag: u64, headroom: u64, unverified: Option<u64>) -> Vec<String> {
        let standing = ShardStanding {
            lag: Some(Duration::from_secs(lag)),
            headroom: Some(Duration::from_secs(headroom)),
            unverified: unverified.map(Duration::from_secs),
            span: Duration::from_secs(1_200),
            rolls_over: true,
        };
        of_shard("rs0", &standing, LIMITS)
    }

    #[test]
    fn a_shard_is_warned_of_beyond_the_limits_only() {
        assert_eq!(shard(900, 21_600, Some(3_600)), [""; 0]);
        let all = shard(901, 21_599, Some(3_601));
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(
            all[0].contains(
                "at the write rate of the last 20 min the oplog will overwrite our position in about 5 h 59 min"
            ),
            "{all:?}"
        );
        assert!(all[0].contains("(warning threshold 6 h)"), "{all:?}");
        assert!(all[1].contains("the lag is 15 min 1 s, the limit is 15 min"), "{all:?}");
        assert!(shard(0, 0, Some(0))[0].contains("a load is due"));
        assert!(shard(0, 30_000, None)[0].contains("nothing is verified"));
    }

    #[test]
    fn nothing_loaded_is_worth_a_warning() {
        let told = OplogStatus::Told(BTreeMap::new());
        let none = CopyStandings::default();
        assert_eq!(warnings(&Status::default(), &told, &none, LIMITS), ["nothing has been loaded yet"]);
    }
}
