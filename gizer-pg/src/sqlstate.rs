//! Turns errors of the client library into [`PgError`] by SQLSTATE. Texts of messages come in the server's language.

use std::error::Error as _;
use std::sync::Arc;

use tokio_postgres::error::DbError;

use crate::error::{Blame, PgError, Said, Server};
use crate::ident::quote_identifier;

/// Classifies an error that came while `doing`; `ended` is how the connection ended, if it has.
pub(crate) fn classify(
    error: &tokio_postgres::Error,
    server: &Arc<Server>,
    schema: &str,
    doing: String,
    ended: Option<&str>,
) -> PgError {
    if let Some(db) = error.as_db_error() {
        return classify_db(db, server, schema, doing);
    }
    let server = Arc::clone(server);
    let cause = error.source().map(ToString::to_string);
    let is_io = error.source().is_some_and(|cause| cause.is::<std::io::Error>());
    if error.is_closed() || is_io {
        let reason = ended.map(str::to_owned).or(cause).unwrap_or_else(|| "the server closed it".to_owned());
        return PgError::ConnectionLost { server, doing, reason, sqlstate: None };
    }
    // What is left are bugs and broken servers; the causes name types and columns, never values.
    let reason = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    PgError::Protocol { server, doing, reason }
}

fn classify_db(db: &DbError, server: &Arc<Server>, schema: &str, doing: String) -> PgError {
    let server = Arc::clone(server);
    let said = Box::new(said(db));
    match said.sqlstate.as_str() {
        "42501" => PgError::NoRights { grant: any_grant(schema, &server.user), server, doing, reason: said.message },
        "57014" => PgError::Cancelled { doing, said },
        code if is_connection_end(code) => {
            PgError::ConnectionLost { server, doing, reason: said.message, sqlstate: Some(said.sqlstate) }
        }
        code if code.starts_with("22") || code.starts_with("23") => PgError::DataRejected { server, doing, said },
        _ => PgError::Database { server, doing, said },
    }
}

/// Shut down, crashed, starting up, database dropped, idle too long (57P01 to 57P05), and class 08.
pub(crate) fn is_connection_end(sqlstate: &str) -> bool {
    sqlstate.starts_with("08") || matches!(sqlstate, "57P01" | "57P02" | "57P03" | "57P04" | "57P05")
}

/// Whose trouble a code is that came of a statement on a collection's tables.
pub(crate) fn blame(sqlstate: &str) -> Blame {
    match sqlstate.get(..2).unwrap_or_default() {
        "0A" | "2B" | "3F" | "42" | "XX" => Blame::Collection,
        "55" if sqlstate != "55P03" => Blame::Collection,
        // Connection, transaction, resources, locks, the operator, the system.
        "08" | "25" | "26" | "28" | "2D" | "34" | "3B" | "3D" | "40" | "53" | "55" | "57" | "58" | "F0" => Blame::Run,
        // Data, constraints, limits, and whatever a trigger raises, which may be any code.
        _ => Blame::Document,
    }
}

/// Whether a message is what somebody's trigger says: it may say what it likes, for instance the row.
fn is_raised(sqlstate: &str) -> bool {
    sqlstate.starts_with("P0") || sqlstate.starts_with("45")
}

/// The statement that gives a role what gizer needs in a schema.
pub(crate) fn grant_for(schema: &str, user: &str) -> String {
    let quoted = |name: &str| quote_identifier(name).unwrap_or_else(|_| format!("{name:?}"));
    format!("GRANT USAGE, CREATE ON SCHEMA {} TO {}", quoted(schema), quoted(user))
}

/// The statement that lets a role read what is in a schema, and what it takes beyond that to load.
pub(crate) fn grant_to_use(schema: &str, user: &str) -> String {
    let quoted = |name: &str| quote_identifier(name).unwrap_or_else(|_| format!("{name:?}"));
    let (schema, user) = (quoted(schema), quoted(user));
    format!("GRANT USAGE ON SCHEMA {schema} TO {user}; and to load: GRANT CREATE ON SCHEMA {schema} TO {user}")
}

/// The statements that help where only the server's message, in its own language, says which right is missing.
fn any_grant(schema: &str, user: &str) -> String {
    let user_sql = quote_identifier(user).unwrap_or_else(|_| format!("{user:?}"));
    let owner = format!("ALTER TABLE … OWNER TO {user_sql}");
    format!("{}; and where a table of gizer belongs to another role: {owner}", grant_for(schema, user))
}

/// What the server said, without what quotes data.
pub(crate) fn said(db: &DbError) -> Said {
    let code = db.code().code();
    let message = match code {
        // "invalid input syntax for type integer: "abc"": these two classes end their messages with the value.
        data if data.starts_with("22") || data.starts_with("23") => {
            db.message().split_once(": \"").map_or(db.message(), |(before, _)| before)
        }
        raised if is_raised(raised) => "an exception was raised",
        _ => db.message(),
    };
    let mut message = message.to_owned();
    if let Some(function) = db.where_().filter(|_| is_raised(code)).and_then(function) {
        message = format!("{message} by {function}");
    }
    let hint = db.hint().filter(|_| !is_raised(code)).map(str::to_owned);
    Said { sqlstate: code.to_owned(), message, hint }
}

/// The function that a context begins with, which ends with the innermost statement: "PL/pgSQL function check_it() line 3 at RAISE".
fn function(context: &str) -> Option<&str> {
    let line = context.lines().next()?;
    let end = line.find(')')? + 1;
    line.get(..end).filter(|line| line.starts_with("PL/pgSQL function "))
}
