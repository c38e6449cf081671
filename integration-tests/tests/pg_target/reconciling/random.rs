//! Random documents, changed at random: the tables become those of a fresh load.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use futures::stream;
use gizer_flatten::Flattener;
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, file};
use integration_tests::oracle::Oracle;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::{batch, fresh, ids, in_transaction, keys_of, reconciled, rows};
use gizer_verify::ReadBack;

use crate::documents::{document, same};
use crate::generated::layout_of;
use crate::scene::{Scene, layout};

const CASES: u32 = 40;

/// What becomes of a document.
#[derive(Debug, Clone)]
enum Fate {
    Stays,
    Goes,
    IsReplaced(Document),
    /// Its arrays are turned round, or cut to so many elements.
    Arrays(Option<usize>),
    /// Some of its values become others.
    Values(Vec<Bson>),
    /// The names inside of it go round: entries of maps are renamed, and get each other's values.
    Names,
}

fn fate() -> impl Strategy<Value = Fate> {
    let values = vec(document().prop_map(|mut document| document.remove("a").unwrap_or(Bson::Null)), 1..4);
    prop_oneof![
        Just(Fate::Stays),
        Just(Fate::Goes),
        document().prop_map(Fate::IsReplaced),
        prop_oneof![Just(None), (0..3usize).prop_map(Some)].prop_map(Fate::Arrays),
        values.prop_map(Fate::Values),
        Just(Fate::Names),
    ]
}

fn after(document: &Document, fate: &Fate) -> Option<Document> {
    let id = document.get("_id").unwrap();
    let mut after = match fate {
        Fate::Stays => return Some(document.clone()),
        Fate::Goes => return None,
        Fate::IsReplaced(other) => other.clone(),
        Fate::Arrays(_) | Fate::Values(_) | Fate::Names => document.clone(),
    };
    let fields = after.iter_mut().filter(|(name, _)| *name != "_id");
    match fate {
        Fate::Arrays(length) => fields.for_each(|(_, value)| change_arrays(value, *length)),
        Fate::Values(values) => {
            fields.zip(values.iter().cycle()).step_by(2).for_each(|((_, value), new)| *value = new.clone());
        }
        Fate::Names => fields.for_each(|(_, value)| change_names(value)),
        _ => {}
    }
    after.insert("_id", id.clone());
    Some(after)
}

fn change_names(value: &mut Bson) {
    match value {
        Bson::Array(elements) => elements.iter_mut().for_each(change_names),
        Bson::Document(fields) => {
            let next = |name: String| match name.as_str() {
                "a" => "b".to_owned(),
                "b" => "d".to_owned(),
                "c" => "a".to_owned(),
                "d" => "c".to_owned(),
                _ => name,
            };
            fields.iter_mut().for_each(|(_, value)| change_names(value));
            *fields = std::mem::take(fields).into_iter().map(|(name, value)| (next(name), value)).collect();
        }
        _ => {}
    }
}

fn change_arrays(value: &mut Bson, length: Option<usize>) {
    match value {
        Bson::Array(elements) => {
            match length {
                Some(length) => elements.truncate(length),
                None => elements.reverse(),
            }
            elements.iter_mut().for_each(|element| change_arrays(element, length));
        }
        Bson::Document(fields) => fields.iter_mut().for_each(|(_, value)| change_arrays(value, length)),
        _ => {}
    }
}

/// Without those whose `_id` MongoDB would take for another's, and those that the schema rejects.
fn usable(layout: Option<&Layout>, documents: Vec<Document>) -> Vec<Document> {
    let mut kept: Vec<Document> = Vec::new();
    for document in documents {
        let id = document.get("_id").unwrap();
        let bytes = document.to_vec().unwrap();
        let fits = layout.is_none_or(|layout| Flattener::new(layout).key_of(RawDoc::new(&bytes).unwrap()).is_ok());
        if fits && !kept.iter().any(|other| same(id, other.get("_id").unwrap(), false)) {
            kept.push(document);
        }
    }
    kept
}

#[tokio::test]
async fn random_changes_give_the_tables_of_a_fresh_load() {
    let scene = Scene::prepared().await;
    let session = scene.session().await;
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    let choices = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..24)];
    let strategy = (vec((document(), fate()), 1..10), vec(document(), 0..4), any::<bool>(), choices);
    let mut written = 0;
    for case in 0..CASES {
        let (before, new, ahead, choices) = strategy.new_tree(&mut runner).unwrap().current();
        let (documents, fates): (Vec<Document>, Vec<Fate>) = before.into_iter().unzip();
        let documents = usable(None, documents);
        // The schema may be of before the change, so that much of it does not fit.
        let changed = documents.iter().zip(&fates).filter_map(|(document, fate)| after(document, fate));
        let changed: Vec<Document> = changed.chain(new).collect();
        let seen = if ahead { [&documents[..], &changed].concat() } else { documents.clone() };
        let (_, layout) = layout_of(&format!("case{case}"), &seen, choices);
        let documents = usable(Some(&layout), documents);
        let changed = usable(Some(&layout), changed);
        scene.load(&layout, &documents).await.unwrap();

        let mut store = RowStore::open(&session, &layout, WhichTables::Live).await.unwrap();
        let touched = [ids(&documents), ids(&changed)].concat();
        let done = in_transaction(&session, &mut store, &changed, &touched).await;
        let done = done.unwrap_or_else(|error| panic!("{error:?}: {documents:#?} {changed:#?}"));
        written += done.changes.total();
        let stored = rows(&scene, "public", &layout).await;
        assert_eq!(stored, fresh(&scene, &layout, &changed).await, "{documents:#?} {changed:#?}");
        let again = in_transaction(&session, &mut store, &changed, &touched).await.unwrap();
        assert_eq!(again.changes.total(), 0, "{changed:#?}");
        assert_eq!(again.stored, stored.iter().map(|table| table.len() as u64).sum::<u64>());
    }
    assert!(written > 200, "{written}");
}

/// The same, judged by the oracle, which shares no code with what it judges. It knows the classic dialect.
#[tokio::test]
async fn the_oracle_finds_the_tables_equal() {
    const SCHEMA: &str = r#"{"_id": "INT", "a": "INT", "b": "STRING", "c": {"a": "DOUBLE", "b": "BIGINT"},
        "d": [{"a": "TIMESTAMP", "b": ["BOOLEAN"], "c": [{"a": "INT", "d": ["STRING"]}]}], "a_b": ["DOUBLE"]}"#;
    let scene = Scene::prepared().await;
    let things = layout("things", SCHEMA);
    let mut client = scene.client().await;
    let oracle = Oracle::new("things", SCHEMA, "public").unwrap();
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    let leaf = prop_oneof![
        any::<i32>().prop_map(Bson::from),
        any::<bool>().prop_map(Bson::from),
        "[a-z\\\\\"\n\t,{}ü]{0,5}".prop_map(Bson::from),
        prop_oneof![Just(-0.0), Just(0.0), Just(f64::NAN), any::<f64>()].prop_map(Bson::from),
        any::<i64>().prop_map(Bson::from),
        any::<i32>().prop_map(|millis| bson::DateTime::from_millis(millis.into()).into()),
        Just(Bson::Null),
    ];
    let leaf = leaf.boxed();
    let leaves = vec(leaf.clone(), 0..4).prop_map(Bson::from);
    let inner = (leaf.clone(), leaves.clone()).prop_map(|(a, d)| Bson::from(doc! {"a": a, "d": d}));
    let element = (leaf.clone(), leaves.clone(), vec(prop_oneof![4 => inner, 1 => leaf.clone()], 0..4));
    let element = element.prop_map(|(a, b, c)| Bson::from(doc! {"a": a, "b": b, "c": c}));
    let elements = prop_oneof![5 => vec(element, 0..4).prop_map(Bson::from), 1 => leaf.clone()];
    let nested = prop_oneof![4 => (leaf.clone(), leaf.clone()).prop_map(|(a, b)| doc! {"a": a, "b": b}.into()),
        1 => leaf.clone()];
    let fields = (leaf.clone(), leaf, nested, elements, leaves);
    let document = fields.prop_map(|(a, b, c, d, e)| doc! {"a": a, "b": b, "c": c, "d": d, "a_b": e});
    let documents = vec(prop::option::weighted(0.8, document), 12);
    for _ in 0..CASES {
        let current = documents.new_tree(&mut runner).unwrap().current();
        let with_ids = current.into_iter().enumerate().filter_map(|(id, document)| {
            let mut whole = doc! {"_id": id as i32};
            whole.extend(document?);
            Some(whole)
        });
        let current: Vec<Document> = with_ids.collect();
        if scene.text("SELECT to_regclass('public.things') IS NULL").await == "t" {
            scene.load(&things, &current).await.unwrap();
            continue;
        }
        let touched: Vec<Bson> = (0..12).map(Bson::from).collect();
        reconciled(&scene, &things, &current, &touched).await.unwrap();
        let judged = oracle.compare(stream::iter(current.iter().cloned().map(Ok)), &mut client).await.unwrap();
        assert!(judged.is_equal(), "{judged:?}");
    }
}

/// Arrays in one column, which no inference chooses.
#[tokio::test]
async fn lists_of_every_type_are_written_and_compared() {
    let types = ["STRING", "INT", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP", "OBJECTID", "DECIMAL", "BINARY", "UUID"];
    let fields: Vec<String> =
        types.iter().map(|ty| format!(r#""{ty}": {{"$as": "array", "$type": "{ty}"}}"#)).collect();
    let schema = format!(r#"{{"$gizer": 1, "fields": {{"_id": "INT", {}}}}}"#, fields.join(", "));
    let lists = Arc::new(Layout::new(&file::parse("lists", &schema).unwrap()).unwrap());
    let scene = Scene::prepared().await;
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &lists, WhichTables::Live).await.unwrap();
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    let value = document().prop_map(|document| document.into_iter().last().unwrap().1);
    let list = vec(prop_oneof![2 => value, 1 => Just(Bson::Null)], 0..30);
    scene.load(&lists, &[]).await.unwrap();
    for _ in 0..CASES {
        let values = list.new_tree(&mut runner).unwrap().current();
        // Each list gets what fits its type, so that it is stored as one.
        let fits = |ty: &str, value: &Bson| {
            let one = doc! {"_id": 1, ty: [value.clone()]}.to_vec().unwrap();
            let mut flattener = Flattener::new(&lists);
            let mut encoder = gizer_pg::copy::CopyEncoder::new(&lists);
            flattener.flatten([RawDoc::new(&one).unwrap()], &mut encoder, |_, rejection| panic!("{rejection:?}"));
            flattener.take_tally().mismatches(&lists).is_empty()
        };
        let fitting = |ty: &str| values.iter().filter(|value| fits(ty, value)).cloned().collect::<Vec<Bson>>();
        let mut whole = doc! {"_id": 1};
        whole.extend(types.iter().map(|ty| ((*ty).to_owned(), Bson::from(fitting(ty)))));
        let done = in_transaction(&session, &mut store, &[whole.clone()], &[1.into()]).await.unwrap();
        assert_eq!(done.tally.mismatches(&lists), []);
        assert_eq!(rows(&scene, "public", &lists).await, fresh(&scene, &lists, &[whole]).await);
    }
}

#[tokio::test]
async fn what_is_written_is_seen_without_reading_back_as_well() {
    let scene = Scene::prepared().await;
    let things = layout("things", r#"{"_id": "INT", "l": ["INT"]}"#);
    scene.load(&things, &[doc! {"_id": 1, "l": [1]}]).await.unwrap();
    scene
        .sql(
            "CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
             CREATE TRIGGER drop_it BEFORE INSERT ON thing_l FOR EACH ROW EXECUTE FUNCTION drop_it()",
        )
        .await;
    let session = scene.session().await;
    let mut store = RowStore::open(&session, &things, WhichTables::Live).await.unwrap();
    session.begin().await.unwrap();
    let documents = [batch(&[doc! {"_id": 1, "l": [1, 2, 3]}])];
    let keys = keys_of(&things, &[1.into()]);
    let mut flattener = Flattener::new(&things);
    let error =
        gizer_verify::reconcile(&mut store, &mut flattener, &documents, &keys, ReadBack::Off.into()).await.unwrap_err();
    assert_eq!(error.to_string(), "0 rows of things were written: expected 2");
}
