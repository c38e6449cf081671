//! What becomes of tables when their collection is created, dropped, renamed or replaced.

use gizer_oplog::{ChangeSource, LookUp};
use gizer_pg::state;

use super::member::Ddl;
use super::touched::{Batch, Effect};
use super::{Follow, Purpose};
use crate::exit::Failure;
use crate::report::note;

impl<S: ChangeSource, L: LookUp> Follow<'_, S, L> {
    /// Brings about what has happened to collections as such, in the open transaction.
    pub(super) async fn take_effects(&mut self, effects: &[Effect]) -> Result<(), Failure> {
        for Effect { member, ddl } in effects {
            let member = &mut self.members.all[*member];
            let (name, epoch, uuids) = (&member.name, member.live_epoch, &member.watched.uuids);
            if let Purpose::Load { .. } = self.purpose {
                let message = format!("{name} was created, dropped, renamed or replaced while it was loaded");
                return Err(Failure::failed(message).remedy("load it again"));
            }
            match ddl {
                Ddl::Created(_) => state::set_uuids(self.session, name, epoch, uuids).await?,
                Ddl::Gone(_) => {
                    state::set_uuids(self.session, name, epoch, uuids).await?;
                    member.store.empty().await?;
                }
                Ddl::Reload(why) => state::mark_load_due(self.session, name, epoch, why).await?,
            }
        }
        Ok(())
    }

    /// Collections that were passed over, and no entry has told why, though all up to then have come: a shard that was added,
    /// files that were exchanged below the server. What was passed over of them is not known any more.
    pub(super) async fn give_up_unexplained(&mut self) -> Result<Vec<String>, Failure> {
        let time = self.mark.time;
        let due: Vec<usize> =
            self.unexplained.iter().filter(|(_, until)| **until <= time).map(|(member, _)| *member).collect();
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let ddl = Ddl::Reload("it is another collection, and no entry of the oplog says since when");
        let effects = due.into_iter().map(|member| Effect { member, ddl }).collect();
        let batch = Batch { effects, mark: Some(self.mark.clone()), ..Batch::default() };
        self.apply(&batch).await?;
        self.unexplained.retain(|_, until| *until > time);
        Ok(self.to_reload(&batch))
    }

    /// Says what has happened, once it is committed.
    pub(super) fn tell(&mut self, batch: &Batch) {
        for Effect { member, ddl } in &batch.effects {
            let name = &self.members.all[*member].name;
            let event = match ddl {
                Ddl::Created(_) => continue,
                Ddl::Gone(_) => format!("{name}: dropped or renamed in MongoDB; its tables are empty now"),
                Ddl::Reload(why) => format!("{name}: {why} in MongoDB; it is loaded anew"),
            };
            note(&event);
            self.progress.events.push(event);
        }
    }

    /// The collections that have to be loaded anew after this batch.
    pub(super) fn to_reload(&self, batch: &Batch) -> Vec<String> {
        let due = batch.effects.iter().filter(|effect| matches!(effect.ddl, Ddl::Reload(_)));
        let mut names: Vec<String> = due.map(|effect| self.members.all[effect.member].name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
