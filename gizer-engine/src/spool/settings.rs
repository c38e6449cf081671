//! Whose spools there are, and where.

use std::path::PathBuf;
use std::sync::Arc;

use gizer_oplog::Oplog;
use gizer_pg::{PgError, Target};

use super::{FileSpool, PostgresSpool, Spool, SpoolIdentity, file_name};
use crate::failure::Failure;

/// Whose spools there are, and where: in files, or in a second PostgreSQL.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// Where the tables are that the spools are for: another target's are left alone.
    pub target: Target,
    /// The MongoDB database whose changes are spooled.
    pub database: String,
    /// The second PostgreSQL, if they are to be there.
    pub cache: Option<Target>,
    /// The folder of the files, where they are not.
    pub folder: PathBuf,
    /// Bytes that the changes of one shard may take.
    pub limit: u64,
}

impl SpoolSettings {
    /// Whose the spool of these oplogs is.
    pub fn identity(&self, oplogs: &[Oplog]) -> SpoolIdentity {
        let mut shards: Vec<&str> = oplogs.iter().map(Oplog::name).collect();
        shards.sort_unstable();
        SpoolIdentity {
            owner: format!("{} {}", self.target.server(), self.target.schema()),
            source: shards.join(" "),
            database: self.database.clone(),
        }
    }

    /// Opens what the configuration names, and keeps other runs from writing it.
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

/// A failure of the second PostgreSQL: which of the two servers it is about would not be seen otherwise.
pub fn of_cache(error: PgError) -> Failure {
    let failure = Failure::from(error);
    let remedy = failure.remedy.map(|remedy| remedy.replace("[postgres] uri", "[cache] uri"));
    Failure { message: format!("spooling changes in [cache]: {}", failure.message), remedy, ..failure }
}
