//! From single changes to batches.

use std::time::Instant;

use gizer_oplog::{ChangeEvent, ChangeSource, LookUp};
use tokio::time::timeout;

use super::members::{Concern, Ddl};
use super::read::Reader;
use super::touched::{Batch, Effect, Mark};
use super::{GATHERING_LIMIT, LINGER, LOOK_EVERY, Until};
use crate::failure::Failure;

/// What there is to do.
pub(super) enum Collected {
    /// At most the position has moved.
    Nothing,
    /// Something to apply.
    Batch(Batch),
}

impl<S: ChangeSource, L: LookUp> Reader<'_, S, L> {
    /// The next batch: everything up to a watermark at which there is nothing more to be had at once, or enough. If there is
    /// nothing for a while, it gives that.
    pub(super) async fn collect(&mut self, until: Until, stop: &impl Fn() -> bool) -> Result<Collected, Failure> {
        self.members.take_layouts();
        let (mut batch, began, before) = (Batch::default(), Instant::now(), self.mark.clone());
        // What came after the last watermark, and is not whole yet.
        let mut open = Batch::default();
        loop {
            let event = match self.pending.take() {
                Some(event) => event,
                None => {
                    let lingers = open.is_empty() && !batch.touched.is_empty();
                    match timeout(if lingers { LINGER } else { LOOK_EVERY }, self.source.next()).await {
                        Ok(event) => event?,
                        Err(_) if open.is_empty() => return Ok(collected(batch)),
                        Err(_) if stop() => return Ok(self.without(&open, batch, before)),
                        Err(_) => continue,
                    }
                }
            };
            match event {
                ChangeEvent::Watermark { time, positions, read_to } => {
                    let done = matches!(until, Until::Time(until) if read_to >= until);
                    // The same again: a prepared transaction holds it back, and with it what came after.
                    let stands = !open.is_empty() && time == self.mark.time && positions == self.mark.positions;
                    self.mark = Mark { time, positions, read_to };
                    match (stands, done) {
                        (true, true) => return Ok(self.without(&open, batch, before)),
                        (true, false) => continue,
                        (false, _) => batch.append(std::mem::take(&mut open)),
                    }
                    let enough = batch.documents() >= self.settings.batch_documents
                        || (!batch.touched.is_empty() && began.elapsed() >= GATHERING_LIMIT);
                    if !batch.effects.is_empty() || enough || done || began.elapsed() >= LOOK_EVERY {
                        return Ok(collected(batch));
                    }
                }
                ChangeEvent::Change(change) => match self.members.concern(&change) {
                    Concern::None => {}
                    Concern::Document(member) => open.touch(member, &self.members.all[member].layout, &change)?,
                    // What was touched before is read before it.
                    Concern::Ddl if open.is_empty() && !batch.touched.is_empty() => {
                        self.pending = Some(ChangeEvent::Change(change));
                        return Ok(collected(batch));
                    }
                    // A transaction may make a collection and fill it: what follows belongs to it already.
                    Concern::Ddl => {
                        let effects = self.members.take_in(&change);
                        // That it was created, too, on another shard, does not bring back what was passed over.
                        let explains = |effect: &Effect| !matches!(effect.ddl, Ddl::Created(_));
                        let explained = |member| effects.iter().any(|it| it.member == member && explains(it));
                        self.unexplained.retain(|member, _| !explained(*member));
                        open.effects.extend(effects);
                    }
                },
                // Events of later versions.
                _ => {}
            }
        }
    }

    /// The batch where following ends before what is open is whole: it is given again to whoever begins at the position. Where
    /// a collection was created or dropped in it, the batch could be read only by what was before: it waits, too.
    fn without(&mut self, open: &Batch, batch: Batch, before: Mark) -> Collected {
        if open.effects.is_empty() {
            return collected(batch);
        }
        self.mark = Mark { read_to: self.mark.read_to, ..before };
        // Nor can repairs be read by it.
        self.asking.end();
        Collected::Nothing
    }
}

fn collected(batch: Batch) -> Collected {
    match batch.is_empty() {
        true => Collected::Nothing,
        false => Collected::Batch(batch),
    }
}
