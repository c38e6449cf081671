//! Where documents lie in their collection: ranges of `_id`, which make a load resumable.
//!
//! A collection is cut into [`Segment`]s, one cursor reads a segment from its beginning to its end, and each of its
//! batches is a range of its own, with a [`Place`] in the segment. A range that is written is recorded with its
//! place; what an interrupted load has left open is what its segments hold outside those ranges: [`Segment::gaps`].
//!
//! Nothing here compares two `_id`s. Their order over all BSON types, and under a collation, is the server's matter (MongoDB
//! manual, "Comparison/Sort Order"); that one range ends where the next begins is a matter of equal bytes.

use bytes::Bytes;
use gizer_schema::raw::{Kind, Malformed, RawDoc};

use crate::batch::DocumentBatch;
use crate::change::id_document;

/// An `_id` as a boundary: a BSON document with that field and no other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdBound(Bytes);

impl IdBound {
    /// The `_id` of a document; `None` if it has none.
    ///
    /// # Errors
    /// [`Malformed`] if the document is no BSON before its `_id`.
    pub fn of(document: RawDoc<'_>) -> Result<Option<IdBound>, Malformed> {
        Ok(id_document(document)?.map(IdBound))
    }

    /// A boundary that was recorded.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are no document.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<IdBound, Malformed> {
        RawDoc::new(&bytes)?;
        Ok(IdBound(bytes.into()))
    }

    /// Whether it is the last `_id` that there can be.
    pub fn is_max_key(&self) -> bool {
        self.0.get(4) == Some(&(Kind::MaxKey as u8))
    }

    /// The document.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The documents from `lower` on, which belongs to it, to `upper`, which does not; `None` is no boundary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct IdRange {
    /// The first `_id` that may be in it.
    pub lower: Option<IdBound>,
    /// The first `_id` after it.
    pub upper: Option<IdBound>,
}

/// A part of a collection that one cursor reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Its number in the load.
    pub number: u32,
    /// Which of the deployments it is read from, in the order of their URIs.
    pub source: u32,
    /// What it holds.
    pub range: IdRange,
}

/// Where a range lies in its segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The segment's number.
    pub segment: u32,
    /// The number of the batch in the segment, in the order of the scan.
    pub sequence: u32,
    /// The number of the range's first document in its batch: above 0 only if the batch was divided.
    pub part: u32,
    /// What it holds.
    pub range: IdRange,
}

impl Segment {
    /// What is left of the segment outside the ranges at these places, which lie in it and do not overlap. In the order
    /// of the scan.
    pub fn gaps<'p>(&self, done: impl IntoIterator<Item = &'p Place>) -> Vec<IdRange> {
        let mut done: Vec<&Place> = done.into_iter().collect();
        done.sort_unstable_by_key(|place| (place.sequence, place.part));
        let mut gaps = Vec::new();
        // Up to where everything is either done or in a gap; `None` is the end of what can be done.
        let mut reached = Some(&self.range.lower);
        for place in done {
            if let Some(from) = reached
                && *from != place.range.lower
            {
                gaps.push(IdRange { lower: from.clone(), upper: place.range.lower.clone() });
            }
            reached = place.range.upper.is_some().then_some(&place.range.upper);
        }
        match reached {
            Some(from) if *from != self.range.upper || from.is_none() => {
                gaps.push(IdRange { lower: from.clone(), upper: self.range.upper.clone() });
            }
            _ => {}
        }
        gaps
    }
}

/// Documents that are written together or not at all.
#[derive(Debug, Clone)]
pub struct DocumentRange {
    /// All of them.
    pub documents: DocumentBatch,
    /// Where they lie; `None` if the source cannot be read from there again, as a pipe.
    pub place: Option<Place>,
}

impl DocumentRange {
    /// The range in two: the first `count` documents, and the others. `None` if one of them would be empty, or if the second
    /// begins with a document without `_id`.
    pub fn split_at(&self, count: usize) -> Option<(DocumentRange, DocumentRange)> {
        if count == 0 || count >= self.documents.len() {
            return None;
        }
        let (first, second) = self.documents.split_at(count);
        let Some(place) = &self.place else {
            let unplaced = |documents| DocumentRange { documents, place: None };
            return Some((unplaced(first), unplaced(second)));
        };
        let bound = IdBound::of(second.documents().next()?).ok()??;
        let part = |part, lower, upper| Place { part, range: IdRange { lower, upper }, ..*place };
        let IdRange { lower, upper } = &place.range;
        let second_part = place.part.saturating_add(u32::try_from(count).ok()?);
        Some((
            DocumentRange { documents: first, place: Some(part(place.part, lower.clone(), Some(bound.clone()))) },
            DocumentRange { documents: second, place: Some(part(second_part, Some(bound), upper.clone())) },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;
    use proptest::prelude::*;

    fn bound(id: i32) -> Option<IdBound> {
        Some(IdBound::from_bytes(doc! {"_id": id}.to_vec().unwrap()).unwrap())
    }

    #[test]
    fn a_boundary_is_a_document_of_the_id_alone() {
        let id = doc! {"x": [1, "y"]};
        let document = doc! {"a": 1, "_id": id.clone(), "b": 2}.to_vec().unwrap();
        let bound = IdBound::of(RawDoc::new(&document).unwrap()).unwrap().unwrap();
        assert_eq!(bound.as_bytes(), doc! {"_id": id}.to_vec().unwrap());
        let without = doc! {"a": 1}.to_vec().unwrap();
        assert_eq!(IdBound::of(RawDoc::new(&without).unwrap()), Ok(None));
        assert!(IdBound::from_bytes(vec![1, 2, 3]).is_err());
    }

    /// Batches of a segment that begins at `cuts[0]`; the first and the last boundary may be open.
    fn places(cuts: &[Option<IdBound>]) -> Vec<Place> {
        let place = |(i, ends): (usize, &[Option<IdBound>])| {
            let range = IdRange { lower: ends[0].clone(), upper: ends[1].clone() };
            Place { segment: 1, sequence: i as u32, part: 0, range }
        };
        cuts.windows(2).enumerate().map(place).collect()
    }

    proptest! {
        #[test]
        fn gaps_and_done_ranges_make_up_the_segment(
            inner in 0..12usize, open in any::<(bool, bool)>(), written in any::<u16>(), order in any::<u64>(),
        ) {
            let mut cuts: Vec<Option<IdBound>> = (0..inner as i32 + 2).map(bound).collect();
            if open.0 { cuts[0] = None; }
            if open.1 { cuts[inner + 1] = None; }
            let all = places(&cuts);
            let whole = IdRange { lower: cuts[0].clone(), upper: cuts[inner + 1].clone() };
            let segment = Segment { number: 1, source: 0, range: whole };
            let is_done = |i: usize| written >> i & 1 == 1;
            let mut done: Vec<&Place> = all.iter().enumerate().filter(|(i, _)| is_done(*i)).map(|(_, p)| p).collect();
            let turn = order as usize % done.len().max(1);
            done.rotate_left(turn);
            // What is expected is put together from single batches.
            let mut expected: Vec<IdRange> = Vec::new();
            for (i, place) in all.iter().enumerate().filter(|(i, _)| !is_done(*i)) {
                match expected.last_mut() {
                    Some(gap) if i > 0 && !is_done(i - 1) => gap.upper = place.range.upper.clone(),
                    _ => expected.push(place.range.clone()),
                }
            }
            prop_assert_eq!(segment.gaps(done), expected);
        }

        #[test]
        fn pieces_cover_the_range(documents in 1..40i32, sizes in any::<u64>()) {
            let bytes: Vec<u8> = (0..documents).flat_map(|id| doc! {"_id": id}.to_vec().unwrap()).collect();
            let range = IdRange { lower: None, upper: bound(documents) };
            let place = Place { segment: 1, sequence: 7, part: 0, range: range.clone() };
            let whole = DocumentRange { documents: DocumentBatch::from_sequence(bytes.into()).unwrap(), place: Some(place) };
            let (mut open, mut leaves) = (vec![whole], Vec::new());
            while let Some(range) = open.pop() {
                match range.split_at(1 + sizes as usize % range.documents.len()) {
                    Some((first, second)) if sizes >> (leaves.len() % 64) & 1 == 1 => open.extend([second, first]),
                    _ => leaves.push(range),
                }
            }
            prop_assert_eq!(leaves.iter().map(|leaf| leaf.documents.len()).sum::<usize>(), documents as usize);
            let places: Vec<Place> = leaves.iter().map(|leaf| leaf.place.clone().unwrap()).collect();
            let segment = Segment { number: 1, source: 0, range };
            prop_assert_eq!(segment.gaps(&places), vec![]);
            if let Some((left, rest)) = places.split_first() {
                prop_assert_eq!(segment.gaps(rest), vec![left.range.clone()]);
            }
        }
    }
}
