//! Repairs: documents whose rows somebody has found different are taken into batches as if they had been touched; and so are
//! documents that PostgreSQL has refused, when they are due to be tried again.
//!
//! The reader asks between two batches, and the writer, whose the session is, answers when all that was delivered before is
//! committed. So what is given is not under way already, and nobody has to remember what is. The reader goes on while it waits
//! for the answer, unless it has nothing else to do.

use std::collections::BTreeMap;
use std::time::Instant;

use gizer_oplog::{ChangeSource, LookUp};
use gizer_pg::PgError;
use gizer_pg::state::{self, HistoryEvent, RepairKey};
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::commit::WrittenDown;
use super::member::FollowedTables;
use super::read::{Delivery, Reader};
use super::touched::Batch;
use super::write::{Open, Writer};
use super::{LOOK_EVERY, PauseReason, Purpose};
use crate::failure::Failure;
use crate::observer::{CollectionEventKind, TOO_MANY_REPAIRS};

/// What is to be repaired, by the number of the collection.
pub(super) type Repairs = BTreeMap<usize, Vec<RepairKey>>;

/// What the reader has asked for.
#[derive(Debug)]
pub(super) struct Asking {
    asked: Instant,
    /// The answer that is to come.
    answer: Option<oneshot::Receiver<Repairs>>,
    /// What is known of the collections is later than the mark: nothing is repaired any more by this reader.
    ended: bool,
}

impl Asking {
    /// From now on nothing is repaired.
    pub(super) fn end(&mut self) {
        *self = Asking { ended: true, ..Asking::default() };
    }
}

impl Default for Asking {
    fn default() -> Asking {
        Asking { asked: Instant::now(), answer: None, ended: false }
    }
}

/// The writer has ended: nobody wants more.
#[derive(Debug)]
pub(super) struct Unwanted;

impl<S: ChangeSource, L: LookUp> Reader<'_, S, L> {
    /// A batch of what waits to be repaired, if there is anything and the writer has said so. It is asked now and then, or at
    /// once if it `must` be; its answer is waited for by a reader that is `idle`.
    pub(super) async fn next_repairs(
        &mut self,
        deliver: &Sender<Delivery>,
        idle: bool,
        must: bool,
    ) -> Result<Option<Batch>, Unwanted> {
        if self.asking.ended {
            return Ok(None);
        }
        if self.asking.answer.is_none() && (must || self.asking.asked.elapsed() >= LOOK_EVERY) {
            let (answer, asked) = oneshot::channel();
            deliver.send(Delivery::Repairs(answer)).await.map_err(|_| Unwanted)?;
            self.asking = Asking { answer: Some(asked), ..Asking::default() };
        }
        let Some(answer) = &mut self.asking.answer else { return Ok(None) };
        let repairs = match idle || must {
            true => answer.await.map_err(|_| Unwanted)?,
            false => match answer.try_recv() {
                Ok(repairs) => repairs,
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Closed) => return Err(Unwanted),
            },
        };
        self.asking.answer = None;
        let repairs: Repairs = repairs.into_iter().filter(|(member, _)| self.can_repair(*member)).collect();
        Ok((!repairs.is_empty()).then(|| Batch { repairs, ..Batch::default() }))
    }

    /// Whether documents of a collection may be read as they were at the last watermark: its tables stand at an earlier time
    /// or this one, and it is the one that is followed.
    fn can_repair(&self, member: usize) -> bool {
        let applied_to = &self.members.all[member].applied_to;
        !self.unexplained.contains_key(&member) && applied_to.values().all(|applied| applied.time <= self.mark.time)
    }
}

/// Why documents count as repaired that a batch had to write a second time.
pub(super) const WRITTEN_TWICE: &str = "rows were not as they had been written";

/// A collection of which too many documents have to be repaired.
pub(super) struct GivenUp {
    pub(super) collection: String,
    repairs: u64,
}

/// What the writer finds when it is asked for repairs.
pub(super) enum Waiting {
    /// These wait.
    Repairs(Repairs),
    /// There are too many of them, or what is followed is another by now.
    Pause(PauseReason),
}

impl Writer<'_> {
    /// What waits to be repaired of the collections that are followed.
    pub(super) async fn waiting_repairs(&mut self) -> Result<Waiting, Failure> {
        let Purpose::Stream { .. } = self.purpose else { return Ok(Waiting::Repairs(Repairs::new())) };
        self.session.begin_reading().await?;
        self.rejects.look(self.session).await?;
        let outcome = self.read_repairs().await;
        let (repairs, too_many) = self.session.end(outcome).await?;
        if too_many.is_empty() {
            return Ok(Waiting::Repairs(repairs));
        }
        self.begin().await?;
        let given_up = self.give_up(&too_many).await?;
        let names: Vec<String> = given_up.iter().map(|given_up| given_up.collection.clone()).collect();
        if self.purpose.has_changed_now(self.session, &self.tables, &names).await? {
            return Ok(Waiting::Pause(PauseReason::Changed));
        }
        // Whoever has been fenced off finds it out.
        let (mark, ahead) = (self.mark.clone(), self.ahead);
        let WrittenDown { followed_again, .. } = self.write_down(&mark, ahead, 0).await?;
        self.batch = Open::default();
        self.session.end(Ok(())).await?;
        self.tell_troubles(BTreeMap::new(), BTreeMap::new(), followed_again);
        self.tell_of(given_up);
        Ok(Waiting::Pause(PauseReason::Reload(names)))
    }

    /// What waits in the open transaction, and how many repairs there would be of collections of which there are too many.
    async fn read_repairs(&self) -> Result<(Repairs, BTreeMap<usize, u64>), PgError> {
        let (mut repairs, mut too_many) = (Repairs::new(), BTreeMap::new());
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
            let count = count + self.repaired.get(&member).copied().unwrap_or_default();
            if count > self.settings.max_repairs {
                too_many.insert(member, count);
                continue;
            }
            let queued = state::take_repairs(self.session, &tables.name, limit).await?;
            repairs.entry(member).or_default().extend(queued);
        }
        Ok((repairs, too_many))
    }

    /// Takes repairs off the queue, in the open transaction, before what is stored of them is read.
    pub(super) async fn take_off(&mut self, member: usize, repairs: &[RepairKey]) -> Result<(), Failure> {
        for (reason, count) in state::forget_repairs(self.session, &self.tables[member].name, repairs).await? {
            *self.batch.repaired.entry((member, reason)).or_default() += count;
        }
        Ok(())
    }

    /// Writes down, in the open transaction, what the batch has repaired.
    pub(super) async fn count_repairs(&mut self) -> Result<(), Failure> {
        for ((member, reason), count) in &self.batch.repaired {
            let name = &self.tables[*member].name;
            state::count_event(self.session, HistoryEvent::Repair, name, reason, *count).await?;
        }
        Ok(())
    }

    /// The collections of which too many documents have been repaired with the open batch, and how many.
    pub(super) fn too_many(&self) -> BTreeMap<usize, u64> {
        let mut repaired = BTreeMap::new();
        if let Purpose::Stream { .. } = self.purpose {
            for ((member, _), count) in &self.batch.repaired {
                *repaired.entry(*member).or_insert_with(|| self.repaired.get(member).copied().unwrap_or_default()) +=
                    count;
            }
        }
        repaired.retain(|_, count| *count > self.settings.max_repairs);
        repaired
    }

    /// Only a load helps these any more, in the open transaction.
    pub(super) async fn give_up(&mut self, too_many: &BTreeMap<usize, u64>) -> Result<Vec<GivenUp>, Failure> {
        let mut given_up = Vec::new();
        for (member, count) in too_many {
            let FollowedTables { name, live_epoch, .. } = &self.tables[*member];
            state::mark_load_due(self.session, name, *live_epoch, TOO_MANY_REPAIRS).await?;
            given_up.push(GivenUp { collection: name.clone(), repairs: *count });
        }
        Ok(given_up)
    }

    /// Counts what was repaired, once it is committed.
    pub(super) fn add_repaired(&mut self, repaired: BTreeMap<(usize, String), u64>) {
        for ((member, _), count) in repaired {
            *self.repaired.entry(member).or_default() += count;
            self.progress.repaired += count;
        }
    }

    /// Says what is loaded anew for having been repaired too often, once it is committed.
    pub(super) fn tell_of(&mut self, given_up: Vec<GivenUp>) {
        let most = self.settings.max_repairs;
        for GivenUp { collection, repairs } in given_up {
            self.happened(&collection, CollectionEventKind::TooManyRepairs { repairs, most });
        }
    }
}
