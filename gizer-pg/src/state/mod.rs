//! What gizer remembers, in tables of the target schema.
//!
//! | table | one row a | for |
//! |---|---|---|
//! | `qmetlstatus` | run | monitors of the classic tool: its columns and values, and ours behind them |
//! | `gizer_collection` | collection | what is loaded, from which positions, in which tables; the fence of loads |
//! | `gizer_stream` | (one row) | how far changes have been applied; the fence of following |
//! | `gizer_reject` | rejected document | nothing is lost in silence |
//! | `gizer_range` | range of a running load | an interrupted load resumes |
//! | `gizer_resync` | segment of a running resync | an interrupted resync resumes |
//! | `gizer_audit` | audit of a collection | what was found, and when |
//! | `gizer_audit_segment` | segment of a running audit | an interrupted audit resumes |
//! | `gizer_repair` | document that differs | whoever follows makes its rows equal |
//! | `gizer_expected` | collection that should be copied | what is missing is never forgotten |
//! | `gizer_unfit` | collection, path and type | what came since its load that its schema has no place for |
//! | `gizer_schema_history` | version of a collection's schema | how it has grown, and how far rows are rewritten |
//! | `gizer_history` | collection, event and reason | how often rows were repaired and collections reloaded |
//!
//! Rows and state are always written in one transaction. Two kinds of guard keep runs apart: advisory locks are for
//! politeness (a second run is told who holds the lock), and end with the connection that took them; epochs are for
//! safety: whoever takes over counts the epoch up, and a write under an older epoch finds no row and is rolled back
//! ([`PgError::Fenced`](crate::PgError::Fenced)).

mod audit;
mod classic;
mod collection;
mod definitions;
mod due;
mod expected;
mod followed;
mod history;
pub(crate) mod lock;
mod moment;
mod positions;
mod range;
mod refused;
mod reject;
mod repair;
mod resync;
mod run;
mod schema_history;
mod status;
mod stream;
mod tables;
mod unfit;

pub use audit::{
    AuditId, AuditSegment, AuditSubject, Audits, FinishedAudit, UnfinishedAudit, begin_audit, finish_audit, hold_audit,
    save_audit_segment, unfinished_audit,
};
pub use classic::{LoadNeed, finish_asked, load_needed, start_asked};
pub use collection::{CollectionState, Ledger, Standing, check_load, hold_tables, release_tables};
pub(crate) use collection::{
    Descriptions, LoadRow, Loaded, begin_load, claim_swap, fail_load, finish_load, keep_from_loading, loaded_as,
    name_of_another, release_load, remember_tables, resume_load, tables_as_left, tables_of, without_load,
};
pub use due::hold_due;
pub use expected::{
    Choice, Expected, Obstacle, ObstacleKind, choice, clear_obstacle, expect, expected, no_longer_expect,
    read_expected, record_inferred, resume, set_obstacle,
};
pub use followed::{
    Followed, FollowedNow, followed, followed_now, leave_stream, mark_load_due, read_followed, read_followed_now,
    set_passed_over, set_remark, set_uuids, try_failing_now,
};
pub use history::{HistoryEvent, HistoryRow, count_event};
pub use moment::{Moment, is_followed_now, moment};
pub use positions::{ShardPositions, classic_ts};
pub(crate) use positions::{parse as positions_from_json, to_json as positions_to_json};
pub(crate) use range::{RangeRow, clear_ranges, take_up, unfinished, write_range, write_segments};
pub use range::{Resumed, UnfinishedLoad, has_unfinished_loads, needed_from};
pub use refused::{
    Refused, SettledRejects, collections_with_rejects, due_rejects, refused_documents, server_time, settle_rejects,
    try_rejects_now,
};
pub use reject::{
    RejectReasons, collections_with_unfit_keys, count_unfit_keys, documents_with_unfit_keys, forget_rejected,
    keep_rejected, read_reject_reasons, rejected_among,
};
pub(crate) use reject::{clear_rejects, replace_unfit_keys, write_rejects};
pub(crate) use repair::rekey;
pub use repair::{
    RepairKey, clear_repairs, forget_repairs, keys_waiting, queue_repairs, repairs_waiting, take_repairs,
};
pub use resync::{RESYNC_BEGUN, ResyncCounts, ResyncProgress, ResyncSegment, UnfinishedResync, save_resync};
pub(crate) use resync::{
    begin_resync, clear_resync, finish_resync, hold_load, plan_resync, resume_resync, unfinished_resync,
};
pub use run::{CLASSIC_RUN_LIFETIME, Run, RunKind, RunOutcome};
pub use schema_history::{
    NewVersion, SchemaVersion, UnfinishedVersion, begin_to_give_up, collections_to_look_at, collections_to_verify,
    has_failed, note_looked, note_rewritten, note_verified, schema_versions, unfinished_version,
};
pub(crate) use schema_history::{begin_version, claim_version, fail_version, finish_version, forget_unfinished};
pub use status::{CollectionStatus, RunRow, Status, TableRows, read_status};
pub(crate) use stream::settle_position;
pub use stream::{Checkpoint, POSITION_LOST, StreamFence, checkpoint, take_fence};
pub use tables::prepare;
pub(crate) use tables::{is_own_name, require_rights};
pub use unfit::{MAX_UNFIT_PATHS, UnfitCount, UnfitRow, clear_unfit, count_unfit, read_unfit};
