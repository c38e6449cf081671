//! Capped collections of servers that do not log what goes from them.
//!
//! Up to MongoDB 4.4 a capped collection drops its oldest documents without an entry in the oplog, and only as new ones come. So
//! whenever a batch touches such a collection, all documents that have rows are looked up, too: those that are gone are found as any
//! deleted one is. Of a large collection that is too much work at each batch; then it is not called exact.

use gizer_pg::PgError;
use gizer_pg::rows::KeyStretch;
use gizer_pg::state;
use gizer_schema::TableId;
use gizer_verify::{VerifyError, id_of_key, ids_in_rows};

use super::isolate::Trouble;
use super::{FollowedTables, Purpose, Writer};
use crate::failure::Failure;
use crate::follow::channels::StoredIds;

/// Documents of a capped collection that are looked up at each batch; of more, none are.
const MAX_CAPPED_DOCUMENTS: usize = 10_000;

/// The remark about a collection whose deletions nobody looks for.
pub const DELETIONS_UNKNOWN: &str =
    "capped, on MongoDB 4.4 or older: deletions are not logged; `gizer verify --repair` removes what is gone";

impl Writer<'_> {
    /// The `_id`s of the documents that have rows, as the open transaction sees them, or one of its own. `None`, too, where they
    /// cannot be read: the collection has been set apart then.
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
        match outcome.map_err(Trouble::from) {
            Ok(ids) => {
                self.batch.capped.insert(member, ids.is_none());
                Ok(ids)
            }
            Err(Trouble::Run(error)) => Err(error.into()),
            Err(trouble) => {
                self.begin().await?;
                self.enter(member).await?;
                self.set_apart(member, trouble).await?;
                Ok(None)
            }
        }
    }

    /// Writes down in the open transaction of which capped collections nobody knows what is gone.
    pub(super) async fn keep_capped(&self) -> Result<(), Failure> {
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
