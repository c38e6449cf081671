//! `gizer schema diff`: files with files, and files with the tables that are there.

use bson::doc;
use integration_tests::rig::{Finished, Gizer, Version};
use serde_json::{Value, json};

use super::place::{Place, assert_says};

const OLD: &str = r#"{"$gizer": 1, "collection": "orders", "fields": {
    "_id": "INT", "n": "INT", "old": "STRING", "items": [{"sku": "STRING"}]}}"#;
const NEW: &str = r#"{"$gizer": 1, "collection": "orders", "fields": {
    "_id": "INT", "n": "BIGINT", "items": [{"sku": {"$type": "STRING", "$name": "article"}}], "tags": ["STRING"]}}"#;

fn write(gizer: &Gizer, path: &str, text: &str) -> String {
    let path = gizer.folder().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The objects in this list that have all of these members.
fn having<'v>(list: &'v Value, members: &Value) -> Vec<&'v Value> {
    let wanted = members.as_object().unwrap();
    let has = |each: &&Value| wanted.iter().all(|(name, value)| each[name] == *value);
    list.as_array().unwrap().iter().filter(has).collect()
}

fn collection(finished: &Finished, at: usize) -> Value {
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    report["collections"][at].clone()
}

#[tokio::test]
async fn files_are_compared_by_paths_and_tables() {
    let gizer = Gizer::with_config("").unwrap();
    // Whatever a copy is called, it says whose schema it is.
    let (old, new) = (write(&gizer, "a/before.json", OLD), write(&gizer, "b/orders.json", NEW));
    let same = gizer.run(["schema", "diff", &old, &old]).await.unwrap().expect_code(0);
    assert_eq!(same.stdout, "orders: nothing differs\n");
    let text = gizer.run(["schema", "diff", &old, &new]).await.unwrap().expect_code(1);
    let expected = "\
orders

  paths
    ~ items[].sku  named by its path → article
    ~ n            INT → BIGINT
    - old          STRING
    + tags         table

  tables
    ~ orders
      ~ n          integer → bigint
      - old        text
    ~ order_items
      ~ article    was sku
    + order_tags   is made, for tags[]
      + orders_id  integer
      + tags       text
      + idx        bigint
      + _extra     jsonb

  1 table made, 2 tables changed; a load is due where the old one is loaded: gizer load orders
";
    assert_eq!(text.stdout, expected);
    let json = gizer.run(["schema", "diff", &new, &old, "--format", "json"]).await.unwrap().expect_code(1);
    let report = collection(&json, 0);
    assert_eq!(having(&report["tables"], &json!({"change": "dropped"})).len(), 1, "{report:#}");
    assert_eq!(having(&report["paths"], &json!({"path": "n", "change": "type"})).len(), 1, "{report:#}");
    assert_eq!(having(&report["paths"], &json!({"path": "items[].sku", "from": "article", "to": null})).len(), 1);
    assert_eq!((&report["name"], &report["load_due"]), (&json!("orders"), &json!(true)));
}

#[tokio::test]
async fn folders_are_compared_collection_by_collection() {
    let gizer = Gizer::with_config("").unwrap();
    for (path, text) in [("a/orders.json", OLD), ("b/orders.json", OLD), ("b/people.json", r#"{"_id": "INT"}"#)] {
        write(&gizer, path, text);
    }
    let (a, b) = (gizer.folder().join("a"), gizer.folder().join("b"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let text = gizer.run(["schema", "diff", a, b]).await.unwrap().expect_code(1).stdout;
    assert!(text.contains("orders: nothing differs") && text.contains("people: has a schema file now"), "{text}");
    let back = gizer.run(["schema", "diff", b, a, "--format", "json"]).await.unwrap().expect_code(1);
    assert_eq!(collection(&back, 1)["change"], "removed");
    gizer.run(["schema", "diff", a, a]).await.unwrap().expect_code(0);
}

#[tokio::test]
async fn what_cannot_be_compared_ends_with_2() {
    let gizer = Gizer::with_config("[postgres]\nuri = \"postgresql://me:hunter2@127.0.0.1:1/db\"\n").unwrap();
    let good = write(&gizer, "schemas/orders.json", OLD);
    let bad = write(&gizer, "bad.json", "{\n\"_id\": \"NUMBER\"}");
    let keyless = write(&gizer, "keyless.json", r#"{"n": "INT"}"#);
    let run = |args: Vec<String>| {
        let gizer = &gizer;
        async move { gizer.run(["schema".to_owned(), "diff".to_owned()].into_iter().chain(args)).await.unwrap() }
    };
    let folder = gizer.folder().to_str().unwrap().to_owned();
    let cases: [(Vec<String>, &str); 7] = [
        (vec![good.clone(), bad], "bad.json: line 2"),
        (vec![good.clone(), keyless], "neither a field _id"),
        (vec![good.clone(), "nowhere.json".to_owned()], "cannot read nowhere.json"),
        (vec![good.clone(), folder], "is a folder"),
        (vec![good.clone()], "expected two"),
        (vec!["nothing".to_owned(), "--live".to_owned()], "nothing has no schema file"),
        (vec!["--live".to_owned()], "127.0.0.1"),
    ];
    for (args, words) in cases {
        assert_says(&run(args).await, 2, &[words]);
    }
}

#[tokio::test]
async fn the_tables_that_are_there_are_compared() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("orders.json", OLD);
    let before = place.gizer(&["schema", "diff", "--live"]).await.expect_code(1).stdout;
    assert!(
        before.contains("+ order_items") && before.contains("2 tables made; a load is due: gizer load orders"),
        "{before}"
    );
    assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer%'").await, 0, "nothing is made");

    place.insert("orders", [doc! {"_id": 1, "n": 1, "old": "x", "items": [{"sku": "a"}]}]).await;
    place.gizer(&["load"]).await.expect_code(0);
    let same = place.gizer(&["schema", "diff", "orders", "--live"]).await.expect_code(0).stdout;
    assert_eq!(same, "orders: the tables are up to date with the schema file\n");

    place.schema_file("orders.json", NEW);
    let other = place.gizer(&["schema", "diff", "--live", "--format", "json"]).await.expect_code(1);
    let report = collection(&other, 0);
    let tables = &report["tables"];
    let columns = |table: &str| having(tables, &json!({"change": "changed", "name": table}))[0]["columns"].clone();
    let changed = having(&columns("orders"), &json!({"change": "changed"}))[0].clone();
    assert_eq!((&changed["from"]["type"], &changed["to"]["type"]), (&json!("integer"), &json!("bigint")));
    assert_eq!(having(&columns("orders"), &json!({"change": "removed"}))[0]["from"]["name"], "old");
    // A column that has another name only is known by the comment on it.
    let renamed = having(&columns("order_items"), &json!({"change": "changed"}))[0].clone();
    assert_eq!((&renamed["from"]["name"], &renamed["to"]["name"]), (&json!("sku"), &json!("article")));
    assert_eq!(having(tables, &json!({"change": "made"}))[0]["to"]["name"], "order_tags");
    // And the other way round, once that is loaded: a table that is no longer needed.
    place.gizer(&["load"]).await.expect_code(0);
    place.schema_file("orders.json", OLD);
    let back = place.gizer(&["schema", "diff", "--live"]).await.expect_code(1).stdout;
    assert!(back.contains("- order_tags") && back.contains("is dropped, with its 4 columns"), "{back}");
}

#[tokio::test]
async fn what_somebody_has_done_to_the_tables_is_told() {
    let place = Place::shared(Version::V6_0).await;
    place.schema_file("orders.json", OLD);
    place.insert("orders", [doc! {"_id": 1, "n": 1, "old": "x", "items": [{"sku": "a"}]}]).await;
    place.gizer(&["load"]).await.expect_code(0);
    // Comments that people have put on tables and columns are no difference, and hide none.
    place
        .postgres
        .batch_execute("COMMENT ON COLUMN orders.n IS 'how many'; COMMENT ON TABLE order_items IS 'lines'")
        .await
        .unwrap();
    place.gizer(&["schema", "diff", "--live"]).await.expect_code(0);
    let changes = "ALTER TABLE orders ALTER n TYPE bigint; ALTER TABLE orders ADD more text; \
                   ALTER TABLE order_items DROP CONSTRAINT order_items_pkey";
    place.postgres.batch_execute(changes).await.unwrap();
    let text = place.gizer(&["schema", "diff", "--live"]).await.expect_code(1).stdout;
    for words in ["bigint → integer", "- more", "~ order_items  primary key (orders_id, idx)"] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    let undo = "ALTER TABLE orders DROP more; ALTER TABLE orders ALTER n TYPE integer; \
                ALTER TABLE order_items ADD PRIMARY KEY (orders_id, idx)";
    place.postgres.batch_execute(undo).await.unwrap();
    place.gizer(&["schema", "diff", "--live"]).await.expect_code(0);
    // Columns alone do not tell everything that a schema file says.
    place.schema_file("orders.json", &OLD.replace("\"fields\"", "\"exact_types\": true, \"fields\""));
    let exact = place.gizer(&["schema", "diff", "--live"]).await.expect_code(1).stdout;
    assert!(exact.contains("were loaded by another schema; a load is due"), "{exact}");
}
