//! Settings of spools.

use std::path::PathBuf;
use std::sync::Arc;

use gizer_oplog::Oplog;
use gizer_pg::{PgError, Target};

use super::{FileSpool, PostgresSpool, Spool, SpoolIdentity, file_name};
use crate::failure::Failure;

/// Where spools are: in files, or in a second PostgreSQL.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// The target of the loads; spools of other targets are left alone.
    pub target: Target,
    /// The MongoDB database whose changes are spooled.
    pub database: String,
    /// The second PostgreSQL, if spools are there.
    pub cache: Option<Target>,
    /// The folder of spool files otherwise.
    pub folder: PathBuf,
    /// Limit of a shard's spool in bytes.
    pub limit: u64,
}

impl SpoolSettings {
    /// Identity of the spool of these oplogs.
    pub fn identity(&self, oplogs: &[Oplog]) -> SpoolIdentity {
        let mut shards: Vec<&str> = oplogs.iter().map(Oplog::name).collect();
        shards.sort_unstable();
        SpoolIdentity {
            owner: format!("{} {}", self.target.server(), self.target.schema()),
            source: shards.join(" "),
            database: self.database.clone(),
        }
    }

    /// Opens the configured spool and locks it.
    pub(super) async fn open(&self, oplogs: &[Oplog]) -> Result<Arc<dyn Spool>, Failure> {
        let identity = self.identity(oplogs);
        let limit = self.limit.saturating_mul(oplogs.len() as u64);
        if let Some(target) = &self.cache {
            return Ok(Arc::new(PostgresSpool::open(target, &identity, limit).await?));
        }
        let path = self.folder.join(file_name(&identity));
        let open = tokio::task::spawn_blocking(move || FileSpool::open(&path, &identity, limit)).await;
        let spool = open.map_err(|_| Failure::failed("the thread that opens the spool has panicked"))??;
        if let Some(cut) = spool.cut() {
            let why = if cut.damaged { "is damaged" } else { "was torn by a crash" };
            tracing::warn!("spool {} {why}: its last {} bytes are cut off", spool.path().display(), cut.bytes);
        }
        Ok(Arc::new(spool))
    }
}

/// A failure of the second PostgreSQL, marked as such: the two servers would look alike otherwise.
pub fn of_cache(error: PgError) -> Failure {
    let failure = Failure::from(error);
    let remedy = failure.remedy.map(|remedy| remedy.replace("[postgres] uri", "[cache] uri"));
    Failure { message: format!("spooling changes in [cache]: {}", failure.message), remedy, ..failure }
}
