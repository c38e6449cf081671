//! Connections, and what is said when there is none.

use std::time::{Duration, Instant};

use gizer_pg::{ErrorKind, PgError, Target, TlsFault, connect};
use integration_tests::rig::{POSTGRES_PASSWORD, POSTGRES_USER, Postgres, shared_postgres, unique_name, wait_until};
use tokio::net::TcpListener;

use crate::scene::{LIMIT, Scene};

async fn refused(uri: &str, schema: &str) -> PgError {
    let started = Instant::now();
    let error = connect(&Target::parse(uri, schema).unwrap()).await.map(drop).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10), "{error}");
    assert!(!format!("{error} {error:?} {:?}", error.remedy()).contains(POSTGRES_PASSWORD), "{error:?}");
    error
}

#[tokio::test]
async fn a_session_knows_its_place() {
    let scene = Scene::new().await;
    let session = scene.session().await;
    assert_eq!(session.server().to_string(), format!("127.0.0.1:{}/{}", scene.server.port(), scene.database));
    let sql = "SELECT application_name FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(scene.text(sql).await, "gizer");
}

#[tokio::test]
async fn who_does_not_answer_is_named() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = refused(&format!("postgresql://u:{POSTGRES_PASSWORD}@{closed}/shop"), "public").await;
    assert!(matches!(&error, PgError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("{closed}/shop")), "{error}");

    // It takes the connection and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("postgresql://u@{}/shop?connect_timeout=1", silent.local_addr().unwrap());
    let error = refused(&uri, "public").await;
    assert!(matches!(&error, PgError::Unreachable { reason, .. } if reason.contains("within 1 s")), "{error:?}");

    let error = refused("postgresql://u@no-such-host.invalid/shop", "public").await;
    assert!(matches!(&error, PgError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-host.invalid:5432/shop"), "{error}");
}

#[tokio::test]
async fn what_does_not_fit_is_told_with_its_remedy() {
    let scene = Scene::new().await;
    let server = scene.server;

    let error = refused(&server.uri_as(POSTGRES_USER, "wrong", &scene.database), "public").await;
    assert!(matches!(&error, PgError::LoginRefused { .. }), "{error:?}");
    let error = refused(&format!("postgresql://postgres@127.0.0.1:{}/postgres", server.port()), "public").await;
    assert!(matches!(&error, PgError::LoginRefused { .. }), "no password at all: {error:?}");

    let error = refused(&server.uri("no_such_database"), "public").await;
    assert!(matches!(&error, PgError::NoDatabase { .. }), "{error:?}");
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Config, Some("3D000")));
    assert_eq!(error.remedy().unwrap(), r#"run: CREATE DATABASE "no_such_database";"#);

    let error = refused(&server.uri(&scene.database), "no such \"schema").await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.remedy().unwrap(), r#"run: CREATE SCHEMA "no such ""schema";"#);
}

#[tokio::test]
async fn missing_rights_are_told_with_the_grant() {
    let scene = Scene::new().await;
    let name = unique_name("reader");
    let target = scene.role(&name).await;
    scene.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC").await;
    let error = connect(&target).await.map(drop).unwrap_err();
    assert!(matches!(&error, PgError::NoRights { .. }), "{error:?}");
    let grant = error.remedy().unwrap();
    assert!(grant.contains(&format!(r#"GRANT USAGE ON SCHEMA "public" TO "{name}""#)), "{grant}");
    assert!(grant.contains(&format!(r#"and to load: GRANT CREATE ON SCHEMA "public" TO "{name}""#)), "{grant}");

    scene.sql(&format!("GRANT USAGE ON SCHEMA public TO {name}")).await;
    let session = connect(&target).await.unwrap();
    let error = gizer_pg::state::prepare(&session).await.unwrap_err();
    assert!(matches!(&error, PgError::NoRights { .. }), "{error:?}");
    scene.sql(&format!(r#"GRANT USAGE, CREATE ON SCHEMA "public" TO "{name}""#)).await;
    // A status table of the classic tool that belongs to somebody else cannot be given columns.
    scene.sql("CREATE TABLE public.qmetlstatus (comment TEXT)").await;
    let error = gizer_pg::state::prepare(&session).await.unwrap_err();
    let grant = format!(r#"ALTER TABLE "public"."qmetlstatus" OWNER TO "{name}""#);
    assert!(error.remedy().unwrap().contains(&grant), "{error:?}");
    scene.sql(&grant).await;
    gizer_pg::state::prepare(&session).await.unwrap();
}

#[tokio::test]
async fn who_only_reads_the_state_is_told_what_reading_takes() {
    let scene = Scene::prepared().await;
    let name = unique_name("monitor");
    let target = scene.role(&name).await;
    let session = connect(&target).await.unwrap();
    let error = gizer_pg::state::read_status(&session, 1).await.unwrap_err();
    assert!(matches!(&error, PgError::NoRights { .. }), "{error:?}");
    let remedy = error.remedy().unwrap();
    let tables = [
        "gizer_audit",
        "gizer_audit_segment",
        "gizer_collection",
        "gizer_expected",
        "gizer_history",
        "gizer_range",
        "gizer_reject",
        "gizer_repair",
        "gizer_resync",
        "gizer_schema_history",
        "gizer_stream",
        "gizer_unfit",
        "qmetlstatus",
    ];
    let tables = tables.map(|table| format!(r#""public"."{table}""#)).join(", ");
    let grant = format!(r#"GRANT SELECT ON {tables} TO "{name}";"#);
    assert_eq!(remedy, format!("run as the owner: {grant}"));
    scene.sql(&grant).await;
    assert!(gizer_pg::state::read_status(&session, 1).await.unwrap().is_some());

    // Loading takes more, and that is told too.
    let error = gizer_pg::state::prepare(&session).await.unwrap_err();
    let remedy = error.remedy().unwrap();
    let grants = remedy.strip_prefix("run as the owner: ").unwrap();
    assert!(grants.contains("GRANT INSERT, UPDATE ON") && !grants.contains("SELECT"), "{grants}");
    scene.sql(grants).await;
    gizer_pg::state::prepare(&session).await.unwrap();
}

#[tokio::test]
async fn a_running_statement_can_be_cancelled() {
    let scene = Scene::new().await;
    let session = scene.session().await;
    let cancel = session.cancel_handle();
    let sleeping = tokio::spawn(async move {
        let outcome = session.client().batch_execute("SELECT pg_sleep(600)").await;
        let error = session.error("sleeping", &outcome.unwrap_err());
        (error, session.client().batch_execute("SELECT 1").await)
    });
    let client = scene.client().await;
    let asleep = "SELECT 1 FROM pg_stat_activity \
                  WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    wait_until("the statement to run", LIMIT, async || !client.query(asleep, &[]).await.unwrap().is_empty())
        .await
        .unwrap();
    cancel.cancel().await.unwrap();
    let (error, afterwards) = sleeping.await.unwrap();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Interrupted, Some("57014")), "{error:?}");
    assert!(afterwards.is_ok(), "the session can be used on");
}

#[tokio::test]
async fn a_connection_that_ends_says_why() {
    let scene = Scene::new().await;
    let session = scene.session().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    scene.sql(end).await;
    wait_until("the connection to end", LIMIT, async || session.is_closed()).await.unwrap();
    let error = session.begin().await.unwrap_err();
    assert!(error.is_connection_lost(), "{error:?}");
    assert!(error.to_string().contains("terminating connection due to administrator command"), "{error}");
}

#[tokio::test]
async fn a_session_that_waits_is_not_ended_for_being_idle() {
    let scene = Scene::new().await;
    scene.sql(&format!("ALTER DATABASE {} SET idle_session_timeout = '1s'", scene.database)).await;
    let session = scene.session().await;
    // Somebody else's connection shows when the time is over.
    let other = scene.client().await;
    wait_until("the server to end what is idle", LIMIT, async || other.is_closed()).await.unwrap();
    let ended = session.ended();
    session.begin().await.unwrap();
    session.end(Ok(())).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), ended).await.is_err(), "it lives");
}

#[tokio::test]
async fn the_end_of_a_session_that_waits_is_noticed_at_once() {
    let scene = Scene::new().await;
    let session = scene.session().await;
    let ended = tokio::spawn(session.ended());
    scene.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gizer' AND datname = current_database()").await;
    let error = tokio::time::timeout(LIMIT, ended).await.expect("it is noticed").unwrap();
    assert!(error.is_connection_lost() && error.sqlstate() == Some("57P01"), "{error:?}");
    assert!(error.to_string().contains("terminating connection due to administrator command"), "{error}");
    // Whoever asks late is told too.
    assert!(session.ended().await.is_connection_lost());

    // A session that is dropped has not been lost.
    let session = scene.session().await;
    let ended = session.ended();
    drop(session);
    assert!(tokio::time::timeout(Duration::from_millis(200), ended).await.is_err());
}

#[tokio::test]
async fn tls_is_as_strict_as_asked_for() {
    let file = |name: &str| format!("{}/tests/pg_target/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read(file(name)).unwrap();
    let server = Postgres::builder()
        .data_file("server.crt", read("server.pem"))
        .data_file("server.key", read("server.key"))
        .setting("ssl", "on")
        .start()
        .await
        .unwrap();
    let connect_with = async |options: &str| {
        let target = Target::parse(&format!("{}?{options}", server.uri("postgres")), "public").unwrap();
        let session = connect(&target).await?;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        Ok::<bool, PgError>(session.client().query_one(sql, &[]).await.unwrap().get(0))
    };
    assert!(!connect_with("sslmode=disable").await.unwrap());
    assert!(connect_with("sslmode=prefer").await.unwrap());
    assert!(connect_with("sslmode=require").await.unwrap());
    assert!(connect_with(&format!("sslmode=verify-full&sslrootcert={}", file("ca.pem"))).await.unwrap());
    // A certificate that the authority has not signed, and a host that the certificate is not for.
    let error = connect_with(&format!("sslmode=verify-full&sslrootcert={}", file("other.pem"))).await.unwrap_err();
    assert!(matches!(&error, PgError::TlsRefused { fault: TlsFault::UnknownAuthority, .. }), "{error:?}");
    let elsewhere = server.uri("postgres").replace("127.0.0.1", "localhost");
    let uri = format!("{elsewhere}?sslmode=verify-full&sslrootcert={}", file("ca.pem"));
    let error = refused(&uri, "public").await;
    assert!(matches!(&error, PgError::TlsRefused { fault: TlsFault::OtherHost, .. }), "{error:?}");
    let target = Target::parse(&uri.replace("verify-full", "verify-ca"), "public").unwrap();
    connect(&target).await.expect("verify-ca takes any host");
    let error = connect_with(&format!("sslmode=verify-ca&sslrootcert={}", file("other.pem"))).await.unwrap_err();
    assert!(matches!(&error, PgError::TlsRefused { fault: TlsFault::UnknownAuthority, .. }), "{error:?}");

    let without_tls = shared_postgres().await.unwrap();
    let error = refused(&format!("{}?sslmode=require", without_tls.uri("postgres")), "public").await;
    assert!(matches!(&error, PgError::TlsRefused { fault: TlsFault::NotOffered, .. }), "{error:?}");
    assert!(error.to_string().contains("TLS") && !error.is_transient(), "{error}");
}
