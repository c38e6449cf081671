//! Where `scripts/setup` puts the servers, and where Debian does.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Error;

/// A MongoDB release line that gizer is tested against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// 4.4: updates in the oplog are `$v: 1`; no snapshot reads outside a transaction.
    V4_4,
    /// 5.0: updates in the oplog are `$v: 2`.
    V5_0,
    /// 6.0: updates in the oplog are `$v: 2`.
    V6_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V4_4, Self::V5_0, Self::V6_0];

    /// Major and minor number, such as `4.4`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4_4 => "4.4",
            Self::V5_0 => "5.0",
            Self::V6_0 => "6.0",
        }
    }

    /// The full number of the server that is installed, as its `buildInfo` gives it.
    pub fn full(self) -> &'static str {
        match self {
            Self::V4_4 => "4.4.2",
            Self::V5_0 => "5.0.4",
            Self::V6_0 => "6.0.27",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| format!("expected a MongoDB version out of 4.4, 5.0 and 6.0, got {text:?}"))
    }
}

/// A mongod and the folder of the libraries that it, and nothing else, needs.
#[derive(Debug, Clone)]
pub(crate) struct MongodInstall {
    pub(crate) program: PathBuf,
    pub(crate) libraries: PathBuf,
}

impl MongodInstall {
    pub(crate) fn find(version: Version) -> Result<Self, Error> {
        let servers = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(".servers");
        let folder = servers.join(format!("mongod-{version}"));
        let libraries = servers.join("openssl-1.1");
        for folder in [&folder, &libraries] {
            // The stamp that setup writes last: what lacks it is half an install.
            if !folder.join(".installed").is_file() {
                return Err(Error::NotInstalled { what: format!("mongod {version}"), path: folder.clone() });
            }
        }
        Ok(Self { program: folder.join("fiftyone/db/bin/mongod"), libraries })
    }
}

/// The folder of PostgreSQL's server programs, and their major version.
#[derive(Debug, Clone)]
pub(crate) struct PostgresInstall {
    pub(crate) folder: PathBuf,
    pub(crate) major: u32,
}

impl PostgresInstall {
    /// The newest one of version 13 or later, where Debian's packages put it.
    pub(crate) fn find() -> Result<Self, Error> {
        let packages = Path::new("/usr/lib/postgresql");
        fs::read_dir(packages)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let major = entry.file_name().to_str()?.parse().ok()?;
                let folder = entry.path().join("bin");
                (major >= 13 && folder.join("postgres").is_file()).then_some(Self { folder, major })
            })
            .max_by_key(|install| install.major)
            .ok_or_else(|| Error::NotInstalled { what: "PostgreSQL 13 or later".into(), path: packages.into() })
    }
}
