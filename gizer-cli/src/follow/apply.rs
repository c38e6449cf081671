//! The reference path: from touched ids to committed rows.

use std::collections::BTreeSet;

use gizer_flatten::change::ClusterTime;
use gizer_flatten::{DocumentBatch, Scope};
use gizer_oplog::{ChangeSource, LookUp, MongoError, ReadAt, latest_time};
use gizer_pg::rows::Keys;
use gizer_pg::state;
use gizer_schema::raw::RawDoc;
use gizer_verify::{Reconciled, VerifyError, reconcile};

use super::commit::Commit;
use super::fail_point::fail_point;
use super::member::{Ddl, Member};
use super::touched::{Batch, Mark, Touched};
use super::{Follow, IDLE_CHECKPOINT};
use crate::exit::{ExitCode, Failure};

/// How the documents of a batch are read.
struct Plan {
    /// Up to when documents were read, where that is later than the batch's watermark.
    ahead: Option<ClusterTime>,
    at: ReadAt,
    /// Collections that are dropped or replaced further on: what was touched is passed over.
    passed_over: BTreeSet<usize>,
}

/// Why an attempt to apply a batch ended.
enum Ended {
    /// Another plan may help.
    Replan,
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Ended {
    fn from(error: E) -> Ended {
        Ended::Failed(error.into())
    }
}

/// Documents of one collection that are compared at once.
struct Part {
    member: usize,
    documents: Vec<DocumentBatch>,
    bytes: usize,
    keys: Keys,
}

impl<S: ChangeSource, L: LookUp> Follow<'_, S, L> {
    /// Applies a batch and commits it.
    pub(super) async fn apply(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mark = batch.mark.as_ref().unwrap_or(&self.mark).clone();
        // Where documents have been read ahead already, these would only go back in time.
        let ahead = self.ahead.filter(|ahead| *ahead > mark.time);
        let at = if ahead.is_some() { ReadAt::NotBefore(mark.time) } else { ReadAt::Exactly(mark.time) };
        let passed_over = batch.effects.iter().filter(|effect| matches!(effect.ddl, Ddl::Reload(_)));
        let mut plan = Plan { ahead, at, passed_over: passed_over.map(|effect| effect.member).collect() };
        fail_point("sync.before_apply");
        loop {
            let mut begun = false;
            let outcome = self.attempt(batch, &mark, &mut plan, &mut begun).await;
            match outcome {
                Ok(exact) => {
                    fail_point("sync.after_commit");
                    self.ahead = plan.ahead;
                    self.committed = std::time::Instant::now();
                    self.progress.count_batch(batch, exact);
                    self.tell(batch);
                    fail_point("sync.between_batches");
                    return Ok(());
                }
                Err(ended) => {
                    if begun {
                        self.session.roll_back().await;
                    }
                    if let Ended::Failed(failure) = ended {
                        return Err(failure);
                    }
                }
            }
        }
    }

    async fn attempt(&mut self, batch: &Batch, mark: &Mark, plan: &mut Plan, begun: &mut bool) -> Result<bool, Ended> {
        let mut done = Vec::new();
        if !batch.effects.is_empty() {
            self.begin(begun).await?;
            self.take_effects(&batch.effects).await?;
        }
        let mut last = None;
        for &member in batch.touched.keys() {
            if plan.passed_over.contains(&member) {
                continue;
            }
            if let Some(part) = last.take() {
                self.write(part, begun, &mut done).await?;
            }
            last = self.read(batch, member, plan, begun, &mut done).await?;
        }
        if let Some(part) = last {
            self.write(part, begun, &mut done).await?;
        }
        self.begin(begun).await?;
        fail_point("sync.after_write");
        let exact = self.write_down(mark, plan.ahead, batch.counts.total()).await?;
        fail_point("sync.before_commit");
        *begun = false;
        self.session.end(Ok(())).await?;
        for (member, reconciled) in done {
            self.count(member, reconciled);
        }
        Ok(exact)
    }

    /// Begins the transaction of the batch, unless it has begun.
    async fn begin(&self, begun: &mut bool) -> Result<(), Failure> {
        if !std::mem::replace(begun, true) {
            self.session.begin().await?;
        }
        Ok(())
    }

    /// Reads the documents of a collection that were touched. What fits into one part is given back, so that PostgreSQL's
    /// transaction need not be open while MongoDB is read; what comes before is written.
    async fn read(
        &mut self,
        batch: &Batch,
        member: usize,
        plan: &mut Plan,
        begun: &mut bool,
        done: &mut Vec<(usize, Reconciled)>,
    ) -> Result<Option<Part>, Ended> {
        let touched = &batch.touched[&member];
        let watched = self.members.all[member].watched.clone();
        let outcome = self.look_up.begin(&watched, touched.wanted(), plan.at).await;
        if let Err(error) = outcome {
            return Err(self.replan(error, member, plan).await);
        }
        let layout = self.members.all[member].layout;
        let new_part = || Part { member, documents: Vec::new(), bytes: 0, keys: Keys::new(layout) };
        let wanted = self.keys_of(member, touched);
        // What is left of those touched belongs to no document.
        let mut found = vec![false; wanted.len()];
        let mut part = new_part();
        loop {
            match self.look_up.next().await {
                Ok(Some(documents)) => {
                    let flattener = &self.members.all[member].flattener;
                    for document in documents.documents() {
                        let Ok(key) = flattener.key_of(document) else { continue };
                        let number = wanted.number_of(&key);
                        part.keys.insert_within(&key, number.map_or(&Scope::All, |number| wanted.scope(number)));
                        number.into_iter().for_each(|number| found[number as usize] = true);
                    }
                    part.bytes += documents.memory_bytes();
                    part.documents.push(documents);
                    if part.bytes >= self.settings.part_bytes {
                        self.write(std::mem::replace(&mut part, new_part()), begun, done).await?;
                    }
                }
                Ok(None) => break,
                Err(error) => return Err(self.replan(error, member, plan).await),
            }
        }
        if matches!(plan.at, ReadAt::NotBefore(_)) {
            plan.ahead = plan.ahead.max(Some(self.look_up.read_until()));
        }
        let missing = (0..).zip(found).filter(|(_, found)| !found).map(|(number, _)| number);
        part.keys.add(&wanted, missing);
        Ok(Some(part))
    }

    /// The keys of what was touched, with the tables in which its rows can have changed.
    fn keys_of(&self, member: usize, touched: &Touched) -> Keys {
        let Member { layout, flattener, .. } = &self.members.all[member];
        let mut keys = Keys::new(layout);
        for (id, scope) in touched.scopes() {
            // An `_id` without a key has no rows.
            if let Ok(key) = RawDoc::new(id).map_err(drop).and_then(|id| flattener.key_of(id).map_err(drop)) {
                keys.insert_within(&key, scope);
            }
        }
        keys
    }

    /// What can be done where the documents of a batch cannot be read as they were.
    async fn replan(&mut self, error: MongoError, member: usize, plan: &mut Plan) -> Ended {
        match (error, plan.at) {
            (MongoError::TimeOutOfReach { .. }, ReadAt::Exactly(time)) => {
                tracing::info!(%time, "documents can no longer be read as of this time; catching up");
                plan.at = ReadAt::NotBefore(time);
                Ended::Replan
            }
            (MongoError::CollectionChanged { .. }, _) => {
                // The entry that tells why is on its way.
                match latest_time(self.oplogs).await {
                    Ok(newest) => {
                        tracing::info!(
                            collection = self.members.all[member].name,
                            "passed over up to its drop or rename"
                        );
                        plan.ahead = plan.ahead.max(Some(newest));
                        plan.passed_over.insert(member);
                        self.unexplained.entry(member).or_insert(newest);
                        Ended::Replan
                    }
                    Err(error) => Ended::Failed(error.into()),
                }
            }
            (error, _) => Ended::Failed(error.into()),
        }
    }

    async fn write(&mut self, part: Part, begun: &mut bool, done: &mut Vec<(usize, Reconciled)>) -> Result<(), Ended> {
        self.begin(begun).await?;
        let Part { member: at, documents, keys, .. } = part;
        let member = &mut self.members.all[at];
        let read_back = self.settings.read_back;
        let reconciled = reconcile(&mut member.store, &mut member.flattener, &documents, &keys, read_back).await;
        let reconciled = reconciled.map_err(|error| not_equal(&member.name, error))?;
        state::keep_rejected(self.session, &member.name, member.live_epoch, &reconciled.rejected).await?;
        done.push((at, reconciled));
        Ok(())
    }

    /// Writes down in the open transaction where the tables stand.
    pub(super) async fn write_down(
        &mut self,
        mark: &Mark,
        ahead: Option<ClusterTime>,
        changes: u64,
    ) -> Result<bool, Failure> {
        let statements = self.members.all.iter().map(|member| member.store.statements()).sum();
        let commit = Commit {
            positions: &mark.positions,
            ahead: ahead.filter(|ahead| *ahead > mark.time),
            changes: self.progress.changes.total() + changes,
            statements,
        };
        self.progress.statements = statements;
        Ok(self.purpose.write_down(self.session, &mut self.members.all, &commit).await?)
    }

    /// Commits the position alone, if there is anything to say.
    pub(super) async fn commit_position(&mut self) -> Result<(), Failure> {
        if !self.purpose.is_behind(&self.mark.positions, self.ahead, self.mark.time, &self.members.all) {
            return Ok(());
        }
        self.session.begin().await?;
        let mark = self.mark.clone();
        let ahead = self.ahead.filter(|ahead| *ahead > mark.time);
        let outcome = self.write_down(&mark, ahead, 0).await;
        match outcome {
            Ok(_) => self.session.end(Ok(())).await?,
            Err(failure) => {
                self.session.roll_back().await;
                return Err(failure);
            }
        }
        self.ahead = ahead;
        self.committed = std::time::Instant::now();
        Ok(())
    }

    /// As [`commit_position`](Follow::commit_position), but only now and then, unless the tables have become exact.
    pub(super) async fn commit_if_due(&mut self) -> Result<(), Failure> {
        let exact_now = self.ahead.is_some_and(|ahead| ahead <= self.mark.time);
        if exact_now || self.committed.elapsed() >= IDLE_CHECKPOINT {
            self.commit_position().await?;
        }
        Ok(())
    }

    fn count(&mut self, member: usize, reconciled: Reconciled) {
        let progress = &mut self.progress;
        let rows = reconciled.changes.sum();
        progress.documents += reconciled.documents;
        progress.rows.deleted += rows.deleted;
        progress.rows.updated += rows.updated;
        progress.rows.inserted += rows.inserted;
        progress.rejected += reconciled.rejected.len() as u64;
        let name = &self.members.all[member].name;
        progress.tallies.entry(name.clone()).or_default().add(reconciled.tally);
    }
}

/// Rows that differ after they were written end the run with a code of their own.
fn not_equal(collection: &str, error: VerifyError) -> Failure {
    match error {
        VerifyError::Tables(error) => error.into(),
        error @ VerifyError::SameKey { .. } => Failure::failed(error.to_string()),
        error => Failure::new(ExitCode::Differs, format!("{collection}: {error}")).remedy(format!(
            "nothing of the batch was committed; look for triggers, rules and other writers of its tables, then `gizer load \
             {collection}` makes them anew"
        )),
    }
}
