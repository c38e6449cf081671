//! Loads are equal to their source row for row: by the oracle, which shares no code with gizer, and by the classic
//! tool's own cases.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Decimal128, Document, Regex, Timestamp, cstr, doc};
use integration_tests::oracle::{Oracle, Report};
use integration_tests::rig::{Gizer, Mongod, Version, shared_mongod, shared_postgres, unique_name};
use integration_tests::shop::{Shop, fill};
use mongodb::Database;
use serde_json::{Value, json};
use tokio_postgres::Client;

type Outcome = Result<(), Box<dyn Error>>;

const ORDERS: u64 = 100_000;
const POSTS: u64 = 5_000;

/// A MongoDB database and a PostgreSQL database that no other test uses, and a gizer between them.
struct Scene {
    source: Database,
    target: Client,
    gizer: Gizer,
}

impl Scene {
    async fn new(mongod: &Mongod) -> Result<Self, Box<dyn Error>> {
        let postgres = shared_postgres().await?;
        let database = postgres.create_database().await?;
        let source = mongod.client().await?.database(&unique_name("rows"));
        let config = format!(
            "[mongo]\nuri = {:?}\ndatabase = {:?}\n\
             [postgres]\nuri = {:?}\nschema = \"public\"\n\
             [schemas]\ndir = \"schemas\"\n",
            mongod.uri(),
            source.name(),
            postgres.uri(&database),
        );
        let gizer = Gizer::with_config(&config)?.limit(Duration::from_secs(300));
        Ok(Self { source, target: postgres.client(&database).await?, gizer })
    }

    fn write_schema_file(&self, collection: &str, schema: &Value) -> std::io::Result<()> {
        let folder = self.gizer.folder().join("schemas");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("{collection}.json")), schema.to_string())
    }

    fn schema_file(&self, collection: &str) -> std::io::Result<String> {
        fs::read_to_string(self.gizer.folder().join(format!("schemas/{collection}.json")))
    }

    /// Runs `gizer load --format json` and returns what it says of each collection, by name.
    async fn load(&self) -> Result<BTreeMap<String, Value>, Box<dyn Error>> {
        self.load_with(&[]).await
    }

    async fn load_with(&self, args: &[&str]) -> Result<BTreeMap<String, Value>, Box<dyn Error>> {
        let args = ["load", "--format", "json"].iter().chain(args);
        let finished = self.gizer.run(args).await?.expect_code(0);
        let report: Value = serde_json::from_str(&finished.stdout)?;
        let collections = report["collections"].as_array().ok_or("expected a list of collections")?;
        Ok(collections.iter().map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry.clone())).collect())
    }

    async fn judge(&mut self, collection: &str) -> Result<Report, Box<dyn Error>> {
        let oracle = Oracle::new(collection, &self.schema_file(collection)?, "public")?;
        let documents = self.source.collection::<Document>(collection).find(doc! {}).await?;
        Ok(oracle.compare(documents, &mut self.target).await?)
    }
}

/// What gizer says of a load must be what both servers say.
async fn expect_ledger(scene: &Scene, entry: &Value, report: &Report) -> Outcome {
    let number = |field: &str| entry[field].as_u64().ok_or(format!("expected a number {field} in {entry}"));
    let read = number("read")?;
    assert_eq!(read, number("loaded")? + number("rejected")? + number("filtered")?, "{entry}");
    let name = entry["name"].as_str().unwrap();
    assert_eq!(read, scene.source.collection::<Document>(name).count_documents(doc! {}).await?);
    assert_eq!((number("rejected")?, number("filtered")?), (report.rejected, 0));

    let tables = entry["tables"].as_array().unwrap().iter();
    let said: BTreeMap<&str, u64> =
        tables.map(|table| (table["name"].as_str().unwrap(), table["rows"].as_u64().unwrap())).collect();
    let stored: BTreeMap<&str, u64> = report.tables.iter().map(|table| (table.name.as_str(), table.stored)).collect();
    assert_eq!(said, stored);
    Ok(())
}

#[tokio::test]
async fn a_hundred_thousand_orders_are_loaded_row_for_row() -> Outcome {
    let mut scene = Scene::new(shared_mongod(Version::V6_0).await?).await?;
    let shop = Shop::new(20_260);
    fill(&scene.source.collection("orders"), shop.orders(0..ORDERS), |_| ()).await?;
    fill(&scene.source.collection("posts"), shop.posts(0..POSTS), |_| ()).await?;

    scene.gizer.run(["schema", "infer", "--classic"]).await?.expect_code(0);
    // The oracle takes the schema file as given, so what is in it is looked at here.
    assert_eq!(serde_json::from_str::<Value>(&scene.schema_file("orders")?)?, orders_schema());
    assert_eq!(serde_json::from_str::<Value>(&scene.schema_file("posts")?)?, posts_schema());
    let ledger = scene.load().await?;
    assert_eq!(ledger.keys().collect::<Vec<_>>(), ["orders", "posts"]);

    for (collection, documents) in [("orders", ORDERS), ("posts", POSTS)] {
        let report = scene.judge(collection).await?.expect_equal();
        assert_eq!((report.documents, report.rejected), (documents, 0));
        expect_ledger(&scene, &ledger[collection], &report).await?;
    }
    faults_in_loaded_tables_are_found(&mut scene).await
}

fn orders_schema() -> Value {
    json!({
        "_id": { "oid": "STRING", "bsontype": "INT" },
        "number": "INT", "status": "STRING", "sales_channel": "STRING",
        "created_at": "TIMESTAMP", "updated_at": "TIMESTAMP",
        "customer": {
            "name": "STRING", "email": "STRING",
            "address": { "street": "STRING", "city": "STRING", "zip": "STRING", "country": "STRING" },
        },
        "items": [{
            "sku": "STRING", "name": "STRING", "quantity": "INT", "price": "DOUBLE", "tags": ["STRING"],
        }],
        "total": "DOUBLE", "currency": "STRING", "paid": "BOOLEAN", "payment_reference": "BIGINT", "note": "STRING",
    })
}

fn posts_schema() -> Value {
    let reply = json!({ "author": "STRING", "body": "STRING", "created_at": "TIMESTAMP" });
    json!({
        "_id": { "oid": "STRING", "bsontype": "INT" },
        "title": "STRING", "body": "STRING", "published_at": "TIMESTAMP", "views": "BIGINT", "tags": ["STRING"],
        "author": { "name": "STRING", "born": "TIMESTAMP", "motto": "STRING" },
        "comments": [{
            "author": "STRING", "body": "STRING", "created_at": "TIMESTAMP", "likes": "INT", "replies": [reply],
        }],
    })
}

/// The oracle was not merely polite. On posts, because judging orders takes its time.
async fn faults_in_loaded_tables_are_found(scene: &mut Scene) -> Outcome {
    let faults = "
        UPDATE posts SET views = views + 1 WHERE id_oid = (SELECT max(id_oid) FROM posts);
        UPDATE posts SET author_motto = NULL WHERE id_oid = (SELECT max(id_oid) FROM posts WHERE author_motto <> '');
        UPDATE posts SET id_oid = repeat('0', 24) WHERE id_oid = (SELECT min(id_oid) FROM posts);
        DELETE FROM post_comments WHERE (posts_id_oid, idx) = (SELECT posts_id_oid, idx FROM post_comments LIMIT 1);
        INSERT INTO post_comment_replies (posts_id_oid, posts_comments_idx, idx)
        SELECT posts_id_oid, idx, 99 FROM post_comments LIMIT 1;
        INSERT INTO post_tags (posts_id_oid, tags, idx) VALUES ('nobody', 'news', 1)";
    scene.target.batch_execute(faults).await?;
    let report = scene.judge("posts").await?;
    let expected = [
        ("posts [", " views: expected "),
        ("posts [", " author_motto: expected \""),
        ("posts [id_oid = \"000000000000000000000000\"]", ": a row too many"),
        ("posts [", "]: no such row"),
        ("post_comments [", "]: no such row"),
        ("post_comment_replies [", ", idx = 99]: a row too many"),
        ("post_tags [posts_id_oid = \"nobody\", idx = 1]", ": a row too many"),
    ];
    assert_eq!(report.difference_count, expected.len() as u64, "{report}");
    let found: Vec<String> = report.differences.iter().map(ToString::to_string).collect();
    for (start, part) in expected {
        assert!(found.iter().any(|found| found.starts_with(start) && found.contains(part)), "{start}…{part}: {report}");
    }
    Ok(())
}

/// Every kind of value, and the ends of the ranges of those that have any.
fn values_of_all_kinds() -> Vec<Bson> {
    let decimals =
        ["0", "-0", "5.00", "0.1", "0.5", "1E+3", "9223372036854775807", "1E+6000", "1E-6000", "NaN", "-Infinity"];
    let mut values: Vec<Bson> =
        decimals.iter().map(|text| Bson::Decimal128(text.parse::<Decimal128>().unwrap())).collect();
    let doubles = [0.0, -0.0, 5.0, 0.1, 32_767.0, 32_768.0, 2_147_483_647.0, 2_147_483_648.0, 9.3e18, 1e300, 5e-324];
    values.extend(doubles.map(Bson::from));
    values.extend([f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN].map(Bson::from));
    values.extend([0, -1, 32_767, -32_769, i32::MAX, i32::MIN].map(Bson::from));
    values.extend([0, 5, 1 << 31, -(1 << 31), 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN].map(Bson::from));
    let texts =
        ["", " ", "5", "NULL", "\\N", "a\tb\r\nc\\d\"e'f", "\u{0}", "a\u{0}b", "ü 日本 👩‍🍳", "\u{feff}", "\u{1}\u{7f}"];
    values.extend(texts.map(Bson::from));
    let times = [0, -1, 1, 253_402_300_800_000, -62_135_596_800_001, i64::MAX, i64::MIN];
    values.extend(times.map(|millis| Bson::from(DateTime::from_millis(millis))));
    let id = ObjectId::from_bytes([0xAB; 12]);
    values.extend([Bson::Null, Bson::Undefined, Bson::MinKey, Bson::MaxKey, true.into(), false.into(), id.into()]);
    values.extend([
        Bson::from(doc! {}),
        doc! { "x": 1 }.into(),
        doc! { "x": { "y": 1 } }.into(),
        doc! { "oid": id.to_hex(), "bsontype": 7 }.into(),
        doc! { "oid": id, "bsontype": "7" }.into(),
        Bson::Array(vec![]),
        vec![1, 2].into(),
        vec![doc! { "x": 5 }].into(),
        Bson::Array(vec![vec![1].into(), vec![vec!["deep"]].into()]),
        Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 1, 255] }.into(),
        Bson::Timestamp(Timestamp { time: 1, increment: 2 }),
        Bson::JavaScriptCode("f()".into()),
        Bson::Symbol("s".into()),
        Bson::RegularExpression(Regex { pattern: cstr!("^a").into(), options: cstr!("i").into() }),
    ]);
    values
}

/// Each kind of value in each kind of place: what fits is stored, what does not is NULL, and no row is lost.
#[tokio::test]
async fn any_value_in_any_place_is_loaded_as_the_rules_say() -> Outcome {
    let mut scene = Scene::new(shared_mongod(Version::V6_0).await?).await?;
    let types = ["STRING", "INT", "BIGINT", "LONG", "DOUBLE", "BOOLEAN", "TIMESTAMP", "TINYINT"];
    let mut schema = json!({
        "_id": "INT",
        "id_pair": { "oid": "STRING", "bsontype": "INT" }, "id_pairs": [{ "oid": "STRING", "bsontype": "INT" }],
        "sub": { "x": "INT", "_Under": { "y": "TIMESTAMP" } }, "subs": [{ "x": "INT", "subs": [{ "x": "STRING" }] }],
    });
    for name in types {
        schema[format!("one_{name}")] = name.into();
        schema[format!("many_{name}")] = json!([name]);
    }
    schema["grid"] = json!([["INT"]]);
    scene.write_schema_file("odds", &schema)?;
    let documents = values_of_all_kinds().into_iter().zip(0..).map(|(value, number)| {
        let mut document = doc! { "_id": number, "unknown": value.clone() };
        for name in types {
            document.insert(format!("one_{name}"), value.clone());
            document.insert(format!("many_{name}"), vec![value.clone(), Bson::Null, value.clone()]);
        }
        // The oracle does not know how JSON is to hold these.
        if !matches!(&value, Bson::Binary(_)) && !value.as_str().is_some_and(|text| text.contains('\0')) {
            document.insert("grid", vec![value.clone(), vec![value.clone()].into()]);
        }
        document.insert("id_pair", value.clone());
        document.insert("id_pairs", vec![value.clone(), value.clone()]);
        document.insert("sub", if number % 2 == 0 { value.clone() } else { doc! { "x": value.clone() }.into() });
        document.insert("subs", vec![value.clone(), doc! { "x": value.clone(), "subs": value }.into()]);
        document
    });
    scene.source.collection("odds").insert_many(documents).await?;

    let ledger = scene.load().await?;
    let report = scene.judge("odds").await?.expect_equal();
    expect_ledger(&scene, &ledger["odds"], &report).await
}

/// The others are loaded, and those rejected are missing neither from the ledger nor from sight.
#[tokio::test]
async fn documents_whose_key_does_not_fit_are_counted_and_kept_aside() -> Outcome {
    let mut scene = Scene::new(shared_mongod(Version::V6_0).await?).await?;
    scene.write_schema_file("visits", &json!({ "_id": "INT", "pages": ["STRING"] }))?;
    let ids = [1.into(), "two".into(), 3.0.into(), ObjectId::from_bytes([4; 12]).into(), 5.5.into(), Bson::Int64(6)];
    let documents = ids.into_iter().map(|id| doc! { "_id": id, "pages": ["a", "b"] });
    scene.source.collection("visits").insert_many(documents).await?;

    scene.gizer.run(["load"]).await?.expect_code(1);
    let ledger = scene.load_with(&["--max-rejects", "3"]).await?;
    let report = scene.judge("visits").await?.expect_equal();
    assert_eq!((report.documents, report.rejected, report.expected_rows()), (6, 3, 9));
    expect_ledger(&scene, &ledger["visits"], &report).await
}

// --- The classic tool's cases ------------------------------------------------------------------

/// A row as the case files have it.
fn as_json(row: &tokio_postgres::Row) -> Value {
    let cell = |(at, column): (usize, &tokio_postgres::Column)| match column.type_().name() {
        "text" => json!(row.get::<_, Option<String>>(at)),
        "int4" => json!(row.get::<_, Option<i32>>(at)),
        "int8" => json!(row.get::<_, Option<i64>>(at)),
        "bool" => json!(row.get::<_, Option<bool>>(at)),
        "float8" => row.get::<_, Option<f64>>(at).map_or(Value::Null, |number| {
            // Python wrote the cases: a double that came from 1 stands there as 1.
            if number.fract() == 0.0 { json!(number as i64) } else { json!(number) }
        }),
        "timestamptz" => row.get::<_, Option<std::time::SystemTime>>(at).map_or(
            Value::Null,
            |time| json!({ "$date": bson::DateTime::from_system_time(time).try_to_rfc3339_string().unwrap() }),
        ),
        other => panic!("no classic case has a column of type {other}"),
    };
    row.columns().iter().enumerate().map(cell).collect()
}

/// The rows of all records of a case in one table, in the order of their keys: by root key, then positions.
fn rows_of_case(case: &Value, table: &str) -> Vec<Value> {
    let columns = case["tables"][table]["columns"].as_array().unwrap();
    let at = |name: &Value| columns.iter().position(|column| &column["name"] == name).unwrap();
    // Positions are the last columns, outermost first; the case file lists all key columns by name.
    let mut key: Vec<usize> = case["tables"][table]["index_columns"]["ia"].as_array().unwrap().iter().map(at).collect();
    key.sort_unstable();
    let records = case["records"].as_array().unwrap().iter();
    let mut rows: Vec<Value> =
        records.flat_map(|record| record["rows"][table].as_array().cloned().unwrap_or_default()).collect();
    rows.sort_by_cached_key(|row| key.iter().map(|&column| sortable(&row[column])).collect::<Vec<_>>());
    rows
}

/// Numbers sort as numbers, and no case has a negative one in a key.
fn sortable(value: &Value) -> String {
    value.as_str().map_or_else(|| format!("{:020}", value.as_u64().unwrap()), str::to_owned)
}

async fn expect_case(mongod: &Mongod, case: &Value) -> Outcome {
    let mut scene = Scene::new(mongod).await?;
    let collection = case["collection"].as_str().unwrap();
    scene.write_schema_file(collection, &case["schema"])?;
    let records = case["records"].as_array().unwrap();
    let documents = records.iter().map(|record| serde_json::from_value::<Document>(record["document"].clone()));
    scene.source.collection(collection).insert_many(documents.collect::<Result<Vec<_>, _>>()?).await?;

    let ledger = scene.load().await?;
    let report = scene.judge(collection).await?.expect_equal();
    expect_ledger(&scene, &ledger[collection], &report).await?;
    for (table, expected) in case["tables"].as_object().unwrap() {
        let order: Vec<&str> =
            expected["index_columns"]["ia"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        // By the order of the table's columns, as in `rows_of_case`.
        let columns = expected["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap());
        let order: Vec<String> = columns.filter(|name| order.contains(name)).map(|name| format!("{name:?}")).collect();
        let select = format!("SELECT * FROM {table:?} ORDER BY {}", order.join(", "));
        let rows: Vec<Value> = scene.target.query(&select, &[]).await?.iter().map(as_json).collect();
        assert_eq!(rows, rows_of_case(case, table), "{} {table} on {}", case["case"], mongod.version());
    }
    Ok(())
}

async fn expect_classic_cases(version: Version) -> Outcome {
    let path = format!("{}/../testdata/classic/mapping.json", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> = serde_json::from_str(&fs::read_to_string(path)?)?;
    assert_eq!(cases.len(), 14);
    let mongod = shared_mongod(version).await?;
    for case in &cases {
        expect_case(mongod, case).await.map_err(|error| format!("{}: {error}", case["case"]))?;
    }
    Ok(())
}

#[tokio::test]
async fn the_classic_cases_pass_from_mongodb_4_4() -> Outcome {
    expect_classic_cases(Version::V4_4).await
}

#[tokio::test]
async fn the_classic_cases_pass_from_mongodb_6_0() -> Outcome {
    expect_classic_cases(Version::V6_0).await
}
