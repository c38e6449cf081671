//! Whether the tables are what the documents say.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use futures::{TryStreamExt, stream};
use gizer_engine::schema_files::SchemaFiles;
use gizer_flatten::rebuild;
use gizer_schema::{Layout, file};
use integration_tests::oracle::Oracle;
use integration_tests::rig::Gizer;
use integration_tests::stored::stored_rows;
use mongodb::Database;
use tokio_postgres::Client;

use super::documents::same;

/// Compares a collection with its tables in a schema: documents are rebuilt from their rows. Where `classic` is set, the oracle
/// compares the rows instead, which knows nothing of gizer.
pub(crate) async fn judge(
    mongo: &Database,
    postgres: &mut Client,
    gizer: &Gizer,
    (collection, schema, classic): (&str, &str, bool),
) -> Result<(), String> {
    let files = SchemaFiles::open(gizer.folder().join("schemas")).map_err(|failure| failure.message)?;
    let text = std::fs::read_to_string(files.path(collection)).map_err(|error| error.to_string())?;
    let documents: Vec<Document> =
        mongo.collection(collection).find(doc! {}).await.unwrap().try_collect().await.unwrap();
    assert!(!documents.is_empty(), "{collection:?} has documents");
    if classic {
        let oracle = Oracle::new(collection, &text, schema).map_err(|error| error.to_string())?;
        let report = oracle.compare(stream::iter(documents.into_iter().map(Ok)), postgres).await.unwrap();
        return if report.is_equal() { Ok(()) } else { Err(format!("{collection:?} differs: {report}")) };
    }
    let layout = Layout::new(&file::parse(collection, &text).map_err(|error| error.to_string())?).unwrap();
    let mut stored: BTreeMap<String, Document> = BTreeMap::new();
    for (key, rows) in stored_rows(postgres, schema, &layout).await.unwrap() {
        let bytes = rebuild(&layout, &rows).map_err(|error| format!("{collection:?} {key:?}: {error}"))?;
        stored.insert(key, Document::from_reader(bytes.as_slice()).unwrap());
    }
    for document in documents {
        let key = stored.iter().find(|(_, other)| same(&document["_id"], &other["_id"], false));
        let Some(other) = key.map(|(key, _)| key.clone()).and_then(|key| stored.remove(&key)) else {
            return Err(format!("{collection:?}: {:?} has no rows", document["_id"]));
        };
        if !same(&Bson::Document(document.clone()), &Bson::Document(other.clone()), false) {
            return Err(format!("{collection:?} differs\n  source: {document:?}\n  stored: {other:?}"));
        }
    }
    if stored.is_empty() { Ok(()) } else { Err(format!("{collection:?}: rows of no document: {:?}", stored.keys())) }
}
