//! A replica set of several members, to see what a fail-over does.

use bson::{Document, doc};
use futures::future::try_join_all;
use mongodb::Client;

use super::mongod::{connect, credentials, is_true};
use super::server::LIMIT;
use super::{Error, Mongod, MongodBuilder, Version, wait_for};

/// Members call an election when they have not heard from the primary for this long. The server's own default is twice that;
/// much less, and a busy machine alone sets off elections.
const ELECTION_TIMEOUT_MS: i32 = 5_000;

/// Several mongod of one replica set. Dropping it ends them all.
#[derive(Debug)]
pub struct ReplicaSet {
    name: String,
    members: Vec<Mongod>,
}

impl ReplicaSet {
    /// Starts `members` servers as replica set `rs0`. When this returns there is a primary, and the others are secondaries.
    ///
    /// # Errors
    /// As [`MongodBuilder::start`].
    pub async fn start(version: Version, members: usize) -> Result<Self, Error> {
        Mongod::builder(version).start_replica_set(members).await
    }

    pub(crate) async fn start_with(builder: MongodBuilder, name: &str, members: usize) -> Result<Self, Error> {
        let members = try_join_all((0..members).map(|_| builder.clone().start_uninitiated())).await?;
        let set = Self { name: name.into(), members };
        if let Some(first) = set.members.first() {
            first.initiate(set.config()).await?;
            first.call_election().await?;
        }
        set.primary().await?.create_root_user().await?;
        try_join_all(set.members.iter().map(Mongod::wait_until_readable)).await?;
        Ok(set)
    }

    fn config(&self) -> Document {
        let members: Vec<Document> =
            (0..).zip(&self.members).map(|(id, member): (i32, _)| doc! { "_id": id, "host": member.host() }).collect();
        doc! {
            "_id": &self.name,
            "members": members,
            "settings": { "electionTimeoutMillis": ELECTION_TIMEOUT_MS, "heartbeatIntervalMillis": 1_000 },
        }
    }

    /// A connection string that names all members and the set, with the credentials of the
    /// user that [`MongodBuilder::auth`] made.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self.members.iter().map(Mongod::host).collect();
        let hosts = hosts.join(",");
        match self.members.first().and_then(Mongod::user) {
            Some((user, password)) => {
                let credentials = credentials(user, password);
                format!("mongodb://{credentials}@{hosts}/?replicaSet={}&authSource=admin", self.name)
            }
            None => format!("mongodb://{hosts}/?replicaSet={}", self.name),
        }
    }

    /// A client that follows the set's primary. It belongs to the calling runtime.
    ///
    /// # Errors
    /// [`Error::Mongo`] if the driver does not accept [`ReplicaSet::uri`].
    pub async fn client(&self) -> Result<Client, Error> {
        connect(&self.uri()).await
    }

    /// All members, in the order of their ids in the set.
    pub fn members(&self) -> &[Mongod] {
        &self.members
    }

    /// The member that is primary now. Waits for one while an election is under way.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after a minute without a primary.
    pub async fn primary(&self) -> Result<&Mongod, Error> {
        wait_for(format!("a primary of replica set {}", self.name), LIMIT, async || {
            for member in self.members.iter().filter(|member| member.pid().is_some()) {
                if member.hello().await.is_some_and(|hello| is_true(&hello, "isWritablePrimary")) {
                    return Some(member);
                }
            }
            None
        })
        .await
    }

    /// The members that run and are not primary now.
    ///
    /// # Errors
    /// As [`ReplicaSet::primary`].
    pub async fn secondaries(&self) -> Result<Vec<&Mongod>, Error> {
        let primary = self.primary().await?.port();
        Ok(self.members.iter().filter(|member| member.pid().is_some() && member.port() != primary).collect())
    }
}
