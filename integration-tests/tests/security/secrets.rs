//! A planted password is found nowhere but where it was put.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bson::doc;
use integration_tests::rig::{Finished, Gizer, Mongod, Signal, Version, shared_postgres, unique_name, wait_until};

use super::page::{run_in_mongosh, statements};

/// What is looked for is its middle, which no encoding changes.
const PASSWORD: &str = "p@/quincemarmalade%:";
const PLANTED: &str = "quincemarmalade";

fn assert_discreet(finished: &Finished) {
    for text in [&finished.stdout, &finished.stderr] {
        assert!(!text.contains(PLANTED), "{finished:?}");
    }
}

/// All rows of all tables of a schema, as text.
async fn everything(client: &tokio_postgres::Client, schema: &str) -> String {
    let sql = "SELECT format('SELECT coalesce(string_agg(t::text, E''\\n''), '''') FROM %I.%I t', schemaname, tablename) \
               FROM pg_tables WHERE schemaname = $1";
    let mut all = String::new();
    for row in client.query(sql, &[&schema]).await.unwrap() {
        let select: &str = row.get(0);
        all += client.query_one(select, &[]).await.unwrap().get(0);
    }
    all
}

#[tokio::test]
async fn a_password_in_a_file_or_in_the_environment_shows_nowhere() {
    let mongod = Mongod::builder(Version::V6_0).auth("root", PASSWORD).start().await.unwrap();
    let root = mongod.client().await.unwrap();
    run_in_mongosh(&root, &statements("mongo-gizer", PASSWORD)).await;
    root.database("shop").collection("orders").insert_one(doc! { "_id": 1 }).await.unwrap();
    let postgres = shared_postgres().await.unwrap();
    let (role, target) = (unique_name("planted"), postgres.create_database().await.unwrap());
    let admin = postgres.client(&target).await.unwrap();
    let sql = format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; CREATE SCHEMA shop AUTHORIZATION {role}");
    admin.batch_execute(&sql).await.unwrap();

    let uris = [
        format!("mongodb://gizer@{}/?directConnection=true&authSource=admin", mongod.host()),
        format!("postgresql://{role}@127.0.0.1:{}/{target}", postgres.port()),
    ];
    let config = |files: &str| {
        let [mongo, postgres] = &uris;
        let [mongo_file, postgres_file] = ["mongo", "postgres"].map(|name| files.replace("NAME", name));
        format!(
            "[mongo]\nuri = {mongo:?}\ndatabase = \"shop\"\n{mongo_file}\n[postgres]\nuri = {postgres:?}\nschema = \"shop\"\n{postgres_file}\n"
        )
    };
    let by_file = Gizer::with_config(&config("password_file = \"NAME.password\"")).unwrap();
    for name in ["mongo.password", "postgres.password"] {
        let path = by_file.folder().join(name);
        fs::write(&path, format!("{PASSWORD}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let by_environment = Gizer::with_config(&config(""))
        .unwrap()
        .env("GIZER_MONGO_PASSWORD", PASSWORD)
        .env("GIZER_POSTGRES_PASSWORD", PASSWORD);
    let commands: [&[&str]; 10] = [
        &["-vv", "schema", "infer", "--force"],
        &["-vv", "load"],
        &["-vv", "sync"],
        &["-vv", "verify"],
        &["-vv", "status", "--format", "json"],
        &["config", "show"],
        &["config", "show", "--format", "json"],
        &["config", "get", "mongo", "uri"],
        &["-vv", "load", "nosuch"],
        &["-vv", "load", "orders", "--postgres-schema", "nosuch"],
    ];
    for gizer in [&by_file, &by_environment] {
        for args in commands {
            let code = i32::from(args.contains(&"nosuch")) * 2;
            let finished = gizer.run(args).await.unwrap().expect_code(code);
            assert_discreet(&finished);
            assert!(!finished.stderr.contains("warning"), "{}", finished.stderr);
        }
        let shown = gizer.run(["config", "show"]).await.unwrap().stdout;
        assert!(shown.contains("password"), "{shown}");

        // The command line of a run that stays on, which everybody can read.
        let running = gizer.spawn(["sync", "--follow", "-vv"]).unwrap();
        running.wait_for_output("connected").await.unwrap();
        let command_line = fs::read(format!("/proc/{}/cmdline", running.pid())).unwrap();
        let command_line = String::from_utf8_lossy(&command_line).into_owned();
        assert!(command_line.contains("--follow") && !command_line.contains(PLANTED), "{command_line}");
        let asked = "SELECT coalesce(string_agg(query || application_name, ''), '') FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
        assert!(!admin.query_one(asked, &[]).await.unwrap().get::<_, String>(0).contains(PLANTED));
        wait_until("the run to take signals", Duration::from_secs(30), async || {
            let row = "SELECT count(*) FROM shop.qmetlstatus WHERE time_end IS NULL";
            admin.query_one(row, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) > 0)
        })
        .await
        .unwrap();
        running.signal(Signal::Terminate).unwrap();
        assert_discreet(&running.wait().await.unwrap());
    }
    // Runs that fail write down why.
    for file in ["mongo.password", "postgres.password"] {
        fs::write(by_file.folder().join(file), format!("x{PASSWORD}")).unwrap();
        for command in ["load", "sync"] {
            let finished = by_file.run([command, "-vv"]).await.unwrap().expect_code(1);
            assert_discreet(&finished);
            assert!(finished.stderr.contains("refused"), "{}", finished.stderr);
        }
        fs::write(by_file.folder().join(file), PASSWORD).unwrap();
    }
    assert!(!everything(&admin, "shop").await.contains(PLANTED));
}

#[tokio::test]
async fn what_others_can_see_is_warned_of() {
    let gizer =
        Gizer::with_config("[postgres]\nuri = \"postgresql://u@127.0.0.1:1/d\"\npassword_file = \"open\"\n").unwrap();
    let path = gizer.folder().join("open");
    fs::write(&path, PLANTED).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let told = gizer.run(["status"]).await.unwrap().expect_code(1);
    assert!(told.stderr.contains("open holds a password, and others may read or change it"), "{}", told.stderr);
    assert_discreet(&told);

    let uri = format!("mongodb://u:{PLANTED}@127.0.0.1:1/");
    let told = gizer.run(["config", "show", "--mongo-uri", &uri]).await.unwrap().expect_code(0);
    assert!(told.stderr.contains("sees the password in --mongo-uri"), "{}", told.stderr);
    assert!(told.stderr.contains("--mongo-password-file") && told.stderr.contains("GIZER_MONGO_PASSWORD"));
    assert_discreet(&told);
    // A flag with a password itself there is not.
    let told = gizer.run(["status", "--postgres-password", PLANTED]).await.unwrap().expect_code(2);
    assert_discreet(&told);
}
