//! Capped collections on servers that do not log their deletions.
//!
//! Up to MongoDB 4.4 a capped collection drops its oldest documents without an oplog entry, and
//! only when new ones come. So for each batch that touches it, all documents with rows are looked
//! up too; missing ones are treated as deleted. For a large collection that is too much work, so it
//! does not count as exact.

use gizer_pg::PgError;
use gizer_pg::rows::KeyStretch;
use gizer_pg::state;
use gizer_schema::TableId;
use gizer_verify::{VerifyError, id_of_key, ids_in_rows};

use super::isolate::WriteFailure;
use super::{BatchWriter, FollowedTables, Purpose};
use crate::failure::Failure;
use crate::follow::channels::StoredIds;

/// Largest capped collection, in documents, that is looked up with each batch.
const MAX_CAPPED_DOCUMENTS: usize = 10_000;

/// The remark about a collection whose deletions are not looked for.
pub const DELETIONS_UNKNOWN: &str =
    "capped, on MongoDB 4.4 or older: deletions are not logged; `gizer verify --repair` removes what is gone";

impl BatchWriter<'_> {
    /// The `_id`s of documents with rows, in the open transaction or one of its own. `None` also if
    /// they cannot be read: the collection is then set apart.
    pub(super) async fn stored_ids(&mut self, member: usize) -> Result<StoredIds, Failure> {
        if self.batch.apart.contains_key(&member) {
            return Ok(None);
        }
        let outcome = match self.batch.is_begun() {
            false => self.session.in_snapshot(ids_of(&mut self.tables[member])).await,
            true => {
                self.enter(member).await?;
                ids_of(&mut self.tables[member]).await
            }
        };
        match outcome.map_err(WriteFailure::from) {
            Ok(ids) => {
                self.batch.capped.insert(member, ids.is_none());
                Ok(ids)
            }
            Err(WriteFailure::Run(error)) => Err(error.into()),
            Err(trouble) => {
                self.begin().await?;
                self.enter(member).await?;
                self.set_apart(member, trouble).await?;
                Ok(None)
            }
        }
    }

    /// Records in the open transaction which capped collections have unknown deletions.
    pub(super) async fn record_capped(&self) -> Result<(), Failure> {
        if let Purpose::Load { .. } = self.purpose {
            return Ok(());
        }
        for (member, is_unknown) in &self.batch.capped {
            let FollowedTables { name, live_epoch, .. } = &self.tables[*member];
            state::set_remark(self.session, name, *live_epoch, DELETIONS_UNKNOWN, *is_unknown).await?;
        }
        Ok(())
    }
}

async fn ids_of(tables: &mut FollowedTables<'_>) -> Result<StoredIds, PgError> {
    let FollowedTables { layout, store, flattener, .. } = tables;
    let keys = store.keys_of(TableId(0), KeyStretch::default(), MAX_CAPPED_DOCUMENTS + 1).await?;
    if keys.len() > MAX_CAPPED_DOCUMENTS {
        return Ok(None);
    }
    let (mut ids, mut hashed) = (Vec::new(), Vec::new());
    for key in keys {
        match id_of_key(layout, flattener, &key) {
            Some(id) => ids.push(id),
            None => hashed.push(key),
        }
    }
    if !hashed.is_empty() {
        match ids_in_rows(store, flattener, &hashed).await {
            Ok(found) => ids.extend(found.into_iter().flatten()),
            Err(VerifyError::Tables(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Some(ids))
}
