//! Schemas that stay within limits, and what `plan` says of those that were made without.

use bson::{Bson, Document, doc};
use integration_tests::rig::Version;
use serde_json::json;

use super::place::{Place, assert_says};

/// Nothing of a row of 8 kB is lost, and none is refused: PostgreSQL itself says what it holds.
#[tokio::test]
async fn what_no_row_holds_becomes_json_and_is_loaded() {
    let place = Place::shared(Version::V6_0).await;
    let text = |name: &str, count: usize| -> Document {
        let value = |i: usize| {
            if i.is_multiple_of(2) { Bson::from("a text of some length ".repeat(5)) } else { Bson::from(1.5) }
        };
        (0..count).map(|i| (format!("{name}{i}"), value(i))).collect()
    };
    let mut own = doc! { "_id": 1 };
    own.extend(text("own", 900));
    place.insert("own", [own]).await;
    place
        .insert("products", [doc! { "_id": 1, "a": text("a", 800), "b": text("b", 300), "c": [text("c", 700)] }])
        .await;
    // What is too short to be stored outside of the row, and numbers in columns that take any type.
    let short = |i: usize| (format!("s{i}"), Bson::from("22 characters, no more"));
    place.insert("short", [doc! { "_id": 1, "s": (0..400).map(short).collect::<Document>() }]).await;
    let any = |n: usize| -> Document {
        let value = |i: usize| if (n + i).is_multiple_of(2) { Bson::from(5) } else { Bson::from("x") };
        (0..450).map(|i| (format!("any{i}"), value(i))).collect()
    };
    place.insert("anything", (1..5).map(|n| doc! { "_id": n as i64, "any": any(n) })).await;
    let inferred = place.gizer(&["schema", "infer"]).await;
    assert_says(
        &inferred,
        0,
        &[
            "products: a table would have 1,101 columns; JSON for a instead (more with --max-columns, up to 1,500)",
            "own: a row would not fit into PostgreSQL's page of 8 kB; no column for ",
            "short: a row would not fit into PostgreSQL's page of 8 kB; JSON for s instead",
            "anything: a row would not fit into PostgreSQL's page of 8 kB; JSON for any instead",
        ],
    );
    place.gizer(&["load", "--verify", "full"]).await.expect_code(0);
    let extra = "SELECT count(*) FROM own, jsonb_object_keys(_extra)";
    assert!(place.number(extra).await > 200);
    place.gizer(&["sync"]).await.expect_code(0);
    let set = doc! { "$set": { "b.b0": "other", "a.a1": 2.5, "own3": "a text of some length ".repeat(5) } };
    for collection in ["own", "products"] {
        place.mongo.collection::<Document>(collection).update_one(doc! { "_id": 1 }, set.clone()).await.unwrap();
    }
    place.gizer(&["sync"]).await.expect_code(0);
    place.gizer(&["verify"]).await.expect_code(0);
}

/// As schema files were made before there were maps.
#[tokio::test]
async fn plan_recommends_a_map_where_tables_were_made_of_data() {
    let place = Place::shared(Version::V6_0).await;
    let account = |n: i32| doc! { "_id": n, "tiers": { format!("{n:024x}"): { "tier": "Gold", "benefits": ["a"] } } };
    place.insert("accounts", (0..120).map(account)).await;
    place.gizer(&["schema", "infer", "--no-maps"]).await.expect_code(0);
    let planned = place.gizer(&["plan"]).await.expect_code(0).stdout;
    let says = "accounts.tiers: 120 tables for 120 names, which may be data\n    \
                help: as a map they are one table with a column key: see `gizer schema infer accounts --force`";
    assert!(planned.contains(says), "{planned}");
    let inferred = place.gizer(&["schema", "infer", "accounts", "--force"]).await;
    assert_says(&inferred, 0, &["accounts.tiers: map, 120 names in 120 objects, 1 of 120 each"]);
    let planned = place.gizer(&["plan", "--format", "json"]).await.expect_code(0);
    assert!(!planned.stdout.contains("may be data"), "{planned:?}");
    place.gizer(&["run"]).await.expect_code(0);
    let tables = "SELECT string_agg(relname, ' ' ORDER BY relname) AS tables FROM pg_class WHERE relkind = 'r' \
                  AND relname LIKE 'account%'";
    assert_eq!(place.rows(tables).await, [json!({ "tables": "account_tier_benefits account_tiers accounts" })]);
}

#[tokio::test]
async fn what_the_classic_dialect_has_not_is_refused() {
    let place = Place::shared(Version::V6_0).await;
    for option in ["--map-names", "--max-tables", "--max-columns"] {
        let ended = place.gizer(&["schema", "infer", "--classic", option, "30"]).await;
        assert_says(&ended, 2, &["--classic", option, "cannot be used with"]);
    }
    place.insert("things", [doc! { "_id": 1 }]).await;
    place.gizer(&["schema", "infer", "--classic", "--no-maps"]).await.expect_code(0);
}
