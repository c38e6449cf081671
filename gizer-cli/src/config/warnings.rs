//! What is not safe about where passwords are kept, and what of a connection string is ignored.

use std::path::{Path, PathBuf};

use gizer_oplog::SecretUri;
use percent_encoding::percent_decode_str;

use super::{Effective, SETTINGS, SettingOrigin, values, without_password};

impl Effective {
    /// What others can see that they should not, and options that are ignored, a line each, without the names of users: for standard error.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut in_file = false;
        let mut uris = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.key == "uri") {
            let found = values(&self.config, setting);
            uris.extend_from_slice(&found);
            if found.iter().all(|uri| without_password(uri) == *uri) {
                continue;
            }
            match self.origins.of(&setting.flag()) {
                SettingOrigin::Flag(flag) => warnings.push(format!(
                    "everyone who can list processes sees the password in {flag}: put it into a file (--{}-password-file), into the \
                     environment ({}), or into a config file",
                    super::password_section(setting),
                    super::password::variable(super::password_section(setting)),
                )),
                SettingOrigin::File { .. } => in_file = true,
                SettingOrigin::Variable(_) | SettingOrigin::Default => {}
            }
        }
        let config_file = self.path.as_deref().filter(|_| in_file);
        let files = self.config.passwords().into_iter().filter_map(|(_, source)| source.file());
        let open = files.chain(config_file).filter(|path| others_may_read(path));
        warnings.extend(open.map(|path| {
            let path = path.display();
            format!("{path} holds a password, and others may read or change it: run `chmod 600 {path}`")
        }));
        let keys = uris.iter().filter_map(|uri| key_file(uri));
        warnings.extend(keys.filter(|path| others_may_read(path)).map(|path| {
            let path = path.display();
            format!("{path} holds a private key, and others may read or change it: run `chmod 600 {path}`")
        }));
        let mongo = uris.iter().filter(|uri| uri.starts_with("mongodb"));
        for uri in mongo.filter_map(|uri| SecretUri::parse(uri).ok()) {
            let unused = uri.ignored_options().iter();
            warnings.extend(
                unused.map(|name| format!("gizer has no use for the option {name} of the MongoDB URI: it is ignored")),
            );
        }
        warnings.dedup();
        warnings
    }
}

/// The file with the client's key that a URI of MongoDB names. That of PostgreSQL's is not used where others may read it.
fn key_file(uri: &str) -> Option<PathBuf> {
    let (_, options) = uri.rsplit_once('@').map_or(uri, |(_, rest)| rest).split_once('?')?;
    let mut options = options.split('&').filter_map(|option| option.split_once('='));
    let (_, path) = options.find(|(name, _)| name.eq_ignore_ascii_case("tlsCertificateKeyFile"))?;
    percent_decode_str(path).decode_utf8().ok().map(|path| PathBuf::from(path.as_ref()))
}

/// Whether others than its owner may read or write a file. The group may where the file belongs to root, as mounted
/// secrets of containers do. Unknown of what is no file.
#[cfg(unix)]
fn others_may_read(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let Ok(about) = std::fs::metadata(path) else { return false };
    let too_much = if about.uid() == 0 { 0o037 } else { 0o077 };
    about.is_file() && about.mode() & too_much != 0
}

#[cfg(not(unix))]
fn others_may_read(_path: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::super::{ClassicSections, Setting};
    use super::*;

    #[test]
    fn what_others_can_see_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let (config, password) = (folder.path().join("gizer.toml"), folder.path().join("password"));
        let warnings = |text: &str, flag: Option<&str>, mode: u32| {
            write(&config, text).unwrap();
            write(&password, "s3cret").unwrap();
            for file in [&config, &password] {
                set_permissions(file, Permissions::from_mode(mode)).unwrap();
            }
            let flags = |setting: &Setting| {
                let given = flag.filter(|_| setting.flag() == "mongo-uri");
                given.map(str::to_owned).into_iter().collect::<Vec<_>>()
            };
            let effective = Effective::read(Some(&config), &ClassicSections::default(), flags, |_| None).unwrap();
            let warnings = effective.warnings();
            assert!(!format!("{warnings:?}").contains("s3cret"), "{warnings:?}");
            warnings
        };
        let of_file = "[postgres]\nuri = \"postgresql://u@h/d\"\npassword_file = \"password\"\n";
        let inside = "[postgres]\nuri = \"postgresql://u:s3cret@h/d\"\n";
        for mode in [0o600, 0o400] {
            assert!(warnings(of_file, None, mode).is_empty() && warnings(inside, None, mode).is_empty());
        }
        let open = warnings(of_file, None, 0o644);
        assert!(open.len() == 1 && open[0].contains("/password holds a password"), "{open:?}");
        let open = warnings(inside, None, 0o604);
        assert!(open.len() == 1 && open[0].contains("gizer.toml holds a password"), "{open:?}");
        let seen = warnings("", Some("mongodb://u:s3cret@h"), 0o644);
        assert!(
            seen.len() == 1 && seen[0].contains("--mongo-uri") && seen[0].contains("GIZER_MONGO_PASSWORD"),
            "{seen:?}"
        );
        assert!(warnings("", Some("mongodb://u@h"), 0o644).is_empty());
        let key = format!("mongodb://u@h/?tls=true&tlsCertificateKeyFile={}", password.display());
        assert!(warnings("", Some(&key), 0o600).is_empty());
        let open = warnings("", Some(&key), 0o644);
        assert!(open.len() == 1 && open[0].contains("/password holds a private key"), "{open:?}");
    }
}
