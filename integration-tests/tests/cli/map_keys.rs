//! Keys of maps that need care: what text files could take for something else, and what no index takes.

use bson::{Bson, Document, doc};
use integration_tests::random::Random;
use integration_tests::rig::Version;
use serde_json::{Value, json};

use super::compared::assert_same_tables;
use super::place::Place;

async fn is_equal(place: &Place) {
    let verified = place.gizer(&["verify"]).await;
    assert_eq!(verified.code(), Some(0), "{verified:?}");
}

/// What COPY's text format or SQL could take for something else.
const ODD_KEYS: [&str; 24] = [
    "",
    "'",
    "\"",
    "\"\"",
    ",",
    "a,b",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "\\",
    "\\\\",
    "\\N",
    "\\\\N",
    "\\.",
    "\\t",
    "NULL",
    " ",
    "{}",
    "a.b",
    "/~0",
    "ü",
    "\u{1F600}",
    "\u{2028}",
];

#[tokio::test]
async fn odd_keys_go_through_text_files() {
    let place = Place::shared(Version::V6_0).await;
    place.postgres.batch_execute("CREATE SCHEMA copied").await.unwrap();
    let fields = json!({
        "_id": "INT",
        "documents": { "$as": "map", "$values": { "n": "INT", "list": ["STRING"] } },
        "scalars": { "$as": "map", "$values": "STRING" },
        "maps": [{ "$as": "map", "$values": { "$as": "map", "$values": "STRING" } }],
    });
    place.schema_file("odd.json", &json!({ "$gizer": 1, "fields": fields }).to_string());
    let keyed = |value: &dyn Fn(&str) -> Bson| -> Document {
        ODD_KEYS.iter().map(|key| ((*key).to_owned(), value(key))).collect()
    };
    let scalars = keyed(&|key| key.into());
    let all = doc! {
        "_id": 1,
        "documents": keyed(&|key| doc! { "n": 1, "list": [key, "x"] }.into()),
        "scalars": scalars.clone(),
        "maps": [keyed(&|_| scalars.clone().into()), {}, { "x": {} }],
    };
    let each = ODD_KEYS.iter().zip(10..).map(|(key, id)| {
        doc! { "_id": id, "documents": { *key: { "unknown": *key } }, "scalars": { *key: Bson::Null, "x": 5 } }
    });
    place.insert("odd", each.chain([all])).await;
    place.gizer(&["load", "--verify", "full"]).await.expect_code(0);
    place.gizer(&["extract", "--csv-path", "out"]).await.expect_code(0);
    place.gizer(&["copy", "--csv-path", "out", "--postgres-schema", "copied"]).await.expect_code(0);
    assert_same_tables(&place, "public", "copied").await;
    let count = ODD_KEYS.len() as i64;
    assert_eq!(place.number("SELECT count(*) FROM copied.odd_scalars").await, count + 2 * count - 1 + 1);
    for key in ODD_KEYS {
        let stored = "SELECT count(*) FROM copied.odd_map_item_value WHERE odd_maps_item_key = $1 AND value = key";
        let stored: i64 = place.postgres.query_one(stored, &[&key]).await.unwrap().get(0);
        assert_eq!(stored, count, "{key:?}");
    }
    is_equal(&place).await;
    let verified = place.gizer(&["verify", "--postgres-schema", "copied"]).await;
    assert_eq!(verified.code(), Some(0), "{verified:?}");
}

/// Text that cannot be compressed, as PostgreSQL tries with a long key.
fn long(length: usize, number: u64) -> String {
    let mut random = Random::of(14, 0, number);
    let letters: Vec<char> = ('!'..='~').filter(|letter| !".$".contains(*letter)).collect();
    (0..length).map(|_| random.pick(&letters)).collect()
}

/// Three maps in each other, and arrays in arrays at their end.
fn nested_schema() -> String {
    let arrays = (0..16).fold(json!("INT"), |inner, _| json!({ "$as": "table", "$items": inner }));
    let map = |values: Value| json!({ "$as": "map", "$values": values });
    let third = map(json!({ "n": "INT", "l": [arrays] }));
    let second = map(json!({ "n": "INT", "m": third }));
    let first = map(json!({ "n": "INT", "m": second }));
    json!({ "$gizer": 1, "fields": { "_id": "STRING", "m": first } }).to_string()
}

/// A document with an entry in each map, and the numbers 1 to 3 in them.
fn nested(id: &str, keys: [&str; 3]) -> Document {
    let arrays = (0..16).fold(Bson::from(7), |inner, _| vec![inner].into());
    let [first, second, third] = keys;
    let third = doc! { third: { "n": 3, "l": [arrays] } };
    doc! { "_id": id, "m": { first: { "n": 1, "m": { second: { "n": 2, "m": third } } } } }
}

/// How many rows the three maps of a document have, and where `_extra` has something of it: the table's number, from 0.
async fn kept(place: &Place, id: &str) -> (Vec<i64>, Vec<usize>) {
    let (mut rows, mut extras) = (Vec::new(), Vec::new());
    let tables = ["long", "long_m", "long_m_m", "long_m_m_m"];
    for (number, table) in tables.into_iter().enumerate() {
        let key = if number == 0 { "id" } else { "long_id" };
        let sql = format!("SELECT count(*), count(_extra) FROM {table} WHERE {key} = $1");
        let counts = place.postgres.query_one(&sql, &[&id]).await.unwrap();
        rows.push(counts.get(0));
        if counts.get::<_, i64>(1) > 0 {
            extras.push(number);
        }
    }
    (rows, extras)
}

fn keys() -> [String; 3] {
    [1, 2, 3].map(|number| long(900, number))
}

fn root(length: usize) -> String {
    long(length, 9)
}

/// Of a row's key all parts count, and what arrays below it add.
#[tokio::test]
async fn keys_that_outgrow_an_index_entry_together_stay_with_an_ancestor() {
    for version in [Version::V4_4, Version::V6_0] {
        let place = Place::shared(version).await;
        place.schema_file("long.json", &nested_schema());
        let [a, b, c] = keys();
        // The most that fits: 2,600 bytes, 8 for each part after the first, and 8 for each array below.
        let all_arrays = 3 * 8 + 17 * 8;
        let last = 2_600 - all_arrays - 900 - 900 - 300;
        let documents = [
            (root(10), nested(&root(10), [&a, &b, "short"]), [1, 1, 1, 1], vec![]),
            (root(11), nested(&root(11), [&a, &b, &c]), [1, 1, 1, 0], vec![2]),
            (root(900), nested(&root(900), [&a, &b, &c]), [1, 1, 0, 0], vec![1]),
            (root(999), nested(&root(999), [&long(2_000, 4), &b, &c]), [1, 0, 0, 0], vec![0]),
            (root(300), nested(&root(300), [&a, &b, &long(last, 5)]), [1, 1, 1, 1], vec![]),
            (root(301), nested(&root(301), [&a, &b, &long(last, 5)]), [1, 1, 1, 0], vec![2]),
            // Its own row would have a place, those of its arrays would not.
            (root(302), nested(&root(302), [&a, &b, &long(last + 130, 5)]), [1, 1, 1, 0], vec![2]),
        ];
        place.insert("long", documents.iter().map(|(_, document, ..)| document.clone())).await;
        let loaded = place.gizer(&["load", "--verify", "full", "--format", "json"]).await.expect_code(0);
        let check = async || {
            for (id, _, rows, extras) in &documents {
                assert_eq!(kept(&place, id).await, (rows.to_vec(), extras.clone()), "{version}: {}", id.len());
            }
            is_equal(&place).await;
        };
        check().await;
        let counted = loaded.stdout.matches("KEY too long").count();
        assert!(counted >= 3, "one for each map: {}", loaded.stdout);
        assert_eq!(place.number("SELECT count(*) FROM long_m WHERE length(key) = 900").await, 6);

        // Followed: values of entries that have rows and of those that have none, then other keys.
        place.gizer(&["sync"]).await.expect_code(0);
        let collection = place.mongo.collection::<Document>("long");
        let update = async |id: &str, update: Document| {
            let updated = collection.update_one(doc! { "_id": id }, update).await.unwrap();
            assert_eq!(updated.modified_count, 1);
        };
        for (id, ..) in &documents {
            if id.len() != 999 {
                update(id, doc! { "$set": { format!("m.{a}.m.{b}.n"): 20 }, "$inc": { format!("m.{a}.n"): 1 } }).await;
            }
        }
        place.gizer(&["sync"]).await.expect_code(0);
        check().await;
        assert_eq!(place.number("SELECT count(*) FROM long_m WHERE n = 2").await, 6);
        follow_other_keys(&place).await;
    }
}

/// Entries are renamed, so that what had no place has one, and the other way round.
async fn follow_other_keys(place: &Place) {
    let [a, b, c] = keys();
    let collection = place.mongo.collection::<Document>("long");
    for (length, from, to) in [
        (900, format!("m.{a}"), "m.short".to_owned()),
        (10, format!("m.{a}.m.{b}.m.short"), format!("m.{a}.m.{b}.m.{c}")),
    ] {
        let rename = doc! { "$rename": { from: to } };
        assert_eq!(collection.update_one(doc! { "_id": root(length) }, rename).await.unwrap().modified_count, 1);
    }
    collection.insert_one(nested(&root(901), [&a, &b, &c])).await.unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!(kept(place, &root(900)).await, (vec![1, 1, 1, 0], vec![2]));
    assert_eq!(kept(place, &root(10)).await, (vec![1, 1, 1, 0], vec![2]));
    assert_eq!(kept(place, &root(901)).await, (vec![1, 1, 0, 0], vec![1]));
    is_equal(place).await;
}
