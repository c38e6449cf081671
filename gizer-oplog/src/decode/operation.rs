//! One operation on a collection.

use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::change::{Change, ChangeKind, Namespace, Position};

use super::error::DecodeError;

/// An operation on one collection, as far as it is needed to tell whether it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'b> {
    /// Name of the database.
    pub database: &'b str,
    /// Name of the collection; empty of [`OperationKind::DropDatabase`]. Of a rename the old name.
    pub collection: &'b str,
    /// UUID of the collection (`ui`); only operations that were put into the log by hand, and `dropDatabase`, have none.
    pub uuid: Option<[u8; 16]>,
    /// Whether a chunk migration wrote it.
    pub from_migrate: bool,
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
    /// Documents of the collection changed that the entry does not tell (`emptycapped`, `convertToCapped`, `importCollection`): it
    /// has to be loaded anew.
    Rewrite,
}

impl<'b> Operation<'b> {
    /// What it does.
    ///
    /// # Errors
    /// [`DecodeError`] if an update cannot be walked.
    pub fn kind(&self) -> Result<OperationKind<'b>, DecodeError> {
        Ok(OperationKind::Create)
    }

    /// The document it is about, as `{"_id": …}`; `None` if it is about the collection as a whole.
    ///
    /// # Errors
    /// [`DecodeError`] if the `_id` is missing or cannot be reached.
    pub fn key(&self) -> Result<Option<Bytes>, DecodeError> {
        Ok(None)
    }

    /// All of it, owned. `namespace` is its database and collection; the caller shares one value for all changes of a collection.
    ///
    /// # Errors
    /// [`DecodeError`] if its contents are not what the format says.
    pub fn to_change(
        &self,
        shard: &Arc<str>,
        position: Position,
        namespace: Arc<Namespace>,
    ) -> Result<Change, DecodeError> {
        let Operation { uuid, from_migrate, .. } = *self;
        Ok(Change { shard: Arc::clone(shard), position, namespace, uuid, from_migrate, kind: ChangeKind::Create })
    }
}
