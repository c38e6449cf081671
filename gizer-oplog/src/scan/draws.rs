//! Ids of a collection that are drawn by chance.

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures::TryStreamExt;
use futures::future::try_join_all;
use gizer_flatten::range::IdBound;
use gizer_schema::raw::RawDoc;

use super::part::{Part, document};
use super::segments::{DOCUMENTS_A_SAMPLE, SAMPLES};
use crate::collections::Collection;
use crate::connect::Cluster;
use crate::error::MongoError;
use crate::waiting::ReplyLimit;

/// The most boundaries, and the most bytes of each: those that are drawn from several deployments go into one command, which may have
/// 16 MiB (MongoDB manual, "MongoDB Limits and Thresholds").
const MOST_BOUNDARIES: u64 = 1_000;
const LONGEST_BOUNDARY: usize = 1 << 10;

/// About `count` boundaries that cut a collection, over all deployments, into stretches of about the same number of documents:
/// ascending and different in the server's order. Fewer, or none, where the collection is small.
///
/// # Errors
/// [`MongoError::NotFollowable`] for a view and the like; all that can happen to a connection.
pub async fn draw_boundaries(
    cluster: &Cluster,
    collection: &Collection,
    count: usize,
) -> Result<Vec<IdBound>, MongoError> {
    let parts: Vec<Part> = Part::all(cluster, collection)?.into_iter().flatten().collect();
    // No more than the server draws without reading all of the collection.
    let at_once = documents(&parts) / (SAMPLES * DOCUMENTS_A_SAMPLE);
    let count = (count as u64).min(at_once).min(MOST_BOUNDARIES);
    let mut drawn = draw(&parts, count * SAMPLES).await?;
    drawn.iter_mut().for_each(|(_, ids)| ids.retain(|id| id.as_bytes().len() <= LONGEST_BOUNDARY));
    drawn.retain(|(_, ids)| !ids.is_empty());
    let Some((part, _)) = drawn.first() else { return Ok(Vec::new()) };
    let part = *part;
    let ids: Vec<IdBound> = drawn.into_iter().flat_map(|(_, ids)| ids).collect();
    let ids = part.in_order(&ids).await?;
    // The last of every so many, but not behind the end.
    let between = (ids.len() / (count as usize + 1)).max(1);
    Ok(ids.into_iter().skip(between - 1).step_by(between).take(count as usize).collect())
}

/// About `count` ids drawn by chance from all deployments, in no particular order, rarely one of them twice; all that there are, if there
/// are not so many. The server reads the whole collection once if it is to draw more than one in twenty.
///
/// # Errors
/// As [`draw_boundaries`].
pub async fn draw_ids(cluster: &Cluster, collection: &Collection, count: usize) -> Result<Vec<IdBound>, MongoError> {
    let parts: Vec<Part> = Part::all(cluster, collection)?.into_iter().flatten().collect();
    let drawn = draw(&parts, count as u64).await?;
    Ok(drawn.into_iter().flat_map(|(_, ids)| ids).collect())
}

/// Ids from each deployment, as many as is its share.
async fn draw(parts: &[Part], count: u64) -> Result<Vec<(&Part, Vec<IdBound>)>, MongoError> {
    let all = u128::from(documents(parts));
    let share = |part: &Part| match all {
        0 => count.div_ceil(parts.len() as u64),
        all => {
            let of_part = u128::from(part.size.map_or(0, |size| size.documents));
            u64::try_from((u128::from(count) * of_part).div_ceil(all)).unwrap_or(u64::MAX)
        }
    };
    try_join_all(parts.iter().map(async |part| Ok((part, part.draw_ids(share(part)).await?)))).await
}

fn documents(parts: &[Part]) -> u64 {
    parts.iter().filter_map(|part| part.size).map(|size| size.documents).sum()
}

impl Part {
    /// Ids drawn by chance, in no order.
    pub(super) async fn draw_ids(&self, count: u64) -> Result<Vec<IdBound>, MongoError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let size = i64::try_from(count).unwrap_or(i64::MAX);
        self.ids(vec![doc! { "$sample": { "size": size } }, doc! { "$project": { "_id": 1 } }]).await
    }

    /// As [`Part::draw_ids`], in the server's order, which is that of the collection's collation.
    pub(super) async fn sample_ids(&self, count: u64) -> Result<Vec<IdBound>, MongoError> {
        let size = i64::try_from(count).unwrap_or(i64::MAX);
        let stages = vec![
            doc! { "$sample": { "size": size } },
            doc! { "$project": { "_id": 1 } },
            doc! { "$sort": { "_id": 1 } },
        ];
        self.ids(stages).await
    }

    /// These ids in the server's order, each of them once; none if the collection has come to be empty.
    ///
    /// A stage that takes documents from nowhere (`$documents`) is there from 5.1 on only, and knows no collation.
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

    /// The ids that a pipeline gives.
    async fn ids(&self, stages: Vec<Document>) -> Result<Vec<IdBound>, MongoError> {
        let collection = self.deployment.database(&self.namespace.database);
        let collection = collection.collection::<Document>(&self.namespace.collection);
        let cursor = collection.aggregate(stages).read_concern(self.read_concern()).allow_disk_use(true);
        let read = async { cursor.with_type::<RawDocumentBuf>().await?.try_collect().await };
        let given: Vec<RawDocumentBuf> = self.answered("aggregate", ReplyLimit::Long, read).await?;
        Ok(given.iter().filter_map(|given| IdBound::of(RawDoc::new(given.as_bytes()).ok()?).ok()?).collect())
    }
}
