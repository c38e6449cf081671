//! What is touched is spooled while something else takes its time.

use std::error::Error;

use bson::{Document, doc};
use gizer_cli::config::Config;
use gizer_engine::spool::{Capture, CaptureEnd, FileSpool, PostgresSpool, Spool, file_name};
use gizer_engine::{Failure, FailureKind, Servers};
use gizer_flatten::change::Positions;
use gizer_oplog::OplogPosition;
use gizer_oplog::{Cluster, MongoError, MongoSettings, Oplog, OplogTail, TailOptions, newest_positions};
use integration_tests::rig::{Mongod, Version, shared_postgres, unique_name, wait_for, wait_until};
use mongodb::options::WriteConcern;
use mongodb::{Client, Database};
use tempfile::TempDir;

use super::tail::{log_between, only_oplog, roll_over, small_log};
use super::touched::{spooled_changes, touch_of_change, touches_of_entry};
use super::{LIMIT, Outcome, Shop, numbered, on_each_version};

on_each_version!(all_that_matters_is_spooled_through_a_crash, a_log_that_rolls_over_has_been_spooled,);

/// A target that is named in the spool, and never connected to.
const TARGET: &str = "postgresql://user:secret@127.0.0.1:1/app";

/// What was touched, and how far that goes.
type Spooled = (Vec<String>, OplogPosition);

/// The position of the one shard.
fn oplog_position(positions: &Positions) -> OplogPosition {
    OplogPosition::of(&positions["rs0"]).expect("a position of an oplog")
}

/// A configuration in a folder of its own, and what it leads to.
struct Scene {
    folder: TempDir,
    config: Config,
    oplogs: Vec<Oplog>,
    client: Client,
    database: Database,
}

impl Scene {
    async fn new(mongod: &Mongod, database: &str, more: &str) -> Result<Scene, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let uri = mongod.uri();
        let text = format!(
            "[mongo]\nuri = {uri:?}\ndatabase = {database:?}\n[postgres]\nuri = {TARGET:?}\nschema = \"copy\"\n{more}"
        );
        let path = folder.path().join("gizer.toml");
        std::fs::write(&path, text)?;
        let config = Config::read(Some(&path), |_| Vec::new(), |_| None)?;
        let client = mongod.client().await?;
        let database = client.database(database);
        Ok(Scene { folder, config, oplogs: vec![only_oplog(&uri).await?], client, database })
    }

    async fn start(&self, needed: Option<&Positions>) -> Result<Capture, Failure> {
        Capture::start(self.config.spools()?, &self.oplogs, needed).await
    }

    /// As [`Scene::start`], once what was dropped has let go of the spool.
    async fn start_after_a_crash(&self, needed: &Positions) -> Result<Capture, Box<dyn Error>> {
        let start = wait_for("the spool to be free", LIMIT, async || match self.start(Some(needed)).await {
            Err(failure) if failure.kind == FailureKind::Locked => None,
            outcome => Some(outcome),
        });
        Ok(start.await??)
    }

    async fn insert(&self, documents: Vec<Document>) -> Result<(), mongodb::error::Error> {
        self.database
            .collection("orders")
            .insert_many(documents)
            .write_concern(WriteConcern::majority())
            .await
            .map(drop)
    }

    async fn newest(&self) -> Result<OplogPosition, MongoError> {
        self.oplogs[0].newest().await
    }

    /// Waits until a capture has kept all that is in the log now.
    async fn caught_up(&self, capture: &Capture) -> Outcome {
        let newest = self.newest().await?;
        Ok(wait_until("the capture to catch up", LIMIT, async || capture.reached()["rs0"] >= newest.into()).await?)
    }

    /// What the spool file holds after a position, and how far it reaches, as of now.
    async fn spooled(&self, after: OplogPosition) -> Result<Spooled, Box<dyn Error>> {
        let identity = self.config.spools()?.identity(&self.oplogs);
        // A capture that goes on holds the file itself.
        let copy = self.folder.path().join("copy.spool");
        std::fs::copy(self.folder.path().join("spool").join(file_name(&identity)), &copy)?;
        let spool = FileSpool::open(&copy, &identity, u64::MAX)?;
        self.held_by(&spool, after).await
    }

    async fn held_by(&self, spool: &dyn Spool, after: OplogPosition) -> Result<Spooled, Box<dyn Error>> {
        let reached = oplog_position(&spool.span().ok_or("a spool")?.reached);
        let changes = spooled_changes(spool).await;
        let after = changes.iter().filter(|change| change.position > after.into());
        Ok((after.filter_map(touch_of_change).collect(), reached))
    }

    /// What the log says was touched of this database.
    async fn logged(&self, after: OplogPosition, to: OplogPosition) -> Result<Vec<String>, Box<dyn Error>> {
        let entries = log_between(&self.client, after, to).await?;
        let entries = entries.iter().map(|bytes| Document::from_reader(bytes.as_slice()));
        let touched = |entry: Document| touches_of_entry(&entry, self.database.name());
        Ok(entries.collect::<Result<Vec<_>, _>>()?.into_iter().flat_map(touched).collect())
    }

    /// One round of all kinds of writes, to this database and another.
    async fn write(&self, round: i32) -> Outcome {
        let ids =
            |document: Document| doc! { "_id": format!("{round} {}", document["_id"]), "x": &document["padding"] };
        self.insert(numbered(300, 2_000).into_iter().map(ids).collect()).await?;
        let orders = self.database.collection::<Document>("orders");
        orders.update_many(doc! {}, doc! { "$inc": { "count": 1 } }).await?;
        let other = self.client.database(&unique_name("other"));
        other.collection("orders").insert_many(numbered(100, 100)).await?;
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        for document in numbered(3, 50) {
            let document = doc! { "_id": format!("{round} in transaction {}", document["_id"]) };
            orders.insert_one(document).session(&mut session).await?;
        }
        session.commit_transaction().await?;
        self.database.collection::<Document>("gone").insert_one(doc! { "_id": 1 }).await?;
        self.database.collection::<Document>("gone").drop().await?;
        other.drop().write_concern(WriteConcern::majority()).await?;
        Ok(())
    }
}

async fn all_that_matters_is_spooled_through_a_crash(version: Version) -> Outcome {
    let shop = Shop::new(version).await?;
    let scene = Scene::new(shop.mongod, shop.database.name(), "").await?;
    scene.write(0).await?;
    let capture = scene.start(None).await?;
    let (t0, start) = (capture.t0().clone(), capture.start_positions().clone());
    assert!(start["rs0"] <= t0["rs0"] && capture.reaches(&t0));
    scene.write(1).await?;
    scene.caught_up(&capture).await?;
    drop(capture);
    scene.write(2).await?;

    let capture = scene.start_after_a_crash(&t0).await?;
    assert!(capture.reaches(&t0));
    assert_eq!(*capture.start_positions(), start, "it was continued");
    scene.write(3).await?;
    scene.caught_up(&capture).await?;
    let report = capture.stop().await?;
    assert!(report.is_whole(), "{report:?}");
    let (spooled, reached) = scene.spooled(oplog_position(&start)).await?;
    assert_eq!(reached, oplog_position(&report.span.reached));
    assert!(report.changes > 300 && report.bytes > 10_000, "{report:?}");
    let logged = scene.logged(oplog_position(&start), reached).await?;
    assert!(logged.len() > 1_500, "{}", logged.len());
    assert!(spooled == logged, "{} touches were spooled, {} are in the log", spooled.len(), logged.len());
    // Nothing torn and nothing repeated for whoever goes on from the middle either.
    let middle = oplog_position(&t0);
    assert!(scene.spooled(middle).await?.0 == scene.logged(middle, reached).await?);

    // Nobody needs what it holds: it starts over.
    let capture = scene.start(None).await?;
    assert!(capture.start_positions()["rs0"] >= reached.into() && !capture.reaches(&t0));
    Ok(())
}

async fn a_log_that_rolls_over_has_been_spooled(version: Version) -> Outcome {
    let mongod = small_log(version).start().await?;
    let scene = Scene::new(&mongod, "shop", "").await?;
    let oplog = &scene.oplogs[0];
    let capture = scene.start(None).await?;
    let t0 = capture.t0().clone();
    let padding = "x".repeat(4 << 20);
    let mut ids = 0;
    while oplog.oldest().await?.time <= t0["rs0"].time() {
        scene.insert(vec![doc! { "_id": ids, "padding": &padding }]).await?;
        ids += 1;
        scene.caught_up(&capture).await?;
    }
    let error =
        OplogTail::open(oplog, oplog_position(&t0), TailOptions::default()).await.expect_err("it has rolled over");
    assert!(matches!(error, MongoError::RolledOver { .. }), "{error}");
    drop(capture);
    // The log itself still holds where the spool ends.
    let capture = scene.start_after_a_crash(&t0).await?;
    assert!(capture.reaches(&t0));
    scene.insert(vec![doc! { "_id": ids }]).await?;
    scene.caught_up(&capture).await?;
    assert!(capture.stop().await?.is_whole());
    let touched = scene.spooled(oplog_position(&t0)).await?.0;
    let inserted = touched.iter().filter_map(|line| line.split_once(" i shop.orders ")?.1.parse().ok());
    assert_eq!(inserted.collect::<Vec<i32>>(), (0..=ids).collect::<Vec<i32>>());

    // Spool gone and log gone: it starts over, and says so.
    let end = scene.newest().await?;
    roll_over(&scene.client, oplog, end).await?;
    let capture = scene.start(Some(&t0)).await?;
    assert!(!capture.reaches(&t0) && capture.start_positions()["rs0"] > end.into());
    assert!(capture.reaches(capture.t0()));
    Ok(())
}

#[tokio::test]
async fn without_a_spool_it_begins_where_it_is_needed_if_the_log_goes_back_so_far() -> Outcome {
    let shop = Shop::new(Version::V6_0).await?;
    let scene = Scene::new(shop.mongod, shop.database.name(), "").await?;
    scene.insert(numbered(1, 50)).await?;
    let needed = Positions::from([("rs0".to_owned(), scene.newest().await?.into())]);
    scene.insert(vec![doc! { "_id": "after" }]).await?;
    let capture = scene.start(Some(&needed)).await?;
    assert!(capture.reaches(&needed) && capture.t0()["rs0"] > needed["rs0"]);
    scene.caught_up(&capture).await?;
    let reached = oplog_position(&capture.stop().await?.span.reached);
    let needed = oplog_position(&needed);
    assert!(scene.spooled(needed).await?.0 == scene.logged(needed, reached).await?);
    Ok(())
}

/// One that begins later would leave what lies before it to the log alone.
#[tokio::test]
async fn a_spool_that_begins_later_than_needed_starts_over_while_the_log_goes_back_so_far() -> Outcome {
    let shop = Shop::new(Version::V6_0).await?;
    let scene = Scene::new(shop.mongod, shop.database.name(), "").await?;
    scene.write(0).await?;
    let needed = Positions::from([("rs0".to_owned(), scene.newest().await?.into())]);
    scene.write(1).await?;
    let later = scene.start(None).await?;
    scene.caught_up(&later).await?;
    assert!(!later.reaches(&needed));
    drop(later);

    let capture = scene.start_after_a_crash(&needed).await?;
    assert!(capture.reaches(&needed) && capture.start_positions() == &needed);
    scene.caught_up(&capture).await?;
    let reached = oplog_position(&capture.stop().await?.span.reached);
    let needed = oplog_position(&needed);
    assert!(scene.spooled(needed).await?.0 == scene.logged(needed, reached).await?);
    Ok(())
}

#[tokio::test]
async fn a_limit_that_is_reached_is_told_and_what_is_there_stays() -> Outcome {
    let shop = Shop::new(Version::V5_0).await?;
    let scene = Scene::new(shop.mongod, shop.database.name(), "[load]\nspool_limit = \"32MiB\"\n").await?;
    let capture = scene.start(None).await?;
    let t0 = capture.t0().clone();
    let padding = "x".repeat(8 << 20);
    for id in 0..5 {
        scene.insert(vec![doc! { "_id": format!("{id} {padding}") }]).await?;
    }
    wait_until("the limit to be reached", LIMIT, async || !capture.reaches(&t0)).await?;
    let report = capture.stop().await?;
    assert!(matches!(report.end, CaptureEnd::LimitReached) && !report.is_whole(), "{report:?}");
    assert!(report.bytes <= 32 << 20 && report.bytes > 16 << 20, "{report:?}");
    let (spooled, reached) = scene.spooled(oplog_position(&t0)).await?;
    assert_eq!(reached, oplog_position(&report.span.reached));
    assert!(spooled == scene.logged(oplog_position(&t0), reached).await?);
    Ok(())
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_spool_is_told_with_what_helps() -> Outcome {
    let shop = Shop::new(Version::V6_0).await?;
    let scene = Scene::new(shop.mongod, shop.database.name(), "").await?;
    let _other_run = scene.start(None).await?;
    let failure = scene.start(None).await.expect_err("it is in use");
    assert_eq!(failure.kind, FailureKind::Locked);

    let scene = Scene::new(shop.mongod, shop.database.name(), "[load]\nspool_dir = \"gizer.toml/spool\"\n").await?;
    let failure = scene.start(None).await.expect_err("a folder inside of a file");
    assert_eq!(failure.kind, FailureKind::Usage);
    assert!(failure.message.contains("gizer.toml/spool") && !failure.message.contains("secret"), "{failure}");
    assert!(failure.remedy.ok_or("a remedy")?.contains("spool_dir under [load]"));
    Ok(())
}

/// Its decision comes after the start, and leads back to an entry that lies before it.
#[tokio::test]
async fn a_transaction_that_was_prepared_before_the_start_is_spooled_as_a_whole() -> Outcome {
    let mongod = Mongod::builder(Version::V6_0).set_parameter("enableTestCommands", "1").start().await?;
    let scene = Scene::new(&mongod, "shop", "").await?;
    scene.insert(numbered(1, 50)).await?;
    let (admin, orders) = (scene.client.database("admin"), scene.database.collection("orders"));
    let mut session = scene.client.start_session().await?;
    session.start_transaction().await?;
    orders.insert_one(doc! { "_id": "prepared" }).session(&mut session).await?;
    let prepare = doc! { "prepareTransaction": 1, "writeConcern": { "w": "majority" } };
    let time = *admin
        .run_command(prepare)
        .session(&mut session)
        .await?
        .get("prepareTimestamp")
        .ok_or("a time")?
        .as_timestamp()
        .as_ref()
        .ok_or("a timestamp")?;
    scene.insert(vec![doc! { "_id": "beside" }]).await?;

    let capture = scene.start(None).await?;
    assert!(capture.start_positions()["rs0"] < capture.t0()["rs0"]);
    admin.run_command(doc! { "commitTransaction": 1, "commitTimestamp": time }).session(&mut session).await?;
    scene.insert(vec![doc! { "_id": "after" }]).await?;
    scene.caught_up(&capture).await?;
    let start = oplog_position(capture.start_positions());
    let inserted =
        scene.spooled(start).await?.0.into_iter().filter_map(|line| Some(line.split_once(" i ")?.1.to_owned()));
    assert_eq!(
        inserted.collect::<Vec<String>>(),
        ["beside", "prepared", "after"].map(|id| format!("shop.orders {id:?}"))
    );
    Ok(())
}

#[tokio::test]
async fn it_is_in_a_second_postgresql_where_there_is_one() -> Outcome {
    let shop = Shop::new(Version::V4_4).await?;
    let postgres = shared_postgres().await?;
    let cache = postgres.uri(&postgres.create_database().await?);
    let scene = Scene::new(shop.mongod, shop.database.name(), &format!("[cache]\nuri = {cache:?}\n")).await?;
    let capture = scene.start(None).await?;
    let (t0, start) = (capture.t0().clone(), capture.start_positions().clone());
    scene.write(1).await?;
    scene.caught_up(&capture).await?;
    drop(capture);
    scene.write(2).await?;
    let capture = scene.start_after_a_crash(&t0).await?;
    assert_eq!((capture.reaches(&t0), capture.start_positions()), (true, &start));
    scene.caught_up(&capture).await?;

    // Its connection is lost: that ends the capture, and is in the report.
    let target = gizer_pg::Target::parse(&cache, "copy")?;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let database = cache.rsplit('/').next().unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    postgres.client(&database).await?.batch_execute(end).await?;
    scene.write(3).await?;
    wait_until("the capture to break off", LIMIT, async || !capture.reaches(&t0)).await?;
    let report = capture.stop().await?;
    let CaptureEnd::BrokenOff(failure) = &report.end else { return Err(format!("{report:?}").into()) };
    assert!(failure.message.contains("[cache]"), "{failure}");

    let identity = scene.config.spools()?.identity(&scene.oplogs);
    let spool = PostgresSpool::open(&target, &identity, u64::MAX).await?;
    assert_eq!(spool.span().ok_or("a spool")?, report.span);
    let begun = oplog_position(&start);
    let (spooled, reached) = scene.held_by(&spool, begun).await?;
    assert!(spooled.len() > 1_000, "{}", spooled.len());
    assert!(spooled == scene.logged(begun, reached).await?, "what was spooled differs from the log");
    assert!(!scene.folder.path().join("spool").exists());
    Ok(())
}

#[tokio::test]
async fn the_shards_share_one_spool() -> Outcome {
    let set = |name: &str| Mongod::builder(Version::V6_0).repl_set_name(name).start();
    let (a, b) = tokio::try_join!(set("rs-a"), set("rs-b"))?;
    let scene = Scene::new(&a, "shop", "").await?;
    let uris = vec![a.uri().parse()?, b.uri().parse()?];
    let cluster = Cluster::connect(MongoSettings { uris, database: "shop".into(), oplogs: vec![] }).await?;
    let oplogs = cluster.oplogs().await?;
    let capture = Capture::start(scene.config.spools()?, &oplogs, None).await?;
    let t0 = capture.t0().clone();
    assert_eq!(t0.keys().collect::<Vec<&String>>(), ["rs-a", "rs-b"]);
    scene.insert(numbered(10, 50)).await?;
    let other = b.client().await?.database("shop").collection("orders");
    other.insert_many(numbered(20, 50)).write_concern(WriteConcern::majority()).await?;
    let newest = newest_positions(&oplogs).await?;
    wait_until("both to catch up", LIMIT, async || {
        let reached = capture.reached();
        newest.iter().all(|(shard, position)| reached[shard] >= *position)
    })
    .await?;
    let mut unknown = t0.clone();
    unknown.insert("rs-c".to_owned(), OplogPosition::default().into());
    assert!(capture.reaches(&t0) && !capture.reaches(&unknown));
    let report = capture.stop().await?;
    assert!(report.is_whole());
    assert_eq!(report.span.reached.keys().collect::<Vec<&String>>(), ["rs-a", "rs-b"]);
    // The collections' creation and the documents; what a fresh server makes for itself is of other databases.
    assert_eq!(report.changes, 32, "{report:?}");
    assert_eq!(std::fs::read_dir(scene.folder.path().join("spool"))?.count(), 1);
    Ok(())
}
