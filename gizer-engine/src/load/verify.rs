//! Compares staging tables with the documents before the swap.

use std::sync::{Arc, Mutex, PoisonError};

use gizer_flatten::change::Positions;
use gizer_oplog::{Collection, MongoError, WatchedCollection};
use gizer_pg::load::{Load, LoadSource};
use gizer_pg::state::{Moment, RepairKey, Standing};

use super::Comparison;
use super::fill::FilledLoad;
use super::job::LoadJob;
use crate::audit::{self, Audit, AuditReaders, AuditReport, AuditTables, AuditTarget, Extent};
use crate::failure::{Failure, FailureKind};
use crate::follow;
use crate::notice::Notice;
use crate::observer::Activity;
use crate::wording::counted;

const SAMPLE_DOCUMENTS: u64 = 2_000;

/// Rounds of alignment for documents that changed meanwhile.
const MAX_ROUNDS: usize = 5;

impl LoadJob<'_, '_> {
    /// Aligns a load's staging tables and compares them with the documents, unless it is a copy.
    pub(super) async fn align_and_verify(&self, filled: &mut FilledLoad<'_>) -> Result<(), Failure> {
        self.align(filled).await?;
        let sample = match self.options.comparison {
            Comparison::Off => return Ok(()),
            Comparison::Sample => Some(SAMPLE_DOCUMENTS),
            Comparison::Full => None,
        };
        let (LoadSource::Followable { .. }, Some(watched)) = (filled.load.source(), filled.watched.clone()) else {
            return Ok(());
        };
        let name = filled.name().to_owned();
        let progress = self.env.observer.begin(Activity::step(&name, "comparing rows with documents"));
        let found = self.compare(filled, &watched, sample).await?;
        drop(progress);
        if found.is_equal() {
            tracing::info!(collection = name, documents = found.documents, rows = found.rows, "equal");
            return Ok(());
        }
        // The next load must not resume wrong tables, which a sample might miss.
        filled.load.give_up().await?;
        Err(not_equal(&name, &found))
    }

    async fn compare(
        &self,
        filled: &mut FilledLoad<'_>,
        watched: &WatchedCollection,
        sample: Option<u64>,
    ) -> Result<AuditReport, Failure> {
        let collection = match self.cluster.collection(filled.name()).await {
            Err(MongoError::NoSuchCollection { .. } | MongoError::NoSuchDatabase { .. }) => {
                // It was gone from the start, and nothing was loaded.
                let was_gone = watched.uuids.is_empty() && self.options.empties_gone;
                return if was_gone { Ok(AuditReport::default()) } else { Err(follow::replaced(filled.name())) };
            }
            found => found?,
        };
        let again = Arc::new(Mutex::new(Vec::new()));
        let extent = Audit::extent(Some(&collection), sample);
        let mut found = AuditReport::default();
        {
            let source = (watched, &collection);
            let audit = self.audit(&filled.load, filled.whole.standing.as_ref(), source, extent, &again);
            let layout = filled.load.layout();
            let segments = audit::plan(self.cluster, &collection, layout, audit.order, extent).await?;
            found
                .add(audit::run(&audit, self.env, self.cluster, segments, &AuditReport::default()).await?, audit.named);
        }
        for _ in 0..MAX_ROUNDS {
            let open: Vec<RepairKey> = std::mem::take(&mut *again.lock().unwrap_or_else(PoisonError::into_inner));
            if open.is_empty() {
                return Ok(found);
            }
            // They changed since the load: the log's changes are applied first.
            self.align(filled).await?;
            let source = (watched, &collection);
            let audit = self.audit(&filled.load, filled.whole.standing.as_ref(), source, Extent::Full, &again);
            let session = self.env.postgres().await?;
            let readers = AuditReaders::new(self.cluster, self.oplogs);
            found.add(audit::look_again(&audit, &session, readers, open).await?, audit.named);
        }
        let open = again.lock().unwrap_or_else(PoisonError::into_inner).len();
        if open > 0 {
            let collection = filled.name().to_owned();
            self.env.notice(&Notice::NotCompared { collection, documents: open as u64 });
        }
        Ok(found)
    }

    fn audit(
        &self,
        load: &Load<'_>,
        standing: Option<&Standing>,
        (watched, collection): (&WatchedCollection, &Collection),
        extent: Extent,
        again: &Arc<Mutex<Vec<RepairKey>>>,
    ) -> Audit {
        let positions = standing.map_or_else(Positions::new, |standing| standing.applied_to.clone());
        let latest = positions.values().map(|position| position.time()).max();
        let exact = latest.filter(|_| standing.is_some_and(|standing| standing.exact));
        let moment = Moment { live_epoch: load.fence().load_epoch, positions, exact, uuids: watched.uuids.clone() };
        let audit = Audit::of(
            follow::audit_settings(self.env, self.cluster),
            self.oplogs,
            AuditTarget {
                layout: Arc::new(load.layout().clone()),
                watched: watched.clone(),
                tables: AuditTables::Staging(moment),
            },
            Some(collection),
            extent,
        );
        Audit { again: Some(Arc::clone(again)), ..audit }
    }
}

/// The failure of unequal tables, which are not swapped in.
fn not_equal(collection: &str, found: &AuditReport) -> Failure {
    let count = counted(found.differing(), "document differs", "documents differ");
    let first: Vec<&str> = found.differences.iter().take(3).map(|each| each.text.as_str()).collect();
    let more = if found.differing() > first.len() as u64 { "; …" } else { "" };
    let message =
        format!("{collection}: {count} from what was loaded: {}{more}; nothing is swapped in", first.join("; "));
    Failure::new(FailureKind::Differs, message).remedy(
        "look for triggers, rules and other writers of the staging tables (gizer_new_…), and load again, which starts over; \
         `--verify off` swaps in whatever is there",
    )
}
