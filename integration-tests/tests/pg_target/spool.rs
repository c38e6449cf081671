//! Spools, in PostgreSQL and in files: what both owe, and what only PostgreSQL can do wrong.

use std::sync::Arc;

use gizer_engine::spool::{
    AppendOutcome, Cursor, FileSpool, Page, PostgresSpool, Spool, SpoolIdentity, SpoolSpan, file_name,
};
use gizer_flatten::change::{ClusterTime, Positions, SourcePosition};
use gizer_pg::spool::PgSpool;
use gizer_pg::{PgError, Target};
use integration_tests::rig::{Postgres, unique_name, wait_for};

use crate::scene::{LIMIT, Scene};

fn at(seconds: u32) -> Positions {
    Positions::from([("rs0".to_owned(), SourcePosition::new(ClusterTime { seconds, increment: 7 }, &[3]))])
}

fn identity(source: &str) -> SpoolIdentity {
    SpoolIdentity { owner: "db:5432/app public".into(), source: source.into(), database: "shop".into() }
}

fn page(records: &[u8], reached: Option<u32>) -> Page {
    Page { records: records.to_vec(), reached: reached.map(at) }
}

fn span(start: u32, reached: u32) -> Option<SpoolSpan> {
    Some(SpoolSpan { start: at(start), reached: at(reached) })
}

/// The pages from a place on, and where they end.
async fn rest(spool: &dyn Spool, mut cursor: Cursor) -> (Vec<Vec<u8>>, Cursor) {
    let mut pages = Vec::new();
    while let Some((page, next)) = spool.read(cursor).await.unwrap() {
        pages.push(page.to_vec());
        cursor = next;
    }
    (pages, cursor)
}

async fn all(spool: &dyn Spool) -> Vec<Vec<u8>> {
    rest(spool, Cursor::default()).await.0
}

/// What each kind of spool owes; `open` opens one of this source with this limit.
async fn contract(open: impl AsyncFn(&str, u64) -> Arc<dyn Spool>) {
    let spool = open("rs0", u64::MAX).await;
    assert_eq!((spool.span(), all(&*spool).await), (None, vec![]));
    assert!(spool.append(page(b"early", Some(1))).await.is_err(), "it has no start");
    spool.trim(Some(at(1))).await.unwrap();
    assert_eq!((spool.span(), all(&*spool).await), (span(1, 1), vec![]));

    // What no mark covers is not given; with the mark it is.
    assert!(matches!(spool.append(page(b"\0one", Some(2))).await, Ok(AppendOutcome::Taken(bytes)) if bytes >= 4));
    let (pages, cursor) = rest(&*spool, Cursor::default()).await;
    assert_eq!(pages, [b"\0one"]);
    spool.append(page(b"two", None)).await.unwrap();
    assert_eq!((spool.span(), rest(&*spool, cursor).await), (span(1, 2), (vec![], cursor)));
    spool.append(page(b"three", Some(4))).await.unwrap();
    let (pages, cursor) = rest(&*spool, cursor).await;
    assert_eq!((spool.span(), pages), (span(1, 4), vec![b"two".to_vec(), b"three".to_vec()]));
    spool.append(page(b"lost", None)).await.unwrap();
    // A call that nobody waits for happens as a whole.
    drop(spool.append(page(b"also lost", None)));
    drop(spool.read(cursor));
    drop(spool);

    let spool = open("rs0", u64::MAX).await;
    let expected = [b"\0one".to_vec(), b"two".to_vec(), b"three".to_vec()];
    assert_eq!((spool.span(), all(&*spool).await), (span(1, 4), expected.to_vec()));
    spool.append(page(b"four", Some(5))).await.unwrap();
    assert_eq!(all(&*spool).await.last().unwrap(), b"four");
    let other = open("rs1", u64::MAX).await;
    assert_eq!(other.span(), None, "each source has its own");

    spool.trim(Some(at(9))).await.unwrap();
    assert_eq!((spool.span(), all(&*spool).await), (span(9, 9), vec![]));
    drop(spool);
    let spool = open("rs0", 1_000).await;
    assert_eq!(spool.span(), span(9, 9));
    assert!(matches!(spool.append(page(&[1; 500], Some(10))).await, Ok(AppendOutcome::Taken(bytes)) if bytes >= 500));
    assert_eq!(spool.append(page(&[2; 500], Some(11))).await.unwrap(), AppendOutcome::Full);
    assert_eq!(spool.append(page(b"", Some(12))).await.unwrap(), AppendOutcome::Full, "it would leave a gap");
    assert_eq!((spool.span(), all(&*spool).await), (span(9, 10), vec![vec![1; 500]]));
    spool.trim(None).await.unwrap();
    assert_eq!((spool.span(), all(&*spool).await), (None, vec![]));
    drop(spool);
    assert_eq!(open("rs0", u64::MAX).await.span(), None);
}

#[tokio::test]
async fn a_file_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    contract(async |source, limit| {
        let path = folder.path().join(file_name(&identity(source)));
        let open =
            wait_for("the lock to be free", LIMIT, async || FileSpool::open(&path, &identity(source), limit).ok());
        let spool: Arc<dyn Spool> = Arc::new(open.await.unwrap());
        spool
    })
    .await;
}

#[tokio::test]
async fn postgresql_keeps_the_contract() {
    let scene = Scene::new().await;
    contract(async |source, limit| {
        let target = scene.target();
        let open = wait_for("the lock to be free", LIMIT, async || {
            PostgresSpool::open(&target, &identity(source), limit).await.ok()
        });
        let spool: Arc<dyn Spool> = Arc::new(open.await.unwrap());
        spool
    })
    .await;
    assert_eq!(scene.text("SELECT count(*) FROM gizer_spool").await, "0");
}

async fn open(target: &Target) -> Result<PgSpool, PgError> {
    PgSpool::open(target, &identity("rs0"), u64::MAX).await
}

/// As [`open`], once the server has noticed that the connection before is gone.
async fn open_again(target: &Target) -> PgSpool {
    let free = wait_for("the lock to be free", LIMIT, async || match open(target).await {
        Err(PgError::Locked { .. }) => None,
        outcome => Some(outcome),
    });
    free.await.unwrap().unwrap()
}

fn ends(spool: &PgSpool) -> Option<(Positions, Positions)> {
    spool.span().map(|(start, reached)| (start.clone(), reached.clone()))
}

#[tokio::test]
async fn two_runs_never_write_one_spool() {
    let scene = Scene::new().await;
    let mut first = open(&scene.target()).await.unwrap();
    first.trim(Some(&at(1))).await.unwrap();
    let error = open(&scene.target()).await.unwrap_err();
    assert!(matches!(&error, PgError::Locked { holder: Some(_), .. }), "{error:?}");
    // As a pooler may do, or an operator: the lock is gone, and the first run does not know.
    scene.sql("UPDATE gizer_spool_span SET epoch = epoch + 1").await;
    let error = first.append(b"two", Some(&at(2))).await.unwrap_err();
    assert!(matches!(error, PgError::Fenced { .. }), "{error:?}");
    assert_eq!(scene.text("SELECT count(*) FROM gizer_spool").await, "0");
    assert_eq!(ends(&first), Some((at(1), at(1))));
    let error = first.trim(Some(&at(3))).await.unwrap_err();
    assert!(matches!(error, PgError::Fenced { .. }), "{error:?}");
}

/// What version 1 has spooled are oplog entries, which nothing reads any more.
#[tokio::test]
async fn tables_of_the_first_version_are_replaced() {
    let scene = Scene::new().await;
    scene
        .sql(
            "CREATE TABLE gizer_spool_span ( \
                 spool BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE, owner TEXT, shard TEXT, database TEXT, \
                 epoch BIGINT NOT NULL DEFAULT 0, start BIGINT[], reached BIGINT[], bytes BIGINT NOT NULL DEFAULT 0, \
                 PRIMARY KEY (owner, shard, database)); \
             CREATE TABLE gizer_spool ( \
                 spool BIGINT, seconds BIGINT, increment BIGINT, term BIGINT NOT NULL, entry BYTEA NOT NULL, \
                 PRIMARY KEY (spool, seconds, increment)); \
             INSERT INTO gizer_spool_span (owner, shard, database, start, reached, bytes) \
                 VALUES ('db:5432/app public', 'rs0', 'shop', '{1,7,3}', '{2,7,3}', 100); \
             INSERT INTO gizer_spool VALUES (1, 2, 7, 3, 'two')",
        )
        .await;
    let mut spool = open(&scene.target()).await.unwrap();
    assert_eq!(ends(&spool), None, "it starts over");
    spool.trim(Some(&at(3))).await.unwrap();
    spool.append(b"four", Some(&at(4))).await.unwrap();
    drop(spool);
    let spool = open_again(&scene.target()).await;
    assert_eq!((ends(&spool), spool.read(0).await.unwrap()), (Some((at(3), at(4))), Some(b"four".to_vec())));
    // One of a later version is none either.
    drop(spool);
    scene.sql("UPDATE gizer_spool_span SET version = 3").await;
    let mut spool = open_again(&scene.target()).await;
    assert_eq!(ends(&spool), None);
    spool.trim(Some(&at(5))).await.unwrap();
    drop(spool);
    assert_eq!(ends(&open_again(&scene.target()).await), Some((at(5), at(5))));
}

#[tokio::test]
async fn the_schema_is_made_where_it_may_be_and_asked_for_where_not() {
    let mut scene = Scene::new().await;
    scene.schema = "Kept \"aside\"".to_owned();
    let role = unique_name("keeper");
    let stranger = scene.role(&role).await;
    let error = open(&stranger).await.unwrap_err();
    assert!(matches!(error, PgError::NoRights { .. }), "{error:?}");
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("CREATE SCHEMA \"Kept \"\"aside\"\"\" AUTHORIZATION"), "{remedy}");
    scene.sql(remedy.strip_prefix("run as the owner: ").unwrap()).await;
    open(&stranger).await.unwrap();

    // Where it may: the superuser's own.
    scene.schema = "another".to_owned();
    let mut spool = open(&scene.target()).await.unwrap();
    spool.trim(Some(&at(1))).await.unwrap();
    // The tables are there, and somebody else's.
    let stranger = Target::parse(&scene.server.uri_as(&role, "pw", &scene.database), "another").unwrap();
    let error = open(&stranger).await.unwrap_err();
    scene.sql(error.remedy().unwrap().strip_prefix("run as the owner: ").unwrap().split(';').next().unwrap()).await;
    drop(spool);
    let error = open(&stranger).await.unwrap_err();
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON"), "{remedy}");
    scene.sql(remedy.strip_prefix("run as the owner: ").unwrap()).await;
    assert_eq!(ends(&open_again(&stranger).await), Some((at(1), at(1))));
}

#[tokio::test]
async fn another_relation_of_its_name_is_left_alone() {
    let scene = Scene::new().await;
    scene.sql("CREATE VIEW gizer_spool AS SELECT 1").await;
    let error = open(&scene.target()).await.unwrap_err();
    assert!(matches!(error, PgError::ForeignTable { .. }), "{error:?}");
}

#[tokio::test]
async fn what_was_spooled_survives_a_server_that_is_killed() {
    let server = Postgres::builder().durable().start().await.unwrap();
    let database = server.create_database().await.unwrap();
    let target = Target::parse(&server.uri(&database), "public").unwrap();
    let mut spool = open(&target).await.unwrap();
    spool.trim(Some(&at(1))).await.unwrap();
    spool.append(b"two", Some(&at(3))).await.unwrap();
    server.kill().unwrap();
    let error = spool.append(b"four", Some(&at(4))).await.unwrap_err();
    assert!(error.is_connection_lost(), "{error:?}");
    assert_eq!(ends(&spool), Some((at(1), at(3))), "what was not written does not count");
    server.restart().await.unwrap();
    let spool = open(&target).await.unwrap();
    assert_eq!(ends(&spool), Some((at(1), at(3))));
    assert_eq!(spool.read(0).await.unwrap(), Some(b"two".to_vec()));
}
