//! The tables that rows are read from and written to, as a stage of its own.

use std::sync::Arc;

use gizer_pg::PgError;
use gizer_pg::rows::{Keys, RowChanges, RowCounts, RowStore, StoredTuple};
use gizer_schema::{Layout, TableId};

/// What [`reconcile`](crate::reconcile()) needs of the tables of a collection: [`RowStore`], or a test's stage around one.
///
/// # What an implementation owes
/// Everything happens in one open transaction: what was written is read by the next [`read`](RowTables::read). After an
/// error the transaction can only be rolled back.
pub trait RowTables {
    /// The layout of the tables.
    fn layout(&self) -> &Arc<Layout>;

    /// Gives every row that is stored under one of the keys, in the tables of its scope, to `each`; see [`RowStore::read`].
    ///
    /// # Errors
    /// Whatever the server says.
    fn read(
        &mut self,
        keys: &Keys,
        each: impl FnMut(TableId, u32, StoredTuple<'_>) + Send,
    ) -> impl Future<Output = Result<(), PgError>> + Send;

    /// Deletes, changes and adds rows; gives how many, as the server counts them; see [`RowStore::write`].
    ///
    /// # Errors
    /// Whatever the server says.
    fn write(&mut self, changes: &RowChanges) -> impl Future<Output = Result<RowCounts, PgError>> + Send;

    /// Deletes all rows that are stored under these keys; see [`RowStore::delete_documents`].
    ///
    /// # Errors
    /// Whatever the server says.
    fn delete_documents(&mut self, keys: &Keys) -> impl Future<Output = Result<RowCounts, PgError>> + Send;
}

impl RowTables for RowStore<'_> {
    fn layout(&self) -> &Arc<Layout> {
        RowStore::layout(self)
    }

    async fn read(
        &mut self,
        keys: &Keys,
        each: impl FnMut(TableId, u32, StoredTuple<'_>) + Send,
    ) -> Result<(), PgError> {
        RowStore::read(self, keys, each).await
    }

    async fn write(&mut self, changes: &RowChanges) -> Result<RowCounts, PgError> {
        RowStore::write(self, changes).await
    }

    async fn delete_documents(&mut self, keys: &Keys) -> Result<RowCounts, PgError> {
        RowStore::delete_documents(self, keys).await
    }
}
