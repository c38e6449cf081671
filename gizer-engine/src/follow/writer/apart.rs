//! Isolates failures of one collection, so that the others go on.
//!
//! * A document refused by PostgreSQL is rejected. Before the commit, documents are retried whose
//!   conflict a later part of the batch may have resolved.
//! * A collection whose tables cannot be written stays as before the batch, at its own position:
//!   *failing*, or due for a load. The others commit. A retry catches up from its position.

use std::collections::BTreeMap;

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_pg::PgError;
use gizer_pg::state::{self, ObstacleKind};
use gizer_verify::VerifyError;

use super::isolate::WriteFailure;
use super::{BatchWriter, FollowedTables, Purpose};
use crate::failure::{Failure, FailureKind};
use crate::wording::{command, thousands};

/// The savepoint before a batch's writes to a collection.
const COLLECTION: &str = "gizer_collection_savepoint";

/// A collection left as before the open batch.
pub(super) struct ApartCollection {
    pub(super) failure: Failure,
    /// Whether it must be reloaded.
    pub(super) reload: bool,
}

impl BatchWriter<'_> {
    /// Starts writing to a collection, in a savepoint of its own.
    pub(super) async fn enter(&mut self, member: usize) -> Result<(), PgError> {
        if self.batch.has_entered(member) {
            return Ok(());
        }
        self.leave().await?;
        self.session.set_savepoint(COLLECTION).await?;
        self.batch.enter(member);
        Ok(())
    }

    pub(super) async fn leave(&mut self) -> Result<(), PgError> {
        match self.batch.entered.take() {
            Some(_) => self.session.release_savepoint(COLLECTION).await,
            None => Ok(()),
        }
    }

    /// Leaves a collection as before the open batch; a failure of the whole run ends it.
    pub(super) async fn set_apart(&mut self, member: usize, trouble: WriteFailure) -> Result<(), Failure> {
        let name = self.tables[member].name.clone();
        let Purpose::Stream { fence, .. } = &self.purpose else { return Err(write_failure(&name, trouble)) };
        let trouble = match trouble {
            WriteFailure::Run(error) | WriteFailure::Rows(VerifyError::Tables(error)) => return Err(error.into()),
            trouble => trouble,
        };
        let position = fence.position().clone();
        self.session.roll_back_to(COLLECTION).await?;
        self.batch.restore(member, &name);
        let reload = matches!(trouble, WriteFailure::Tables(_)) && self.has_other_tables(member).await?;
        let failure = write_failure(&name, trouble);
        tracing::warn!(collection = name, reload, "set apart: {}", failure.message);
        let live_epoch = self.tables[member].live_epoch;
        if reload {
            state::mark_load_due(self.session, &name, live_epoch, &failure.message).await?;
        } else {
            let times = [Some(self.mark.time), self.ahead, self.batch.ahead, latest(&position)];
            let read_until = times.into_iter().flatten().max().unwrap_or_default();
            state::leave_stream(self.session, &name, live_epoch, &position, read_until).await?;
            let (reason, remedy) = (&failure.message, failure.remedy.as_deref());
            state::set_obstacle(self.session, &name, ObstacleKind::Failing, reason, remedy).await?;
        }
        let tables = &mut self.tables[member];
        (tables.apart, tables.joined) = (true, false);
        self.batch.apart.insert(member, ApartCollection { failure, reload });
        Ok(())
    }

    /// Leaves collections as before the batch whose documents could not be read.
    pub(super) async fn set_unreadable_apart(&mut self, unreadable: BTreeMap<usize, Failure>) -> Result<(), Failure> {
        for (member, failure) in unreadable {
            self.enter(member).await?;
            self.set_apart(member, WriteFailure::Unreadable(failure)).await?;
        }
        Ok(())
    }

    /// Whether the tables differ from the layout: an error may concern a trigger's tables.
    async fn has_other_tables(&mut self, member: usize) -> Result<bool, Failure> {
        let FollowedTables { store, .. } = &mut self.tables[member];
        self.session.set_savepoint(COLLECTION).await?;
        let checked = store.check_tables().await;
        self.session.roll_back_to(COLLECTION).await?;
        Ok(checked.is_err_and(|error| error.is_of_other_tables()))
    }
}

fn latest(position: &Positions) -> Option<ClusterTime> {
    position.values().map(|position| position.time()).max()
}

pub(crate) fn write_failure(collection: &str, trouble: WriteFailure) -> Failure {
    match trouble {
        WriteFailure::Run(error) => error.into(),
        WriteFailure::Tables(error) => {
            let own = error.remedy();
            let load = command("load", [collection], &[]);
            let remedy = own.unwrap_or_else(|| {
                format!("undo what was changed about its tables, or run `{load}`, which recreates them")
            });
            Failure::new(FailureKind::NotAll, format!("{collection}: {error}")).remedy(remedy)
        }
        WriteFailure::Rows(VerifyError::Tables(error)) => error.into(),
        WriteFailure::Rows(error @ VerifyError::SameKey { .. }) => Failure::new(FailureKind::NotAll, error.to_string()),
        WriteFailure::Unreadable(failure) => Failure { kind: FailureKind::NotAll, ..failure },
        // Rows that differ after being written have their own exit code.
        WriteFailure::Rows(error) => Failure::new(FailureKind::Differs, format!("{collection}: {error}")).remedy(format!(
            "nothing of the batch was committed for {collection}; look for triggers, rules and other writers of its tables, \
             then run `{}`, which recreates them",
            command("load", [collection], &[])
        )),
        WriteFailure::TooMany { limit, last } => {
            let message = format!(
                "{collection}: PostgreSQL refuses more documents in one run than [follow] max_rejects allows ({}); the last: {last}",
                thousands(limit)
            );
            let remedy = "remove what refuses them (a constraint, an index, a trigger), or raise [follow] max_rejects";
            Failure::new(FailureKind::NotAll, message).remedy(remedy)
        }
    }
}
