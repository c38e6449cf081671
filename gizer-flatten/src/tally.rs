//! What was read, what was rejected, and which values did not fit where.

use std::collections::{BTreeMap, HashMap};

use gizer_schema::raw::Kind;
use gizer_schema::{Layout, PathId};
use serde_json::{Value, json};

/// Why a value is not in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    /// It is of this type, which the column (or the nested document, or the array) does not take, or a number that the
    /// column cannot hold exactly.
    Kind(Kind),
    /// Text with NUL, which PostgreSQL has no form for.
    TextWithNul,
    /// Text that is not UTF-8.
    TextNotUtf8,
    /// A time outside of PostgreSQL's range, 4713 BC to 294276 AD.
    TimeOutOfRange,
    /// The field's name stands more than once in its document; the first one counts.
    Duplicate,
}

impl Unfit {
    const COUNT: usize = Kind::ALL.len() + 4;

    fn index(self) -> usize {
        match self {
            Unfit::Kind(kind) => kind.index(),
            Unfit::TextWithNul => Kind::ALL.len(),
            Unfit::TextNotUtf8 => Kind::ALL.len() + 1,
            Unfit::TimeOutOfRange => Kind::ALL.len() + 2,
            Unfit::Duplicate => Kind::ALL.len() + 3,
        }
    }

    /// The inverse of [`index`](Unfit::index).
    fn from_index(index: usize) -> Option<Unfit> {
        let others = [Unfit::TextWithNul, Unfit::TextNotUtf8, Unfit::TimeOutOfRange, Unfit::Duplicate];
        Kind::ALL.get(index).map(|kind| Unfit::Kind(*kind)).or_else(|| others.get(index - Kind::ALL.len()).copied())
    }

    /// How reports name what came; for a type, the classic tool's name.
    pub fn report_name(self) -> &'static str {
        match self {
            Unfit::Kind(kind) => kind.report_name(),
            Unfit::TextWithNul => "STRING with NUL",
            Unfit::TextNotUtf8 => "STRING that is not UTF-8",
            Unfit::TimeOutOfRange => "TIMESTAMP out of range",
            Unfit::Duplicate => "DUPLICATE field",
        }
    }
}

/// Values of one path that did not fit for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Field names from the root, joined by dots.
    pub path: String,
    /// What the schema expects there: the name of a type, `DOCUMENT` or `ARRAY`.
    pub expected: &'static str,
    /// What came.
    pub actual: Unfit,
    /// How often.
    pub count: u64,
    /// `_id` of one document with it, as Extended JSON.
    pub example: String,
}

impl Mismatch {
    /// The classic tool's wording: `wrong value (INT) for posts.comments.rate(STRING)`.
    pub fn classic_warning(&self, collection: &str) -> String {
        format!("wrong value ({}) for {collection}.{}({})", self.actual.report_name(), self.path, self.expected)
    }
}

/// Distinct unknown fields that are counted one by one; data used as field names must not fill memory.
const MAX_UNKNOWN: usize = 10_000;

/// Counts of one pass over documents. Tallies of parts add up to the tally of the whole, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Documents that came.
    pub read: u64,
    /// Documents whose rows were given on.
    pub loaded: u64,
    /// Documents that gave no rows, with a reason each.
    pub rejected: u64,
    mismatches: BTreeMap<(PathId, Unfit), (u64, String)>,
    unknown: HashMap<String, u64>,
    unknown_beyond: u64,
}

impl Tally {
    /// Adds the counts of another part.
    pub fn add(&mut self, other: Tally) {
        self.read += other.read;
        self.loaded += other.loaded;
        self.rejected += other.rejected;
        for (key, (count, example)) in other.mismatches {
            self.add_mismatch(key.0, key.1, count, example);
        }
        for (path, count) in other.unknown {
            self.add_unknown(path, count);
        }
        self.unknown_beyond += other.unknown_beyond;
    }

    pub(crate) fn add_mismatch(&mut self, path: PathId, unfit: Unfit, count: u64, example: String) {
        let entry = self.mismatches.entry((path, unfit)).or_insert_with(|| (0, example.clone()));
        entry.0 += count;
        // The smallest example, so that the order of the parts does not show.
        if example < entry.1 {
            entry.1 = example;
        }
    }

    pub(crate) fn add_unknown(&mut self, path: String, count: u64) {
        if let Some(known) = self.unknown.get_mut(&path) {
            *known += count;
        } else if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.insert(path, count);
        } else {
            self.unknown_beyond += count;
        }
    }

    /// All counts in a form that can be kept beside the rows that they belong to. It refers to paths by their place in the
    /// layout, so it is of use only with the same layout and the same version of gizer.
    pub fn to_json(&self) -> Value {
        let mismatch = |(&(path, unfit), (count, example)): (&(PathId, Unfit), &(u64, String))| {
            json!([path.0, unfit.index(), count, example])
        };
        json!({
            "read": self.read, "loaded": self.loaded, "rejected": self.rejected,
            "mismatches": self.mismatches.iter().map(mismatch).collect::<Vec<Value>>(),
            "unknown": self.unknown, "unknown_beyond": self.unknown_beyond,
        })
    }

    /// The inverse of [`to_json`](Tally::to_json); `None` if it is not of this form, or not of this layout.
    pub fn from_json(value: &Value, layout: &Layout) -> Option<Tally> {
        let number = |name: &str| value.get(name)?.as_u64();
        let mut tally = Tally {
            read: number("read")?,
            loaded: number("loaded")?,
            rejected: number("rejected")?,
            unknown_beyond: number("unknown_beyond")?,
            ..Tally::default()
        };
        for mismatch in value.get("mismatches")?.as_array()? {
            let [path, unfit, count, example] = mismatch.as_array()?.as_slice() else { return None };
            let path = usize::try_from(path.as_u64()?).ok().filter(|path| *path < layout.paths.len())?;
            let unfit = Unfit::from_index(usize::try_from(unfit.as_u64()?).ok()?)?;
            tally.add_mismatch(PathId(path), unfit, count.as_u64()?, example.as_str()?.to_owned());
        }
        for (path, count) in value.get("unknown")?.as_object()? {
            tally.add_unknown(path.clone(), count.as_u64()?);
        }
        Some(tally)
    }

    /// Values that did not fit, by path and reason.
    pub fn mismatches(&self, layout: &Layout) -> Vec<Mismatch> {
        let mismatch = |(&(path, actual), (count, example)): (&(PathId, Unfit), &(u64, String))| Mismatch {
            path: layout.path(path).dotted(),
            expected: layout.path(path).expected,
            actual,
            count: *count,
            example: example.clone(),
        };
        self.mismatches.iter().map(mismatch).collect()
    }

    /// Fields that the schema does not have, by path, with how often they came; largest counts first.
    pub fn unknown_fields(&self) -> Vec<(&str, u64)> {
        let mut fields: Vec<(&str, u64)> = self.unknown.iter().map(|(path, count)| (path.as_str(), *count)).collect();
        fields.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        fields
    }

    /// Occurrences of unknown fields beyond the first 10,000 distinct ones.
    pub fn unknown_beyond(&self) -> u64 {
        self.unknown_beyond
    }
}

/// Counts of mismatches while documents are flattened: plain additions, no look-ups.
#[derive(Debug, Clone)]
pub(crate) struct MismatchCounts {
    counts: Vec<[u64; Unfit::COUNT]>,
    examples: BTreeMap<(PathId, Unfit), String>,
    /// Counted since the document began; a rejected document takes its counts back.
    journal: Vec<(PathId, Unfit)>,
}

impl MismatchCounts {
    pub(crate) fn new(layout: &Layout) -> Self {
        MismatchCounts {
            counts: vec![[0; Unfit::COUNT]; layout.paths.len()],
            examples: BTreeMap::new(),
            journal: Vec::new(),
        }
    }

    pub(crate) fn begin_document(&mut self) {
        self.journal.clear();
    }

    pub(crate) fn count(&mut self, path: PathId, unfit: Unfit) {
        self.journal.push((path, unfit));
    }

    /// The document's rows stand: its mismatches count. `id` is asked only for what has no example yet.
    pub(crate) fn commit_document(&mut self, id: impl Fn() -> String) {
        for &(path, unfit) in &self.journal {
            let count = &mut self.counts[path.0][unfit.index()];
            if *count == 0 {
                self.examples.insert((path, unfit), id());
            }
            *count += 1;
        }
    }

    /// Moves the counts into a tally and starts again at zero.
    pub(crate) fn drain_into(&mut self, tally: &mut Tally) {
        let examples = std::mem::take(&mut self.examples);
        for ((path, unfit), example) in examples {
            let count = std::mem::take(&mut self.counts[path.0][unfit.index()]);
            tally.add_mismatch(path, unfit, count, example);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place() {
        let others = [Unfit::TextWithNul, Unfit::TextNotUtf8, Unfit::TimeOutOfRange, Unfit::Duplicate];
        let mut places: Vec<usize> = Kind::ALL.into_iter().map(Unfit::Kind).chain(others).map(Unfit::index).collect();
        for &place in &places {
            assert_eq!(Unfit::from_index(place).map(Unfit::index), Some(place));
        }
        assert_eq!(Unfit::from_index(Unfit::COUNT), None);
        places.sort_unstable();
        assert_eq!(places, (0..Unfit::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn a_tally_reads_back() {
        let layout = Layout::new(&gizer_schema::file::parse("t", r#"{"_id": "INT", "a": "INT"}"#).unwrap()).unwrap();
        let mut tally = Tally { read: 9, loaded: 7, rejected: 2, unknown_beyond: 3, ..Tally::default() };
        tally.add_mismatch(PathId(1), Unfit::Kind(Kind::MinKey), 4, "{\"$oid\": \"\u{0}\"}".to_owned());
        tally.add_unknown("b.c\u{0}".to_owned(), 5);
        let text = tally.to_json().to_string();
        assert!(!text.contains('\0'), "PostgreSQL's text holds no NUL");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(Tally::from_json(&value, &layout), Some(tally));
        assert_eq!(Tally::from_json(&json!({"read": 1}), &layout), None);
        let other = json!({"read": 1, "loaded": 1, "rejected": 0, "unknown_beyond": 0, "unknown": {},
            "mismatches": [[99, 0, 1, "1"]]});
        assert_eq!(Tally::from_json(&other, &layout), None, "a path that the layout does not have");
    }

    #[test]
    fn parts_add_up_in_any_order() {
        let part = |read, example: &str| {
            let mut tally = Tally { read, ..Tally::default() };
            tally.add_mismatch(PathId(1), Unfit::TextWithNul, read, example.to_owned());
            tally.add_unknown("x".to_owned(), read);
            tally
        };
        let mut forward = part(1, "b");
        forward.add(part(2, "a"));
        let mut backward = part(2, "a");
        backward.add(part(1, "b"));
        assert_eq!(forward, backward);
        assert_eq!(forward.read, 3);
        assert_eq!(forward.unknown_fields(), [("x", 3)]);
    }
}
