//! Whose spools there are, and where.

use std::path::PathBuf;

use gizer_oplog::spool::SpoolIdentity;
use gizer_pg::{PgError, Target};

use crate::failure::Failure;

/// Whose spools there are, and where: in files, or in a second PostgreSQL.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// Where the tables are that the spools are for: another target's are left alone.
    pub target: Target,
    /// The MongoDB database whose entries are recorded.
    pub database: String,
    /// The second PostgreSQL, if they are to be there.
    pub cache: Option<Target>,
    /// The folder of the files, where they are not.
    pub folder: PathBuf,
    /// Bytes that the spool of one oplog may take.
    pub limit: u64,
}

impl SpoolSettings {
    /// Whose the spool of an oplog is.
    pub(super) fn identity(&self, shard: &str) -> SpoolIdentity {
        SpoolIdentity {
            owner: format!("{} {}", self.target.server(), self.target.schema()),
            shard: shard.to_owned(),
            database: self.database.clone(),
        }
    }
}

/// A failure of the second PostgreSQL: which of the two servers it is about would not be seen otherwise.
pub fn of_cache(error: PgError) -> Failure {
    let failure = Failure::from(error);
    let remedy = failure.remedy.map(|remedy| remedy.replace("[postgres] uri", "[cache] uri"));
    Failure { message: format!("keeping the oplog aside in [cache]: {}", failure.message), remedy, ..failure }
}
