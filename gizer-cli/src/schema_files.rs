//! The folder of schema files: one `<collection>.json` a collection.
//!
//! `/` and `.` in a collection's name are percent-encoded, and so is `%` itself and what no file name may hold; the
//! classic tool's `.js` files are read where there is no `.json`.

use std::path::{Path, PathBuf};

use gizer_schema::{Schema, classic};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::exit::{ExitCode, Failure};

const ENCODED: &AsciiSet = &CONTROLS.add(b'/').add(b'.').add(b'%').add(b'\\').add(b':');

/// The folder of schema files.
#[derive(Debug, Clone)]
pub struct SchemaFiles {
    folder: PathBuf,
}

impl SchemaFiles {
    /// The schema files in this folder, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> SchemaFiles {
        SchemaFiles { folder: folder.into() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the schema of this collection is written.
    pub fn path(&self, collection: &str) -> PathBuf {
        self.folder.join(format!("{}.json", utf8_percent_encode(collection, ENCODED)))
    }

    /// The file of this collection, if there is one.
    pub fn existing(&self, collection: &str) -> Option<PathBuf> {
        let json = self.path(collection);
        let js = json.with_extension("js");
        [json, js].into_iter().find(|path| path.is_file())
    }

    /// The collections that have a file, by name.
    ///
    /// # Errors
    /// [`Failure`] if the folder cannot be read, or a file's name is no encoded name of a collection.
    pub fn collections(&self) -> Result<Vec<String>, Failure> {
        let unreadable = |error: std::io::Error| {
            Failure::usage(format!("cannot read the schemas folder {}: {error}", self.folder.display()))
                .remedy("run `gizer schema infer` to make schema files, or set schemas.dir")
        };
        let mut collections = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let is_schema = matches!(path.extension().and_then(|e| e.to_str()), Some("json" | "js"));
            if !is_schema || !path.is_file() {
                continue;
            }
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = percent_decode_str(&stem).decode_utf8().map_err(|_| {
                Failure::usage(format!("{}: expected the percent-encoded name of a collection", path.display()))
            })?;
            collections.push(name.into_owned());
        }
        collections.sort_unstable();
        collections.dedup();
        Ok(collections)
    }

    /// Reads the schema of a collection.
    ///
    /// # Errors
    /// [`Failure`] with [`ExitCode::Usage`]: there is no file, it cannot be read, or it is no schema (with its line).
    pub fn read(&self, collection: &str) -> Result<Schema, Failure> {
        let Some(path) = self.existing(collection) else {
            let path = self.path(collection);
            return Err(Failure::usage(format!("{collection} has no schema file: expected {}", path.display()))
                .remedy(format!("run `gizer schema infer {collection}`")));
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
        classic::parse(collection, &text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    }

    /// Writes the schema of a collection; the file is there whole or not at all.
    ///
    /// # Errors
    /// [`Failure`] if the folder or the file cannot be written.
    pub fn write(&self, schema: &Schema) -> Result<PathBuf, Failure> {
        let path = self.path(&schema.collection);
        let failed =
            |error: std::io::Error| Failure::new(ExitCode::Failed, format!("cannot write {}: {error}", path.display()));
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        let unfinished = path.with_extension("json.new");
        std::fs::write(&unfinished, classic::write(schema)).map_err(failed)?;
        std::fs::rename(&unfinished, &path).map_err(failed)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_collections_survive_as_file_names() {
        let folder = tempfile::tempdir().unwrap();
        let files = SchemaFiles::new(folder.path().join("schemas"));
        let names = ["a", "a.b", "a/b", "a%2Eb", "..", "ünï", "a:b\\c"];
        for name in names {
            files.write(&classic::parse(name, r#"{"_id": "INT"}"#).unwrap()).unwrap();
        }
        let mut expected: Vec<&str> = names.to_vec();
        expected.sort_unstable();
        assert_eq!(files.collections().unwrap(), expected);
        for name in names {
            assert_eq!(files.read(name).unwrap().collection, name);
        }
        assert!(files.path("a.b").ends_with("a%2Eb.json"));
        assert!(files.path("a/b").ends_with("a%2Fb.json"));
    }

    #[test]
    fn classic_js_files_are_read_and_faults_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let files = SchemaFiles::new(folder.path());
        std::fs::write(folder.path().join("old.js"), "{\"_id\": \"INT\"}").unwrap();
        assert_eq!(files.collections().unwrap(), ["old"]);
        assert!(files.read("old").is_ok());
        std::fs::write(folder.path().join("bad.json"), "{\n\"_id\": \"NUMBER\"}").unwrap();
        let error = files.read("bad").unwrap_err();
        assert!(error.message.contains("bad.json: line 2, column"), "{error}");
        assert!(error.message.contains("unknown type \"NUMBER\""), "{error}");
        assert!(files.read("none").unwrap_err().remedy.unwrap().contains("schema infer none"));
    }
}
