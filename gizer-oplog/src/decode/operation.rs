//! One operation on a collection.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use gizer_flatten::change::{Change, ChangeKind, Namespace};
use gizer_schema::raw::{Element, RawDoc};

use super::error::DecodeError;
use super::fields::{EntryFields, find};
use super::update;
use crate::position::OplogPosition;

/// An operation on one collection, decoded as far as filtering needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'b> {
    /// Name of the database.
    pub database: &'b str,
    /// Name of the collection, the old one of a rename; empty for [`OperationKind::DropDatabase`].
    pub collection: &'b str,
    /// UUID of the collection (`ui`); `dropDatabase` has none, and operations given to `applyOps`
    /// by users may have none.
    pub uuid: Option<[u8; 16]>,
    /// Whether a chunk migration wrote it.
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

/// Kind of an operation, without contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind<'b> {
    /// A new document.
    Insert,
    /// A document replaces the one with its `_id`.
    Replace,
    /// Single fields change.
    Update,
    /// A document is gone.
    Delete,
    /// The collection is created, empty.
    Create,
    /// The collection is dropped.
    Drop,
    /// The database is dropped.
    DropDatabase,
    /// The collection is renamed.
    Rename {
        /// The new name's database.
        to_database: &'b str,
        /// The new name's collection.
        to_collection: &'b str,
        /// UUID of the collection that had that name and was dropped for it.
        dropped: Option<[u8; 16]>,
    },
    /// Documents changed that the entry does not name (`emptycapped`, `convertToCapped`,
    /// `importCollection`): the collection must be reloaded.
    Rewrite,
}

impl<'b> Operation<'b> {
    pub(super) fn new(
        fields: &EntryFields<'b>,
        database: &'b str,
        collection: &'b str,
        body: Body<'b>,
    ) -> Operation<'b> {
        Operation { database, collection, uuid: fields.uuid, from_migrate: fields.from_migrate, body }
    }

    /// `i`, `u` and `d`. `None` if the collection's name is not UTF-8, which gizer cannot follow.
    pub(super) fn of_document(fields: &EntryFields<'b>) -> Result<Option<Operation<'b>>, DecodeError> {
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

    /// Kind of the operation.
    ///
    /// # Errors
    /// [`DecodeError`] if an update is malformed.
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

    /// The document's key, as `{"_id": …}`; `None` for DDL.
    ///
    /// Other shard key fields that the log has next to `_id` are left out.
    ///
    /// # Errors
    /// [`DecodeError`] if the `_id` is missing or malformed.
    pub fn key(&self) -> Result<Option<Bytes>, DecodeError> {
        Ok(match self.body {
            Body::Insert { document } => Some(key_of(document)?),
            Body::Update { update, criteria } => Some(match find(update, b"_id")? {
                Some(id) => alone(b"_id", &id),
                None => key_of(criteria.ok_or(DecodeError::Missing { expected: "o2 of an update" })?)?,
            }),
            Body::Delete { criteria } => Some(key_of(criteria)?),
            Body::Create | Body::Drop | Body::DropDatabase | Body::Rename { .. } | Body::Rewrite => None,
        })
    }

    /// The operation as an owned change. `namespace` is its database and collection, shared between
    /// all changes of a collection.
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
                // In a replacement document `$v` may be a field (MongoDB 5.0).
                if find(update, b"_id")?.is_some() {
                    return Ok(ChangeKind::Replace { document: copied(update) });
                }
                let criteria = criteria.ok_or(DecodeError::Missing { expected: "o2 of an update" })?;
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

/// A document of this element alone, renamed.
pub(super) fn alone(name: &[u8], element: &Element<'_>) -> Bytes {
    // Length, type, name, value, terminators. All of it is from one document, so it fits.
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
