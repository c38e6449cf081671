//! A scan gives exactly what is stored.

use std::collections::BTreeSet;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, RawDocumentBuf, Timestamp, doc};
use gizer_oplog::{CollectionScan, DocumentSource, OplogSettings, Portion, ScanOptions};
use integration_tests::rig::{Mongod, Version, shared_mongod, unique_name};

use super::{Outcome, Shop, batches_of, encoded, ids, numbered, on_each_version, read_all, scan, settings};

const MIB: usize = 1 << 20;

on_each_version!(
    a_hundred_thousand_documents_come_as_they_were_inserted,
    documents_of_sixteen_mebibytes_pass,
    an_empty_collection_ends_at_once,
    every_kind_of_value_and_of_id_passes_unchanged,
    what_drivers_refuse_passes_unchanged,
    ids_under_a_collation_and_in_a_capped_collection_are_all_seen,
    a_filter_and_the_newest_documents,
    a_standalone_server_can_be_scanned,
);

async fn a_hundred_thousand_documents_come_as_they_were_inserted(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let documents = numbered(100_000, 150);
    shop.database.collection::<Document>("orders").insert_many(&documents).await?;

    let mut source = scan(&shop.cluster().await?, "orders", ScanOptions::default()).await?;
    let mut batches = 0;
    let mut expected = documents.iter();
    while let Some(batch) = source.next_batch().await? {
        batches += 1;
        assert!(batch.document_bytes() < 5 * MIB, "a batch of {} bytes", batch.document_bytes());
        for document in batch.documents() {
            assert_eq!(Some(document.as_bytes()), expected.next().map(encoded).as_deref());
        }
    }
    assert_eq!(expected.next(), None);
    assert!((3..=5).contains(&batches), "15 MB came in {batches} batches of about 4 MiB");
    assert!(source.next_batch().await?.is_none(), "an end is an end");
    Ok(())
}

async fn documents_of_sixteen_mebibytes_pass(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let collection = shop.database.collection::<Document>("big");
    let largest = 16 * MIB;
    let empty = doc! { "_id": 1, "text": "" }.to_vec()?.len();
    let documents = [
        doc! { "_id": 0 },
        doc! { "_id": 1, "text": "x".repeat(largest - empty) },
        doc! { "_id": 2, "text": "y".repeat(6 * MIB) },
        doc! { "_id": 3, "text": "y".repeat(6 * MIB) },
        doc! { "_id": 4, "text": "y".repeat(6 * MIB) },
        doc! { "_id": 5 },
    ];
    for document in &documents {
        collection.insert_one(document).await?;
    }
    let mut source = scan(&shop.cluster().await?, "big", batches_of(64 * MIB)).await?;
    let mut seen = Vec::new();
    while let Some(batch) = source.next_batch().await? {
        assert!(batch.memory_bytes() < 17 * MIB, "a batch of {} bytes", batch.memory_bytes());
        seen.extend(batch.documents().map(|document| document.as_bytes().to_vec()));
    }
    assert_eq!(seen[1].len(), largest);
    // Not assert_eq!, which would print 34 MiB.
    assert!(seen.iter().zip(&documents).all(|(seen, stored)| *seen == encoded(stored)) && seen.len() == 6);
    Ok(())
}

async fn an_empty_collection_ends_at_once(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    shop.create("nothing", doc! {}).await?;
    let mut source = scan(&shop.cluster().await?, "nothing", ScanOptions::default()).await?;
    assert!(source.next_batch().await?.is_none());
    assert!(source.next_batch().await?.is_none());
    Ok(())
}

/// Values of all types, except arrays, regular expressions and `undefined`, which no `_id` can be, and `timestamp(0, 0)`,
/// which the server replaces.
pub(super) fn values() -> Vec<Bson> {
    let binary = |subtype| Bson::Binary(Binary { subtype, bytes: vec![7; 16] });
    let scoped = bson::JavaScriptCodeWithScope { code: "g".into(), scope: doc! { "y": 1 } };
    vec![
        Bson::MinKey,
        Bson::Null,
        Bson::Double(f64::NAN),
        Bson::Double(f64::NEG_INFINITY),
        Bson::Double(-0.0),
        Bson::Int32(1),
        Bson::Int64(i64::MAX),
        Bson::Decimal128("1.50".parse().expect("a decimal")),
        Bson::Symbol("symbol".into()),
        Bson::String(String::new()),
        Bson::String("a\0b é".into()),
        Bson::Document(doc! {}),
        Bson::Document(doc! { "b": 1, "a": [1, 2] }),
        binary(BinarySubtype::Generic),
        binary(BinarySubtype::Uuid),
        Bson::ObjectId(ObjectId::from_bytes([9; 12])),
        Bson::Boolean(false),
        Bson::DateTime(bson::DateTime::from_millis(-1)),
        Bson::Timestamp(Timestamp { time: 5, increment: 1 }),
        Bson::JavaScriptCode("f".into()),
        Bson::JavaScriptCodeWithScope(scoped),
        Bson::MaxKey,
    ]
}

async fn every_kind_of_value_and_of_id_passes_unchanged(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let mut everything = doc! {
        "_id": "everything",
        "array": [1, ["two", {}], []],
        "regex": Bson::RegularExpression(bson::Regex { pattern: "a.b".try_into()?, options: "i".try_into()? }),
        "undefined": Bson::Undefined,
    };
    for (at, value) in values().into_iter().enumerate() {
        everything.insert(format!("value{at}"), value);
    }
    let mut documents: Vec<Document> = values().into_iter().map(|id| doc! { "_id": id }).collect();
    documents.push(everything);
    shop.database.collection::<Document>("kinds").insert_many(&documents).await?;

    // Batches of one document each: the order of the index leads from type to type over many requests.
    let seen = shop.scanned("kinds", batches_of(1)).await?;
    let as_set = |all: Vec<Vec<u8>>| all.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(seen.len(), documents.len());
    assert_eq!(as_set(seen), as_set(documents.iter().map(|d| d.to_vec()).collect::<Result<_, _>>()?));
    Ok(())
}

/// Bytes of a document that no driver would make: text and a name that are not UTF-8, and a name twice.
fn odd_document() -> Vec<u8> {
    let mut bytes = encoded(&doc! { "_id": 1, "Zame": "Zext", "a": 1, "b": 2 });
    let twice = bytes.iter().rposition(|byte| *byte == b'b').expect("the name b");
    bytes[twice] = b'a';
    for byte in bytes.iter_mut().filter(|byte| **byte == b'Z') {
        *byte = 0xFF;
    }
    bytes
}

async fn what_drivers_refuse_passes_unchanged(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let odd = odd_document();
    let placeholder = doc! { "insert": "odd", "documents": [{}] }.to_vec()?;
    let (head, tail) = placeholder.split_at(placeholder.len() - 7);
    let mut command = [head, odd.as_slice(), &tail[5..]].concat();
    // The array and the command are longer than the placeholder by what the document is longer than an empty one.
    let array_at = command.len() - odd.len() - 2 - 7;
    for (at, length) in [(0, command.len()), (array_at, odd.len() + 8)] {
        command[at..at + 4].copy_from_slice(&u32::try_from(length)?.to_le_bytes());
    }
    let answer = shop.database.run_raw_command(RawDocumentBuf::from_bytes(command)?).await?;
    assert_eq!(answer.get_i32("n")?, 1, "{answer}");
    assert_eq!(shop.scanned("odd", ScanOptions::default()).await?, [odd]);
    Ok(())
}

async fn ids_under_a_collation_and_in_a_capped_collection_are_all_seen(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    shop.create("people", doc! { "collation": { "locale": "de", "strength": 1 } }).await?;
    shop.create("latest", doc! { "capped": true, "size": 1 << 20 }).await?;
    let mut collections = vec!["people", "latest"];
    if version >= Version::V6_0 {
        // Since 5.3 a collection can have its documents in its _id index, and no other index then.
        shop.create("clustered", doc! { "clusteredIndex": { "key": { "_id": 1 }, "unique": true } }).await?;
        collections.push("clustered");
    }
    for collection in collections {
        let documents = ["b", "Ä", "c", "Z", "ßa", "zz"].map(|id| doc! { "_id": id });
        shop.database.collection::<Document>(collection).insert_many(&documents).await?;
        let seen: BTreeSet<_> = shop.scanned(collection, batches_of(1)).await?.into_iter().collect();
        assert_eq!(seen, documents.iter().map(encoded).collect(), "{collection}");
    }
    Ok(())
}

async fn a_filter_and_the_newest_documents(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    shop.database.collection::<Document>("orders").insert_many(numbered(1_000, 100)).await?;

    let filter = Some(doc! { "_id": { "$mod": [100, 7] } });
    let some = shop.scanned("orders", ScanOptions { filter, ..batches_of(200) }).await?;
    assert_eq!(ids(&some), [7, 107, 207, 307, 407, 507, 607, 707, 807, 907]);

    let newest = |count| ScanOptions { portion: Portion::Newest(count), ..batches_of(1_000) };
    let latest = shop.scanned("orders", newest(25)).await?;
    assert_eq!(ids(&latest), (975..1_000).rev().collect::<Vec<i32>>());
    assert_eq!(shop.scanned("orders", newest(5_000)).await?.len(), 1_000);
    assert_eq!(shop.scanned("orders", newest(0)).await?.len(), 0);
    Ok(())
}

async fn a_standalone_server_can_be_scanned(version: Version) -> Outcome {
    let mongod = Mongod::builder(version).standalone().start().await?;
    let documents = numbered(500, 100);
    mongod.client().await?.database("shop").collection::<Document>("orders").insert_many(&documents).await?;
    let cluster = gizer_oplog::Cluster::connect(settings(&mongod.uri(), "shop")).await?;
    let seen = read_all(&mut scan(&cluster, "orders", batches_of(4_000)).await?).await?;
    assert_eq!(ids(&seen), (0..500).collect::<Vec<i32>>());
    Ok(())
}

/// Where there is no router, documents are read from the shards, also from one that does not have the collection.
#[tokio::test]
async fn several_deployments_are_read_one_after_the_other() -> Outcome {
    let database = unique_name("shop");
    let mut both = settings("mongodb://127.0.0.1", &database);
    both.uris.clear();
    let versions = [(Version::V5_0, 0..300), (Version::V6_0, 300..400)];
    for (version, range) in versions.clone() {
        let mongod = shared_mongod(version).await?;
        let documents: Vec<Document> = range.map(|id: i32| doc! { "_id": id }).collect();
        mongod.client().await?.database(&database).collection::<Document>("orders").insert_many(&documents).await?;
        if version == Version::V6_0 {
            mongod.client().await?.database(&database).collection("here_only").insert_one(doc! { "_id": 9 }).await?;
        }
        let uri: gizer_oplog::SecretUri = mongod.uri().parse()?;
        // Both sets are named rs0.
        both.oplogs.push(OplogSettings { name: version.to_string(), uri: uri.clone() });
        both.uris.push(uri);
    }
    let cluster = gizer_oplog::Cluster::connect(both).await?;
    let orders = cluster.collection("orders").await?;
    assert_eq!(orders.size().map(|size| size.documents), Some(400));
    let seen = read_all(&mut CollectionScan::new(&cluster, &orders, batches_of(500))?).await?;
    assert_eq!(ids(&seen), (0..400).collect::<Vec<i32>>());
    let seen = read_all(&mut scan(&cluster, "here_only", ScanOptions::default()).await?).await?;
    assert_eq!(ids(&seen), [9]);
    Ok(())
}
