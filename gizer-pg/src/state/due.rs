//! Whoever does what is due does it alone.

use super::lock::{self, AdvisoryKey};
use crate::connect::Session;
use crate::error::PgError;

/// Keeps other runs that do whatever is due away for as long as the session lives. Single loads and rounds of following have
/// locks of their own.
///
/// # Errors
/// [`PgError::Locked`] if there is such a run.
pub async fn hold_due(session: &Session) -> Result<(), PgError> {
    lock::hold(session, &AdvisoryKey::due(session.schema())).await
}
