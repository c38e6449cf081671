//! Ranges of `_id` cover a collection exactly, whatever its ids are, and what is left of it can be read later.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, doc};
use gizer_flatten::range::{DocumentRange, IdBound, IdRange, Place, Segment};
use gizer_oplog::{Cluster, MongoError, RangeScan, RangeSource, ScanOptions, can_be_read, plan_segments};
use integration_tests::rig::Version;

use super::scan::values;
use super::{Outcome, Shop, batches_of, encoded, numbered, on_each_version};

on_each_version!(
    ids_of_every_type_are_each_in_one_range,
    what_is_left_of_a_scan_can_be_read_later,
    a_large_collection_is_cut_into_segments_of_like_size,
    ranges_keep_to_the_collation_of_their_collection,
);

/// All ranges of these segments, by as many cursors.
async fn ranges(
    cluster: &Cluster,
    collection: &str,
    segments: Vec<Segment>,
    options: ScanOptions,
) -> Result<Vec<DocumentRange>, MongoError> {
    let collection = cluster.collection(collection).await?;
    let cursors = segments.len();
    let mut all = Vec::new();
    for mut cursor in RangeScan::cursors(cluster, &collection, segments, options, cursors)? {
        while let Some(range) = cursor.next_range().await? {
            assert!(!range.documents.is_empty());
            all.push(range);
        }
    }
    Ok(all)
}

fn bytes_of(ranges: &[DocumentRange]) -> Vec<Vec<u8>> {
    let documents = ranges.iter().flat_map(|range| range.documents.documents());
    let mut bytes: Vec<Vec<u8>> = documents.map(|document| document.as_bytes().to_vec()).collect();
    bytes.sort_unstable();
    bytes
}

fn places(ranges: &[DocumentRange]) -> Vec<Place> {
    ranges.iter().map(|range| range.place.clone().expect("a range of a collection has a place")).collect()
}

fn bound(id: impl Into<bson::Bson>) -> Option<IdBound> {
    let document = doc! { "_id": id.into() };
    Some(IdBound::from_bytes(encoded(&document)).expect("BSON"))
}

/// Segments with these boundaries.
fn segments(cuts: &[Option<IdBound>]) -> Vec<Segment> {
    let range = |ends: &[Option<IdBound>]| IdRange { lower: ends[0].clone(), upper: ends[1].clone() };
    let segment = |(number, ends)| Segment { number, source: 0, range: range(ends) };
    (0_u32..).zip(cuts.windows(2)).map(segment).collect()
}

async fn ids_of_every_type_are_each_in_one_range(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let documents: Vec<Document> = values().into_iter().map(|id| doc! { "_id": id, "x": 1 }).collect();
    shop.database.collection::<Document>("mixed").insert_many(&documents).await?;
    let cluster = shop.cluster().await?;
    let mut expected: Vec<Vec<u8>> = documents.iter().map(encoded).collect();
    expected.sort_unstable();

    // Every id there is as a boundary: the types follow each other in the server's order, not in ours.
    let whole = segments(&[None, None]);
    let in_order = ranges(&cluster, "mixed", whole.clone(), batches_of(1)).await?;
    assert_eq!(in_order.len(), documents.len(), "a batch of one document each");
    let mut cuts: Vec<Option<IdBound>> = places(&in_order).into_iter().map(|place| place.range.lower).collect();
    assert_eq!(cuts[0], None, "the first range begins where its segment does");
    cuts.push(None);
    for cuts in [vec![None, None], vec![None, bound(1), bound("a\0b é"), None], cuts] {
        let count = cuts.len() - 1;
        let seen = ranges(&cluster, "mixed", segments(&cuts), ScanOptions::default()).await?;
        assert_eq!(bytes_of(&seen), expected, "{count} segments");
        let per_segment: BTreeSet<u32> = places(&seen).iter().map(|place| place.segment).collect();
        assert_eq!(per_segment.len(), count, "a range in every segment");
    }
    Ok(())
}

async fn what_is_left_of_a_scan_can_be_read_later(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let documents = numbered(3_000, 400);
    shop.database.collection::<Document>("orders").insert_many(&documents).await?;
    let cluster = shop.cluster().await?;
    let plan = segments(&[None, bound(777), bound(2_000), None]);
    let first = ranges(&cluster, "orders", plan.clone(), batches_of(30_000)).await?;
    assert!(first.len() > 30, "{} ranges", first.len());
    // Two of three ranges are written, and the last of a segment is not.
    let (written, lost): (Vec<_>, Vec<_>) = first.into_iter().enumerate().partition(|(i, _)| i % 3 != 2);
    let (written, lost): (Vec<_>, Vec<_>) =
        (written.into_iter().map(|(_, range)| range).collect(), lost.into_iter().map(|(_, range)| range).collect());

    // Meanwhile the collection changes: what is new where something is left is read, the rest is the oplog's.
    let done = places(&written);
    let mut left = Vec::new();
    for segment in &plan {
        for range in segment.gaps(done.iter().filter(|place| place.segment == segment.number)) {
            left.push(Segment { number: left.len() as u32, source: 0, range });
        }
    }
    assert!(can_be_read(&left) && left.len() > 5);
    let second = ranges(&cluster, "orders", left, batches_of(30_000)).await?;
    assert_eq!(bytes_of(&second), bytes_of(&lost), "exactly what was not written");
    let mut both = [bytes_of(&written), bytes_of(&second)].concat();
    both.sort_unstable();
    let mut expected: Vec<Vec<u8>> = documents.iter().map(encoded).collect();
    expected.sort_unstable();
    assert_eq!(both.len(), expected.len());
    assert!(both == expected);
    Ok(())
}

async fn a_large_collection_is_cut_into_segments_of_like_size(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let orders = shop.database.collection::<Document>("orders");
    for from in (0..70_000).step_by(10_000) {
        let mut documents = numbered(10_000, 2_000);
        documents.iter_mut().zip(from..).for_each(|(document, id)| drop(document.insert("_id", id)));
        orders.insert_many(&documents).await?;
    }
    let cluster = shop.cluster().await?;
    let collection = cluster.collection("orders").await?;
    let plan = plan_segments(&cluster, &collection, 4).await?;
    assert_eq!(plan.len(), 2, "140 MB are two segments of at least 64 MiB");
    let all = ranges(&cluster, "orders", plan.clone(), ScanOptions::default()).await?;
    let mut sizes = BTreeMap::new();
    for range in &all {
        *sizes.entry(range.place.as_ref().map(|place| place.segment)).or_insert(0) += range.documents.len();
    }
    assert_eq!(sizes.values().sum::<usize>(), 70_000);
    // Drawn by chance; a segment of a fortieth would be one in many billions.
    assert!(sizes.len() == 2 && sizes.values().all(|size| *size >= 1_750), "{sizes:?}");
    let nothing_left = plan.iter().flat_map(|segment| {
        let of_segment: Vec<Place> = places(&all).into_iter().filter(|place| place.segment == segment.number).collect();
        segment.gaps(&of_segment)
    });
    assert_eq!(nothing_left.collect::<Vec<_>>(), []);
    Ok(())
}

async fn ranges_keep_to_the_collation_of_their_collection(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    // Under it, "B" lies between "a" and "c"; by their bytes it would be before both.
    shop.create("words", doc! { "collation": { "locale": "en", "strength": 2 } }).await?;
    let documents: Vec<Document> = ["a", "B", "c", "D", "é", "f"].map(|id| doc! { "_id": id }).to_vec();
    shop.database.collection::<Document>("words").insert_many(&documents).await?;
    let cluster = shop.cluster().await?;
    let seen =
        ranges(&cluster, "words", segments(&[None, bound("b"), bound("d"), None]), ScanOptions::default()).await?;
    let ids = |range: &DocumentRange| -> Vec<String> {
        let documents = range.documents.documents().map(|raw| Document::from_reader(raw.as_bytes()).expect("BSON"));
        documents.map(|document| document.get_str("_id").expect("text").to_owned()).collect()
    };
    assert_eq!(seen.iter().map(ids).collect::<Vec<_>>(), [vec!["a"], vec!["B", "c"], vec!["D", "é", "f"]]);
    Ok(())
}
