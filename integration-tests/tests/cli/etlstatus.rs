//! The questions of scripts that were made for the classic tool.

use bson::{Document, doc};
use integration_tests::rig::{Gizer, Mongod, Version, shared_mongod};
use serde_json::{Value, json};

use super::place::{Place, assert_says, numbered};

const CLASSIC: &str = "CREATE TABLE qmetlstatus (comment TEXT, time_start TIMESTAMP, time_end TIMESTAMP, recs_count INT, \
    queries_count INT, ts TEXT, status INT, attempt INT, error BOOLEAN)";

/// What the newest rows say, newest first.
async fn rows(place: &Place) -> Vec<Value> {
    place
        .rows("SELECT comment, status, time_end IS NULL AS open, error, ts FROM qmetlstatus ORDER BY time_start DESC")
        .await
}

#[track_caller]
fn is(row: &Value, comment: &str, status: i32, open: bool, error: Option<bool>) {
    let said = json!([row["comment"], row["status"], row["open"], row["error"]]);
    assert_eq!(said, json!([comment, status, open, error]), "{row}");
}

async fn needed(place: &Place) -> (i32, String) {
    let finished = place.gizer(&["etlstatus", "needed"]).await;
    (finished.code().unwrap(), finished.stdout)
}

async fn sql(place: &Place, sql: &str) {
    place.postgres.batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn a_load_that_a_script_does_in_steps() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(3)).await;
    assert_says(&place.gizer(&["etlstatus", "needed"]).await, 1, &["a load is needed", "no status table"]);
    let tables = "SELECT count(*) FROM pg_class WHERE relname = 'qmetlstatus'";
    assert_eq!(place.number(tables).await, 0, "a question has made a table");

    place.gizer(&["schema", "infer"]).await.expect_code(0);
    let started = place.gizer(&["etlstatus", "start"]).await.expect_code(0);
    let [row] = rows(&place).await.try_into().unwrap();
    is(&row, "init load", 0, true, None);
    assert_eq!(format!("{}\n", row["ts"].as_str().unwrap()), started.stdout);
    assert_eq!(needed(&place).await, (0, "1\n".to_owned()));

    // A run of gizer in between writes its own row, and leaves the script's open.
    let out = place.gizer.folder().join("out");
    let out = out.to_str().unwrap();
    place.gizer(&["extract", "--csv-path", out]).await.expect_code(0);
    place.gizer(&["copy", "--csv-path", out]).await.expect_code(0);
    let [copy, script] = rows(&place).await.try_into().unwrap();
    is(&copy, "init load", 0, false, Some(false));
    is(&script, "init load", 0, true, None);
    assert_eq!(needed(&place).await, (0, "1\n".to_owned()));

    place.gizer(&["etlstatus", "finish", "ok"]).await.expect_code(0);
    is(&rows(&place).await[1], "init load", 0, false, Some(false));
    assert_eq!(needed(&place).await, (0, "0\n".to_owned()));
    assert_says(&place.gizer(&["etlstatus", "finish", "ok"]).await, 1, &["no open row", "gizer etlstatus start"]);
}

#[tokio::test]
async fn a_script_that_failed_needs_a_load() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(3)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["etlstatus", "start"]).await.expect_code(0);
    // The run that comes later is where monitors look.
    place.gizer(&["load"]).await.expect_code(0);
    place.gizer(&["etlstatus", "finish", "error"]).await.expect_code(0);
    let [load, script] = rows(&place).await.try_into().unwrap();
    is(&load, "init load", 0, false, Some(true));
    is(&script, "init load", 0, false, Some(true));
    assert_says(&place.gizer(&["etlstatus", "needed"]).await, 1, &["left an error"]);
    let json = place.gizer(&["etlstatus", "needed", "--format", "json"]).await.expect_code(1);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["needed"], &json["under_way"]), (&json!(true), &json!(false)));
    place.gizer(&["load"]).await.expect_code(0);
    assert_eq!(needed(&place).await, (0, "0\n".to_owned()));

    // Who begins anew has given up what was begun before.
    place.gizer(&["etlstatus", "start"]).await.expect_code(0);
    place.gizer(&["etlstatus", "start"]).await.expect_code(0);
    let rows = rows(&place).await;
    is(&rows[0], "init load", 0, true, None);
    is(&rows[1], "init load", 0, false, Some(false));
}

#[tokio::test]
async fn a_script_that_died_is_given_up_in_the_end() {
    let place = Place::shared(Version::V6_0).await;
    place.insert("orders", numbered(1)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["etlstatus", "start"]).await.expect_code(0);
    sql(&place, "UPDATE qmetlstatus SET time_start = time_start - interval '8 hours 59 minutes'").await;
    assert_eq!(needed(&place).await, (0, "1\n".to_owned()));
    sql(&place, "UPDATE qmetlstatus SET time_start = time_start - interval '2 minutes'").await;
    assert_eq!(needed(&place).await, (1, String::new()));
    place.gizer(&["load"]).await.expect_code(0);
    let rows = rows(&place).await;
    is(&rows[0], "init load", 0, false, Some(false));
    is(&rows[1], "init load", 0, false, Some(true));
    assert_eq!(needed(&place).await, (0, "0\n".to_owned()));
}

#[tokio::test]
async fn the_table_of_the_classic_tool_is_understood() {
    let place = Place::shared(Version::V6_0).await;
    sql(&place, CLASSIC).await;
    assert_says(&place.gizer(&["etlstatus", "needed"]).await, 1, &["the status table is empty"]);
    let classic = |start: &str, end: &str, status: i32, error: &str| {
        format!("INSERT INTO qmetlstatus VALUES ('x', {start}, {end}, 3, 4, 'Timestamp(1, 2)', {status}, 1, {error})")
    };
    let steps = [
        (classic("'2016-02-08 10:00'", "'2016-02-08 11:00'", 2, "false"), (0, "0\n")),
        (classic("'2016-02-09'", "NULL", 2, "NULL"), (1, "")),
        (classic("now() AT TIME ZONE 'UTC' - interval '1 hour'", "NULL", 1, "NULL"), (0, "1\n")),
        (classic("now() AT TIME ZONE 'UTC' - interval '30 minutes'", "now()", 3, "true"), (1, "")),
        (classic("now() AT TIME ZONE 'UTC' - interval '20 minutes'", "NULL", 0, "NULL"), (0, "1\n")),
    ];
    for (row, (code, printed)) in steps {
        sql(&place, &row).await;
        assert_eq!(needed(&place).await, (code, printed.to_owned()), "{row}");
    }
    let columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'qmetlstatus'::regclass AND attnum > 0";
    assert_eq!(place.number(columns).await, 9, "a question has altered the table");

    // What the classic tool has begun can be finished, too.
    place.gizer(&["etlstatus", "finish", "ok"]).await.expect_code(0);
    is(&rows(&place).await[0], "x", 0, false, Some(false));
    assert_eq!(needed(&place).await, (0, "0\n".to_owned()));
    assert_eq!(place.number("SELECT count(*) FROM qmetlstatus WHERE time_end IS NULL").await, 2, "older rows are left");
    place.gizer(&["etlstatus", "start"]).await.expect_code(0);
    is(&rows(&place).await[0], "init load", 0, true, None);
    assert_eq!(place.number("SELECT count(*) FROM qmetlstatus WHERE time_end IS NULL").await, 1);
}

#[tokio::test]
async fn a_run_of_gizer_is_in_progress_as_long_as_it_lives() {
    let place = Place::shared(Version::V6_0).await;
    sql(&place, CLASSIC).await;
    sql(&place, "ALTER TABLE qmetlstatus ADD COLUMN reason TEXT, ADD COLUMN run BIGINT").await;
    sql(&place, "INSERT INTO qmetlstatus (run, status, time_start) VALUES (5, 0, '2026-01-01')").await;
    assert_eq!(needed(&place).await, (1, String::new()), "the first load has died");
    let lock = "pg_catalog.hashtextextended('gizer run 6:public 5', 0)";
    sql(&place, &format!("SELECT pg_advisory_lock({lock})")).await;
    assert_eq!(needed(&place).await, (0, "1\n".to_owned()));
    assert_says(&place.gizer(&["etlstatus", "finish", "ok"]).await, 1, &["no open row"]);
    sql(&place, &format!("SELECT pg_advisory_unlock({lock}); UPDATE qmetlstatus SET status = 2")).await;
    assert_eq!(needed(&place).await, (0, "0\n".to_owned()), "the next run carries on");
}

#[tokio::test]
async fn the_position_of_each_shard_is_saved() {
    let (one, other) = (shared_mongod(Version::V6_0).await.unwrap(), Mongod::builder(Version::V6_0));
    let other = other.repl_set_name("another").start().await.unwrap();
    let place = Place::on(one, integration_tests::rig::shared_postgres().await.unwrap()).await;
    let uris = [one.uri(), other.uri()].map(|uri| Value::from(uri).to_string());
    let config = format!(
        "[mongo]\nuri = [{}]\ndatabase = \"shop\"\n[postgres]\nuri = {}\n",
        uris.join(", "),
        Value::from(place.postgres_uri.as_str())
    );
    let gizer = Gizer::with_config(&config).unwrap();
    let newest = async |mongod: &Mongod| -> u32 {
        let log = mongod.client().await.unwrap().database("local").collection::<Document>("oplog.rs");
        let entry = log.find_one(doc! {}).sort(doc! {"$natural": -1}).await.unwrap().unwrap();
        entry.get_timestamp("ts").unwrap().time
    };
    let before = [newest(&other).await, newest(one).await];
    let started = gizer.run(["etlstatus", "start", "--format", "json"]).await.unwrap().expect_code(0);
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let after = [newest(&other).await, newest(one).await];
    let ts = started["ts"].as_str().unwrap();
    // In alphabetical order of the names: another, rs0.
    let each: Vec<u32> = ts
        .split(';')
        .map(|each| each.strip_prefix("Timestamp(").unwrap().split_once(", ").unwrap().0.parse().unwrap())
        .collect();
    assert_eq!(each.len(), 2, "{ts}");
    for shard in 0..2 {
        assert!((before[shard]..=after[shard]).contains(&each[shard]), "{ts}: {before:?} {after:?}");
    }
}
