//! Waits for PostgreSQL.

use super::*;

/// The processes of gizer in a database.
const PROCESSES: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name = 'gizer' AND pid <> pg_backend_pid()";

#[tokio::test]
async fn w2_a_silent_connection_is_reported_and_given_up() {
    let scene = Scene::new().await;
    let follower = scene.followed().await;
    scene.to_postgres.set(ProxyMode::StallWhere(b"gizer_stream".to_vec()));
    scene.insert("orders", 11..12).await;
    says(&follower, "waiting for PostgreSQL at", REPORT_LIMIT + Duration::from_secs(5)).await;
    scene.to_postgres.set(ProxyMode::StallWhere(Vec::new()));
    // The old connection stays silent, and its process alive, with its locks.
    scene.wait_for_rows(12, LOSS_LIMIT).await;
    ends_by(follower, Signal::Terminate, 143).await;
}

#[tokio::test]
async fn w2_a_signal_ends_what_hears_nothing() {
    let scene = Scene::new().await;
    let follower = scene.followed().await;
    scene.to_postgres.set(ProxyMode::Stall);
    scene.insert("orders", 11..12).await;
    wait_until("gizer to be stuck", LOSS_LIMIT, async || {
        scene.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gizer' AND state = 'idle'").await > 0
    })
    .await
    .unwrap();
    ends_by(follower, Signal::Terminate, 143).await;
}

#[tokio::test]
async fn w3_a_session_of_ours_that_was_lost_is_ended() {
    let scene = Scene::new().await;
    let mut follower = scene.followed().await;
    // The server learns nothing of it, and keeps the session with its locks.
    scene.to_postgres.cut_clients();
    scene.insert("orders", 11..12).await;
    scene.wait_for_rows(12, LOSS_LIMIT).await;
    says(&follower, "a session of this run that was lost: ending it", REPORT_LIMIT).await;
    assert!(follower.is_running().unwrap());
    ends_by(follower, Signal::Terminate, 143).await;
}

#[tokio::test]
async fn w3_a_session_of_another_run_is_left_alone() {
    let scene = Scene::new().await;
    let mut follower = scene.followed().await;
    let second = scene.run(&["sync"]).await.expect_code(5);
    assert!(second.stderr.contains("is locked by another run"), "{}", second.stderr);
    scene.insert("orders", 11..12).await;
    scene.wait_for_rows(12, LOSS_LIMIT).await;
    assert!(follower.is_running().unwrap());
    assert!(!follower.stderr().contains("connection"), "{}", follower.stderr());
    ends_by(follower, Signal::Terminate, 143).await;
}

#[tokio::test]
async fn w5_whoever_holds_a_table_is_named() {
    let scene = Scene::new().await;
    let follower = scene.followed().await;
    let holder = shared_postgres().await.unwrap().client(&scene.database).await.unwrap();
    holder
        .batch_execute("SET application_name TO 'nightly report'; BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let holder_pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    scene.insert("orders", 11..12).await;
    says(&follower, "waiting for PostgreSQL at", REPORT_LIMIT).await;
    let stderr = follower.stderr();
    for word in [&format!("process {holder_pid} "), "nightly report", "AccessExclusiveLock on public.orders"] {
        assert!(stderr.contains(word), "{word:?} is not in:\n{stderr}");
    }
    ends_by(follower, Signal::Terminate, 143).await;
    wait_until("the server to let go of gizer", LOSS_LIMIT, async || scene.number(PROCESSES).await == 0).await.unwrap();
}

#[tokio::test]
async fn w6_a_follower_that_loads_rides_out_a_lost_connection() {
    let scene = Scene::new().await;
    scene.insert("orders", 0..20_000).await;
    scene.run(&["schema", "infer"]).await.expect_code(0);
    scene.to_postgres.set(ProxyMode::CutAfter(300_000));
    // No attempt within the load itself: the follower is what goes on.
    let mut follower = scene.gizer.spawn(["run", "--follow", "--run-retry-for", "0"]).unwrap();
    says(&follower, "retrying in", LOSS_LIMIT).await;
    scene.wait_for_table("orders").await;
    scene.wait_for_rows(20_000, LOSS_LIMIT).await;
    assert!(follower.is_running().unwrap());
    ends_by(follower, Signal::Terminate, 143).await;
}

#[tokio::test]
async fn w6_a_load_goes_on_where_it_lost_its_connection() {
    let scene = Scene::new().await;
    scene.insert("orders", 0..20_000).await;
    scene.run(&["schema", "infer"]).await.expect_code(0);
    scene.to_postgres.set(ProxyMode::CutAfter(300_000));
    let load = scene.run(&["load"]).await.expect_code(0);
    assert!(load.stderr.contains("retrying in"), "{}", load.stderr);
    assert_eq!(scene.number("SELECT count(*) FROM orders").await, 20_000);
    assert_eq!(scene.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer_new%'").await, 0);
}

#[tokio::test]
async fn w7_a_statement_that_somebody_cancels_is_tried_again() {
    let scene = Scene::new().await;
    let mut follower = scene.followed().await;
    let holder = shared_postgres().await.unwrap().client(&scene.database).await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.unwrap();
    scene.insert("orders", 11..12).await;
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
                  WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'gizer'";
    wait_until("a statement to cancel", LOSS_LIMIT, async || scene.number(cancel).await == 1).await.unwrap();
    says(&follower, "57014", LOSS_LIMIT).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    scene.wait_for_rows(12, LOSS_LIMIT).await;
    assert!(follower.is_running().unwrap());
    ends_by(follower, Signal::Terminate, 143).await;
}

#[tokio::test]
async fn w7_limits_of_the_role_do_not_end_statements() {
    let scene = Scene::new().await;
    for setting in ["statement_timeout", "lock_timeout"] {
        scene.sql(&format!("ALTER DATABASE {} SET {setting} = '5s'", scene.database)).await;
    }
    let target = gizer_pg::Target::parse(&scene.postgres_uri(), "public").unwrap();
    let session = gizer_pg::connect(&target).await.unwrap();
    for setting in ["statement_timeout", "lock_timeout"] {
        let row = session.client().query_one(&format!("SHOW {setting}"), &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "0", "{setting}");
    }
}

#[tokio::test]
async fn w10_a_role_that_reads_by_default_may_write() {
    let scene = Scene::new().await;
    scene.sql(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", scene.database)).await;
    scene.insert("orders", 0..10).await;
    scene.run(&["run"]).await.expect_code(0);
    scene.insert("orders", 10..20).await;
    scene.run(&["sync"]).await.expect_code(0);
    scene.run(&["load"]).await.expect_code(0);
    scene.run(&["verify"]).await.expect_code(0);
    assert_eq!(scene.number("SELECT count(*) FROM orders").await, 20);
}

#[tokio::test]
async fn m4_operators_of_others_are_never_run() {
    let scene = Scene::new().await;
    let hostile = "CREATE SCHEMA evil; CREATE TABLE evil.calls (what text); \
        CREATE FUNCTION evil.same(name, text) RETURNS boolean LANGUAGE plpgsql AS \
            $$ BEGIN INSERT INTO evil.calls VALUES ('=(name, text)'); RETURN true; END $$; \
        CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE plpgsql AS \
            $$ BEGIN INSERT INTO evil.calls VALUES ('=(text, text)'); RETURN true; END $$; \
        CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.same); \
        CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same)";
    scene.sql(hostile).await;
    scene.sql(&format!("ALTER DATABASE {} SET search_path = evil, pg_catalog, public", scene.database)).await;
    scene.insert("orders", 0..10).await;
    for command in ["plan", "run", "sync", "load", "verify", "status", "plan"] {
        scene.run(&[command]).await.expect_code(0);
    }
    let calls: Vec<String> = scene
        .postgres
        .query("SELECT DISTINCT what FROM evil.calls", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(calls.is_empty(), "{calls:?}");
    let target = gizer_pg::Target::parse(&scene.postgres_uri(), "nowhere").unwrap();
    let error = gizer_pg::connect(&target).await.unwrap_err();
    assert!(error.to_string().contains("schema nowhere does not exist"), "{error}");
}

/// `/proc/net/tcp` shows the timer that a connection waits for: 2 is that of keepalives, in hundredths of a second.
#[tokio::test]
async fn w1_a_server_that_is_gone_is_noticed_while_idle() {
    let scene = Scene::new().await;
    let target = gizer_pg::Target::parse(&scene.postgres_uri(), "public").unwrap();
    let session = gizer_pg::connect(&target).await.unwrap();
    let port = format!(":{:04X}", scene.to_postgres.port());
    let timer = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ours = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        ours.filter(|fields| fields[2].ends_with(&port) && fields[3] == "01").find_map(|fields| {
            let (kind, when) = fields[5].split_once(':')?;
            Some((kind.to_owned(), u64::from_str_radix(when, 16).ok()?))
        })
    };
    wait_until("the timer to be that of keepalives", REPORT_LIMIT, async || {
        timer().is_some_and(|(kind, when)| kind == "02" && (1..=1_500).contains(&when))
    })
    .await
    .unwrap();
    drop(session);
}

/// The new tables are loaded, and a reader keeps them from taking the place of the old ones.
#[tokio::test]
async fn w8_what_a_failed_reload_leaves_goes_with_the_next_run() {
    let scene = Scene::new().await;
    scene.insert("orders", 0..2_000).await;
    scene.run(&["run"]).await.expect_code(0);
    let reader = shared_postgres().await.unwrap().client(&scene.database).await.unwrap();
    reader.batch_execute("BEGIN; SELECT FROM orders").await.unwrap();
    scene.run(&["load", "--load-swap-timeout", "1"]).await.expect_code(1);
    let staging = "SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer_new%' AND relkind = 'r'";
    assert_eq!(scene.number(staging).await, 1, "there is something to be removed");
    let other = scene.run(&["run"]).await.expect_code(0);
    assert!(
        other.stderr.contains("orders: dropped 1 staging table that a failed load left behind"),
        "{}",
        other.stderr
    );
    assert_eq!(scene.number(staging).await, 0);
    assert_eq!(scene.number("SELECT count(*) FROM gizer_range").await, 0);
    reader.batch_execute("COMMIT").await.unwrap();
    let quiet = scene.run(&["run"]).await.expect_code(0);
    assert!(!quiet.stderr.contains("left behind"), "{}", quiet.stderr);
    scene.run(&["load"]).await.expect_code(0);
    scene.run(&["verify"]).await.expect_code(0);
}

/// It was not a fault of what it loads: the next run goes on with it.
#[tokio::test]
async fn w8_a_reload_that_was_interrupted_goes_on_with_the_next_run() {
    let scene = Scene::new().await;
    scene.insert("orders", 0..20_000).await;
    scene.run(&["run"]).await.expect_code(0);
    scene.to_postgres.set(ProxyMode::StallAfter(300_000));
    let load = scene.gizer.spawn(["load"]).unwrap();
    let copies = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%'";
    wait_until("the load to be half-way", LOSS_LIMIT, async || scene.number(copies).await > 0).await.unwrap();
    load.signal(Signal::Terminate).unwrap();
    scene.to_postgres.set(ProxyMode::Forward);
    load.wait().await.unwrap().expect_code(143);
    let staging = "SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer_new%' AND relkind = 'r'";
    assert_eq!(scene.number(staging).await, 1);
    let run = scene.run(&["run"]).await.expect_code(0);
    assert!(run.stderr.contains("orders: to be loaded: resuming an interrupted load"), "{}", run.stderr);
    assert_eq!(scene.number(staging).await, 0);
    scene.run(&["verify"]).await.expect_code(0);
}

#[tokio::test]
async fn w8_what_a_killed_reload_leaves_goes_with_the_next_run() {
    let scene = Scene::new().await;
    scene.insert("orders", 0..20_000).await;
    scene.run(&["run"]).await.expect_code(0);
    scene.to_postgres.set(ProxyMode::StallAfter(300_000));
    let load = scene.gizer.spawn(["load"]).unwrap();
    let staging = "SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer_new%' AND relkind = 'r'";
    wait_until("the load to be half-way", LOSS_LIMIT, async || scene.number(staging).await > 0).await.unwrap();
    load.kill().await.unwrap();
    scene.to_postgres.set(ProxyMode::Forward);
    let ended =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gizer'";
    wait_until("the server to notice", LOSS_LIMIT, async || scene.number(ended).await == 0).await.unwrap();
    assert!(scene.number(staging).await > 0, "there is something to be removed");
    scene.run(&["run"]).await.expect_code(0);
    assert_eq!(scene.number(staging).await, 0);
    assert_eq!(scene.number("SELECT count(*) FROM orders").await, 20_000);
    scene.run(&["verify"]).await.expect_code(0);
}
