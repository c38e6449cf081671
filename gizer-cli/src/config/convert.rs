//! A classic INI file as a `gizer.toml`.

use std::path::Path;

use super::file::OneOrMore;
use super::{Effective, SETTINGS, SettingOrigin};
use crate::exit::Failure;

/// The text of a `gizer.toml` for the classic file that was read. A comment at each setting says where it came from.
/// `folder` is where it will be, by which relative paths in it go. It holds the passwords of the classic file.
///
/// # Errors
/// [`Failure`] if what was read is no classic file, or a path is not text.
pub fn converted(effective: &Effective, folder: &Path) -> Result<String, Failure> {
    let path = effective.path.as_deref().filter(|_| effective.classic.is_some());
    let path = path.ok_or_else(|| {
        Failure::usage("expected an INI file of the classic tool, got a gizer.toml").remedy("it can be used as it is")
    })?;
    let file = &effective.file;
    let mut text = format!("# Converted from {} of the classic tool.\n", in_comment(path.display()));
    if !effective.ignored.is_empty() {
        text.push_str(&format!(
            "# Not taken over, because gizer has no need of it: {}.\n",
            in_comment(effective.ignored.join(", "))
        ));
    }
    let mut last_section = "";
    for setting in SETTINGS.iter().filter(|setting| setting.section != "oplog") {
        let value = match (setting.section, setting.key) {
            ("mongo", "uri") => {
                file.mongo.uri.clone().map(OneOrMore::into_vec).and_then(|uris| uris.into_iter().next())
            }
            ("mongo", "database") => file.mongo.database.clone(),
            ("postgres", "uri") => file.postgres.uri.clone(),
            ("postgres", "schema") => file.postgres.schema.clone(),
            ("cache", "uri") => file.cache.as_ref().and_then(|cache| cache.uri.clone()),
            ("schemas", "dir") => folder_that_stays(file.schemas.dir.as_deref(), "schemas", path, folder)?,
            ("load", "spool_dir") => folder_that_stays(file.load.spool_dir.as_deref(), "spool", path, folder)?,
            _ => None,
        };
        let Some(value) = value else { continue };
        if setting.section != last_section {
            text.push_str(&format!("\n[{}]\n", setting.section));
            last_section = setting.section;
        }
        text.push_str(&format!("# {}\n", in_comment(said_of(&effective.origins.of(&setting.flag())))));
        text.push_str(&format!("{} = {}\n", setting.key, toml::Value::String(value)));
    }
    for oplog in &file.oplog {
        text.push_str(&format!("\n# {}\n[[oplog]]\n", in_comment(said_of(&effective.origins.of("oplog-uri")))));
        let (name, uri) = (oplog.name.clone(), oplog.uri.clone());
        text.push_str(&format!("name = {}\nuri = {}\n", toml::Value::String(name), toml::Value::String(uri)));
    }
    Ok(text)
}

/// A folder of the classic file, or that of its default where the new file would have another one.
fn folder_that_stays(
    set: Option<&Path>,
    default: &str,
    path: &Path,
    new_folder: &Path,
) -> Result<Option<String>, Failure> {
    let folder = absolute(path.parent().unwrap_or(Path::new("")))?;
    let stays = match set {
        Some(set) => set.to_path_buf(),
        None if folder == absolute(new_folder)? => return Ok(None),
        None => folder.join(default),
    };
    let text = stays.to_str().map(str::to_owned);
    text.map(Some).ok_or_else(|| Failure::usage(format!("{} is not UTF-8, as TOML needs it", stays.display())))
}

fn absolute(path: &Path) -> Result<std::path::PathBuf, Failure> {
    let here = || std::env::current_dir().map(|here| here.join(path));
    // What is there is compared as the file system has it.
    path.canonicalize().or_else(|_| here()).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

fn said_of(origin: &SettingOrigin) -> String {
    match origin {
        SettingOrigin::File { of: Some(of), line: Some(line), .. } => format!("from {of} (line {line})"),
        SettingOrigin::Default => "the default, next to the classic file".to_owned(),
        other => format!("from {other}"),
    }
}

/// A name must not end the comment that it stands in, nor be what TOML does not allow in one.
fn in_comment(text: impl std::fmt::Display) -> String {
    text.to_string().replace(char::is_control, "?")
}
