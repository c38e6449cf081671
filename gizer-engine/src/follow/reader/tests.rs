//! The reader against doubles of its source and its look-up; each test is the writer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::doc;
use bytes::Bytes;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::{Change, ChangeKind, Edit, EditAction, Edits, Namespace, Positions, SourcePosition, Step};
use gizer_oplog::{ChangeEvent, WatchedCollection};
use gizer_schema::{Layout, file};
use gizer_verify::ReadBack;
use tokio::time::timeout;

use super::*;
use crate::follow::batch::Mark;
use crate::follow::channels::{Turn, channels};
use crate::follow::layout::LayoutSlot;
use crate::observer::NoObserver;

/// A limit for everything that should take moments.
const LIMIT: Duration = Duration::from_secs(20);

/// What a source does next.
enum Act {
    Give(ChangeEvent),
    Rest(Duration),
    /// Somebody replaces the layout meanwhile.
    Replace(LayoutSlot, Arc<Layout>),
}

/// A source that gives what it was told to, and nothing more.
struct Script(VecDeque<Act>);

impl ChangeSource for Script {
    async fn next(&mut self) -> Result<ChangeEvent, MongoError> {
        loop {
            match self.0.front() {
                Some(Act::Rest(pause)) => tokio::time::sleep(*pause).await,
                Some(_) => {}
                None => std::future::pending().await,
            }
            match self.0.pop_front() {
                Some(Act::Give(event)) => return Ok(event),
                Some(Act::Replace(slot, layout)) => slot.replace(layout),
                _ => {}
            }
        }
    }
}

/// A look-up of a collection that is empty.
struct NoDocuments {
    hides_deletions: bool,
}

impl LookUp for NoDocuments {
    async fn begin(&mut self, _: &WatchedCollection, _: Vec<WantedId>, _: ReadAt) -> Result<(), MongoError> {
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<DocumentBatch>, MongoError> {
        Ok(None)
    }

    fn hides_deletions(&self) -> bool {
        self.hides_deletions
    }

    fn read_until(&self) -> ClusterTime {
        ClusterTime::default()
    }
}

const UUID: [u8; 16] = [7; 16];

fn time(seconds: u32) -> ClusterTime {
    ClusterTime { seconds, increment: 1 }
}

fn positions(seconds: u32) -> Positions {
    BTreeMap::from([("rs0".to_owned(), SourcePosition::new(time(seconds), &[1]))])
}

fn watermark(seconds: u32) -> Act {
    let (time, positions) = (time(seconds), positions(seconds));
    Act::Give(ChangeEvent::Watermark { time, positions, read_to: time })
}

fn namespace() -> Namespace {
    Namespace { database: "shop".to_owned(), collection: "orders".to_owned() }
}

/// An update of the field `l` of a document.
fn update(seconds: u32) -> Act {
    let key = Bytes::from(doc! {"_id": 1}.to_vec().unwrap());
    let edits = Edits::Diff(vec![Edit { path: vec![Step::Field("l".to_owned())], action: EditAction::Unset }]);
    Act::Give(ChangeEvent::Change(Change {
        shard: "rs0".into(),
        position: SourcePosition::new(time(seconds), &[1]),
        namespace: Arc::new(namespace()),
        uuid: Some(UUID),
        from_migrate: false,
        kind: ChangeKind::Update { key, edits },
    }))
}

fn layout(schema: &str) -> Arc<Layout> {
    Arc::new(Layout::new(&file::parse("orders", schema).unwrap()).unwrap())
}

fn collector(slot: LayoutSlot, acts: Vec<Act>) -> Collector<Script> {
    let watched = WatchedCollection { namespace: namespace(), uuids: BTreeMap::from([("rs0".to_owned(), UUID)]) };
    let orders = FollowedCollection::new(slot, watched, positions(0), None);
    let mark = Mark { time: time(0), positions: positions(0), read_to: time(0) };
    Collector::new(Script(acts.into()), vec![orders], mark, 1)
}

fn reader(acts: Vec<Act>, hides_deletions: bool) -> ChangeReader<'static, Script, NoDocuments> {
    let collector = collector(LayoutSlot::new(layout(r#"{"_id": "INT", "l": ["INT"]}"#)), acts);
    let settings = FollowSettings {
        batch_documents: 1,
        part_bytes: 1,
        checks: ReadBack::All.into(),
        max_repairs: 1,
        logs_unfit: false,
        max_rejects: 1,
    };
    ChangeReader::new(collector, NoDocuments { hides_deletions }, &[], settings, None, Arc::new(NoObserver))
}

fn repairs() -> Repairs {
    let id = Some(Bytes::from(doc! {"_id": 2}.to_vec().unwrap()));
    Repairs::from([(0, vec![RepairKey { key: vec![2], id }])])
}

#[tokio::test]
async fn a_round_ends_with_the_repairs_that_the_writer_names() {
    let mut reader = reader(vec![watermark(5)], false);
    let (end, mut writer) = channels();
    let writing = async {
        assert!(matches!(writer.next().await, Some(Delivery::Mark { must: false, .. })));
        assert!(matches!(writer.next().await, Some(Delivery::Turn(Turn::Repairs))));
        writer.send_repairs(repairs()).await;
        let Some(Delivery::Documents(documents)) = writer.next().await else { panic!("no documents") };
        assert_eq!((documents.repairs, documents.is_last), (repairs().remove(&0).unwrap(), true));
        let Some(Delivery::End(whole)) = writer.next().await else { panic!("no end") };
        assert_eq!((whole.batch.repairs, whole.mark.time), (repairs(), time(5)));
        // Only now may there be more.
        assert!(matches!(writer.next().await, Some(Delivery::Turn(Turn::Repairs))));
        writer.send_repairs(Repairs::new()).await;
        assert!(matches!(writer.next().await, Some(Delivery::Mark { must: true, .. })));
        assert!(writer.next().await.is_none());
    };
    let both = async { tokio::join!(reader.run(Until::Time(time(5)), || false, end), writing) };
    timeout(LIMIT, both).await.unwrap().0.unwrap();
}

#[tokio::test]
async fn changes_go_on_while_an_answer_about_repairs_is_owed() {
    let acts = (1..200).flat_map(|at| [Act::Rest(Duration::from_millis(50)), update(at), watermark(at)]);
    let mut reader = reader(acts.collect(), true);
    let (end, mut writer) = channels();
    let stop = AtomicBool::new(false);
    let writing = async {
        let (mut owed, mut ends) = (false, 0);
        loop {
            match writer.next().await.expect("it goes on") {
                Delivery::Turn(Turn::Repairs) => {
                    assert!(!owed, "a second turn before the answer to the first");
                    owed = true;
                }
                // The other kind is answered meanwhile.
                Delivery::Turn(Turn::StoredIds(0)) => writer.send_stored(Some(Vec::new())).await,
                Delivery::End(whole) if whole.batch.repairs.is_empty() => ends += u32::from(owed),
                Delivery::End(whole) => {
                    assert!(whole.batch.touched.is_empty(), "repairs are a batch of their own");
                    break;
                }
                _ => {}
            }
            if owed && ends == 3 {
                owed = false;
                writer.send_repairs(repairs()).await;
            }
        }
        stop.store(true, Ordering::Relaxed);
        drop(writer);
    };
    let reading = reader.run(Until::Stopped, || stop.load(Ordering::Relaxed), end);
    timeout(LIMIT, async { tokio::join!(reading, writing) }).await.unwrap().0.unwrap();
}

#[tokio::test]
async fn reading_ends_where_the_writer_has_ended() {
    let mut reader = reader(vec![watermark(5)], false);
    let (end, mut writer) = channels();
    let writing = async {
        while !matches!(writer.next().await, Some(Delivery::Turn(Turn::Repairs))) {}
        drop(writer);
    };
    let both = async { tokio::join!(reader.run(Until::Time(time(5)), || false, end), writing) };
    timeout(LIMIT, both).await.unwrap().0.unwrap();
}

#[tokio::test]
async fn a_newer_layout_counts_from_the_next_batch_on() {
    let slot = LayoutSlot::new(layout(r#"{"_id": "INT", "m": ["INT"]}"#));
    let replace = Act::Replace(slot.clone(), layout(r#"{"_id": "INT", "m": ["INT"], "l": ["INT"]}"#));
    let acts = vec![update(1), replace, update(1), watermark(1), update(2), watermark(2)];
    let mut collector = collector(slot, acts);
    let before = collector.next_batch(Until::Stopped, &|| false).await.unwrap();
    let old = collector.collection(0).layout().clone();
    let after = collector.next_batch(Until::Stopped, &|| false).await.unwrap();
    let new = collector.collection(0).layout().clone();
    assert!(new.is_newer_than(&old) && !old.is_newer_than(&new));
    assert_eq!((old.tables.len(), new.tables.len()), (2, 3));
    let tables = |batch: &Batch| match batch.touched[&0].wanted().next().unwrap().1 {
        Scope::All => panic!("an update of one field"),
        Scope::Tables(tables) => tables.len(),
    };
    // Only the newer one has a table for the list.
    assert_eq!((tables(&before), tables(&after)), (1, 2));
}
