//! Packets that are dropped without a word.

use std::io::Write;

use integration_tests::rig::{Island, Strait};

use super::*;

/// A follower whose ways to both servers can lose all packets.
struct Remote {
    scene: Scene,
    gizer: Gizer,
    to_postgres: Strait,
    to_mongo: Strait,
    _proxies: [Proxy; 2],
    _island: Island,
}

impl Remote {
    /// `None`, and a printed line, where there can be no network namespaces.
    async fn new() -> Option<Remote> {
        let island = match Island::create().unwrap() {
            Ok(island) => island,
            Err(why) => {
                // Past the test harness, which shows what a test prints only if it fails.
                let line = format!("SKIPPED: dropped packets (W1) were not tested: no network namespace: {why}");
                let mut stderr = std::io::stderr();
                writeln!(stderr, "{line}").unwrap();
                return None;
            }
        };
        let mut straits = Vec::new();
        wait_until("the namespace to be there", REPORT_LIMIT, async || {
            straits.extend(island.strait(straits.len() as u8));
            straits.len() == 2
        })
        .await
        .unwrap();
        let (to_mongo, to_postgres) = (straits.pop().unwrap(), straits.pop().unwrap());
        let mongod = shared_mongod(Version::V6_0).await.unwrap();
        let postgres = shared_postgres().await.unwrap();
        let scene = Scene::on(mongod, postgres).await;
        let proxies = [
            Proxy::start_at(to_postgres.address(), postgres.port()).unwrap(),
            Proxy::start_at(to_mongo.address(), mongod.port()).unwrap(),
        ];
        let (postgres_uri, mongo_uri) = (proxies[0].uri(&scene.server_uri), proxies[1].uri(&mongod.uri()));
        let gizer = Gizer::new(&mongo_uri, scene.mongo.name(), &postgres_uri, "public").unwrap().within(&island);
        Some(Remote { scene, gizer, to_postgres, to_mongo, _proxies: proxies, _island: island })
    }

    async fn followed(&self) -> RunningGizer {
        self.scene.insert("orders", 0..10).await;
        self.gizer.run(["run"]).await.unwrap().expect_code(0);
        let follower = self.gizer.spawn(["sync", "--follow"]).unwrap();
        self.scene.insert("orders", 10..11).await;
        self.scene.wait_for_rows(11, LOSS_LIMIT).await;
        follower
    }
}

/// Notices in time, goes on once packets arrive again, and ends at a signal, heard or not.
async fn black_hole(way: impl Fn(&Remote) -> &Strait, word: &str, limit: Duration) {
    let Some(remote) = Remote::new().await else { return };
    let mut follower = remote.followed().await;
    assert!(way(&remote).drop_packets());
    remote.scene.insert("orders", 11..12).await;
    says(&follower, word, limit).await;
    assert!(way(&remote).carry_packets());
    remote.scene.wait_for_rows(12, LOSS_LIMIT).await;
    assert!(follower.is_running().unwrap());
    assert!(way(&remote).drop_packets());
    ends_by(follower, Signal::Terminate, 143).await;
}

#[tokio::test]
async fn w1_dropped_packets_are_noticed_on_either_side() {
    tokio::join!(
        black_hole(|remote| &remote.to_postgres, "retrying in", LOSS_LIMIT),
        // The reader of the oplog connects again by itself.
        black_hole(|remote| &remote.to_mongo, "waiting for MongoDB at", REPORT_LIMIT),
    );
}
