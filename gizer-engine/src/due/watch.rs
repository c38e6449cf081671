//! What comes up while `gizer run --follow` follows: new collections and schema files, documents in collections that had none, and
//! what has failed and is due to be tried again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gizer_oplog::{Cluster, Collection, CollectionScan, DocumentSource, MongoError, Portion, ScanOptions};
use gizer_pg::Session;
use gizer_pg::state::{self, Choice, ObstacleKind};

use super::{Due, Facts, KeyFit};
use crate::env::Env;
use crate::failure::Failure;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What was there when following began.
#[derive(Debug)]
pub struct Watch {
    /// Names of collections and of what is skipped, with whether it is.
    source: BTreeSet<(String, bool)>,
    files: BTreeSet<String>,
    followed: BTreeSet<String>,
    /// Those whose key can be widened.
    narrow: BTreeSet<String>,
    choice: Choice,
}

impl Watch {
    /// What these facts are about.
    pub fn new(env: &Env, facts: &[Facts], source: BTreeSet<(String, bool)>, due: &Due) -> Result<Watch, Failure> {
        let followed = facts.iter().filter(|facts| facts.is_followed()).map(|facts| facts.name.clone()).collect();
        let narrow = facts.iter().filter(|facts| facts.key == KeyFit::Open).map(|facts| facts.name.clone()).collect();
        Ok(Watch { source, files: files(env)?, followed, narrow, choice: due.choice })
    }

    /// Looks every few seconds, and asks those who follow to pause once there is something to do, or a server does not answer:
    /// whoever asks it next tells why.
    pub async fn run(&self, env: &Env, cluster: &Cluster, session: &Session, pause: &AtomicBool) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.has_changed(env, cluster, session).await {
                Ok(false) => {}
                Ok(true) => break,
                Err(failure) => {
                    tracing::debug!(%failure, "could not look for what has come up");
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
                // Those who follow try again themselves what they have set apart.
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

/// What is in the database; nothing of one that is not there.
async fn listed(cluster: &Cluster) -> Result<Vec<Collection>, Failure> {
    match cluster.listed().await {
        Ok(listed) => Ok(listed),
        Err(MongoError::NoSuchDatabase { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a collection has no document at all. Counts in metadata may be wrong after a crash of the server: it is read.
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
