//! Maps through real servers: inferred, loaded, followed, verified and repaired.

use bson::{Bson, Document, doc};
use integration_tests::rig::Version;
use serde_json::json;

use super::place::{Place, assert_says};

const FIRST: &str = "0df078f33aa74a2e9696e0520c1a828a";
const SECOND: &str = "699456451cc24f028d2aa99d7534c219";

fn tier(name: &str, benefits: &[&str]) -> Document {
    doc! { "tier": name, "active": true, "benefits": benefits.to_vec() }
}

/// Accounts with tiers by hexadecimal ids, of which a schema was inferred, and which are loaded.
async fn accounts(version: Version) -> Place {
    let place = Place::shared(version).await;
    let account = |n: i32| {
        let tiers: Document =
            (0..n % 3).map(|k| (format!("{:032x}", 7 * n + k), tier("Gold", &["a", "b"]).into())).collect();
        doc! { "_id": n, "tiers": tiers }
    };
    place.insert("accounts", (10..60).map(account)).await;
    let two = doc! { FIRST: tier("Bronze", &["tickets"]), SECOND: tier("Silver", &[]) };
    place.insert("accounts", [doc! { "_id": 1, "tiers": two }, doc! { "_id": 2, "tiers": {} }]).await;
    let inferred = place.gizer(&["schema", "infer"]).await.expect_code(0);
    assert!(
        inferred.stdout.contains("accounts.tiers: map") || inferred.stderr.contains("accounts.tiers: map"),
        "{inferred:?}"
    );
    place.gizer(&["load", "--verify", "full"]).await.expect_code(0);
    place
}

async fn is_equal(place: &Place) {
    let verified = place.gizer(&["verify"]).await;
    assert_eq!(verified.code(), Some(0), "{verified:?}");
}

#[tokio::test]
async fn a_map_is_a_table_with_its_names_as_keys() {
    let place = accounts(Version::V6_0).await;
    let columns = "SELECT string_agg(attname, ' ' ORDER BY attnum) AS columns FROM pg_attribute \
                   WHERE attrelid = 'account_tiers'::regclass AND attnum > 0";
    assert_eq!(place.rows(columns).await, [json!({ "columns": "accounts_id active tier key _extra" })]);
    let benefits = "SELECT accounts_tiers_key AS key, idx, benefits FROM account_tier_benefits WHERE accounts_id = 1";
    assert_eq!(place.rows(benefits).await, [json!({ "key": FIRST, "idx": 1, "benefits": "tickets" })]);
    let tiers = "SELECT key, tier, _extra FROM account_tiers WHERE accounts_id = 1 ORDER BY key";
    assert_eq!(
        place.rows(tiers).await,
        [
            json!({ "key": FIRST, "tier": "Bronze", "_extra": null }),
            json!({ "key": SECOND, "tier": "Silver", "_extra": { "/benefits": [] } }),
        ]
    );
    is_equal(&place).await;
}

async fn follow_a_map(version: Version) {
    let place = accounts(version).await;
    place.gizer(&["sync"]).await.expect_code(0);
    let accounts = place.mongo.collection::<Document>("accounts");
    let update = async |id: i32, update: Document| {
        accounts.update_one(doc! { "_id": id }, update).await.unwrap();
    };
    // One entry of one row: nothing else is written.
    update(1, doc! { "$set": { format!("tiers.{FIRST}.tier"): "Platinum" } }).await;
    let before = place.number("SELECT count(*) FROM account_tiers WHERE xmin::text::bigint > 0").await;
    let synced = place.gizer(&["sync", "--format", "json"]).await.expect_code(0);
    assert!(before > 0 && !synced.stdout.is_empty());
    let tier = "SELECT tier FROM account_tiers WHERE accounts_id = 1 ORDER BY key";
    assert_eq!(place.rows(tier).await, [json!({ "tier": "Platinum" }), json!({ "tier": "Silver" })]);
    // Entries come, go, and are renamed; arrays in them grow.
    update(2, doc! { "$set": { "tiers.new": self::tier("New", &["x"]), "tiers.13": self::tier("Number", &[]) } }).await;
    update(1, doc! { "$unset": { format!("tiers.{SECOND}"): 1 } }).await;
    update(1, doc! { "$rename": { format!("tiers.{FIRST}"): "tiers.renamed" } }).await;
    update(2, doc! { "$push": { "tiers.new.benefits": "y" } }).await;
    place.gizer(&["sync"]).await.expect_code(0);
    let keys = "SELECT accounts_id AS id, key FROM account_tiers WHERE accounts_id < 3 ORDER BY 1, 2";
    assert_eq!(
        place.rows(keys).await,
        [json!({ "id": 1, "key": "renamed" }), json!({ "id": 2, "key": "13" }), json!({ "id": 2, "key": "new" })]
    );
    is_equal(&place).await;
    // No map any more, and one again; keys of every kind.
    update(1, doc! { "$set": { "tiers": "none" } }).await;
    let odd = ["", ".", "a.b", "$set", "/", "~0", "ü", "key", &"k".repeat(2_000), &"l".repeat(3_000)];
    // What 4.4 does not store (MongoDB documentation, "Field Names with Periods and Dollar Signs").
    let stored = odd.iter().filter(|key| version != Version::V4_4 || !key.starts_with('$'));
    let odd: Document = stored.map(|key| ((*key).to_owned(), Bson::from(self::tier("Odd", &["z"])))).collect();
    accounts.replace_one(doc! { "_id": 2 }, doc! { "tiers": odd }).await.unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
    let rows = if version == Version::V4_4 { 8 } else { 9 };
    assert_eq!(place.number("SELECT count(*) FROM account_tiers WHERE accounts_id = 2").await, rows, "one is too long");
    let extra = "SELECT _extra FROM accounts WHERE id = 1";
    assert_eq!(place.rows(extra).await, [json!({ "_extra": { "/tiers": "none" } })]);
    is_equal(&place).await;
    update(1, doc! { "$set": { "tiers": { "again": self::tier("Again", &[]) } } }).await;
    accounts.delete_one(doc! { "_id": 2 }).await.unwrap();
    place.gizer(&["sync"]).await.expect_code(0);
    assert_eq!(place.rows(keys).await, [json!({ "id": 1, "key": "again" })]);
    is_equal(&place).await;
}

#[tokio::test]
async fn a_map_is_followed_on_4_4() {
    follow_a_map(Version::V4_4).await;
}

#[tokio::test]
async fn a_map_is_followed_on_6_0() {
    follow_a_map(Version::V6_0).await;
}

#[tokio::test]
async fn every_fault_in_a_map_is_found_and_repaired() {
    let place = accounts(Version::V5_0).await;
    place.gizer(&["sync"]).await.expect_code(0);
    for (fault, says) in [
        (format!("DELETE FROM account_tiers WHERE key = '{FIRST}'"), "the row is missing"),
        ("INSERT INTO account_tiers (accounts_id, key) VALUES (2, 'more')".to_owned(), "the row is left over"),
        (format!("UPDATE account_tiers SET key = 'other' WHERE key = '{FIRST}'"), "the row is left over"),
        (format!("UPDATE account_tiers SET tier = 'Other' WHERE key = '{SECOND}'"), "tier differs"),
        (format!("UPDATE account_tiers SET _extra = NULL WHERE key = '{SECOND}'"), "_extra differs"),
        ("UPDATE account_tier_benefits SET accounts_tiers_key = 'x' WHERE accounts_id = 1".to_owned(), "left over"),
    ] {
        place.postgres.batch_execute(&fault).await.unwrap();
        let verified = place.gizer(&["verify"]).await;
        assert_eq!(verified.code(), Some(4), "{fault}: {verified:?}");
        assert!(format!("{verified:?}").contains(says), "{fault}: {verified:?}");
        assert_says(&place.gizer(&["verify", "--repair"]).await, 0, &[]);
        is_equal(&place).await;
    }
}

#[tokio::test]
async fn a_long_key_is_whole_in_the_json_of_verify() {
    let place = accounts(Version::V6_0).await;
    let key = "k".repeat(2_000);
    place.insert("accounts", [doc! { "_id": 3, "tiers": { &key: tier("Long", &[]) } }]).await;
    place.gizer(&["sync"]).await.expect_code(0);
    place.postgres.batch_execute("UPDATE account_tiers SET tier = 'other' WHERE accounts_id = 3").await.unwrap();
    let verified = place.gizer(&["verify", "--format", "json"]).await.expect_code(4);
    assert!(verified.stdout.contains(&format!("{key:?}")), "{verified:?}");
    let shown = place.gizer(&["verify"]).await.expect_code(4);
    assert!(!shown.stdout.contains(&key) && !shown.stderr.contains(&key), "{shown:?}");
    assert!(format!("{shown:?}").contains("tier differs"), "{shown:?}");
}
