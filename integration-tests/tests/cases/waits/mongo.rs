//! Waits for MongoDB, and failures of it that pass.

use super::*;

#[tokio::test]
async fn w4_a_silent_tail_is_reported_and_read_again() {
    let scene = Scene::new().await;
    let mut follower = scene.followed().await;
    // The monitors of the driver do not ask for more.
    scene.to_mongo.set(ProxyMode::StallWhere(b"getMore".to_vec()));
    scene.insert("orders", 11..12).await;
    says(&follower, "waiting for MongoDB at", REPORT_LIMIT).await;
    assert!(follower.stderr().contains("getMore on local.oplog.rs"), "{}", follower.stderr());
    scene.to_mongo.set(ProxyMode::StallWhere(Vec::new()));
    scene.wait_for_rows(12, LOSS_LIMIT).await;
    assert!(follower.is_running().unwrap());
    ends_by(follower, Signal::Terminate, 143).await;
}

#[tokio::test]
async fn w4_a_signal_ends_what_hears_nothing_of_mongodb() {
    let scene = Scene::new().await;
    let follower = scene.followed().await;
    scene.to_mongo.set(ProxyMode::Stall);
    ends_by(follower, Signal::Interrupt, 130).await;
}

/// What servers say while they choose a primary, start or stop.
const PASSING: [i32; 7] = [11600, 11602, 10107, 262, 6, 13436, 50];

async fn fail(mongod: &Mongod, commands: &[&str], code: i32, times: i32) {
    let data = doc! { "failCommands": commands, "appName": "gizer", "errorCode": code };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data };
    mongod.client().await.unwrap().database("admin").run_command(fail).await.unwrap();
}

/// How often each command fails: the driver itself tries a read twice.
const TIMES: i32 = 3;

#[tokio::test]
async fn w9_a_load_and_an_audit_ride_out_an_election() {
    let mongod = Mongod::builder(Version::V6_0).set_parameter("enableTestCommands", "1").start().await.unwrap();
    let scene = Scene::on(&mongod, shared_postgres().await.unwrap()).await;
    scene.insert("orders", 0..3_000).await;
    scene.run(&["schema", "infer"]).await.expect_code(0);
    for code in PASSING {
        fail(&mongod, &["find", "getMore"], code, TIMES).await;
        let load = scene.run(&["load"]).await.expect_code(0);
        assert!(load.stderr.contains("retrying in"), "{code}: {}", load.stderr);
        assert_eq!(scene.number("SELECT count(*) FROM orders").await, 3_000, "{code}");
    }
    fail(&mongod, &["find", "getMore", "aggregate"], 11602, TIMES).await;
    scene.run(&["verify"]).await.expect_code(0);
    let open = "SELECT count(*) FROM qmetlstatus WHERE time_end IS NULL";
    assert_eq!(scene.number(open).await, 0, "a run's row is still open");
}
