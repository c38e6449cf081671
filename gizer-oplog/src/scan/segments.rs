//! Cuts a collection into segments that are read in parallel.

use futures::future::try_join_all;
use gizer_flatten::range::{IdBound, IdRange, Segment};

use super::part::{ScanPart, document};
use crate::collections::Collection;
use crate::connect::Cluster;
use crate::error::MongoError;

/// Smallest segment worth a cursor, in bytes of BSON.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Random ids per segment: with eight, the largest of sixteen segments is twice the average in one
/// load of seven, and hardly ever three times.
pub(super) const SAMPLES: u64 = 8;

/// Documents per sample: the server uses a random cursor only for less than 5 % of a collection,
/// and scans all of it otherwise (MongoDB manual, "$sample").
pub(super) const DOCUMENTS_A_SAMPLE: u64 = 25;

/// Cuts a collection into about `count` segments of similar size per deployment; fewer if it is
/// small. Together they hold every possible `_id`. Deployments alternate, to be read in parallel.
///
/// # Errors
/// [`MongoError::NotFollowable`] for a view and the like; connection errors.
pub async fn plan_segments(
    cluster: &Cluster,
    collection: &Collection,
    count: usize,
) -> Result<Vec<Segment>, MongoError> {
    let parts = ScanPart::all(cluster, collection)?;
    let cuts = parts.iter().map(async |part| match part {
        Some(part) => Ok(Some(part.cuts(count as u64).await?)),
        None => Ok::<_, MongoError>(None),
    });
    let cuts = try_join_all(cuts).await?;
    let mut segments: Vec<(usize, u32, IdRange)> = Vec::new();
    for (source, cuts) in (0_u32..).zip(&cuts) {
        let ranges = cuts.iter().flat_map(|cuts| ranges(cuts));
        segments.extend(ranges.enumerate().map(|(i, range)| (i, source, range)));
    }
    segments.sort_by_key(|(i, source, _)| (*i, *source));
    let segment = |(number, (_, source, range))| Segment { number, source, range };
    Ok((0_u32..).zip(segments).map(segment).collect())
}

/// Whether the driver can express the bounds: it has no type for text that is not UTF-8. Always
/// true for segments planned just now.
pub fn can_be_read(segments: &[Segment]) -> bool {
    let bounds = segments.iter().flat_map(|segment| [&segment.range.lower, &segment.range.upper]);
    bounds.flatten().all(|bound| document(bound).is_some())
}

fn ranges(cuts: &[IdBound]) -> Vec<IdRange> {
    let mut bounds = vec![None];
    bounds.extend(cuts.iter().cloned().map(Some));
    bounds.push(None);
    bounds.windows(2).map(|ends| IdRange { lower: ends[0].clone(), upper: ends[1].clone() }).collect()
}

impl ScanPart {
    /// Boundaries of about `count` segments, ascending and distinct.
    async fn cuts(&self, count: u64) -> Result<Vec<IdBound>, MongoError> {
        let Some(size) = self.size else { return Ok(Vec::new()) };
        let count = count.min(size.bytes / SEGMENT_BYTES);
        if count < 2 || size.documents < count * SAMPLES * DOCUMENTS_A_SAMPLE {
            return Ok(Vec::new());
        }
        let sample = match self.sample_ids(count * SAMPLES).await {
            Ok(mut sample) => {
                sample.retain(|bound| document(bound).is_some());
                sample
            }
            // Without samples one cursor reads all; it will find whatever else is wrong.
            Err(error @ (MongoError::Server { .. } | MongoError::NoRights { .. })) => {
                tracing::debug!(%error, "no ids could be drawn");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let mut cuts: Vec<IdBound> = sample.into_iter().skip(SAMPLES as usize).step_by(SAMPLES as usize).collect();
        cuts.dedup();
        Ok(cuts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn ranges_leave_nothing_out() {
        let bound = |id: i32| IdBound::from_bytes(doc! {"_id": id}.to_vec().unwrap()).unwrap();
        let cuts = ranges(&[bound(1), bound(5)]);
        let expected = [(None, Some(bound(1))), (Some(bound(1)), Some(bound(5))), (Some(bound(5)), None)];
        assert_eq!(cuts, expected.map(|(lower, upper)| IdRange { lower, upper }));
        assert_eq!(ranges(&[]), [IdRange::default()]);
    }

    #[test]
    fn text_that_is_not_utf8_is_no_boundary() {
        let segment = |bytes: Vec<u8>| Segment {
            number: 0,
            source: 0,
            range: IdRange { lower: Some(IdBound::from_bytes(bytes).unwrap()), upper: None },
        };
        let good = doc! {"_id": "x"}.to_vec().unwrap();
        let mut bad = good.clone();
        let at = bad.len() - 3;
        bad[at] = 0xFF;
        assert!(can_be_read(&[segment(good)]));
        assert!(!can_be_read(&[segment(bad)]));
    }
}
