//! What real servers have logged, decoded: `samples/` holds entries, each with what it says.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write;
use std::sync::Arc;

use bson::spec::BinarySubtype;
use bson::{Binary, Document, Timestamp, doc};
use gizer_flatten::change::{Change, ChangeKind, Edit, EditAction, Edits, Namespace, Step};
use gizer_oplog::OplogPosition;
use gizer_oplog::RawEntry;
use gizer_oplog::decode::{DecodeError, DecodedEntry, Operation, PieceEnd, decode};
use gizer_schema::raw::RawDoc;
use proptest::prelude::*;

const SAMPLES: [(&str, &str); 3] = [
    ("4.4", include_str!("samples/4.4.txt")),
    ("5.0", include_str!("samples/5.0.txt")),
    ("6.0", include_str!("samples/6.0.txt")),
];

/// An entry of a samples file: a line `#` with what was done, the entry in Extended JSON, and lines `>` with what it says.
struct Sample<'s> {
    title: &'s str,
    entry: Vec<u8>,
    says: Vec<&'s str>,
}

fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.split("\n\n").map(|block| {
        let mut lines = block.lines();
        let title = lines.next().and_then(|line| line.strip_prefix("# ")).unwrap();
        let entry: Document = serde_json::from_str(lines.next().unwrap()).unwrap();
        let says = lines.map(|line| line.strip_prefix("> ").unwrap()).collect();
        Sample { title, entry: entry.to_vec().unwrap(), says }
    })
}

#[test]
fn entries_of_real_servers_say_what_was_done() {
    for (version, text) in SAMPLES {
        let mut count = 0;
        for sample in samples(text) {
            let said = told(&sample.entry).unwrap_or_else(|error| panic!("{version} {}: {error}", sample.title));
            assert_eq!(said, sample.says, "{version} {}", sample.title);
            count += 1;
        }
        assert!(count > 80, "{version}: {count}");
    }
}

/// What an entry of these fields says; it gets a time.
fn told_of(fields: Document) -> Result<Vec<String>, DecodeError> {
    let mut entry = doc! { "ts": Timestamp { time: 7, increment: 1 }, "t": 3_i64 };
    entry.extend(fields);
    told(&entry.to_vec().unwrap())
}

/// What an update of these contents says about `{_id: 1}`.
fn update_told(update: Document) -> String {
    let entry = doc! { "op": "u", "ns": "shop.orders", "ui": uuid(), "o": update, "o2": { "_id": 1 } };
    let mut says = told_of(entry).unwrap();
    says.pop().unwrap().strip_prefix("update shop.orders { \"_id\": 1 }, ").unwrap().to_owned()
}

fn uuid() -> Binary {
    Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] }
}

fn command(command: Document) -> Document {
    doc! { "op": "c", "ns": "shop.$cmd", "ui": uuid(), "o": command }
}

fn insert(id: i32) -> Document {
    doc! { "op": "i", "ns": "shop.orders", "ui": uuid(), "o": { "_id": id } }
}

/// The fields that a transaction adds to its entries; `previous` is a time of term 3.
fn in_transaction(entry: Document, previous: Option<u32>) -> Document {
    let time = previous.map_or(Timestamp { time: 0, increment: 0 }, |time| Timestamp { time, increment: 1 });
    let mut all = doc! { "lsid": { "id": uuid() }, "txnNumber": 5_i64 };
    all.extend(entry);
    all.insert("prevOpTime", doc! { "ts": time, "t": previous.map_or(-1_i64, |_| 3) });
    all
}

#[test]
fn names_of_fields_never_decide() {
    let odd = doc! { "$set": 1, "d": 2, "u.v": 3, "": 4, "s": 5, "0": 6 };
    let diff =
        update_told(doc! { "$v": 2, "diff": { "d": { "$unset": false, "i": false }, "u": { "a": 1 }, "i": odd } });
    let wanted = "diff: -.$unset; -.i; .a = 1; +.$set = 1; +.d = 2; +.u.v = 3; +. = 4; +.s = 5; +.0 = 6";
    assert_eq!(diff, wanted);
    let diff =
        update_told(doc! { "$v": 2, "diff": { "s": { "su0": { "d": { "a": false } } }, "sa": { "u": { "l": 1 } } } });
    assert_eq!(diff, "diff: -..u0.a; .a.l = 1");
    // A whole document may hold what looks like an update.
    let replaced = doc! { "_id": 1, "$v": 2, "diff": { "x": 1 } };
    let entry = doc! { "op": "u", "ns": "shop.orders", "ui": uuid(), "o": replaced, "o2": { "_id": 1 } };
    assert_eq!(told_of(entry).unwrap(), [r#"replace shop.orders { "_id": 1 }"#]);
}

#[test]
fn arrays_have_places_in_diffs_and_perhaps_in_paths() {
    let inner = doc! { "a": true, "l": 2, "u0": { "x": 1 }, "s1": { "a": true, "s10": { "i": { "0": 1 } } } };
    let diff = update_told(doc! { "$v": 2, "diff": { "slist": inner } });
    assert_eq!(diff, r#"diff: .list of 2; .list[0] = { "x": 1 }; +.list[1][10].0 = 1"#);
    let paths = doc! { "a.01.b": 1, "a.4294967296": 2, "a.+1": 3, "7": 4 };
    assert_eq!(
        update_told(doc! { "$v": 1, "$set": paths, "$unset": { "a.b": true } }),
        "modifiers: .a.01?.b = 1; .a.4294967296 = 2; .a.+1 = 3; .7? = 4; -.a.b"
    );
}

#[test]
fn of_an_update_in_another_form_the_document_is_known() {
    let others = [
        doc! { "$v": 3, "diff": {} },
        doc! { "$v": 2, "diff": { "b": { "x": 1 } } },
        doc! { "$v": 2, "diff": { "sa": { "a": true, "ux": 1 } } },
        doc! { "$v": 2 },
        doc! { "$v": 1, "$set": { "a": 1 }, "$inc": { "b": 1 } },
        doc! { "$set": { "a.$[]": 1 } },
        doc! { "name": "all but the _id" },
        doc! {},
    ];
    for other in others {
        assert_eq!(update_told(other.clone()), "unknown", "{other}");
    }
}

#[test]
fn a_key_is_the_id_alone() {
    let criteria = doc! { "country": "fr", "_id": { "a": 1 }, "city": "x" };
    for entry in [
        doc! { "op": "d", "ns": "shop.a.b", "ui": uuid(), "o": criteria.clone() },
        doc! { "op": "u", "ns": "shop.a.b", "ui": uuid(), "o": { "$v": 2, "diff": {} }, "o2": criteria },
    ] {
        let says = told_of(entry).unwrap();
        assert!(says[0].contains(r#"shop.a.b { "_id": { "a": 1 } }"#), "{says:?}");
    }
}

#[test]
fn pieces_of_a_transaction_make_a_chain() {
    let piece = |operations: Vec<Document>, more: Document| {
        let mut all = doc! { "applyOps": operations };
        all.extend(more);
        command(all)
    };
    let first = in_transaction(piece(vec![insert(1)], doc! { "partialTxn": true }), None);
    assert_eq!(told_of(first).unwrap()[0], "transaction 5 of 30 bytes, more follows");
    let second = in_transaction(piece(vec![insert(2)], doc! { "partialTxn": true }), Some(4));
    assert_eq!(told_of(second).unwrap()[0], "transaction 5 of 30 bytes after Timestamp(4, 1) in term 3, more follows");
    let prepared = in_transaction(piece(vec![], doc! { "prepare": true, "count": 2_i64 }), Some(5));
    assert_eq!(told_of(prepared).unwrap(), ["transaction 5 of 30 bytes after Timestamp(5, 1) in term 3, prepared"]);
    let commit = command(doc! { "commitTransaction": 1, "commitTimestamp": Timestamp { time: 6, increment: 1 } });
    let said = told_of(in_transaction(commit.clone(), Some(6))).unwrap();
    assert_eq!(said, ["commit of 5, prepared at Timestamp(6, 1) in term 3"]);
    assert!(matches!(told_of(in_transaction(commit.clone(), None)), Err(DecodeError::Missing { .. })));
    assert!(matches!(told_of(commit), Err(DecodeError::Missing { .. })));
}

#[test]
fn what_a_session_may_try_again_is_no_chain() {
    // MongoDB 8.0 logs several such inserts as one entry.
    let mut entry = in_transaction(command(doc! { "applyOps": [insert(1), insert(2)] }), Some(4));
    entry.insert("multiOpType", 1);
    assert_eq!(told_of(entry).unwrap()[0], "together");
    let update = doc! { "op": "u", "ns": "shop.orders", "o": { "_id": 1 }, "o2": { "_id": 1 }, "stmtId": 0 };
    let said = told_of(in_transaction(update, Some(4))).unwrap();
    assert_eq!(said, [r#"replace shop.orders without a UUID { "_id": 1 }"#]);
    // By hand, `partialTxn` means nothing.
    let entry = command(doc! { "applyOps": [insert(1)], "partialTxn": true, "prepare": true });
    assert_eq!(told_of(entry).unwrap()[0], "together");
}

#[test]
fn operations_within_operations_stand_in_their_place() {
    let inner = command(doc! { "applyOps": [insert(2), command(doc! { "createIndexes": "orders" }), insert(3)] });
    let created = command(doc! { "create": "new", "capped": true });
    let all = vec![insert(1), inner, doc! { "op": "n", "ns": "", "o": {} }, created, insert(4)];
    let insert = |id| format!(r#"insert shop.orders {{ "_id": {id} }}"#);
    let wanted = ["together".into(), insert(1), insert(2), insert(3), "create shop.new".into(), insert(4)];
    assert_eq!(told_of(command(doc! { "applyOps": all })).unwrap(), wanted);
    let decided = command(doc! { "applyOps": [command(doc! { "commitTransaction": 1 })] });
    assert!(matches!(told_of(decided), Err(DecodeError::Missing { .. })));
}

#[test]
fn commands_that_may_change_documents_are_not_passed_over() {
    let says = |all: Document| told_of(command(all));
    assert_eq!(says(doc! { "emptycapped": "log" }).unwrap(), ["rewrite shop.log"]);
    assert_eq!(says(doc! { "convertToCapped": "log", "size": 1 }).unwrap(), ["rewrite shop.log"]);
    assert_eq!(says(doc! { "importCollection": "shop.log", "dryRun": false }).unwrap(), ["rewrite shop.log"]);
    let rename = doc! { "renameCollection": "shop.a", "to": "shop2.b.c", "dropTarget": true };
    assert_eq!(says(rename).unwrap(), ["rename shop.a to shop2.b.c"]);
    for without_data in ["createIndexes", "startIndexBuild", "abortIndexBuild", "collMod", "dropIndexes"] {
        assert_eq!(says(doc! { without_data: "orders" }).unwrap(), ["nothing"]);
    }
    // Its namespace is that of the collection, as no other command's is.
    assert_eq!(told_of(doc! { "op": "c", "ns": "shop.o", "o": { "dbCheck": "shop.o" } }).unwrap(), ["nothing"]);
    let unknown = says(doc! { "truncateRange": "shop.log" });
    assert_eq!(
        unknown.unwrap_err().to_string(),
        r#"expected a command that gizer knows in the oplog, found "truncateRange" on database "shop""#
    );
    let unknown = told_of(doc! { "op": "xi", "ns": "shop.o", "o": {} }).unwrap_err();
    assert_eq!(unknown, DecodeError::UnknownOperation { found: "xi".into() });
}

#[test]
fn a_collection_whose_name_is_no_text_is_nobodys() {
    let mut entry = doc! { "ts": Timestamp { time: 7, increment: 1 }, "op": "i", "ns": "shop.?", "o": { "_id": 1 } };
    let mut bytes = entry.to_vec().unwrap();
    let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
    bytes[at] = 0xFF;
    assert_eq!(told(&bytes).unwrap(), ["nothing"]);
    entry.insert("ns", "shop");
    assert!(matches!(told_of(entry), Err(DecodeError::Missing { .. })));
}

#[test]
fn a_diff_deeper_than_any_document_is_an_error() {
    let nested = |levels| (0..levels).fold(doc! { "u": { "x": 1 } }, |diff, _| doc! { "sa": diff });
    let entry = |levels| {
        let update = doc! { "$v": 2, "diff": nested(levels) };
        doc! { "op": "u", "ns": "shop.o", "ui": uuid(), "o": update, "o2": { "_id": 1 } }
    };
    assert!(told_of(entry(200)).is_ok());
    assert!(matches!(told_of(entry(1_100)), Err(DecodeError::Malformed(_))));
}

fn some_entry() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<Vec<u8>> = SAMPLES.iter().flat_map(|(_, text)| samples(text)).map(|sample| sample.entry).collect();
    prop::sample::select(all)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    /// Damage ends in an error or in something else that is said, never in a panic.
    #[test]
    fn damaged_entries_do_no_harm(
        mut entry in some_entry(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (at, byte) in flips {
            let at = at.index(entry.len());
            entry[at] = byte;
        }
        drop(walked(&entry));
    }

    /// A part of an entry is no entry, also if its length says so.
    #[test]
    fn entries_that_end_early_are_errors(entry in some_entry(), cut in any::<prop::sample::Index>()) {
        let mut entry = entry[..cut.index(entry.len())].to_vec();
        prop_assert!(walked(&entry).is_err());
        if let (len, Some(four)) = (entry.len() as i32, entry.first_chunk_mut()) {
            *four = len.to_le_bytes();
        }
        if let Some(last) = entry.last_mut() {
            *last = 0;
        }
        drop(walked(&entry));
    }
}

/// Decodes all that there is.
fn walked(entry: &[u8]) -> Result<(), DecodeError> {
    let entry = RawEntry::read(RawDoc::new(entry)?)?;
    let all = |operation: Operation<'_>| {
        operation.kind()?;
        operation.key()?;
        let namespace = Namespace { database: operation.database.into(), collection: operation.collection.into() };
        operation.to_change(&Arc::from("rs0"), entry.position(), Arc::new(namespace)).map(drop)
    };
    match decode(&entry)? {
        DecodedEntry::Operation(operation) => all(operation),
        DecodedEntry::Operations(piece) => piece.operations().try_for_each(|operation| all(operation?)),
        _ => Ok(()),
    }
}

/// All that an entry says, as text.
fn told(entry: &[u8]) -> Result<Vec<String>, DecodeError> {
    let entry = RawEntry::read(RawDoc::new(entry)?)?;
    Ok(match decode(&entry)? {
        DecodedEntry::Nothing => vec!["nothing".into()],
        DecodedEntry::Operation(operation) => vec![operation_told(&operation)?],
        DecodedEntry::Operations(piece) => {
            let mut head = match &piece.transaction {
                Some(id) => format!("transaction {} of {} bytes", id.number, id.session.len()),
                None => "together".to_owned(),
            };
            if let Some(previous) = piece.previous {
                write!(head, " after {} in term {}", previous.time, previous.term).unwrap();
            }
            head += match piece.end {
                PieceEnd::Partial => ", more follows",
                PieceEnd::Prepared => ", prepared",
                PieceEnd::Committed => "",
            };
            let operations = piece.operations().map(|operation| operation_told(&operation?));
            [Ok(head)].into_iter().chain(operations).collect::<Result<_, _>>()?
        }
        DecodedEntry::Commit { transaction, prepare } => {
            vec![format!("commit of {}, prepared at {} in term {}", transaction.number, prepare.time, prepare.term)]
        }
        DecodedEntry::Abort { transaction } => vec![format!("abort of {}", transaction.number)],
    })
}

fn operation_told(operation: &Operation<'_>) -> Result<String, DecodeError> {
    let kind = format!("{:?}", operation.kind()?);
    let kind = kind.split(' ').next().unwrap().to_lowercase();
    let (key, change) = (operation.key()?, change(operation)?);
    let mut text = format!("{kind} {}", change.namespace);
    if operation.uuid.is_none() {
        text += " without a UUID";
    }
    if change.from_migrate {
        text += " from a migration";
    }
    if let Some(key) = key {
        write!(text, " {}", document(&key)).unwrap();
    }
    Ok(match change.kind {
        ChangeKind::Update { edits: Edits::Diff(edits), .. } => text + ", diff:" + &edits_told(&edits),
        ChangeKind::Update { edits: Edits::Modifiers(edits), .. } => text + ", modifiers:" + &edits_told(&edits),
        ChangeKind::Update { edits: Edits::Unknown, .. } => text + ", unknown",
        ChangeKind::Rename { to, dropped } => {
            text + &format!(" to {to}{}", if dropped.is_some() { ", which is dropped" } else { "" })
        }
        _ => text,
    })
}

/// Decodes all of it, and looks whether all ways to it say the same.
fn change(operation: &Operation<'_>) -> Result<Change, DecodeError> {
    let namespace = Namespace { database: operation.database.into(), collection: operation.collection.into() };
    let change = operation.to_change(&Arc::from("rs0"), OplogPosition::default(), Arc::new(namespace))?;
    let key = match &change.kind {
        ChangeKind::Insert { document } | ChangeKind::Replace { document } => {
            let id =
                RawDoc::new(document)?.elements().find(|element| element.is_ok_and(|element| element.name == b"_id"));
            assert!(id.is_some());
            operation.key()?
        }
        ChangeKind::Update { key, .. } | ChangeKind::Delete { key } => Some(key.clone()),
        _ => None,
    };
    assert_eq!(key, operation.key()?);
    Ok(change)
}

fn edits_told(edits: &[Edit]) -> String {
    let one = |Edit { path, action }: &Edit| {
        let path: Vec<String> = path.iter().map(step_told).collect();
        let path = path.concat();
        match action {
            EditAction::Set(value) => format!(" {path} = {}", value_told(value)),
            EditAction::Insert(value) => format!(" +{path} = {}", value_told(value)),
            EditAction::Unset => format!(" -{path}"),
            EditAction::Resize(length) => format!(" {path} of {length}"),
        }
    };
    edits.iter().map(one).collect::<Vec<_>>().join(";")
}

fn step_told(step: &Step) -> String {
    match step {
        Step::Field(name) => format!(".{name}"),
        Step::Index(index) => format!("[{index}]"),
        Step::FieldOrIndex { name, index } => {
            assert_eq!(name.parse(), Ok(*index));
            format!(".{name}?")
        }
    }
}

fn document(bytes: &[u8]) -> Document {
    Document::from_reader(bytes).unwrap()
}

fn value_told(bytes: &[u8]) -> String {
    let document = document(bytes);
    assert_eq!(document.len(), 1);
    document.values().next().unwrap().to_string()
}
