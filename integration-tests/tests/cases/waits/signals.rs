//! SIGTERM ends gizer in time, whatever it is at.

use std::pin::Pin;

use futures::future::join_all;

use super::*;

/// gizer in a state, and what keeps it there.
struct Held {
    running: RunningGizer,
    _scene: Scene,
    _holder: Option<tokio_postgres::Client>,
}

/// Statements of gizer that wait for a lock.
const LOCK_WAITS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
    AND application_name = 'gizer' AND wait_event_type = 'Lock'";

const COPIES: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
    AND application_name = 'gizer' AND query LIKE 'COPY%' AND state = 'active'";

impl Held {
    fn new(scene: Scene, running: RunningGizer) -> Held {
        Held { running, _scene: scene, _holder: None }
    }
}

impl Scene {
    async fn holder(&self, sql: &str) -> tokio_postgres::Client {
        let holder = shared_postgres().await.unwrap().client(&self.database).await.unwrap();
        holder.batch_execute(sql).await.unwrap();
        holder
    }

    async fn comes_true(&self, what: &str, sql: &str) {
        wait_until(what, LOSS_LIMIT, async || self.number(sql).await > 0).await.unwrap();
    }
}

async fn comes_through(what: &str, count: impl Fn() -> u64) {
    wait_until(what, LOSS_LIMIT, async || count() > 0).await.unwrap();
}

/// Nothing is heard of a server that takes connections.
async fn connecting(stalled: impl Fn(&Scene) -> &Proxy) -> Held {
    let scene = Scene::new().await;
    stalled(&scene).set(ProxyMode::Stall);
    let running = scene.gizer.spawn(["run", "--follow"]).unwrap();
    comes_through("gizer to connect", || stalled(&scene).accepted()).await;
    Held::new(scene, running)
}

async fn waiting_for_a_lock() -> Held {
    let scene = Scene::new().await;
    let running = scene.followed().await;
    let holder = scene.holder("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await;
    scene.insert("orders", 11..12).await;
    scene.comes_true("gizer to wait for a lock", LOCK_WAITS).await;
    Held { running, _scene: scene, _holder: Some(holder) }
}

async fn copying() -> Held {
    let scene = Scene::new().await;
    scene.insert("orders", 0..20_000).await;
    scene.run(&["schema", "infer"]).await.expect_code(0);
    scene.to_postgres.set(ProxyMode::StallAfter(300_000));
    let running = scene.gizer.spawn(["load"]).unwrap();
    scene.comes_true("a COPY", COPIES).await;
    Held::new(scene, running)
}

async fn swapping() -> Held {
    let scene = Scene::new().await;
    scene.insert("orders", 0..10).await;
    scene.run(&["run"]).await.expect_code(0);
    let reader = scene.holder("BEGIN; SELECT FROM orders").await;
    let running = scene.gizer.spawn(["load"]).unwrap();
    scene.comes_true("the swap to wait for a reader", LOCK_WAITS).await;
    Held { running, _scene: scene, _holder: Some(reader) }
}

async fn reading_the_oplog() -> Held {
    let scene = Scene::new().await;
    let running = scene.followed().await;
    scene.to_mongo.set(ProxyMode::StallWhere(b"getMore".to_vec()));
    comes_through("the oplog to be read", || scene.to_mongo.held()).await;
    Held::new(scene, running)
}

/// What has changed during a load is looked up by `_id`, as nothing else of a load is.
async fn replaying() -> Held {
    let scene = Scene::new().await;
    scene.insert("orders", 0..5_000).await;
    scene.run(&["schema", "infer"]).await.expect_code(0);
    scene.to_mongo.set(ProxyMode::StallWhere(b"$in".to_vec()));
    let running = scene.gizer.spawn(["load"]).unwrap();
    let mut id = 5_000;
    wait_until("changes to be replayed", LOSS_LIMIT, async || {
        id += 1;
        scene.insert("orders", id..id + 1).await;
        scene.to_mongo.held() > 0
    })
    .await
    .unwrap();
    Held::new(scene, running)
}

async fn committing() -> Held {
    let scene = Scene::new().await;
    let running = scene.followed().await;
    scene.to_postgres.set(ProxyMode::StallWhere(b"gizer_stream".to_vec()));
    scene.insert("orders", 11..12).await;
    comes_through("a checkpoint", || scene.to_postgres.held()).await;
    Held::new(scene, running)
}

async fn auditing() -> Held {
    let scene = Scene::new().await;
    scene.insert("orders", 0..10).await;
    scene.run(&["run"]).await.expect_code(0);
    let holder = scene.holder("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await;
    let running = scene.gizer.spawn(["verify"]).unwrap();
    scene.comes_true("the audit to wait for rows", LOCK_WAITS).await;
    Held { running, _scene: scene, _holder: Some(holder) }
}

async fn inferring() -> Held {
    let scene = Scene::new().await;
    scene.insert("orders", 0..10).await;
    scene.to_mongo.set(ProxyMode::StallWhere(b"\x02find\0".to_vec()));
    let running = scene.gizer.spawn(["schema", "infer"]).unwrap();
    comes_through("documents to be read", || scene.to_mongo.held()).await;
    Held::new(scene, running)
}

async fn sleeping_before_the_next_try() -> Held {
    let scene = Scene::new().await;
    let running = scene.followed().await;
    scene.to_postgres.set(ProxyMode::Refuse);
    says(&running, "retrying in", LOSS_LIMIT).await;
    Held::new(scene, running)
}

type State = Pin<Box<dyn Future<Output = Held>>>;

#[tokio::test]
async fn w2_sigterm_ends_gizer_in_each_state() {
    let states: [(&str, State); 11] = [
        ("connecting to PostgreSQL", Box::pin(connecting(|scene| &scene.to_postgres))),
        ("connecting to MongoDB", Box::pin(connecting(|scene| &scene.to_mongo))),
        ("waiting for a lock", Box::pin(waiting_for_a_lock())),
        ("COPY", Box::pin(copying())),
        ("swap", Box::pin(swapping())),
        ("reading the oplog", Box::pin(reading_the_oplog())),
        ("replay", Box::pin(replaying())),
        ("commit", Box::pin(committing())),
        ("audit", Box::pin(auditing())),
        ("inference", Box::pin(inferring())),
        ("sleeping", Box::pin(sleeping_before_the_next_try())),
    ];
    let ends = states.into_iter().map(async |(state, held)| {
        let Held { running, _scene, _holder } = held.await;
        running.signal(Signal::Terminate).unwrap();
        let stderr = running.stderr();
        let ended = tokio::time::timeout(END_LIMIT, running.wait()).await;
        match ended.map(Result::unwrap) {
            Ok(ended) if ended.code() == Some(143) => None,
            Ok(ended) => Some(format!("{state}: {ended:?}")),
            Err(_) => Some(format!("{state}: it still runs after {END_LIMIT:?}\n{stderr}")),
        }
    });
    let wrong: Vec<String> = join_all(ends).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
