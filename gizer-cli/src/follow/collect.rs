//! From single changes to batches.

use std::time::Instant;

use gizer_oplog::{ChangeEvent, ChangeSource, LookUp};
use tokio::time::timeout;

use super::member::Concern;
use super::touched::{Batch, Mark};
use super::{Follow, GATHERING_LIMIT, LINGER, LOOK_EVERY, Until};
use crate::exit::Failure;

/// What there is to do.
pub(super) enum Collected {
    /// At most the position has moved.
    Nothing,
    /// Something to apply.
    Batch(Batch),
}

impl<S: ChangeSource, L: LookUp> Follow<'_, S, L> {
    /// The next batch: everything up to a watermark at which there is nothing more to be had at once, or enough. If there is
    /// nothing for a while, it gives that.
    pub(super) async fn collect(&mut self, until: Until) -> Result<Collected, Failure> {
        let mut batch = Batch::default();
        let began = Instant::now();
        // Whether what is in the batch is whole: everything in it lies before a watermark.
        let mut whole = true;
        loop {
            let event = match self.pending.take() {
                Some(event) => event,
                None if !whole => self.source.next().await?,
                None => {
                    let patience = if batch.touched.is_empty() { LOOK_EVERY } else { LINGER };
                    match timeout(patience, self.source.next()).await {
                        Ok(event) => event?,
                        Err(_) => return Ok(self.collected(batch)),
                    }
                }
            };
            match event {
                ChangeEvent::Watermark { time, positions, read_to } => {
                    whole = true;
                    self.mark = Mark { time, positions, read_to };
                    let enough = batch.documents() >= self.settings.batch_documents
                        || (!batch.touched.is_empty() && began.elapsed() >= GATHERING_LIMIT);
                    let done = matches!(until, Until::Time(until) if read_to >= until);
                    if !batch.effects.is_empty() || enough || done || began.elapsed() >= LOOK_EVERY {
                        return Ok(self.collected(batch));
                    }
                }
                ChangeEvent::Change(change) => match self.members.concern(&change) {
                    Concern::None => {}
                    Concern::Document(member) => {
                        whole = false;
                        batch.touch(member, self.members.all[member].layout, &change)?;
                    }
                    // What was touched before is read before it.
                    Concern::Ddl if whole && !batch.touched.is_empty() => {
                        self.pending = Some(ChangeEvent::Change(change));
                        return Ok(self.collected(batch));
                    }
                    // A transaction may make a collection and fill it: what follows belongs to it already.
                    Concern::Ddl => {
                        whole = false;
                        let effects = self.members.take_in(&change);
                        self.unexplained.retain(|member, _| effects.iter().all(|effect| effect.member != *member));
                        batch.effects.extend(effects);
                    }
                },
                // Events of later versions.
                _ => {}
            }
        }
    }

    fn collected(&self, mut batch: Batch) -> Collected {
        batch.mark = Some(self.mark.clone());
        match batch.is_empty() {
            true => Collected::Nothing,
            false => Collected::Batch(batch),
        }
    }
}
