//! What is in a database, and what is not.

use bson::{Document, doc};
use gizer_oplog::{Cluster, CollectionScan, ErrorClass, MongoError, ScanOptions, SkipReason};
use integration_tests::rig::Version;

use super::{Outcome, Shop, encoded, numbered, on_each_version, settings};

on_each_version!(
    collections_are_listed_with_what_matters_of_them,
    a_wrong_database_is_named_with_those_like_it,
    a_wrong_collection_is_named_with_those_like_it,
);

async fn collections_are_listed_with_what_matters_of_them(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let orders = numbered(200, 300);
    shop.database.collection::<Document>("orders").insert_many(&orders).await?;
    shop.create("log", doc! { "capped": true, "size": 1 << 20 }).await?;
    shop.create("people", doc! { "collation": { "locale": "de" } }).await?;
    shop.create("large_orders", doc! { "viewOn": "orders", "pipeline": [] }).await?;
    let mut expected = vec![
        ("large_orders", Some(SkipReason::View)),
        ("log", None),
        ("orders", None),
        ("people", None),
        ("system.views", Some(SkipReason::System)),
    ];
    if version >= Version::V5_0 {
        shop.create("weather", doc! { "timeseries": { "timeField": "at" } }).await?;
        expected.insert(4, ("system.buckets.weather", Some(SkipReason::System)));
        expected.push(("weather", Some(SkipReason::TimeSeries)));
    }
    let cluster = shop.cluster().await?;
    let collections = cluster.collections().await?;
    let listed: Vec<_> = collections.iter().map(|collection| (collection.name.as_str(), collection.skip)).collect();
    assert_eq!(listed, expected);

    let of = |name| collections.iter().find(|collection| collection.name == name).ok_or("listed before");
    assert!(of("log")?.capped && !of("orders")?.capped);
    assert_eq!(of("people")?.collation.as_ref().and_then(|c| c.get_str("locale").ok()), Some("de"));
    let bytes: usize = orders.iter().map(|order| encoded(order).len()).sum();
    let size = of("orders")?.size().ok_or("the size of orders")?;
    assert_eq!((size.documents, size.bytes), (200, u64::try_from(bytes)?));
    assert_eq!(*of("orders")?, cluster.collection("orders").await?);
    assert_eq!(uuid_by_the_server(&shop, "orders").await?, of("orders")?.sources[0].and_then(|source| source.uuid));

    let error = CollectionScan::new(&cluster, of("large_orders")?, ScanOptions::default()).expect_err("a view");
    assert!(error.to_string().ends_with(".large_orders, which is a view"), "{error}");
    Ok(())
}

/// As the collection's oplog entry for its creation has it.
async fn uuid_by_the_server(shop: &Shop, name: &str) -> Result<Option<[u8; 16]>, Box<dyn std::error::Error>> {
    let oplog = shop.client.database("local").collection::<Document>("oplog.rs");
    let ns = format!("{}.$cmd", shop.database.name());
    let created =
        oplog.find_one(doc! { "op": "c", "ns": ns, "o.create": name }).await?.ok_or("an entry of its creation")?;
    match created.get("ui") {
        Some(bson::Bson::Binary(binary)) => Ok(binary.bytes.as_slice().try_into().ok()),
        other => Err(format!("no UUID but {other:?}").into()),
    }
}

async fn a_wrong_database_is_named_with_those_like_it(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    shop.database.collection("orders").insert_one(doc! {}).await?;
    let right = shop.database.name();
    let wrong = right.replace("shop", "shpo");
    let cluster = Cluster::connect(settings(&shop.mongod.uri(), &wrong)).await?;
    let listing = cluster.collections().await.expect_err("a wrong database");
    let looking = cluster.collection("orders").await.expect_err("a wrong database");
    for error in [listing, looking] {
        assert!(matches!(&error, MongoError::NoSuchDatabase { database, .. } if *database == wrong), "{error}");
        assert_eq!(error.class(), ErrorClass::Configuration);
        let message = error.to_string();
        assert!(message.contains("did you mean") && message.contains(&shop.mongod.host()), "{message}");
    }
    Ok(())
}

async fn a_wrong_collection_is_named_with_those_like_it(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    shop.database.collection("orders").insert_one(doc! {}).await?;
    shop.database.collection("customers").insert_one(doc! {}).await?;
    let cluster = shop.cluster().await?;
    let error = cluster.collection("ordesr").await.expect_err("a slip");
    assert_eq!(error.class(), ErrorClass::Configuration);
    let message = error.to_string();
    assert!(message.ends_with("found none; did you mean \"orders\"?"), "{message}");
    let error = cluster.collection("stock").await.expect_err("a wrong collection");
    assert!(error.to_string().ends_with("found none"), "{error}");
    Ok(())
}
