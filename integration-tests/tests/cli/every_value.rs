//! Whatever MongoDB may hold comes through real servers and back: each BSON type, each odd value, each kind of `_id`.

use std::collections::BTreeMap;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use integration_tests::rig::{Mongod, Version, shared_postgres};
use serde_json::Value;

use super::documents::same;
use super::place::Place;
use super::rebuilt::rebuilt;

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

fn binary(subtype: BinarySubtype, bytes: &[u8]) -> Bson {
    Bson::Binary(Binary { subtype, bytes: bytes.to_vec() })
}

pub(super) fn odd_values() -> Vec<Bson> {
    let oid = bson::oid::ObjectId::from_bytes([0xAB; 12]);
    let mut values: Vec<Bson> =
        [0.0, -0.0, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX]
            .into_iter()
            .map(Bson::from)
            .collect();
    values.extend(["", "a\0b", "\u{1F600} ü", "quote\" \\ \t\r\n", "\\N"].into_iter().map(Bson::from));
    values.extend(["0", "-0", "1.50", "1E+6000", "1E-6000", "NaN", "Infinity", "0E-10"].into_iter().map(decimal));
    values.extend([i32::MIN, 0, i32::MAX].into_iter().map(Bson::from));
    values.extend([i64::MIN, 0, i64::MAX].into_iter().map(Bson::from));
    values.extend([0, -1, i64::MIN, i64::MAX, 253_402_300_800_000].map(|ms| bson::DateTime::from_millis(ms).into()));
    values.extend([
        doc! {"x": 1, "y": {"z": [1, {"w": Bson::Null}]}}.into(),
        doc! {}.into(),
        doc! {"$odd": 1, "a.b": 2, "": 3, "/~": 4}.into(),
        Bson::Array(vec![]),
        vec![Bson::from(1), "two".into(), Bson::Null, doc! {"three": 3}.into(), vec![Bson::from(4)].into()].into(),
        binary(BinarySubtype::Generic, b""),
        binary(BinarySubtype::Generic, b"\0\xFF"),
        binary(BinarySubtype::Uuid, &[7; 16]),
        binary(BinarySubtype::UserDefined(0x81), b"x"),
        oid.into(),
        true.into(),
        Bson::Null,
        Bson::RegularExpression(bson::Regex { pattern: "a.b".try_into().unwrap(), options: "i".try_into().unwrap() }),
        Bson::JavaScriptCode("f()".into()),
        Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code: "g()".into(), scope: doc! {"y": 1} }),
        Bson::Symbol("sym".into()),
        Bson::Timestamp(bson::Timestamp { time: 9, increment: 1 }),
        Bson::MinKey,
        Bson::MaxKey,
    ]);
    values
}

/// Inserts, infers, loads, and compares what is rebuilt from the tables with what MongoDB gives.
async fn there_and_back(place: &Place, collection: &str, documents: Vec<Document>) {
    let count = documents.len();
    place.insert(collection, documents).await;
    place.gizer(&["schema", "infer", collection]).await.expect_code(0);
    let loaded = place.gizer(&["load", collection, "--format", "json"]).await.expect_code(0);
    let report: Value = serde_json::from_str(&loaded.stdout).unwrap();
    let counts = &report["collections"][0];
    assert_eq!((&counts["read"], &counts["loaded"], &counts["rejected"]), (&count.into(), &count.into(), &0.into()));

    let mut cursor = place.mongo.collection::<Document>(collection).find(doc! {}).await.unwrap();
    let mut sources = Vec::new();
    while cursor.advance().await.unwrap() {
        sources.push(cursor.deserialize_current().unwrap());
    }
    assert_eq!(sources.len(), count);
    let rebuilt: BTreeMap<String, Document> = rebuilt(place, collection).await;
    assert_eq!(rebuilt.len(), count, "two documents have one key: {:?}", rebuilt.keys());
    for source in sources {
        let source = Bson::Document(source);
        let found = rebuilt.values().any(|document| same(&source, &Bson::Document(document.clone()), false));
        assert!(found, "{source:?} is not among {rebuilt:#?}");
    }
}

#[tokio::test]
async fn every_type_in_one_field_and_each_in_a_field_of_its_own() {
    for version in Version::ALL {
        let place = Place::shared(version).await;
        let mixed = odd_values().into_iter().enumerate();
        let mixed = mixed.map(|(i, value)| doc! {"_id": i32::try_from(i).unwrap(), "v": value.clone(), "l": [value]});
        there_and_back(&place, "mixed", mixed.collect()).await;
        // Nine of one kind and one of another, so that the field has a type and a stray.
        let apart = odd_values().into_iter().enumerate();
        let apart = apart.map(|(i, value)| {
            let name = format!("f{i}");
            doc! {"_id": i32::try_from(i).unwrap(), name: value}
        });
        there_and_back(&place, "apart", apart.collect()).await;
    }
}

#[tokio::test]
async fn every_kind_of_id() {
    let place = Place::shared(Version::V6_0).await;
    let ids: Vec<Bson> = odd_values()
        .into_iter()
        // What MongoDB itself refuses as an `_id`, and numbers that it takes for one that is there already.
        .filter(|id| !matches!(id, Bson::Array(_) | Bson::RegularExpression(_)))
        .filter(|id| !matches!(id, Bson::Document(d) if d.keys().any(|name| name.starts_with('$'))))
        .filter(|id| !matches!(id, Bson::Int32(0) | Bson::Int64(0)))
        .filter(|id| {
            ![decimal("0"), decimal("-0"), decimal("0E-10"), decimal("1.50"), decimal("NaN"), decimal("Infinity")]
                .contains(id)
        })
        .filter(|id| !matches!(id, Bson::Double(n) if n.to_bits() == (-0.0f64).to_bits()))
        .chain(["x".repeat(2000).into(), doc! {"b": 1, "a": 2}.into(), doc! {"a": 2, "b": 1}.into()])
        .collect();
    let documents = ids.into_iter().map(|id| doc! {"_id": id, "l": [{"x": 1}]}).collect();
    there_and_back(&place, "ids", documents).await;
}

/// As large as MongoDB takes them, and as deep.
#[tokio::test]
async fn the_largest_documents() {
    // The small cache of the shared server has no room for them.
    let mongod = Mongod::builder(Version::V6_0).cache_gb(1.0).start().await.unwrap();
    let place = Place::on(&mongod, shared_postgres().await.unwrap()).await;
    let deep = |levels: usize| {
        (0..levels).fold(
            Bson::Int32(1),
            |inner, i| {
                if i % 2 == 0 { doc! {"a": inner}.into() } else { vec![inner].into() }
            },
        )
    };
    let documents = vec![
        doc! {"_id": 1, "text": "x".repeat(16 * 1024 * 1024 - 100)},
        doc! {"_id": 2, "list": (0..100_000).map(Bson::from).collect::<Vec<Bson>>()},
        doc! {"_id": 3, "deep": deep(90), "text": "small"},
    ];
    there_and_back(&place, "large", documents).await;
}
