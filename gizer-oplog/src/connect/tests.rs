//! Against a server of a few lines, for what no real server of today answers any more.

use std::io;
use std::time::Instant;

use bson::RawDocumentBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::settings::OplogSettings;

/// The operation code of `OP_MSG` (MongoDB manual, "MongoDB Wire Protocol").
const OP_MSG: i32 = 2013;

/// A server that answers every command as `answer` does, given the command's name. Gives its `host:port`.
async fn server(answer: impl Fn(&str) -> Document + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, answer.clone()));
        }
    });
    host
}

async fn serve(mut connection: TcpStream, answer: impl Fn(&str) -> Document) -> io::Result<()> {
    loop {
        let length = connection.read_i32_le().await?;
        let request_id = connection.read_i32_le().await?;
        let mut rest = vec![0; usize::try_from(length).unwrap() - 8];
        connection.read_exact(&mut rest).await?;
        // responseTo, opCode, flagBits and the kind of the first section: 13 bytes, then the command.
        let command = RawDocumentBuf::from_bytes(rest[13..].to_vec()).unwrap();
        let (name, _) = command.iter().next().unwrap().unwrap();
        let body = answer(name.as_str()).to_vec().unwrap();
        let mut reply = Vec::new();
        for number in [21 + i32::try_from(body.len()).unwrap(), 1, request_id, OP_MSG, 0] {
            reply.extend(number.to_le_bytes());
        }
        reply.push(0);
        reply.extend(body);
        connection.write_all(&reply).await?;
    }
}

/// The answers of a member of replica set `rs0`, of this release and wire version.
fn member(command: &str, version: &str, wire_version: i32) -> Document {
    match command {
        "buildInfo" => doc! { "version": version, "ok": 1 },
        _ => doc! {
            "setName": "rs0", "ismaster": true, "isWritablePrimary": true, "maxWireVersion": wire_version,
            "minWireVersion": 0, "maxBsonObjectSize": 1 << 24, "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30, "ok": 1,
        },
    }
}

/// The answers of the only member of a replica set.
fn member_of(set: &'static str, host: &'static str) -> impl Fn(&str) -> Document + Clone + Send + 'static {
    move |command| {
        let mut answer = member(command, "5.0.4", 13);
        answer.extend(doc! { "setName": set, "hosts": [host] });
        answer
    }
}

fn oplog(name: &str, host: &str) -> OplogSettings {
    OplogSettings { name: name.into(), uri: direct(host).parse().unwrap() }
}

fn settings(uris: &[String]) -> MongoSettings {
    let uris = uris.iter().map(|uri| uri.parse().unwrap()).collect();
    MongoSettings { uris, database: "shop".into(), oplogs: vec![] }
}

fn direct(host: &str) -> String {
    format!("mongodb://{host}/?directConnection=true")
}

#[tokio::test]
async fn a_server_too_old_for_the_driver_is_refused_by_name() {
    let host = server(|command| member(command, "4.2.24", 8)).await;
    let error = Cluster::connect(settings(&[direct(&host)])).await.unwrap_err();
    let expected = format!("expected MongoDB 4.4 or later at {host}, found 4.2 (wire version 8)");
    assert_eq!(error.to_string(), expected);
    assert!(error.remedy().unwrap().contains("upgrade"));
}

#[tokio::test]
async fn a_server_that_the_driver_takes_and_gizer_does_not_is_refused_by_name() {
    let host = server(|command| member(command, "4.3.1", 9)).await;
    let error = Cluster::connect(settings(&[direct(&host)])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("expected MongoDB 4.4 or later at {host}, found 4.3.1"));
}

#[tokio::test]
async fn the_first_releases_of_4_4_know_hello_by_its_old_name_only() {
    let host = server(|command| match command {
        "hello" => doc! { "ok": 0, "code": 59, "codeName": "CommandNotFound", "errmsg": "no such command: 'hello'" },
        other => member(other, "4.4.0", 9),
    })
    .await;
    let cluster = Cluster::connect(settings(&[direct(&host)])).await.unwrap();
    assert_eq!(*cluster.deployments()[0].topology(), Topology::ReplicaSet { name: "rs0".into() });
}

#[tokio::test]
async fn two_replica_sets_of_one_name_cannot_name_their_oplogs() {
    let (a, b) = (server(member_of("rs0", "a:1")).await, server(member_of("rs0", "b:1")).await);
    let mut both = settings(&[direct(&a), direct(&b)]);
    let error = Cluster::connect(both.clone()).await.unwrap_err();
    assert!(matches!(error, MongoError::SameReplicaSet { ref name, .. } if name == "rs0"), "{error}");
    both.oplogs = vec![oplog("north", &a), oplog("south", &b)];
    let oplogs = Cluster::connect(both).await.unwrap().oplogs().await.unwrap();
    let names: Vec<&str> = oplogs.iter().map(Oplog::name).collect();
    assert_eq!(names, ["north", "south"]);
}

#[tokio::test]
async fn a_router_is_read_alone_and_has_no_oplog() {
    let router = |command: &str| {
        let mut answer = member(command, "6.0.5", 17);
        answer.remove("setName");
        answer.insert("msg", "isdbgrid");
        answer
    };
    let (host, other) = (server(router).await, server(|c| member(c, "6.0.5", 17)).await);
    let cluster = Cluster::connect(settings(&[direct(&host)])).await.unwrap();
    assert_eq!(*cluster.deployments()[0].topology(), Topology::Router);
    let error = cluster.oplogs().await.unwrap_err();
    assert!(matches!(error, MongoError::RouterWithoutOplog { .. }), "{error}");
    let error = Cluster::connect(settings(&[direct(&other), direct(&host)])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "expected a replica set for each URI of a list, found a mongos router at {host}, which reads all shards"
        )
    );
}

/// The answers of a router that knows these shards; `None` if the user may not ask.
fn router(shards: Option<Vec<Document>>) -> impl Fn(&str) -> Document + Clone + Send + 'static {
    move |command| match (command, &shards) {
        ("find", Some(shards)) => {
            doc! { "cursor": { "firstBatch": shards, "id": 0_i64, "ns": "config.shards" }, "ok": 1 }
        }
        ("find", None) => doc! { "ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized" },
        (other, _) => {
            let mut answer = member(other, "6.0.5", 17);
            answer.remove("setName");
            answer.insert("msg", "isdbgrid");
            answer
        }
    }
}

#[tokio::test]
async fn every_shard_that_a_router_knows_has_its_oplog() {
    let (a, b) = (server(member_of("rs-a", "a:1")).await, server(member_of("rs-b", "b:1")).await);
    let both = vec![doc! { "_id": "one", "host": "rs-a/a:1,a:2" }, doc! { "_id": "two", "host": "rs-b/b:1" }];
    let oplogs = async |shards: Option<Vec<Document>>, oplogs: Vec<OplogSettings>| {
        let host = server(router(shards)).await;
        Cluster::connect(MongoSettings { oplogs, ..settings(&[direct(&host)]) }).await.unwrap().oplogs().await
    };
    assert_eq!(oplogs(Some(both.clone()), vec![oplog("x", &b), oplog("y", &a)]).await.unwrap().len(), 2);

    let error = oplogs(Some(both.clone()), vec![oplog("x", &a)]).await.unwrap_err();
    assert_eq!(error.class(), crate::ErrorClass::Configuration);
    assert!(error.to_string().contains("none leads to shard two, replica set rs-b at b:1"), "{error}");
    let error = oplogs(Some(both[..1].to_vec()), vec![oplog("x", &a), oplog("y", &b)]).await.unwrap_err();
    let foreign = format!("oplog \"y\", replica set rs-b at {b}, leads to none of them");
    assert!(error.to_string().ends_with(&foreign), "{error}");
    // A set of the same name elsewhere is another set.
    let elsewhere = vec![doc! { "_id": "one", "host": "rs-a/c:1" }];
    oplogs(Some(elsewhere), vec![oplog("x", &a)]).await.unwrap_err();
    // Who may not know the shards is believed.
    assert_eq!(oplogs(None, vec![oplog("x", &a)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_server_of_another_set_answered_is_told() {
    let host = server(|command| member(command, "5.0.4", 13)).await;
    let uri = format!("mongodb://{host}/?replicaSet=other&serverSelectionTimeoutMS=500");
    let error = Cluster::connect(settings(&[uri])).await.unwrap_err();
    let message = error.to_string();
    assert!(message.ends_with(&format!("within 500ms: {host}: a primary of replica set rs0")), "{message}");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_unreachable_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let started = Instant::now();
    let error = Cluster::connect(settings(&[format!("mongodb://anna:hunter2@{host}")])).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(11), "it took {:?}", started.elapsed());
    let message = error.to_string();
    assert!(message.contains(&host) && !message.contains("hunter2"), "{message}");
    assert!(matches!(error, MongoError::Unreachable { .. }), "{message}");
}

#[tokio::test]
async fn an_option_that_the_driver_refuses_late_is_a_malformed_uri() {
    let error = Cluster::connect(settings(&["mongodb://db/?heartbeatFrequencyMS=5".into()])).await.unwrap_err();
    assert!(matches!(error, MongoError::MalformedUri { .. }), "{error}");
}

#[test]
fn debug_output_has_no_credentials() {
    let settings = settings(&["mongodb://anna:hunter2@db/".into()]);
    let shown = format!("{settings:?}");
    assert!(shown.contains("db:27017") && !shown.contains("hunter2") && !shown.contains("anna"), "{shown}");
}
