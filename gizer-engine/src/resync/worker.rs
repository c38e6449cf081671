//! Workers of a resync: each takes segments and goes through them chunk by chunk.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gizer_flatten::change::ClusterTime;
use gizer_flatten::{DocumentBatch, Flattener};
use gizer_oplog::{Chunk, ReadAt, WantedId};
use gizer_pg::Session;
use gizer_pg::load::LoadFence;
use gizer_pg::rows::{Keys, RowStore, WhichTables};
use gizer_pg::state::{self, AuditSegment, ResyncSegment};
use gizer_verify::{Audited, Auditor, Checks, VerifyError, id_of_key};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::counts::ResyncReport;
use crate::audit::{
    Audit, AuditReaders, ComparedChunk, KEYS_OF_TABLES, ids_of_keys, last_key, next_keys, read_ids, stretch_of,
};
use crate::env::Env;
use crate::fail_point::fail_point;
use crate::failure::{Failure, FailureKind};
use crate::follow::{Isolation, IsolationOutcome, WriteFailure, sequence, write_failure};

/// How often progress is recorded where nothing differs.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What all workers of a resync share.
#[derive(Clone)]
pub(super) struct Pass {
    /// What is compared with what, and how.
    pub(super) audit: Audit,
    pub(super) fence: LoadFence,
    /// Documents are read as of this time or later.
    pub(super) from: ClusterTime,
    pub(super) checks: Checks,
    /// Documents that PostgreSQL may still refuse.
    pub(super) refusals_left: Arc<AtomicU64>,
    pub(super) turns: Arc<Turns>,
}

/// Who may write. Workers write different documents, but what is unique in a table of somebody's may
/// be exchanged between these: each waits for the other then, and PostgreSQL ends one of them. From
/// the first time on one writes after the other.
#[derive(Debug, Default)]
pub(super) struct Turns {
    one_by_one: AtomicBool,
    lock: RwLock<()>,
}

/// Lasts until what was written is committed.
enum Turn<'t> {
    Beside(#[expect(dead_code, reason = "held")] RwLockReadGuard<'t, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'t, ()>),
}

impl Turns {
    async fn next(&self) -> Turn<'_> {
        match self.one_by_one.load(Ordering::Relaxed) {
            true => Turn::Alone(self.lock.write().await),
            false => Turn::Beside(self.lock.read().await),
        }
    }
}

/// SQLSTATE of transactions that wait for each other.
const DEADLOCK: &str = "40P01";

fn is_deadlock(trouble: &WriteFailure) -> bool {
    match trouble {
        WriteFailure::Run(error) | WriteFailure::Tables(error) | WriteFailure::Rows(VerifyError::Tables(error)) => {
            error.sqlstate() == Some(DEADLOCK)
        }
        _ => false,
    }
}

/// A segment, and what was counted in it.
pub(super) type CountedSegment = (AuditSegment, ResyncReport);

/// Takes segments until none is left, with a session of its own; returns what was counted in them.
pub(super) async fn work(
    env: Env,
    pass: Pass,
    readers: AuditReaders,
    queue: Arc<Mutex<VecDeque<CountedSegment>>>,
) -> Result<Vec<CountedSegment>, Failure> {
    let session = env.postgres().await?;
    Worker::new(&pass, &session, readers).await?.take_all(&queue).await
}

struct Worker<'w> {
    pass: &'w Pass,
    session: &'w Session,
    store: RowStore<'w>,
    auditor: Auditor<'w>,
    flattener: Flattener,
    readers: AuditReaders,
    saved: Instant,
}

impl<'w> Worker<'w> {
    async fn new(pass: &'w Pass, session: &'w Session, readers: AuditReaders) -> Result<Worker<'w>, Failure> {
        let layout = &pass.audit.layout;
        let store = RowStore::open(session, layout, WhichTables::Live).await?;
        let (auditor, flattener) = (Auditor::of_cells(layout, pass.audit.named), Flattener::new(layout));
        Ok(Worker { pass, session, store, auditor, flattener, readers, saved: Instant::now() })
    }

    async fn take_all(&mut self, queue: &Mutex<VecDeque<CountedSegment>>) -> Result<Vec<CountedSegment>, Failure> {
        let mut all = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((mut segment, mut report)) = next else { return Ok(all) };
            while !segment.done {
                let outcome = match segment.number {
                    KEYS_OF_TABLES => self.take_keys(&mut segment, &mut report).await,
                    _ => self.take_documents(&mut segment, &mut report).await,
                };
                if self.session.is_in_transaction() {
                    self.session.roll_back().await;
                }
                outcome?;
            }
            all.push((segment, report));
        }
    }

    /// Makes the rows of a segment's next documents equal to them.
    async fn take_documents(&mut self, segment: &mut AuditSegment, report: &mut ResyncReport) -> Result<(), Failure> {
        let audit = &self.pass.audit;
        let (stretch, at) = (stretch_of(segment)?, ReadAt::Committed(self.pass.from));
        let chunk = self.readers.chunks.read(&audit.watched, &stretch, at, audit.chunk_documents).await?;
        let Chunk { documents, last, .. } = chunk;
        let upto_key = match &last {
            None => segment.upto_key.clone(),
            Some(_) => last_key(audit, &self.flattener, &documents).or_else(|| segment.after_key.clone()),
        };
        self.store.begin_snapshot().await?;
        let compared =
            ComparedChunk { segment, documents: &documents, goes_on: last.is_some(), upto: upto_key.as_deref() };
        let audited = compared.compare(&mut self.auditor, &mut self.store, audit.order.is_some()).await?;
        self.store.end_snapshot().await;
        report.add_chunk(&audit.layout, &documents, &audited, audit.named);
        segment.done = last.is_none();
        if let Some(last) = last {
            segment.after = Some(last.as_bytes().to_vec());
            segment.after_key = upto_key.filter(|_| audit.order.is_some());
        }
        let (count, bytes) = (audited.verdict.documents, documents.iter().map(|batch| batch.document_bytes() as u64));
        audit.counters.add_written(count, bytes.sum(), audited.verdict.rows);
        if audited.differing.is_empty() && audited.rejected.is_empty() {
            return self.save_now_and_then(segment, report).await;
        }
        self.write(&documents, audited, segment, report).await
    }

    /// Writes what differs of a chunk, and how far the segment is done, in one transaction.
    async fn write(
        &mut self,
        documents: &[DocumentBatch],
        audited: Audited,
        segment: &AuditSegment,
        report: &mut ResyncReport,
    ) -> Result<(), Failure> {
        let mut keys = Keys::new(&self.pass.audit.layout);
        for key in &audited.differing {
            keys.insert_stored(&key.key);
        }
        let documents = self.of_keys(documents, &keys);
        let LoadFence { collection, load_epoch } = &self.pass.fence;
        let turns = Arc::clone(&self.pass.turns);
        let mut turn = turns.next().await;
        self.session.begin().await?;
        fail_point("resync.before_write");
        let mut outcome = self.reconcile(&documents, &keys).await;
        if outcome.as_ref().is_err_and(is_deadlock) && matches!(turn, Turn::Beside(_)) {
            self.session.roll_back().await;
            turns.one_by_one.store(true, Ordering::Relaxed);
            // Let go first: others wait for the same.
            drop(turn);
            turn = turns.next().await;
            self.session.begin().await?;
            outcome = self.reconcile(&documents, &keys).await;
        }
        let outcome = outcome.map_err(|trouble| write_failure(collection, trouble))?;
        self.account_for(outcome, report, false).await?;
        state::keep_rejected(self.session, collection, *load_epoch, &audited.rejected, &[]).await?;
        self.commit(segment, report).await?;
        drop(turn);
        Ok(())
    }

    /// The documents that have these keys, each key once.
    fn of_keys(&self, documents: &[DocumentBatch], keys: &Keys) -> Vec<DocumentBatch> {
        let (mut wanted, mut taken): (Vec<Bytes>, HashSet<u32>) = (Vec::new(), HashSet::new());
        for batch in documents {
            for (at, document) in batch.documents().enumerate() {
                let number = self.flattener.key_of(document).ok().and_then(|key| keys.number_of(&key));
                // Two shards may have a copy each, where a migration left one.
                if number.is_some_and(|number| taken.insert(number)) {
                    wanted.extend(batch.share(at));
                }
            }
        }
        sequence(&wanted)
    }

    /// Makes the rows of these keys equal to the documents, in the open transaction.
    async fn reconcile(&mut self, documents: &[DocumentBatch], keys: &Keys) -> Result<IsolationOutcome, WriteFailure> {
        let limit = self.pass.refusals_left.load(Ordering::Relaxed);
        let mut isolation = Isolation {
            session: self.session,
            layout: &self.pass.audit.layout,
            store: &mut self.store,
            flattener: &mut self.flattener,
            checks: self.pass.checks,
            limit,
        };
        isolation.write(documents, keys).await
    }

    /// Counts and records what has become of a chunk, in the same transaction.
    async fn account_for(
        &self,
        outcome: IsolationOutcome,
        report: &mut ResyncReport,
        left_over: bool,
    ) -> Result<(), Failure> {
        let LoadFence { collection, load_epoch } = &self.pass.fence;
        let IsolationOutcome { reconciled, refused, undeleted, why_undeleted } = outcome;
        if let Some(why) = why_undeleted {
            let message =
                format!("{collection}: rows of {} deleted documents cannot be deleted: {why}", undeleted.len());
            return Err(Failure::new(FailureKind::NotAll, message)
                .remedy("remove what refers to them, then resync again, which resumes"));
        }
        report.add_written(&reconciled, left_over);
        if !refused.is_empty() {
            let count = refused.len() as u64;
            let less = |left: u64| Some(left.saturating_sub(count));
            let _ = self.pass.refusals_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            report.refused += count;
            state::settle_rejects(self.session, collection, *load_epoch, (&[], &[]), &refused).await?;
        }
        Ok(())
    }

    /// Commits the open transaction with how far the segment is done.
    async fn commit(&mut self, segment: &AuditSegment, report: &ResyncReport) -> Result<(), Failure> {
        let counted = ResyncSegment { segment: segment.clone(), counts: report.recorded()? };
        state::save_resync(self.session, &self.pass.fence, &counted).await?;
        fail_point("resync.before_commit");
        self.session.end(Ok(())).await?;
        fail_point("resync.after_commit");
        self.saved = Instant::now();
        Ok(())
    }

    async fn save_now_and_then(&mut self, segment: &AuditSegment, report: &ResyncReport) -> Result<(), Failure> {
        if !segment.done && self.saved.elapsed() < SAVE_EVERY {
            return Ok(());
        }
        self.session.begin().await?;
        self.commit(segment, report).await
    }

    /// Deletes the rows of the tables' next keys that no document has. Documents' own rows are equal
    /// by now, so that a root row tells whose it is.
    async fn take_keys(&mut self, segment: &mut AuditSegment, report: &mut ResyncReport) -> Result<(), Failure> {
        let audit = &self.pass.audit;
        self.store.begin_snapshot().await?;
        let (lists, end) = next_keys(&mut self.store, &audit.layout, segment.after_key.clone()).await?;
        let mut all = Vec::new();
        for keys in lists.into_iter().filter(|keys| !keys.is_empty()) {
            let ids = ids_of_keys(&mut self.store, &self.flattener, &keys).await?;
            all.extend(keys.into_iter().zip(ids));
        }
        self.store.end_snapshot().await;
        let mut left_over = Keys::new(&audit.layout);
        let found = self.keys_of_documents(&all).await?;
        for (key, _) in all.iter().filter(|(key, _)| found.number_of_stored(key).is_none()) {
            left_over.insert_stored(key);
        }
        segment.done = end.is_none();
        segment.after_key = end;
        self.session.begin().await?;
        if !left_over.is_empty() {
            report.found.only_in_postgresql += left_over.len() as u64;
            let outcome = self.reconcile(&[], &left_over).await;
            let outcome = outcome.map_err(|trouble| write_failure(&self.pass.fence.collection, trouble))?;
            self.account_for(outcome, report, true).await?;
        }
        self.commit(segment, report).await
    }

    /// Those of these keys that documents have.
    async fn keys_of_documents(&mut self, keys: &[(Vec<u8>, Option<Bytes>)]) -> Result<Keys, Failure> {
        let layout = &self.pass.audit.layout;
        let wanted = keys.iter().filter_map(|(key, id)| {
            let id = id.clone().or_else(|| id_of_key(layout, &self.flattener, key))?;
            Some(WantedId { id, first: None, last: None })
        });
        let (wanted, mut found) = (wanted.collect::<Vec<_>>(), Keys::new(layout));
        let at = ReadAt::Committed(self.pass.from);
        let (documents, _) = read_ids(&mut self.readers.exists, &self.pass.audit, wanted, at).await?;
        for document in documents.iter().flat_map(DocumentBatch::documents) {
            if let Ok(key) = self.flattener.key_of(document) {
                found.insert(&key);
            }
        }
        Ok(found)
    }
}
