//! Servers that cannot be reached, and servers that refuse.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use futures::future::join_all;
use gizer_oplog::{Cluster, MongoError, OplogTail, ScanOptions, TailOptions};
use integration_tests::rig::{Mongod, ReplicaSet, Version};
use tokio::time::timeout;

use super::{Outcome, on_each_version, read_all, scan, settings};

const PASSWORD: &str = "secret/with@odd:characters";

on_each_version!(rights_are_asked_for_one_by_one);

async fn guarded(version: Version) -> Result<Mongod, Box<dyn std::error::Error>> {
    let mongod = Mongod::builder(version).auth("root", PASSWORD).start().await?;
    let client = mongod.client().await?;
    client.database("shop").collection("orders").insert_one(doc! { "_id": 1 }).await?;
    let users: [(&str, Vec<Document>); 3] = [
        ("nobody", vec![]),
        ("reader", vec![doc! { "role": "read", "db": "shop" }]),
        ("follower", vec![doc! { "role": "read", "db": "shop" }, doc! { "role": "read", "db": "local" }]),
    ];
    for (user, roles) in users {
        let create = doc! { "createUser": user, "pwd": PASSWORD, "roles": roles };
        client.database("admin").run_command(create).await?;
    }
    Ok(mongod)
}

/// The error names this host and not the password.
fn assert_discreet(error: &MongoError, host: &str) {
    let all = format!("{error} {error:?} {:?}", error.remedy());
    assert!(error.to_string().contains(host), "{all}");
    for secret in [PASSWORD, "secret", "odd", "characters"] {
        assert!(!all.contains(secret), "{all}");
    }
}

async fn rights_are_asked_for_one_by_one(version: Version) -> Outcome {
    let mongod = guarded(version).await?;
    let host = mongod.host();
    let connect = async |uri: String| Cluster::connect(settings(&uri, "shop")).await;

    let error = connect(mongod.uri_as("reader", "wrong")).await.expect_err("a wrong password");
    assert!(matches!(error, MongoError::AuthenticationRefused { .. }), "{error}");
    assert_discreet(&error, &host);

    let error =
        connect(format!("mongodb://{host}/?directConnection=true")).await?.collections().await.expect_err("no user");
    assert!(matches!(error, MongoError::NoRights { authenticated: false, .. }), "{error}");
    assert!(error.remedy().ok_or("a remedy")?.contains("names no user"));
    assert_discreet(&error, &host);

    let error = connect(mongod.uri_as("nobody", PASSWORD)).await?.collection("orders").await.expect_err("no role");
    assert!(matches!(error, MongoError::NoRights { command: "listCollections", .. }), "{error}");
    assert_eq!(error.remedy().as_deref(), Some("grant the user role read on database \"shop\""));
    assert_discreet(&error, &host);

    let cluster = connect(mongod.uri_as("reader", PASSWORD)).await?;
    assert!(cluster.collections().await?[0].size().is_some(), "the role read is enough to know sizes");
    assert_eq!(read_all(&mut scan(&cluster, "orders", ScanOptions::default()).await?).await?.len(), 1);
    let error = cluster.oplogs().await?[0].newest().await.expect_err("no role on local");
    assert_eq!(error.to_string(), format!("MongoDB at {host} does not let the user run find on local.oplog.rs"));
    assert_eq!(error.remedy().as_deref(), Some("grant the user role read on database \"local\""));
    assert_discreet(&error, &host);

    let cluster = connect(mongod.uri_as("follower", PASSWORD)).await?;
    let oplog = cluster.oplogs().await?.remove(0);
    let newest = oplog.newest().await?;
    assert!(newest.term >= 1);
    OplogTail::open(&oplog, newest, TailOptions::default()).await?;
    assert_eq!(oplog.before_undecided().await?, None, "the database config need not be readable");
    assert!(!format!("{cluster:?}").contains(PASSWORD), "{cluster:?}");
    Ok(())
}

/// A port that nobody listens on, and that nobody else gets while this is held.
fn closed_port() -> Result<(TcpListener, String), std::io::Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // 127.0.0.2 is this machine too, and the listener is not on it.
    let host = format!("127.0.0.2:{}", listener.local_addr()?.port());
    Ok((listener, host))
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_within_ten_seconds() -> Outcome {
    let (_held, host) = closed_port()?;
    let options = ["directConnection=true", "replicaSet=rs0", "serverSelectionTimeoutMS=60000&connectTimeoutMS=60000"];
    let attempts = options.map(async |options| {
        let uri = format!("mongodb://anna:secret@{host}/?{options}");
        let error = Cluster::connect(settings(&uri, "shop")).await.expect_err("a closed port");
        assert!(matches!(error, MongoError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("onnection refused"), "{error}");
        assert_discreet(&error, &host);
    });
    timeout(Duration::from_secs(10), join_all(attempts)).await?;
    Ok(())
}

#[tokio::test]
async fn less_time_is_taken_where_the_uri_says_so() -> Outcome {
    let (_held, host) = closed_port()?;
    let started = Instant::now();
    let uri = format!("mongodb://{host}/?serverSelectionTimeoutMS=300");
    let error = Cluster::connect(settings(&uri, "shop")).await.expect_err("a closed port");
    assert!(started.elapsed() < Duration::from_secs(3), "it took {:?}", started.elapsed());
    assert!(error.to_string().starts_with(&format!("could not reach MongoDB at {host} within 300ms")), "{error}");
    Ok(())
}

/// Members answer, and none of them is primary: the message says what was heard of each.
#[tokio::test]
async fn a_set_without_a_primary_is_described() -> Outcome {
    let set = ReplicaSet::start(Version::V6_0, 3).await?;
    let primary = set.primary().await?;
    let others = set.secondaries().await?;
    primary.kill()?;
    others[0].kill()?;
    let error = Cluster::connect(settings(&set.uri(), "shop")).await.expect_err("no primary");
    let message = error.to_string();
    assert!(matches!(error, MongoError::Unreachable { .. }), "{message}");
    assert!(message.contains(&format!("{}: a secondary", others[1].host())), "{message}");
    assert!(message.contains(&format!("{}: Connection refused", primary.host())), "{message}");
    Ok(())
}
