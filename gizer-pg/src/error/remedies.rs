//! What an operator can do.

use super::{NameOwner, PgError};

/// A name as one would type it into a statement; only for messages.
pub(super) fn shown(name: &str) -> String {
    crate::ident::quote_identifier(name).unwrap_or_else(|_| format!("{name:?}"))
}

/// Remedies that are the same whatever the names in the error.
pub(super) fn fixed(error: &PgError) -> Option<&'static str> {
    Some(match error {
        PgError::BadUri { .. } => "correct [postgres] uri",
        PgError::Unreachable { .. } => {
            "check that the server runs, that host and port are right, and that no firewall blocks it"
        }
        PgError::TlsRefused { fault, .. } => fault.remedy(),
        PgError::LoginRefused { sqlstate, .. } => login_remedy(sqlstate.as_deref()),
        PgError::OptionRefused { .. } => {
            "take the option out of [postgres] uri, name the server itself there, or have the pooler ignore the option \
             (PgBouncer: ignore_startup_parameters)"
        }
        PgError::PoolsTransactions { .. } => {
            "name the server itself in [postgres] uri, or have the pooler give each connection a process \
             (PgBouncer: pool_mode=session for this database and user)"
        }
        PgError::TooOld { .. } => "use a PostgreSQL of version 13 or later",
        PgError::Locked { .. } => "wait for the other run to end, or end it",
        PgError::Fenced { .. } => "let the other run go on",
        PgError::ConnectionLost { .. } => "run it again once the server is reachable",
        PgError::Database { said, .. } => return by_sqlstate(&said.sqlstate),
        error => return of_load(error),
    })
}

/// What helps where a load, an extract or following meets what others have made.
fn of_load(error: &PgError) -> Option<&'static str> {
    Some(match error {
        PgError::NameTaken { owner: NameOwner::State | NameOwner::Staging, .. } => {
            "leave it out of the schema files: tables of this name cannot be loaded into any schema"
        }
        PgError::NameTaken { .. } => "load one of the two collections into another [postgres] schema",
        PgError::NotAdopted { .. } => "load the collection: a load makes new tables",
        PgError::Dependents { .. } => "drop or undo what is named before the load, and recreate it after it",
        PgError::NotCarriedOver { .. } => "drop it before the load, and recreate it after it in a form that fits",
        PgError::StagingBusy { .. } => {
            "wait until what is named has ended, or end it: SELECT pg_terminate_backend(<process>);"
        }
        PgError::TablesHeld { .. } => "end the statements that hold the tables, or try again when they are idle",
        PgError::TablesBusy { .. } => "end the statements that hold the tables, or load when they are idle",
        PgError::DuplicateKey { .. } => {
            "find out why two documents have one key: written to two shards, or changed while they were read"
        }
        PgError::FolderInUse { .. } => {
            "name another folder, or give --force, which removes what an extract has made, and nothing else"
        }
        PgError::ExtractIncomplete { .. } => "wait for the extract to end, or extract again with --force",
        PgError::UnreadableManifest { .. } | PgError::ExtractDiffers { .. } => {
            "extract again, and copy the folder as a whole"
        }
        PgError::LineRefused { .. } => "fix the file or the schema file: both must be of the same schema",
        PgError::ColumnDiffers { .. } => "reload the collection, which recreates its tables",
        PgError::NotFollowable { .. } => "add _id to the schema file, and reload the collection",
        _ => return None,
    })
}

/// The server's codes tell a wrong password from a client that `pg_hba.conf` does not let in at all.
fn login_remedy(sqlstate: Option<&str>) -> &'static str {
    match sqlstate {
        Some("28000") => {
            "look for the line of the server's pg_hba.conf that is for this user, database and host: it may ask for TLS \
             (sslmode=verify-full in [postgres] uri), or for a client's certificate (sslcert and sslkey)"
        }
        Some(_) => {
            "check user and password in [postgres] uri, password_file or GIZER_POSTGRES_PASSWORD, and the server's \
             pg_hba.conf"
        }
        None => {
            "give the password: in a file named by [postgres] password_file, in GIZER_POSTGRES_PASSWORD, or in \
             [postgres] uri"
        }
    }
}

/// Remedies for codes that say what to do by themselves.
fn by_sqlstate(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "25006" => "connect to the primary: this server is read-only",
        "53100" => "make room on the server's disk",
        "53200" => "give the server more memory, or gizer less maintenance_work_mem",
        "53300" => "raise the server's max_connections, or use fewer [load] workers",
        // A row over 8 kB, a table of more than 1600 columns, a key of more than 32 or longer than an index entry.
        "54000" | "54001" | "54011" => {
            "take fields out of the schema file: this is more than PostgreSQL can hold in one row, table or key"
        }
        "55P03" => "end the statements that hold the lock, or try again",
        _ => return None,
    })
}
