//! Ranges of `_id`, which make a load resumable.
//!
//! A collection is cut into [`Segment`]s; one cursor reads a segment from start to end, and each
//! batch is a range with a [`Place`] in it. Committed ranges are recorded by place; an interrupted
//! load resumes with what its segments hold outside those: [`Segment::gaps`].
//!
//! Nothing here compares `_id`s: only the server knows their order, over all BSON types and under a
//! collation (MongoDB manual, "Comparison/Sort Order"). Adjacent ranges share equal bytes.

use bytes::Bytes;
use gizer_schema::raw::{Kind, Malformed, RawDoc};

use crate::batch::DocumentBatch;
use crate::change::id_document;

/// An `_id` as a bound: a BSON document of this field alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdBound(Bytes);

impl IdBound {
    /// The `_id` of a document; `None` if it has none.
    ///
    /// # Errors
    /// [`Malformed`] if the document is not BSON up to its `_id`.
    pub fn of(document: RawDoc<'_>) -> Result<Option<IdBound>, Malformed> {
        Ok(id_document(document)?.map(IdBound))
    }

    /// A recorded bound.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not a document.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<IdBound, Malformed> {
        RawDoc::new(&bytes)?;
        Ok(IdBound(bytes.into()))
    }

    /// Whether it is MaxKey, the last possible `_id`.
    pub fn is_max_key(&self) -> bool {
        self.0.get(4) == Some(&(Kind::MaxKey as u8))
    }

    /// The document.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Documents from `lower`, inclusive, to `upper`, exclusive; `None` is no bound.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct IdRange {
    /// Lower bound, inclusive.
    pub lower: Option<IdBound>,
    /// Upper bound, exclusive.
    pub upper: Option<IdBound>,
}

/// A part of a collection that one cursor reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Its number in the load.
    pub number: u32,
    /// Index of its deployment, in URI order.
    pub source: u32,
    /// What it holds.
    pub range: IdRange,
}

/// Where a range lies in its segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The segment's number.
    pub segment: u32,
    /// Number of the batch in the segment, in scan order.
    pub sequence: u32,
    /// Index of the range's first document in its batch: above 0 only if the batch was divided.
    pub part: u32,
    /// What it holds.
    pub range: IdRange,
}

impl Segment {
    /// What is left of the segment outside these disjoint ranges of it, in scan order.
    pub fn gaps<'p>(&self, done: impl IntoIterator<Item = &'p Place>) -> Vec<IdRange> {
        let mut done: Vec<&Place> = done.into_iter().collect();
        done.sort_unstable_by_key(|place| (place.sequence, place.part));
        let mut gaps = Vec::new();
        // Everything before this is done or in a gap; `None` at the segment's end.
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
    /// Their place; `None` if the source cannot be read again, as a pipe.
    pub place: Option<Place>,
}

impl DocumentRange {
    /// Splits the range after `count` documents. `None` if a half would be empty, or the second
    /// starts with a document without `_id`.
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
