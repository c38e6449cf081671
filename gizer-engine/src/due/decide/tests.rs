//! What is due, from facts of each kind.

use super::super::standing::StandingKind;
use super::*;

const EVERY: Policy = Policy {
    infer: InferPolicy::NoneYet,
    load_only: false,
    choice: None,
    tries: Tries::All,
    lost_position: LostPosition::Auto,
};

fn known() -> CollectionStatus {
    CollectionStatus {
        collection: "orders".to_owned(),
        namespace: None,
        state: CollectionState::Following,
        live: true,
        reason: None,
        tables: Vec::new(),
        captured: None,
        exact_at: None,
        loaded_at: None,
        load_started: None,
        loading_now: false,
        ledger: None,
        rejected: 0,
        live_epoch: None,
        layout_hash: Some("h".to_owned()),
        in_source: true,
        audits: Default::default(),
        resync: None,
    }
}

fn followed() -> Facts {
    Facts {
        name: "orders".to_owned(),
        schema: SchemaFile::Usable { hash: "h".to_owned(), has_underscore_id: true },
        source: Presence::There,
        known: Some(known()),
        rolled_over: None,
        position_lost: false,
        lost: None,
        estimate: None,
        tables_changed: None,
        is_recorded: true,
        obstacle: None,
        is_excluded: false,
        key: KeyFit::Open,
    }
}

fn with(change: impl Fn(&mut CollectionStatus)) -> Facts {
    let mut facts = followed();
    change(facts.known.as_mut().unwrap());
    facts
}

fn decided(facts: Facts, policy: Policy) -> DueStep {
    Due::of(&[facts], policy).all.remove(0).step
}

#[test]
fn what_stands_well_is_followed() {
    assert_eq!(decided(followed(), EVERY), DueStep::Follow);
    let dropped = Facts { source: Presence::Absent, ..followed() };
    assert_eq!(decided(dropped, EVERY), DueStep::Follow);
}

#[test]
fn what_is_gone_is_loaded_as_empty_only_within_the_history_that_was_followed() {
    let due = with(|known| known.state = CollectionState::LoadDue);
    let gone = Facts { source: Presence::Absent, ..due };
    assert!(matches!(decided(gone.clone(), EVERY), DueStep::Load(Cause::Due(_))));
    let another_history = [
        Facts { rolled_over: Some("rs0".to_owned()), ..gone.clone() },
        Facts { position_lost: true, ..gone.clone() },
        Facts { known: gone.known.clone().map(|known| CollectionStatus { live: false, ..known }), ..gone },
    ];
    for facts in another_history {
        assert!(matches!(decided(facts.clone(), EVERY), DueStep::Refuse { .. }), "{facts:?}");
    }
}

#[test]
fn each_reason_for_a_load_is_told() {
    let loads = [
        (Facts { known: None, ..followed() }, Cause::Never),
        (with(|known| known.layout_hash = Some("other".to_owned())), Cause::SchemaChanged),
        (Facts { rolled_over: Some("rs0".to_owned()), ..followed() }, Cause::RolledOver("rs0".to_owned())),
        (
            with(|known| {
                (known.state, known.reason) = (CollectionState::LoadDue, Some("it was replaced".to_owned()));
            }),
            Cause::Due("it was replaced".to_owned()),
        ),
        (
            with(|known| {
                (known.state, known.live) = (CollectionState::Loading, false);
                known.load_started = Some("then".to_owned());
            }),
            Cause::Unfinished,
        ),
        (
            with(|known| {
                (known.state, known.live) = (CollectionState::LoadDue, false);
            }),
            Cause::Due("a load is due".to_owned()),
        ),
    ];
    for (facts, cause) in loads {
        assert_eq!(decided(facts, EVERY), DueStep::Load(cause));
    }
}

#[test]
fn schema_files_are_made_as_far_as_that_is_allowed() {
    let new = Facts { schema: SchemaFile::Missing, known: None, ..followed() };
    let policy = |infer| Policy { infer, ..EVERY };
    assert_eq!(decided(new.clone(), policy(InferPolicy::NoneYet)), DueStep::Infer);
    assert!(matches!(decided(new.clone(), policy(InferPolicy::Never)), DueStep::Leave { .. }));
    // Beside others that have one.
    let both = |infer| Due::of(&[followed(), new.clone()], policy(infer)).all.remove(1).step;
    assert!(matches!(both(InferPolicy::NoneYet), DueStep::Leave { .. }));
    assert_eq!(both(InferPolicy::Missing), DueStep::Infer);
    let view = Facts { source: Presence::Skipped(SkipReason::View), ..new };
    assert_eq!(decided(view, policy(InferPolicy::Missing)), DueStep::Leave { why: "a view".to_owned() });
}

#[test]
fn a_key_that_does_not_fit_is_widened_before_anything_else() {
    let unfit = Facts { key: KeyFit::Unfit, ..followed() };
    assert_eq!(decided(unfit.clone(), EVERY), DueStep::WidenKey);
    assert_eq!(decided(unfit.clone(), Policy { infer: InferPolicy::Never, ..EVERY }), DueStep::Follow);
    assert_eq!(decided(Facts { source: Presence::Absent, ..unfit.clone() }, EVERY), DueStep::Follow);
    // A load that has failed for it is not to be waited for.
    let failing = Obstacle {
        kind: ObstacleKind::Failing,
        reason: "2 documents were rejected".to_owned(),
        remedy: None,
        since: String::new(),
        attempts: 1,
        next_try: Some("later".to_owned()),
        is_due: false,
    };
    let failing = Facts { known: None, obstacle: Some(failing), ..unfit };
    assert_eq!(decided(failing, Policy { tries: Tries::Due, ..EVERY }), DueStep::WidenKey);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let refused = [
        Facts { schema: SchemaFile::Unusable { why: "no key".to_owned(), remedy: None }, ..followed() },
        Facts { schema: SchemaFile::Missing, ..followed() },
        Facts { source: Presence::Absent, known: None, ..followed() },
        Facts { source: Presence::Skipped(SkipReason::View), known: None, ..followed() },
        Facts { source: Presence::Absent, rolled_over: Some("rs0".to_owned()), ..followed() },
    ];
    for facts in refused {
        assert!(matches!(decided(facts.clone(), EVERY), DueStep::Refuse { .. }), "{facts:?}");
    }
}

#[test]
fn copies_and_loads_under_way_are_left_alone() {
    let copy = with(|known| {
        (known.state, known.reason) = (CollectionState::Copy, Some("it was loaded with --filter".to_owned()));
    });
    let busy = with(|known| known.loading_now = true);
    for (facts, word) in [(copy, "--filter"), (busy, "another run")] {
        for load_only in [false, true] {
            let step = decided(facts.clone(), Policy { load_only, ..EVERY });
            assert!(matches!(&step, DueStep::Leave { why } if why.contains(word)), "{step:?}");
        }
    }
}

#[test]
fn load_only_loads_everything_that_is_there() {
    let policy = Policy { load_only: true, ..EVERY };
    assert_eq!(decided(followed(), policy), DueStep::Load(Cause::Asked));
    let copy = with(|known| known.state = CollectionState::Copy);
    let without_id = SchemaFile::Usable { hash: "h".to_owned(), has_underscore_id: false };
    assert_eq!(decided(Facts { schema: without_id, ..copy }, policy), DueStep::Load(Cause::Asked));
    let dropped = Facts { source: Presence::Absent, ..followed() };
    assert!(matches!(decided(dropped, policy), DueStep::Leave { .. }));
}

/// A sample of which so many documents differ.
fn estimate(differing: u64) -> Option<ResyncEstimate> {
    Some(ResyncEstimate { sampled: 500, differing, ..ResyncEstimate::default() })
}

#[test]
fn a_lost_position_is_recovered_by_what_takes_less() {
    let rolled_over = Facts { rolled_over: Some("rs0".to_owned()), estimate: estimate(5), ..followed() };
    assert!(rolled_over.can_be_resynced());
    let cause = Cause::RolledOver("rs0".to_owned());
    let why = "5 of 500 sampled documents differ".to_owned();
    assert_eq!(decided(rolled_over.clone(), EVERY), DueStep::Resync { cause: cause.clone(), why });
    let many = Facts { estimate: estimate(500), ..rolled_over.clone() };
    assert_eq!(decided(many, EVERY), DueStep::Load(cause.clone()));
    for (lost_position, step) in
        [(LostPosition::Load, DueStep::Load(cause.clone())), (LostPosition::Stop, DueStep::Stop(cause.clone()))]
    {
        assert_eq!(decided(rolled_over.clone(), Policy { lost_position, ..EVERY }), step);
    }
    let resync = Policy { lost_position: LostPosition::Resync, ..EVERY };
    assert!(matches!(decided(Facts { estimate: None, ..rolled_over }, resync), DueStep::Resync { .. }));
}

#[test]
fn what_only_following_finds_out_is_a_lost_position_too() {
    let diverged = Facts { lost: Some("the oplog has diverged".to_owned()), estimate: estimate(0), ..followed() };
    assert!(matches!(decided(diverged.clone(), EVERY), DueStep::Resync { cause: Cause::Lost(_), .. }));
    // It may be another server: what is gone there stays here.
    assert!(!Facts { source: Presence::Absent, ..diverged }.may_be_emptied());
}

#[test]
fn only_tables_of_this_schema_are_resynced() {
    let other = Facts { rolled_over: Some("rs0".to_owned()), ..with(|known| known.layout_hash = Some("o".to_owned())) };
    let never = Facts { known: None, ..followed() };
    let changed = Facts { tables_changed: Some("column n is missing".to_owned()), ..followed() };
    let not_live = with(|known| (known.state, known.live) = (CollectionState::LoadDue, false));
    let resync = Policy { lost_position: LostPosition::Resync, ..EVERY };
    let due = with(|known| known.state = CollectionState::LoadDue);
    assert!(due.can_be_resynced());
    let due_and_changed = Facts { tables_changed: changed.tables_changed.clone(), ..due };
    for facts in [other, never, changed, not_live, due_and_changed] {
        assert!(!facts.can_be_resynced(), "{facts:?}");
        assert!(matches!(decided(facts.clone(), resync), DueStep::Load(_)), "{facts:?}");
    }
    assert!(!followed().can_be_resynced());
}

#[test]
fn an_interrupted_resync_is_resumed() {
    let begun = with(|known| {
        (known.state, known.reason) = (CollectionState::LoadDue, Some("a resync has begun".to_owned()));
        known.resync = Some(Default::default());
    });
    let begun = Facts { estimate: estimate(500), ..begun };
    let Due { all, .. } = Due::of(std::slice::from_ref(&begun), EVERY);
    assert!(matches!(all[0].step, DueStep::Resync { .. }), "{all:?}");
    assert_eq!(all[0].standing.as_ref().unwrap().kind, StandingKind::Resyncing);
}
