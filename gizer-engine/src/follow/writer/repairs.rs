//! Repairs: documents with rows found different, and refused ones that are due for a retry.
//!
//! The reader adds them to batches as if touched. The writer names them once all earlier deliveries
//! are committed, so none is in progress already.

use std::collections::BTreeMap;

use gizer_pg::PgError;
use gizer_pg::state::{self, HistoryEvent, RepairKey};

use super::{BatchWriter, CommitOutcome, FollowedTables, Purpose};
use crate::failure::Failure;
use crate::follow::PauseReason;
use crate::follow::batch::Repairs;
use crate::follow::channels::WriterEnd;
use crate::observer::TOO_MANY_REPAIRS;

impl BatchWriter<'_> {
    /// Sends pending repairs to the reader; returns the reason to pause, if any.
    pub(super) async fn ask_for_repairs(&mut self, end: &WriterEnd) -> Result<Option<PauseReason>, Failure> {
        let (mut repairs, mut overrun) = (Repairs::new(), BTreeMap::new());
        if let Purpose::Stream { .. } = self.purpose {
            self.session.begin_reading().await?;
            self.rejects.look(self.session).await?;
            let outcome = self.read_repairs().await;
            (repairs, overrun) = self.session.end(outcome).await?;
        }
        if overrun.is_empty() {
            end.send_repairs(repairs).await;
            return Ok(None);
        }
        self.begin().await?;
        self.mark_overrun(&overrun).await?;
        let names: Vec<String> = overrun.keys().map(|member| self.tables[*member].name.clone()).collect();
        if self.purpose.has_changed_now(self.session, &self.tables, &names).await? {
            return Ok(Some(PauseReason::Changed));
        }
        // A fenced-off run notices here.
        let (mark, ahead) = (self.mark.clone(), self.ahead);
        let CommitOutcome { followed_again, .. } = self.record_position(&mark, ahead, 0).await?;
        self.commit(mark, ahead).await?;
        self.announcer.follows_again(followed_again);
        self.announcer.repaired_too_often(&overrun, &self.tables);
        Ok(Some(PauseReason::Reload(names)))
    }

    /// Pending repairs, and the collections that have too many.
    async fn read_repairs(&self) -> Result<(Repairs, BTreeMap<usize, u64>), PgError> {
        let (mut repairs, mut overrun) = (Repairs::new(), BTreeMap::new());
        let limit = u32::try_from(self.settings.batch_documents).unwrap_or(u32::MAX);
        let waiting = state::repairs_waiting(self.session).await?;
        for (member, tables) in self.tables.iter().enumerate() {
            if self.rejects.contains(&tables.name) {
                let since = self.rejects.since();
                let due = state::due_rejects(self.session, &tables.name, tables.live_epoch, since, limit).await?;
                if !due.is_empty() {
                    repairs.insert(member, due);
                }
            }
            let Some(count) = waiting.get(&tables.name) else { continue };
            let count = count + self.repaired_before(member);
            if count > self.settings.max_repairs {
                overrun.insert(member, count);
                continue;
            }
            let queued = state::take_repairs(self.session, &tables.name, limit).await?;
            repairs.entry(member).or_default().extend(queued);
        }
        Ok((repairs, overrun))
    }

    /// Removes repairs from the queue, in the open transaction, before stored rows are read.
    pub(super) async fn take_off_queue(&mut self, member: usize, repairs: &[RepairKey]) -> Result<(), Failure> {
        for (reason, count) in state::forget_repairs(self.session, &self.tables[member].name, repairs).await? {
            *self.batch.repaired.entry((member, reason)).or_default() += count;
        }
        Ok(())
    }

    /// Records the batch's repairs in the open transaction.
    pub(super) async fn count_repairs(&self) -> Result<(), Failure> {
        for ((member, reason), count) in &self.batch.repaired {
            let name = &self.tables[*member].name;
            state::count_event(self.session, HistoryEvent::Repair, name, reason, *count).await?;
        }
        Ok(())
    }

    /// Collections with too many repairs including the open batch, and how many.
    pub(super) fn overrun_in_batch(&self) -> BTreeMap<usize, u64> {
        let mut repaired = BTreeMap::new();
        if let Purpose::Stream { .. } = self.purpose {
            for ((member, _), count) in &self.batch.repaired {
                *repaired.entry(*member).or_insert_with(|| self.repaired_before(*member)) += count;
            }
        }
        repaired.retain(|_, count| *count > self.settings.max_repairs);
        repaired
    }

    /// Marks these as due for a load, in the open transaction.
    pub(super) async fn mark_overrun(&self, overrun: &BTreeMap<usize, u64>) -> Result<(), Failure> {
        for member in overrun.keys() {
            let FollowedTables { name, live_epoch, .. } = &self.tables[*member];
            state::mark_load_due(self.session, name, *live_epoch, TOO_MANY_REPAIRS).await?;
        }
        Ok(())
    }

    fn repaired_before(&self, member: usize) -> u64 {
        self.repaired.get(&member).copied().unwrap_or_default()
    }
}
