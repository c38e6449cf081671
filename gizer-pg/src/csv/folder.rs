//! The folder of text files: made by an extract, read by a copy.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gizer_schema::Layout;
use serde_json::{Value, json};

use super::files::{TableFiles, TextFiles, sync_folder};
use super::manifest::{ExtractedCollection, Manifest, is_file_name, names};
use super::rejected::{RejectWriter, RejectedFiles};
use crate::error::PgError;

const MANIFEST: &str = "gizer-extract.json";
const INCOMPLETE: &str = "gizer-extract.incomplete";
const REJECTED: &str = "gizer-rejected";
/// The manifest before it is whole.
const UNFINISHED: &str = "gizer-extract.json.new";
const OWN: [&str; 4] = [MANIFEST, INCOMPLETE, REJECTED, UNFINISHED];

/// A folder that an extract fills.
///
/// From [`create`](ExtractFolder::create) on it is marked as incomplete, and stays so unless
/// [`finish`](ExtractFolder::finish) succeeds.
#[derive(Debug)]
pub struct ExtractFolder {
    path: PathBuf,
    made: Vec<String>,
}

impl ExtractFolder {
    /// Takes a folder that is empty or new. With `replace`, also one that holds nothing but what an earlier extract has
    /// made, which is removed. `beside` are other files that the extract is going to write. Blocks.
    ///
    /// # Errors
    /// [`PgError::FolderInUse`] if something else is in it; [`PgError::File`], also if a table has the name of one of the
    /// folder's own files.
    pub fn create(path: &Path, layouts: &[Layout], beside: &[&Path], replace: bool) -> Result<ExtractFolder, PgError> {
        let failed = PgError::file("create", path);
        let tables = layouts.iter().flat_map(|layout| &layout.tables);
        let mut made: Vec<String> = tables.map(|table| folder_name(&table.name)).collect();
        if let Some(taken) = made.iter().find(|name| OWN.contains(&name.as_str())) {
            let reason = io::Error::other("a table has this name, which the extract needs for itself");
            return Err(PgError::file("use", &path.join(taken))(reason));
        }
        fs::create_dir_all(path).map_err(failed)?;
        let earlier = EarlierExtract::look(path)?;
        if !earlier.is_empty() && !replace {
            let found = earlier.entries.iter().next().cloned().unwrap_or_default();
            return Err(PgError::FolderInUse { path: path.display().to_string(), found });
        }
        earlier.check(path)?;
        let whole = path.canonicalize().map_err(failed)?;
        made.extend(beside.iter().filter_map(|file| name_in(file, &whole)));
        // First record what a later extract has to remove, should this one not finish.
        let all: BTreeSet<&String> = made.iter().chain(&earlier.made).collect();
        write_whole(path, INCOMPLETE, &json!({ "made": all }))?;
        earlier.remove(path)?;
        Ok(ExtractFolder { path: path.to_owned(), made })
    }

    /// Makes the folders of a collection's tables. A file that has `file_bytes` gets no more rows. Blocks.
    ///
    /// # Errors
    /// [`PgError::File`].
    pub fn collection(&self, layout: &Layout, file_bytes: u64) -> Result<Arc<TextFiles>, PgError> {
        let table = |name: &str| {
            let folder = self.path.join(folder_name(name));
            fs::create_dir(&folder).map_err(PgError::file("create", &folder))?;
            Ok(TableFiles::new(name, folder, file_bytes))
        };
        let tables = layout.tables.iter().map(|each| table(&each.name)).collect::<Result<_, PgError>>()?;
        let rejected = rejected_files(&self.path, &layout.tables[0].name);
        Ok(Arc::new(TextFiles::new(tables, RejectWriter::new(rejected))))
    }

    /// Writes the manifest, and then takes the mark away. Blocks.
    ///
    /// # Errors
    /// [`PgError::File`].
    pub fn finish(self, mut manifest: Manifest) -> Result<(), PgError> {
        let ExtractFolder { path, made } = self;
        manifest.made = made;
        write_whole(&path, MANIFEST, &manifest.to_json())?;
        let marker = path.join(INCOMPLETE);
        fs::remove_file(&marker).map_err(PgError::file("remove", &marker))?;
        sync_folder(&path).map_err(PgError::file("write", &path))
    }
}

/// What is in a folder before an extract.
#[derive(Debug, Default)]
struct EarlierExtract {
    entries: BTreeSet<String>,
    /// What an earlier extract has made of it.
    made: Vec<String>,
}

impl EarlierExtract {
    fn look(path: &Path) -> Result<EarlierExtract, PgError> {
        let failed = PgError::file("read", path);
        // It is there alone if an extract was killed at its first step.
        let mut earlier = EarlierExtract { made: vec![UNFINISHED.to_owned()], ..EarlierExtract::default() };
        for entry in fs::read_dir(path).map_err(failed)? {
            earlier.entries.insert(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        // What cannot be read counts as not there: then nothing is known to be an extract's.
        for file in [INCOMPLETE, MANIFEST].iter().filter(|file| earlier.entries.contains(**file)) {
            let value = fs::read(path.join(file)).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            let made = value.as_ref().and_then(|value| value.get("made")?.as_array());
            earlier.made.extend(made.map(|made| names(made)).unwrap_or_default());
        }
        if earlier.made.len() > 1 {
            earlier.made.extend(OWN.map(str::to_owned));
        }
        Ok(earlier)
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is nothing but what an extract has made.
    fn check(&self, path: &Path) -> Result<(), PgError> {
        let foreign = |found: String| PgError::FolderInUse { path: path.display().to_string(), found };
        for entry in &self.entries {
            if !self.made.contains(entry) {
                return Err(foreign(entry.clone()));
            }
            let at = path.join(entry);
            if !at.is_dir() {
                continue;
            }
            for inner in fs::read_dir(&at).map_err(PgError::file("read", &at))? {
                let inner = inner.map_err(PgError::file("read", &at))?;
                let (name, is_file) = (inner.file_name(), inner.path().is_file());
                let name = name.to_string_lossy();
                let expected = if entry == REJECTED { self.is_rejected(&name) } else { is_file_name(&name) };
                if !is_file || !expected {
                    return Err(foreign(format!("{entry}/{name}")));
                }
            }
        }
        Ok(())
    }

    /// Whether a file in the folder of rejected documents has the name of a table.
    fn is_rejected(&self, name: &str) -> bool {
        let stem = name.strip_suffix(".bson").or_else(|| name.strip_suffix(".jsonl"));
        stem.is_some_and(|stem| self.made.iter().any(|made| made == stem))
    }

    /// Removes all but the mark, which took the place of what was unfinished. The manifest goes first: without it nothing
    /// looks whole.
    fn remove(&self, path: &Path) -> Result<(), PgError> {
        let manifest = self.entries.get(MANIFEST);
        let others = self.entries.iter().filter(|entry| ![MANIFEST, INCOMPLETE, UNFINISHED].contains(&entry.as_str()));
        for entry in manifest.into_iter().chain(others) {
            let at = path.join(entry);
            let removed = if at.is_dir() { fs::remove_dir_all(&at) } else { fs::remove_file(&at) };
            removed.map_err(PgError::file("remove", &at))?;
        }
        Ok(())
    }
}

/// The name of a file in `folder`, if it is going to lie there.
fn name_in(file: &Path, folder: &Path) -> Option<String> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let within = parent.canonicalize().ok()? == folder;
    within.then(|| file.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// Writes JSON under a name at which it is either not at all or whole.
fn write_whole(folder: &Path, name: &str, value: &Value) -> Result<(), PgError> {
    let (unfinished, path) = (folder.join(UNFINISHED), folder.join(name));
    let write = || {
        let mut file = File::create(&unfinished)?;
        writeln!(file, "{value:#}")?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_folder(folder)
    };
    write().map_err(PgError::file("write", &path))
}

/// The name of a table's folder: its own, with what would lead elsewhere percent-encoded.
fn folder_name(table: &str) -> String {
    match table {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => table.replace('%', "%25").replace('/', "%2F"),
    }
}

fn rejected_files(folder: &Path, root_table: &str) -> RejectedFiles {
    RejectedFiles::new(&folder.join(REJECTED), &folder_name(root_table))
}

/// A folder of text files that is to be loaded.
#[derive(Debug)]
pub struct TextFolder {
    path: PathBuf,
    /// What the extract wrote at its end; `None` in a folder of the classic tool.
    pub manifest: Option<Manifest>,
}

/// A file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How many rows it must have, where that is known.
    pub rows: Option<u64>,
}

impl TextFolder {
    /// Looks at a folder. Blocks.
    ///
    /// # Errors
    /// [`PgError::ExtractIncomplete`] if an extract did not finish there; [`PgError::UnreadableManifest`];
    /// [`PgError::File`] if it cannot be read.
    pub fn open(path: &Path) -> Result<TextFolder, PgError> {
        fs::read_dir(path).map_err(PgError::file("read", path))?;
        if path.join(INCOMPLETE).exists() {
            return Err(PgError::ExtractIncomplete { path: path.display().to_string() });
        }
        let at = path.join(MANIFEST);
        let manifest = match fs::read(&at) {
            Ok(text) => {
                let value = serde_json::from_slice(&text).map_err(|error| error.to_string());
                let manifest = value.and_then(|value| Manifest::from_json(&value));
                Some(
                    manifest
                        .map_err(|reason| PgError::UnreadableManifest { path: at.display().to_string(), reason })?,
                )
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(PgError::file("read", &at)(error)),
        };
        Ok(TextFolder { path: path.to_owned(), manifest })
    }

    /// The files of each table of a layout, in its order, checked against what the extract wrote down of them. Without that, a
    /// table that has no folder has no files, but for the root table. Blocks.
    ///
    /// # Errors
    /// [`PgError::ExtractDiffers`] if a file is missing, there is one more, or its size is another;
    /// [`PgError::File`] if a folder cannot be read.
    pub fn files(
        &self,
        layout: &Layout,
        extracted: Option<&ExtractedCollection>,
    ) -> Result<Vec<Vec<TextFile>>, PgError> {
        let mut all = Vec::new();
        for (i, table) in layout.tables.iter().enumerate() {
            let folder = self.folder(&table.name, extracted.is_some());
            let found = match found_files(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && i > 0 && extracted.is_none() => Vec::new(),
                found => found.map_err(PgError::file("read", &folder))?,
            };
            let Some(extracted) = extracted else {
                all.push(found);
                continue;
            };
            let expected = extracted.tables.get(i).filter(|expected| expected.name == table.name);
            let differs = |path: &Path, expected: String, found: String| PgError::ExtractDiffers {
                path: path.display().to_string(),
                expected,
                found,
            };
            let Some(expected) = expected else {
                return Err(differs(&folder, format!("what was extracted for table {}", table.name), "nothing".into()));
            };
            let mut checked = Vec::new();
            for file in &expected.files {
                let path = folder.join(&file.name);
                let bytes = found.iter().find(|found| found.path == path).map(|found| found.bytes);
                if bytes != Some(file.bytes) {
                    let found = bytes.map_or_else(|| "no file".to_owned(), |bytes| format!("{bytes} bytes"));
                    return Err(differs(&path, format!("{} bytes", file.bytes), found));
                }
                checked.push(TextFile { path, bytes: file.bytes, rows: Some(file.rows) });
            }
            if let Some(more) = found.iter().find(|found| !checked.iter().any(|file| file.path == found.path)) {
                return Err(differs(&more.path, "no such file".to_owned(), format!("{} bytes", more.bytes)));
            }
            all.push(checked);
        }
        Ok(all)
    }

    /// The rejected documents of a collection.
    pub fn rejected(&self, layout: &Layout) -> RejectedFiles {
        rejected_files(&self.path, &layout.tables[0].name)
    }

    /// The classic tool encodes nothing in the names of its folders.
    fn folder(&self, table: &str, by_gizer: bool) -> PathBuf {
        let encoded = self.path.join(folder_name(table));
        let plain = self.path.join(table);
        let leads_elsewhere = table.contains('/') || matches!(table, "." | "..");
        if by_gizer || leads_elsewhere || encoded.is_dir() { encoded } else { plain }
    }
}

/// The files of a table's folder, by name.
fn found_files(folder: &Path) -> io::Result<Vec<TextFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_file_name) {
            found.push(TextFile { path: entry.path(), bytes: entry.metadata()?.len(), rows: None });
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
