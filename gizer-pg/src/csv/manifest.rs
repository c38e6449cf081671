//! `gizer-extract.json`: what an extract has made, written once all of it is there.

use gizer_flatten::change::Namespace;
use serde_json::{Value, json};

use crate::load::LoadSource;
use crate::state::{Ledger, positions_from_json, positions_to_json};

/// The form of the manifest that this version writes, and the only one that it reads.
const VERSION: u64 = 1;

/// What an extract has made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// What the names of tables begin with.
    pub prefix: Option<String>,
    /// Only documents that match it: Extended JSON.
    pub filter: Option<String>,
    /// By name.
    pub collections: Vec<ExtractedCollection>,
    /// Files and folders that the extract made in its folder, in addition to those that all extracts make.
    pub(super) made: Vec<String>,
}

/// A collection of an extract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractedCollection {
    /// Its name in MongoDB, without the database.
    pub name: String,
    /// Hash of its tables: see [`layout_hash`](crate::ddl::layout_hash).
    pub layout_hash: String,
    /// Where the documents come from; `None` for a dump.
    pub namespace: Option<Namespace>,
    /// The collection's UUID in MongoDB.
    pub uuid: Option<[u8; 16]>,
    /// What can be done later with what is loaded from it.
    pub source: LoadSource,
    /// What was counted.
    pub ledger: Ledger,
    /// In the order of the layout.
    pub tables: Vec<ExtractedTable>,
}

/// The files of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractedTable {
    /// The table's name.
    pub name: String,
    /// In the order in which they were written.
    pub files: Vec<ExtractedFile>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractedFile {
    /// `00000`
    pub name: String,
    /// Its lines.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

impl ExtractedTable {
    /// Rows of all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

impl Manifest {
    /// Of an extract that has made nothing yet; `filter` as Extended JSON.
    pub fn new(prefix: Option<String>, filter: Option<String>) -> Manifest {
        Manifest { prefix, filter, ..Manifest::default() }
    }

    /// What was extracted of a collection.
    pub fn collection(&self, name: &str) -> Option<&ExtractedCollection> {
        self.collections.iter().find(|collection| collection.name == name)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "version": VERSION,
            "gizer": env!("CARGO_PKG_VERSION"),
            "prefix": self.prefix,
            "filter": self.filter,
            "collections": self.collections.iter().map(ExtractedCollection::to_json).collect::<Vec<Value>>(),
            "made": self.made,
        })
    }

    /// The inverse of [`to_json`](Manifest::to_json); or what is wrong.
    pub(super) fn from_json(value: &Value) -> Result<Manifest, String> {
        match value.get("version").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => return Err(format!("expected version {VERSION}, got {other}")),
            None => return Err("expected a version, got none".to_owned()),
        }
        let optional = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let collections = list(value, "collections")?;
        Ok(Manifest {
            prefix: optional("prefix"),
            filter: optional("filter"),
            collections: collections.iter().map(ExtractedCollection::from_json).collect::<Result<_, _>>()?,
            made: names(list(value, "made")?),
        })
    }
}

impl ExtractedCollection {
    fn to_json(&self) -> Value {
        let (captured, copy_because) = match &self.source {
            LoadSource::Followable { captured } => (serde_json::from_str(&positions_to_json(captured)).ok(), None),
            LoadSource::Copy { reason } => (None::<Value>, Some(reason)),
        };
        let file = |file: &ExtractedFile| json!({"name": file.name, "rows": file.rows, "bytes": file.bytes});
        let table = |table: &ExtractedTable| {
            json!({
                "name": table.name, "rows": table.rows(), "bytes": table.bytes(),
                "files": table.files.iter().map(file).collect::<Vec<Value>>(),
            })
        };
        json!({
            "name": self.name,
            "layout": self.layout_hash,
            "namespace": self.namespace.as_ref().map(Namespace::to_string),
            "uuid": self.uuid.map(hex::encode),
            "captured": captured,
            "copy_because": copy_because,
            "ledger": self.ledger,
            "tables": self.tables.iter().map(table).collect::<Vec<Value>>(),
        })
    }

    fn from_json(value: &Value) -> Result<ExtractedCollection, String> {
        let optional = |key: &str| value.get(key).and_then(Value::as_str);
        let source = match (value.get("captured").filter(|captured| !captured.is_null()), optional("copy_because")) {
            (Some(captured), None) => LoadSource::Followable {
                captured: positions_from_json(&captured.to_string())
                    .ok_or("expected a position a shard in captured")?,
            },
            (None, Some(reason)) => LoadSource::Copy { reason: reason.to_owned() },
            _ => return Err("expected either captured or copy_because".to_owned()),
        };
        let ledger = value.get("ledger").filter(|ledger| ledger.is_object()).ok_or("expected a ledger")?;
        Ok(ExtractedCollection {
            name: text(value, "name")?,
            layout_hash: text(value, "layout")?,
            namespace: optional("namespace").and_then(Namespace::parse),
            uuid: optional("uuid").and_then(uuid_of),
            source,
            ledger: serde_json::from_value(ledger.clone()).unwrap_or_default(),
            tables: list(value, "tables")?.iter().map(table_of).collect::<Result<_, _>>()?,
        })
    }
}

fn table_of(value: &Value) -> Result<ExtractedTable, String> {
    let file = |value: &Value| {
        let number = |key: &str| value.get(key).and_then(Value::as_u64).ok_or(format!("expected the number {key}"));
        let name = text(value, "name")?;
        if !is_file_name(&name) {
            return Err(format!("expected a file such as 00000, got {name:?}"));
        }
        Ok(ExtractedFile { name, rows: number("rows")?, bytes: number("bytes")? })
    };
    let files = list(value, "files")?.iter().map(file).collect::<Result<_, String>>()?;
    Ok(ExtractedTable { name: text(value, "name")?, files })
}

/// `00000`: at least five digits.
pub(super) fn is_file_name(name: &str) -> bool {
    name.len() >= 5 && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn text(value: &Value, key: &str) -> Result<String, String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("expected the text {key}"))
}

fn list<'v>(value: &'v Value, key: &str) -> Result<&'v [Value], String> {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| format!("expected the list {key}"))
}

/// Those of the values that are texts.
pub(super) fn names(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn uuid_of(text: &str) -> Option<[u8; 16]> {
    hex::decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use gizer_flatten::change::{ClusterTime, Positions, SourcePosition};

    use super::*;

    fn manifest(source: LoadSource) -> Manifest {
        let file = |name: &str| ExtractedFile { name: name.to_owned(), rows: 3, bytes: 1 << 40 };
        let collection = ExtractedCollection {
            name: "a/b".to_owned(),
            layout_hash: "ff".to_owned(),
            namespace: Namespace::parse("shop.a/b"),
            uuid: Some([0xA7; 16]),
            source,
            ledger: Ledger { read: 5, loaded: 4, rejected: 1, ..Ledger::default() },
            tables: vec![ExtractedTable { name: "a/b".to_owned(), files: vec![file("00000"), file("00001")] }],
        };
        Manifest { prefix: Some("x_".to_owned()), filter: None, collections: vec![collection], made: vec!["a".into()] }
    }

    #[test]
    fn a_manifest_reads_back() {
        let at = SourcePosition::new(ClusterTime { seconds: 7, increment: 1 }, &[3]);
        let captured = Positions::from([("rs0".to_owned(), at)]);
        for source in [LoadSource::Followable { captured }, LoadSource::Copy { reason: "a dump".to_owned() }] {
            let manifest = manifest(source);
            assert_eq!(Manifest::from_json(&manifest.to_json()), Ok(manifest));
        }
    }

    #[test]
    fn what_is_no_manifest_is_told() {
        let whole = manifest(LoadSource::Copy { reason: "a dump".to_owned() }).to_json();
        let with = |pointer: &str, value: Value| {
            let mut changed = whole.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            Manifest::from_json(&changed).unwrap_err()
        };
        assert_eq!(with("/version", json!(2)), "expected version 1, got 2");
        assert_eq!(with("/collections/0/copy_because", Value::Null), "expected either captured or copy_because");
        // A path must not lead out of the folder.
        let out = with("/collections/0/tables/0/files/0/name", json!("../../etc/passwd"));
        assert!(out.starts_with("expected a file such as 00000"), "{out}");
        assert!(Manifest::from_json(&json!([])).is_err());
    }
}
