//! The one error type of this crate.
//!
//! Messages name the server (`host:port/database`, never a URI or a password), the schema and the table, and carry what
//! the server said: its SQLSTATE, message and hint. The server's `DETAIL` and `CONTEXT` quote data ("Key (id)=(…)
//! already exists"), so they are dropped: what documents hold reaches neither errors nor logs.

mod remedies;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gizer_schema::names::{MAX_IDENTIFIER_BYTES, shortened};
use thiserror::Error;

use self::remedies::{fixed, shown};
use crate::connect::TlsFault;
use crate::sqlstate;

/// Which server and database; prints as `host:port/database`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Hosts and ports as the URI names them, joined by commas: `db1:5432,db2:5432`.
    pub hosts: String,
    /// Name of the database.
    pub database: String,
    /// The role that logs in.
    pub user: String,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hosts, self.database)
    }
}

/// What the server said, without the parts that quote data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Five characters (PostgreSQL documentation, "PostgreSQL Error Codes").
    pub sqlstate: String,
    /// Its primary message.
    pub message: String,
    /// Its hint, if it gave one.
    pub hint: Option<String>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)?;
        match &self.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// What kind of end an error is, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It failed; trying again may or may not help. Exit code 1.
    Failed,
    /// Something about the configuration must change first: the URI, the schema's name. Exit code 2.
    Config,
    /// Another run holds the lock, or has taken over. Exit code 5.
    HeldByAnotherRun,
    /// The statement was cancelled by gizer itself, as after Ctrl-C. Exit code 130.
    Interrupted,
}

/// Whose trouble an error of a statement on a collection's tables is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// That of the document whose rows were written: the same rows will be refused again, others will not.
    Document,
    /// That of the collection: its tables are not as they should be, or may not be used.
    Collection,
    /// That of the run: the connection, the server, or another run.
    Run,
}

/// Whatever can go wrong between gizer and PostgreSQL.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are what their names say, and each message shows them
pub enum PgError {
    /// The URI cannot be used.
    #[error("unusable PostgreSQL uri: {reason}; expected postgresql://user:password@host:port/database")]
    BadUri { reason: String },

    /// A file that the URI names for TLS cannot be used: a certificate, an authority, a key.
    #[error("cannot connect to PostgreSQL at {server} with TLS: {what}")]
    UnusableTlsFile { server: Arc<Server>, what: String, remedy: String },

    /// Could not connect: name not found, refused, timed out, still starting up.
    #[error("cannot reach PostgreSQL at {server}: {reason}")]
    Unreachable { server: Arc<Server>, reason: String },

    /// The server is there, and the two do not agree on TLS as the URI asks for it.
    #[error("TLS negotiation with PostgreSQL at {server} failed: {reason}")]
    TlsRefused { server: Arc<Server>, fault: TlsFault, reason: String },

    /// The server is there, but does not let the role in (SQLSTATE class 28, or no password to give).
    #[error("PostgreSQL at {server} refused to log in {}: {reason}", server.user)]
    LoginRefused { server: Arc<Server>, reason: String, sqlstate: Option<String> },

    /// A pooler in front of the server does not pass on what the URI sets, as PgBouncer does with `options`.
    #[error("the pooler at {server} does not take an option of [postgres] uri: {reason}")]
    OptionRefused { server: Arc<Server>, reason: String },

    /// A pooler in front of the server gives each transaction, or each statement, whatever process is free.
    #[error(
        "PostgreSQL at {server} is behind a pooler in transaction or statement mode: expected a process of the server for \
             each connection, found one process shared by two, or a process that changes"
    )]
    PoolsTransactions { server: Arc<Server> },

    /// SQLSTATE 3D000.
    #[error("database {} does not exist at {}", server.database, server.hosts)]
    NoDatabase { server: Arc<Server> },

    /// The schema that tables shall go into is not there.
    #[error("schema {} does not exist in {server}", shortened(schema))]
    NoSchema { server: Arc<Server>, schema: String },

    /// SQLSTATE 42501, or a check beforehand that came to the same.
    #[error("{} has no rights for {doing} at {server}: {reason}", server.user)]
    NoRights { server: Arc<Server>, doing: String, reason: String, grant: String },

    /// Older than 13.
    #[error("PostgreSQL at {server} is version {version}: expected 13 or later")]
    TooOld { server: Arc<Server>, version: String },

    /// Another run holds the advisory lock.
    #[error("{what} is locked by another run{}", holder.as_deref().map(|h| format!(" ({h})")).unwrap_or_default())]
    Locked { what: String, holder: Option<String> },

    /// Another run has taken over what this one was writing; nothing of the transaction was committed.
    #[error("another run has taken over {what}: this run stops and has committed nothing since")]
    Fenced { what: String },

    /// A relation under a name that gizer needs is not gizer's to replace.
    #[error("{schema}.{table} cannot be replaced: {why}")]
    ForeignTable { schema: String, table: String, why: String },

    /// A collection needs a name that gizer itself has given away.
    #[error("the collection {collection} needs the name {schema}.{name}, which is {owner}")]
    NameTaken { schema: String, collection: String, name: String, owner: NameOwner },

    /// Objects hang on a table, and dropping it would break or silently lose them.
    #[error("{schema}.{table} cannot be replaced, because of {}", dependents.join(", "))]
    Dependents { schema: String, table: String, dependents: Vec<String> },

    /// Tables that are there cannot be resynced in place.
    #[error("the tables of {collection} in schema {schema} cannot be brought up to date in place: {why}")]
    NotAdopted { schema: String, collection: String, why: String },

    /// Readers kept the live tables locked for longer than gizer is set to wait.
    #[error("the tables of {collection} in schema {schema} were in use for {} s: the new tables are loaded, but not swapped in{}",
            waited.as_secs(), in_use_by(blockers))]
    TablesBusy { schema: String, collection: String, waited: Duration, blockers: Vec<String> },

    /// Readers or writers kept the live tables locked for longer than gizer is set to wait; nothing was
    /// begun.
    #[error("the tables of {collection} in schema {schema} were in use for {} s{}", waited.as_secs(), in_use_by(blockers))]
    TablesHeld { schema: String, collection: String, waited: Duration, blockers: Vec<String> },

    /// Statements of a load that was interrupted still run, and hold its staging tables.
    #[error("staging tables that an interrupted load of {collection} left in schema {schema} were in use for {} s{}",
            waited.as_secs(), in_use_by(blockers))]
    StagingBusy { schema: String, collection: String, waited: Duration, blockers: Vec<String> },

    /// An index or a constraint that somebody added to a live table does not fit the new one.
    #[error("{object} of {schema}.{table} cannot be made on the table that replaces it: {said}")]
    NotCarriedOver { schema: String, table: String, object: String, said: Box<Said> },

    /// The loaded rows do not satisfy the primary key. `repeated` counts the keys that came more than once, if there
    /// was time.
    #[error("rows of {schema}.{table} have the same key: expected each once{}", repeated_keys(*repeated))]
    DuplicateKey { schema: String, table: String, repeated: Option<u64> },

    /// The connection ended during a statement (SQLSTATE 57P01 to 57P05, class 08, or a closed socket).
    #[error("lost the connection to PostgreSQL at {server} while {doing}: {reason}")]
    ConnectionLost { server: Arc<Server>, doing: String, reason: String, sqlstate: Option<String> },

    /// SQLSTATE 57014 of a statement that gizer itself has cancelled.
    #[error("cancelled while {doing}")]
    Cancelled { doing: String, said: Box<Said> },

    /// The server does not take the data (SQLSTATE classes 22 and 23).
    #[error("PostgreSQL at {server} rejected data while {doing}: {said}")]
    DataRejected { server: Arc<Server>, doing: String, said: Box<Said> },

    /// A line of a text file that the server does not take (SQLSTATE classes 22, 23 and 54).
    #[error("{path}{}: {why} (SQLSTATE {sqlstate})", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    LineRefused { path: String, line: Option<u64>, why: &'static str, sqlstate: String },

    /// A file or a folder of an extract could not be made, read or written.
    #[error("cannot {doing} {path}: {reason}")]
    File { doing: String, path: String, reason: String },

    /// A folder that an extract was to fill holds something already.
    #[error("expected an empty folder or a new one at {path}: found {found} in it")]
    FolderInUse { path: String, found: String },

    /// An extract into the folder failed, was interrupted, or is still running.
    #[error("{path} is incomplete: its extract did not finish")]
    ExtractIncomplete { path: String },

    /// What an extract wrote down of itself cannot be used.
    #[error("cannot use {path}: {reason}")]
    UnreadableManifest { path: String, reason: String },

    /// A file of an extract is not as it was written.
    #[error("{path} is not as it was extracted: expected {expected}, found {found}")]
    ExtractDiffers { path: String, expected: String, found: String },

    /// COPY reported another number of rows than were encoded.
    #[error("{schema}.{table} took {copied} rows: expected {encoded}")]
    RowsDiffer { schema: String, table: String, encoded: u64, copied: u64 },

    /// A column of a collection's table is not of the type that was given to it.
    #[error("{schema}.{table}.{column} is of type {came}: expected {expected}")]
    ColumnDiffers { schema: String, table: String, column: String, expected: &'static str, came: String },

    /// The schema has no `_id`, and changes come by `_id`.
    #[error("the schema of {collection} has no field _id: expected one, because changes are followed by it")]
    NotFollowable { collection: String },

    /// A row of gizer's own tables does not hold what gizer writes there.
    #[error("{schema}.{table} holds {came} where {expected} was expected")]
    UnreadableState { schema: String, table: &'static str, expected: &'static str, came: String },

    /// A name that is empty or holds a NUL.
    #[error("{:?} cannot be a name in PostgreSQL: expected some characters, and no NUL among them", shortened(name))]
    UnusableName { name: String },

    /// Anything else that the server refused.
    #[error("PostgreSQL at {server} failed while {doing}: {said}")]
    Database { server: Arc<Server>, doing: String, said: Box<Said> },

    /// The server's answer was not what the protocol or the statement led to expect.
    #[error("unexpected answer of PostgreSQL at {server} while {doing}: {reason}")]
    Protocol { server: Arc<Server>, doing: String, reason: String },
}

/// What gizer has given a name to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameOwner {
    /// A table with gizer's own state, or its key.
    State,
    /// Staging tables: those of any collection begin like this name.
    Staging,
    /// A table of another collection.
    Table {
        /// The collection.
        collection: String,
    },
    /// The key, or another index, of a table of another collection.
    Index {
        /// The collection.
        collection: String,
    },
}

impl fmt::Display for NameOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameOwner::State => f.write_str("kept for gizer's own state"),
            NameOwner::Staging => f.write_str("kept for tables that are being loaded"),
            NameOwner::Table { collection } => write!(f, "that of a table of the collection {collection}"),
            NameOwner::Index { collection } => {
                write!(f, "that of an index on a table of the collection {collection}")
            }
        }
    }
}

fn repeated_keys(repeated: Option<u64>) -> String {
    match repeated {
        None | Some(0) => String::new(),
        Some(1) => ", and 1 key came more than once".to_owned(),
        Some(keys) => format!(", and {keys} keys came more than once"),
    }
}

fn in_use_by(blockers: &[String]) -> String {
    if blockers.is_empty() { String::new() } else { format!("; in use by {}", blockers.join(", ")) }
}

impl PgError {
    /// What the system has against a file; `doing` completes "cannot …".
    pub(crate) fn file<'p>(doing: &'p str, path: &'p Path) -> impl Fn(io::Error) -> PgError + Copy + 'p {
        move |error| PgError::File {
            doing: doing.to_owned(),
            path: path.display().to_string(),
            reason: error.to_string(),
        }
    }

    /// What kind of end this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            PgError::BadUri { .. }
            | PgError::UnusableTlsFile { .. }
            | PgError::OptionRefused { .. }
            | PgError::PoolsTransactions { .. }
            | PgError::NoSchema { .. }
            | PgError::NoDatabase { .. }
            | PgError::FolderInUse { .. }
            | PgError::NotFollowable { .. }
            | PgError::NameTaken { .. } => ErrorKind::Config,
            PgError::Locked { .. } | PgError::Fenced { .. } => ErrorKind::HeldByAnotherRun,
            PgError::Cancelled { .. } => ErrorKind::Interrupted,
            _ => ErrorKind::Failed,
        }
    }

    /// The server's error code, where the server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            PgError::Cancelled { said, .. } | PgError::DataRejected { said, .. } | PgError::Database { said, .. } => {
                Some(&said.sqlstate)
            }
            PgError::NotCarriedOver { said, .. } => Some(&said.sqlstate),
            PgError::ConnectionLost { sqlstate, .. } | PgError::LoginRefused { sqlstate, .. } => sqlstate.as_deref(),
            PgError::NoDatabase { .. } => Some("3D000"),
            PgError::NoRights { .. } => Some("42501"),
            PgError::DuplicateKey { .. } => Some("23505"),
            _ => None,
        }
    }

    /// Whether the connection is gone, so that the same work on a new one may succeed.
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, PgError::ConnectionLost { .. })
    }

    /// Whether the data are at fault, so that the same data will be rejected again.
    pub fn is_data_rejected(&self) -> bool {
        self.blame() == Blame::Document
    }

    /// Whose trouble it is, if it came of a statement on a collection's tables.
    pub fn blame(&self) -> Blame {
        match self {
            PgError::ColumnDiffers { .. } => Blame::Collection,
            PgError::DataRejected { .. } | PgError::Database { .. } | PgError::NoRights { .. } => {
                self.sqlstate().map_or(Blame::Run, sqlstate::blame)
            }
            _ => Blame::Run,
        }
    }

    /// Whether rows conflict with others, and may be taken once those have changed. That is SQLSTATE class 23 without
    /// what a row violates by itself (23502, 23514), and what a trigger raises.
    pub fn is_conflict(&self) -> bool {
        self.sqlstate().is_some_and(|code| {
            code.starts_with("P0")
                || code.starts_with("45")
                || code.starts_with("23") && !matches!(code, "23502" | "23514")
        })
    }

    /// Whether a table or a column of a collection is missing or of another type: only a load makes it again.
    pub fn is_of_other_tables(&self) -> bool {
        matches!(self, PgError::ColumnDiffers { .. })
            || matches!(self.sqlstate(), Some("42P01" | "42703" | "42804" | "42883"))
    }

    /// Whether a lock was not to be had in time: SQLSTATE 55P03 (`lock_timeout`) and 40P01 (deadlock). Such a
    /// transaction can be tried again as it is.
    pub(crate) fn is_lock_conflict(&self) -> bool {
        matches!(self.sqlstate(), Some("55P03" | "40P01"))
    }

    /// Whether something in the catalog was dropped while a statement read it. Functions such as `pg_get_viewdef` look
    /// at the catalog as it is now, not as of the snapshot, and report an internal error.
    pub(crate) fn is_vanished_object(&self) -> bool {
        matches!(self.sqlstate(), Some("XX000"))
    }

    /// Whether the same may succeed a little later: the server could not be reached, the connection was lost (class 08),
    /// it has no room (53), was shut down or restarted (57P01 to 57P03), chose this transaction to give way (40), somebody
    /// has cancelled the statement or its time was over (57014), a lock was not to be had (55P03), or the server is
    /// read-only for now, as after a fail-over (25006).
    pub fn is_transient(&self) -> bool {
        match self {
            PgError::Unreachable { .. } | PgError::ConnectionLost { .. } => true,
            PgError::Cancelled { .. } => false,
            error => error.sqlstate().is_some_and(|code| TRANSIENT.iter().any(|class| code.starts_with(class))),
        }
    }

    /// What the operator should do, as a sentence or a statement to run; `None` where nothing in particular helps.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            PgError::UnusableTlsFile { remedy, .. } => remedy.clone(),
            PgError::NoDatabase { server } => format!("run: CREATE DATABASE {};", shown(&server.database)),
            PgError::NoSchema { schema, .. } if schema.len() > MAX_IDENTIFIER_BYTES => {
                format!("choose a name of up to {MAX_IDENTIFIER_BYTES} bytes: PostgreSQL cuts longer ones")
            }
            PgError::NoSchema { schema, .. } => format!("run: CREATE SCHEMA {};", shown(schema)),
            PgError::NoRights { grant, .. } => format!("run as the owner: {grant};"),
            PgError::ForeignTable { schema, table, .. } => {
                format!("rename or drop {}.{}, or choose another [postgres] schema", shown(schema), shown(table))
            }
            _ => return fixed(self).map(str::to_owned),
        })
    }
}

/// SQLSTATEs, and classes of them, that pass.
const TRANSIENT: [&str; 9] = ["08", "25006", "40", "53", "55P03", "57014", "57P01", "57P02", "57P03"];
