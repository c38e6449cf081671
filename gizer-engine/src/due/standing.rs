//! Standings of expected collections, as all commands and metrics show them.

use gizer_pg::state::{CollectionState, CollectionStatus, Obstacle, ObstacleKind, ResyncProgress, Status};
use strum::{Display, IntoStaticStr};

use super::decide::{Cause, DueStep, Facts, Presence, SchemaFile};
use crate::env::Env;
use crate::failure::Failure;
use crate::wording::{command, counted, resync_or_load, thousands};

/// Kinds of standings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum StandingKind {
    /// Its changes are applied.
    Followed,
    /// Its first load is running.
    Loading,
    /// It must be reloaded.
    #[strum(serialize = "load due")]
    LoadDue,
    /// Its tables are being made equal in place, or were, and that is not finished.
    Resyncing,
    /// It waits for a schema.
    Waiting,
    /// It failed and is retried automatically.
    Failing,
    /// Only a person can help.
    Refused,
    /// A person has paused it.
    Paused,
    /// `[schemas] include` and `exclude` leave it out.
    Excluded,
    /// It was loaded as a copy, which is not kept up to date.
    Copy,
}

impl StandingKind {
    /// All kinds.
    pub const ALL: [StandingKind; 10] = [
        StandingKind::Followed,
        StandingKind::Loading,
        StandingKind::LoadDue,
        StandingKind::Resyncing,
        StandingKind::Waiting,
        StandingKind::Failing,
        StandingKind::Refused,
        StandingKind::Paused,
        StandingKind::Excluded,
        StandingKind::Copy,
    ];

    /// The name, for people and machines.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Standing of an expected collection, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStanding {
    /// The kind.
    pub kind: StandingKind,
    /// The reason, if known.
    pub reason: Option<String>,
    /// What a person can do.
    pub remedy: Option<String>,
    /// Since when, ISO 8601 in UTC, if known.
    pub since: Option<String>,
    /// Time of the next try, ISO 8601 in UTC; `None` if there is none.
    pub next_try: Option<String>,
    /// Whether something expected is not copied.
    pub is_missing: bool,
}

/// What the state tables record of a collection.
pub(super) struct RecordedState<'r> {
    pub(super) known: Option<&'r CollectionStatus>,
    pub(super) obstacle: Option<&'r Obstacle>,
    pub(super) is_excluded: bool,
    pub(super) has_schema: bool,
}

impl CopyStanding {
    fn new(kind: StandingKind, reason: Option<String>) -> CopyStanding {
        let is_missing = !matches!(kind, StandingKind::Followed | StandingKind::Copy | StandingKind::Excluded);
        CopyStanding { kind, reason, remedy: None, since: None, next_try: None, is_missing }
    }

    /// Its tables catch up in place.
    fn resyncing(known: &CollectionStatus, progress: ResyncProgress, obstacle: Option<&Obstacle>) -> CopyStanding {
        let ResyncProgress { documents, differed, .. } = progress;
        let so_far =
            format!("{} compared, {} differed", counted(documents, "document", "documents"), thousands(differed));
        let (name, why) = (&known.collection, obstacle.map(|obstacle| format!(": {}", obstacle.reason)));
        let (reason, remedy) = match known.loading_now {
            true => (format!("catching up: {so_far}"), None),
            false => (
                format!("interrupted after {so_far}{}", why.unwrap_or_default()),
                Some(format!("`{}` resumes it", command("resync", [name], &[]))),
            ),
        };
        CopyStanding { remedy, ..CopyStanding::new(StandingKind::Resyncing, Some(reason)) }
    }

    fn of_obstacle(obstacle: &Obstacle, is_missing: bool) -> CopyStanding {
        let kind = match obstacle.kind {
            ObstacleKind::Waiting => StandingKind::Waiting,
            ObstacleKind::Failing => StandingKind::Failing,
            ObstacleKind::Refused => StandingKind::Refused,
            ObstacleKind::Paused => StandingKind::Paused,
        };
        let Obstacle { reason, remedy, since, next_try, .. } = obstacle.clone();
        let since = (!since.is_empty()).then_some(since);
        let reason = (!reason.is_empty()).then_some(reason);
        CopyStanding { kind, reason, remedy, since, next_try, is_missing }
    }

    /// The standing by the state tables alone.
    pub(super) fn recorded(recorded: &RecordedState<'_>) -> CopyStanding {
        let RecordedState { known, obstacle, is_excluded, has_schema } = *recorded;
        if is_excluded {
            return CopyStanding::new(StandingKind::Excluded, Some("[schemas] include or exclude".to_owned()));
        }
        if let Some((known, progress)) = known.and_then(|known| Some((known, known.resync?))) {
            return CopyStanding::resyncing(known, progress, obstacle);
        }
        let is_followed = known.is_some_and(|known| known.live && known.state == CollectionState::Following);
        if known.is_some_and(|known| known.loading_now) && !is_followed {
            return CopyStanding::new(StandingKind::Loading, None);
        }
        if let Some(obstacle) = obstacle {
            // An empty collection misses nothing.
            let is_empty =
                obstacle.kind == ObstacleKind::Waiting || (is_followed && known.is_some_and(|k| !k.in_source));
            return CopyStanding::of_obstacle(obstacle, !is_empty);
        }
        let load_due = |reason: &str| CopyStanding::new(StandingKind::LoadDue, Some(reason.to_owned()));
        let Some(known) = known else {
            return match has_schema {
                true => load_due("never loaded"),
                false => CopyStanding::new(StandingKind::Waiting, Some("it has no schema file yet".to_owned())),
            };
        };
        match known.state {
            CollectionState::Following if known.live => CopyStanding::new(StandingKind::Followed, None),
            CollectionState::Copy => CopyStanding::new(StandingKind::Copy, known.reason.clone()),
            CollectionState::LoadDue => {
                let reason = known.reason.as_deref().unwrap_or("only a load helps");
                let remedy = known.live.then(|| resync_or_load(&known.collection));
                CopyStanding { remedy, ..load_due(reason) }
            }
            CollectionState::Loading => load_due("its first load was interrupted"),
            CollectionState::Following => load_due("never loaded"),
        }
    }

    pub(super) fn of(facts: &Facts, step: &DueStep) -> CopyStanding {
        let recorded = CopyStanding::recorded(&RecordedState {
            known: facts.known.as_ref(),
            obstacle: facts.obstacle.as_ref(),
            is_excluded: facts.is_excluded,
            has_schema: facts.schema != SchemaFile::Missing,
        });
        match (step, facts.source) {
            (DueStep::Refuse { why, remedy }, _) => {
                let since = recorded.since.filter(|_| recorded.kind == StandingKind::Refused);
                let remedy = remedy.clone();
                CopyStanding { remedy, since, ..CopyStanding::new(StandingKind::Refused, Some(why.clone())) }
            }
            _ if recorded.kind == StandingKind::Resyncing => recorded,
            (DueStep::Load(Cause::Asked), _) => recorded,
            (DueStep::Resync { cause, .. } | DueStep::Stop(cause), _) if facts.obstacle.is_none() => {
                let remedy = Some(resync_or_load(&facts.name)).filter(|_| matches!(step, DueStep::Stop(_)));
                CopyStanding { remedy, ..CopyStanding::new(StandingKind::LoadDue, Some(cause.to_string())) }
            }
            (DueStep::Load(cause), _) if facts.obstacle.is_none() && recorded.kind != StandingKind::Loading => {
                CopyStanding::new(StandingKind::LoadDue, Some(cause.to_string()))
            }
            (DueStep::Follow, Presence::Skipped(_)) => {
                let since = recorded.since;
                let reason = facts.not_copied();
                CopyStanding { since, is_missing: false, ..CopyStanding::new(StandingKind::Refused, reason) }
            }
            _ => recorded,
        }
    }

    /// `failing since 2026-11-29T08:00:00Z: the reason; next try 2026-11-29T08:00:30Z`.
    pub fn line(&self) -> String {
        let since = self.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let next_try = self.next_try.as_ref().map(|at| format!("; next try {at}")).unwrap_or_default();
        format!("{}{since}{reason}{next_try}", self.kind)
    }
}

/// Standings of all expected collections, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyStandings(pub Vec<(String, CopyStanding)>);

impl CopyStandings {
    /// The standings by the state tables, without asking MongoDB.
    ///
    /// # Errors
    /// [`Failure`] if the folder of schema files cannot be read.
    pub fn recorded(env: &Env, status: &Status) -> Result<CopyStandings, Failure> {
        let files = env.schema_files()?;
        let known = status.collections.iter().map(|known| known.collection.as_str());
        let mut names: Vec<&str> = status.expected.iter().map(|each| each.collection.as_str()).chain(known).collect();
        names.sort_unstable();
        names.dedup();
        let standing = |name: &str| {
            let known = status.collections.iter().find(|known| known.collection == name);
            let expected = status.expected.iter().find(|each| each.collection == name);
            let has_schema = files.existing(name).is_some();
            // A failed load whose schema file is gone is no longer wanted.
            if expected.is_none() && !has_schema && !known.is_some_and(|known| known.live) {
                return None;
            }
            let obstacle = expected.and_then(|expected| expected.obstacle.as_ref());
            let is_excluded = env.settings.selection.excludes(name);
            let recorded = RecordedState { known, obstacle, is_excluded, has_schema };
            Some((name.to_owned(), CopyStanding::recorded(&recorded)))
        };
        Ok(CopyStandings(names.into_iter().filter_map(standing).collect()))
    }

    /// Collections that should be copied and are not.
    pub fn missing(&self) -> impl Iterator<Item = &(String, CopyStanding)> {
        self.0.iter().filter(|(_, standing)| standing.is_missing)
    }

    /// Whether everything expected is copied.
    pub fn are_complete(&self) -> bool {
        self.missing().next().is_none()
    }
}
