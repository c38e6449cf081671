//! One operation on a collection.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use gizer_flatten::change::{Change, ChangeKind, Namespace};
use gizer_schema::raw::{Element, RawDoc};

use super::error::DecodeError;
use super::fields::{Fields, find};
use super::update;
use crate::position::OplogPosition;

/// An operation on one collection, as far as it is needed to tell whether it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'b> {
    /// Name of the database.
    pub database: &'b str,
    /// Name of the collection; empty of [`OperationKind::DropDatabase`]. Of a rename the old name.
    pub collection: &'b str,
    /// UUID of the collection (`ui`); `dropDatabase` has none, nor need operations that somebody gave to `applyOps`.
    pub uuid: Option<[u8; 16]>,
    /// Whether the server wrote it while it copied documents, as a chunk migration does.
    pub from_migrate: bool,
    body: Body<'b>,
}

/// What an operation does, undecoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body<'b> {
    Insert { document: RawDoc<'b> },
    Update { update: RawDoc<'b>, criteria: Option<RawDoc<'b>> },
    Delete { criteria: RawDoc<'b> },
    Create,
    Drop,
    DropDatabase,
    Rename { to: (&'b str, &'b str), dropped: Option<[u8; 16]> },
    Rewrite,
}

/// What an operation does, without any contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind<'b> {
    /// A new document.
    Insert,
    /// A document takes the place of the one with its `_id`.
    Replace,
    /// Single fields change.
    Update,
    /// A document is gone.
    Delete,
    /// The collection is there, and empty.
    Create,
    /// The collection is gone.
    Drop,
    /// The database is gone.
    DropDatabase,
    /// The collection has another name from here on.
    Rename {
        /// The new name's database.
        to_database: &'b str,
        /// The new name's collection.
        to_collection: &'b str,
        /// UUID of the collection that had that name and was dropped for it.
        dropped: Option<[u8; 16]>,
    },
    /// Documents of the collection changed that the entry does not tell (`emptycapped`, `convertToCapped`,
    /// `importCollection`): it has to be loaded anew.
    Rewrite,
}

impl<'b> Operation<'b> {
    pub(super) fn new(fields: &Fields<'b>, database: &'b str, collection: &'b str, body: Body<'b>) -> Operation<'b> {
        Operation { database, collection, uuid: fields.uuid, from_migrate: fields.from_migrate, body }
    }

    /// `i`, `u` and `d`. `None` if the collection's name is not UTF-8: no name that gizer can be given leads to it.
    pub(super) fn of_document(fields: &Fields<'b>) -> Result<Option<Operation<'b>>, DecodeError> {
        let Ok(name) = str::from_utf8(fields.namespace) else { return Ok(None) };
        let (database, collection) = split(name)?;
        let object = fields.object.ok_or(DecodeError::Missing { expected: "a document in o" })?;
        let body = match fields.operation {
            b"i" => Body::Insert { document: object },
            b"d" => Body::Delete { criteria: object },
            _ => Body::Update { update: object, criteria: fields.criteria },
        };
        Ok(Some(Operation::new(fields, database, collection, body)))
    }

    /// What it does.
    ///
    /// # Errors
    /// [`DecodeError`] if an update cannot be walked.
    pub fn kind(&self) -> Result<OperationKind<'b>, DecodeError> {
        Ok(match self.body {
            Body::Insert { .. } => OperationKind::Insert,
            Body::Update { update, .. } => match find(update, b"_id")? {
                Some(_) => OperationKind::Replace,
                None => OperationKind::Update,
            },
            Body::Delete { .. } => OperationKind::Delete,
            Body::Create => OperationKind::Create,
            Body::Drop => OperationKind::Drop,
            Body::DropDatabase => OperationKind::DropDatabase,
            Body::Rename { to: (to_database, to_collection), dropped } => {
                OperationKind::Rename { to_database, to_collection, dropped }
            }
            Body::Rewrite => OperationKind::Rewrite,
        })
    }

    /// The document it is about, as `{"_id": …}`; `None` if it is about the collection as a whole.
    ///
    /// Of a collection that is sharded by other fields these stand beside `_id` in the log; they are left out.
    ///
    /// # Errors
    /// [`DecodeError`] if the `_id` is missing or cannot be reached.
    pub fn key(&self) -> Result<Option<Bytes>, DecodeError> {
        Ok(match self.body {
            Body::Insert { document } => Some(key_of(document)?),
            Body::Update { update, criteria } => Some(match find(update, b"_id")? {
                Some(id) => alone(b"_id", &id),
                None => key_of(criteria.ok_or(DecodeError::Missing { expected: "o2 beside an update" })?)?,
            }),
            Body::Delete { criteria } => Some(key_of(criteria)?),
            Body::Create | Body::Drop | Body::DropDatabase | Body::Rename { .. } | Body::Rewrite => None,
        })
    }

    /// All of it, owned. `namespace` is its database and collection; the caller shares one value for all changes of
    /// a collection.
    ///
    /// # Errors
    /// [`DecodeError`] if its contents are not what the format says.
    pub fn to_change(
        &self,
        shard: &Arc<str>,
        position: OplogPosition,
        namespace: Arc<Namespace>,
    ) -> Result<Change, DecodeError> {
        debug_assert!((&*namespace.database, &*namespace.collection) == (self.database, self.collection));
        let (uuid, from_migrate) = (self.uuid, self.from_migrate);
        Ok(Change {
            shard: Arc::clone(shard),
            position: position.into(),
            namespace,
            uuid,
            from_migrate,
            kind: self.change_kind()?,
        })
    }

    fn change_kind(&self) -> Result<ChangeKind, DecodeError> {
        Ok(match self.body {
            Body::Insert { document } => {
                key_of(document)?;
                ChangeKind::Insert { document: copied(document) }
            }
            Body::Update { update, criteria } => {
                // In a document that takes the place of another one, `$v` may be a field (MongoDB 5.0).
                if find(update, b"_id")?.is_some() {
                    return Ok(ChangeKind::Replace { document: copied(update) });
                }
                let criteria = criteria.ok_or(DecodeError::Missing { expected: "o2 beside an update" })?;
                ChangeKind::Update { key: key_of(criteria)?, edits: update::decode(update)? }
            }
            Body::Delete { criteria } => ChangeKind::Delete { key: key_of(criteria)? },
            Body::Create => ChangeKind::Create,
            Body::Drop => ChangeKind::Drop,
            Body::DropDatabase => ChangeKind::DropDatabase,
            Body::Rename { to: (database, collection), dropped } => {
                let to = Namespace { database: database.to_owned(), collection: collection.to_owned() };
                ChangeKind::Rename { to, dropped }
            }
            Body::Rewrite => ChangeKind::Rewrite,
        })
    }
}

/// Database and collection of a full name.
pub(super) fn split(name: &str) -> Result<(&str, &str), DecodeError> {
    name.split_once('.').ok_or(DecodeError::Missing { expected: "a dot in the name of its collection" })
}

fn key_of(document: RawDoc<'_>) -> Result<Bytes, DecodeError> {
    let id = find(document, b"_id")?.ok_or(DecodeError::Missing { expected: "the _id of its document" })?;
    Ok(alone(b"_id", &id))
}

fn copied(document: RawDoc<'_>) -> Bytes {
    Bytes::copy_from_slice(document.as_bytes())
}

/// A document of this element alone, under another name.
pub(super) fn alone(name: &[u8], element: &Element<'_>) -> Bytes {
    // Length, type, the name and its terminator, the value, the document's terminator. It all comes out of one document,
    // so the length fits.
    let len = 4 + 1 + name.len() + 1 + element.bytes.len() + 1;
    let mut document = BytesMut::with_capacity(len);
    document.put_i32_le(len as i32);
    document.put_u8(element.kind as u8);
    document.put_slice(name);
    document.put_u8(0);
    document.put_slice(element.bytes);
    document.put_u8(0);
    document.freeze()
}
