//! The oplog, kept aside in PostgreSQL.

use gizer_flatten::change::ClusterTime;
use gizer_pg::spool::{PgSpool, PgSpoolIdentity, PgSpoolPlace, PgSpoolReader};
use gizer_pg::{PgError, Target};
use integration_tests::rig::{Postgres, unique_name, wait_for};

use crate::scene::{LIMIT, Scene};

fn at(seconds: u32) -> PgSpoolPlace {
    PgSpoolPlace { time: ClusterTime { seconds, increment: 7 }, term: 3 }
}

fn identity(shard: &str) -> PgSpoolIdentity {
    PgSpoolIdentity { owner: "db:5432/app public".into(), shard: shard.into(), database: "shop".into() }
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

async fn reader(target: &Target) -> PgSpoolReader {
    PgSpoolReader::open(target, &identity("rs0")).await.unwrap().expect("a spool")
}

/// What a reader gives by and by, to the end as of now.
async fn rest(reader: &mut PgSpoolReader) -> Vec<(PgSpoolPlace, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        let page = reader.next_page(10).await.unwrap();
        let Some(last) = page.last() else { return found };
        assert_eq!(reader.reached(), last.position);
        found.extend(page.into_iter().map(|each| (each.position, each.entry)));
    }
}

async fn all(target: &Target) -> Vec<(PgSpoolPlace, Vec<u8>)> {
    rest(&mut reader(target).await).await
}

#[tokio::test]
async fn what_was_kept_is_there_for_the_next_run() {
    let scene = Scene::new().await;
    let mut spool = open(&scene.target()).await.unwrap();
    assert_eq!(spool.span(), None);
    spool.begin(at(1)).await.unwrap();
    assert_eq!(spool.append(&[(at(2), b"two"), (at(3), b"\0three")], at(4)).await.unwrap(), 2);
    assert_eq!(spool.append(&[], at(5)).await.unwrap(), 0);
    assert_eq!(spool.span(), Some((at(1), at(5))));
    assert!(spool.is_dirty());
    drop(spool);
    let mut spool = open_again(&scene.target()).await;
    assert_eq!(spool.span(), Some((at(1), at(4))), "what was not synced is read again");
    spool.append(&[], at(5)).await.unwrap();
    spool.sync().await.unwrap();
    spool.append(&[(at(6), b"six")], at(6)).await.unwrap();
    drop(spool);
    let mut spool = open_again(&scene.target()).await;
    assert_eq!(spool.span(), Some((at(1), at(6))));
    let expected = [(at(2), b"two".to_vec()), (at(3), b"\0three".to_vec()), (at(6), b"six".to_vec())];
    assert_eq!(all(&scene.target()).await, expected);

    let other = PgSpool::open(&scene.target(), &identity("rs1"), u64::MAX).await.unwrap();
    assert_eq!(other.span(), None, "each shard has its own");
    spool.begin(at(9)).await.unwrap();
    assert_eq!((spool.span(), all(&scene.target()).await), (Some((at(9), at(9))), vec![]));
}

#[tokio::test]
async fn a_reader_gives_what_is_written_beside_it_and_nothing_behind_a_gap() {
    let scene = Scene::new().await;
    let target = scene.target();
    let look = async || PgSpoolReader::open(&target, &identity("rs0")).await.unwrap();
    assert!(look().await.is_none(), "no tables");
    let mut spool = open(&target).await.unwrap();
    assert!(look().await.is_none(), "it was never begun");
    spool.begin(at(1)).await.unwrap();
    spool.append(&[(at(2), b"two"), (at(3), b"three is longer than a page"), (at(4), b"four")], at(5)).await.unwrap();
    assert!(PgSpoolReader::open(&target, &identity("rs1")).await.unwrap().is_none(), "another shard's");

    let mut reader = reader(&target).await;
    assert_eq!((reader.start(), reader.reached()), (at(1), at(1)));
    assert_eq!(reader.next_page(1).await.unwrap()[0].position, at(2));
    // The writer is neither locked out nor fenced.
    spool.append(&[(at(6), b"six")], at(7)).await.unwrap();
    let positions: Vec<PgSpoolPlace> = rest(&mut reader).await.into_iter().map(|(position, _)| position).collect();
    assert_eq!((positions, reader.reached()), (vec![at(3), at(4), at(6)], at(7)));
    spool.append(&[], at(8)).await.unwrap();
    spool.sync().await.unwrap();
    assert_eq!((rest(&mut reader).await, reader.reached()), (vec![], at(8)));

    // It covers what comes after the reader, or it does not.
    spool.begin(at(7)).await.unwrap();
    assert_eq!((rest(&mut reader).await, reader.reached()), (vec![], at(8)));
    spool.append(&[(at(8), b"eight"), (at(9), b"nine")], at(9)).await.unwrap();
    assert_eq!((rest(&mut reader).await, reader.reached()), (vec![(at(9), b"nine".to_vec())], at(9)));
    spool.begin(at(10)).await.unwrap();
    spool.append(&[(at(11), b"eleven")], at(11)).await.unwrap();
    assert_eq!((rest(&mut reader).await, reader.reached()), (vec![], at(9)));
    assert_eq!((reader.start(), spool.span()), (at(1), Some((at(10), at(11)))));
    scene.sql("DELETE FROM gizer_spool_span").await;
    assert_eq!(rest(&mut reader).await, vec![]);
}

#[tokio::test]
async fn it_stops_at_its_limit_and_says_how_far_it_goes() {
    let scene = Scene::new().await;
    let mut spool = PgSpool::open(&scene.target(), &identity("rs0"), 1_000).await.unwrap();
    spool.begin(at(1)).await.unwrap();
    let entry = [1_u8; 300];
    let batch: Vec<(PgSpoolPlace, &[u8])> = (2..9).map(|n| (at(n), &entry[..])).collect();
    assert_eq!(spool.append(&batch, at(9)).await.unwrap(), 2);
    assert_eq!((spool.is_full(), spool.span()), (true, Some((at(1), at(3)))));
    assert_eq!(spool.append(&[(at(10), b"")], at(10)).await.unwrap(), 0);
    spool.sync().await.unwrap();
    drop(spool);
    assert_eq!(open_again(&scene.target()).await.span(), Some((at(1), at(3))));
}

#[tokio::test]
async fn two_runs_never_write_one_spool() {
    let scene = Scene::new().await;
    let mut first = open(&scene.target()).await.unwrap();
    first.begin(at(1)).await.unwrap();
    let error = open(&scene.target()).await.unwrap_err();
    assert!(matches!(&error, PgError::Locked { holder: Some(_), .. }), "{error:?}");
    // As a pooler may do, or an operator: the lock is gone, and the first run does not know.
    scene.sql("UPDATE gizer_spool_span SET epoch = epoch + 1").await;
    let error = first.append(&[(at(2), b"two")], at(2)).await.unwrap_err();
    assert!(matches!(error, PgError::Fenced { .. }), "{error:?}");
    assert_eq!(scene.text("SELECT count(*) FROM gizer_spool").await, "0");
    assert_eq!(first.span(), Some((at(1), at(1))));
    let error = first.begin(at(3)).await.unwrap_err();
    assert!(matches!(error, PgError::Fenced { .. }), "{error:?}");
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
    spool.begin(at(1)).await.unwrap();
    // The tables are there, and somebody else's.
    let stranger = Target::parse(&scene.server.uri_as(&role, "pw", &scene.database), "another").unwrap();
    let error = open(&stranger).await.unwrap_err();
    scene.sql(error.remedy().unwrap().strip_prefix("run as the owner: ").unwrap().split(';').next().unwrap()).await;
    drop(spool);
    let error = open(&stranger).await.unwrap_err();
    let remedy = error.remedy().unwrap();
    assert!(remedy.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON"), "{remedy}");
    scene.sql(remedy.strip_prefix("run as the owner: ").unwrap()).await;
    assert_eq!(open_again(&stranger).await.span(), Some((at(1), at(1))));
}

#[tokio::test]
async fn another_relation_of_its_name_is_left_alone() {
    let scene = Scene::new().await;
    scene.sql("CREATE VIEW gizer_spool AS SELECT 1").await;
    let error = open(&scene.target()).await.unwrap_err();
    assert!(matches!(error, PgError::ForeignTable { .. }), "{error:?}");
}

#[tokio::test]
async fn what_was_kept_survives_a_server_that_is_killed() {
    let server = Postgres::builder().durable().start().await.unwrap();
    let database = server.create_database().await.unwrap();
    let target = Target::parse(&server.uri(&database), "public").unwrap();
    let mut spool = open(&target).await.unwrap();
    spool.begin(at(1)).await.unwrap();
    spool.append(&[(at(2), b"two")], at(3)).await.unwrap();
    server.kill().unwrap();
    let error = spool.append(&[(at(4), b"four")], at(4)).await.unwrap_err();
    assert!(error.is_connection_lost(), "{error:?}");
    assert_eq!(spool.span(), Some((at(1), at(3))), "what was not written does not count");
    server.restart().await.unwrap();
    let spool = open(&target).await.unwrap();
    assert_eq!(spool.span(), Some((at(1), at(3))));
    assert_eq!(all(&target).await, [(at(2), b"two".to_vec())]);
}
