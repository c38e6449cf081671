//! Schema acquisition: what the documents of a collection look like.
//!
//! One streaming pass over raw BSON gathers, for every path, how often each BSON type came. The schema is computed
//! from these counts alone, so that neither the order of the documents nor how they are split among workers matters;
//! [`Inference::merge`] adds the parts. Memory grows with the number of distinct paths, not with the documents: a nested document
//! with more than 2,000 names, or with names in names of which there are many, is folded into one description of all its values.
//! Whether it is depends on how many there are, not on which came first.
//!
//! ```text
//! observe, merge ──► DocumentSeen ──► resolve: a type for each path, together with maps (which objects are maps)
//!                                        └──► narrow: no more tables, columns and bytes of a row than the limits
//! ```

mod document_tree;
mod evolve;
mod maps;
pub(crate) mod names;
mod narrow;
mod resolve;
mod row_width;
mod together;
mod types_seen;

use crate::column_type::TIMESTAMP_MILLIS;
use crate::field_index::{FieldIndex, Walk};
use crate::model::{Dialect, Schema};
use crate::raw::{Element, Kind, Malformed, RawDoc, Value};

pub use evolve::{Adopted, Evolution, EvolveRules, LeftBecause, LeftInExtra, Unplaced, Widened, evolve, threshold};
pub use maps::{MapRules, MapSeen};
pub use narrow::{Crowded, Limits};
pub use resolve::Finding;

use maps::Folded;
use row_width::RowWidth;
use types_seen::TypesSeen;

/// Nested documents and arrays below this are not looked into: MongoDB itself allows 100 levels.
const MAX_DEPTH: usize = 200;

/// Names of a document of the collection that are known one by one, the first that are seen: more than a table can have columns,
/// since those that come most often are to be among them.
const MAX_ROOT_FIELDS: usize = 10_000;

/// The same of a nested document: more than a table can have columns.
const MAX_FIELDS: usize = 2_000;

/// Paths below all fields of a nested document but the one with most of them, beyond which it is folded as well: names that are
/// data, in each other, multiply.
const MAX_PATHS: usize = 20_000;

/// Longest text or binary that a key column takes as it is, in bytes; a longer `_id` is kept by its hash.
const MAX_TEXT_KEY_BYTES: usize = 1_000;

/// What has been seen of a collection so far.
#[derive(Debug, Clone, Default)]
pub struct Inference {
    documents: u64,
    root: DocumentSeen,
    /// Ids that a key column of their own type does not take: too long, text with NUL, or a date out of range.
    awkward_ids: u64,
}

#[derive(Debug, Clone, Default)]
struct DocumentSeen {
    names: FieldIndex,
    values: Vec<ValueSeen>,
    /// Documents with at least one field.
    filled: u64,
    /// The most bytes that one document would have in a row, with the documents in it; and those of its own fields alone.
    row_bytes: usize,
    own_bytes: usize,
    /// Values under names that came after too many others; and under names that are not UTF-8.
    beyond_limit: u64,
    not_utf8: u64,
    /// Paths below its fields, and below the field with most of them, as [`DocumentSeen::paths`] counts.
    paths: usize,
    most_paths: usize,
    /// Of an object with more than [`MAX_FIELDS`] names or [`MAX_PATHS`] all values; none is known by its name then.
    folded: Option<Box<Folded>>,
}

/// What the fields of one document have in a row: its own, and those of the documents in it.
#[derive(Default)]
struct DocumentRow {
    own: RowWidth,
    inner: RowWidth,
}

#[derive(Debug, Clone, Default)]
struct ValueSeen {
    types: TypesSeen,
    document: Option<Box<DocumentSeen>>,
    elements: Option<Box<ValueSeen>>,
}

impl Inference {
    /// Looks at one more document.
    ///
    /// # Errors
    /// [`Malformed`] if its bytes cannot be walked to the end; what came before the fault has been counted.
    pub fn observe(&mut self, document: RawDoc<'_>) -> Result<(), Malformed> {
        self.documents += 1;
        if let Some(id) = document.get(b"_id")? {
            self.awkward_ids += u64::from(is_awkward(&id)?);
        }
        self.root.observe(document, 0).map(drop)
    }

    /// Adds what another pass has seen of the same collection.
    pub fn merge(&mut self, other: Inference) {
        self.documents += other.documents;
        self.awkward_ids += other.awkward_ids;
        self.root.merge(other.root, 0);
    }

    /// How many documents have been looked at.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// The schema in gizer's dialect, and what a person should know of it.
    pub fn schema_by(&self, collection: &str, rules: &InferenceRules) -> (Schema, Vec<Finding>) {
        resolve::schema(self, collection, Dialect::NEW, rules)
    }

    /// The same by the default rules.
    pub fn schema(&self, collection: &str) -> (Schema, Vec<Finding>) {
        self.schema_by(collection, &InferenceRules::default())
    }

    /// The schema in the terms of the classic dialect, and what it cannot say.
    pub fn classic_schema(&self, collection: &str) -> (Schema, Vec<Finding>) {
        resolve::schema(self, collection, Dialect::Classic, &InferenceRules { maps: None, ..InferenceRules::default() })
    }
}

/// Which schema follows from what was seen, in gizer's dialect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InferenceRules {
    /// Which objects are maps; without rules none is.
    pub maps: Option<MapRules>,
    /// How large the tables may become.
    pub limits: Limits,
}

impl Default for InferenceRules {
    fn default() -> InferenceRules {
        InferenceRules { maps: Some(MapRules::default()), limits: Limits::default() }
    }
}

/// Whether a key column of the value's own type would not take it.
fn is_awkward(id: &Element<'_>) -> Result<bool, Malformed> {
    Ok(match id.value()? {
        Value::String(text) => {
            text.len() > MAX_TEXT_KEY_BYTES || text.contains(&0) || std::str::from_utf8(text).is_err()
        }
        Value::Binary { bytes, .. } => bytes.len() > MAX_TEXT_KEY_BYTES,
        Value::DateTime(millis) => !TIMESTAMP_MILLIS.contains(&millis),
        _ => false,
    })
}

impl DocumentSeen {
    /// Returns its width in a row, with the documents in it.
    fn observe(&mut self, document: RawDoc<'_>, depth: usize) -> Result<RowWidth, Malformed> {
        let (mut walk, mut row) = (Walk::default(), DocumentRow::default());
        self.filled += u64::from(!document.is_empty());
        for element in document.elements() {
            let element = element?;
            if let Some(index) = self.index(&mut walk, element.name, depth) {
                self.observe_field(index, &element, depth, &mut row)?;
            } else if let Ok(name) = std::str::from_utf8(element.name) {
                match &mut self.folded {
                    Some(folded) => folded.observe(name, &element, depth, &mut row)?,
                    None => self.beyond_limit += 1,
                }
            } else {
                self.not_utf8 += 1;
            }
        }
        self.own_bytes = self.own_bytes.max(row.own.bytes());
        let mut width = row.own;
        width += row.inner;
        self.row_bytes = self.row_bytes.max(width.bytes());
        self.fold_if_wide(depth);
        Ok(width)
    }

    fn observe_field(
        &mut self,
        index: usize,
        element: &Element<'_>,
        depth: usize,
        row: &mut DocumentRow,
    ) -> Result<(), Malformed> {
        // Nothing else has paths below it.
        if !matches!(element.kind, Kind::Document | Kind::Array) {
            return self.values[index].observe(element, depth, row);
        }
        let before = self.values[index].paths();
        self.values[index].observe(element, depth, row)?;
        self.count_paths(before, index);
        Ok(())
    }

    /// The place of a name; `None` for one that cannot be known by itself.
    fn index(&mut self, walk: &mut Walk, name: &[u8], depth: usize) -> Option<usize> {
        // Of what is folded no name is known.
        self.names.find(walk, name).or_else(|| self.add_name(name, depth))
    }

    #[cold]
    fn add_name(&mut self, name: &[u8], depth: usize) -> Option<usize> {
        // A name that is not UTF-8 cannot stand in a schema file.
        if self.folded.is_some() || std::str::from_utf8(name).is_err() {
            return None;
        }
        // A document of the collection is no map.
        if self.names.len() >= if depth == 0 { MAX_ROOT_FIELDS } else { MAX_FIELDS } {
            if depth > 0 {
                self.fold();
            }
            return None;
        }
        self.values.push(ValueSeen::default());
        self.count_paths(0, self.values.len() - 1);
        Some(self.names.add(name))
    }

    /// A value has more paths than `before`.
    fn count_paths(&mut self, before: usize, index: usize) {
        let paths = self.values[index].paths();
        self.paths += paths - before;
        self.most_paths = self.most_paths.max(paths);
    }

    /// Paths at and below it, none counted beyond [`MAX_FIELDS`]: as many as any that is folded has, so that it does not matter what
    /// was folded first.
    fn paths(&self) -> usize {
        if self.folded.is_some() { MAX_FIELDS } else { self.paths.min(MAX_FIELDS) }
    }

    fn fold_if_wide(&mut self, depth: usize) {
        if depth > 0 && self.folded.is_none() && self.paths - self.most_paths > MAX_PATHS {
            self.fold();
        }
    }

    /// From here on names are not known one by one.
    fn fold(&mut self) -> &mut Folded {
        let (names, values) = (std::mem::take(&mut self.names), std::mem::take(&mut self.values));
        let folded = self.folded.get_or_insert_default();
        for (name, value) in names.names().zip(values) {
            folded.add(std::str::from_utf8(name).unwrap_or_default(), value);
        }
        folded
    }

    fn merge(&mut self, mut other: DocumentSeen, depth: usize) {
        self.beyond_limit += other.beyond_limit;
        self.not_utf8 += other.not_utf8;
        self.filled += other.filled;
        self.row_bytes = self.row_bytes.max(other.row_bytes);
        self.own_bytes = self.own_bytes.max(other.own_bytes);
        if let Some(folded) = other.folded.take() {
            self.fold().merge(*folded);
        }
        let names: Vec<Box<[u8]>> = other.names.names().map(Box::from).collect();
        for (name, value) in names.iter().zip(other.values) {
            if let Some(index) = self.index(&mut Walk::default(), name, depth) {
                let before = self.values[index].paths();
                self.values[index].merge(value);
                self.count_paths(before, index);
            } else if let Some(folded) = &mut self.folded {
                folded.add(std::str::from_utf8(name).unwrap_or_default(), value);
            } else {
                self.beyond_limit += value.types.all();
            }
        }
        self.fold_if_wide(depth);
    }
}

impl ValueSeen {
    /// Its own path and those below.
    fn paths(&self) -> usize {
        let in_documents = self.document.as_deref().map_or(0, DocumentSeen::paths);
        1 + in_documents + self.elements.as_deref().map_or(0, ValueSeen::paths)
    }

    /// Adds its width to the row of the document that it is in.
    fn observe(&mut self, element: &Element<'_>, depth: usize, row: &mut DocumentRow) -> Result<(), Malformed> {
        self.types.add(element.kind, 1);
        row.own.add_value(element);
        if !matches!(element.kind, Kind::Document | Kind::Array | Kind::Binary | Kind::Int64) || depth >= MAX_DEPTH {
            return Ok(());
        }
        match element.value()? {
            Value::Int64(number) => {
                self.types.wide_int64 += u64::from((number as f64) as i128 != i128::from(number));
            }
            Value::Binary { subtype: 0, .. } => self.types.plain_binary += 1,
            Value::Binary { subtype: 4, bytes } if bytes.len() == 16 => self.types.uuid += 1,
            Value::Document(document) => {
                row.inner += self.document.get_or_insert_default().observe(document, depth + 1)?;
            }
            Value::Array(array) => {
                let elements = self.elements.get_or_insert_default();
                for element in array.elements() {
                    // In rows of another table.
                    elements.observe(&element?, depth + 1, &mut DocumentRow::default())?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn merge(&mut self, other: ValueSeen) {
        self.types.merge(&other.types);
        if let Some(document) = other.document {
            self.document.get_or_insert_default().merge(*document, 1);
        }
        if let Some(elements) = other.elements {
            self.elements.get_or_insert_default().merge(*elements);
        }
    }
}
