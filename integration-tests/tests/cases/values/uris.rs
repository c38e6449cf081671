//! Connection strings: options, names of users; and connections to the metrics that say nothing.

use std::time::Duration;

use bson::{Document, doc};
use integration_tests::rig::{Gizer, Mongod, Signal, Version, shared_mongod, shared_postgres, unique_name, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::place::assert_says;

const LIMIT: Duration = Duration::from_secs(60);

/// gizer with a MongoDB URI of the test's own, and one collection to copy.
async fn gizer_by(mongod: &Mongod, uri: impl Fn(&str) -> String) -> Gizer {
    let postgres = shared_postgres().await.unwrap();
    let database = postgres.create_database().await.unwrap();
    let name = unique_name("shop");
    let orders = mongod.client().await.unwrap().database(&name).collection::<Document>("orders");
    orders.insert_one(doc! {"_id": 1}).await.unwrap();
    Gizer::new(&uri(&mongod.uri()), &name, &postgres.uri(&database), "public").unwrap()
}

fn with_options(uri: &str, options: &str) -> String {
    let separator = if uri.contains('?') { "&" } else { "?" };
    format!("{uri}{separator}{options}")
}

#[tokio::test]
async fn m6_options_of_other_drivers_are_ignored_with_a_warning() {
    let mongod = shared_mongod(Version::V6_0).await.unwrap();
    let options = "compressors=zstd,snappy&socketTimeoutMS=1000&uuidRepresentation=standard&zlibCompressionLevel=3";
    let gizer = gizer_by(mongod, |uri| with_options(uri, options)).await;
    let run = gizer.run(["run"]).await.unwrap().expect_code(0);
    for option in ["compressors", "socketTimeoutMS", "uuidRepresentation", "zlibCompressionLevel"] {
        let warning = format!("warning: gizer has no use for the option {option} of the MongoDB URI: it is ignored");
        assert_eq!(run.stderr.matches(&warning).count(), 1, "{}", run.stderr);
    }
    let direct = format!("mongodb://127.0.0.1:{}/?connect=direct", mongod.port());
    let gizer = gizer_by(mongod, |_| direct.clone()).await;
    gizer.run(["run"]).await.unwrap().expect_code(0);
}

#[tokio::test]
async fn m6_a_message_about_an_option_names_it() {
    let mongod = shared_mongod(Version::V6_0).await.unwrap();
    for (options, named) in [
        ("readPreference=sometimes", "option readPreference: "),
        ("conectTimeoutMS=5", "option conectTimeoutMS: conecttimeoutms is an invalid option"),
    ] {
        let gizer = gizer_by(mongod, |uri| with_options(uri, options)).await;
        let refused = gizer.run(["plan"]).await.unwrap();
        assert_says(&refused, 2, &[named, "correct or remove the option after the ? of the URI"]);
        assert!(!refused.stderr.contains("percent-encode"), "{}", refused.stderr);
    }
    let uri = format!("mongodb://127.0.0.1:{}/?replicaSet=rs0&readPreference=secondary", mongod.port());
    let gizer = gizer_by(mongod, |_| uri.clone()).await;
    let refused = gizer.run(["load", "orders"]).await.unwrap();
    assert!(refused.code() != Some(0) || !refused.stderr.contains("could not reach"), "{refused:?}");
    let inferred = gizer.run(["schema", "infer"]).await.unwrap();
    assert_says(&inferred, 1, &["readPreference=secondary in the URI wants another member", "secondaryPreferred"]);
}

#[tokio::test]
async fn m3_users_with_commas_and_equals_signs_log_in() {
    let users = [("a%2Cb", "a,b"), ("%3D%2C", "=,"), ("a%3D2Cb", "a=2Cb")];
    let mongod = Mongod::builder(Version::V6_0).auth("root", "pw").start().await.unwrap();
    let admin = mongod.client().await.unwrap().database("admin");
    for (_, user) in users {
        admin.run_command(doc! {"createUser": user, "pwd": "p,w=", "roles": ["root"]}).await.unwrap();
    }
    let uri = |user: &str, options: &str| {
        format!(
            "mongodb://{user}:p%2Cw%3D@127.0.0.1:{}/?directConnection=true&authSource=admin{options}",
            mongod.port()
        )
    };
    for (encoded, _) in users {
        for options in ["", "&authMechanism=SCRAM-SHA-256"] {
            let gizer = gizer_by(&mongod, |_| uri(encoded, options)).await;
            gizer.run(["run"]).await.unwrap().expect_code(0);
        }
    }
    let gizer = gizer_by(&mongod, |_| uri("a%2Cb", "&authMechanism=SCRAM-SHA-1")).await;
    let refused = gizer.run(["plan"]).await.unwrap();
    assert_says(
        &refused,
        2,
        &["SCRAM-SHA-1 cannot be used with a user whose name holds a comma", "expected SCRAM-SHA-256"],
    );
    let gizer = gizer_by(&mongod, |_| uri("a%2Cb", "").replace("p%2C", "x")).await;
    assert_says(&gizer.run(["plan"]).await.unwrap(), 1, &["refused the user or the password"]);
}

#[tokio::test]
async fn w11_connections_that_say_nothing_keep_no_scrape_waiting() {
    let mongod = shared_mongod(Version::V6_0).await.unwrap();
    let gizer = gizer_by(mongod, str::to_owned).await;
    let running = gizer.spawn(["run", "--follow", "--metrics", "127.0.0.1:0"]).unwrap();
    let address: String = wait_for("the address of the metrics", LIMIT, async || {
        let said = running.stderr();
        let (_, rest) = said.split_once("http://")?;
        Some(rest.split_once("/metrics\n")?.0.to_owned())
    })
    .await
    .unwrap();
    let mut idle = Vec::new();
    for _ in 0..120 {
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    let began = Instant::now();
    let mut scrape = TcpStream::connect(&address).await.unwrap();
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, scrape.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("gizer_"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
    // They are not kept for ever.
    let cut_off = timeout(LIMIT, idle[0].read(&mut [0])).await.unwrap();
    assert!(!matches!(cut_off, Ok(count) if count > 0), "{cut_off:?}");
    running.signal(Signal::Interrupt).unwrap();
    running.wait().await.unwrap();
}
