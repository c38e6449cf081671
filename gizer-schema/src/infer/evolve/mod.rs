//! A schema that grows: what stored rows have in `_extra` gets columns, tables and maps, and columns widen.
//!
//! ```text
//!   _extra ──gizer_flatten::extra_part──► Unplaced ──┐ places: what the schema has no place for
//!   rows that a column holds ──held──────────────────┤
//!                                            Schema ──┴─► evolve: adopt ──► widen ──► pin_names ──► Evolution
//! ```
//!
//! The rules of types are those of inference. Nothing that the schema has becomes narrower, is dropped or is renamed; what a
//! person chose (`json`, `ignore`, `array`) stands. It is decided from counts alone: the order of rows does not matter.

mod adopt;
mod places;
mod widen;

use std::collections::BTreeMap;
use std::fmt;

use super::{DocumentSeen, InferenceRules, MAX_ROOT_FIELDS, MapSeen};
use crate::column_type::ScalarType;
use crate::layout::{ColumnId, Layout, LayoutError, MAX_COLUMNS, MAX_POSITIONS, TableId};
use crate::model::{Dialect, Schema};
use crate::raw::{Kind, Malformed, RawDoc};

use adopt::{Adoption, Candidate};
use places::{Place, PlaceSeen, places};
use widen::Widening;

/// What stored rows hold that the schema has no place for.
///
/// Memory grows with the number of distinct paths, and is bounded as that of [`Inference`](super::Inference).
#[derive(Debug, Clone, Default)]
pub struct Unplaced {
    root: DocumentSeen,
    /// Documents that have something at a path, by what is around it and its last name.
    documents: BTreeMap<Vec<String>, BTreeMap<String, u64>>,
    held: BTreeMap<(TableId, ColumnId), u64>,
}

impl Unplaced {
    /// Looks at what one row has in `_extra`, at its place in a document: the `document` of gizer-flatten's `ExtraPart`.
    ///
    /// # Errors
    /// [`Malformed`] if its bytes cannot be walked to the end; what came before the fault has been counted.
    pub fn observe(&mut self, part: RawDoc<'_>) -> Result<(), Malformed> {
        self.root.observe(part, 0).map(drop)
    }

    /// Counts one more document of the collection that has something at this path, in as many rows as may be.
    pub fn count_document(&mut self, path: &[String]) {
        self.count_documents(path, 1);
    }

    fn count_documents(&mut self, path: &[String], count: u64) {
        let Some((name, around)) = path.split_last() else { return };
        if !self.documents.contains_key(around) {
            self.documents.insert(around.to_vec(), BTreeMap::new());
        }
        let Some(names) = self.documents.get_mut(around) else { return };
        if let Some(documents) = names.get_mut(name) {
            *documents += count;
        } else if names.len() < MAX_ROOT_FIELDS {
            names.insert(name.clone(), count);
        }
    }

    /// Adds values that are not null and that a column holds. Only columns of [`Unplaced::paths_with_strays`] need it.
    pub fn held(&mut self, table: TableId, column: ColumnId, values: u64) {
        *self.held.entry((table, column)).or_default() += values;
    }

    /// Adds what another pass has seen of the same collection.
    pub fn merge(&mut self, other: Unplaced) {
        self.root.merge(other.root, 0);
        for (around, names) in other.documents {
            let mut path = around;
            for (name, count) in names {
                path.push(name);
                self.count_documents(&path, count);
                path.pop();
            }
        }
        for ((table, column), values) in other.held {
            self.held(table, column, values);
        }
    }

    /// The columns with values in `_extra` that do not fit them, and that could widen by how many values they hold.
    pub fn paths_with_strays(&self, layout: &Layout) -> Vec<(TableId, ColumnId)> {
        let mut columns = Vec::new();
        for place in places(layout, &self.root) {
            if let PlaceSeen::Column { column, .. } = place.seen
                && widen::can_widen(layout, place.table, column)
                && place.has_values()
            {
                columns.push((place.table, column));
            }
        }
        columns
    }

    fn documents(&self, path: &[String]) -> u64 {
        let counted = path.split_last().and_then(|(name, around)| self.documents.get(around)?.get(name));
        counted.copied().unwrap_or_default()
    }
}

/// When a schema grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvolveRules {
    /// Which types follow from what was seen, and how large the tables may become.
    pub inference: InferenceRules,
    /// In how many documents something is at least ([`threshold`]).
    pub threshold: u64,
    /// Whether fields without a place get one.
    pub adopts: bool,
    /// Whether columns get wider types.
    pub widens: bool,
}

/// In how many documents of a collection something is at least to be adopted: `min_documents`, or `share_percent` of the
/// collection if that is less, but two at least.
pub fn threshold(documents_in_collection: u64, min_documents: u64, share_percent: f64) -> u64 {
    let share = (documents_in_collection as f64 * share_percent / 100.0).ceil() as u64;
    min_documents.min(share).max(2)
}

/// A schema that has grown, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evolution {
    /// The schema; as it was if nothing was adopted or widened.
    pub schema: Schema,
    /// What has a place now, most documents first.
    pub adopted: Vec<Adopted>,
    /// Columns with a wider type, by path.
    pub widened: Vec<Widened>,
    /// What stays in `_extra`, by path.
    pub left: Vec<LeftInExtra>,
}

/// A path that the schema has a place for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Field names from the root, joined by dots.
    pub path: String,
    /// In how many documents something is there.
    pub documents: u64,
    /// What was chosen: a type's name, `DOCUMENT`, `ARRAY` or `MAP`.
    pub chosen: &'static str,
    /// The types seen, nulls left out, with how often, in the order of their type numbers.
    pub seen: Vec<(Kind, u64)>,
    /// Why it is a map, if it is one.
    pub map: Option<MapSeen>,
}

/// A column with a wider type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Widened {
    /// Field names from the root, joined by dots; of a map's entries with `{}` behind them.
    pub path: String,
    /// What it was.
    pub from: ScalarType,
    /// What it is now.
    pub to: ScalarType,
    /// In how many documents values do not fit what it was.
    pub documents: u64,
}

/// A path that stays in `_extra`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftInExtra {
    /// Field names from the root, joined by dots; of a map's entries with `{}` behind them.
    pub path: String,
    /// In how many documents something is there.
    pub documents: u64,
    /// Why it stays.
    pub why: LeftBecause,
}

/// Why a path stays in `_extra`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftBecause {
    /// It is in fewer documents than the threshold.
    TooFew {
        /// Documents from which on it is adopted.
        threshold: u64,
    },
    /// Only null was seen.
    OnlyNull,
    /// Only `[]` and `{}` were seen, or documents of only such fields.
    OnlyEmpty,
    /// The collection would have more tables than the limit.
    TooManyTables,
    /// Its table would have more columns than the limit.
    TooManyColumns,
    /// The document has more unknown names than are known one by one.
    TooManyNames,
    /// The values are of another type than the path, which does not change.
    TypesDiffer,
    /// The type of the column is pinned.
    Pinned,
    /// The values are of the column's type, which has no form for them, as text with NUL.
    NoForm,
    /// The column would get this type if columns were allowed to widen.
    WideningOff {
        /// The wider type.
        to: ScalarType,
    },
    /// The column would get this type, which keeps the BSON types of numbers. The column does not,
    /// so that only MongoDB knows them.
    NeedsLoad {
        /// The wider type.
        to: ScalarType,
    },
    /// No tables follow from the schema with it.
    NoTables(String),
}

impl fmt::Display for LeftBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftBecause::TooFew { threshold } => write!(f, "in fewer than {threshold} documents"),
            LeftBecause::OnlyNull => f.write_str("only null was seen"),
            LeftBecause::OnlyEmpty => f.write_str("only empty arrays and documents were seen"),
            LeftBecause::TooManyTables => f.write_str("the collection would have too many tables"),
            LeftBecause::TooManyColumns => f.write_str("its table would have too many columns"),
            LeftBecause::TooManyNames => f.write_str("too many unknown names"),
            LeftBecause::TypesDiffer => f.write_str("of another type than the path has"),
            LeftBecause::Pinned => f.write_str("the type is pinned in the schema file"),
            LeftBecause::NoForm => f.write_str("PostgreSQL has no form for the values"),
            LeftBecause::WideningOff { to } => write!(f, "widening is off: the column would be {to}"),
            LeftBecause::NeedsLoad { to } => {
                write!(f, "the column would be {to}, by a load only: {to} keeps the types of numbers, which it has not")
            }
            LeftBecause::NoTables(error) => f.write_str(error),
        }
    }
}

/// Columns that hold fields, of any table: its key has one for the root and one for each position, and there is `_extra`.
const MAX_FIELD_COLUMNS: usize = MAX_COLUMNS - MAX_POSITIONS - 2;

/// The schema grown by what was seen. A schema of the classic dialect stays as it is.
///
/// # Errors
/// [`LayoutError`] if no tables follow from the schema as it is.
pub fn evolve(schema: &Schema, seen: &Unplaced, rules: &EvolveRules) -> Result<Evolution, LayoutError> {
    let layout = Layout::new(schema)?;
    if schema.dialect == Dialect::Classic {
        let (adopted, widened, left) = Default::default();
        return Ok(Evolution { schema: schema.clone(), adopted, widened, left });
    }
    let (mut candidates, mut widenings, mut left) = (Vec::new(), Vec::new(), Vec::new());
    // The walk to a field is one that may change it.
    let mut fields = schema.fields.clone();
    for place in places(&layout, &seen.root).into_iter().filter(|place| rules.adopts || place.is_known()) {
        let is_pinned = place.is_known() && adopt::is_pinned(&mut fields, &place.steps);
        match Verdict::of(place, &layout, seen, rules).pinned(is_pinned) {
            Verdict::Candidate(candidate) => candidates.push(*candidate),
            Verdict::Widening(widening) => widenings.push(widening),
            Verdict::Left(stays) => left.push(stays),
            Verdict::Nothing => {}
        }
    }
    let mut rules = *rules;
    let columns = &mut rules.inference.limits.columns;
    *columns = MAX_FIELD_COLUMNS.min(*columns);
    candidates.sort_by(|a, b| b.documents.cmp(&a.documents).then_with(|| a.path.cmp(&b.path)));
    let mut evolution = Adoption::new(schema, &layout, &rules, &widenings, left).adopt(&candidates);
    evolution.widened = widenings.into_iter().map(|widening| widening.widened).collect();
    evolution.widened.sort_by(|a, b| a.path.cmp(&b.path));
    evolution.left.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(evolution)
}

/// What becomes of a place.
enum Verdict<'s> {
    Candidate(Box<Candidate<'s>>),
    Widening(Widening),
    Left(LeftInExtra),
    Nothing,
}

impl<'s> Verdict<'s> {
    /// What becomes of it where its type is pinned.
    fn pinned(self, is_pinned: bool) -> Verdict<'s> {
        let (path, documents) = match self {
            Verdict::Widening(Widening { widened: Widened { path, documents, .. }, .. }) if is_pinned => {
                (path, documents)
            }
            Verdict::Left(LeftInExtra {
                path,
                documents,
                why: LeftBecause::WideningOff { .. } | LeftBecause::NeedsLoad { .. },
            }) if is_pinned => (path, documents),
            other => return other,
        };
        Verdict::Left(LeftInExtra { path, documents, why: LeftBecause::Pinned })
    }

    fn of(place: Place<'s>, layout: &Layout, seen: &Unplaced, rules: &EvolveRules) -> Verdict<'s> {
        let documents = seen.documents(&place.path);
        let path = place.dotted();
        match place.seen {
            PlaceSeen::Unknown { .. } => Candidate::verdict(place, documents, rules),
            PlaceSeen::Column { column, .. } => Widening::verdict(place, column, layout, seen, rules),
            PlaceSeen::OfOtherType => Verdict::Left(LeftInExtra { path, documents, why: LeftBecause::TypesDiffer }),
            PlaceSeen::TooManyNames { documents } => {
                Verdict::Left(LeftInExtra { path, documents, why: LeftBecause::TooManyNames })
            }
        }
    }
}
