//! What a batch commits with its rows: the checkpoint, or the fence of a load.

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_pg::load::LoadFence;
use gizer_pg::state::{self, Checkpoint, FollowedNow, Run, ShardPositions, StreamFence};
use gizer_pg::{PgError, Session};

use super::FollowedTables;

/// Purpose of a run.
pub enum Purpose<'f> {
    /// The live tables, and the stream's position.
    Stream {
        /// The right to move the position.
        fence: StreamFence,
        /// The row of the run.
        run: Run<'f>,
    },
    /// The staging tables of a load.
    Load {
        /// The right to fill them.
        fence: LoadFence,
    },
}

/// What a commit records.
pub(super) struct Commit<'c> {
    pub(super) positions: &'c Positions,
    pub(super) ahead: Option<ClusterTime>,
    pub(super) changes: u64,
    pub(super) statements: u64,
    /// Whether everything written since the last commit was read back and compared.
    pub(super) verified: bool,
}

/// Result of a commit.
#[derive(Debug, Default)]
pub(super) struct CommitOutcome {
    /// Whether the tables are exact at their position.
    pub(super) exact: bool,
    /// Failing collections that have caught up with the stream.
    pub(super) followed_again: Vec<String>,
}

impl Purpose<'_> {
    /// Records the tables' position in the open transaction.
    pub(super) async fn record_position(
        &mut self,
        session: &Session,
        tables: &mut [FollowedTables<'_>],
        commit: &Commit<'_>,
    ) -> Result<CommitOutcome, PgError> {
        match self {
            Purpose::Load { fence } => {
                state::check_load(session, fence).await?;
                Ok(CommitOutcome { exact: commit.ahead.is_none(), followed_again: Vec::new() })
            }
            Purpose::Stream { fence, run } => {
                let there = is_at(commit.positions, fence.position());
                let position = if there { commit.positions } else { fence.position() }.clone();
                // Collections behind the stream are not applied up to its position.
                let ahead = match there {
                    true => commit.ahead,
                    false => commit.ahead.max(fence.position().values().map(|position| position.time()).max()),
                };
                let joining: Vec<(&str, i64)> = tables
                    .iter()
                    .filter(|tables| there && !tables.joined && !tables.apart)
                    .map(|tables| (tables.name.as_str(), tables.live_epoch))
                    .collect();
                let Commit { verified, .. } = *commit;
                let checkpoint = Checkpoint { position: &position, ahead, joined: &joining, verified };
                state::checkpoint(session, fence, &checkpoint).await?;
                let shown: ShardPositions = position.into_iter().map(|(shard, at)| (shard, Some(at))).collect();
                run.touch(&shown, commit.changes, commit.statements).await?;
                let mut followed_again = Vec::new();
                for (name, _) in joining {
                    if state::clear_obstacle(session, name).await? {
                        followed_again.push(name.to_owned());
                    }
                }
                if there {
                    tables.iter_mut().filter(|tables| !tables.apart).for_each(|tables| tables.joined = true);
                }
                Ok(CommitOutcome { exact: ahead.is_none(), followed_again })
            }
        }
    }

    /// Whether an idle position needs recording.
    pub(super) fn is_behind(
        &self,
        positions: &Positions,
        ahead: Option<ClusterTime>,
        time: ClusterTime,
        tables: &[FollowedTables<'_>],
    ) -> bool {
        match self {
            Purpose::Load { .. } => false,
            Purpose::Stream { fence, .. } => {
                let exact_now = fence.ahead().is_some() && ahead.is_none_or(|ahead| ahead <= time);
                let joins = tables.iter().any(|tables| !tables.joined);
                is_at(positions, fence.position()) && (positions != fence.position() || exact_now || joins)
            }
        }
    }

    /// Whether collections were loaded, became due for a load, or got another schema since they were read.
    pub(super) async fn has_changed(&self, session: &Session, tables: &[FollowedTables<'_>]) -> Result<bool, PgError> {
        let Purpose::Stream { .. } = self else { return Ok(false) };
        session.in_snapshot(self.has_changed_now(session, tables, &[])).await
    }

    /// The same in the open transaction, except for collections that it has marked itself.
    ///
    /// A load cannot be swapped in once this transaction has locked the tables. So this check comes
    /// before all writes, or after the commit.
    pub(super) async fn has_changed_now(
        &self,
        session: &Session,
        tables: &[FollowedTables<'_>],
        left_out: &[String],
    ) -> Result<bool, PgError> {
        let Purpose::Stream { .. } = self else { return Ok(false) };
        let mut now = state::followed_now(session).await?;
        let mut then: Vec<FollowedNow> = tables.iter().filter_map(|tables| tables.now.clone()).collect();
        then.retain(|then| !left_out.contains(&then.collection));
        // The server sorts names by its database's collation.
        now.sort_unstable();
        then.sort_unstable();
        Ok(now != then)
    }
}

/// Whether positions are at or after others, on every shard.
fn is_at(positions: &Positions, others: &Positions) -> bool {
    others.iter().all(|(shard, other)| positions.get(shard).is_some_and(|position| position.time() >= other.time()))
}
