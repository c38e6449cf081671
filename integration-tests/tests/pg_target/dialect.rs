//! Types and tables of gizer's own dialect, through COPY and back with plain SQL.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, doc, oid::ObjectId};
use gizer_pg::PgError;
use gizer_pg::load::{Origin, survey};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::scene::{Scene, layout};

/// A schema file of gizer's dialect with these fields.
fn schema(fields: &str) -> String {
    format!(r#"{{ "$gizer": 1, "collection": "things", "fields": {fields} }}"#)
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

fn binary(subtype: BinarySubtype, bytes: impl Into<Vec<u8>>) -> Binary {
    Binary { subtype, bytes: bytes.into() }
}

#[tokio::test]
async fn numbers_bytes_and_ids_read_back() {
    let scene = Scene::new().await;
    let fields = r#"{ "_id": "OBJECTID", "d": "DECIMAL", "b": "BINARY", "u": "UUID", "n": "INT" }"#;
    let layout = layout("things", &schema(fields));
    let all_bytes: Vec<u8> = (0..=255).collect();
    let nines = "9".repeat(34);
    let numbers = [
        ("NaN", "NaN".to_owned()),
        ("0", "0".to_owned()),
        ("-0", "0".to_owned()),
        ("0E-10", "0.0000000000".to_owned()),
        ("0E+6111", "0".to_owned()),
        ("1.50", "1.50".to_owned()),
        ("-1.50", "-1.50".to_owned()),
        ("10000", "10000".to_owned()),
        ("0.00010000", "0.00010000".to_owned()),
        ("1E-6176", format!("0.{}1", "0".repeat(6175))),
        ("-1E+6111", format!("-1{}", "0".repeat(6111))),
        (&format!("{nines}E+6111"), format!("{nines}{}", "0".repeat(6111))),
        (&format!("-{nines}E-6176"), format!("-0.{}{nines}", "0".repeat(6176 - 34))),
        (&format!("{nines}E-17"), format!("{}.{}", &nines[..17], &nines[..17])),
    ];
    let id = |i: usize| ObjectId::from_bytes([[0xab; 11].as_slice(), &[i as u8]].concat().try_into().unwrap());
    let mut documents: Vec<Document> = numbers
        .iter()
        .enumerate()
        .map(|(i, (text, _))| doc! {"_id": id(i), "n": i as i32, "d": decimal(text)})
        .collect();
    documents.extend([
        doc! {"_id": id(100), "n": 100, "b": binary(BinarySubtype::Generic, all_bytes),
        "u": binary(BinarySubtype::Uuid, (0xe0..0xf0).collect::<Vec<u8>>()), "d": i64::MIN},
        doc! {"_id": id(101), "n": 101, "b": binary(BinarySubtype::Generic, []), "d": 0.1015625},
        doc! {"_id": id(102), "n": 102, "b": binary(BinarySubtype::Generic, vec![7; 5_000_000])},
    ]);
    scene.load(&layout, &documents).await.unwrap();

    let read = |what: &str, n: usize| format!("SELECT ({what})::text FROM things WHERE n = {n}");
    for (i, (text, shown)) in numbers.iter().enumerate() {
        assert_eq!(scene.text(&read("d", i)).await, *shown, "{text}");
    }
    let cases = [
        ("id", 3, "abababababababababababab03".split_at(2).1),
        ("d", 100, "-9223372036854775808"),
        ("encode(b, 'hex')", 100, &(0..=255).map(|byte| format!("{byte:02x}")).collect::<String>()),
        ("u", 100, "e0e1e2e3-e4e5-e6e7-e8e9-eaebecedeeef"),
        ("d", 101, "0.1015625"),
        ("length(b)", 101, "0"),
        ("length(b)", 102, "5000000"),
        ("u IS NULL AND d IS NULL AND _extra IS NULL", 102, "true"),
    ];
    for (what, n, expected) in cases {
        assert_eq!(scene.text(&read(what, n)).await, expected, "{what} of {n}");
    }
    assert_eq!(scene.text("SELECT count(*) FROM things WHERE _extra IS NOT NULL").await, "0");
}

#[tokio::test]
async fn arrays_read_back() {
    let scene = Scene::new().await;
    let types = ["STRING", "OBJECTID", "INT", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP", "DECIMAL", "BINARY", "UUID"];
    let fields = types.iter().map(|ty| format!(r#""{}s": {{ "$as": "array", "$type": "{ty}" }}"#, ty.to_lowercase()));
    let fields: Vec<String> = std::iter::once(r#""_id": "INT""#.to_owned()).chain(fields).collect();
    let layout = layout("things", &schema(&format!("{{ {} }}", fields.join(", "))));
    let oid = ObjectId::from_bytes([0xab; 12]);
    let bytes = [binary(BinarySubtype::Generic, [0, 0xff]), binary(BinarySubtype::Generic, [])];
    let full = doc! {
        "_id": 1,
        "strings": ["", Bson::Null, "a,\"b\\{}", "NULL", "ü"],
        "objectids": [oid, Bson::Null],
        "ints": [i32::MIN, Bson::Null, i32::MAX],
        "bigints": [i64::MIN, 1],
        "doubles": [f64::NAN, -0.0, f64::INFINITY],
        "booleans": [true, false, Bson::Null],
        "timestamps": [DateTime::from_millis(0), Bson::Null],
        "decimals": [decimal("1.50"), decimal("NaN"), 3],
        "binarys": [bytes[0].clone(), bytes[1].clone()],
        "uuids": [binary(BinarySubtype::Uuid, [1; 16])],
    };
    let mut empty = doc! {"_id": 2};
    empty.extend(types.iter().map(|ty| (format!("{}s", ty.to_lowercase()), Bson::Array(Vec::new()))));
    let long: Vec<i32> = (0..100_000).collect();
    scene.load(&layout, &[full, empty, doc! {"_id": 3, "ints": long}]).await.unwrap();

    let cases = [
        ("strings", r#"{"",NULL,"a,\"b\\{}","NULL",ü}"#),
        ("objectids", "{abababababababababababab,NULL}"),
        ("ints", "{-2147483648,NULL,2147483647}"),
        ("bigints", "{-9223372036854775808,1}"),
        ("doubles", "{NaN,-0,Infinity}"),
        ("booleans", "{t,f,NULL}"),
        ("timestamps[1] AT TIME ZONE 'UTC'", "1970-01-01 00:00:00"),
        ("timestamps[2] IS NULL", "true"),
        ("decimals", "{1.50,NaN,3}"),
        ("binarys", r#"{"\\x00ff","\\x"}"#),
        ("uuids", "{01010101-0101-0101-0101-010101010101}"),
    ];
    for (what, expected) in cases {
        let sql = format!("SELECT ({what})::text FROM things WHERE id = 1");
        assert_eq!(scene.text(&sql).await, expected, "{what}");
    }
    for ty in types {
        let sql = format!("SELECT ({ty}s = '{{}}')::text FROM things WHERE id = 2");
        assert_eq!(scene.text(&sql).await, "true", "{ty}: an empty array, not NULL");
    }
    let sum = "SELECT sum(n) || ' ' || count(*) FROM things, unnest(ints) AS n WHERE id = 3";
    assert_eq!(scene.text(sum).await, "4999950000 100000");
}

#[tokio::test]
async fn what_does_not_fit_reads_back() {
    let scene = Scene::new().await;
    let fields = r#"{ "_id": "INT", "s": "STRING", "items": [{ "n": "INT" }],
        "scores": { "$as": "array", "$type": "INT" } }"#;
    let layout = layout("things", &schema(fields));
    let nasty = "\u{1}\t\"quotes\" 'single' \\u0000 \\ {\"$oid\": 1} ü漢\u{1f600}\u{7f}";
    let document = doc! {"_id": 1, "s": 5, nasty: nasty, "a/b~c": {"": "x"}, "nul": "a\0b", "deep": {"$oid": "x"},
    "scores": [1, "two"], "items": [{"n": 1}, {"n": "x", "m": decimal("1.50")}, nasty]};
    scene.load(&layout, &[document, doc! {"_id": 2, "s": "fits"}]).await.unwrap();

    let pick = |key: &str| {
        let key = key.replace('\'', "''");
        format!("SELECT coalesce(_extra -> '{key}', '\"NONE\"')::text FROM things WHERE id = 1")
    };
    let pointer = format!("/{nasty}");
    assert_eq!(scene.text(&pick("/s")).await, r#"{"$numberInt": "5"}"#);
    let back: serde_json::Value = serde_json::from_str(&scene.text(&pick(&pointer)).await).unwrap();
    assert_eq!(back, serde_json::Value::from(nasty));
    assert_eq!(scene.text(&pick("/a~1b~0c")).await, r#"{"": "x"}"#);
    assert!(scene.text(&pick("/nul")).await.starts_with(r#"{"$bson": "#));
    assert!(scene.text(&pick("/deep")).await.starts_with(r#"{"$bson": "#));
    assert_eq!(scene.text(&pick("/scores")).await, r#"[{"$numberInt": "1"}, "two"]"#);
    assert_eq!(scene.text("SELECT (scores IS NULL AND s IS NULL)::text FROM things WHERE id = 1").await, "true");
    assert_eq!(scene.text("SELECT (_extra IS NULL)::text FROM things WHERE id = 2").await, "true");

    let items = "SELECT idx || ' ' || coalesce(n::text, '-') || ' ' || coalesce((_extra - '')::text, '-') \
                 FROM thing_items ORDER BY idx";
    assert_eq!(scene.texts(items).await, ["1 1 -", r#"2 - {"/m": {"$numberDecimal": "1.50"}, "/n": "x"}"#, "3 - {}"]);
    let stray = scene.text("SELECT _extra ->> '' FROM thing_items WHERE idx = 3").await;
    assert_eq!(stray, nasty);
    let comment = "SELECT col_description('thing_items'::regclass, attnum) FROM pg_attribute \
                   WHERE attrelid = 'thing_items'::regclass AND attname = '_extra'";
    assert_eq!(scene.text(comment).await, "what of items[] has no column, or does not fit it");
}

#[tokio::test]
async fn any_id_is_a_key() {
    let scene = Scene::new().await;
    let layout = layout("things", &schema(r#"{ "_id": "KEY", "matrix": [{ "$as": "table", "$items": "INT" }] }"#));
    let long = "x".repeat(100_000);
    let ids: Vec<Bson> = vec![
        1.into(),
        decimal("1.50"),
        "1".into(),
        "a\0b".into(),
        true.into(),
        Bson::Null,
        doc! {"b": 1.0, "a": "x"}.into(),
        doc! {"a": "x", "b": 1.0}.into(),
        ObjectId::from_bytes([0xab; 12]).into(),
        binary(BinarySubtype::Generic, [0, 1]).into(),
        f64::NAN.into(),
        Bson::MinKey,
        long.into(),
    ];
    let documents: Vec<Document> = ids.iter().map(|id| doc! {"_id": id.clone(), "matrix": [[1, 2], [3]]}).collect();
    scene.load(&layout, &documents).await.unwrap();

    let keys = scene.texts("SELECT id FROM things WHERE length(id) < 60 ORDER BY id").await;
    let mut expected = [
        "n1",
        "n15e-1",
        "s1",
        "sa\\0b",
        "btrue",
        "z",
        r#"{s"b":n1,s"a":s"x"}"#,
        r#"{s"a":s"x",s"b":n1}"#,
        "oabababababababababababab",
        "x00:0001",
        "nNaN",
        "?ff:",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected, "in byte order");
    assert_eq!(scene.text("SELECT length(id) || left(id, 1) FROM things WHERE length(id) > 60").await, "65#");
    let kept = "SELECT length(_extra ->> '/_id') FROM things WHERE id LIKE '#%'";
    assert_eq!(scene.text(kept).await, "100000");
    let cells = "SELECT count(*) || ' ' || sum(item) FROM thing_matrix_item JOIN things ON id = things_id";
    let count = ids.len();
    let cells = scene.texts(cells).await;
    assert_eq!(cells, [format!("{} {}", 3 * count, 6 * count)], "every child row has its root's key");
    let error = scene.load(&layout, &[doc! {"_id": 1}, doc! {"_id": decimal("1.0")}]).await.map(drop).unwrap_err();
    assert!(matches!(error, PgError::DuplicateKey { .. }), "one value is one id: {error:?}");
}

/// Every type, in tables as the classic tool or its user would have made them.
const TAKEN: &str = "\
    CREATE TABLE things (u UUID, l NUMERIC[], id TEXT, d NUMERIC, b BYTEA, at TIMESTAMP WITH TIME ZONE[], j JSONB, \
                         f FLOAT8[], o TEXT[]{more}); \
    CREATE TABLE thing_items (idx BIGINT, things_id TEXT, n SMALLINT, _extra JSONB)";

#[tokio::test]
async fn tables_without_extra_are_taken_over() {
    let fields = r#"{ "_id": "OBJECTID", "d": "DECIMAL", "b": "BINARY", "u": "UUID", "j": "JSON",
        "l": { "$as": "array", "$type": "DECIMAL" }, "at": { "$as": "array", "$type": "TIMESTAMP" },
        "f": { "$as": "array", "$type": "DOUBLE" }, "o": { "$as": "array", "$type": "OBJECTID" },
        "items": [{ "n": "TINYINT" }] }"#;
    let layout = layout("things", &schema(fields));
    let cases = [
        (TAKEN.replace("{more}", ""), None),
        (TAKEN.replace("{more}", ", _extra TEXT"), None),
        (TAKEN.replace("{more}", ", mine INT"), Some("column mine is not expected")),
        (TAKEN.replace("{more}", "").replace("d NUMERIC", "d NUMERIC(10, 2)"), Some("column d is numeric(10,2)")),
        (TAKEN.replace("{more}", "").replace("l NUMERIC[]", "l FLOAT8[]"), Some("column l is double precision[]")),
        (TAKEN.replace("{more}", "").replace("u UUID", "u TEXT"), Some("column u is text, expected uuid")),
    ];
    for (sql, why) in cases {
        let scene = Scene::prepared().await;
        scene.sql(&sql).await;
        let found = survey(&scene.session().await, &layout).await;
        let Some(why) = why else {
            assert!(found.unwrap().live.iter().all(|table| table.origin == Origin::Classic));
            scene.load(&layout, &[doc! {"_id": ObjectId::new(), "more": 1}]).await.unwrap();
            assert_eq!(scene.text("SELECT _extra::text FROM things").await, r#"{"/more": {"$numberInt": "1"}}"#);
            continue;
        };
        let error = found.map(drop).unwrap_err();
        assert!(matches!(&error, PgError::ForeignTable { why: came, .. } if came.contains(why)), "{why}: {error:?}");
    }
}

/// The number as `numeric` shows it, from its text alone.
fn written_out(negative: bool, digits: &str, exponent: i32) -> String {
    let digits = digits.trim_start_matches('0');
    let zeros = "0".repeat(exponent.unsigned_abs() as usize);
    let (all, places) =
        if exponent < 0 { (format!("{zeros}{digits}"), zeros.len()) } else { (format!("{digits}{zeros}"), 0) };
    let (whole, fraction) = all.split_at(all.len() - places);
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let minus = if negative && !digits.is_empty() { "-" } else { "" };
    if places == 0 { format!("{minus}{whole}") } else { format!("{minus}{whole}.{fraction}") }
}

#[test]
fn any_decimal_reads_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scene = runtime.block_on(Scene::new());
    let layout = layout("things", &schema(r#"{ "_id": "INT", "d": "DECIMAL" }"#));
    let digits = prop_oneof!["[0-9]{1,34}", "[1-9]0{0,33}", "0{1,30}[0-9]"];
    let numbers = vec((any::<bool>(), digits, prop_oneof![-6176..=6111, -40..=40]), 1..200);
    // Each case is a whole load.
    let mut runner = TestRunner::new(Config { cases: 12, max_shrink_iters: 50, ..Config::default() });
    let outcome = runner.run(&numbers, |numbers| {
        let document = |(i, (negative, digits, exponent)): (usize, &(bool, String, i32))| {
            let sign = if *negative { "-" } else { "" };
            doc! {"_id": i as i32, "d": decimal(&format!("{sign}{digits}E{exponent}"))}
        };
        let documents: Vec<Document> = numbers.iter().enumerate().map(document).collect();
        let came = runtime.block_on(async {
            scene.load(&layout, &documents).await.unwrap();
            scene.texts("SELECT d::text FROM things ORDER BY id").await
        });
        let expected: Vec<String> =
            numbers.iter().map(|(negative, digits, exponent)| written_out(*negative, digits, *exponent)).collect();
        prop_assert_eq!(came, expected);
        Ok(())
    });
    outcome.unwrap();
}
