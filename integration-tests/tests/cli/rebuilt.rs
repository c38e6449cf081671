//! Documents read back from the tables that gizer made of them.

use std::collections::BTreeMap;

use bson::Document;
use gizer_flatten::rebuild;
use gizer_schema::{Layout, file};
use integration_tests::stored::{StoredRows, stored_rows};

use super::place::Place;

/// The documents of a collection's tables, by the text of their key.
pub(crate) async fn rebuilt(place: &Place, collection: &str) -> BTreeMap<String, Document> {
    let path = place.gizer.folder().join(format!("schemas/{collection}.json"));
    let schema = file::parse(collection, &std::fs::read_to_string(path).unwrap()).unwrap();
    let layout = Layout::new(&schema).unwrap();
    let rows = stored_rows(&place.postgres, "public", &layout).await.unwrap();
    let document = |(key, rows): (String, StoredRows)| {
        let bytes = rebuild(&layout, &rows).unwrap_or_else(|error| panic!("{error}: {rows:#?}"));
        let document = Document::from_reader(bytes.as_slice()).unwrap();
        (key, document)
    };
    rows.into_iter().map(document).collect()
}
