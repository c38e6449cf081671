//! Connecting to the source and identifying it.

use std::fmt;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures::future::try_join_all;
use gizer_flatten::change::Namespace;
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};
use tokio::time::timeout;

use crate::error::MongoError;
use crate::pairing::{self, Membership};
use crate::position::Oplog;
use crate::reachability::Reachability;
use crate::settings::{MongoSettings, OplogSettings};
use crate::tls;
use crate::uri::{Hosts, SecretUri};
use crate::user_name;
use crate::version::ServerVersion;
use crate::waiting::ReplyLimit;

/// Limit for connecting to a server. It covers what the driver's own limits do not: looking up
/// `mongodb+srv` hosts, and a server that accepts a connection and never answers.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long the driver looks for a server, unless the URI says less. Less than [`CONNECT_LIMIT`],
/// so that the driver fails first: it knows why.
const SELECTION_LIMIT: Duration = Duration::from_secs(8);

/// How long one connection may take, unless the URI says less. It also limits how long a server may
/// hang while it is read: the driver's monitor waits this long plus one heartbeat (10 s), then
/// closes the server's connections.
const SOCKET_LIMIT: Duration = Duration::from_secs(5);

/// The connected source: what `[mongo]` names.
#[derive(Debug)]
pub struct Cluster {
    deployments: Vec<Deployment>,
    settings: MongoSettings,
}

impl Cluster {
    /// Whether documents are read from several servers, each with some of the shards.
    pub fn reads_shards_apart(&self) -> bool {
        self.deployments.len() > 1
    }

    /// Connects to every URI at once; asks each server for its version and topology.
    ///
    /// [`Cluster::oplogs`] connects to the oplogs.
    ///
    /// # Errors
    /// Within 10 seconds: those of [`MongoSettings::check`] and [`Deployment::connect`];
    /// [`MongoError::RouterAmongShards`], [`MongoError::SameServer`] and
    /// [`MongoError::SameReplicaSet`] where documents would be read twice.
    pub async fn connect(settings: MongoSettings) -> Result<Cluster, MongoError> {
        settings.check()?;
        let deployments = try_join_all(settings.uris.iter().map(Deployment::connect)).await?;
        check_distinct(&deployments)?;
        if settings.oplogs.is_empty() {
            check_distinct_names(&deployments)?;
        }
        pairing::check_distinct_sets(deployments.iter())?;
        if let [_, _, ..] = deployments.as_slice()
            && let Some(router) = deployments.iter().find(|each| each.topology == Topology::Router)
        {
            return Err(MongoError::RouterAmongShards { hosts: router.hosts.clone() });
        }
        Ok(Cluster { deployments, settings })
    }

    /// Name of the database.
    pub fn database(&self) -> &str {
        &self.settings.database
    }

    /// Where documents are read, in the order of the URIs.
    pub fn deployments(&self) -> &[Deployment] {
        &self.deployments
    }

    /// The hosts of all deployments.
    pub fn hosts(&self) -> Hosts {
        Hosts::new(self.deployments.iter().map(|each| &each.hosts))
    }

    /// The full name of a collection.
    pub fn namespace(&self, collection: &str) -> Namespace {
        Namespace { database: self.settings.database.clone(), collection: collection.to_owned() }
    }

    /// The oplog of each shard: those of the settings, or else one for each deployment, named after its replica set.
    ///
    /// Each oplog of the settings must pair with one replica set that documents are read from: a
    /// set without an oplog would look like one that never changes. Behind a router they are
    /// compared with its shards, if the user may see them.
    ///
    /// # Errors
    /// As [`Cluster::connect`]; [`MongoError::Standalone`] or [`MongoError::RouterWithoutOplog`]
    /// where there is no oplog; [`MongoError::OplogsDiffer`] where oplogs and replica sets do not
    /// pair.
    pub async fn oplogs(&self) -> Result<Vec<Oplog>, MongoError> {
        if self.settings.oplogs.is_empty() {
            return self.deployments.iter().map(|each| Oplog::of(each.clone(), None)).collect();
        }
        let named = &self.settings.oplogs;
        let deployments = try_join_all(named.iter().map(|each| Deployment::connect(&each.uri))).await?;
        check_distinct(&deployments)?;
        let oplog = |(each, deployment): (&OplogSettings, Deployment)| Oplog::of(deployment, Some(&each.name));
        let oplogs = named.iter().zip(deployments).map(oplog).collect::<Result<Vec<Oplog>, MongoError>>()?;
        pairing::check_pairs(&self.deployments, &oplogs).await?;
        Ok(oplogs)
    }
}

/// Checks that all are different servers, by the process id of 4.4 and later (`topologyVersion`).
fn check_distinct(deployments: &[Deployment]) -> Result<(), MongoError> {
    for (at, second) in deployments.iter().enumerate() {
        let same = |first: &&Deployment| first.process.is_some() && first.process == second.process;
        if let Some(first) = deployments[..at].iter().find(same) {
            return Err(MongoError::SameServer { first: first.hosts.clone(), second: second.hosts.clone() });
        }
    }
    Ok(())
}

/// Checks that all replica sets have different names.
fn check_distinct_names(deployments: &[Deployment]) -> Result<(), MongoError> {
    for (at, second) in deployments.iter().enumerate() {
        let Topology::ReplicaSet { name } = &second.topology else { continue };
        if let Some(first) = deployments[..at].iter().find(|first| first.topology == second.topology) {
            let (first, second) = (first.hosts.clone(), second.hosts.clone());
            return Err(MongoError::SameReplicaSet { name: name.clone(), first, second });
        }
    }
    Ok(())
}

/// What kind of deployment a connection string leads to (MongoDB manual, "Glossary").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server without an oplog: it can be loaded but not followed.
    Standalone,
    /// A replica set, or a member of one.
    ReplicaSet {
        /// The set's name.
        name: String,
    },
    /// A sharded cluster behind a `mongos`.
    Router,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topology::Standalone => f.write_str("standalone"),
            Topology::ReplicaSet { name } => write!(f, "replica set {name}"),
            Topology::Router => f.write_str("mongos"),
        }
    }
}

/// A connected standalone server, replica set or sharded cluster. Clones share connections.
#[derive(Clone)]
pub struct Deployment {
    client: Client,
    pub(crate) hosts: Hosts,
    pub(crate) heard: Reachability,
    pub(crate) authenticated: bool,
    pub(crate) selection_limit: Duration,
    version: ServerVersion,
    topology: Topology,
    /// The process that answered; servers report it since 4.4.
    pub(crate) process: Option<ObjectId>,
    pub(crate) membership: Membership,
}

impl Deployment {
    /// Connects, and asks the server for its version and topology.
    ///
    /// # Errors
    /// Within 10 seconds: [`MongoError::MalformedUri`], [`MongoError::UnusableTlsFile`],
    /// [`MongoError::Unreachable`], [`MongoError::TlsRefused`], [`MongoError::HostsNotFound`],
    /// [`MongoError::AuthenticationRefused`], [`MongoError::TooOld`] or
    /// [`MongoError::NotInitiated`].
    pub async fn connect(uri: &SecretUri) -> Result<Deployment, MongoError> {
        let heard = Reachability::default();
        match timeout(CONNECT_LIMIT, Deployment::open(uri, heard.clone())).await {
            Ok(connected) => connected,
            Err(_) => Err(heard.unreachable(uri.hosts().clone(), CONNECT_LIMIT)),
        }
    }

    async fn open(uri: &SecretUri, heard: Reachability) -> Result<Deployment, MongoError> {
        let options = client_options(uri, &heard).await?;
        let mut heard = heard;
        heard.note_read_preference(options.selection_criteria.as_ref());
        let mut deployment = Deployment {
            hosts: uri.hosts().clone(),
            heard,
            authenticated: options.credential.is_some(),
            selection_limit: options.server_selection_timeout.unwrap_or(SELECTION_LIMIT),
            client: Client::with_options(options).map_err(|error| uri.malformed(&error))?,
            // Overwritten below with the server's answers.
            version: ServerVersion { major: 0, minor: 0, patch: 0 },
            topology: Topology::Standalone,
            process: None,
            membership: Membership::default(),
        };
        let hello = deployment.hello().await?;
        deployment.version = deployment.ask_version().await?;
        deployment.topology =
            topology(&hello).ok_or_else(|| MongoError::NotInitiated { hosts: deployment.hosts.clone() })?;
        deployment.process =
            hello.get_document("topologyVersion").and_then(|version| version.get_object_id("processId")).ok();
        deployment.membership = Membership::of(&hello);
        tracing::debug!(hosts = %deployment.hosts, version = %deployment.version, topology = %deployment.topology, "connected");
        Ok(deployment)
    }

    /// The hosts of the connection string.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Version of the server that answered.
    pub fn version(&self) -> ServerVersion {
        self.version
    }

    /// Its topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    pub(crate) fn database(&self, name: &str) -> Database {
        self.client.database(name)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    async fn hello(&self) -> Result<Document, MongoError> {
        match self.admin("hello").await {
            // The first releases of 4.4 know only the old name.
            Err(MongoError::Server { code: 59, .. }) => self.admin("isMaster").await,
            answer => answer,
        }
    }

    async fn ask_version(&self) -> Result<ServerVersion, MongoError> {
        let answer = self.admin("buildInfo").await?;
        let text = answer.get_str("version").unwrap_or("without a version");
        let version = ServerVersion::parse(text).filter(|version| version.is_supported());
        version.ok_or_else(|| MongoError::TooOld { hosts: self.hosts.clone(), version: text.to_owned() })
    }

    /// Runs a command without arguments on the database `admin`.
    pub(crate) async fn admin(&self, command: &'static str) -> Result<Document, MongoError> {
        let admin = self.client.database("admin");
        self.answered(command, "admin", ReplyLimit::Short, admin.run_command(doc! { command: 1 })).await
    }
}

impl fmt::Debug for Deployment {
    /// The derived form would show the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment")
            .field("hosts", &self.hosts)
            .field("version", &self.version)
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

async fn client_options(uri: &SecretUri, heard: &Reachability) -> Result<ClientOptions, MongoError> {
    let mut options = ClientOptions::parse(uri.expose()).await.map_err(|error| match &*error.kind {
        mongodb::error::ErrorKind::DnsResolve { message, .. } => {
            MongoError::HostsNotFound { hosts: uri.hosts().clone(), message: message.clone() }
        }
        _ => uri.malformed(&error),
    })?;
    tls::check_files(&options, uri.hosts())?;
    if let Some(credential) = &mut options.credential {
        user_name::escape(credential)?;
    }
    let at_most = |limit: Duration, set: Option<Duration>| Some(set.map_or(limit, |set| set.min(limit)));
    options.server_selection_timeout = at_most(SELECTION_LIMIT, options.server_selection_timeout);
    options.connect_timeout = at_most(SOCKET_LIMIT, options.connect_timeout);
    options.app_name.get_or_insert_with(|| "gizer".to_owned());
    options.sdam_event_handler = Some(heard.handler());
    Ok(options)
}

/// The topology in a reply to `hello`; `None` for a member without a configuration.
fn topology(hello: &Document) -> Option<Topology> {
    if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        return Some(Topology::Router);
    }
    if hello.get_bool("isreplicaset").unwrap_or(false) {
        return None;
    }
    Some(match hello.get_str("setName") {
        Ok(name) => Topology::ReplicaSet { name: name.to_owned() },
        Err(_) => Topology::Standalone,
    })
}

#[cfg(test)]
#[path = "connect/tests.rs"]
mod tests;
