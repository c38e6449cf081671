//! Plans the segments of an audit, or what an interrupted one left.

use gizer_flatten::Flattener;
use gizer_flatten::range::IdBound;
use gizer_oplog::{Cluster, Collection, draw_boundaries, draw_ids};
use gizer_pg::Session;
use gizer_pg::rows::Keys;
use gizer_pg::state::{self, AuditId, AuditSegment, AuditSubject};
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;
use gizer_verify::KeyOrder;

use super::{AuditReport, Extent};
use crate::failure::Failure;

/// Segments of a full audit. More even out the end, at no cost.
const SEGMENTS: usize = 16;

pub(super) const SAMPLE_CHUNK: u64 = 100;

pub(crate) const KEYS_OF_TABLES: i32 = -1;

/// Plan of an audit.
pub struct AuditPlan {
    /// Segments left, some of them started.
    pub segments: Vec<AuditSegment>,
    /// Findings of an earlier run in finished segments.
    pub found: AuditReport,
    /// Whether it resumes an interrupted run.
    pub is_resumed: bool,
}

/// Cuts a collection into segments.
///
/// With `order` they are also ranges of keys; without, another segment covers the tables' keys.
///
/// # Errors
/// [`Failure`] if MongoDB cannot be asked.
pub async fn plan(
    cluster: &Cluster,
    collection: &Collection,
    layout: &Layout,
    order: Option<KeyOrder>,
    extent: Extent,
) -> Result<Vec<AuditSegment>, Failure> {
    let flattener = Flattener::new(layout);
    let drawn = match extent {
        Extent::Full => draw_boundaries(cluster, collection, SEGMENTS - 1).await?,
        Extent::Sample(documents) => {
            let chunks = documents.div_ceil(SAMPLE_CHUNK).max(1);
            draw_ids(cluster, collection, usize::try_from(chunks).unwrap_or(usize::MAX)).await?
        }
    };
    // Ranges of keys cannot start at an `_id` without a key.
    let with_key = |id: IdBound| {
        let key = key_of(layout, &flattener, &id);
        (key.is_some() || order.is_none()).then_some((Some(id.as_bytes().to_vec()), key.filter(|_| order.is_some())))
    };
    let boundaries: Vec<_> = drawn.into_iter().filter_map(with_key).collect();
    let segment = |number: usize, (after, after_key), (upto, upto_key)| AuditSegment {
        number: i32::try_from(number).unwrap_or(i32::MAX),
        after,
        after_key,
        upto,
        upto_key,
        ..AuditSegment::default()
    };
    let mut segments = Vec::new();
    match extent {
        // Each starts at a drawn `_id`, or at the collection's start.
        Extent::Sample(_) => {
            let begins = if boundaries.is_empty() { vec![(None, None)] } else { boundaries };
            segments.extend(begins.into_iter().enumerate().map(|(i, begin)| segment(i, begin, (None, None))));
        }
        Extent::Full => {
            let mut after = (None, None);
            for (i, upto) in boundaries.into_iter().chain([(None, None)]).enumerate() {
                segments.push(segment(i, std::mem::replace(&mut after, upto.clone()), upto));
            }
            if order.is_none() {
                segments.push(keys_of_tables());
            }
        }
    }
    Ok(segments)
}

/// The segment for the tables' keys.
pub fn keys_of_tables() -> AuditSegment {
    AuditSegment { number: KEYS_OF_TABLES, ..AuditSegment::default() }
}

/// The key of a document with this `_id`, in its column's binary form; `None` if it has none.
pub(super) fn key_of(layout: &Layout, flattener: &Flattener, id: &IdBound) -> Option<Vec<u8>> {
    let key = flattener.key_of(RawDoc::new(id.as_bytes()).ok()?).ok()?;
    let mut keys = Keys::new(layout);
    let number = keys.insert(&key)?;
    Some(keys.field(number).to_vec())
}

impl AuditPlan {
    /// Resumes an interrupted audit with the same parameters, unless `restart`, or starts one.
    ///
    /// # Errors
    /// [`Failure`] if either server cannot be asked.
    pub async fn begin(
        session: &Session,
        collection: &str,
        subject: &AuditSubject,
        restart: bool,
        segments: impl AsyncFnOnce() -> Result<Vec<AuditSegment>, Failure>,
        named: usize,
    ) -> Result<(AuditId, AuditPlan), Failure> {
        if !restart && let Some((id, all)) = state::unfinished_audit(session, collection, subject).await? {
            let (done, segments): (Vec<_>, Vec<_>) = all.into_iter().partition(|segment| segment.done);
            let mut found = AuditReport::default();
            for segment in done {
                found.add(report_of(&segment), named);
            }
            return Ok((id, AuditPlan { segments, found, is_resumed: true }));
        }
        let segments = segments().await?;
        let id = state::begin_audit(session, collection, subject, &segments).await?;
        Ok((id, AuditPlan { segments, found: AuditReport::default(), is_resumed: false }))
    }
}

/// A segment's findings so far.
pub(super) fn report_of(segment: &AuditSegment) -> AuditReport {
    serde_json::from_value(segment.report.clone()).unwrap_or_default()
}
