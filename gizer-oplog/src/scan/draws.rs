//! Random ids of a collection.

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use futures::future::try_join_all;
use gizer_flatten::range::IdBound;
use gizer_schema::raw::RawDoc;

use super::part::{ScanPart, document};
use super::segments::{DOCUMENTS_A_SAMPLE, SAMPLES};
use crate::collections::Collection;
use crate::connect::Cluster;
use crate::error::MongoError;
use crate::waiting::ReplyLimit;

/// Limits for boundaries: those of several deployments go into one command, which may have 16 MiB
/// (MongoDB manual, "MongoDB Limits and Thresholds").
const MAX_BOUNDARIES: u64 = 1_000;
const MAX_BOUNDARY_BYTES: usize = 1 << 10;

/// About `count` boundaries that cut a collection, over all deployments, into stretches of similar
/// size: ascending and distinct in the server's order. Fewer, or none, for a small collection.
///
/// # Errors
/// [`MongoError::NotFollowable`] for a view and the like; connection errors.
pub async fn draw_boundaries(
    cluster: &Cluster,
    collection: &Collection,
    count: usize,
) -> Result<Vec<IdBound>, MongoError> {
    let parts: Vec<ScanPart> = ScanPart::all(cluster, collection)?.into_iter().flatten().collect();
    // No more than the server draws without a full scan.
    let at_once = documents(&parts) / (SAMPLES * DOCUMENTS_A_SAMPLE);
    let count = (count as u64).min(at_once).min(MAX_BOUNDARIES);
    let mut drawn = draw(&parts, count * SAMPLES).await?;
    drawn.iter_mut().for_each(|(_, ids)| ids.retain(|id| id.as_bytes().len() <= MAX_BOUNDARY_BYTES));
    drawn.retain(|(_, ids)| !ids.is_empty());
    let Some((part, _)) = drawn.first() else { return Ok(Vec::new()) };
    let part = *part;
    let ids: Vec<IdBound> = drawn.into_iter().flat_map(|(_, ids)| ids).collect();
    let ids = part.in_order(&ids).await?;
    // Every n-th, but not past the end.
    let between = (ids.len() / (count as usize + 1)).max(1);
    Ok(ids.into_iter().skip(between - 1).step_by(between).take(count as usize).collect())
}

/// About `count` random ids from all deployments, in any order, rarely repeated; all of them if
/// there are fewer. The server scans the whole collection to draw more than one in twenty.
///
/// # Errors
/// As [`draw_boundaries`].
pub async fn draw_ids(cluster: &Cluster, collection: &Collection, count: usize) -> Result<Vec<IdBound>, MongoError> {
    let parts: Vec<ScanPart> = ScanPart::all(cluster, collection)?.into_iter().flatten().collect();
    let drawn = draw(&parts, count as u64).await?;
    Ok(drawn.into_iter().flat_map(|(_, ids)| ids).collect())
}

/// Ids from each deployment, in proportion to its size.
async fn draw(parts: &[ScanPart], count: u64) -> Result<Vec<(&ScanPart, Vec<IdBound>)>, MongoError> {
    let all = u128::from(documents(parts));
    let share = |part: &ScanPart| match all {
        0 => count.div_ceil(parts.len() as u64),
        all => {
            let of_part = u128::from(part.size.map_or(0, |size| size.documents));
            u64::try_from((u128::from(count) * of_part).div_ceil(all)).unwrap_or(u64::MAX)
        }
    };
    try_join_all(parts.iter().map(async |part| Ok((part, part.draw_ids(share(part)).await?)))).await
}

fn documents(parts: &[ScanPart]) -> u64 {
    parts.iter().filter_map(|part| part.size).map(|size| size.documents).sum()
}

impl ScanPart {
    /// Random ids, in any order.
    pub(super) async fn draw_ids(&self, count: u64) -> Result<Vec<IdBound>, MongoError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let size = i64::try_from(count).unwrap_or(i64::MAX);
        self.ids(vec![doc! { "$sample": { "size": size } }, doc! { "$project": { "_id": 1 } }]).await
    }

    /// As [`ScanPart::draw_ids`], in the server's order, under the collection's collation.
    pub(super) async fn sample_ids(&self, count: u64) -> Result<Vec<IdBound>, MongoError> {
        let size = i64::try_from(count).unwrap_or(i64::MAX);
        let stages = vec![
            doc! { "$sample": { "size": size } },
            doc! { "$project": { "_id": 1 } },
            doc! { "$sort": { "_id": 1 } },
        ];
        self.ids(stages).await
    }

    /// These ids in the server's order, without duplicates; none if the collection is empty now.
    ///
    /// `$documents` would need 5.1, and knows no collation.
    async fn in_order(&self, ids: &[IdBound]) -> Result<Vec<IdBound>, MongoError> {
        let ids: Vec<Bson> = ids.iter().filter_map(document).map(Bson::Document).collect();
        let stages = vec![
            doc! { "$limit": 1 },
            doc! { "$project": { "_id": 0, "drawn": { "$literal": ids } } },
            doc! { "$unwind": "$drawn" },
            doc! { "$group": { "_id": "$drawn._id" } },
            doc! { "$sort": { "_id": 1 } },
        ];
        self.ids(stages).await
    }

    /// Ids given by a pipeline.
    async fn ids(&self, stages: Vec<Document>) -> Result<Vec<IdBound>, MongoError> {
        let collection = self.deployment.database(&self.namespace.database);
        let collection = collection.collection::<Document>(&self.namespace.collection);
        let cursor = collection.aggregate(stages).read_concern(self.read_concern()).allow_disk_use(true);
        let read = async { cursor.with_type::<RawDocumentBuf>().await?.try_collect().await };
        let given: Vec<RawDocumentBuf> = self.answered("aggregate", ReplyLimit::Long, read).await?;
        Ok(given.iter().filter_map(|given| IdBound::of(RawDoc::new(given.as_bytes()).ok()?).ok()?).collect())
    }
}
