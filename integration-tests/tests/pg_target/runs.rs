//! `qmetlstatus`, as monitors of the classic tool read it.

use gizer_flatten::change::{ClusterTime, SourcePosition};
use gizer_pg::state::{self, Run, RunKind, RunOutcome, ShardPositions, read_status};
use integration_tests::rig::wait_until;

use crate::scene::{LIMIT, Scene};

const ROWS: &str = "SELECT concat_ws(' | ', coalesce(run::text, '-'), comment, status, ts, recs_count, queries_count, attempt, \
    coalesce(error::text, 'error null'), coalesce(reason, 'no reason'), CASE WHEN time_end IS NULL THEN 'open' ELSE 'closed' END) \
    FROM qmetlstatus ORDER BY time_start";

const CLASSIC: &str = "CREATE TABLE qmetlstatus (comment TEXT, time_start TIMESTAMP, time_end TIMESTAMP, recs_count INT, \
    queries_count INT, ts TEXT, status INT, attempt INT, error BOOLEAN)";

fn positions(shards: &[(&str, Option<(u32, u32)>)]) -> ShardPositions {
    let at = |(seconds, increment)| SourcePosition::new(ClusterTime { seconds, increment }, &[1]);
    shards.iter().map(|&(shard, time)| (shard.to_owned(), time.map(at))).collect()
}

#[tokio::test]
async fn a_row_is_a_run_with_the_classic_values() {
    let scene = Scene::prepared().await;
    let session = scene.session().await;
    let start = positions(&[("shard2", Some((5, 3))), ("shard1", None)]);
    let run = Run::start(&session, RunKind::InitLoad, &start).await.unwrap();
    assert_eq!(
        scene.texts(ROWS).await,
        ["1 | init load | 0 | None;Timestamp(5, 3) | 1 | error null | no reason | open"]
    );
    run.touch(&positions(&[("shard1", Some((6, 1))), ("shard2", Some((7, 1)))]), 10, 2).await.unwrap();
    run.finish(&RunOutcome::Done { records: u64::MAX, queries: 20 }).await.unwrap();
    let done = "1 | init load | 0 | Timestamp(6, 1);Timestamp(7, 1) | 2147483647 | 20 | 1 | false | no reason | closed";
    assert_eq!(scene.texts(ROWS).await, [done]);

    let due = Run::start(&session, RunKind::OplogUse, &start).await.unwrap();
    due.finish(&RunOutcome::LoadDue { reason: "rolled over".to_owned() }).await.unwrap();
    let failed = Run::start(&session, RunKind::OplogSync, &start).await.unwrap();
    failed.finish(&RunOutcome::Failed { reason: "server gone".to_owned() }).await.unwrap();
    assert_eq!(
        scene.texts(ROWS).await[1..],
        [
            "2 | oplog use | 2 | None;Timestamp(5, 3) | 1 | true | rolled over | closed",
            "3 | oplog sync | 1 | None;Timestamp(5, 3) | 1 | false | server gone | closed"
        ]
    );
    let status = read_status(&session, 2).await.unwrap().unwrap();
    let runs: Vec<(Option<i64>, Option<bool>)> = status.runs.iter().map(|run| (run.run, run.error)).collect();
    assert_eq!(runs, [(Some(3), Some(false)), (Some(2), Some(true))]);
}

#[tokio::test]
async fn the_current_row_always_has_the_greatest_time_in_utc() {
    let scene = Scene::prepared().await;
    // The database's own zone must make no difference.
    scene.sql(&format!("ALTER DATABASE {} SET TimeZone TO 'Asia/Tokyo'", scene.database)).await;
    let session = scene.session().await;
    Run::start(&session, RunKind::OplogUse, &positions(&[])).await.unwrap();
    let near = "SELECT abs(extract(epoch FROM time_start - (now() AT TIME ZONE 'UTC'))) < 60 FROM qmetlstatus";
    assert_eq!(scene.text(near).await, "t");
    // A clock that was ahead.
    scene.sql("UPDATE qmetlstatus SET time_start = '2999-01-01'").await;
    Run::start(&session, RunKind::OplogUse, &positions(&[])).await.unwrap();
    let times = "SELECT time_start FROM qmetlstatus ORDER BY run";
    assert_eq!(scene.texts(times).await, ["2999-01-01 00:00:00", "2999-01-01 00:00:00.000001"]);
    let ends = "SELECT time_end >= time_start FROM qmetlstatus WHERE time_end IS NOT NULL";
    assert_eq!(scene.texts(ends).await, ["t"]);
}

#[tokio::test]
async fn the_row_of_a_dead_run_is_closed_by_the_next() {
    let scene = Scene::prepared().await;
    let (dying, living) = (scene.session().await, scene.session().await);
    Run::start(&dying, RunKind::InitLoad, &positions(&[])).await.unwrap();
    Run::start(&living, RunKind::OplogUse, &positions(&[])).await.unwrap();
    drop(dying);
    wait_until("the lock to go", LIMIT, async || {
        scene.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").await == "1"
    })
    .await
    .unwrap();
    let next = scene.session().await;
    Run::start(&next, RunKind::OplogUse, &positions(&[])).await.unwrap();
    let died = "the run ended without closing its row";
    let rows = scene.texts(ROWS).await;
    // Nothing is loaded and the load died: a load is due. The run that lives keeps its open row.
    assert_eq!(rows[0], format!("1 | init load | 0 |  | 1 | true | {died} | closed"));
    assert!(rows[1].ends_with("open") && rows[2].ends_with("open"), "{rows:?}");
}

#[tokio::test]
async fn a_load_that_died_beside_live_tables_is_not_due() {
    let scene = Scene::prepared().await;
    scene.sql("INSERT INTO gizer_collection (collection, state, live) VALUES ('posts', 'following', true)").await;
    scene
        .sql("INSERT INTO qmetlstatus (run, status, time_start) VALUES (7, 0, '2020-01-01'), (8, 2, '2020-01-02')")
        .await;
    let session = scene.session().await;
    let run = Run::start(&session, RunKind::OplogUse, &positions(&[])).await.unwrap();
    assert_eq!(run.number(), 9);
    assert_eq!(scene.texts("SELECT error FROM qmetlstatus WHERE run < 9").await, ["f", "f"]);
}

#[tokio::test]
async fn a_classic_status_table_is_taken_over_with_its_rows() {
    let scene = Scene::new().await;
    scene.sql(CLASSIC).await;
    scene
        .sql("INSERT INTO qmetlstatus VALUES ('oplog use', '2016-02-08', NULL, 3, 4, 'Timestamp(1, 2)', 2, 1, NULL)")
        .await;
    let session = scene.session().await;
    state::prepare(&session).await.unwrap();
    state::prepare(&session).await.unwrap();
    Run::start(&session, RunKind::InitLoad, &positions(&[])).await.unwrap();
    let rows = scene.texts(ROWS).await;
    assert_eq!(
        rows[0],
        "- | oplog use | 2 | Timestamp(1, 2) | 3 | 4 | 1 | false | the run ended without closing its row | closed"
    );
    let columns = "SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute \
                   WHERE attrelid = 'qmetlstatus'::regclass AND attnum > 0";
    let expected = "comment time_start time_end recs_count queries_count ts status attempt error reason run";
    assert_eq!(scene.text(columns).await, expected);
}

#[tokio::test]
async fn a_prepared_schema_is_not_locked_again() {
    let scene = Scene::prepared().await;
    let monitor = scene.client().await;
    monitor.batch_execute("BEGIN; SELECT * FROM qmetlstatus").await.unwrap();
    let session = scene.session().await;
    tokio::time::timeout(LIMIT, state::prepare(&session)).await.expect("it waits for a reader").unwrap();
}
