//! What a log says was touched, and what a spool has of it, as text: made of the entries without any code of gizer's.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bson::{Bson, Document};
use gizer_engine::spool::{Cursor, RecordReader, Spool, SpoolRecord};
use gizer_flatten::change::{Change, ChangeKind};
use gizer_schema::raw::RawDoc;

/// One line for each document of a database that an entry touches, and for each collection that it makes or drops: time, operation,
/// namespace and `_id`. Transactions must be of one entry and not prepared.
pub(crate) fn touches_of_entry(entry: &Document, database: &str) -> Vec<String> {
    let ts = entry.get_timestamp("ts").unwrap();
    let line = |operation: &str, namespace: &str, id: Option<&Bson>| {
        let id = id.map(ToString::to_string).unwrap_or_default();
        format!("{}.{} {operation} {namespace} {id}", ts.time, ts.increment)
    };
    let of_operation = |each: &Document| {
        let (operation, namespace) = (each.get_str("op").unwrap(), each.get_str("ns").unwrap());
        if !namespace.starts_with(&format!("{database}.")) {
            return None;
        }
        let (o, o2) = (each.get_document("o").unwrap(), each.get_document("o2").ok());
        if operation == "c" {
            let (command, name) = o.iter().next().unwrap();
            let namespace = format!("{database}.{}", name.as_str().unwrap_or_default());
            return ["create", "drop"].contains(&command.as_str()).then(|| line(command, &namespace, None));
        }
        let id = o.get("_id").or_else(|| o2?.get("_id"));
        ["i", "u", "d"].contains(&operation).then(|| line(operation, namespace, id))
    };
    match entry.get_document("o").and_then(|o| o.get_array("applyOps")) {
        Ok(operations) => operations.iter().filter_map(|each| of_operation(each.as_document().unwrap())).collect(),
        Err(_) => of_operation(entry).into_iter().collect(),
    }
}

/// The same line for a change; `None` of those that have none there.
pub(crate) fn touch_of_change(change: &Change) -> Option<String> {
    let (operation, id) = match &change.kind {
        ChangeKind::Insert { document } => ("i", Some(document)),
        ChangeKind::Replace { document } => ("u", Some(document)),
        ChangeKind::Update { key, .. } => ("u", Some(key)),
        ChangeKind::Delete { key } => ("d", Some(key)),
        ChangeKind::Create => ("create", None),
        ChangeKind::Drop => ("drop", None),
        _ => return None,
    };
    let id = id.map(|id| Document::from_reader(&id[..]).unwrap().get("_id").unwrap().to_string());
    let time = change.position.time();
    Some(format!("{}.{} {operation} {} {}", time.seconds, time.increment, change.namespace, id.unwrap_or_default()))
}

/// All changes of a spool.
pub(crate) async fn spooled_changes(spool: &dyn Spool) -> Vec<Change> {
    let (mut cursor, mut changes) = (Cursor::default(), Vec::new());
    while let Some((page, next)) = spool.read(cursor).await.unwrap() {
        changes.extend(changes_of_page(page));
        cursor = next;
    }
    changes
}

/// All changes of a page.
pub(crate) fn changes_of_page(page: impl Into<bytes::Bytes>) -> Vec<Change> {
    let (mut reader, mut changes) = (RecordReader::new(page.into()), Vec::new());
    while let Some(record) = reader.next_record().unwrap() {
        if let SpoolRecord::Change(change) = record {
            assert!(change.uuid.is_some() || matches!(change.kind, ChangeKind::DropDatabase), "{change:?}");
            if let ChangeKind::Insert { document } | ChangeKind::Replace { document } = &change.kind {
                assert_eq!(RawDoc::new(document).unwrap().elements().count(), 1, "only the _id");
            }
            changes.push(change);
        }
    }
    changes
}
