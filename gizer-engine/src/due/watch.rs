//! Watches for new work during `gizer run --follow`: new collections and schema files, first
//! documents, and due retries.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gizer_oplog::{Cluster, Collection, CollectionScan, DocumentSource, MongoError, Portion, ScanOptions};
use gizer_pg::Session;
use gizer_pg::state::{self, Choice, ObstacleKind};

use super::{Due, Facts, KeyFit};
use crate::env::Env;
use crate::failure::Failure;

/// Interval of the watch.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What existed when following started.
#[derive(Debug)]
pub struct Watch {
    /// Names of collections, with whether they are skipped.
    source: BTreeSet<(String, bool)>,
    files: BTreeSet<String>,
    followed: BTreeSet<String>,
    /// Collections whose key can be widened.
    narrow: BTreeSet<String>,
    choice: Choice,
}

impl Watch {
    /// A watch over these facts.
    pub fn new(env: &Env, facts: &[Facts], source: BTreeSet<(String, bool)>, due: &Due) -> Result<Watch, Failure> {
        let followed = facts.iter().filter(|facts| facts.is_followed()).map(|facts| facts.name.clone()).collect();
        let narrow = facts.iter().filter(|facts| facts.key == KeyFit::Open).map(|facts| facts.name.clone()).collect();
        Ok(Watch { source, files: files(env)?, followed, narrow, choice: due.choice })
    }

    /// Checks every few seconds, and pauses following once there is something to do, or a server
    /// does not answer: the next one to ask it reports why.
    pub async fn run(&self, env: &Env, cluster: &Cluster, session: &Session, pause: &AtomicBool) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            match self.has_changed(env, cluster, session).await {
                Ok(false) => {}
                Ok(true) => break,
                Err(failure) => {
                    tracing::debug!(%failure, "could not check for new work");
                    break;
                }
            }
        }
        pause.store(true, Ordering::Relaxed);
    }

    async fn has_changed(&self, env: &Env, cluster: &Cluster, session: &Session) -> Result<bool, Failure> {
        if files(env)? != self.files {
            return Ok(true);
        }
        let listed = listed(cluster).await?;
        let is_new = |collection: &Collection| {
            let is_chosen = self.choice == Choice::Database && !env.settings.selection.excludes(&collection.name);
            is_chosen && collection.skip.is_none() && !self.source.contains(&(collection.name.clone(), false))
        };
        if listed.iter().any(is_new) {
            return Ok(true);
        }
        if !self.narrow.is_disjoint(&state::collections_with_unfit_keys(session).await?) {
            return Ok(true);
        }
        for expected in state::read_expected(session).await? {
            let name = &expected.collection;
            let Some(obstacle) = expected.obstacle.filter(|_| !env.settings.selection.excludes(name)) else { continue };
            let came = match obstacle.kind {
                // The follower itself retries what it has set apart.
                ObstacleKind::Failing => obstacle.is_due && !self.followed.contains(name),
                ObstacleKind::Waiting => match listed.iter().find(|collection| collection.name == *name) {
                    Some(collection) => !is_empty(cluster, collection).await?,
                    None => false,
                },
                ObstacleKind::Refused | ObstacleKind::Paused => false,
            };
            if came {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn files(env: &Env) -> Result<BTreeSet<String>, Failure> {
    Ok(env.schema_files()?.collections().map(str::to_owned).collect())
}

/// Collections of the database; none if it does not exist.
async fn listed(cluster: &Cluster) -> Result<Vec<Collection>, Failure> {
    match cluster.listed().await {
        Ok(listed) => Ok(listed),
        Err(MongoError::NoSuchDatabase { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a collection is empty: read, since counts in metadata may be wrong after a server crash.
async fn is_empty(cluster: &Cluster, collection: &Collection) -> Result<bool, Failure> {
    let options = ScanOptions { portion: Portion::Newest(1), ..ScanOptions::default() };
    let mut scan = CollectionScan::new(cluster, collection, options)?;
    while let Some(batch) = scan.next_batch().await? {
        if batch.len() > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
