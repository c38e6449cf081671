//! A private mongod: alone, or as the only member of a replica set.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::guard::Guard;
use super::install::MongodInstall;
use super::process::Program;
use super::server::{LIMIT, Server, on_free_port};
use super::{Error, ReplicaSet, Signal, Version, wait_for, wait_until};

/// What mongod logs once it listens: the id of "Waiting for connections".
const READY: &str = r#""id":23016"#;

/// How a mongod is to be started. Made by [`Mongod::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder starts nothing by itself"]
pub struct MongodBuilder {
    version: Version,
    repl_set_name: Option<String>,
    oplog_mb: u32,
    cache_gb: f64,
    args: Vec<String>,
    user: Option<(String, String)>,
    tls: Option<MongodTls>,
}

/// PEM files of a server that speaks nothing but TLS.
#[derive(Debug, Clone)]
pub struct MongodTls {
    /// The authority that has signed the other two.
    pub authority: PathBuf,
    /// The server's certificate, for 127.0.0.1, and its key.
    pub server: PathBuf,
    /// A client's certificate and key, for the rig's own clients: the server takes none without.
    pub client: PathBuf,
}

impl MongodTls {
    /// What the rig's own connection strings end with.
    fn options(&self) -> String {
        let (authority, client) = (self.authority.display(), self.client.display());
        format!("&tls=true&tlsCAFile={authority}&tlsCertificateKeyFile={client}")
    }
}

impl MongodBuilder {
    /// No replica set, hence no oplog and no transactions.
    pub fn standalone(mut self) -> Self {
        self.repl_set_name = None;
        self
    }

    /// The name of the replica set; `rs0` unless told. Several sets with names of their own stand in for shards.
    pub fn repl_set_name(mut self, name: impl Into<String>) -> Self {
        self.repl_set_name = Some(name.into());
        self
    }

    /// The oplog's size in MiB; 64 unless told. A small one rolls over soon.
    pub fn oplog_mb(mut self, size: u32) -> Self {
        self.oplog_mb = size;
        self
    }

    /// The size of the storage engine's cache in GiB; 0.25 unless told, which is the least mongod takes.
    pub fn cache_gb(mut self, size: f64) -> Self {
        self.cache_gb = size;
        self
    }

    /// A server parameter, such as `minSnapshotHistoryWindowInSeconds`.
    pub fn set_parameter(self, name: &str, value: &str) -> Self {
        self.arg("--setParameter").arg(format!("{name}={value}"))
    }

    /// One more argument on mongod's command line.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Access control: a user with role `root` in `admin` is made, and [`Mongod::uri`] carries its credentials.
    pub fn auth(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((user.into(), password.into()));
        self
    }

    /// TLS, and client certificates, or no connection. [`Mongod::uri`] carries what it takes.
    pub fn require_tls(mut self, tls: MongodTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Starts the server. A replica set of one is initiated, and the server its primary, when this returns.
    ///
    /// # Errors
    /// [`Error::NotInstalled`] before `scripts/setup` has run, and all that can go wrong with a process.
    pub async fn start(self) -> Result<Mongod, Error> {
        let mongod = self.clone().start_uninitiated().await?;
        if let Some(name) = self.repl_set_name {
            let host = mongod.host();
            mongod.initiate(doc! { "_id": name, "members": [{ "_id": 0, "host": host }] }).await?;
            mongod.wait_until_primary().await?;
        }
        mongod.create_root_user().await?;
        Ok(mongod)
    }

    /// Starts a replica set of several members, all with these settings. See [`ReplicaSet::start`].
    ///
    /// # Errors
    /// As [`MongodBuilder::start`].
    pub async fn start_replica_set(self, members: usize) -> Result<ReplicaSet, Error> {
        let name = self.repl_set_name.clone().unwrap_or_else(|| "rs0".into());
        ReplicaSet::start_with(self.repl_set_name(name.clone()), &name, members).await
    }

    /// Starts the server and leaves the replica set, if it is for one, to be initiated.
    pub(crate) async fn start_uninitiated(self) -> Result<Mongod, Error> {
        on_free_port(async |port| self.start_on(port).await).await
    }

    async fn start_on(&self, port: u16) -> Result<Mongod, Error> {
        let install = MongodInstall::find(self.version)?;
        let guard = Arc::new(Guard::new(Signal::Kill)?);
        let program = self.program(&install, port, guard.folder())?;
        let server = Server::new(format!("mongod {}", self.version), port, program, READY, guard);
        server.start().await?;
        let tls = self.tls.as_ref().map(MongodTls::options).unwrap_or_default();
        let (version, user, replica) = (self.version, self.user.clone(), self.repl_set_name.is_some());
        Ok(Mongod { server, version, user, replica, tls })
    }

    fn program(&self, install: &MongodInstall, port: u16, folder: &Path) -> Result<Program, Error> {
        let data = folder.join("data");
        fs::create_dir(&data).map_err(Error::io("create mongod's data folder"))?;
        let mut program = Program::new(&install.program)
            .env("LD_LIBRARY_PATH", &install.libraries)
            .args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--port", &port.to_string()])
            .args(["--wiredTigerCacheSizeGB", &self.cache_gb.to_string()])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false", "--dbpath"])
            .arg(data);
        if let Some(name) = &self.repl_set_name {
            program = program.args(["--replSet", name, "--oplogSize", &self.oplog_mb.to_string()]);
        }
        if self.user.is_some() {
            program = program.arg("--auth");
            if self.repl_set_name.is_some() {
                program = program.arg("--keyFile").arg(key_file(folder)?);
            }
        }
        if let Some(MongodTls { authority, server, .. }) = &self.tls {
            program = program.args(["--tlsMode", "requireTLS", "--tlsCAFile"]).arg(authority);
            program = program.arg("--tlsCertificateKeyFile").arg(server);
        }
        Ok(program.args(&self.args))
    }
}

/// The secret that members of a replica set with access control share. It guards nothing worth guarding.
fn key_file(folder: &Path) -> Result<PathBuf, Error> {
    let path = folder.join("keyfile");
    fs::write(&path, "gizerTestRigKey").map_err(Error::io("write mongod's key file"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(Error::io("protect mongod's key file"))?;
    Ok(path)
}

/// A running mongod, in a temporary folder and on a loopback port of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Mongod {
    server: Server,
    version: Version,
    user: Option<(String, String)>,
    replica: bool,
    /// What connection strings need for TLS.
    tls: String,
}

impl Mongod {
    /// A builder for a replica set `rs0` of one member, with an oplog of 64 MiB and without access control.
    pub fn builder(version: Version) -> MongodBuilder {
        MongodBuilder {
            version,
            repl_set_name: Some("rs0".into()),
            oplog_mb: 64,
            cache_gb: 0.25,
            args: Vec::new(),
            user: None,
            tls: None,
        }
    }

    /// Starts a replica set of one, and returns when it is primary.
    ///
    /// # Errors
    /// As [`MongodBuilder::start`].
    pub async fn start(version: Version) -> Result<Self, Error> {
        Self::builder(version).start().await
    }

    /// The release line of this server.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Host and port, as the replica set knows this member.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The process id, or `None` after [`Mongod::kill`] and [`Mongod::stop`].
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Where the log of the latest start is.
    pub fn log_path(&self) -> PathBuf {
        self.server.log_path()
    }

    /// A connection string for this very server, whatever its state in the replica set, with the
    /// credentials of the user that [`MongodBuilder::auth`] made.
    pub fn uri(&self) -> String {
        match self.user() {
            Some((user, password)) => self.uri_as(user, password),
            None => self.uri_without_user(),
        }
    }

    /// A connection string for this very server, as a user of database `admin`.
    pub fn uri_as(&self, user: &str, password: &str) -> String {
        let (credentials, host, tls) = (credentials(user, password), self.host(), &self.tls);
        format!("mongodb://{credentials}@{host}/?directConnection=true&authSource=admin{tls}")
    }

    fn uri_without_user(&self) -> String {
        format!("mongodb://{}/?directConnection=true{}", self.host(), self.tls)
    }

    /// A client connected to this very server. It belongs to the calling runtime.
    ///
    /// # Errors
    /// [`Error::Mongo`] if the driver does not accept [`Mongod::uri`].
    pub async fn client(&self) -> Result<Client, Error> {
        connect(&self.uri()).await
    }

    /// SIGKILL: the server ends without writing a checkpoint. What was journaled is there after
    /// [`Mongod::restart`]; ask for `j: true` where that matters.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn kill(&self) -> Result<(), Error> {
        self.server.kill()
    }

    /// Asks the server to end, and waits until it has.
    ///
    /// # Errors
    /// [`Error::NotRunning`], or [`Error::TimedOut`] after a minute.
    pub async fn stop(&self) -> Result<(), Error> {
        self.server.stop(Signal::Terminate).await
    }

    /// Starts the server again on its port and its data, after stopping it if it runs. A replica set of one has its
    /// primary again when this returns; a member of several is primary or secondary.
    ///
    /// # Errors
    /// As [`MongodBuilder::start`].
    pub async fn restart(&self) -> Result<(), Error> {
        if self.pid().is_some() {
            self.stop().await?;
        }
        self.server.start().await?;
        if !self.replica {
            return Ok(());
        }
        let hello = self.wait_until_readable().await?;
        // A member that has nobody to vote with is primary soon after.
        let alone = hello.get_array("hosts").is_ok_and(|hosts| hosts.len() == 1);
        if alone { self.wait_until_primary().await } else { Ok(()) }
    }

    /// Sends a signal and does not wait for what comes of it. With [`Signal::Stop`], the server hangs.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.server.signal(signal)
    }

    /// Waits until this server is a primary that takes writes.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after a minute.
    pub async fn wait_until_primary(&self) -> Result<(), Error> {
        self.wait_for_hello("primary", |hello| is_true(hello, "isWritablePrimary")).await.map(drop)
    }

    /// Waits until this server has joined its set, as primary or as a secondary that can be read.
    pub(crate) async fn wait_until_readable(&self) -> Result<Document, Error> {
        let readable = |hello: &Document| is_true(hello, "isWritablePrimary") || is_true(hello, "secondary");
        self.wait_for_hello("primary or secondary", readable).await
    }

    /// The user that the builder was given.
    pub(crate) fn user(&self) -> Option<(&str, &str)> {
        self.user.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// Gives a fresh server its replica set.
    pub(crate) async fn initiate(&self, config: Document) -> Result<(), Error> {
        // Nobody can log in yet, and from the loopback interface nobody has to.
        let client = connect(&self.uri_without_user()).await?;
        let initiate = doc! { "replSetInitiate": config };
        let admin = client.database("admin");
        admin.run_command(initiate).await.map_err(Error::mongo("initiate a replica set"))?;
        // A server of 4.4 that is killed before its first checkpoint comes back without a replica
        // set, for good. With users nobody may ask for one yet.
        if self.user.is_none() {
            let checkpoint = Error::mongo("write a checkpoint");
            admin.run_command(doc! { "fsync": 1 }).await.map_err(checkpoint)?;
        }
        Ok(())
    }

    /// Makes a fresh member of a set try to become primary, instead of waiting for an election timeout.
    pub(crate) async fn call_election(&self) -> Result<(), Error> {
        if self.user.is_some() {
            return Ok(()); // nobody may ask for this yet, so the timeout it is
        }
        let client = connect(&self.uri_without_user()).await?;
        let what = format!("{} on port {} to win an election", self.server.what(), self.port());
        wait_until(what, LIMIT, async || {
            // Refused while the others are still taking in the set's configuration.
            client.database("admin").run_command(doc! { "replSetStepUp": 1 }).await.is_ok()
        })
        .await
    }

    /// Makes the user that the builder was given, if it was given one.
    pub(crate) async fn create_root_user(&self) -> Result<(), Error> {
        let Some((user, password)) = self.user() else {
            return Ok(());
        };
        let client = connect(&self.uri_without_user()).await?;
        let create = doc! { "createUser": user, "pwd": password, "roles": ["root"] };
        client.database("admin").run_command(create).await.map_err(Error::mongo("create the root user"))?;
        Ok(())
    }

    /// What the server says of itself, or `None` when it says nothing.
    pub(crate) async fn hello(&self) -> Option<Document> {
        let client = connect(&self.uri_without_user()).await.ok()?;
        hello(&client).await
    }

    async fn wait_for_hello(&self, state: &str, good: impl Fn(&Document) -> bool) -> Result<Document, Error> {
        let client = connect(&self.uri_without_user()).await?;
        let what = format!("{} on port {} to become {state}", self.server.what(), self.port());
        wait_for(what, LIMIT, async || hello(&client).await.filter(|hello| good(hello))).await
    }
}

/// `user:password` as a connection string holds it.
pub(crate) fn credentials(user: &str, password: &str) -> String {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!("{}:{}", encode(user), encode(password))
}

pub(crate) fn is_true(hello: &Document, field: &str) -> bool {
    hello.get_bool(field).unwrap_or(false)
}

pub(crate) async fn connect(uri: &str) -> Result<Client, Error> {
    let mut options = ClientOptions::parse(uri).await.map_err(Error::mongo("read a connection string"))?;
    options.server_selection_timeout = Some(LIMIT);
    Client::with_options(options).map_err(Error::mongo("make a MongoDB client"))
}

/// Servers of 4.4.2 and later all know `hello`, and answer it before anyone has logged in.
async fn hello(client: &Client) -> Option<Document> {
    client.database("admin").run_command(doc! { "hello": 1 }).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_told_as_such() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        for version in Version::ALL {
            let outcome = Mongod::builder(version).start_on(port).await.map(drop);
            assert!(matches!(outcome, Err(Error::PortTaken { port: p, .. }) if p == port), "{version}: {outcome:?}");
        }
    }
}
