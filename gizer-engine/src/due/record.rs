//! Records what `gizer run` sees: expected collections and their obstacles.

use gizer_pg::state::{self, Choice, Obstacle, ObstacleKind};
use gizer_pg::{PgError, Session};

use super::{Due, DueCollection, DueStep, Facts};
use crate::env::Env;
use crate::failure::{Failure, FailureKind};
use crate::notice::Notice;

/// Why a collection that was followed before its exclusion must be loaded.
pub const WAS_EXCLUDED: &str = "it was excluded, and its changes were not applied meanwhile";

/// What must be recorded and is not yet.
#[derive(Debug, Default)]
struct StateRecord<'r> {
    expect: Vec<&'r str>,
    forget: Vec<&'r str>,
    refuse: Vec<RecordedRefusal<'r>>,
    clear: Vec<&'r str>,
    /// Followed collections that are now excluded, with the epochs of their loads.
    excluded: Vec<(&'r str, i64)>,
    /// Followed collections whose position is lost, and why, where a person decides.
    lost: Vec<(&'r str, i64, String)>,
}

/// A refusal: only a person can help.
#[derive(Debug)]
struct RecordedRefusal<'r> {
    collection: &'r str,
    why: String,
    remedy: Option<&'r str>,
    /// Whether nothing is left to copy: reported when first seen, not as missing each time.
    is_news: bool,
}

impl<'r> StateRecord<'r> {
    fn of(facts: &'r [Facts], due: &'r Due) -> StateRecord<'r> {
        let mut record = StateRecord::default();
        for (facts, due) in facts.iter().zip(&due.all) {
            record.take(facts, due);
        }
        record
    }

    fn take(&mut self, facts: &'r Facts, due: &'r DueCollection) {
        let name = facts.name.as_str();
        match (&due.standing, facts.is_recorded) {
            (Some(_), false) => self.expect.push(name),
            (None, true) => return self.forget.push(name),
            (None, false) => return,
            (Some(_), true) => {}
        }
        let epoch = facts.known.as_ref().and_then(|known| known.live_epoch);
        if let (true, true, Some(epoch)) = (facts.is_excluded, facts.is_followed(), epoch) {
            self.excluded.push((name, epoch));
        }
        if let (DueStep::Stop(cause), true, Some(epoch)) = (&due.step, facts.is_followed(), epoch) {
            self.lost.push((name, epoch, cause.to_string()));
        }
        let obstacle = facts.obstacle.as_ref();
        let refused = |why: &str| obstacle.is_some_and(|was| was.kind == ObstacleKind::Refused && was.reason == why);
        match &due.step {
            DueStep::Refuse { why, remedy } if !refused(why) => {
                let (why, remedy) = (why.clone(), remedy.as_deref());
                self.refuse.push(RecordedRefusal { collection: name, why, remedy, is_news: false });
            }
            DueStep::Follow => match facts.not_copied() {
                Some(why) if !refused(&why) => {
                    self.refuse.push(RecordedRefusal { collection: name, why, remedy: None, is_news: true });
                }
                None if obstacle.is_some_and(|was| was.kind == ObstacleKind::Refused) => self.clear.push(name),
                _ => {}
            },
            _ => {}
        }
    }

    fn is_empty(&self) -> bool {
        let StateRecord { expect, forget, refuse, clear, excluded, lost } = self;
        let is_same = expect.is_empty() && forget.is_empty() && refuse.is_empty() && clear.is_empty();
        is_same && excluded.is_empty() && lost.is_empty()
    }

    async fn write(&self, session: &Session, choice: Choice) -> Result<(), PgError> {
        state::expect(session, &self.expect, Some(choice)).await?;
        state::no_longer_expect(session, &self.forget).await?;
        for RecordedRefusal { collection, why, remedy, .. } in &self.refuse {
            state::set_obstacle(session, collection, ObstacleKind::Refused, why, *remedy).await?;
        }
        for name in &self.clear {
            state::clear_obstacle(session, name).await?;
        }
        for (name, epoch) in &self.excluded {
            state::mark_load_due(session, name, *epoch, WAS_EXCLUDED).await?;
        }
        for (name, epoch, why) in &self.lost {
            state::mark_load_due(session, name, *epoch, why).await?;
        }
        Ok(())
    }
}

/// Records expected and refused collections, in a transaction of its own.
///
/// # Errors
/// Whatever the server says.
pub async fn record(env: &Env, session: &Session, facts: &[Facts], due: &Due) -> Result<(), Failure> {
    let record = StateRecord::of(facts, due);
    if record.is_empty() {
        return Ok(());
    }
    session.in_transaction(record.write(session, due.choice)).await?;
    for RecordedRefusal { collection, why, .. } in record.refuse.iter().filter(|refusal| refusal.is_news) {
        let (collection, why) = ((*collection).to_owned(), why.clone());
        env.notice(&Notice::NotCopied { collection, why });
    }
    Ok(())
}

/// Records failures of collections, as far as the server can be reached; they are printed too. A
/// followed collection stays followed, whatever its load met.
pub async fn record_failures<'f>(session: &Session, failures: impl IntoIterator<Item = (&'f str, &'f Failure)>) {
    let mut failures = failures.into_iter().peekable();
    if failures.peek().is_none() {
        return;
    }
    let followed = match state::read_followed(session).await {
        Ok(followed) => followed,
        Err(error) => return tracing::warn!(%error, "could not record the failures"),
    };
    for (name, failure) in failures.filter(|(name, _)| followed.iter().all(|followed| followed.collection != *name)) {
        let kind = match failure.kind {
            FailureKind::Interrupted | FailureKind::Terminated | FailureKind::Locked => continue,
            FailureKind::Usage if !failure.passes => ObstacleKind::Refused,
            // It concerns a server.
            _ if failure.ends_run => continue,
            _ => ObstacleKind::Failing,
        };
        let remedy = failure.remedy.as_deref();
        if let Err(error) = state::set_obstacle(session, name, kind, &failure.message, remedy).await {
            tracing::warn!(%error, "could not record the failures");
            return;
        }
    }
}

/// Records that there is nothing to infer a schema from, unless known.
pub async fn record_empty(env: &Env, session: &Session, name: &str, known: Option<&Obstacle>) -> Result<(), Failure> {
    if known.is_some_and(|obstacle| obstacle.kind == ObstacleKind::Waiting) {
        return Ok(());
    }
    let why = "it has no documents to infer a schema from";
    state::set_obstacle(session, name, ObstacleKind::Waiting, why, None).await?;
    env.notice(&Notice::Waiting { collection: name.to_owned(), why: why.to_owned() });
    Ok(())
}
