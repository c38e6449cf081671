//! Files of a dump: a `<collection>.bson` or `.bson.gz` for each collection, with a
//! `<collection>.metadata.json`.
//!
//! mongodump percent-encodes special characters and shortens long names; then the metadata has the
//! full name (mongo-tools, `EscapeCollectionName`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use percent_encoding::percent_decode;
use serde_json::Value;

use super::{DumpScan, is_compressed};
use crate::collections::SkipReason;
use crate::error::MongoError;
use crate::near_names::near_names;

/// Limit for reading a metadata file.
const MAX_METADATA_BYTES: u64 = 16 << 20;

/// A file of mongodump, or its folder for one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    path: PathBuf,
    files: Vec<DumpFile>,
    skipped: Vec<(String, SkipReason)>,
}

/// The documents of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpFile {
    /// The collection's name, without the database.
    pub collection: String,
    /// The file.
    pub path: PathBuf,
    /// Bytes of BSON in it; `None` if it is compressed.
    pub bytes: Option<u64>,
}

impl DumpFile {
    /// Scans it, in batches of about `batch_bytes`.
    pub fn scan(&self, batch_bytes: usize) -> DumpScan {
        DumpScan::new(&self.path, batch_bytes)
    }
}

impl Dump {
    /// Lists a dump without reading documents.
    ///
    /// # Errors
    /// [`MongoError::NoDump`] if it cannot be read, or holds no `.bson` file.
    pub fn open(path: &Path) -> Result<Dump, MongoError> {
        let mut dump = Dump { path: path.to_owned(), files: Vec::new(), skipped: Vec::new() };
        let failed = |error: io::Error| no_dump(path, error.to_string());
        if fs::metadata(path).map_err(failed)?.is_dir() {
            dump.scan_folder(path)?;
        } else {
            let name = path.file_name().unwrap_or_default();
            let Some(stem) = stem(name, ".bson") else {
                return Err(no_dump(path, "the name of the file ends neither in .bson nor in .bson.gz".to_owned()));
            };
            dump.add(path.to_owned(), stem)?;
        }
        dump.files.sort_unstable_by(|a, b| a.collection.cmp(&b.collection));
        dump.skipped.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        dump.skipped.dedup();
        match dump.files.windows(2).find(|two| two[0].collection == two[1].collection) {
            Some([one, other]) => {
                let found = format!("both {} and {} are of one collection", one.path.display(), other.path.display());
                Err(no_dump(path, found))
            }
            _ => Ok(dump),
        }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The collections, by name.
    pub fn files(&self) -> &[DumpFile] {
        &self.files
    }

    /// Views and other collections of the dump that cannot be loaded.
    pub fn skipped(&self) -> &[(String, SkipReason)] {
        &self.skipped
    }

    /// The file of a collection.
    ///
    /// # Errors
    /// [`MongoError::NotInDump`] with names like it; [`MongoError::NotFollowable`] for a view and the like.
    pub fn file(&self, collection: &str) -> Result<&DumpFile, MongoError> {
        if let Some(file) = self.files.iter().find(|file| file.collection == collection) {
            return Ok(file);
        }
        if let Some((name, reason)) = self.skipped.iter().find(|(name, _)| name == collection) {
            return Err(MongoError::NotFollowable { namespace: name.clone(), reason: *reason });
        }
        Err(MongoError::NotInDump {
            path: self.path.display().to_string(),
            collection: collection.to_owned(),
            near: near_names(collection, self.files.iter().map(|file| file.collection.as_str())),
        })
    }

    fn scan_folder(&mut self, folder: &Path) -> Result<(), MongoError> {
        let failed = |error: io::Error| no_dump(folder, error.to_string());
        let mut folders = Vec::new();
        // Metadata without documents is that of a view or a time series.
        let mut described = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path.file_name().map(OsStr::to_owned) else { continue };
            if path.is_dir() {
                folders.push(name.to_string_lossy().into_owned());
            } else if let Some(stem) = stem(&name, ".metadata.json") {
                described.insert(stem.to_owned(), path);
            } else if let Some(stem) = stem(&name, ".bson") {
                self.add(path.clone(), stem)?;
            }
        }
        for (stem, path) in described {
            let metadata = Metadata::read(&path);
            if let Some(reason) = metadata.skip {
                self.skipped.push((metadata.name.unwrap_or_else(|| decoded(&stem)), reason));
            }
        }
        if self.files.is_empty() && self.skipped.is_empty() {
            folders.sort_unstable();
            let found = match folders.first() {
                Some(_) => format!("found no .bson file, but the folders {}", folders.join(", ")),
                None => "found no .bson file".to_owned(),
            };
            return Err(no_dump(folder, found));
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, stem: &[u8]) -> Result<(), MongoError> {
        let metadata = Metadata::next_to(&path, stem);
        let collection = metadata.name.unwrap_or_else(|| decoded(stem));
        let system = collection.starts_with("system.").then_some(SkipReason::System);
        if let Some(reason) = metadata.skip.or(system) {
            self.skipped.push((collection, reason));
            return Ok(());
        }
        let length = fs::metadata(&path).map_err(|error| no_dump(&path, error.to_string()))?.len();
        let bytes = (!is_compressed(&path)).then_some(length);
        self.files.push(DumpFile { collection, path, bytes });
        Ok(())
    }
}

fn no_dump(path: &Path, found: String) -> MongoError {
    MongoError::NoDump { path: path.display().to_string(), found }
}

/// The part before `suffix` or `suffix.gz`.
fn stem<'n>(name: &'n OsStr, suffix: &str) -> Option<&'n [u8]> {
    let name = name.as_bytes();
    let stem = name.strip_suffix(b".gz").unwrap_or(name).strip_suffix(suffix.as_bytes())?;
    (!stem.is_empty()).then_some(stem)
}

fn decoded(stem: &[u8]) -> String {
    percent_decode(stem).decode_utf8_lossy().into_owned()
}

/// The parts of a `.metadata.json` that gizer uses; files of old versions have fewer.
#[derive(Debug, Default)]
struct Metadata {
    name: Option<String>,
    skip: Option<SkipReason>,
}

impl Metadata {
    fn next_to(path: &Path, stem: &[u8]) -> Metadata {
        let plain = path.with_file_name(OsStr::from_bytes(&[stem, b".metadata.json"].concat()));
        let compressed = path.with_file_name(OsStr::from_bytes(&[stem, b".metadata.json.gz"].concat()));
        let there = [plain, compressed].into_iter().find(|path| path.is_file());
        there.map(|path| Metadata::read(&path)).unwrap_or_default()
    }

    fn read(path: &Path) -> Metadata {
        let read = || {
            let file = File::open(path)?;
            let mut text = Vec::new();
            if is_compressed(path) {
                MultiGzDecoder::new(file).take(MAX_METADATA_BYTES).read_to_end(&mut text)?;
            } else {
                file.take(MAX_METADATA_BYTES).read_to_end(&mut text)?;
            }
            Ok::<_, io::Error>(text)
        };
        let value: Option<Value> = read().ok().and_then(|text| serde_json::from_slice(&text).ok());
        let text = |key| value.as_ref()?.get(key)?.as_str();
        let of_options = |key| value.as_ref()?.get("options")?.get(key);
        let skip = match text("type") {
            Some("view") => Some(SkipReason::View),
            Some("timeseries") => Some(SkipReason::TimeSeries),
            _ if of_options("viewOn").is_some() => Some(SkipReason::View),
            _ if of_options("timeseries").is_some() => Some(SkipReason::TimeSeries),
            _ => None,
        };
        Metadata { name: text("collectionName").map(str::to_owned), skip }
    }
}
