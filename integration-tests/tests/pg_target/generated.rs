//! Random documents of every type go into tables and come back the same.

use bson::{Bson, Document};
use gizer_flatten::rebuild;
use gizer_schema::infer::Inference;
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, file, pin_names};
use integration_tests::stored::stored_rows;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::documents::{document, same};
use crate::scene::Scene;

/// Generated sets of documents; each becomes tables of its own.
const CASES: u32 = 40;

#[tokio::test]
async fn random_documents_come_back() {
    let scene = Scene::prepared().await;
    let client = scene.client().await;
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    for case in 0..CASES {
        let tree = vec(document(), 1..12).new_tree(&mut runner).unwrap();
        let documents = distinct(tree.current());
        let layout = layout_of(&format!("case{case}"), &documents);
        scene.load(&layout, &documents).await.unwrap_or_else(|error| panic!("{error}: {documents:#?}"));
        let rows = stored_rows(&client, "public", &layout).await.unwrap();
        assert_eq!(rows.len(), documents.len(), "{documents:#?}");
        let rebuilt: Vec<Bson> = rows.values().map(|rows| read(&rebuild(&layout, rows).unwrap())).collect();
        for document in documents {
            let document = Bson::Document(document);
            assert!(rebuilt.iter().any(|other| same(&document, other, false)), "{document:?} is not in {rebuilt:#?}");
        }
    }
}

fn read(bytes: &[u8]) -> Bson {
    Document::from_reader(bytes).unwrap().into()
}

/// Without those whose `_id` MongoDB would take for another's.
fn distinct(documents: Vec<Document>) -> Vec<Document> {
    let mut kept: Vec<Document> = Vec::new();
    for document in documents {
        let id = document.get("_id").unwrap();
        if !kept.iter().any(|other| same(id, other.get("_id").unwrap(), false)) {
            kept.push(document);
        }
    }
    kept
}

fn layout_of(collection: &str, documents: &[Document]) -> Layout {
    let mut inference = Inference::default();
    for document in documents {
        inference.observe(RawDoc::new(&document.to_vec().unwrap()).unwrap()).unwrap();
    }
    let (mut schema, _) = inference.schema(collection);
    pin_names(&mut schema, None).unwrap();
    Layout::new(&file::parse(collection, &file::write(&schema)).unwrap()).unwrap()
}
