//! The locks of a swap: all or, for this time, none.
//!
//! Whoever holds one lock and waits for another can meet a reader that does the same the other way round, and then one
//! must give way: the swap does. While it waits for its first lock, though, new readers of that relation queue behind it
//! with empty hands. So the order decides whether a swap ever gets through between readers that come one after the other.
//! Nobody can know in which order readers name their tables; the first guess is what most do, and a relation for which
//! an attempt has waited in vain comes first in the next.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::survey::LiveTable;
use super::swap::SwapSettings;
use super::views::View;
use crate::connect::Session;
use crate::error::PgError;
use crate::ident::{Qualified, quote_identifier};

/// How long to wait for vacuum, DDL and the like to let go of the live tables. PostgreSQL cancels an autovacuum that
/// is in the way, but only after its `deadlock_timeout`.
pub(crate) const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(3);

/// In which order to lock, as far as earlier attempts have shown.
#[derive(Debug, Default)]
pub(super) struct LockOrder {
    /// What attempts have waited for in vain, the last one first.
    waited_for: Vec<Qualified>,
}

impl LockOrder {
    /// Names of what attempts have waited for in vain.
    pub(super) fn waited_for(&self) -> impl Iterator<Item = &str> {
        self.waited_for.iter().map(Qualified::name)
    }

    /// Locks the live tables, which are given in the order of their names, and the views on them.
    ///
    /// First in a mode that readers and writers do not notice, against vacuum, DDL and other swaps, which may take their
    /// time; then against everybody, which must be quick or not at all.
    ///
    /// # Errors
    /// `lock_timeout`, among others; the next attempt will lock in another order then.
    pub(super) async fn lock(
        &mut self,
        session: &Session,
        live: &[LiveTable],
        views: &[View],
        settings: &SwapSettings,
    ) -> Result<(), PgError> {
        if live.is_empty() {
            return Ok(());
        }
        let list = list(session, live)?;
        set_lock_timeout(session, settings.lock_timeout.max(MAINTENANCE_TIMEOUT)).await?;
        session.run("locking the live tables", &format!("LOCK TABLE {list} IN SHARE UPDATE EXCLUSIVE MODE")).await?;
        set_lock_timeout(session, settings.lock_timeout).await?;
        let mut statements = statements(session, live, views)?;
        let waited_for: BTreeMap<String, usize> =
            self.waited_for.iter().enumerate().map(|(i, at)| (at.to_string(), i)).collect();
        statements.sort_by_key(|(at, _)| waited_for.get(&at.to_string()).copied().unwrap_or(usize::MAX));
        // Sent at once and run one after the other: no reader slips in while an answer is on its way.
        let running = statements.iter().map(|(at, sql)| session.run(format!("locking {at}"), sql));
        for ((at, _), outcome) in statements.iter().zip(join_all(running).await) {
            if let Err(error) = outcome {
                self.waited_for.retain(|earlier| earlier != at);
                self.waited_for.insert(0, at.clone());
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Locks each relation against everybody, in the order of most readers: a view before what is in it, a parent before
/// its children.
fn statements(session: &Session, live: &[LiveTable], views: &[View]) -> Result<Vec<(Qualified, String)>, PgError> {
    let mut statements = Vec::new();
    let mut views: Vec<&View> = views.iter().collect();
    views.sort_by_key(|view| (-view.depth, view.at.schema(), view.at.name()));
    for View { at, .. } in views {
        // LOCK TABLE would lock whatever the view reads, other people's tables too. So it is moved to where it is,
        // which locks the view alone, in the mode that dropping it takes.
        statements.push((at.clone(), format!("ALTER VIEW {at} SET SCHEMA {}", quote_identifier(at.schema())?)));
    }
    let mut live: Vec<&LiveTable> = live.iter().collect();
    live.sort_by_key(|table| (table.name.len(), &table.name));
    for table in live {
        let at = session.relation(&table.name)?;
        let sql = format!("LOCK TABLE {at} IN ACCESS EXCLUSIVE MODE");
        statements.push((at, sql));
    }
    Ok(statements)
}

/// The tables as statements name several.
pub(super) fn list(session: &Session, live: &[LiveTable]) -> Result<String, PgError> {
    let names: Vec<String> =
        live.iter().map(|table| Ok(session.relation(&table.name)?.to_string())).collect::<Result<_, PgError>>()?;
    Ok(names.join(", "))
}

/// For the open transaction.
pub(crate) async fn set_lock_timeout(session: &Session, timeout: Duration) -> Result<(), PgError> {
    // 0 would mean for ever.
    let sql = format!("SET LOCAL lock_timeout TO '{}ms'", timeout.as_millis().max(1));
    session.run("setting lock_timeout", &sql).await
}
