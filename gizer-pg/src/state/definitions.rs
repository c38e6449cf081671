//! What the state tables are: names, columns, and the rights that a load needs on them.

/// A state table: its name, its columns with their types and constraints, and constraints of the whole table.
pub(super) struct StateTable {
    pub(super) name: &'static str,
    /// A column that a later version adds needs a default or must be nullable.
    pub(super) columns: &'static [(&'static str, &'static str)],
    pub(super) constraint: Option<&'static str>,
    pub(super) comment: &'static str,
    /// The rights that a load needs on it.
    pub(super) rights: &'static [&'static str],
    /// Whether the status does without it: the first versions have not made it, nor were rights given on it.
    pub(super) optional: bool,
}

/// What it takes to read the state.
pub(super) const READING: &[&str] = &["SELECT"];

/// What it takes to keep the state of runs, collections and the stream.
const KEEPING: &[&str] = &["SELECT", "INSERT", "UPDATE"];

/// What it takes to keep rejected documents, the ranges of loads and what is to be repaired, and to clear them away.
const REPLACING: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];

pub(super) const RUNS: &str = "qmetlstatus";
pub(super) const COLLECTIONS: &str = "gizer_collection";
pub(super) const STREAM: &str = "gizer_stream";
pub(super) const REJECTS: &str = "gizer_reject";
pub(super) const RANGES: &str = "gizer_range";
pub(super) const REPAIRS: &str = "gizer_repair";
pub(super) const RESYNC: &str = "gizer_resync";
pub(super) const HISTORY: &str = "gizer_history";
pub(super) const SCHEMA_HISTORY: &str = "gizer_schema_history";

pub(super) const UNFIT: &str = "gizer_unfit";
pub(super) const EXPECTED: &str = "gizer_expected";
pub(super) const AUDITS: &str = "gizer_audit";
pub(super) const AUDIT_SEGMENTS: &str = "gizer_audit_segment";

pub(super) const TABLES: [StateTable; 13] = [
    StateTable {
        name: RUNS,
        // The first nine are the classic tool's, in its order; monitors read them.
        columns: &[
            ("comment", "TEXT"),
            ("time_start", "TIMESTAMP"),
            ("time_end", "TIMESTAMP"),
            ("recs_count", "INT"),
            ("queries_count", "INT"),
            ("ts", "TEXT"),
            ("status", "INT"),
            ("attempt", "INT"),
            ("error", "BOOLEAN"),
            ("reason", "TEXT"),
            ("run", "BIGINT"),
        ],
        constraint: None,
        comment: "gizer state: one row a run",
        rights: KEEPING,
        optional: false,
    },
    StateTable {
        name: COLLECTIONS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("namespace", "TEXT"),
            ("collection_uuid", "UUID"),
            ("state", "TEXT NOT NULL CHECK (state IN ('loading', 'following', 'load due', 'copy'))"),
            ("live", "BOOLEAN NOT NULL DEFAULT false"),
            ("tables", "TEXT[] NOT NULL DEFAULT '{}'"),
            ("layout_hash", "TEXT"),
            ("captured", "JSONB"),
            ("exact_at", "JSONB"),
            ("uuids", "JSONB"),
            ("read_until", "TEXT"),
            ("joined", "BOOLEAN NOT NULL DEFAULT false"),
            ("passed_over", "TEXT"),
            ("loaded_at", "TIMESTAMPTZ"),
            ("ledger", "JSONB"),
            ("rejected", "BIGINT NOT NULL DEFAULT 0"),
            ("load_epoch", "BIGINT NOT NULL DEFAULT 0"),
            ("load_started", "TIMESTAMPTZ"),
            ("load_captured", "JSONB"),
            ("load_identity", "TEXT"),
            // Of a load that is a resync.
            ("load_kind", "TEXT"),
            ("live_epoch", "BIGINT"),
            ("as_left", "JSONB"),
            // When it was last looked at which of its fields could get columns.
            ("looked_at", "TIMESTAMPTZ"),
            ("reason", "TEXT"),
        ],
        constraint: Some("PRIMARY KEY (collection)"),
        comment: "gizer state: one row a collection",
        rights: KEEPING,
        optional: false,
    },
    StateTable {
        name: STREAM,
        columns: &[
            // There is one row, whose key is true.
            ("singleton", "BOOLEAN NOT NULL DEFAULT true CHECK (singleton)"),
            ("position", "JSONB NOT NULL DEFAULT '{}'"),
            ("epoch", "BIGINT NOT NULL DEFAULT 0"),
            ("applied", "BOOLEAN NOT NULL DEFAULT false"),
            ("exact_at", "JSONB"),
            ("ahead", "TEXT"),
            ("updated_at", "TIMESTAMPTZ"),
            ("verified", "JSONB"),
        ],
        constraint: Some("PRIMARY KEY (singleton)"),
        comment: "gizer state: how far changes have been applied",
        rights: KEEPING,
        optional: false,
    },
    StateTable {
        name: REJECTS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("id", "TEXT"),
            ("reason", "TEXT"),
            ("document", "BYTEA"),
            ("load_epoch", "BIGINT NOT NULL"),
            ("at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
            // Of those that have a key: PostgreSQL has refused their rows, and they are tried again.
            ("key", "BYTEA"),
            ("lookup", "BYTEA"),
            ("sqlstate", "TEXT"),
            ("attempts", "INT NOT NULL DEFAULT 0"),
            ("tried_at", "TIMESTAMPTZ"),
            ("next_try", "TIMESTAMPTZ"),
            // Of those whose _id does not fit the key's column.
            ("unfit_key", "BOOLEAN"),
        ],
        constraint: None,
        comment: "gizer state: documents that could not be loaded",
        rights: REPLACING,
        optional: false,
    },
    StateTable {
        name: RANGES,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("load_epoch", "BIGINT NOT NULL"),
            ("kind", "TEXT NOT NULL CHECK (kind IN ('segment', 'range', 'before'))"),
            ("segment", "INT NOT NULL"),
            ("source", "INT"),
            ("sequence", "INT"),
            ("part", "INT"),
            ("lower", "BYTEA"),
            ("upper", "BYTEA"),
            ("documents", "BIGINT"),
            ("rows", "BIGINT[]"),
            ("bytes", "BIGINT"),
            // JSON, but with \u0000, which jsonb refuses.
            ("tally", "TEXT"),
        ],
        constraint: None,
        comment: "gizer state: what a load under way has written",
        rights: REPLACING,
        optional: false,
    },
    StateTable {
        name: REPAIRS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            // In the binary form of the column of root keys.
            ("key", "BYTEA NOT NULL"),
            ("id", "BYTEA"),
            ("reason", "TEXT NOT NULL"),
            ("at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
        ],
        constraint: Some("PRIMARY KEY (collection, key)"),
        comment: "gizer state: documents whose rows are to be made equal by the next batch",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: RESYNC,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("load_epoch", "BIGINT NOT NULL"),
            ("segment", "INT NOT NULL"),
            ("after", "BYTEA"),
            ("after_key", "BYTEA"),
            ("upto", "BYTEA"),
            ("upto_key", "BYTEA"),
            ("done", "BOOLEAN NOT NULL"),
            ("documents", "BIGINT NOT NULL DEFAULT 0"),
            ("rows", "BIGINT NOT NULL DEFAULT 0"),
            ("differed", "BIGINT NOT NULL DEFAULT 0"),
            // JSON, but with \u0000, which jsonb refuses.
            ("report", "TEXT NOT NULL"),
        ],
        constraint: Some("PRIMARY KEY (collection, segment)"),
        comment: "gizer state: how far a resync has come",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: HISTORY,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("event", "TEXT NOT NULL CHECK (event IN ('repair', 'reload'))"),
            ("reason", "TEXT NOT NULL"),
            ("count", "BIGINT NOT NULL DEFAULT 0"),
            ("first_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
            ("last_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
        ],
        constraint: Some("PRIMARY KEY (collection, event, reason)"),
        comment: "gizer state: how often documents were repaired and collections loaded anew, and why",
        rights: KEEPING,
        optional: true,
    },
    StateTable {
        name: SCHEMA_HISTORY,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("version", "BIGINT NOT NULL"),
            ("began_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
            ("finished_at", "TIMESTAMPTZ"),
            // Why it could not be done; the tables have no column of it.
            ("failed", "TEXT"),
            ("layout_before", "TEXT NOT NULL"),
            ("layout_after", "TEXT NOT NULL"),
            // The schema files before and after it, and what is new: JSON, but with \u0000, which jsonb refuses.
            ("schema_before", "TEXT NOT NULL"),
            ("schema", "TEXT NOT NULL"),
            ("changes", "TEXT NOT NULL"),
            // While rows are rewritten: the table that they are looked for in, and the last key that is done.
            ("in_table", "TEXT"),
            ("upto", "BYTEA"),
            ("documents", "BIGINT NOT NULL DEFAULT 0"),
            ("rows", "BIGINT NOT NULL DEFAULT 0"),
            // Whether numbers may be shown otherwise than in MongoDB, until an audit has repaired
            // that.
            ("to_verify", "BOOLEAN"),
        ],
        constraint: Some("PRIMARY KEY (collection, version)"),
        comment: "gizer state: how the schemas of collections have grown",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: EXPECTED,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("obstacle", "TEXT CHECK (obstacle IN ('waiting', 'failing', 'refused', 'paused'))"),
            ("reason", "TEXT"),
            ("remedy", "TEXT"),
            ("since", "TIMESTAMPTZ"),
            ("attempts", "INT NOT NULL DEFAULT 0"),
            ("next_try", "TIMESTAMPTZ"),
            ("chosen_by", "TEXT CHECK (chosen_by IN ('database', 'files'))"),
            // Of the schema file that `run` has made.
            ("inferred_hash", "TEXT"),
        ],
        constraint: Some("PRIMARY KEY (collection)"),
        comment: "gizer state: the collections that should be copied, and what keeps any of them from it",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: UNFIT,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            // Both are empty for all that has no row of its own.
            ("path", "TEXT NOT NULL"),
            ("came", "TEXT NOT NULL"),
            // NULL if the schema does not have the field.
            ("expected", "TEXT"),
            ("count", "BIGINT NOT NULL DEFAULT 0"),
            ("documents", "BIGINT NOT NULL DEFAULT 0"),
            ("first_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
            ("last_at", "TIMESTAMPTZ NOT NULL DEFAULT pg_catalog.now()"),
        ],
        constraint: Some("PRIMARY KEY (collection, path, came)"),
        comment: "gizer state: values that came since a collection was loaded and that its schema has no place for",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: AUDITS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("audit", "BIGINT NOT NULL"),
            ("live_epoch", "BIGINT NOT NULL"),
            ("kind", "TEXT NOT NULL CHECK (kind IN ('full', 'sample'))"),
            ("identity", "TEXT NOT NULL"),
            ("started_at", "TIMESTAMPTZ NOT NULL"),
            ("finished_at", "TIMESTAMPTZ"),
            ("outcome", "TEXT"),
            ("report", "JSONB"),
        ],
        constraint: Some("PRIMARY KEY (collection, audit)"),
        comment: "gizer state: one row an audit of a collection",
        rights: REPLACING,
        optional: true,
    },
    StateTable {
        name: AUDIT_SEGMENTS,
        columns: &[
            ("collection", "TEXT NOT NULL"),
            ("audit", "BIGINT NOT NULL"),
            ("segment", "INT NOT NULL"),
            ("after", "BYTEA"),
            ("after_key", "BYTEA"),
            ("upto", "BYTEA"),
            ("upto_key", "BYTEA"),
            ("done", "BOOLEAN NOT NULL"),
            ("report", "JSONB NOT NULL"),
        ],
        constraint: Some("PRIMARY KEY (collection, audit, segment)"),
        comment: "gizer state: how far an audit under way has come",
        rights: REPLACING,
        optional: true,
    },
];
