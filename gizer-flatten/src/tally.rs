//! Counts of documents read and rejected, and of values that did not fit.

use std::collections::{BTreeMap, HashMap};

use gizer_schema::raw::Kind;
use gizer_schema::{Layout, PathId};
use serde_json::{Value, json};

/// Why a value is not in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    /// Its type does not match, or it is no exact number of the column's type.
    Kind(Kind),
    /// Text with NUL, which PostgreSQL cannot store.
    TextWithNul,
    /// Text that is not UTF-8.
    TextNotUtf8,
    /// A time outside of PostgreSQL's range, 4713 BC to 294276 AD.
    TimeOutOfRange,
    /// The field is a duplicate in its document; the first one counts.
    Duplicate,
    /// The name of a map's entry is not UTF-8.
    KeyNotUtf8,
    /// The name of a map's entry is too long for an index.
    KeyTooLong,
}

impl Unfit {
    /// Those that are not of a type. Their places are stored: others come behind them.
    const OTHERS: [Unfit; 6] = [
        Unfit::TextWithNul,
        Unfit::TextNotUtf8,
        Unfit::TimeOutOfRange,
        Unfit::Duplicate,
        Unfit::KeyNotUtf8,
        Unfit::KeyTooLong,
    ];

    const COUNT: usize = Kind::ALL.len() + Unfit::OTHERS.len();

    fn index(self) -> usize {
        let other = match self {
            Unfit::Kind(kind) => return kind.index(),
            Unfit::TextWithNul => 0,
            Unfit::TextNotUtf8 => 1,
            Unfit::TimeOutOfRange => 2,
            Unfit::Duplicate => 3,
            Unfit::KeyNotUtf8 => 4,
            Unfit::KeyTooLong => 5,
        };
        Kind::ALL.len() + other
    }

    /// The inverse of [`index`](Unfit::index).
    fn from_index(index: usize) -> Option<Unfit> {
        let kind = Kind::ALL.get(index).map(|kind| Unfit::Kind(*kind));
        kind.or_else(|| Unfit::OTHERS.get(index - Kind::ALL.len()).copied())
    }

    /// The name in reports; for a type, the classic tool's.
    pub fn report_name(self) -> &'static str {
        match self {
            Unfit::Kind(kind) => kind.report_name(),
            Unfit::TextWithNul => "STRING with NUL",
            Unfit::TextNotUtf8 => "STRING that is not UTF-8",
            Unfit::TimeOutOfRange => "TIMESTAMP out of range",
            Unfit::Duplicate => "DUPLICATE field",
            Unfit::KeyNotUtf8 => "KEY that is not UTF-8",
            Unfit::KeyTooLong => "KEY too long",
        }
    }
}

/// Values of one path that did not fit for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Field names from the root, joined by dots.
    pub path: String,
    /// What the schema expects there: the name of a type, `DOCUMENT`, `ARRAY` or `MAP`.
    pub expected: &'static str,
    /// What came.
    pub actual: Unfit,
    /// How often.
    pub count: u64,
    /// In how many documents.
    pub documents: u64,
    /// `_id` of one document with it, as Extended JSON.
    pub example: String,
}

/// Values of one type in an unknown field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownField {
    /// Field names from the root, joined by dots.
    pub path: String,
    /// What came.
    pub kind: Kind,
    /// How often.
    pub count: u64,
    /// In how many documents.
    pub documents: u64,
}

impl Mismatch {
    /// The classic tool's wording: `wrong value (INT) for posts.comments.rate(STRING)`.
    pub fn classic_warning(&self, collection: &str) -> String {
        format!("wrong value ({}) for {collection}.{}({})", self.actual.report_name(), self.path, self.expected)
    }
}

/// Distinct unknown fields counted one by one; data used as field names must not fill memory.
const MAX_UNKNOWN: usize = 10_000;

/// Counts of occurrences and of documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) count: u64,
    pub(crate) documents: u64,
}

/// Counts of one field by type, usually one.
type Kinds = Vec<(Kind, Times)>;

impl Times {
    pub(crate) const ONCE: Times = Times { count: 1, documents: 1 };

    fn add(&mut self, other: Times) {
        self.count += other.count;
        self.documents += other.documents;
    }
}

/// Counts of one pass over documents. Tallies of parts add up, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Documents read.
    pub read: u64,
    /// Documents with rows.
    pub loaded: u64,
    /// Documents without rows.
    pub rejected: u64,
    mismatches: BTreeMap<(PathId, Unfit), (Times, String)>,
    unknown: HashMap<String, Kinds>,
    unknown_beyond: u64,
}

impl Tally {
    /// Adds another part.
    pub fn add(&mut self, other: Tally) {
        self.read += other.read;
        self.loaded += other.loaded;
        self.rejected += other.rejected;
        for (key, (times, example)) in other.mismatches {
            self.add_mismatch(key.0, key.1, times, example);
        }
        for (path, kinds) in other.unknown {
            for (kind, times) in kinds {
                self.add_unknown(path.clone(), kind, times);
            }
        }
        self.unknown_beyond += other.unknown_beyond;
    }

    pub(crate) fn add_mismatch(&mut self, path: PathId, unfit: Unfit, times: Times, example: String) {
        let entry = self.mismatches.entry((path, unfit)).or_insert_with(|| (Times::default(), example.clone()));
        entry.0.add(times);
        // The smallest example, so that the order of parts does not matter.
        if example < entry.1 {
            entry.1 = example;
        }
    }

    pub(crate) fn add_unknown(&mut self, path: String, kind: Kind, times: Times) {
        if let Some(known) = self.unknown.get_mut(&path) {
            match known.binary_search_by_key(&kind, |(kind, _)| *kind) {
                Ok(at) => known[at].1.add(times),
                Err(at) => known.insert(at, (kind, times)),
            }
        } else if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.insert(path, vec![(kind, times)]);
        } else {
            self.unknown_beyond += times.count;
        }
    }

    /// All counts in a storable form. It refers to paths by index in the layout, so it needs the
    /// same layout and version of gizer.
    pub fn to_json(&self) -> Value {
        let mismatch = |(&(path, unfit), (times, example)): (&(PathId, Unfit), &(Times, String))| {
            json!([path.0, unfit.index(), times.count, times.documents, example])
        };
        let kinds = |kinds: &Kinds| -> Vec<Value> {
            kinds.iter().map(|(kind, times)| json!([kind.index(), times.count, times.documents])).collect()
        };
        let unknown: serde_json::Map<String, Value> =
            self.unknown.iter().map(|(path, of)| (path.clone(), kinds(of).into())).collect();
        json!({
            "read": self.read, "loaded": self.loaded, "rejected": self.rejected,
            "mismatches": self.mismatches.iter().map(mismatch).collect::<Vec<Value>>(),
            "unknown": unknown, "unknown_beyond": self.unknown_beyond,
        })
    }

    /// The inverse of [`to_json`](Tally::to_json); `None` for another form or layout.
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
            let [path, unfit, count, documents, example] = mismatch.as_array()?.as_slice() else { return None };
            let path = usize::try_from(path.as_u64()?).ok().filter(|path| *path < layout.paths.len())?;
            let unfit = Unfit::from_index(usize::try_from(unfit.as_u64()?).ok()?)?;
            let times = Times { count: count.as_u64()?, documents: documents.as_u64()? };
            tally.add_mismatch(PathId(path), unfit, times, example.as_str()?.to_owned());
        }
        for (path, kinds) in value.get("unknown")?.as_object()? {
            for kind in kinds.as_array()? {
                let [kind, count, documents] = kind.as_array()?.as_slice() else { return None };
                let kind = *Kind::ALL.get(usize::try_from(kind.as_u64()?).ok()?)?;
                let times = Times { count: count.as_u64()?, documents: documents.as_u64()? };
                tally.add_unknown(path.clone(), kind, times);
            }
        }
        Some(tally)
    }

    /// Values that did not fit, by path and reason.
    pub fn mismatches(&self, layout: &Layout) -> Vec<Mismatch> {
        let mismatch = |(&(path, actual), (times, example)): (&(PathId, Unfit), &(Times, String))| Mismatch {
            path: layout.path(path).dotted(),
            expected: layout.path(path).expected,
            actual,
            count: times.count,
            documents: times.documents,
            example: example.clone(),
        };
        self.mismatches.iter().map(mismatch).collect()
    }

    /// Unknown fields by path, with counts; largest first.
    pub fn unknown_fields(&self) -> Vec<(&str, u64)> {
        let count = |kinds: &Kinds| kinds.iter().map(|(_, times)| times.count).sum();
        let mut fields: Vec<(&str, u64)> = self.unknown.iter().map(|(path, of)| (path.as_str(), count(of))).collect();
        fields.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        fields
    }

    /// The same by path and type, in this order.
    pub fn unknown_by_kind(&self) -> Vec<UnknownField> {
        let field = |path: &String, kind: Kind, times: Times| UnknownField {
            path: path.clone(),
            kind,
            count: times.count,
            documents: times.documents,
        };
        let all = self.unknown.iter().flat_map(|(path, kinds)| kinds.iter().map(move |of| (path, of)));
        let mut fields: Vec<UnknownField> = all.map(|(path, (kind, times))| field(path, *kind, *times)).collect();
        fields.sort_unstable();
        fields
    }

    /// Whether everything fitted.
    pub fn all_fits(&self) -> bool {
        self.mismatches.is_empty() && self.unknown.is_empty() && self.unknown_beyond == 0
    }

    /// Occurrences of unknown fields beyond the first 10,000 distinct ones.
    pub fn unknown_beyond(&self) -> u64 {
        self.unknown_beyond
    }
}

/// Counts mismatches while flattening: plain additions, no look-ups.
#[derive(Debug, Clone)]
pub(crate) struct MismatchCounts {
    counts: Vec<[u64; Unfit::COUNT]>,
    /// The first document with each, and the number of documents.
    examples: BTreeMap<(PathId, Unfit), (String, u64)>,
    /// Counts of the current document; a rejected one takes them back.
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

    /// Counts the document's mismatches. `id` is called only for the first example.
    pub(crate) fn commit_document(&mut self, id: impl Fn() -> String) {
        self.journal.sort_unstable();
        for same in self.journal.chunk_by(|a, b| a == b) {
            let (path, unfit) = same[0];
            self.counts[path.0][unfit.index()] += same.len() as u64;
            self.examples.entry((path, unfit)).or_insert_with(|| (id(), 0)).1 += 1;
        }
    }

    /// Moves the counts into a tally.
    pub(crate) fn drain_into(&mut self, tally: &mut Tally) {
        let examples = std::mem::take(&mut self.examples);
        for ((path, unfit), (example, documents)) in examples {
            let count = std::mem::take(&mut self.counts[path.0][unfit.index()]);
            tally.add_mismatch(path, unfit, Times { count, documents }, example);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place() {
        let others = Unfit::OTHERS;
        let mut places: Vec<usize> =
            Kind::ALL.iter().copied().map(Unfit::Kind).chain(others).map(Unfit::index).collect();
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
        let times = |count| Times { count, documents: count - 1 };
        tally.add_mismatch(PathId(1), Unfit::Kind(Kind::MinKey), times(4), "{\"$oid\": \"\u{0}\"}".to_owned());
        tally.add_unknown("b.c\u{0}".to_owned(), Kind::MaxKey, times(5));
        tally.add_unknown("b.c\u{0}".to_owned(), Kind::Double, times(2));
        let text = tally.to_json().to_string();
        assert!(!text.contains('\0'), "PostgreSQL's text holds no NUL");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(Tally::from_json(&value, &layout), Some(tally));
        assert_eq!(Tally::from_json(&json!({"read": 1}), &layout), None);
        let other = json!({"read": 1, "loaded": 1, "rejected": 0, "unknown_beyond": 0, "unknown": {},
            "mismatches": [[99, 0, 1, 1, "1"]]});
        assert_eq!(Tally::from_json(&other, &layout), None, "a path that the layout does not have");
    }

    #[test]
    fn parts_add_up_in_any_order() {
        let part = |read, example: &str| {
            let mut tally = Tally { read, ..Tally::default() };
            tally.add_mismatch(PathId(1), Unfit::TextWithNul, Times { count: read, documents: 1 }, example.to_owned());
            tally.add_unknown("x".to_owned(), Kind::Int32, Times { count: read, documents: 1 });
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
