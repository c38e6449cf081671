//! Collects changes into batches: everything up to a watermark.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use gizer_flatten::change::{Change, ClusterTime};
use gizer_oplog::{ChangeEvent, ChangeSource};
use tokio::time::timeout;

use super::members::{Concern, Ddl, FollowedCollection, Members};
use crate::failure::Failure;
use crate::follow::batch::{Batch, Effect, Mark};
use crate::follow::{LOOK_INTERVAL, Until};

/// How long a batch waits for more once the source has nothing ready.
const LINGER: Duration = Duration::from_millis(2);

/// How long changes are collected at most under constant load.
const GATHERING_LIMIT: Duration = Duration::from_secs(1);

/// Collects a source's changes into batches.
pub(in crate::follow) struct Collector<S> {
    source: S,
    members: Members,
    /// The last watermark.
    mark: Mark,
    /// An event that belongs to the next batch.
    pending: Option<ChangeEvent>,
    /// Collections that lost their name, and the time by which an entry must explain it.
    unexplained: BTreeMap<usize, ClusterTime>,
    /// Whether the collections' state is later than the mark.
    knows_later: bool,
    batch_documents: usize,
}

impl<S: ChangeSource> Collector<S> {
    pub(in crate::follow) fn new(
        source: S,
        collections: Vec<FollowedCollection>,
        mark: Mark,
        batch_documents: usize,
    ) -> Collector<S> {
        let skipped = collections.iter().enumerate();
        let unexplained = skipped.filter_map(|(at, collection)| Some((at, collection.skipped_until()?))).collect();
        let members = Members::new(collections);
        Collector { source, members, mark, pending: None, unexplained, knows_later: false, batch_documents }
    }

    /// The last watermark.
    pub(super) fn mark(&self) -> &Mark {
        &self.mark
    }

    pub(super) fn collection(&self, member: usize) -> &FollowedCollection {
        self.members.get(member)
    }

    /// Whether everything up to `until` is collected.
    pub(super) fn has_reached(&self, until: Until) -> bool {
        matches!(until, Until::Time(time) if self.mark.read_to >= time && self.pending.is_none())
    }

    /// Whether repairs of any collection can be read at the last watermark.
    pub(super) fn can_repair_any(&self) -> bool {
        !self.knows_later
    }

    /// The same for one: its tables are at or before the mark, and it is the followed collection.
    pub(super) fn can_repair(&self, member: usize) -> bool {
        !self.unexplained.contains_key(&member) && self.collection(member).stands_by(self.mark.time)
    }

    /// Skips a collection until an entry explains it, by this time.
    pub(super) fn expect_explanation(&mut self, member: usize, until: ClusterTime) {
        self.unexplained.entry(member).or_insert(until);
    }

    /// Those of these collections without an explaining entry so far.
    pub(super) fn unexplained_among(&self, skipped: &BTreeSet<usize>) -> BTreeMap<usize, ClusterTime> {
        let unexplained = self.unexplained.iter().filter(|(member, _)| skipped.contains(member));
        unexplained.map(|(member, until)| (*member, *until)).collect()
    }

    /// Reloads skipped collections without an explaining entry in time: a shard was added, or files
    /// were exchanged under the server. Their skipped changes are lost.
    pub(super) fn take_unexplained(&mut self) -> Batch {
        let time = self.mark.time;
        let due = self.unexplained.extract_if(.., |_, until| *until <= time);
        let ddl = Ddl::Reload("it is another collection, and no entry of the oplog says since when");
        let effects = due.map(|(member, _)| Effect { member, ddl, uuids: BTreeMap::new() }).collect();
        Batch { effects, ..Batch::default() }
    }

    /// The next batch: everything up to a watermark with enough changes, or with no more ready.
    /// Empty if nothing came for a while.
    pub(super) async fn next_batch(&mut self, until: Until, stop: &impl Fn() -> bool) -> Result<Batch, Failure> {
        self.members.take_layouts();
        let (mut batch, started, before) = (Batch::default(), Instant::now(), self.mark.clone());
        // Changes after the last watermark.
        let mut open = Batch::default();
        loop {
            let lingers = open.is_empty() && !batch.touched.is_empty();
            let event = match self.next_event(if lingers { LINGER } else { LOOK_INTERVAL }).await? {
                Some(event) => event,
                None if open.is_empty() => return Ok(batch),
                None if stop() => return Ok(self.without(&open, batch, before)),
                None => continue,
            };
            match event {
                ChangeEvent::Watermark { time, positions, read_to } => {
                    let is_done = matches!(until, Until::Time(until) if read_to >= until);
                    // A repeated watermark: a prepared transaction blocks it.
                    let stands = !open.is_empty() && time == self.mark.time && positions == self.mark.positions;
                    self.mark = Mark { time, positions, read_to };
                    match (stands, is_done) {
                        (true, true) => return Ok(self.without(&open, batch, before)),
                        (true, false) => continue,
                        (false, _) => batch.append(std::mem::take(&mut open)),
                    }
                    if is_done || self.is_enough(&batch, started) {
                        return Ok(batch);
                    }
                }
                ChangeEvent::Change(change) => {
                    if let Some(change) = self.take_change(change, &mut open, &batch)? {
                        self.pending = Some(ChangeEvent::Change(change));
                        return Ok(batch);
                    }
                }
                // Events of later versions.
                _ => {}
            }
        }
    }

    async fn next_event(&mut self, patience: Duration) -> Result<Option<ChangeEvent>, Failure> {
        match self.pending.take() {
            Some(event) => Ok(Some(event)),
            None => Ok(timeout(patience, self.source.next()).await.ok().transpose()?),
        }
    }

    fn is_enough(&self, batch: &Batch, started: Instant) -> bool {
        !batch.effects.is_empty()
            || batch.documents() >= self.batch_documents
            || (!batch.touched.is_empty() && started.elapsed() >= GATHERING_LIMIT)
            || started.elapsed() >= LOOK_INTERVAL
    }

    /// Adds a change to `open`; gives it back if the batch must end before it.
    fn take_change(&mut self, change: Change, open: &mut Batch, batch: &Batch) -> Result<Option<Change>, Failure> {
        match self.members.concern(&change) {
            Concern::None => {}
            Concern::Document(member) => open.touch(member, self.collection(member).layout(), &change)?,
            // Earlier touches are read before it.
            Concern::Ddl if open.is_empty() && !batch.touched.is_empty() => return Ok(Some(change)),
            // A transaction may create a collection and fill it.
            Concern::Ddl => {
                let effects = self.members.apply_ddl(&change);
                // Its creation on another shard does not restore what was skipped.
                let explains = |effect: &Effect| !matches!(effect.ddl, Ddl::Created(_));
                let explained = |member| effects.iter().any(|it| it.member == member && explains(it));
                self.unexplained.retain(|member, _| !explained(*member));
                open.effects.extend(effects);
            }
        }
        Ok(None)
    }

    /// The batch if following ends before `open` is complete: its changes are given again to
    /// whoever resumes here. If a collection was created or dropped in `open`, the batch waits too,
    /// since only the earlier state could read it.
    fn without(&mut self, open: &Batch, batch: Batch, before: Mark) -> Batch {
        if open.effects.is_empty() {
            return batch;
        }
        self.mark = Mark { read_to: self.mark.read_to, ..before };
        self.knows_later = true;
        Batch::default()
    }
}
