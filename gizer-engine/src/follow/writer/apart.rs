//! One collection's trouble is its own: what is wrong with one keeps no other from going on.
//!
//! * A document that PostgreSQL refuses is rejected. Before a batch is committed, those are tried once more whose conflict another
//!   part of the batch may have resolved: its end counts.
//! * A collection whose tables cannot be written is left as it was before the batch, at its own position, *failing*; or a load of it
//!   is due. The others commit. It catches up from its position when it is tried again.

use std::collections::BTreeMap;

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_pg::PgError;
use gizer_pg::state::{self, ObstacleKind};
use gizer_verify::VerifyError;

use super::isolate::Trouble;
use super::{FollowedTables, Purpose, Writer};
use crate::failure::{Failure, FailureKind};
use crate::wording::{command, thousands};

/// The savepoint before what a batch brings to a collection.
const COLLECTION: &str = "gizer_collection_savepoint";

/// A collection that is left as it was before the open batch.
pub(super) struct ApartCollection {
    pub(super) failure: Failure,
    /// Whether only a load helps.
    pub(super) reload: bool,
}

impl Writer<'_> {
    /// What is written from here on to this collection can be taken back by itself.
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

    /// Leaves a collection as it was before the open batch, or ends the run if the trouble is not of one collection.
    pub(super) async fn set_apart(&mut self, member: usize, trouble: Trouble) -> Result<(), Failure> {
        let name = self.tables[member].name.clone();
        let Purpose::Stream { fence, .. } = &self.purpose else { return Err(failure(&name, trouble)) };
        let trouble = match trouble {
            Trouble::Run(error) | Trouble::Rows(VerifyError::Tables(error)) => return Err(error.into()),
            trouble => trouble,
        };
        let position = fence.position().clone();
        self.session.roll_back_to(COLLECTION).await?;
        self.batch.take_back(member, &name);
        let reload = matches!(trouble, Trouble::Tables(_)) && self.has_other_tables(member).await?;
        let failure = failure(&name, trouble);
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

    /// Leaves collections as they were whose documents could not be read.
    pub(super) async fn set_unreadable_apart(&mut self, unreadable: BTreeMap<usize, Failure>) -> Result<(), Failure> {
        for (member, failure) in unreadable {
            self.enter(member).await?;
            self.set_apart(member, Trouble::Unreadable(failure)).await?;
        }
        Ok(())
    }

    /// Whether tables or columns are not those of the layout: an error may be of something else that a trigger needs.
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

/// The trouble of a collection as a failure that names it.
fn failure(collection: &str, trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Run(error) => error.into(),
        Trouble::Tables(error) => {
            let own = error.remedy();
            let load = command("load", [collection], &[]);
            let remedy = own.unwrap_or_else(|| {
                format!("undo what was changed about its tables, or run `{load}`, which recreates them")
            });
            Failure::new(FailureKind::NotAll, format!("{collection}: {error}")).remedy(remedy)
        }
        Trouble::Rows(VerifyError::Tables(error)) => error.into(),
        Trouble::Rows(error @ VerifyError::SameKey { .. }) => Failure::new(FailureKind::NotAll, error.to_string()),
        Trouble::Unreadable(failure) => Failure { kind: FailureKind::NotAll, ..failure },
        // Rows that differ after they were written have a code of their own.
        Trouble::Rows(error) => Failure::new(FailureKind::Differs, format!("{collection}: {error}")).remedy(format!(
            "nothing of the batch was committed for {collection}; look for triggers, rules and other writers of its tables, \
             then run `{}`, which recreates them",
            command("load", [collection], &[])
        )),
        Trouble::TooMany { limit, last } => {
            let message = format!(
                "{collection}: PostgreSQL refuses more documents in one run than [follow] max_rejects allows ({}); the last: {last}",
                thousands(limit)
            );
            let remedy = "remove what refuses them (a constraint, an index, a trigger), or raise [follow] max_rejects";
            Failure::new(FailureKind::NotAll, message).remedy(remedy)
        }
    }
}
