//! Where a setting came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use toml::de::DeTable;

use super::SETTINGS;

/// Where the value of a setting came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SettingOrigin {
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

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingOrigin::Default => f.write_str("default"),
            SettingOrigin::File { path, line, of } => {
                write!(f, "{}", path.display())?;
                line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
                of.as_ref().map_or(Ok(()), |of| write!(f, ", {of}"))
            }
            SettingOrigin::Variable(name) => f.write_str(name),
            SettingOrigin::Flag(name) => f.write_str(name),
        }
    }
}

impl SettingOrigin {
    /// For machines.
    pub fn json(&self) -> Value {
        match self {
            SettingOrigin::Default => json!({"kind": "default"}),
            SettingOrigin::File { path, line, of } => {
                json!({"kind": "file", "file": path.display().to_string(), "line": line, "classic": of})
            }
            SettingOrigin::Variable(name) => json!({"kind": "environment", "name": name}),
            SettingOrigin::Flag(name) => json!({"kind": "flag", "name": name}),
        }
    }
}

/// The origin of every setting that is not a default, by the setting's flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingOrigins(BTreeMap<String, SettingOrigin>);

impl SettingOrigins {
    /// Where the setting with this flag came from.
    pub fn of(&self, flag: &str) -> SettingOrigin {
        self.0.get(flag).cloned().unwrap_or_default()
    }

    pub(super) fn set(&mut self, flag: &str, origin: SettingOrigin) {
        self.0.insert(flag.to_owned(), origin);
    }
}

/// The places of all settings in a TOML file, which is known to be one of gizer's.
pub(super) fn in_toml(text: &str, path: &Path) -> SettingOrigins {
    let mut origins = SettingOrigins::default();
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
            origins.set(&setting.flag(), SettingOrigin::File { path: path.to_owned(), line: Some(line), of: None });
        }
    }
    origins
}
