//! Workers of an audit: each takes segments and goes through them chunk by chunk.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gizer_flatten::change::ClusterTime;
use gizer_flatten::{DocumentBatch, id_text};
use gizer_oplog::{Chunk, Cluster, MongoError, ReadAt};
use gizer_pg::Session;
use gizer_pg::rows::{Keys, RowStore};
use gizer_pg::state::{self, AuditSegment, Moment, RepairKey};
use gizer_schema::raw::RawDoc;
use gizer_verify::{Audited, Auditor, DifferingKey, Stand, VerifyError, id_of_key};

use super::chunk::{ComparedChunk, ids_of_keys, last_key, next_keys, stretch_of};
use super::plan::{KEYS_OF_TABLES, report_of};
use super::threads::on_threads;
use super::{Audit, AuditReaders, AuditReport, AuditTables, workers};
use crate::env::Env;
use crate::failure::{Failure, FailureKind};

/// How often a segment's progress is recorded.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A read at a time this slow has waited for a prepared transaction, and the next would too.
const HELD_UP_AFTER: Duration = Duration::from_secs(2);

/// How long documents are then read as of now.
const HELD_UP_PAUSE: Duration = Duration::from_secs(60);

/// Keys that are looked at together once more.
const KEYS_AT_ONCE: usize = 5_000;

/// The reason in `gizer_repair`.
const REPAIR_REASON: &str = "found by gizer verify";

/// A worker with its own session and readers.
pub(crate) struct Worker<'a> {
    pub(super) audit: &'a Audit,
    pub(super) session: &'a Session,
    pub(super) store: RowStore<'a>,
    pub(super) auditor: Auditor<'a>,
    pub(super) readers: AuditReaders,
    /// Keys, without telling their `_id`, of different documents.
    untold: HashSet<String>,
    saved: Instant,
    /// When a read at a time last waited in vain.
    held_up: Option<Instant>,
}

/// Runs workers, with a session each, until no segment is left; returns their findings.
///
/// The tables' keys come last: earlier findings tell which of them belong to documents.
///
/// # Errors
/// The first worker's [`Failure`]. Recorded progress stays.
pub async fn run(
    audit: &Audit,
    env: &Env,
    cluster: &Cluster,
    segments: Vec<AuditSegment>,
    before: &AuditReport,
) -> Result<AuditReport, Failure> {
    let (keys, documents): (Vec<_>, Vec<_>) =
        segments.into_iter().partition(|segment| segment.number == KEYS_OF_TABLES);
    let mut found = AuditReport::default();
    for segments in [documents, keys] {
        let untold: HashSet<String> = before.untold.iter().chain(&found.untold).cloned().collect();
        let count = workers(env.settings.load_workers).min(segments.len());
        let queue = Arc::new(Mutex::new(VecDeque::from(segments)));
        let readers = (0..count).map(|_| AuditReaders::new(cluster, &audit.oplogs)).collect();
        let (audit_of, env) = (audit.clone(), env.clone());
        let done = on_threads(readers, move |readers| {
            work(env.clone(), audit_of.clone(), readers, untold.clone(), Arc::clone(&queue))
        });
        let mut by_segment: FoundBySegment = done.await?.into_iter().flatten().collect();
        // Sorted, so that timing does not decide which differences are named.
        by_segment.sort_by_key(|(number, _)| *number);
        by_segment.into_iter().for_each(|(_, report)| found.add(report, audit.named));
    }
    Ok(found)
}

/// Runs one worker, with a session of its own.
async fn work(
    env: Env,
    audit: Audit,
    readers: AuditReaders,
    untold: HashSet<String>,
    queue: Arc<Mutex<VecDeque<AuditSegment>>>,
) -> Result<FoundBySegment, Failure> {
    let session = env.postgres().await?;
    Worker::new(&audit, &session, readers, untold).await?.take_all(&queue).await
}

/// Findings by segment number.
type FoundBySegment = Vec<(i32, AuditReport)>;

/// Looks again at different keys.
///
/// # Errors
/// [`Failure`] if either server cannot be read.
pub async fn look_again(
    audit: &Audit,
    session: &Session,
    readers: AuditReaders,
    differing: Vec<RepairKey>,
) -> Result<AuditReport, Failure> {
    let mut worker = Worker::new(audit, session, readers, HashSet::new()).await?;
    let (mut found, mut rest) = (AuditReport::default(), differing.into_iter().peekable());
    while rest.peek().is_some() {
        let some = rest.by_ref().take(KEYS_AT_ONCE);
        let suspects = some.map(|RepairKey { key, id }| DifferingKey { key, id, stand: Stand::Different }).collect();
        worker.settle(suspects, &mut found).await?;
    }
    Ok(found)
}

impl<'a> Worker<'a> {
    async fn new(
        audit: &'a Audit,
        session: &'a Session,
        readers: AuditReaders,
        untold: HashSet<String>,
    ) -> Result<Worker<'a>, Failure> {
        let store = RowStore::open(session, &audit.layout, audit.tables.which()).await?;
        let (auditor, saved) = (audit.auditor(), Instant::now());
        Ok(Worker { audit, session, store, auditor, readers, untold, saved, held_up: None })
    }

    async fn take_all(&mut self, queue: &Mutex<VecDeque<AuditSegment>>) -> Result<FoundBySegment, Failure> {
        let mut found = FoundBySegment::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(mut segment) = next else { return Ok(found) };
            let mut report = report_of(&segment);
            while !segment.done {
                let outcome = match segment.number {
                    KEYS_OF_TABLES => self.look_at_keys(&mut segment, &mut report).await,
                    _ => self.look_at_documents(&mut segment, &mut report).await,
                };
                self.store.end_snapshot().await;
                outcome?;
                self.save(&mut segment, &report).await?;
            }
            found.push((segment.number, report));
        }
    }

    /// Records a segment's progress, now and then and at its end.
    async fn save(&mut self, segment: &mut AuditSegment, report: &AuditReport) -> Result<(), Failure> {
        let Some(id) = &self.audit.id else { return Ok(()) };
        if !segment.done && self.saved.elapsed() < SAVE_EVERY {
            return Ok(());
        }
        segment.report = serde_json::to_value(report).map_err(|error| Failure::failed(error.to_string()))?;
        state::save_audit_segment(self.session, id, segment).await?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Starts a snapshot and returns the tables' moment in it.
    pub(super) async fn begin_snapshot(&mut self) -> Result<Moment, Failure> {
        self.store.begin_snapshot().await?;
        let name = &self.audit.layout.collection;
        match &self.audit.tables {
            AuditTables::Staging(moment) => Ok(moment.clone()),
            AuditTables::Live(epoch) => match state::moment(self.session, name).await? {
                Some(moment) if moment.live_epoch == *epoch && self.audit.is_of(&moment.uuids) => Ok(moment),
                _ => Err(became_another(name)),
            },
        }
    }

    /// Compares a segment's next chunk of documents with the rows of the same keys.
    async fn look_at_documents(&mut self, segment: &mut AuditSegment, report: &mut AuditReport) -> Result<(), Failure> {
        let began = (segment.after.clone(), segment.after_key.clone());
        let moment = self.begin_snapshot().await?;
        let most = self.audit.sample_chunk().map_or(self.audit.chunk_documents, |wanted| {
            let left = usize::try_from(wanted.saturating_sub(report.documents)).unwrap_or(usize::MAX);
            self.audit.chunk_documents.min(left)
        });
        let (chunk, exact) = self.read_chunk(segment, &moment, most).await?;
        let Chunk { documents, last, .. } = chunk;
        let upto_key = match &last {
            None => segment.upto_key.clone(),
            Some(_) => last_key(self.audit, self.auditor.flattener(), &documents).or_else(|| segment.after_key.clone()),
        };
        let order = self.audit.order.is_some();
        let chunk =
            ComparedChunk { segment, documents: &documents, goes_on: last.is_some(), upto: upto_key.as_deref() };
        let audited = chunk.compare(&mut self.auditor, &mut self.store, order).await?;
        self.count(&documents);
        report.documents += audited.verdict.documents + audited.rejected.len() as u64;
        report.rows += audited.verdict.rows;
        report.rejected += audited.rejected.len() as u64;
        report.add_stored(&self.audit.layout, &audited.stored);
        let with_document = audited.differing.iter().filter(|key| key.stand != Stand::OnlyRows).count();
        let not_rebuilt = audited.not_rebuilt.len();
        report.equal += audited.verdict.documents - with_document as u64 - not_rebuilt as u64;
        report.add_not_rebuilt(&self.audit.layout, &audited.not_rebuilt, self.audit.named);
        report.prove_at(moment.exact.unwrap_or_else(|| time_of(&moment)));
        self.decide(audited, &documents, exact, report).await?;
        segment.done = last.is_none();
        if let Some(last) = last {
            segment.after = Some(last.as_bytes().to_vec());
            segment.after_key = upto_key.filter(|_| self.audit.order.is_some());
        }
        if let Some(wanted) = self.audit.sample_chunk() {
            if segment.done && segment.upto.is_none() && began.0.is_some() {
                // It wraps around at the collection's end, up to where it started.
                (segment.upto, segment.upto_key) = began;
                (segment.after, segment.after_key, segment.done) = (None, None, false);
            }
            segment.done |= report.documents >= wanted;
        }
        Ok(())
    }

    /// The segment's next documents, as of the moment if possible; returns whether it was.
    async fn read_chunk(
        &mut self,
        segment: &AuditSegment,
        moment: &Moment,
        most: usize,
    ) -> Result<(Chunk, bool), Failure> {
        let stretch = stretch_of(segment)?;
        if let Some(time) = moment.exact.filter(|_| self.held_up.is_none_or(|at| at.elapsed() >= HELD_UP_PAUSE)) {
            let began = Instant::now();
            match self.readers.chunks.read(&self.audit.watched, &stretch, ReadAt::Exactly(time), most).await {
                Ok(chunk) => return Ok((chunk, true)),
                Err(MongoError::TimeOutOfReach { .. }) => {
                    self.held_up = (began.elapsed() >= HELD_UP_AFTER).then(Instant::now).or(self.held_up);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let now = ReadAt::Committed(time_of(moment));
        Ok((self.readers.chunks.read(&self.audit.watched, &stretch, now, most).await?, false))
    }

    /// Reports differences: at once if the time was exact, else after a second look.
    async fn decide(
        &mut self,
        mut audited: Audited,
        documents: &[DocumentBatch],
        exact: bool,
        report: &mut AuditReport,
    ) -> Result<(), Failure> {
        if audited.differing.is_empty() {
            return Ok(());
        }
        let known = self.rejected_among(&audited.differing).await?;
        let is_known = known.iter().filter(|known| **known).count();
        report.rejected += is_known as u64;
        if !exact || is_known > 0 {
            let open = audited.differing.iter().zip(known).filter(|(_, known)| !known).map(|(key, _)| key.clone());
            let open: Vec<DifferingKey> = open.collect();
            if !exact {
                self.store.end_snapshot().await;
                return self.settle(open, report).await;
            }
            audited = self.compare_only(documents, &open).await?;
        }
        self.store.end_snapshot().await;
        self.find(&audited, report).await
    }

    /// Reports final differences and queues repairs.
    pub(super) async fn find(&mut self, audited: &Audited, report: &mut AuditReport) -> Result<(), Failure> {
        report.add_differences(&self.audit.layout, audited, self.audit.named);
        let of_documents = audited.differing.iter().filter(|key| key.stand != Stand::OnlyRows);
        let untold =
            of_documents.filter(|key| id_of_key(&self.audit.layout, self.auditor.flattener(), &key.key).is_none());
        report.untold.extend(untold.map(|key| String::from_utf8_lossy(&key.key).into_owned()));
        let Some(again) = self.audit.again.as_ref().filter(|_| !audited.differing.is_empty()) else { return Ok(()) };
        if let AuditTables::Staging(_) = self.audit.tables {
            // Staging tables are not repaired.
            return Ok(());
        }
        let repairs: Vec<RepairKey> = audited.differing.iter().map(|key| self.repair_of(key)).collect();
        state::queue_repairs(self.session, &self.audit.layout.collection, REPAIR_REASON, &repairs).await?;
        again.lock().unwrap_or_else(PoisonError::into_inner).extend(repairs);
        Ok(())
    }

    pub(super) fn repair_of(&self, key: &DifferingKey) -> RepairKey {
        let id = key.id.clone().or_else(|| id_of_key(&self.audit.layout, self.auditor.flattener(), &key.key));
        RepairKey { key: key.key.clone(), id }
    }

    pub(super) fn keys(&self, differing: &[DifferingKey]) -> Keys {
        let mut keys = Keys::new(&self.audit.layout);
        for key in differing {
            keys.insert_stored(&key.key);
        }
        keys
    }

    /// For each key, whether its document is known to be rejected.
    async fn rejected_among(&self, differing: &[DifferingKey]) -> Result<Vec<bool>, Failure> {
        let text = |key: &DifferingKey| match (&key.id, key.stand) {
            (Some(id), Stand::OnlyDocument) => RawDoc::new(id).ok().map(id_text),
            _ => None,
        };
        let ids: Vec<Option<String>> = differing.iter().map(text).collect();
        let wanted: Vec<String> = ids.iter().flatten().cloned().collect();
        let epoch = self.audit.tables.epoch();
        let known = state::rejected_among(self.session, &self.audit.layout.collection, epoch, &wanted).await?;
        Ok(ids.iter().map(|id| id.as_ref().is_some_and(|id| known.contains(id))).collect())
    }

    /// Checks the tables' next keys: each must have a document.
    async fn look_at_keys(&mut self, segment: &mut AuditSegment, report: &mut AuditReport) -> Result<(), Failure> {
        let moment = self.begin_snapshot().await?;
        let (lists, end) = next_keys(&mut self.store, &self.audit.layout, segment.after_key.clone()).await?;
        for keys in lists {
            self.look_for_documents(keys, &moment, report).await?;
            // Settling has ended the snapshot; the next keys use another one.
        }
        segment.done = end.is_none();
        segment.after_key = end;
        Ok(())
    }

    /// The keys without a document.
    async fn look_for_documents(
        &mut self,
        keys: Vec<Vec<u8>>,
        moment: &Moment,
        report: &mut AuditReport,
    ) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        let in_rows = ids_of_keys(&mut self.store, self.auditor.flattener(), &keys).await?;
        let suspect = |(key, id): (Vec<u8>, Option<Bytes>)| DifferingKey { key, id, stand: Stand::OnlyRows };
        let suspects: Vec<DifferingKey> = keys.into_iter().zip(in_rows).map(suspect).collect();
        let repairs: Vec<RepairKey> = suspects.iter().map(|key| self.repair_of(key)).collect();
        if self.audit.is_gone {
            let audited = self.compare_only(&[], &suspects).await?;
            self.store.end_snapshot().await;
            return self.find(&audited, report).await;
        }
        let at = moment.exact.map_or_else(|| ReadAt::Committed(time_of(moment)), ReadAt::Exactly);
        let found = match self.find_ids(&repairs, at).await {
            Err(MongoError::TimeOutOfReach { .. }) => {
                self.find_ids(&repairs, ReadAt::Committed(time_of(moment))).await?
            }
            found => found?,
        };
        let suspects: Vec<DifferingKey> =
            suspects.into_iter().zip(found).filter(|(_, found)| !found).map(|(key, _)| key).collect();
        let suspects: Vec<DifferingKey> = suspects.into_iter().filter(|key| !self.belongs(key)).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        self.store.end_snapshot().await;
        self.settle(suspects, report).await
    }

    /// Whether such a key belongs to a different document; equal rows would tell.
    fn belongs(&self, key: &DifferingKey) -> bool {
        key.id.is_none() && self.untold.contains(String::from_utf8_lossy(&key.key).as_ref())
    }

    fn count(&self, documents: &[DocumentBatch]) {
        let bytes: usize = documents.iter().map(DocumentBatch::document_bytes).sum();
        let documents: usize = documents.iter().map(DocumentBatch::len).sum();
        self.audit.counters.add_documents(documents as u64, bytes as u64);
    }
}

/// The time up to which changes are applied.
pub(super) fn time_of(moment: &Moment) -> ClusterTime {
    moment.positions.values().map(|position| position.time()).max().unwrap_or_default()
}

pub(crate) fn cannot_compare(error: VerifyError) -> Failure {
    match error {
        VerifyError::Tables(error) => error.into(),
        error => Failure::failed(error.to_string()),
    }
}

/// The failure of an audit whose tables were replaced.
fn became_another(collection: &str) -> Failure {
    let message = format!(
        "{collection} was reloaded, became due for a load, or was dropped or created in MongoDB during the audit"
    );
    Failure::new(FailureKind::Failed, message).remedy("`gizer status` says how it stands; audit it again")
}
