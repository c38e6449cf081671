//! The configuration as the engine takes it.

use std::sync::Arc;

use gizer_engine::due;
use gizer_engine::evolve::{self, EvolveSettings};
use gizer_engine::selection::Selection;
use gizer_engine::spool::{SpoolSettings, of_cache};
use gizer_engine::{Failure, Servers, Settings};
use gizer_oplog::{MongoError, OplogSettings, SecretUri};
use gizer_pg::Target;
use gizer_verify::ReadBack;

use super::setting_types::{EvolvePolicy, InferPolicy, LostPosition, VerifyMode};
use super::{Config, MongoUris};

/// Of so many documents one is read back with `[verify] mode = "sample"`.
const SAMPLED: u32 = 16;

impl Config {
    /// What the engine works by.
    pub fn engine_settings(&self) -> Settings {
        Settings {
            servers: Arc::new(self.clone()),
            schemas_dir: self.schemas_dir.clone(),
            infer: match self.infer {
                InferPolicy::NoneYet => due::InferPolicy::NoneYet,
                InferPolicy::Missing => due::InferPolicy::Missing,
                InferPolicy::Never => due::InferPolicy::Never,
            },
            lost_position: match self.lost_position {
                LostPosition::Auto => due::LostPosition::Auto,
                LostPosition::Resync => due::LostPosition::Resync,
                LostPosition::Load => due::LostPosition::Load,
                LostPosition::Stop => due::LostPosition::Stop,
            },
            selection: Selection { include: self.include.clone(), exclude: self.exclude.clone() },
            memory: self.memory,
            retry_for: self.retry_for,
            load_workers: self.load_workers,
            key_workers: self.key_workers,
            swap_timeout: self.swap_timeout,
            spill_dir: self.spool_dir.clone(),
            read_back: match self.verify_mode {
                VerifyMode::All => ReadBack::All,
                VerifyMode::Sample => ReadBack::Sample(SAMPLED),
                VerifyMode::Off => ReadBack::Off,
            },
            max_repairs: self.max_repairs,
            max_rejects: self.max_rejects,
            evolve: EvolveSettings {
                policy: match self.evolve {
                    EvolvePolicy::Off => evolve::EvolvePolicy::Off,
                    EvolvePolicy::Ask => evolve::EvolvePolicy::Ask,
                    EvolvePolicy::Auto => evolve::EvolvePolicy::Auto,
                },
                documents: self.evolve_documents,
                percent: self.evolve_percent,
                every: self.evolve_every,
            },
        }
    }
}

/// Passwords are read each time, so that one that was changed is the new one.
impl Servers for Config {
    fn source(&self) -> Result<gizer_oplog::MongoSettings, Failure> {
        let MongoUris { documents, oplogs } = self.mongo()?;
        let uris = documents.iter().map(|uri| SecretUri::parse(uri)).collect::<Result<_, _>>()?;
        let oplog = |(name, uri): &(String, String)| {
            Ok::<_, MongoError>(OplogSettings { name: name.clone(), uri: SecretUri::parse(uri)? })
        };
        let oplogs = oplogs.iter().map(oplog).collect::<Result<_, _>>()?;
        Ok(gizer_oplog::MongoSettings { uris, database: self.database()?.to_owned(), oplogs })
    }

    fn target(&self) -> Result<Target, Failure> {
        Ok(Target::parse(&self.postgres()?, &self.postgres_schema)?)
    }

    fn spools(&self) -> Result<SpoolSettings, Failure> {
        let cache = self.cache()?.map(|uri| Target::parse(&uri, &self.postgres_schema)).transpose();
        Ok(SpoolSettings {
            target: self.target()?,
            database: self.database()?.to_owned(),
            cache: cache.map_err(of_cache)?,
            folder: self.spool_dir.clone(),
            limit: self.spool_limit,
        })
    }
}
