//! A private PgBouncer in front of a PostgreSQL server of the rig.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::guard::Guard;
use super::mongod::credentials;
use super::postgres::Owner;
use super::server::{Server, on_free_port};
use super::{Error, POSTGRES_PASSWORD, POSTGRES_USER, Postgres, Signal};

/// Where Debian's package puts it.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// What it logs once it takes connections.
const READY: &str = "process up";

/// A running PgBouncer, in a temporary folder and on a loopback port of its own. Dropping it ends it.
#[derive(Debug)]
pub struct PgBouncer {
    server: Server,
}

impl PgBouncer {
    /// Starts one for all databases of a server, with these settings of its own; it takes connections when this returns.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] before `scripts/setup` has run, and all that can go wrong with a process.
    pub async fn start(postgres: &Postgres, settings: &[(&str, &str)]) -> Result<Self, Error> {
        let program = Path::new(PROGRAM);
        if !program.is_file() {
            return Err(Error::NotInstalled { what: "PgBouncer".into(), path: program.into() });
        }
        on_free_port(async |port| {
            let guard = Arc::new(Guard::new(Signal::Terminate)?);
            // It refuses to run as root, as PostgreSQL does.
            let owner = Owner::choose();
            let write = |name: &str, text: String| {
                let path = guard.folder().join(name);
                fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
                owner.give(&path, 0o600)?;
                Ok::<_, Error>(path)
            };
            let users = write("users.txt", format!("\"{POSTGRES_USER}\" \"{POSTGRES_PASSWORD}\"\n"))?;
            let own: String = settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
            let config = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n{own}",
                postgres.port(),
                users.display()
            );
            let config = write("pgbouncer.ini", config)?;
            let server = Server::new("PgBouncer".into(), port, owner.run(program).arg(config), READY, guard);
            server.start().await?;
            Ok(Self { server })
        })
        .await
    }

    /// A connection string for a database through this pooler, as the superuser, with the password in it.
    pub fn uri(&self, database: &str) -> String {
        let user = credentials(POSTGRES_USER, POSTGRES_PASSWORD);
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.server.port())
    }
}
