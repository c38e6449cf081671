//! Passwords that do not stand in a connection string: in a file, or in the environment.
//!
//! They are put into the connection strings that name a user without a password, when a server is connected to, and not before: so a
//! password that was changed in its file is taken by the next connection, and whatever shows the configuration cannot show it.

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::exit::Failure;

/// Sections with a password of their own. That of `mongo` is for the connection strings of oplogs too.
pub(super) const SECTIONS: [&str; 3] = ["mongo", "postgres", "cache"];

/// `GIZER_MONGO_PASSWORD`: there is no flag and no key for it, since others see flags in the list of processes.
pub(super) fn variable(section: &str) -> String {
    format!("GIZER_{}_PASSWORD", section.to_uppercase())
}

/// A password. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

impl Password {
    pub(super) fn new(text: String) -> Password {
        Password(text)
    }

    /// What the file holds, but for a line end behind it.
    fn read(path: &Path) -> Result<Password, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() || text.contains(['\n', '\0']) {
            let lines = text.lines().count();
            return Err(format!("expected one line with the password in {}, found {lines}", path.display()));
        }
        Ok(Password(text.to_owned()))
    }
}

/// Where the password of a section is, if it is not in the connection string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PasswordSource {
    /// In the connection string, or nowhere.
    #[default]
    None,
    /// In a file.
    File(PathBuf),
    /// In the environment.
    Variable(Password),
}

impl PasswordSource {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            PasswordSource::File(path) => Some(path),
            _ => None,
        }
    }

    /// Puts the password into those of the connection strings of a section that name a user and no password.
    ///
    /// # Errors
    /// [`Failure`] of kind [`Usage`](crate::exit::FailureKind::Usage) if the file cannot be read or does not hold one line, or if
    /// no connection string wants a password: something that was set would have no effect.
    pub(super) fn put_into<'u>(
        &self,
        section: &str,
        uris: impl IntoIterator<Item = &'u mut String>,
    ) -> Result<(), Failure> {
        let (password, set) = match self {
            PasswordSource::None => return Ok(()),
            PasswordSource::Variable(password) => (password.clone(), variable(section)),
            PasswordSource::File(path) => {
                let set = format!("{section}.password_file");
                let read = Password::read(path).map_err(|problem| {
                    Failure::usage(format!("{set}: {problem}"))
                        .remedy("write the password into the file and nothing else, and let gizer's user read it")
                });
                (read?, set)
            }
        };
        let mut wanted = false;
        for uri in uris {
            if let Some(filled) = with_password(uri, &password) {
                (*uri, wanted) = (filled, true);
            }
        }
        if wanted {
            return Ok(());
        }
        Err(Failure::usage(format!("{set} is set, and {section}.uri does not name a user without a password")).remedy(
            format!("write {section}.uri as scheme://user@host/…, without a password in it, or do without {set}"),
        ))
    }
}

/// The connection string with this password, if it names a user and no password, and logs in by one.
fn with_password(uri: &str, password: &Password) -> Option<String> {
    let (scheme, rest) = uri.split_once("://")?;
    let (place, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let options = tail.split_once('?').map_or("", |(_, options)| options);
    let option = |wanted: &str| {
        let mut all = options.split('&').filter_map(|option| option.split_once('='));
        all.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let by_password = option("authMechanism").is_none_or(|name| name.starts_with("SCRAM-") || name == "PLAIN");
    if option("password").is_some() || !by_password {
        return None;
    }
    let encoded = utf8_percent_encode(&password.0, NON_ALPHANUMERIC);
    match place.rsplit_once('@') {
        Some((user, hosts)) => {
            let user = user.strip_suffix(':').unwrap_or(user);
            let alone = !user.is_empty() && !user.contains(':');
            alone.then(|| format!("{scheme}://{user}:{encoded}@{hosts}{tail}"))
        }
        // PostgreSQL takes the user as an option, too.
        None => {
            (scheme.starts_with("postgres") && option("user").is_some()).then(|| format!("{uri}&password={encoded}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_where_a_user_has_none() {
        let password = Password::new("p@s/s:w%rd".to_owned());
        let cases = [
            ("mongodb://u@h:1,i/d?w=1", Some("mongodb://u:p%40s%2Fs%3Aw%25rd@h:1,i/d?w=1")),
            ("mongodb+srv://u@h", Some("mongodb+srv://u:p%40s%2Fs%3Aw%25rd@h")),
            ("mongodb://u:@h", Some("mongodb://u:p%40s%2Fs%3Aw%25rd@h")),
            (
                "mongodb://u@h/?authMechanism=SCRAM-SHA-256",
                Some("mongodb://u:p%40s%2Fs%3Aw%25rd@h/?authMechanism=SCRAM-SHA-256"),
            ),
            ("mongodb://CN=u@h/?authmechanism=MONGODB-X509", None),
            ("mongodb://u:p@h", None),
            ("mongodb://h", None),
            ("mongodb://@h", None),
            ("mongodb://h/?user=u", None),
            ("postgresql://u@h/d", Some("postgresql://u:p%40s%2Fs%3Aw%25rd@h/d")),
            ("postgresql://h/d?user=u", Some("postgresql://h/d?user=u&password=p%40s%2Fs%3Aw%25rd")),
            ("postgresql://u@h/d?password=p", None),
            ("postgresql://h/d", None),
            ("host=h user=u", None),
        ];
        for (uri, expected) in cases {
            assert_eq!(with_password(uri, &password).as_deref(), expected, "{uri}");
        }
        assert_eq!(format!("{password:?}"), "Password(***)");
    }

    #[test]
    fn a_file_holds_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (text, expected) in [
            ("s3", Some("s3")),
            ("s3\n", Some("s3")),
            (" s 3 \r\n", Some(" s 3 ")),
            ("", None),
            ("\n", None),
            ("a\nb", None),
        ] {
            std::fs::write(&path, text).unwrap();
            let read = Password::read(&path);
            assert_eq!(read.as_ref().ok().map(|password| password.0.as_str()), expected, "{text:?}");
            assert!(read.is_ok() || read.unwrap_err().contains("expected one line"), "{text:?}");
        }
        let mut uri = "mongodb://u@h".to_owned();
        let source = PasswordSource::File("no/such/file".into());
        let error = source.put_into("mongo", [&mut uri]).unwrap_err().message;
        assert!(error.starts_with("mongo.password_file: cannot read no/such/file"), "{error}");
        std::fs::write(&path, "s3").unwrap();
        let error = PasswordSource::File(path).put_into("mongo", []).unwrap_err();
        assert!(error.message.contains("mongo.uri does not name a user without a password"), "{error}");
    }
}
