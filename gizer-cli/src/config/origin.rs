//! Where a setting came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toml::de::DeTable;

use super::SETTINGS;

/// Where the value of a setting came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has set it.
    #[default]
    Default,
    /// A config file.
    File {
        /// The file.
        path: PathBuf,
        /// The line where it, or the first part of it, stands.
        line: Option<usize>,
        /// The names that it has there, where they are not its own.
        of: Option<String>,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line, of } => {
                write!(f, "{}", path.display())?;
                line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
                of.as_ref().map_or(Ok(()), |of| write!(f, ", {of}"))
            }
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

impl Origin {
    /// For machines.
    pub fn json(&self) -> Value {
        match self {
            Origin::Default => json!({"kind": "default"}),
            Origin::File { path, line, of } => {
                json!({"kind": "file", "file": path.display().to_string(), "line": line, "classic": of})
            }
            Origin::Variable(name) => json!({"kind": "environment", "name": name}),
            Origin::Flag(name) => json!({"kind": "flag", "name": name}),
        }
    }
}

/// The origin of every setting that is not a default, by the setting's flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Where the setting with this flag came from.
    pub fn of(&self, flag: &str) -> Origin {
        self.0.get(flag).cloned().unwrap_or_default()
    }

    pub(super) fn set(&mut self, flag: &str, origin: Origin) {
        self.0.insert(flag.to_owned(), origin);
    }
}

/// The places of all settings in a TOML file, which is known to be one of gizer's.
pub(super) fn in_toml(text: &str, path: &Path) -> Origins {
    let mut origins = Origins::default();
    let Ok(table) = DeTable::parse(text) else { return origins };
    let table = table.get_ref();
    for setting in SETTINGS {
        let Some((name, section)) = table.get_key_value(setting.section) else { continue };
        let at = match section.get_ref().as_table() {
            Some(keys) => keys.get_key_value(setting.key).map(|(key, _)| key.span().start),
            // An array of tables: the first of them.
            None => Some(name.span().start),
        };
        if let Some(at) = at {
            let line = text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
            origins.set(&setting.flag(), Origin::File { path: path.to_owned(), line: Some(line), of: None });
        }
    }
    origins
}
