//! Random documents of every type go into tables and come back the same.

use std::pin::pin;
use std::sync::Arc;

use bson::{Bson, Document};
use bytes::Bytes;
use futures::SinkExt;
use gizer_flatten::{Flattener, rebuild};
use gizer_pg::csv::CsvEncoder;
use gizer_pg::ddl;
use gizer_pg::ident::quote_identifier;
use gizer_schema::infer::Inference;
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, Schema, TableId, file, pin_names};
use integration_tests::stored::stored_rows;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::documents::{document, same};
use crate::scene::Scene;
use crate::varied::{copied, vary};

/// Generated sets of documents; each becomes tables of its own.
const CASES: u32 = 40;

#[tokio::test]
async fn random_documents_come_back() {
    let scene = Scene::prepared().await;
    let client = scene.client().await;
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    for case in 0..CASES {
        let (documents, choices) = documents_and_choices().new_tree(&mut runner).unwrap().current();
        let (schema, layout) = layout_of(&format!("case{case}"), &documents, choices);
        scene.load(&layout, &documents).await.unwrap_or_else(|error| panic!("{error}: {documents:#?}"));
        let rows = stored_rows(&client, "public", &layout).await.unwrap();
        assert_eq!(rows.len(), documents.len(), "{documents:#?}");
        let rebuilt: Vec<Bson> = rows.values().map(|rows| read(&rebuild(&layout, rows).unwrap())).collect();
        for document in documents {
            let document = Bson::Document(copied(&schema, document));
            assert!(rebuilt.iter().any(|other| same(&document, other, false)), "{document:?} is not in {rebuilt:#?}");
        }
    }
}

fn read(bytes: &[u8]) -> Bson {
    Document::from_reader(bytes).unwrap().into()
}

/// The classic tool's text files hold the same as binary COPY writes.
#[tokio::test]
async fn text_files_hold_the_same() {
    let scene = Scene::prepared().await;
    scene.sql("CREATE SCHEMA text").await;
    let client = scene.client().await;
    // The files say nothing of a zone: theirs is UTC, wherever the server is.
    client.batch_execute("SET TimeZone TO 'UTC'").await.unwrap();
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    for case in 0..CASES {
        let (documents, choices) = documents_and_choices().new_tree(&mut runner).unwrap().current();
        let (_, layout) = layout_of(&format!("case{case}"), &documents, choices);
        scene.load(&layout, &documents).await.unwrap();
        client.batch_execute(&ddl::render(&layout, "text").unwrap()).await.unwrap();
        let encoder = lines(&layout, &documents);
        for (at, table) in layout.tables.iter().enumerate() {
            let (lines, rows) = encoder.rows_of(TableId(at));
            let name = quote_identifier(&table.name).unwrap();
            let copy = format!(r"COPY text.{name} FROM STDIN (FORMAT text, DELIMITER E'\t', NULL '\\N')");
            let mut sink = pin!(client.copy_in::<_, Bytes>(&copy).await.unwrap());
            sink.send(Bytes::copy_from_slice(lines)).await.unwrap();
            let copied = sink.finish().await;
            let copied = copied.unwrap_or_else(|error| panic!("{error:?}: {}", String::from_utf8_lossy(lines)));
            assert_eq!(copied, rows);
            let all = |schema: &str| format!("SELECT t::text FROM {schema}.{name} t ORDER BY t::text COLLATE \"C\"");
            assert_eq!(scene.texts(&all("text")).await, scene.texts(&all("public")).await, "{documents:#?}");
        }
    }
}

fn lines(layout: &Layout, documents: &[Document]) -> CsvEncoder {
    let mut encoder = CsvEncoder::new(layout);
    let bytes: Vec<Vec<u8>> = documents.iter().map(|document| document.to_vec().unwrap()).collect();
    let raw = bytes.iter().map(|bytes| RawDoc::new(bytes).unwrap());
    Flattener::new(layout).flatten(raw, &mut encoder, |_, rejection| panic!("{rejection:?}"));
    encoder
}

/// Without those whose `_id` MongoDB would take for another's.
pub(crate) fn distinct(documents: Vec<Document>) -> Vec<Document> {
    let mut kept: Vec<Document> = Vec::new();
    for document in documents {
        let id = document.get("_id").unwrap();
        if !kept.iter().any(|other| same(id, other.get("_id").unwrap(), false)) {
            kept.push(document);
        }
    }
    kept
}

/// What is inferred of documents; with any choices the policies are others, maps among them.
pub(crate) fn layout_of(collection: &str, documents: &[Document], choices: Vec<u8>) -> (Schema, Arc<Layout>) {
    let mut inference = Inference::default();
    for document in documents {
        inference.observe(RawDoc::new(&document.to_vec().unwrap()).unwrap()).unwrap();
    }
    let (mut schema, _) = inference.schema(collection);
    match choices.is_empty() {
        true => pin_names(&mut schema, None).unwrap(),
        false => vary(&mut schema, choices),
    }
    let schema = file::parse(collection, &file::write(&schema)).unwrap();
    let layout = Layout::new(&schema).unwrap();
    (schema, Arc::new(layout))
}

/// Documents, and choices for the policies of their schema, or none.
pub(crate) fn documents_and_choices() -> impl Strategy<Value = (Vec<Document>, Vec<u8>)> {
    (vec(document(), 1..12).prop_map(distinct), prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..24)])
}
