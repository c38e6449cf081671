//! The cases of `testdata/maps.json`, generated as they say: inferred, loaded, changed, followed and verified.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use integration_tests::random::Random;
use integration_tests::rig::Version;
use serde_json::{Value, json};

use super::place::Place;

/// Of all that is generated.
const SEED: u64 = 14;

/// The `_id` of the first generated document; those of the file come before.
const FIRST_ID: i32 = 100;

fn random_of(collection: &str, number: i32) -> Random {
    Random::of(SEED, collection.bytes().fold(0, |hash, byte| hash * 31 + u64::from(byte)), number as u64)
}

fn case(collection: &str) -> Value {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../../../testdata/maps.json")).unwrap();
    cases.into_iter().find(|case| case["collection"] == collection).unwrap()
}

/// The collection of a case with the file's documents and these, inferred and loaded; its tables are the file's.
#[allow(clippy::print_stdout, reason = "a seed that fails has to be known")]
async fn loaded(version: Version, collection: &str, generated: impl Iterator<Item = Document>) -> Place {
    println!("{collection} on {version}, seed {SEED}");
    let (place, case) = (Place::shared(version).await, case(collection));
    let own = case["documents"].as_array().unwrap().iter();
    let own = own.map(|document| bson::serialize_to_document(document).unwrap());
    let own: Vec<Document> = own.map(small_numbers).collect();
    place.insert(collection, own.into_iter().chain(generated)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load", "--verify", "full"]).await.expect_code(0);
    if !case["tables"].is_null() {
        assert_eq!(tables(&place).await, case["tables"], "{collection}");
    }
    place.gizer(&["sync"]).await.expect_code(0);
    place
}

/// As the shell and most drivers write them.
fn small_numbers(document: Document) -> Document {
    let small = |value: Bson| match value {
        Bson::Int64(number) => Bson::Int32(number.try_into().unwrap()),
        Bson::Document(inner) => small_numbers(inner).into(),
        other => other,
    };
    document.into_iter().map(|(name, value)| (name, small(value))).collect()
}

/// All tables with their columns, as PostgreSQL has them.
async fn tables(place: &Place) -> Value {
    let columns = "SELECT c.relname AS name, array_agg(a.attname ORDER BY a.attnum) AS columns FROM pg_class c \
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
                   WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' \
                   AND c.relname NOT LIKE 'gizer\\_%' AND c.relname <> 'qmetlstatus' GROUP BY 1";
    let named = place.rows(columns).await.into_iter();
    json!(
        named
            .map(|table| (table["name"].as_str().unwrap().to_owned(), table["columns"].clone()))
            .collect::<BTreeMap<_, _>>()
    )
}

/// Updates of documents, a round of sync, and an audit; gives the number of rows that were written, by table.
async fn change(place: &Place, collection: &str, updates: &[(Bson, Document)]) -> Value {
    let before = place.number("SELECT txid_current()").await;
    let documents = place.mongo.collection::<Document>(collection);
    for (id, update) in updates {
        let updated = documents.update_one(doc! { "_id": id }, update.clone()).await.unwrap();
        assert_eq!(updated.modified_count, 1, "{id}: {update}");
    }
    place.gizer(&["sync"]).await.expect_code(0);
    let verified = place.gizer(&["verify"]).await;
    assert_eq!(verified.code(), Some(0), "{verified:?}");
    let mut written = BTreeMap::new();
    for table in tables(place).await.as_object().unwrap().keys() {
        let newer = format!("SELECT count(*) FROM \"{table}\" WHERE xmin::text::bigint > {before}");
        written.insert(table.clone(), place.number(&newer).await);
    }
    json!(written)
}

fn hex(random: &mut Random) -> String {
    format!("{:016x}{:016x}", random.next(), random.next())
}

#[tokio::test]
async fn accounts_are_keyed_by_ids() {
    let account = |number: i32| {
        let mut random = random_of("accounts", number);
        let count = if number % 2 == 0 { 0 } else { random.between(1, 2) };
        let benefits = ["concierge", "24 hour line", "sports tickets"];
        let tiers = (0..count).map(|_| {
            let some: Vec<&str> = (0..random.below(3)).map(|_| random.pick(&benefits)).collect();
            let tier = doc! { "tier": random.pick(&["Bronze", "Silver", "Gold"]), "active": random.percent(50), "benefits": some };
            (hex(&mut random), Bson::from(tier))
        });
        doc! { "_id": number, "tiers": tiers.collect::<Document>() }
    };
    let place = loaded(Version::V6_0, "accounts", (FIRST_ID..FIRST_ID + 500).map(account)).await;
    let rows = "SELECT json_build_array(accounts_id, active, tier, key, _extra) AS row FROM account_tiers \
                WHERE accounts_id < 100 ORDER BY accounts_id, key";
    let rows: Vec<Value> = place.rows(rows).await.into_iter().map(|mut row| row["row"].take()).collect();
    assert_eq!(Value::from(rows), case("accounts")["rows"]["account_tiers"]);
    let gold = "tiers.699456451cc24f028d2aa99d7534c219";
    let one = change(&place, "accounts", &[(3.into(), doc! { "$set": { format!("{gold}.tier"): "Platinum" } })]).await;
    assert_eq!(one, json!({ "accounts": 0, "account_tiers": 1, "account_tier_benefits": 0 }));
    let more = [
        (3.into(), doc! { "$push": { format!("{gold}.benefits"): "sports tickets" } }),
        (2.into(), doc! { "$set": { "tiers.0df078f33aa74a2e9696e0520c1a828a": { "tier": "New" } } }),
    ];
    let two = change(&place, "accounts", &more).await;
    // The mark of the empty object goes.
    assert_eq!(two, json!({ "accounts": 1, "account_tiers": 1, "account_tier_benefits": 1 }));
}

#[tokio::test]
async fn places_are_keyed_by_languages() {
    let place = |number: i32| {
        let mut random = random_of("places", number);
        let letter = |number: u64| char::from(b'a' + (number % 26) as u8);
        let count = random.between(1, 4);
        let code = |code: u64| format!("{}{}q", letter(code / 26), letter(code));
        let codes: Vec<String> = (0..count).map(|_| code(random.below(150))).collect();
        let languages: Document = codes.iter().map(|code| (code.clone(), format!("Name {code}").into())).collect();
        let native: Document = codes.into_iter().map(|code| (code, doc! { "common": "Name" }.into())).collect();
        doc! { "_id": format!("{number}"), "languages": languages, "native": native }
    };
    let place = loaded(Version::V5_0, "places", (FIRST_ID..FIRST_ID + 250).map(place)).await;
    let updates = [
        ("FI".into(), doc! { "$set": { "languages.sme": "Northern Sami" } }),
        ("NO".into(), doc! { "$unset": { "native.nno": "" } }),
    ];
    let written = change(&place, "places", &updates).await;
    assert_eq!(written, json!({ "places": 0, "place_languages": 1, "place_native": 0 }));
    let languages = "SELECT places_id AS id, string_agg(key, ' ' ORDER BY key) AS keys FROM place_languages \
                     WHERE places_id IN ('FI', 'NO') GROUP BY 1 ORDER BY 1";
    let expected = [json!({ "id": "FI", "keys": "fin sme swe" }), json!({ "id": "NO", "keys": "nno nob" })];
    assert_eq!(place.rows(languages).await, expected);
}

#[tokio::test]
async fn stats_are_keyed_by_days_and_hours() {
    let stats = |number: i32| {
        let mut random = random_of("stats", number);
        let days = (0..random.between(1, 60)).map(|day| {
            let hours =
                (0..random.between(1, 4)).map(|_| (random.below(24).to_string(), Bson::from(random.below(9) as i32)));
            let by_hour: Document = hours.collect();
            let views = random.below(1_000) as i32;
            (
                format!("2026-{:02}-{:02}", 1 + day / 28, 1 + day % 28),
                doc! { "views": views, "by_hour": by_hour }.into(),
            )
        });
        doc! { "_id": number, "daily": days.collect::<Document>() }
    };
    let place = loaded(Version::V4_4, "stats", (FIRST_ID..FIRST_ID + 100).map(stats)).await;
    let updates = [
        (7.into(), doc! { "$inc": { "daily.2026-01-31.views": 1, "daily.2026-01-31.by_hour.13": 1 } }),
        (7.into(), doc! { "$set": { "daily.2026-02-01.by_hour.23": 5 } }),
    ];
    let written = change(&place, "stats", &updates).await;
    assert_eq!(written, json!({ "stats": 0, "stat_daily": 1, "stat_daily_by_hour": 2 }));
    let hours = "SELECT stats_daily_key AS day, key, value FROM stat_daily_by_hour WHERE stats_id = 7 ORDER BY 1, 2";
    let hour = |day: &str, key: &str, value: i32| json!({ "day": day, "key": key, "value": value });
    let expected = [
        hour("2026-01-31", "0", 1),
        hour("2026-01-31", "13", 3),
        hour("2026-02-01", "23", 5),
        hour("2026-02-01", "9", 1),
    ];
    assert_eq!(place.rows(hours).await, expected);
}

#[tokio::test]
async fn addresses_have_fields() {
    let names = ["street", "city", "zip", "country", "floor", "door", "region", "state", "line2", "note"];
    let address = |number: i32| {
        let mut random = random_of("addresses", number);
        let some = (60..).step_by(4).zip(names).filter(|(percent, _)| random.percent(*percent));
        let some: Document = some.map(|(_, name)| (name.to_owned(), format!("{name} {number}").into())).collect();
        doc! { "_id": number, "address": some }
    };
    let place = loaded(Version::V6_0, "addresses", (FIRST_ID..FIRST_ID + 500).map(address)).await;
    let written = change(&place, "addresses", &[(1.into(), doc! { "$set": { "address.city": "c" } })]).await;
    assert_eq!(written, json!({ "addresses": 1 }));
}

/// Sixty words.
fn word(number: u64) -> String {
    let first = ["max", "min", "net", "raw", "top", "sub"];
    let second = ["load", "width", "colour", "grade", "speed", "depth", "power", "range", "shape", "yield"];
    format!("{}_{}", first[number as usize / 10 % 6], second[number as usize % 10])
}

#[tokio::test]
async fn products_have_fields_of_many_kinds() {
    let product = |number: i32| {
        let mut random = random_of("products", number);
        let count = random.between(3, 6);
        let attributes = (0..count).map(|_| {
            let attribute = random.below(60);
            let value: Bson = match attribute % 6 {
                0 | 1 => (random.below(500) as i32).into(),
                2 | 3 => format!("text {}", random.below(9)).into(),
                4 => random.percent(50).into(),
                _ => doc! { "w": random.below(9) as i32, "h": random.below(9) as i32 }.into(),
            };
            (word(attribute), value)
        });
        doc! { "_id": number, "attributes": attributes.collect::<Document>() }
    };
    let place = loaded(Version::V5_0, "products", (FIRST_ID..FIRST_ID + 1_000).map(product)).await;
    let tables = tables(&place).await;
    assert_eq!(tables.as_object().unwrap().keys().collect::<Vec<_>>(), ["products"]);
    let columns = tables["products"].as_array().unwrap();
    // A tenth of the attributes is of two columns; four are the file's own, one of these of two.
    assert_eq!(columns.len(), 60 + 10 + 5 + 2, "{columns:?}");
    let written = change(&place, "products", &[(1.into(), doc! { "$set": { "attributes.colour": "green" } })]).await;
    assert_eq!(written, json!({ "products": 1 }));
}

#[tokio::test]
async fn labels_are_keyed_by_words() {
    let labels = |number: i32| {
        let mut random = random_of("labels", number);
        let count = random.between(3, 6);
        let labels = (0..count).map(|_| (word(random.below(60)), Bson::from(format!("text {}", random.below(9)))));
        doc! { "_id": number, "labels": labels.collect::<Document>() }
    };
    let place = loaded(Version::V4_4, "labels", (FIRST_ID..FIRST_ID + 1_000).map(labels)).await;
    let updates = [(1.into(), doc! { "$set": { "labels.team": "edge" }, "$unset": { "labels.tier": "" } })];
    assert_eq!(change(&place, "labels", &updates).await, json!({ "labels": 0, "label_labels": 1 }));
    let rows = "SELECT key, value FROM label_labels WHERE labels_id = 1";
    assert_eq!(place.rows(rows).await, [json!({ "key": "team", "value": "edge" })]);
}
