//! A private PostgreSQL server.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_postgres::NoTls;

use super::guard::Guard;
use super::install::PostgresInstall;
use super::mongod::credentials;
use super::process::{GuardedChild, Program};
use super::server::{LIMIT, Server, log_tail, on_free_port};
use super::{Error, Signal, unique_name, wait_for};

/// The superuser of every server of the rig.
pub const POSTGRES_USER: &str = "postgres";

/// Its password, unless [`PostgresBuilder::password`] set another: found in a log, it has leaked.
pub const POSTGRES_PASSWORD: &str = "rigsecret51c0ffee";

/// What postgres logs once it takes connections.
const READY: &str = "database system is ready to accept connections";

/// How a PostgreSQL server is to be started. Made by [`Postgres::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder starts nothing by itself"]
pub struct PostgresBuilder {
    durable: bool,
    password: String,
    settings: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
    small_disk_mb: Option<u32>,
}

impl PostgresBuilder {
    /// Leaves `fsync` and `full_page_writes` on, for figures that mean something. They are off unless told, which
    /// loses nothing when the server is killed, only when the machine is.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// The superuser's password.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = password.into();
        self
    }

    /// A server setting, as in `postgresql.conf`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// A file system of so many MiB that is there for this server alone, for a tablespace that can be full: see
    /// [`Postgres::small_disk`]. It is in memory and goes with the process, so that such a server cannot be restarted. Needs
    /// mount namespaces: of root, or of any user where the kernel lets users have namespaces.
    pub fn small_disk_mb(mut self, size: u32) -> Self {
        self.small_disk_mb = Some(size);
        self
    }

    /// A file in the data folder, such as `server.key`, that only the server's user may read.
    pub fn data_file(mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.into(), content.into()));
        self
    }

    /// Makes a cluster and starts the server; it takes connections when this returns.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] before `scripts/setup` has run, and all that can go wrong with a process.
    pub async fn start(self) -> Result<Postgres, Error> {
        on_free_port(async |port| self.start_on(port).await).await
    }

    async fn start_on(&self, port: u16) -> Result<Postgres, Error> {
        let install = PostgresInstall::find()?;
        let owner = Owner::choose();
        // At SIGQUIT, postgres ends at once and takes its backends with it; killed, it would leave the busy ones behind.
        let guard = Arc::new(Guard::new(Signal::Quit)?);
        let data = self.init_cluster(&install, owner, &guard).await?;
        let mut program = self.program(&install, owner, &data, port);
        let disk = self.small_disk_mb.map(|size| (size, guard.folder().join("disk")));
        if let Some((size, disk)) = &disk {
            fs::create_dir(disk).map_err(Error::io("create the folder of a small disk"))?;
            program = owner.with_disk(&program, *size, disk);
        }
        let server = Server::new(format!("PostgreSQL {}", install.major), port, program, READY, guard);
        server.start().await?;
        Ok(Postgres { server, password: self.password.clone(), small_disk: disk.map(|(_, disk)| disk) })
    }

    async fn init_cluster(
        &self,
        install: &PostgresInstall,
        owner: Owner,
        guard: &Arc<Guard>,
    ) -> Result<PathBuf, Error> {
        let data = guard.folder().join("data");
        let password = guard.folder().join("password");
        let log = guard.folder().join("log.initdb");
        fs::create_dir(&data).map_err(Error::io("create PostgreSQL's data folder"))?;
        owner.give(&data, 0o700)?;
        fs::write(&password, &self.password).map_err(Error::io("write PostgreSQL's password file"))?;
        owner.give(&password, 0o600)?;

        let mut initdb = owner
            .run(&install.folder.join("initdb"))
            .args(["--no-sync", "--no-instructions", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--username", POSTGRES_USER])
            .arg("--pwfile")
            .arg(&password)
            .arg("--pgdata")
            .arg(&data);
        if install.major >= 15 {
            // Text sorts as people read it, not by bytes: what relies on the order of bytes has to ask for it, as on a
            // real server.
            initdb = initdb.args(["--locale-provider=icu", "--icu-locale=en-US"]);
        }
        let output = File::create(&log).map_err(Error::io("create initdb's log"))?;
        let output_too = output.try_clone().map_err(Error::io("share initdb's log"))?;
        let mut child = GuardedChild::spawn(guard, &initdb, output, output_too)?;
        let status = wait_for("initdb to end", LIMIT, async || child.ended().transpose()).await??;
        if !status.success() {
            let log = log_tail(&log);
            return Err(Error::Ended { what: "initdb".into(), expected: "make a cluster", status, log });
        }
        fs::remove_file(&password).map_err(Error::io("remove PostgreSQL's password file"))?;

        for (name, content) in &self.files {
            let path = data.join(name);
            fs::write(&path, content).map_err(Error::io(format!("write {}", path.display())))?;
            owner.give(&path, 0o600)?;
        }
        Ok(data)
    }

    fn program(&self, install: &PostgresInstall, owner: Owner, data: &Path, port: u16) -> Program {
        let port = port.to_string();
        let mut settings = vec![
            ("port", port.as_str()),
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("lc_messages", "C"),
            ("max_connections", "200"),
            ("shared_buffers", "64MB"),
            // In the data folder, which is removed, and not in /dev/shm, where a killed server leaves it.
            ("dynamic_shared_memory_type", "mmap"),
        ];
        if !self.durable {
            // synchronous_commit stays on: without it, a killed server forgets what it has acknowledged.
            settings.extend([("fsync", "off"), ("full_page_writes", "off")]);
        }
        settings.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let postgres = owner.run(&install.folder.join("postgres")).arg("-D").arg(data);
        postgres.args(settings.iter().map(|(name, value)| format!("--{name}={value}")))
    }
}

/// A running PostgreSQL server, in a temporary folder and on a loopback port of its own. Dropping it ends it.
///
/// Connections need a password (SCRAM), so that the handling of secrets is part of every test. The server's default collation
/// is a natural language's where PostgreSQL can do that (15 and later).
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    password: String,
    small_disk: Option<PathBuf>,
}

impl Postgres {
    /// A builder for a server with settings that are quick rather than proof against power cuts.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder {
            durable: false,
            password: POSTGRES_PASSWORD.into(),
            settings: Vec::new(),
            files: Vec::new(),
            small_disk_mb: None,
        }
    }

    /// Starts a server with the default settings.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn start() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The process id, or `None` after [`Postgres::kill`] and [`Postgres::stop`].
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Where the server sees its [small disk](PostgresBuilder::small_disk_mb); nobody else does.
    pub fn small_disk(&self) -> Option<&Path> {
        self.small_disk.as_deref()
    }

    /// Where the log of the latest start is.
    pub fn log_path(&self) -> PathBuf {
        self.server.log_path()
    }

    /// A connection string for a database, as the superuser, with the password in it.
    pub fn uri(&self, database: &str) -> String {
        self.uri_as(POSTGRES_USER, &self.password, database)
    }

    /// A connection string for a database as another user.
    pub fn uri_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{}@127.0.0.1:{}/{database}", credentials(user, password), self.port())
    }

    /// Creates an empty database with a name that no other test uses, and returns the name.
    ///
    /// # Errors
    /// [`Error::Postgres`].
    pub async fn create_database(&self) -> Result<String, Error> {
        let name = unique_name("test");
        self.create_database_named(&name).await?;
        Ok(name)
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// [`Error::Postgres`], also when there is one of that name.
    pub async fn create_database_named(&self, name: &str) -> Result<(), Error> {
        let client = self.client("postgres").await?;
        let create = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
        client.batch_execute(&create).await.map_err(Error::postgres(format!("create database {name}")))
    }

    /// A client of a database, as the superuser. Its connection is driven by the calling runtime.
    ///
    /// # Errors
    /// [`Error::Postgres`].
    pub async fn client(&self, database: &str) -> Result<tokio_postgres::Client, Error> {
        let (client, connection) = tokio_postgres::connect(&self.uri(database), NoTls)
            .await
            .map_err(Error::postgres(format!("connect to database {database}")))?;
        // The client reports what goes wrong to whoever uses it.
        tokio::spawn(async { connection.await.ok() });
        Ok(client)
    }

    /// SIGKILL to the server and all its backends: after [`Postgres::restart`] it recovers what was committed.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn kill(&self) -> Result<(), Error> {
        self.server.kill()
    }

    /// Asks the server to disconnect everyone and end, and waits until it has.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or [`Error::TimedOut`] after a minute.
    pub async fn stop(&self) -> Result<(), Error> {
        self.server.stop(Signal::Interrupt).await
    }

    /// Starts the server again on its port and its data, after stopping it if it runs.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn restart(&self) -> Result<(), Error> {
        if self.pid().is_some() {
            self.stop().await?;
        }
        self.server.start().await
    }

    /// Sends a signal and does not wait for what comes of it.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.server.signal(signal)
    }
}

/// Whose the server's files and process are: PostgreSQL and PgBouncer refuse to run as root.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner {
    /// We are not root, so it runs as we do.
    Ourselves,
    /// We are root, so it runs as somebody else.
    Other { user: u32, group: u32 },
}

impl Owner {
    pub(super) fn choose() -> Self {
        let we_are_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !we_are_root {
            return Self::Ourselves;
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let find = |name| accounts.lines().find_map(|line| account(line, name));
        // 65,534 is nobody's number on every Linux.
        let (user, group) = find("postgres").or_else(|| find("nobody")).unwrap_or((65_534, 65_534));
        Self::Other { user, group }
    }

    pub(super) fn give(self, path: &Path, mode: u32) -> Result<(), Error> {
        let doing = || format!("give {} to the user who runs PostgreSQL", path.display());
        if let Self::Other { user, group } = self {
            chown(path, Some(user), Some(group)).map_err(Error::io(doing()))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io(doing()))
    }

    /// The program in a mount namespace of its own, in which this folder is a disk.
    fn with_disk(self, program: &Program, size_mb: u32, disk: &Path) -> Program {
        let unshare = Program::new("unshare").args(["--mount", "--propagation", "private"]);
        let (unshare, whose) = match self {
            Self::Ourselves => (unshare.args(["--user", "--map-current-user", "--keep-caps"]), String::new()),
            Self::Other { user, group } => (unshare, format!(",uid={user},gid={group}")),
        };
        // Both become the next program instead of starting it, so the process id stays the same.
        let mount = r#"mount -t tmpfs -o "$1" tmpfs "$0" && shift && exec "$@""#;
        unshare
            .args(["--", "sh", "-c", mount])
            .arg(disk)
            .arg(format!("size={size_mb}m,mode=700{whose}"))
            .program(program)
    }

    pub(super) fn run(self, program: &Path) -> Program {
        match self {
            Self::Ourselves => Program::new(program),
            // setpriv becomes the program instead of starting it, so the process id stays the same.
            Self::Other { user, group } => Program::new("setpriv")
                .args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into(), "--".into()])
                .arg(program),
        }
    }
}

/// User and group id of a line of `/etc/passwd`, if it is that user's.
fn account(line: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = line.split(':');
    if fields.next() != Some(name) {
        return None;
    }
    let mut ids = fields.skip(1);
    Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_told_as_such() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let outcome = Postgres::builder().start_on(port).await.map(drop);
        assert!(matches!(outcome, Err(Error::PortTaken { port: p, .. }) if p == port), "{outcome:?}");
    }

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let line = "postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        assert_eq!(account(line, "postgres"), Some((101, 104)));
        assert_eq!(account(line, "post"), None);
    }
}
