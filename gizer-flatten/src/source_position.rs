//! Positions of a source: made and compared by it, opaque elsewhere.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::change::ClusterTime;

/// Bytes of a place stored inline. An oplog's has 8.
const INLINE_BYTES: usize = 14;

/// A position in one shard's changes: a cluster time, and a place only its source understands.
///
/// Positions of one source sort in its order: by time, then by the bytes of the place. Between
/// sources only the times compare.
///
/// The text form is `<seconds>.<increment>:<place in hex>`; state tables and spools hold it.
#[derive(Clone)]
pub struct SourcePosition {
    time: ClusterTime,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Inline { length: u8, bytes: [u8; INLINE_BYTES] },
    Shared(Arc<[u8]>),
}

impl SourcePosition {
    /// A position of a source whose places sort by their bytes.
    pub fn new(time: ClusterTime, place: &[u8]) -> SourcePosition {
        let mut bytes = [0; INLINE_BYTES];
        let place = match bytes.get_mut(..place.len()) {
            Some(front) => {
                front.copy_from_slice(place);
                Place::Inline { length: place.len() as u8, bytes }
            }
            None => Place::Shared(place.into()),
        };
        SourcePosition { time, place }
    }

    /// The position in state tables or manifests of gizer 0.1: a time and an election term.
    ///
    /// For reading those only: an oplog's place is the term's 8 bytes, big-endian with the sign bit
    /// flipped so that they sort as numbers.
    pub fn of_first_version(time: ClusterTime, term: i64) -> SourcePosition {
        SourcePosition::new(time, &(term ^ i64::MIN).to_be_bytes())
    }

    /// The time, which all sources share.
    pub fn time(&self) -> ClusterTime {
        self.time
    }

    /// The place at that time, as the source made it.
    pub fn place(&self) -> &[u8] {
        match &self.place {
            Place::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Place::Shared(bytes) => bytes,
        }
    }
}

impl Default for SourcePosition {
    /// Before every other.
    fn default() -> Self {
        SourcePosition::new(ClusterTime::default(), &[])
    }
}

impl PartialEq for SourcePosition {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for SourcePosition {}

impl PartialOrd for SourcePosition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SourcePosition {
    fn cmp(&self, other: &Self) -> Ordering {
        self.time.cmp(&other.time).then_with(|| self.place().cmp(other.place()))
    }
}

impl Hash for SourcePosition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.time.hash(state);
        self.place().hash(state);
    }
}

impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}:{}", self.time.seconds, self.time.increment, hex::encode(self.place()))
    }
}

impl fmt::Debug for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not `<seconds>.<increment>:<place in hex>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a position <seconds>.<increment>:<hex>, got {0:?}")]
pub struct NotASourcePosition(pub String);

impl FromStr for SourcePosition {
    type Err = NotASourcePosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (time, place) = text.split_once(':')?;
            let (seconds, increment) = time.split_once('.')?;
            let time = ClusterTime { seconds: seconds.parse().ok()?, increment: increment.parse().ok()? };
            Some(SourcePosition::new(time, &hex::decode(place).ok()?))
        };
        parse().ok_or_else(|| NotASourcePosition(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    type Parts = (u32, u32, Vec<u8>);

    fn position((seconds, increment, place): &Parts) -> SourcePosition {
        SourcePosition::new(ClusterTime { seconds: *seconds, increment: *increment }, place)
    }

    /// Few times and short places, so that ties and prefixes come up, and places of every length.
    fn parts() -> impl Strategy<Value = Parts> {
        let time = prop_oneof![0..3_u32, any::<u32>()];
        (time.clone(), time, prop_oneof![vec(0..3_u8, 0..3), vec(any::<u8>(), 0..40)])
    }

    proptest! {
        #[test]
        fn sorts_by_time_and_then_by_bytes(one in parts(), other in parts()) {
            prop_assert_eq!(position(&one).cmp(&position(&other)), one.cmp(&other));
            prop_assert_eq!(position(&one) == position(&other), one == other);
        }

        #[test]
        fn reads_back_from_its_text(parts in parts()) {
            let position = position(&parts);
            prop_assert_eq!(position.to_string().parse(), Ok(position.clone()));
            prop_assert_eq!((position.time().seconds, position.time().increment, position.place().to_vec()), parts);
        }

        #[test]
        fn terms_sort_as_numbers(one in any::<i64>(), other in any::<i64>()) {
            let of = |term| SourcePosition::of_first_version(ClusterTime::default(), term);
            prop_assert_eq!(of(one).cmp(&of(other)), one.cmp(&other));
        }
    }

    #[test]
    fn has_one_text_form() {
        let position = SourcePosition::of_first_version(ClusterTime { seconds: 1_454_960_732, increment: 1 }, 7);
        assert_eq!(position.to_string(), "1454960732.1:8000000000000007");
        for other in ["", "1.2", "1:2", "1.2:8", "1.2:zz", "-1.2:", "4294967296.1:", "Timestamp(1, 2)"] {
            assert_eq!(other.parse::<SourcePosition>(), Err(NotASourcePosition(other.to_owned())));
        }
    }

    #[test]
    fn an_oplogs_position_is_as_small_as_it_looks() {
        assert!(size_of::<SourcePosition>() <= 32);
    }
}
