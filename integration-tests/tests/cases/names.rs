//! Names that collide or do not fit, ids that outgrow their type, and collections of which nothing is known yet.

use bson::{Document, doc};
use integration_tests::rig::Version;
use serde_json::{Value, json};

use crate::place::{Place, assert_says};

async fn json_of(place: &Place, args: &[&str], code: i32) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--format", "json"]).collect();
    let finished = place.gizer(&args).await.expect_code(code);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// A schema file, as it was written.
fn schema_of(place: &Place, file: &str) -> Value {
    let path = place.gizer.folder().join("schemas").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn schema_files(place: &Place) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(place.gizer.folder().join("schemas")) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn o5_integer_ids_are_bigint() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", (1..=3).map(|id| doc! {"_id": id, "items": [id]})).await;
    place.gizer(&["run"]).await.expect_code(0);
    let wide = (1_i64 << 31) + 5;
    place.insert("orders", [doc! {"_id": wide, "items": [1, 2]}]).await;
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(place.number("SELECT max(id) FROM orders").await, wide);
    assert_eq!(place.number(&format!("SELECT count(*) FROM order_items WHERE orders_id = {wide}")).await, 2);
    assert_eq!(place.number("SELECT count(*) FROM gizer_reject").await, 0);
    place.gizer(&["verify"]).await.expect_code(0);
    place.gizer(&["schema", "infer", "orders", "--force", "--classic"]).await.expect_code(0);
    assert_eq!(schema_of(&place, "orders.json")["_id"], "BIGINT");
}

#[tokio::test]
async fn o4_nothing_is_inferred_from_nothing() {
    let place = Place::shared(Version::V6_0).await;
    place.mongo.create_collection("empty").await.unwrap();
    let named = place.gizer(&["schema", "infer", "empty"]).await;
    assert_says(&named, 1, &["empty: no document was seen", "when it has documents"]);
    assert_says(&place.gizer(&["schema", "infer", "empty", "--classic"]).await, 1, &["no document was seen"]);
    let all = json_of(&place, &["schema", "infer"], 0).await;
    assert_eq!(all["skipped"][0]["name"], "empty", "{all}");
    assert_eq!(schema_files(&place), Vec::<String>::new());

    place.insert("full", [doc! {"_id": 1}]).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    assert_eq!(schema_files(&place), ["full.json"]);
    let ids = (0..50).map(|id| doc! {"_id": id, "name": format!("number {id}"), "tags": [id]});
    place.insert("empty", ids).await;
    place.gizer(&["run", "--schemas-infer", "missing"]).await.expect_code(0);
    assert_eq!(schema_of(&place, "empty.json")["fields"]["_id"], "BIGINT");
    assert_eq!(place.number("SELECT count(*) FROM \"empty\"").await, 50);
    assert_eq!(place.number("SELECT count(*) FROM gizer_reject").await, 0);
}

async fn table_names(place: &Place) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' \
               AND relname LIKE 'order%' ORDER BY 1";
    place.postgres.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// The one that is inferred later yields, whichever that is, and what has a name keeps it.
#[tokio::test]
async fn o2_a_name_that_is_taken_is_replaced_by_a_stable_one() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("order", [doc! {"_id": 1, "items": [1, 2]}]).await;
    place.insert("orders", [doc! {"_id": 2, "items": [{"x": 1}], "gifts": [1]}]).await;
    let run = json_of(&place, &["run"], 0).await;
    let renamed = schema_of(&place, "orders.json")["fields"]["items"]["$name"].as_str().unwrap().to_owned();
    assert!(renamed.starts_with("order_items_"), "{run}");
    assert_eq!(table_names(&place).await, ["order", "order_gifts", "order_items", &renamed, "orders"]);
    assert_eq!(place.number(&format!("SELECT count(*) FROM {renamed} WHERE orders_id = 2 AND x = 1")).await, 1);
    place.gizer(&["run"]).await.expect_code(0);
    place.gizer(&["verify"]).await.expect_code(0);

    // Once given, names stay: where all is inferred again, and a collection comes that is called like a table.
    place.insert("order_gifts", [doc! {"_id": 3}]).await;
    place.insert("order_lines", [doc! {"_id": 4}]).await;
    place.insert("orders", [doc! {"_id": 5, "lines": [1]}]).await;
    place.gizer(&["schema", "infer", "--force"]).await.expect_code(0);
    assert_eq!(schema_of(&place, "orders.json")["fields"]["items"]["$name"], renamed.as_str());
    assert_eq!(schema_of(&place, "orders.json")["fields"]["gifts"], json!(["INT"]));
    let lines = schema_of(&place, "orders.json")["fields"]["lines"]["$name"].as_str().unwrap().to_owned();
    let gifts = schema_of(&place, "order_gifts.json")["$name"].as_str().unwrap().to_owned();
    assert!(lines.starts_with("order_lines_") && gifts.starts_with("order_gifts_"), "{lines} {gifts}");
    place.gizer(&["run"]).await.expect_code(0);
    let expected = ["order", "order_gifts", &gifts, "order_items", &renamed, "order_lines", &lines, "orders"];
    assert_eq!(table_names(&place).await, expected);
    place.gizer(&["verify"]).await.expect_code(0);
}

/// People's own schema files that want one table are refused by name, with what helps; the others are copied.
#[tokio::test]
async fn o2_files_by_people_that_collide_are_told_each_time() {
    let place = Place::shared(Version::V6_0).await;
    for collection in ["order", "orders", "posts"] {
        place.insert(collection, [doc! {"_id": 1, "items": [1]}]).await;
        let text = r#"{"$gizer": 1, "fields": {"_id": "INT", "items": ["INT"]}}"#;
        place.schema_file(&format!("{collection}.json"), text);
    }
    for _ in 0..2 {
        let run = place.gizer(&["run"]).await;
        assert_says(&run, 7, &["order and orders both need the table order_items", "items: {\"$name\": "]);
        assert_eq!(place.number("SELECT count(*) FROM post_items").await, 1);
    }
    let text = r#"{"$gizer": 1, "fields": {"_id": "INT", "items": {"$name": "orders_items", "$items": "INT"}}}"#;
    place.schema_file("orders.json", text);
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(table_names(&place).await, ["order", "order_items", "orders", "orders_items"]);
}

#[tokio::test]
async fn o3_long_names_have_files_that_fit() {
    let place = Place::shared(Version::V6_0).await;
    let long = ["a.".repeat(90) + "z", "b/".repeat(80), "ü".repeat(110)];
    place.insert("orders", [doc! {"_id": 1}]).await;
    for name in &long {
        place.insert(name, [doc! {"_id": 1, "items": [1, 2]}]).await;
    }
    place.gizer(&["run"]).await.expect_code(0);
    for name in &long {
        place.mongo.collection::<Document>(name).insert_one(doc! {"_id": 2, "items": [3]}).await.unwrap();
    }
    let run = json_of(&place, &["run"], 0).await;
    assert_eq!(run["steps"][0]["sync"]["changes"]["inserts"], 3, "{run}");
    place.gizer(&["verify"]).await.expect_code(0);
    let status = json_of(&place, &["status"], 0).await;
    let names: Vec<&str> =
        status["collections"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    for name in &long {
        assert!(names.contains(&name.as_str()), "{status}");
    }
    assert_eq!(schema_files(&place).len(), 4);
    place.gizer(&["extract", "--csv-path", "files"]).await.expect_code(0);
}

/// A comment in the place of gizer's is carried over by each load, whatever becomes of the schema file.
#[tokio::test]
async fn s7_comments_on_tables_are_carried_over() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", [doc! {"_id": 1, "items": [1], "gifts": [2]}]).await;
    place.gizer(&["run"]).await.expect_code(0);
    let comment = "COMMENT ON TABLE orders IS 'mine'; COMMENT ON TABLE order_items IS 'it''s gizer: mine'; \
                   COMMENT ON TABLE order_gifts IS NULL; COMMENT ON COLUMN orders.id IS 'key'";
    place.postgres.batch_execute(comment).await.unwrap();
    let comments = async || {
        let sql = "SELECT obj_description('orders'::regclass) AS o, obj_description('order_items'::regclass) AS i, \
                          obj_description('order_gifts'::regclass) AS g, col_description('orders'::regclass, 1) AS k";
        place.rows(sql).await.remove(0)
    };
    let expected = json!({"o": "mine", "i": "it's gizer: mine", "g": "gizer: orders.gifts[]", "k": "key"});
    for _ in 0..2 {
        place.gizer(&["load"]).await.expect_code(0);
        assert_eq!(comments().await, expected);
    }
    place.insert("orders", [doc! {"_id": 2, "items": [1], "gifts": [2], "z": "new"}]).await;
    place.gizer(&["schema", "infer", "orders", "--force"]).await.expect_code(0);
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(comments().await, expected);
    place.gizer(&["verify"]).await.expect_code(0);
    // One that the schema no longer has goes, whatever its comment.
    place.schema_file("orders.json", r#"{"$gizer": 1, "fields": {"_id": "BIGINT"}}"#);
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(table_names(&place).await, ["orders"]);
    // Another table under the name of one of ours is nobody's to replace.
    let other = "DROP TABLE orders; CREATE TABLE orders (note TEXT); INSERT INTO orders VALUES ('kept')";
    place.postgres.batch_execute(other).await.unwrap();
    assert_says(&place.gizer(&["load"]).await, 1, &["gizer did not make it"]);
    assert_eq!(place.number("SELECT count(*) FROM orders WHERE note = 'kept'").await, 1);
}

/// It is refused, because the new table would not have it; named once, as what it is.
#[tokio::test]
async fn s8_a_generated_column_is_named_once() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", [doc! {"_id": 1, "n": 4}]).await;
    place.gizer(&["run"]).await.expect_code(0);
    let column = "ALTER TABLE orders ADD twice BIGINT GENERATED ALWAYS AS (n * id) STORED";
    place.postgres.batch_execute(column).await.unwrap();
    let refused = place.gizer(&["load"]).await;
    assert_says(&refused, 1, &["because of generated column twice\n", "drop or undo what is named"]);
    assert_eq!(refused.stderr.matches("twice").count(), 1, "{}", refused.stderr);
    assert!(!refused.stderr.contains("default value"), "{}", refused.stderr);
    // Nor does it keep gizer from following.
    place.insert("orders", [doc! {"_id": 2, "n": 5}]).await;
    place.gizer(&["run"]).await.expect_code(0);
    assert_eq!(place.number("SELECT twice FROM orders WHERE id = 2").await, 10);
}

/// What a terminal would obey is escaped in all that prints names, and the printed SQL still makes the same tables.
#[tokio::test]
async fn m5_names_reach_no_terminal_raw() {
    let place = Place::shared(Version::V6_0).await;
    let name = "o\u{1b}[31m\u{202e}r\\d\"er";
    let text =
        json!({"$gizer": 1, "fields": {"_id": "INT", "a\u{9b}\u{2066}'b\\c": "INT", "l\u{1b}\u{202e}": ["STRING"]}});
    place.schema_file("o%1B[31m\u{202e}r\\d\"er.json", &text.to_string());
    let obeyed =
        |c: &char| (c.is_control() && *c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let commands: [&[&str]; 6] = [
        &["schema", "ddl"],
        &["schema", "ddl", "--format", "json"],
        &["schema", "tables"],
        &["schema", "tables", "--format", "json"],
        &["schema", "diagram", "--as", "mermaid"],
        &["schema", "diagram", "--as", "text"],
    ];
    let mut printed = Vec::new();
    for command in commands {
        let shown = place.gizer(command).await.expect_code(0).stdout;
        assert!(!shown.is_empty() && !shown.contains(|c| obeyed(&c)), "{command:?}: {shown:?}");
        printed.push(shown);
    }
    let tables: Value = serde_json::from_str(&printed[3]).unwrap();
    assert_eq!(tables["tables"][0], name, "machines get the name as it is");
    place.postgres.batch_execute(&printed[0]).await.unwrap();
    let made = "SELECT relname::text AS name, obj_description(oid) AS comment FROM pg_class \
                WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1";
    let made = place.rows(made).await;
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(made.iter().any(|table| table["name"] == name && table["comment"] == format!("gizer: {name}")), "{made:?}");
    let column = "SELECT count(*) FROM pg_attribute WHERE attname = E'a\\u009b\\u2066''b\\\\c'";
    assert_eq!(place.number(column).await, 1);
}
