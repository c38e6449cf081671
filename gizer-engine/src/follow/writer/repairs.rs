//! Repairs: documents whose rows somebody has found different, or that PostgreSQL has refused and are due again.
//!
//! The reader takes them into batches as if they had been touched. The writer names them when all that was delivered before is
//! committed: so none of them is in progress already, and nobody has to remember which are.

use std::collections::BTreeMap;

use gizer_pg::PgError;
use gizer_pg::state::{self, HistoryEvent, RepairKey};

use super::{CommitOutcome, FollowedTables, Purpose, Writer};
use crate::failure::Failure;
use crate::follow::PauseReason;
use crate::follow::batch::Repairs;
use crate::follow::channels::WriterEnd;
use crate::observer::TOO_MANY_REPAIRS;

impl Writer<'_> {
    /// Sends what waits to be repaired of the collections that are followed; gives why following has to pause, if it has to.
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
        // Whoever has been fenced off finds it out.
        let (mark, ahead) = (self.mark.clone(), self.ahead);
        let CommitOutcome { followed_again, .. } = self.write_down(&mark, ahead, 0).await?;
        self.commit(mark, ahead).await?;
        self.announcer.follows_again(followed_again);
        self.announcer.repaired_too_often(&overrun, &self.tables);
        Ok(Some(PauseReason::Reload(names)))
    }

    /// What waits in the open transaction, and of how many documents of which collections that is too many.
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

    /// Takes repairs off the queue, in the open transaction, before what is stored of them is read.
    pub(super) async fn take_off_queue(&mut self, member: usize, repairs: &[RepairKey]) -> Result<(), Failure> {
        for (reason, count) in state::forget_repairs(self.session, &self.tables[member].name, repairs).await? {
            *self.batch.repaired.entry((member, reason)).or_default() += count;
        }
        Ok(())
    }

    /// Writes down, in the open transaction, what the batch has repaired.
    pub(super) async fn count_repairs(&self) -> Result<(), Failure> {
        for ((member, reason), count) in &self.batch.repaired {
            let name = &self.tables[*member].name;
            state::count_event(self.session, HistoryEvent::Repair, name, reason, *count).await?;
        }
        Ok(())
    }

    /// The collections of which too many documents have been repaired with the open batch, and how many.
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

    /// Marks in the open transaction that only a load helps these.
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
