//! The folder of schema files, one `<collection>.json` each.
//!
//! gizer percent-encodes `/`, `.`, `%` and control characters in file names. It reads every name
//! that decodes to the collection's, so also those of the classic tool, which encodes nothing;
//! classic `.js` files are read if there is no `.json`. A name too long for a file ends in `~` and
//! its hash; the file then names its collection.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gizer_schema::names::{short_hash, shortened};
use gizer_schema::{Dialect, Schema, file};
use percent_encoding::{percent_decode, percent_encode_byte};

use crate::failure::{Failure, FailureKind};
use crate::wording::command;

/// The schema files found when the folder was opened.
#[derive(Debug, Clone)]
pub struct SchemaFiles {
    folder: PathBuf,
    /// By collection; `.json` before `.js`, then by name.
    found: BTreeMap<String, Vec<PathBuf>>,
    /// Files whose names fit no collection.
    nameless: Vec<PathBuf>,
}

impl SchemaFiles {
    /// Lists this folder, which need not exist.
    ///
    /// # Errors
    /// [`Failure`] of kind [`Usage`](crate::failure::FailureKind::Usage) if the folder cannot be read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<SchemaFiles, Failure> {
        let mut files = SchemaFiles { folder: folder.into(), found: BTreeMap::new(), nameless: Vec::new() };
        match files.look() {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let message = format!("cannot read the schemas folder {}: {error}", files.folder.display());
                Err(Failure::usage(message).remedy("set schemas.dir to a folder that can be read"))
            }
            _ => Ok(files),
        }
    }

    fn look(&mut self) -> Result<(), Error> {
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is_schema = matches!(path.extension().and_then(OsStr::to_str), Some("json" | "js"));
            if !is_schema || !path.is_file() {
                continue;
            }
            if let Some(name) = named_inside(&path) {
                self.found.entry(name).or_default().push(path);
                continue;
            }
            let stem = path.file_stem().unwrap_or_default().as_bytes();
            match percent_decode(stem).decode_utf8() {
                // A collection's name has no NUL.
                Ok(name) if !name.contains('\0') => self.found.entry(name.into_owned()).or_default().push(path),
                _ => self.nameless.push(path),
            }
        }
        self.nameless.sort_unstable();
        for paths in self.found.values_mut() {
            paths.sort_unstable_by_key(|path| (!is_json(path), path.clone()));
        }
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of this collection, if there is one.
    pub fn existing(&self, collection: &str) -> Option<&Path> {
        Some(self.found.get(collection)?.first()?)
    }

    /// The collections that have a file, by name.
    pub fn collections(&self) -> impl Iterator<Item = &str> {
        self.found.keys().map(String::as_str)
    }

    /// Schema files whose names are not UTF-8 or contain NUL.
    pub fn nameless(&self) -> &[PathBuf] {
        &self.nameless
    }

    /// The path to write a collection's schema to: its file, unless in classic form.
    pub fn path(&self, collection: &str) -> PathBuf {
        match self.existing(collection) {
            Some(path) if is_json(path) => path.to_owned(),
            _ => self.folder.join(file_name(collection)),
        }
    }

    /// Reads the schema of a collection.
    ///
    /// # Errors
    /// [`Failure`] of kind [`Usage`](crate::failure::FailureKind::Usage): there is no file, or more
    /// than one; it cannot be read, or is no schema (with its line).
    pub fn read(&self, collection: &str) -> Result<Schema, Failure> {
        let path = match self.found.get(collection).map_or(&[][..], Vec::as_slice) {
            [] => {
                let path = self.path(collection);
                let (name, path) = (shortened(collection), path.display().to_string());
                let message = format!("{name} has no schema file: expected {}", shortened(&path));
                return Err(Failure::usage(message)
                    .remedy(format!("run `{}`", command("schema infer", [shortened(collection)], &[]))));
            }
            [one, other, ..] if is_json(other) => {
                let message = format!("both {} and {} are files of {collection}", one.display(), other.display());
                return Err(Failure::usage(message).remedy("remove one of them"));
            }
            [path, ..] => path,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
        file::parse(collection, &text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    }

    /// Whether a schema file can be written here now.
    ///
    /// # Errors
    /// [`Failure`] if not, with the folder.
    pub fn check_writable(&self) -> Result<(), Failure> {
        let probe = self.folder.join(format!(".gizer-{}.new", std::process::id()));
        let written = std::fs::create_dir_all(&self.folder).and_then(|()| std::fs::write(&probe, ""));
        let _ = std::fs::remove_file(&probe);
        written.map_err(|error| {
            let message = format!("cannot write to the schemas folder {}: {error}", self.folder.display());
            Failure::failed(message).remedy("make it writable for gizer")
        })
    }

    /// Writes a collection's schema atomically.
    ///
    /// # Errors
    /// [`Failure`] if the folder or the file cannot be written: of this collection only, of kind
    /// [`Usage`](crate::failure::FailureKind::Usage), if its name is too long for a file.
    pub fn write(&self, schema: &Schema) -> Result<PathBuf, Failure> {
        let path = self.path(&schema.collection);
        // A classic file does not name its collection.
        if schema.dialect == Dialect::Classic && path.file_name().is_some_and(|name| is_cut(name.as_bytes())) {
            return Err(too_long(&schema.collection));
        }
        let failed = |error: &Error| {
            let message = format!("cannot write {}: {error}", path.display());
            Failure::new(FailureKind::Failed, message).ending_the_run()
        };
        std::fs::create_dir_all(&self.folder).map_err(|error| failed(&error))?;
        // A short name of its own: a suffix could make a collection's too long.
        let unfinished = self.folder.join(format!(".gizer-{}.new", std::process::id()));
        let written = std::fs::write(&unfinished, file::write(schema));
        if let Err(error) = written.and_then(|()| std::fs::rename(&unfinished, &path)) {
            let _ = std::fs::remove_file(&unfinished);
            return Err(if error.kind() == ErrorKind::InvalidFilename {
                too_long(&schema.collection)
            } else {
                failed(&error)
            });
        }
        Ok(path)
    }
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn too_long(collection: &str) -> Failure {
    let message = format!("the name of {} is too long for a schema file", shortened(collection));
    Failure::usage(message).remedy("infer its schema without --classic: such a file holds the collection's whole name")
}

/// Longest file name in bytes on Linux, macOS and Windows.
const MAX_FILE_NAME_BYTES: usize = 255;

const EXTENSION: &str = ".json";

/// Precedes the hash that ends a cut name.
const CUT_MARK: char = '~';

const HASH_DIGITS: usize = 8;

/// Whether a file's name may be a cut one. Only its content proves it.
fn is_cut(file_name: &[u8]) -> bool {
    let Some(stem) = file_name.strip_suffix(EXTENSION.as_bytes()) else { return false };
    let Some(mark) = stem.len().checked_sub(HASH_DIGITS + 1) else { return false };
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    file_name.len() > MAX_FILE_NAME_BYTES - 12 && stem[mark] == CUT_MARK as u8 && stem[mark + 1..].iter().all(is_digit)
}

/// The collection of a schema file, by the file's name or, if that was cut, its content.
pub fn collection_of(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    named_inside(path).unwrap_or_else(|| percent_decode(stem.as_bytes()).decode_utf8_lossy().into_owned())
}

/// The collection named inside a file with a cut name.
fn named_inside(path: &Path) -> Option<String> {
    let name = path.file_name()?;
    if !is_cut(name.as_bytes()) {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let schema: serde_json::Value = serde_json::from_str(&text).ok()?;
    let collection = schema.get("collection")?.as_str()?;
    (*name == *file_name(collection)).then(|| collection.to_owned())
}

/// The file name of a collection: without folders, extra extensions or untypeable characters.
fn file_name(collection: &str) -> String {
    let mut name = String::with_capacity(collection.len() + EXTENSION.len());
    let mut cut = 0;
    for c in collection.chars() {
        if matches!(c, '/' | '.' | '%') || c.is_control() {
            let mut buffer = [0; 4];
            name.extend(c.encode_utf8(&mut buffer).bytes().map(percent_encode_byte));
        } else {
            name.push(c);
        }
        if name.len() + 1 + HASH_DIGITS + EXTENSION.len() <= MAX_FILE_NAME_BYTES {
            cut = name.len();
        }
    }
    if name.len() + EXTENSION.len() > MAX_FILE_NAME_BYTES {
        name.truncate(cut);
        name.push(CUT_MARK);
        name.push_str(&short_hash(collection));
    }
    name + EXTENSION
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(name: &str) -> Schema {
        file::parse(name, r#"{"_id": "INT"}"#).unwrap()
    }

    fn names(files: &SchemaFiles) -> Vec<&str> {
        files.collections().collect()
    }

    #[test]
    fn names_of_collections_survive_as_file_names() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("schemas");
        let files = SchemaFiles::open(&folder).unwrap();
        let mut expected = ["a", "a.b", "a/b", "a%2Eb", "..", "größe", "a:b\\c", "tab\t\u{85}"];
        let written = expected.map(|name| files.write(&schema(name)).unwrap());
        assert!(written[1].ends_with("a%2Eb.json") && written[2].ends_with("a%2Fb.json"));
        assert!(written[5].ends_with("größe.json") && written[6].ends_with("a:b\\c.json"), "{written:?}");
        assert!(written[7].ends_with("tab%09%C2%85.json"), "{written:?}");
        expected.sort_unstable();
        let files = SchemaFiles::open(&folder).unwrap();
        assert_eq!(names(&files), expected);
        for name in expected {
            assert_eq!(files.read(name).unwrap().collection, name);
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), expected.len(), "something unfinished is left");
    }

    /// The classic tool writes names as they are; earlier gizers encoded more than is needed.
    #[test]
    fn files_are_found_whatever_of_their_names_is_encoded() {
        let folder = tempfile::tempdir().unwrap();
        let cases =
            [("we.b", "we.b.json"), ("größe", "größe.js"), ("größe2", "gr%C3%B6%C3%9Fe2.json"), ("100%", "100%.json")];
        for (_, file) in cases {
            std::fs::write(folder.path().join(file), r#"{"_id": "INT"}"#).unwrap();
        }
        let files = SchemaFiles::open(folder.path()).unwrap();
        for (name, file) in cases {
            assert_eq!(files.existing(name).unwrap(), folder.path().join(file));
            assert_eq!(files.read(name).unwrap().collection, name);
        }
        assert_eq!(files.write(&schema("we.b")).unwrap(), folder.path().join("we.b.json"), "not a second file");
        assert!(files.path("größe").ends_with("größe.json"), "written in today's form");
    }

    #[test]
    fn a_collection_with_two_files_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["we.b.json", "we%2Eb.json", "old.js", "old.json"] {
            std::fs::write(folder.path().join(file), r#"{"_id": "INT"}"#).unwrap();
        }
        let files = SchemaFiles::open(folder.path()).unwrap();
        assert_eq!(names(&files), ["old", "we.b"]);
        let error = files.read("we.b").unwrap_err();
        assert!(error.message.contains("we.b.json") && error.message.contains("we%2Eb.json"), "{error}");
        assert!(files.existing("old").unwrap().ends_with("old.json") && files.read("old").is_ok());
    }

    #[test]
    fn names_too_long_for_a_file_are_cut_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let files = SchemaFiles::open(folder.path()).unwrap();
        let short = files.write(&schema(&"x".repeat(250))).unwrap();
        assert!(short.ends_with("x".repeat(250) + ".json"), "names that fit stay as they are");
        let mut long = [
            "a.".repeat(90) + "z",
            "b/".repeat(80),
            "x".repeat(251),
            "ü".repeat(127),
            "\u{1}".repeat(235),
            // What looks cut is taken at its word where it does not say otherwise.
            "y".repeat(240) + "~12345678",
        ];
        for name in &long {
            let schema = file::parse(name, r#"{"$gizer": 1, "fields": {"_id": "INT"}}"#).unwrap();
            let path = files.write(&schema).unwrap();
            let bytes = path.file_name().unwrap().len();
            assert!((243..=255).contains(&bytes), "{name}: {bytes}");
        }
        long.sort_unstable();
        let found = SchemaFiles::open(folder.path()).unwrap();
        assert_eq!(names(&found).len(), long.len() + 1, "{:?}", names(&found));
        for name in &long {
            assert_eq!(found.read(name).unwrap().collection, *name);
            assert_eq!(found.path(name), files.path(name));
        }
        // A classic file does not say whose it is.
        let error = files.write(&schema(&"w".repeat(251))).unwrap_err();
        assert_eq!((error.kind, error.ends_run), (FailureKind::Usage, false));
        assert!(error.message.contains("too long") && error.remedy.is_some(), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), long.len() + 1, "something unfinished is left");
    }

    #[test]
    fn a_name_that_is_no_text_is_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        for name in [&b"gr\xf6.json"[..], b"a%00b.json"] {
            std::fs::write(folder.path().join(OsStr::from_bytes(name)), "{}").unwrap();
        }
        let files = SchemaFiles::open(folder.path()).unwrap();
        assert_eq!((files.nameless().len(), names(&files).len()), (2, 0));
    }

    #[test]
    fn classic_js_files_are_read_and_faults_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("old.js"), "{\"_id\": \"INT\"}").unwrap();
        std::fs::write(folder.path().join("bad.json"), "{\n\"_id\": \"NUMBER\"}").unwrap();
        let files = SchemaFiles::open(folder.path()).unwrap();
        assert_eq!(names(&files), ["bad", "old"]);
        assert!(files.read("old").is_ok());
        let error = files.read("bad").unwrap_err();
        assert!(error.message.contains("bad.json: line 2, column"), "{error}");
        assert!(error.message.contains("unknown type \"NUMBER\""), "{error}");
        assert!(files.read("none").unwrap_err().remedy.unwrap().contains("schema infer none"));
    }
}
