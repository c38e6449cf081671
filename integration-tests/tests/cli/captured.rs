//! What is touched while a load runs is spooled: nothing that changes meanwhile is lost, and what is lost is said.

use std::path::PathBuf;
use std::time::Duration;

use bson::{Document, doc};
use futures::TryStreamExt;
use gizer_engine::spool::{FileSpool, Spool, SpoolIdentity, file_name};
use gizer_flatten::change::{ClusterTime, Positions, SourcePosition};
use gizer_oplog::OplogPosition as Position;
use integration_tests::rig::{Mongod, Version, shared_mongod, shared_postgres, wait_until};
use mongodb::Collection;
use mongodb::options::{CollectionOptions, WriteConcern};
use serde_json::json;

use super::compared::assert_same_tables;
use super::interruptions::{ORDERS, assert_untouched, filled_after_a_load, held_with, loaded_once};
use super::place::{Place, assert_says};
use super::touched::{changes_of_page, spooled_changes, touch_of_change, touches_of_entry};

const LIMIT: Duration = Duration::from_secs(60);

/// Entries that [`write`] makes of the collection that is loaded.
const ENTRIES: usize = 7;

/// One round of writes to the collection that is being loaded.
async fn write(place: &Place, round: i32) {
    let options = CollectionOptions::builder().write_concern(WriteConcern::majority()).build();
    let orders = place.mongo.collection_with_options::<Document>("orders", options);
    let id = |n: i32| format!("round {round}, number {n}");
    // A load rejects what has another type of _id, so that its counts do not depend on how much of this it meets.
    for n in 0..5 {
        orders.insert_one(doc! {"_id": id(n)}).await.unwrap();
    }
    orders.update_one(doc! {"_id": id(0)}, doc! {"$set": {"note": "changed"}}).await.unwrap();
    orders.delete_one(doc! {"_id": id(1)}).await.unwrap();
}

fn log(place: &Place) -> Collection<Document> {
    place.mongo.client().database("local").collection("oplog.rs")
}

fn position(entry: &Document) -> Position {
    let ts = entry.get_timestamp("ts").unwrap();
    let time = ClusterTime { seconds: ts.time, increment: ts.increment };
    // The first entry of a new server has no term.
    Position { time, term: entry.get_i64("t").unwrap_or(-1) }
}

fn namespace(place: &Place) -> String {
    format!("{}.orders", place.mongo.name())
}

/// The position of the last write to the collection.
async fn last_write(place: &Place) -> Position {
    let of_orders = doc! {"ns": namespace(place)};
    position(&log(place).find_one(of_orders).sort(doc! {"$natural": -1}).await.unwrap().unwrap())
}

/// What the log says was touched of the database, as the driver reads it.
async fn logged(place: &Place, after: Position, to: Position) -> Vec<String> {
    let time = |at: Position| bson::Timestamp { time: at.time.seconds, increment: at.time.increment };
    let range = doc! {"ts": {"$gt": time(after), "$lte": time(to)}};
    let entries: Vec<Document> =
        log(place).find(range).sort(doc! {"$natural": 1}).await.unwrap().try_collect().await.unwrap();
    entries.iter().flat_map(|entry| touches_of_entry(entry, place.mongo.name())).collect()
}

/// A position in `gizer_collection`.
async fn recorded(place: &Place, column: &str) -> Option<Position> {
    let rows = place.rows(&format!("SELECT {column} AS at FROM gizer_collection WHERE collection = 'orders'")).await;
    let at = rows[0]["at"].get("rs0")?;
    let at: SourcePosition = at.as_str().unwrap().parse().unwrap();
    Some(Position::of(&at).unwrap())
}

/// What a spool has.
struct Spooled {
    start: Position,
    reached: Position,
    touched: Vec<String>,
}

fn identity(place: &Place) -> SpoolIdentity {
    let (server, database) = place.postgres_uri.split_once('@').unwrap().1.split_once('/').unwrap();
    let owner = format!("{server}/{database} public");
    SpoolIdentity { owner, source: "rs0".into(), database: place.mongo.name().into() }
}

fn spool_file(place: &Place) -> PathBuf {
    place.gizer.folder().join("spool").join(file_name(&identity(place)))
}

/// Another name of the spool file, under which it outlives the load.
fn linked_file(place: &Place) -> PathBuf {
    place.gizer.folder().join("linked.spool")
}

fn link_spool(place: &Place) {
    std::fs::hard_link(spool_file(place), linked_file(place)).unwrap();
}

/// The files that loads have left.
fn spool_files(place: &Place) -> usize {
    std::fs::read_dir(place.gizer.folder().join("spool")).unwrap().count()
}

/// What the spool file has after a position, as of now; once the load is done, what its other name has.
async fn spooled(place: &Place, after: Position) -> Spooled {
    let path = Some(spool_file(place)).filter(|path| path.exists()).unwrap_or_else(|| linked_file(place));
    // The load holds the file itself.
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("copy.spool");
    std::fs::copy(path, &copied).unwrap();
    let spool = FileSpool::open(&copied, &identity(place), u64::MAX).unwrap();
    let of = |positions: &Positions| Position::of(&positions["rs0"]).unwrap();
    let span = spool.span().expect("a spool beside the config file");
    let changes = spooled_changes(&spool).await;
    let after = changes.iter().filter(|change| change.position > after.into());
    let touched = after.filter_map(touch_of_change).collect();
    Spooled { start: of(&span.start), reached: of(&span.reached), touched }
}

/// Waits until the spool of a load under way has everything that was written so far.
async fn caught_up(place: &Place, after: Position) {
    let last = last_write(place).await;
    wait_until("the spool to catch up", LIMIT, async || spooled(place, after).await.reached >= last).await.unwrap();
}

/// Checks that all that the log says was touched is there, with so many rounds of [`write`] among it.
async fn assert_whole(place: &Place, touched: &[String], after: Position, reached: Position, rounds: usize) {
    assert!(reached >= last_write(place).await, "it ends before the last write");
    let logged = logged(place, after, reached).await;
    assert_eq!(touched, logged);
    let of_a_round = |line: &&String| line.contains(&format!(" {} ", namespace(place))) && line.contains("round ");
    assert_eq!(touched.iter().filter(of_a_round).count(), rounds * ENTRIES);
}

async fn shared() -> Place {
    loaded_once(shared_mongod(Version::V6_0).await.unwrap(), shared_postgres().await.unwrap()).await
}

/// A server whose oplog is soon full.
async fn small_oplog(version: Version) -> Mongod {
    Mongod::builder(version).oplog_mb(16).arg("--syncdelay").arg("1").start().await.unwrap()
}

/// A place on such a server.
async fn small_log(version: Version) -> (Mongod, Place) {
    let mongod = small_oplog(version).await;
    let place = loaded_once(&mongod, shared_postgres().await.unwrap()).await;
    (mongod, place)
}

/// The position of the oldest entry of the log; `None` if it was taken away just now.
async fn oldest(place: &Place) -> Option<Position> {
    log(place).find_one(doc! {}).sort(doc! {"$natural": 1}).await.ok()?.as_ref().map(position)
}

/// Writes into a database until the log has nothing left that was written before now.
async fn roll_over(place: &Place, database: &str) {
    let last = position(&log(place).find_one(doc! {}).sort(doc! {"$natural": -1}).await.unwrap().unwrap());
    let filler = place.mongo.client().database(database).collection::<Document>("filler");
    let padding = "x".repeat(8 << 20);
    let write = async || {
        // In the _id, so that a spool of this database has it, too; a larger one does not fit in the server's small cache.
        let id = format!("{} {}", bson::oid::ObjectId::new(), &padding[..1 << 20]);
        filler
            .insert_one(doc! {"_id": id, "padding": &padding[..4 << 20]})
            .write_concern(WriteConcern::majority())
            .await
            .unwrap();
        oldest(place).await > Some(last)
    };
    wait_until("the log to roll over", LIMIT, write).await.unwrap();
}

/// Enough for the documents of [`write`].
const REJECTING: [&str; 2] = ["--max-rejects", "100"];

async fn assert_loaded(place: &Place) {
    assert_eq!(place.number("SELECT count(*) FROM orders").await, i64::try_from(ORDERS).unwrap());
    let state = place.rows("SELECT state, live FROM gizer_collection").await;
    assert_eq!(state, [json!({"state": "following", "live": true})]);
}

/// What was touched since the load began has been read again: the tables equal the collection at a later position.
async fn assert_aligned(place: &Place, captured: Position) {
    let applied_to = recorded(place, "captured").await;
    assert!(applied_to > Some(captured), "{applied_to:?} > {captured:?}");
    assert_eq!(recorded(place, "exact_at").await, applied_to);
}

#[tokio::test]
async fn what_is_written_during_a_load_is_in_the_spool() {
    let place = shared().await;
    let (running, holder) = held_with(&place, &REJECTING).await;
    let captured = recorded(&place, "load_captured").await.unwrap();
    write(&place, 1).await;
    caught_up(&place, captured).await;
    assert_eq!(spool_files(&place), 1);
    link_spool(&place);
    drop(holder);
    running.wait().await.unwrap().expect_code(0);

    assert_loaded(&place).await;
    assert_aligned(&place, captured).await;
    assert_eq!(spool_files(&place), 0, "it is gone after the load");
    let Spooled { start, reached, touched } = spooled(&place, captured).await;
    assert!(start <= captured);
    assert_whole(&place, &touched, captured, reached, 1).await;
}

#[tokio::test]
async fn a_load_that_goes_on_has_what_was_written_while_nobody_looked() {
    let place = shared().await;
    let (running, holder) = held_with(&place, &REJECTING).await;
    let captured = recorded(&place, "load_captured").await.unwrap();
    write(&place, 1).await;
    caught_up(&place, captured).await;
    running.kill().await.unwrap();
    drop(holder);
    let before = spooled(&place, captured).await;
    write(&place, 2).await;

    let (running, holder) = held_with(&place, &REJECTING).await;
    write(&place, 3).await;
    caught_up(&place, captured).await;
    link_spool(&place);
    drop(holder);
    let finished = running.wait().await.unwrap().expect_code(0);
    assert!(finished.stderr.contains("orders: resuming after"), "{}", finished.stderr);
    assert_loaded(&place).await;
    assert_aligned(&place, captured).await;
    let Spooled { start, reached, touched } = spooled(&place, captured).await;
    assert_eq!(start, before.start, "it was continued");
    assert_whole(&place, &touched, captured, reached, 3).await;
}

/// Kills a load half-way, lets the log roll over, and gives what the next load says.
async fn next_after_a_gap(place: &Place, in_between: impl FnOnce(&Place)) -> String {
    let (running, holder) = held_with(place, &[]).await;
    let captured = recorded(place, "load_captured").await.unwrap();
    running.kill().await.unwrap();
    drop(holder);
    assert!(spooled(place, captured).await.start <= captured, "the spool reaches back as long as it is there");
    in_between(place);
    roll_over(place, "filler").await;
    let finished = place.gizer(&["load"]).await.expect_code(0);
    let anew = recorded(place, "captured").await.unwrap();
    assert!(anew > captured);
    assert_eq!(spool_files(place), 0, "it is gone after the load");
    assert_loaded(place).await;
    finished.stderr
}

#[tokio::test]
async fn a_load_starts_over_where_spool_and_log_are_gone() {
    let (_mongod, place) = small_log(Version::V6_0).await;
    let said = next_after_a_gap(&place, |place| std::fs::remove_file(spool_file(place)).unwrap()).await;
    assert!(said.contains("neither the oplog nor its spool reaches back") && said.contains("starting over"), "{said}");
    assert!(!said.contains("resuming after"), "{said}");
}

#[tokio::test]
async fn a_load_starts_over_where_the_log_has_left_its_spool_behind() {
    let (_mongod, place) = small_log(Version::V4_4).await;
    let said = next_after_a_gap(&place, |_| {}).await;
    assert!(said.contains("neither the oplog nor its spool reaches back") && said.contains("starting over"), "{said}");
    assert!(!said.contains("resuming after"), "{said}");
}

/// Gives the spool the form in which gizer 0.1 wrote it: oplog entries, which nothing reads any more.
fn make_first_version(place: &Place) {
    let mut bytes = b"GIZSPOOL".to_vec();
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&[0x55; 4_000]);
    std::fs::write(spool_file(place), bytes).unwrap();
}

#[tokio::test]
async fn a_load_with_a_spool_of_the_first_version_goes_on_where_the_log_reaches_back() {
    let place = shared().await;
    let (running, holder) = held_with(&place, &REJECTING).await;
    let captured = recorded(&place, "load_captured").await.unwrap();
    running.kill().await.unwrap();
    drop(holder);
    make_first_version(&place);
    write(&place, 1).await;
    let finished = place.gizer(&["load", "--max-rejects", "100"]).await.expect_code(0);
    assert!(finished.stderr.contains("orders: resuming after"), "{}", finished.stderr);
    assert_loaded(&place).await;
    assert_aligned(&place, captured).await;
}

#[tokio::test]
async fn a_load_with_a_spool_of_the_first_version_starts_over_where_it_does_not() {
    let (_mongod, place) = small_log(Version::V6_0).await;
    let said = next_after_a_gap(&place, make_first_version).await;
    assert!(said.contains("neither the oplog nor its spool reaches back") && said.contains("starting over"), "{said}");
}

#[tokio::test]
async fn a_log_that_rolls_over_under_a_load_does_no_harm() {
    let (_mongod, place) = small_log(Version::V5_0).await;
    let (running, holder) = held_with(&place, &REJECTING).await;
    let captured = recorded(&place, "load_captured").await.unwrap();
    write(&place, 1).await;
    caught_up(&place, captured).await;
    let expected = logged(&place, captured, last_write(&place).await).await;
    roll_over(&place, "filler").await;
    link_spool(&place);
    drop(holder);
    running.wait().await.unwrap().expect_code(0);
    assert_loaded(&place).await;
    assert_aligned(&place, captured).await;
    let touched = spooled(&place, captured).await.touched;
    assert!(touched.starts_with(&expected), "{} of {} touches", touched.len(), expected.len());
}

#[tokio::test]
async fn a_load_whose_changes_are_lost_is_not_swapped_in() {
    let (_mongod, place) = small_log(Version::V6_0).await;
    let (running, holder) = held_with(&place, &["--load-spool-limit", "32MiB"]).await;
    // Of this database, so that it is spooled: more than there is room for.
    let database = place.mongo.name().to_owned();
    for _ in 0..12 {
        roll_over(&place, &database).await;
    }
    running.wait_for_output("load.spool_limit is reached").await.unwrap();
    roll_over(&place, &database).await;
    drop(holder);
    let lost = running.wait().await.unwrap();
    assert_says(
        &lost,
        3,
        &["orders was loaded, but the oplog has rolled over", "nothing is swapped in", "spool_limit"],
    );
    assert_untouched(&place).await;
    let finished = place.gizer(&["load"]).await.expect_code(0);
    assert!(finished.stderr.contains("starting over"), "{}", finished.stderr);
    assert_loaded(&place).await;
}

/// A database of another server than the target's, as far as gizer knows, for the spool of a place.
struct Cache(tokio_postgres::Client);

impl Cache {
    /// Names it in the place's config file.
    async fn of(place: &Place) -> Cache {
        let postgres = shared_postgres().await.unwrap();
        let name = postgres.create_database().await.unwrap();
        let (client, uri) = (postgres.client(&name).await.unwrap(), postgres.uri(&name));
        let config = std::fs::read_to_string(place.gizer.config_path()).unwrap();
        std::fs::write(place.gizer.config_path(), format!("{config}[cache]\nuri = {uri:?}\n")).unwrap();
        Cache(client)
    }

    /// From where to where the log is covered.
    async fn span(&self) -> (Position, Position) {
        let row =
            self.0.query_one("SELECT start ->> 'rs0', reached ->> 'rs0' FROM gizer_spool_span", &[]).await.unwrap();
        let [start, reached] = [0, 1].map(|i| row.get::<_, &str>(i).parse::<SourcePosition>().unwrap());
        (Position::of(&start).unwrap(), Position::of(&reached).unwrap())
    }

    /// Waits until it has everything that was written so far.
    async fn caught_up(&self, place: &Place) {
        let last = last_write(place).await;
        wait_until("the spool to catch up", LIMIT, async || self.span().await.1 >= last).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_postgresql_takes_the_place_of_the_file() {
    let place = Place::shared(Version::V6_0).await;
    let cache = Cache::of(&place).await;
    let place = filled_after_a_load(place).await;

    let (running, holder) = held_with(&place, &REJECTING).await;
    let captured = recorded(&place, "load_captured").await.unwrap();
    write(&place, 1).await;
    cache.caught_up(&place).await;
    let (start, reached) = cache.span().await;
    assert!(start <= captured);
    let pages = cache.0.query("SELECT records FROM gizer_spool ORDER BY page", &[]).await.unwrap();
    let changes = pages.iter().flat_map(|row| changes_of_page(row.get::<_, Vec<u8>>(0)));
    let ours = |position: &SourcePosition| *position > captured.into() && *position <= reached.into();
    let touched: Vec<String> =
        changes.filter(|change| ours(&change.position)).filter_map(|change| touch_of_change(&change)).collect();
    assert_whole(&place, &touched, captured, reached, 1).await;
    drop(holder);
    running.wait().await.unwrap().expect_code(0);

    assert_loaded(&place).await;
    let left = cache.0.query_one("SELECT count(*) FROM gizer_spool", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0, "it is gone after the load");
    assert!(!place.gizer.folder().join("spool").exists(), "there is a file too");
    assert_eq!(place.number("SELECT count(*) FROM pg_class WHERE relname LIKE 'gizer_spool%'").await, 0);
}

/// Changes and deletes documents that the load has read, and others that it has not.
async fn touch(place: &Place) {
    let orders = place.mongo.collection::<Document>("orders");
    for order in [1, -1] {
        let change = doc! {"$set": {"status": "touched", "currency": null}};
        orders.find_one_and_update(doc! {}, change).sort(doc! {"_id": order}).await.unwrap().unwrap();
    }
    orders.delete_one(doc! {"status": {"$ne": "touched"}}).await.unwrap();
}

#[tokio::test]
async fn a_log_that_rolls_over_under_a_load_does_no_harm_to_one_that_is_spooled_in_postgresql() {
    let mongod = small_oplog(Version::V5_0).await;
    let place = Place::on(&mongod, shared_postgres().await.unwrap()).await;
    let cache = Cache::of(&place).await;
    let place = filled_after_a_load(place).await;
    let (running, holder) = held_with(&place, &REJECTING).await;
    let captured = recorded(&place, "load_captured").await.unwrap();
    touch(&place).await;
    cache.caught_up(&place).await;
    roll_over(&place, "filler").await;
    drop(holder);
    running.wait().await.unwrap().expect_code(0);

    assert_aligned(&place, captured).await;
    let state = place.rows("SELECT state, live FROM gizer_collection").await;
    assert_eq!(state, [json!({"state": "following", "live": true})]);
    let rows = place.number("SELECT count(*) FROM orders").await;
    assert_eq!(rows, i64::try_from(ORDERS).unwrap() - 1, "the one that was deleted is gone");
    place.postgres.batch_execute("CREATE SCHEMA fresh").await.unwrap();
    place.gizer(&["load", "--postgres-schema", "fresh"]).await.expect_code(0);
    assert_same_tables(&place, "public", "fresh").await;
}

#[tokio::test]
async fn a_spool_that_cannot_be_written_is_told_before_anything_is_read() {
    let place = Place::shared(Version::V5_0).await;
    place.insert("orders", [doc! {"_id": 1}]).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    place.insert("orders", [doc! {"_id": 2}]).await;
    let state = "SELECT to_jsonb(c)::text, (SELECT count(*) FROM qmetlstatus) FROM gizer_collection c";
    let before = place.rows(state).await;
    // Root too cannot make a folder inside of a file.
    let said = place.gizer(&["load", "--load-spool-dir", "gizer.toml/spool"]).await;
    assert_says(&said, 2, &["gizer.toml/spool", "help:", "spool_dir under [load]"]);
    let unreachable = ["load", "--cache-uri", "postgresql://me:hunter2@127.0.0.1:9/cache", "--run-retry-for", "0"];
    let said = place.gizer(&unreachable).await;
    assert_says(&said, 1, &["[cache]", "127.0.0.1:9/cache", "help:"]);
    assert_eq!(place.rows(state).await, before);
    assert_untouched(&place).await;
}
