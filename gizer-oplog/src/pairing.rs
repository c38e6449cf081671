//! Checks that the oplogs are those of the servers documents are read from.
//!
//! A shard without an oplog looks like one that never changes, and an oplog of another cluster like
//! an idle one: the tables would silently go stale. So before any load each replica set must have
//! its oplog, and each oplog its replica set.

use std::collections::BTreeSet;

use bson::{Document, doc};
use futures::TryStreamExt;

use crate::connect::{Deployment, Topology};
use crate::error::MongoError;
use crate::position::Oplog;
use crate::waiting::ReplyLimit;

const SHARDS: &str = "config.shards";

/// Members of a replica set by the names in `hello`, and which one answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Membership {
    me: Option<String>,
    hosts: BTreeSet<String>,
}

impl Membership {
    /// From a reply to `hello` (MongoDB manual, "hello", Replica Sets).
    pub(crate) fn of(hello: &Document) -> Membership {
        let list = |field| hello.get_array(field).into_iter().flatten().filter_map(|host| host.as_str());
        let hosts = ["hosts", "passives", "arbiters"].into_iter().flat_map(list).map(str::to_lowercase).collect();
        Membership { me: hello.get_str("me").ok().map(str::to_lowercase), hosts }
    }
}

/// Whether two deployments are one replica set.
///
/// Different sets may share a name, and even member names, as `localhost:27017` in containers. A
/// process belongs to one set only.
fn same_set(one: &Deployment, other: &Deployment) -> bool {
    if one.process.is_some() && one.process == other.process {
        return true;
    }
    let (Topology::ReplicaSet { name }, Topology::ReplicaSet { name: other_name }) = (one.topology(), other.topology())
    else {
        return false;
    };
    let (members, others) = (&one.membership, &other.membership);
    let other_process_of_one_name =
        members.me.is_some() && members.me == others.me && one.process.is_some() && other.process.is_some();
    name == other_name && !members.hosts.is_disjoint(&others.hosts) && !other_process_of_one_name
}

/// Checks that all deployments are different replica sets.
///
/// # Errors
/// [`MongoError::SameReplicaSet`].
pub(crate) fn check_distinct_sets<'d>(deployments: impl Iterator<Item = &'d Deployment>) -> Result<(), MongoError> {
    let mut known: Vec<&Deployment> = Vec::new();
    for second in deployments {
        if let Some(first) = known.iter().find(|first| same_set(first, second))
            && let Topology::ReplicaSet { name } = second.topology()
        {
            let (first, second) = (first.hosts.clone(), second.hosts.clone());
            return Err(MongoError::SameReplicaSet { name: name.clone(), first, second });
        }
        known.push(second);
    }
    Ok(())
}

/// Checks that deployments, or the shards behind a router, pair with oplogs.
///
/// # Errors
/// [`MongoError::SameReplicaSet`], [`MongoError::Standalone`], or [`MongoError::OplogsDiffer`] with
/// all that do not pair; behind a router also connection errors.
pub(crate) async fn check_pairs(deployments: &[Deployment], oplogs: &[Oplog]) -> Result<(), MongoError> {
    check_distinct_sets(oplogs.iter().map(Oplog::deployment))?;
    if let Some(router) = deployments.iter().find(|each| *each.topology() == Topology::Router) {
        return match shards(router).await? {
            Some(shards) => compare(&shards, RouterShard::label, oplogs, RouterShard::is_that_of),
            None => Ok(()),
        };
    }
    if let Some(standalone) = deployments.iter().find(|each| *each.topology() == Topology::Standalone) {
        return Err(MongoError::Standalone { hosts: standalone.hosts.clone() });
    }
    compare(deployments, label, oplogs, |deployment, oplog| same_set(deployment, oplog.deployment()))
}

fn compare<S>(
    sources: &[S],
    label: impl Fn(&S) -> String,
    oplogs: &[Oplog],
    pair: impl Fn(&S, &Oplog) -> bool,
) -> Result<(), MongoError> {
    let without_oplog = sources.iter().filter(|source| !oplogs.iter().any(|oplog| pair(source, oplog)));
    let without_oplog: Vec<String> = without_oplog.map(label).collect();
    let foreign = oplogs.iter().filter(|oplog| !sources.iter().any(|source| pair(source, oplog)));
    let foreign: Vec<String> =
        foreign.map(|oplog| format!("{:?}, {}", oplog.name(), self::label(oplog.deployment()))).collect();
    if without_oplog.is_empty() && foreign.is_empty() {
        return Ok(());
    }
    Err(MongoError::OplogsDiffer { without_oplog, foreign })
}

/// `replica set rs0 at db1:27017`
fn label(deployment: &Deployment) -> String {
    format!("{} at {}", deployment.topology(), deployment.hosts)
}

/// A shard in the router's catalog.
struct RouterShard {
    id: String,
    set: String,
    hosts: BTreeSet<String>,
}

impl RouterShard {
    /// A document of `config.shards`: `host` is `<set>/<host:port>,<host:port>` (MongoDB manual, "config.shards").
    fn read(document: &Document) -> Option<RouterShard> {
        let (set, hosts) = document.get_str("host").ok()?.split_once('/')?;
        Some(RouterShard {
            id: document.get_str("_id").ok()?.to_owned(),
            set: set.to_owned(),
            hosts: hosts.split(',').map(str::to_lowercase).collect(),
        })
    }

    fn label(&self) -> String {
        let hosts: Vec<&str> = self.hosts.iter().map(String::as_str).collect();
        format!("shard {}, replica set {} at {}", self.id, self.set, hosts.join(","))
    }

    fn is_that_of(&self, oplog: &Oplog) -> bool {
        let deployment = oplog.deployment();
        let named = matches!(deployment.topology(), Topology::ReplicaSet { name } if *name == self.set);
        named && !deployment.membership.hosts.is_disjoint(&self.hosts)
    }
}

/// The shards behind a router; `None` if the user may not see them.
async fn shards(router: &Deployment) -> Result<Option<Vec<RouterShard>>, MongoError> {
    let read = async {
        let shards = router.database("config").collection::<Document>("shards").find(doc! {}).await?;
        shards.try_collect::<Vec<Document>>().await
    };
    match router.answered("find", SHARDS, ReplyLimit::Short, read).await {
        Ok(shards) => Ok(Some(shards.iter().filter_map(RouterShard::read).collect())),
        Err(MongoError::NoRights { .. }) => {
            tracing::info!(router = %router.hosts, "cannot compare the oplogs with {SHARDS}: the user may not read it");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
