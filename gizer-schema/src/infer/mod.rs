//! Schema acquisition: what the documents of a collection look like.
//!
//! One streaming pass over raw BSON gathers, for every path, how often each BSON type came. The schema is computed
//! from these counts alone, so that neither the order of the documents nor how they are split among workers matters;
//! [`Inference::merge`] adds the parts. Memory grows with the number of distinct paths, not with the documents.
//!
//! Which schema follows from the counts is in [`resolve`](Inference::schema)'s module: there the two dialects part
//! ways.

mod resolve;

use crate::column_type::TIMESTAMP_MILLIS;
use crate::field_index::{FieldIndex, Walk};
use crate::model::{Dialect, Schema};
use crate::raw::{Element, Kind, Malformed, RawDoc, Value};

pub use resolve::Finding;

/// Nested documents and arrays below this are not looked into: MongoDB itself allows 100 levels.
const MAX_DEPTH: usize = 200;

/// Distinct field names that are kept of one document; a collection that uses data as field names has no end of them.
const MAX_FIELDS: usize = 10_000;

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
    beyond_limit: u64,
}

#[derive(Debug, Clone, Default)]
struct ValueSeen {
    counts: [u64; Kind::ALL.len()],
    /// Binary of subtype 0, and of subtype 4 with 16 bytes.
    plain_binary: u64,
    uuid: u64,
    /// int64 that no double holds exactly.
    wide_int64: u64,
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
        self.root.observe(document, 0)
    }

    /// Adds what another pass has seen of the same collection.
    pub fn merge(&mut self, other: Inference) {
        self.documents += other.documents;
        self.awkward_ids += other.awkward_ids;
        self.root.merge(other.root);
    }

    /// How many documents have been looked at.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// The schema in gizer's dialect, and what a person should know of it.
    pub fn schema(&self, collection: &str) -> (Schema, Vec<Finding>) {
        resolve::schema(self, collection, Dialect::NEW)
    }

    /// The schema in the terms of the classic dialect, and what it cannot say.
    pub fn classic_schema(&self, collection: &str) -> (Schema, Vec<Finding>) {
        resolve::schema(self, collection, Dialect::Classic)
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
    fn observe(&mut self, document: RawDoc<'_>, depth: usize) -> Result<(), Malformed> {
        let mut walk = Walk::default();
        for element in document.elements() {
            let element = element?;
            let Some(index) = self.index(&mut walk, element.name) else { continue };
            self.values[index].observe(&element, depth)?;
        }
        Ok(())
    }

    fn index(&mut self, walk: &mut Walk, name: &[u8]) -> Option<usize> {
        if let Some(known) = self.names.find(walk, name) {
            return Some(known);
        }
        // A name that is not UTF-8 cannot stand in a schema file.
        if self.names.len() >= MAX_FIELDS || std::str::from_utf8(name).is_err() {
            self.beyond_limit += 1;
            return None;
        }
        self.values.push(ValueSeen::default());
        Some(self.names.add(name))
    }

    fn merge(&mut self, other: DocumentSeen) {
        self.beyond_limit += other.beyond_limit;
        let names: Vec<Box<[u8]>> = other.names.names().map(Box::from).collect();
        for (name, value) in names.iter().zip(other.values) {
            if let Some(index) = self.index(&mut Walk::default(), name) {
                self.values[index].merge(value);
            }
        }
    }
}

impl ValueSeen {
    fn observe(&mut self, element: &Element<'_>, depth: usize) -> Result<(), Malformed> {
        self.counts[element.kind.index()] += 1;
        if !matches!(element.kind, Kind::Document | Kind::Array | Kind::Binary | Kind::Int64) || depth >= MAX_DEPTH {
            return Ok(());
        }
        match element.value()? {
            Value::Int64(number) => self.wide_int64 += u64::from((number as f64) as i128 != i128::from(number)),
            Value::Binary { subtype: 0, .. } => self.plain_binary += 1,
            Value::Binary { subtype: 4, bytes } if bytes.len() == 16 => self.uuid += 1,
            Value::Document(document) => {
                self.document.get_or_insert_default().observe(document, depth + 1)?;
            }
            Value::Array(array) => {
                let elements = self.elements.get_or_insert_default();
                for element in array.elements() {
                    elements.observe(&element?, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn merge(&mut self, other: ValueSeen) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.plain_binary += other.plain_binary;
        self.uuid += other.uuid;
        self.wide_int64 += other.wide_int64;
        if let Some(document) = other.document {
            self.document.get_or_insert_default().merge(*document);
        }
        if let Some(elements) = other.elements {
            self.elements.get_or_insert_default().merge(*elements);
        }
    }
}
