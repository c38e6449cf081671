//! Settles differences where the tables' time is out of reach: by the log or an exact time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use gizer_flatten::DocumentBatch;
use gizer_flatten::change::ClusterTime;
use gizer_oplog::{ClusterLookUp, LookUp, MongoError, ReadAt, WantedId};
use gizer_pg::rows::Keys;
use gizer_pg::state::{self, Moment, RepairKey};
use gizer_verify::{Audited, DifferingKey, Stand};
use tokio::time::{Instant, sleep};

use super::touched::touched_between;
use super::worker::{Worker, cannot_compare, time_of};
use super::{AuditReport, AuditTables};
use crate::failure::Failure;

/// How long to wait for a follower to reach a time.
const REACHING_LIMIT: Duration = Duration::from_secs(60);

/// How often to check that.
const REACHING_PAUSE: Duration = Duration::from_millis(100);

/// Looks at a document that keeps changing.
const MAX_LOOKS: usize = 20;

/// Documents read again.
struct RereadDocuments {
    documents: Vec<DocumentBatch>,
    /// Whether they are as of the tables' time.
    exact: bool,
    /// All were read at or before this time.
    until: ClusterTime,
}

impl Worker<'_> {
    /// Settles seemingly different keys, with no snapshot open before or after.
    pub(super) async fn settle(
        &mut self,
        suspects: Vec<DifferingKey>,
        report: &mut AuditReport,
    ) -> Result<(), Failure> {
        if suspects.is_empty() {
            return Ok(());
        }
        let mut suspects = suspects;
        for _ in 0..MAX_LOOKS {
            let moment = self.begin_snapshot().await?;
            let repairs: Vec<RepairKey> = suspects.iter().map(|key| self.repair_of(key)).collect();
            let found = self.find_documents(&repairs, &moment).await?;
            let audited = self.compare_only(&found.documents, &suspects).await?;
            let not_rebuilt = &audited.not_rebuilt;
            let counts = SecondLook::of(&suspects, &audited.differing);
            report.equal += counts.equal.saturating_sub(not_rebuilt.len() as u64);
            report.documents = (report.documents + counts.come).saturating_sub(counts.gone);
            report.add_not_rebuilt(&self.audit.layout, not_rebuilt, self.audit.named);
            if found.exact || audited.differing.is_empty() {
                self.store.end_snapshot().await;
                return self.find(&audited, report).await;
            }
            if let AuditTables::Staging(_) = self.audit.tables {
                self.store.end_snapshot().await;
                self.leave_open(&audited.differing, report);
                return Ok(());
            }
            let keys = self.keys(&audited.differing);
            let touched =
                touched_between(self.audit, self.auditor.flattener(), &keys, &moment.positions, found.until).await?;
            let is_touched =
                |key: &&DifferingKey| keys.number_of_stored(&key.key).is_some_and(|n| touched.contains(&n));
            let (open, decided): (Vec<_>, Vec<_>) = audited.differing.iter().cloned().partition(|key| is_touched(&key));
            // In the same snapshot, with the same documents.
            let decided = self.compare_only(&found.documents, &decided).await?;
            self.store.end_snapshot().await;
            self.find(&decided, report).await?;
            if open.is_empty() {
                return Ok(());
            }
            suspects = open;
            if !self.wait_until_applied(found.until).await? {
                break;
            }
        }
        report.not_compared += suspects.len() as u64;
        Ok(())
    }

    /// Leaves keys of staging tables to the next look, after another alignment.
    fn leave_open(&self, differing: &[DifferingKey], report: &mut AuditReport) {
        let open = differing.iter().map(|key| self.repair_of(key));
        match &self.audit.again {
            Some(again) => again.lock().unwrap_or_else(PoisonError::into_inner).extend(open),
            None => report.not_compared += open.count() as u64,
        }
    }

    pub(super) async fn compare_only(
        &mut self,
        documents: &[DocumentBatch],
        suspects: &[DifferingKey],
    ) -> Result<Audited, Failure> {
        if suspects.is_empty() {
            return Ok(Audited::default());
        }
        let keys = self.keys(suspects);
        self.auditor.keys(&mut self.store, documents, &keys).await.map_err(cannot_compare)
    }

    async fn find_documents(&mut self, keys: &[RepairKey], moment: &Moment) -> Result<RereadDocuments, Failure> {
        if self.audit.is_gone {
            // The collection is gone, as the snapshot's state says.
            return Ok(RereadDocuments { documents: Vec::new(), exact: true, until: time_of(moment) });
        }
        if let Some(time) = moment.exact {
            match read(&mut self.readers.look_up, self.audit, keys, ReadAt::Exactly(time)).await {
                Ok((documents, _)) => return Ok(RereadDocuments { documents, exact: true, until: time }),
                Err(MongoError::TimeOutOfReach { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (documents, until) =
            read(&mut self.readers.look_up, self.audit, keys, ReadAt::Committed(time_of(moment))).await?;
        Ok(RereadDocuments { documents, exact: false, until })
    }

    /// For each key, whether a document has it.
    pub(super) async fn find_ids(&mut self, keys: &[RepairKey], at: ReadAt) -> Result<Vec<bool>, MongoError> {
        let (documents, _) = read(&mut self.readers.exists, self.audit, keys, at).await?;
        let mut there = Keys::new(&self.audit.layout);
        for document in documents.iter().flat_map(DocumentBatch::documents) {
            if let Ok(key) = self.auditor.flattener().key_of(document) {
                there.insert(&key);
            }
        }
        Ok(keys.iter().map(|key| there.number_of_stored(&key.key).is_some()).collect())
    }

    /// Waits until the tables are exact at or after a time; `false` if no follower gets there.
    async fn wait_until_applied(&mut self, time: ClusterTime) -> Result<bool, Failure> {
        let began = Instant::now();
        loop {
            let moment = self.begin_snapshot().await;
            self.store.end_snapshot().await;
            if moment?.exact.is_some_and(|exact| exact >= time) {
                return Ok(true);
            }
            if began.elapsed() >= REACHING_LIMIT || !state::is_followed_now(self.session).await? {
                return Ok(false);
            }
            sleep(REACHING_PAUSE).await;
        }
    }
}

/// Changes of the counts after a second look.
#[derive(Debug, Default, PartialEq, Eq)]
struct SecondLook {
    /// No longer different. A key that had only rows, and now has none, is no document.
    equal: u64,
    /// Keys that had only rows and now have a different document, not counted before.
    come: u64,
    /// Keys whose document was deleted while their rows remain.
    gone: u64,
}

impl SecondLook {
    fn of(suspects: &[DifferingKey], differing: &[DifferingKey]) -> SecondLook {
        let has_document = |key: &DifferingKey| key.stand != Stand::OnlyRows;
        let now: HashMap<&[u8], bool> = differing.iter().map(|key| (&key.key[..], has_document(key))).collect();
        let mut counts = SecondLook::default();
        for suspect in suspects {
            match (has_document(suspect), now.get(&suspect.key[..])) {
                (true, None) => counts.equal += 1,
                (true, Some(false)) => counts.gone += 1,
                (false, Some(true)) => counts.come += 1,
                _ => {}
            }
        }
        counts
    }
}

/// The documents of these keys; some may come twice.
///
/// Where shards are read separately, the owner of a document is unknown. Each is asked first in
/// turn, so that both copies of a migrated one are found.
async fn read(
    look_up: &mut ClusterLookUp,
    audit: &super::Audit,
    keys: &[RepairKey],
    at: ReadAt,
) -> Result<(Vec<DocumentBatch>, ClusterTime), MongoError> {
    let wanted = |key: &RepairKey| Some(WantedId { id: key.id.clone()?, first: None, last: None });
    read_ids(look_up, audit, keys.iter().filter_map(wanted).collect(), at).await
}

/// The documents with these `_id`s, as [`read`].
pub(crate) async fn read_ids(
    look_up: &mut ClusterLookUp,
    audit: &super::Audit,
    ids: Vec<WantedId>,
    at: ReadAt,
) -> Result<(Vec<DocumentBatch>, ClusterTime), MongoError> {
    let shards: Vec<Option<Arc<str>>> = match audit.settings.shards_apart {
        false => vec![None],
        true => audit.watched.uuids.keys().map(|shard| Some(Arc::from(shard.as_str()))).collect(),
    };
    let (mut documents, mut until) = (Vec::new(), ClusterTime::default());
    for first in shards {
        let wanted = ids.iter().map(|id| WantedId { first: first.clone(), ..id.clone() }).collect();
        look_up.begin(&audit.watched, wanted, at).await?;
        while let Some(batch) = look_up.next().await? {
            documents.push(batch);
        }
        until = until.max(look_up.read_until());
    }
    Ok((documents, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str, stand: Stand) -> DifferingKey {
        DifferingKey { key: key.as_bytes().to_vec(), id: None, stand }
    }

    /// Whatever happens between two looks, what is equal and what differs adds up to the documents.
    #[test]
    fn documents_that_come_and_go_between_two_looks_add_up() {
        use Stand::{Different, OnlyDocument, OnlyRows};
        let suspects = [
            key("repaired", Different),
            key("written", OnlyDocument),
            key("removed", OnlyRows),
            key("deleted and not yet applied", Different),
            key("inserted again", OnlyRows),
            key("open", Different),
            key("left over", OnlyRows),
        ];
        let differing = [
            key("deleted and not yet applied", OnlyRows),
            key("inserted again", OnlyDocument),
            key("open", OnlyDocument),
            key("left over", OnlyRows),
        ];
        assert_eq!(SecondLook::of(&suspects, &differing), SecondLook { equal: 2, come: 1, gone: 1 });
    }
}
