use bson::doc;
use gizer_flatten::change::{Edit, EditAction};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn position() -> impl Strategy<Value = SourcePosition> {
    (any::<u32>(), any::<u32>(), vec(any::<u8>(), 0..20))
        .prop_map(|(seconds, increment, place)| SourcePosition::new(ClusterTime { seconds, increment }, &place))
}

/// Few names, so that they come up again.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", Just(String::new()), Just("ü.x".to_owned()), "[a-z]{200}"]
}

fn namespace() -> impl Strategy<Value = Namespace> {
    (name(), name()).prop_map(|(database, collection)| Namespace { database, collection })
}

fn uuid() -> impl Strategy<Value = Option<[u8; 16]>> {
    prop_oneof![Just(None), Just(Some([7; 16])), any::<[u8; 16]>().prop_map(Some)]
}

fn key() -> impl Strategy<Value = Bytes> {
    let id = prop_oneof![any::<i64>().prop_map(bson::Bson::from), name().prop_map(bson::Bson::from)];
    id.prop_map(|id| doc! { "_id": id }.to_vec().unwrap().into())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        name().prop_map(Step::Field),
        any::<u32>().prop_map(Step::Index),
        (0..20_u32).prop_map(|index| Step::FieldOrIndex { name: format!("0{index}"), index }),
    ]
}

fn kind() -> impl Strategy<Value = ChangeKind> {
    let edits = prop_oneof![Just(Edits::Unknown), vec(vec(step(), 0..4), 0..4).prop_map(Edits::Paths)];
    prop_oneof![
        key().prop_map(|document| ChangeKind::Insert { document }),
        key().prop_map(|document| ChangeKind::Replace { document }),
        (key(), edits).prop_map(|(key, edits)| ChangeKind::Update { key, edits }),
        key().prop_map(|key| ChangeKind::Delete { key }),
        prop::sample::select(vec![ChangeKind::Create, ChangeKind::Drop, ChangeKind::DropDatabase, ChangeKind::Rewrite]),
        (namespace(), uuid()).prop_map(|(to, dropped)| ChangeKind::Rename { to, dropped }),
    ]
}

fn record() -> impl Strategy<Value = SpoolRecord> {
    let mark = (position(), btree_map(name(), position(), 0..3));
    let change = (name(), position(), namespace(), uuid(), any::<bool>(), kind());
    prop_oneof![
        mark.prop_map(|(at, positions)| SpoolRecord::Mark(SpoolMark { time: at.time(), positions })),
        change.prop_map(|(shard, position, namespace, uuid, from_migrate, kind)| {
            let (shard, namespace) = (shard.into(), namespace.into());
            SpoolRecord::Change(Change { shard, position, namespace, uuid, from_migrate, kind })
        }),
    ]
}

fn page_of(records: &[SpoolRecord]) -> Page {
    let mut writer = PageWriter::default();
    for record in records {
        match record {
            SpoolRecord::Change(change) => writer.change(change).unwrap(),
            SpoolRecord::Mark(mark) => writer.mark(mark),
        }
    }
    assert_eq!(writer.is_marked(), matches!(records.last(), Some(SpoolRecord::Mark(_))));
    writer.take()
}

fn all(page: Vec<u8>) -> Result<Vec<SpoolRecord>, MalformedRecord> {
    let mut reader = RecordReader::new(page.into());
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(records)
}

proptest! {
    #[test]
    fn records_read_back(records in vec(record(), 0..20)) {
        let page = page_of(&records);
        let reached = match records.last() {
            Some(SpoolRecord::Mark(mark)) => Some(mark.positions.clone()),
            _ => None,
        };
        prop_assert_eq!(&page.reached, &reached);
        prop_assert_eq!(all(page.records), Ok(records));
    }

    /// What is damaged is noticed by a page's checksum; what is read of it all the same must be harmless.
    #[test]
    fn damage_is_an_error_or_other_records(records in vec(record(), 1..6), at: prop::sample::Index, bit in 0..8_u8, cut: bool) {
        let mut page = page_of(&records).records;
        let at = at.index(page.len());
        if cut { page.truncate(at) } else { page[at] ^= 1 << bit }
        let _ = all(page);
    }
}

fn change(kind: ChangeKind) -> Change {
    let namespace = Namespace { database: "shop".to_owned(), collection: "orders".to_owned() };
    let (shard, position) =
        ("rs0".into(), SourcePosition::of_first_version(ClusterTime { seconds: 7, increment: 1 }, 3));
    Change { shard, position, namespace: namespace.into(), uuid: Some([7; 16]), from_migrate: false, kind }
}

/// Documents do not end up on a disk on which nobody expects them.
#[test]
fn no_value_is_spooled() {
    let secret = doc! { "_id": 1, "name": "secret" }.to_vec().unwrap();
    let value: Bytes = doc! { "": "secret" }.to_vec().unwrap().into();
    let (key, path): (Bytes, _) = (doc! { "_id": 1 }.to_vec().unwrap().into(), vec![Step::Field("name".to_owned())]);
    let edits = vec![
        Edit { path: path.clone(), action: EditAction::Set(value.clone()) },
        Edit { path: path.clone(), action: EditAction::Insert(value) },
    ];
    let changes = [
        ChangeKind::Insert { document: secret.clone().into() },
        ChangeKind::Replace { document: secret.into() },
        ChangeKind::Update { key: key.clone(), edits: Edits::Diff(edits.clone()) },
        ChangeKind::Update { key: key.clone(), edits: Edits::Modifiers(edits) },
    ];
    let page = page_of(&changes.map(|kind| SpoolRecord::Change(change(kind)))).records;
    assert!(!page.windows(6).any(|part| part == b"secret"));
    let paths = Edits::Paths(vec![path.clone(), path]);
    let expected = [
        ChangeKind::Insert { document: key.clone() },
        ChangeKind::Replace { document: key.clone() },
        ChangeKind::Update { key: key.clone(), edits: paths.clone() },
        ChangeKind::Update { key, edits: paths },
    ];
    assert_eq!(all(page), Ok(expected.map(|kind| SpoolRecord::Change(change(kind))).to_vec()));
}

#[test]
fn a_touch_is_small() {
    let key: Bytes = doc! { "_id": bson::oid::ObjectId::new() }.to_vec().unwrap().into();
    let page =
        |count: usize| page_of(&vec![SpoolRecord::Change(change(ChangeKind::Delete { key: key.clone() })); count]);
    assert!(page(2).records.len() - page(1).records.len() <= 40);
}

#[test]
fn what_no_mark_covers_is_cut_and_what_has_no_id_is_not_taken() {
    let mut writer = PageWriter::default();
    writer.change(&change(ChangeKind::Create)).unwrap();
    writer.mark(&SpoolMark::default());
    let marked = writer.len();
    writer.change(&change(ChangeKind::Drop)).unwrap();
    assert!(!writer.is_marked());
    writer.cut_to_mark();
    assert_eq!((writer.len(), writer.take().reached), (marked, Some(Positions::new())));
    assert!(writer.is_empty());
    let without = doc! { "x": 1 }.to_vec().unwrap().into();
    assert_eq!(writer.change(&change(ChangeKind::Insert { document: without })), None);
    assert!(writer.is_empty());
}
