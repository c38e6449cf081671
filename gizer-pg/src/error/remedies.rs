//! What an operator can do, where it depends on more than the kind of error.

/// A name as one would type it into a statement; only for messages.
pub(super) fn shown(name: &str) -> String {
    crate::ident::quote_identifier(name).unwrap_or_else(|_| format!("{name:?}"))
}

/// The server's codes tell a wrong password from a client that `pg_hba.conf` does not let in at all.
pub(super) fn login_remedy(sqlstate: Option<&str>) -> &'static str {
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
pub(super) fn remedy_for(sqlstate: &str) -> Option<&'static str> {
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
