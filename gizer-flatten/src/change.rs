//! Decoded changes of the source.
//!
//! gizer-oplog decodes them; this crate decides, without I/O, what they mean for tables.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use gizer_schema::raw::{Malformed, RawDoc};

pub use crate::source_position::{NotASourcePosition, SourcePosition};

/// A time of MongoDB's logical clock: the `ts` of an oplog entry, `clusterTime`, `operationTime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterTime {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: u32,
    /// Counts the operations within one second, from 1.
    pub increment: u32,
}

impl fmt::Display for ClusterTime {
    /// The form of the classic status table: `Timestamp(1454960732, 1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({}, {})", self.seconds, self.increment)
    }
}

/// Text that is not `Timestamp(<seconds>, <increment>)`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected Timestamp(<seconds>, <increment>), got {0:?}")]
pub struct NotAClusterTime(pub String);

impl FromStr for ClusterTime {
    type Err = NotAClusterTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let inside = text.trim().strip_prefix("Timestamp(")?.strip_suffix(')')?;
            let (seconds, increment) = inside.split_once(',')?;
            Some(ClusterTime { seconds: seconds.trim().parse().ok()?, increment: increment.trim().parse().ok()? })
        };
        parse().ok_or_else(|| NotAClusterTime(text.to_owned()))
    }
}

/// Positions by shard name.
pub type Positions = BTreeMap<String, SourcePosition>;

/// A database and a collection; the database's name holds no dot, the collection's may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// Name of the database.
    pub database: String,
    /// Name of the collection.
    pub collection: String,
}

impl Namespace {
    /// Splits at the first dot; `None` if there is none.
    pub fn parse(text: &str) -> Option<Namespace> {
        let (database, collection) = text.split_once('.')?;
        Some(Namespace { database: database.to_owned(), collection: collection.to_owned() })
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}

/// One change of one collection, at a known time.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Name of the shard that it was read from.
    pub shard: Arc<str>,
    /// Its position there.
    pub position: SourcePosition,
    /// The collection's name as in the entry; empty for [`ChangeKind::DropDatabase`].
    pub namespace: Arc<Namespace>,
    /// The collection's UUID, by which it is followed; it outlives renames.
    pub uuid: Option<[u8; 16]>,
    /// Whether the server wrote the entry while copying documents (`fromMigrate`). Usually that is
    /// a chunk migration: no change of data, but the `_id` counts as touched. `convertToCapped`,
    /// `cloneCollectionAsCapped` and renames into another database mark their copies too.
    pub from_migrate: bool,
    /// What happened.
    pub kind: ChangeKind,
}

/// What a change does. Documents and keys are raw BSON documents; a key's document is `{"_id": …}`.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// A new document; in `applyOps` by a user it also replaces one.
    Insert {
        /// All of it; out of a spool, its `_id` alone.
        document: Bytes,
    },
    /// A document replaces the one with its `_id`.
    Replace {
        /// All of it; out of a spool, its `_id` alone.
        document: Bytes,
    },
    /// Single fields change.
    Update {
        /// Which document.
        key: Bytes,
        /// What changes in it.
        edits: Edits,
    },
    /// The document is gone.
    Delete {
        /// Which document.
        key: Bytes,
    },
    /// The collection is created, empty, with this name and UUID.
    Create,
    /// The collection is dropped with all documents.
    Drop,
    /// The database is dropped. [`ChangeKind::Drop`] of each of its collections came before.
    DropDatabase,
    /// The collection is renamed.
    Rename {
        /// The new name.
        to: Namespace,
        /// UUID of a collection that had that name and was dropped for it (`dropTarget`).
        dropped: Option<[u8; 16]>,
    },
    /// Documents changed that the entry does not name: the collection must be reloaded.
    Rewrite,
}

/// Edits of an update, in order. The kinds differ in what they do where a path leads nowhere.
///
/// In the document just before the change, paths of diffs always exist; those of modifiers may not.
/// A change may also meet a document that is already past it.
#[derive(Debug, Clone, PartialEq)]
pub enum Edits {
    /// `$v: 2`. A missing field on the way: nothing happens. A value on the way that is neither the
    /// document nor the array that the next step needs becomes null. An array on the way or at the
    /// end that is too short is filled with nulls.
    Diff(Vec<Edit>),
    /// `$v: 1`. A missing field on the way is created, as a document. A value on the way without
    /// fields: nothing happens. A short array is filled with nulls. An unset creates nothing.
    Modifiers(Vec<Edit>),
    /// Unknown changes at these paths, and none elsewhere: from a spool.
    Paths(Vec<Vec<Step>>),
    /// Unknown changes of the document: a user gave the update to `applyOps` in a form that servers
    /// do not write (`$inc`, or a document without `_id`), or a later server wrote it.
    Unknown,
}

impl Edits {
    /// The changed paths; `None` if unknown.
    pub fn paths(&self) -> Option<impl Iterator<Item = &[Step]>> {
        let (edits, paths): (&[Edit], &[Vec<Step>]) = match self {
            Edits::Diff(edits) | Edits::Modifiers(edits) => (edits, &[]),
            Edits::Paths(paths) => (&[], paths),
            Edits::Unknown => return None,
        };
        Some(edits.iter().map(|edit| &*edit.path).chain(paths.iter().map(|path| &**path)))
    }
}

/// The `_id` of a document, as a document of this one field; `None` if there is none.
///
/// # Errors
/// [`Malformed`] if the bytes before it are not BSON.
pub fn id_document(document: RawDoc<'_>) -> Result<Option<Bytes>, Malformed> {
    let Some(id) = document.get(b"_id")? else { return Ok(None) };
    // Length, type, name with terminator, value, terminator.
    let length = 4 + 1 + 4 + id.bytes.len() + 1;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    bytes.push(id.kind as u8);
    bytes.extend_from_slice(b"_id\0");
    bytes.extend_from_slice(id.bytes);
    bytes.push(0);
    Ok(Some(bytes.into()))
}

/// A step on the way to a value inside a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A field of a document.
    Field(String),
    /// An element of an array, from 0.
    Index(u32),
    /// Digits in a path of [`Edits::Modifiers`]: an index in an array, else a field's name.
    FieldOrIndex {
        /// The digits as they stand.
        name: String,
        /// Their number.
        index: u32,
    },
}

/// A change of one value inside a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// Path from the document's root.
    pub path: Vec<Step>,
    /// What happens there.
    pub action: EditAction,
}

/// What happens to a value. Values are documents of one field, whose name is irrelevant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditAction {
    /// Set to this value: in place, or last in its document if it was missing.
    Set(Bytes),
    /// Set to this value and moved to the end of its document.
    Insert(Bytes),
    /// Removed; an array element becomes null.
    Unset,
    /// An array resized to this length: truncated, or filled with nulls.
    Resize(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_as_numbers_and_not_as_text() {
        let at = |seconds, increment| ClusterTime { seconds, increment };
        assert!(at(99, 1) < at(566, 1));
        assert!(at(5, 99) < at(5, 566));
    }

    #[test]
    fn times_have_the_classic_text_form() {
        let time = ClusterTime { seconds: 1454960732, increment: 7 };
        assert_eq!(time.to_string(), "Timestamp(1454960732, 7)");
        assert_eq!("Timestamp(1454960732, 7)".parse(), Ok(time));
        assert!("Timestamp(1454960732)".parse::<ClusterTime>().is_err());
        assert!("None".parse::<ClusterTime>().is_err());
    }

    #[test]
    fn an_id_stands_alone_as_it_was() {
        let document = bson::doc! { "x": 1, "_id": { "a": [1, "ü"] }, "y": "_id" };
        let bytes = document.to_vec().unwrap();
        let alone = id_document(RawDoc::new(&bytes).unwrap()).unwrap().unwrap();
        assert_eq!(alone, bson::doc! { "_id": { "a": [1, "ü"] } }.to_vec().unwrap());
        assert_eq!(id_document(RawDoc::new(&bson::doc! { "y": 1 }.to_vec().unwrap()).unwrap()), Ok(None));
    }

    #[test]
    fn a_namespace_splits_at_its_first_dot() {
        let namespace = Namespace::parse("shop.a.b").unwrap();
        assert_eq!((namespace.database.as_str(), namespace.collection.as_str()), ("shop", "a.b"));
        assert_eq!(namespace.to_string(), "shop.a.b");
    }
}
