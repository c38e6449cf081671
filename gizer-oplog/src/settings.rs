//! Settings of the source.

use crate::error::MongoError;
use crate::uri::SecretUri;

/// The longest name of a database in bytes (MongoDB manual, "Limits and Thresholds").
const MAX_DATABASE_NAME_BYTES: usize = 63;

/// Where documents and changes are read: `[mongo]` and `[[oplog]]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongoSettings {
    /// Where documents are read: one URI, or one for each shard without a router.
    pub uris: Vec<SecretUri>,
    /// The database.
    pub database: String,
    /// Where changes are read, by shard. If empty, `uris` are the oplogs, named after their sets.
    pub oplogs: Vec<OplogSettings>,
}

/// Where the changes of one shard are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OplogSettings {
    /// The shard's name, under which its position is saved.
    pub name: String,
    /// A connection string that leads to the shard's replica set.
    pub uri: SecretUri,
}

impl MongoSettings {
    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// [`MongoError::NoUri`], [`MongoError::MalformedDatabaseName`] or [`MongoError::DuplicateOplogName`].
    pub fn check(&self) -> Result<(), MongoError> {
        if self.uris.is_empty() {
            return Err(MongoError::NoUri);
        }
        // Some systems allow some of these; the manual's "Naming Restrictions" has all.
        let possible = !self.database.is_empty()
            && self.database.len() <= MAX_DATABASE_NAME_BYTES
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

    fn settings(database: &str, oplogs: &[&str]) -> MongoSettings {
        let uri = SecretUri::parse("mongodb://db").unwrap();
        let oplogs = oplogs.iter().map(|name| OplogSettings { name: (*name).to_owned(), uri: uri.clone() }).collect();
        MongoSettings { uris: vec![uri], database: database.to_owned(), oplogs }
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
        assert!(matches!(MongoSettings { uris: vec![], ..settings("shop", &[]) }.check(), Err(MongoError::NoUri)));
    }
}
