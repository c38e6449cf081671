//! What has to be known to reach the source.

use crate::error::MongoError;
use crate::uri::SecretUri;

/// The longest name of a database in bytes (MongoDB manual, "Limits and Thresholds").
const LONGEST_DATABASE_NAME: usize = 63;

/// Where documents and changes are read: the parts `[mongo]` and `[[oplog]]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where documents are read: one, or one for each shard where there is no router.
    pub uris: Vec<SecretUri>,
    /// The database.
    pub database: String,
    /// Where changes are read, one for each shard. If there is none, each of `uris` is its own oplog, named after its
    /// replica set.
    pub oplogs: Vec<OplogSettings>,
}

/// Where the changes of one shard are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OplogSettings {
    /// The shard's name, by which positions are kept.
    pub name: String,
    /// A connection string that leads to the shard's replica set.
    pub uri: SecretUri,
}

impl Settings {
    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// [`MongoError::NoUri`], [`MongoError::MalformedDatabaseName`] or [`MongoError::DuplicateOplogName`].
    pub fn check(&self) -> Result<(), MongoError> {
        if self.uris.is_empty() {
            return Err(MongoError::NoUri);
        }
        // The server takes some of these characters on some systems; the manual's "Naming Restrictions" has all.
        let possible = !self.database.is_empty()
            && self.database.len() <= LONGEST_DATABASE_NAME
            && !self.database.contains(['/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?', '\0']);
        if !possible {
            return Err(MongoError::MalformedDatabaseName { name: self.database.clone() });
        }
        let mut names: Vec<&str> = self.oplogs.iter().map(|oplog| oplog.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(MongoError::DuplicateOplogName { name: pair[0].to_owned() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(database: &str, oplogs: &[&str]) -> Settings {
        let uri = SecretUri::parse("mongodb://db").unwrap();
        let oplogs = oplogs.iter().map(|name| OplogSettings { name: (*name).to_owned(), uri: uri.clone() }).collect();
        Settings { uris: vec![uri], database: database.to_owned(), oplogs }
    }

    #[test]
    fn impossible_names_are_refused_before_anything_is_connected_to() {
        assert!(settings("shop", &["a", "b"]).check().is_ok());
        assert!(
            matches!(settings("shop", &["a", "b", "a"]).check(), Err(MongoError::DuplicateOplogName { name }) if name == "a")
        );
        for name in ["", "a.b", "a b", "$a", "a/b", &"x".repeat(64)] {
            assert!(matches!(settings(name, &[]).check(), Err(MongoError::MalformedDatabaseName { .. })), "{name}");
        }
        assert!(matches!(Settings { uris: vec![], ..settings("shop", &[]) }.check(), Err(MongoError::NoUri)));
    }
}
