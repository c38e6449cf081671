//! What is decoded is what happened: changes from the log, applied to documents as they were, give documents as they are.

#[path = "../../../../gizer-flatten/tests/applied/mod.rs"]
mod applied;
mod random;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bson::{Document, RawDocumentBuf, Timestamp, doc};
use futures::TryStreamExt;
use gizer_flatten::change::{ChangeKind, Edit, EditAction, Edits, Namespace, Step};
use gizer_oplog::OplogPosition;
use gizer_oplog::RawEntry;
use gizer_oplog::decode::{DecodedEntry, Operation, OperationKind, PieceEnd, decode};
use gizer_schema::raw::RawDoc;
use integration_tests::rig::Version;
use mongodb::error::{Error, ErrorKind};
use mongodb::{ClientSession, Collection};

use self::random::Random;
use super::{Outcome, Shop, on_each_version};

on_each_version!(decoded_changes_lead_from_each_document_to_the_next);

/// Documents, and writes between two comparisons of all of them.
const DOCUMENTS: i32 = 40;
const WRITES: usize = 60;
const ROUNDS: usize = 100;

/// Also the order of fields must be the same.
#[allow(clippy::print_stdout, reason = "a failure can be repeated with its seed")]
async fn decoded_changes_lead_from_each_document_to_the_next(version: Version) -> Outcome {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    println!("seed {seed}");
    let mut bed = Bed::new(version, seed | 1).await?;
    for id in 0..DOCUMENTS {
        bed.write_anew(id, None).await?;
    }
    for round in 0..ROUNDS {
        for _ in 0..WRITES {
            bed.write().await?;
        }
        bed.follow().await?;
        bed.compare(round).await?;
    }
    println!("{:?}", bed.seen);
    let wanted: &[&str] = match version {
        Version::V4_4 => &["in an array or not", "unset"],
        _ => &["in an array", "insert", "unset", "resize", "below the root"],
    };
    for what in wanted.iter().chain(&["insert a document", "replace", "update", "delete", "transaction", "aside"]) {
        assert!(bed.seen.get(what).is_some_and(|times| *times > 10), "too little of {what}: {:?}", bed.seen);
    }
    Ok(())
}

/// A collection that is written to, and what following its log makes of it.
struct Bed {
    shop: Shop,
    collection: Collection<Document>,
    random: Random,
    /// The collection as the log tells it.
    followed: BTreeMap<i32, Document>,
    /// Time of the last entry that was read.
    reached: Timestamp,
    /// Updates as the log has them.
    updates: Vec<Document>,
    /// How often what was seen.
    seen: HashMap<&'static str, usize>,
}

impl Bed {
    async fn new(version: Version, seed: u64) -> Result<Bed, Box<dyn std::error::Error>> {
        let shop = Shop::new(version).await?;
        shop.create("odds", doc! {}).await?;
        let hello = shop.database.run_command(doc! { "ping": 1 }).await?;
        let reached = hello.get_timestamp("operationTime")?;
        let collection = shop.database.collection("odds");
        let (followed, updates, seen) = (BTreeMap::new(), Vec::new(), HashMap::new());
        Ok(Bed { shop, collection, random: Random(seed), followed, reached, updates, seen })
    }

    /// One random write, or several in a transaction. What the server refuses is let go: it tells nothing.
    async fn write(&mut self) -> Outcome {
        if self.random.below(12) > 0 {
            return self.write_one(None).await.or_else(refused).map_err(Into::into);
        }
        let mut session = self.shop.client.start_session().await?;
        session.start_transaction().await?;
        for _ in 0..=self.random.below(4) {
            if let Err(error) = self.write_one(Some(&mut session)).await {
                refused(error)?;
                return Ok(session.abort_transaction().await?);
            }
        }
        match self.random.below(4) {
            0 => session.abort_transaction().await?,
            _ => session.commit_transaction().await?,
        }
        Ok(())
    }

    async fn write_one(&mut self, session: Option<&mut ClientSession>) -> Result<(), Error> {
        let id = self.random.below(DOCUMENTS as usize) as i32;
        let Some(document) = self.followed.get(&id).cloned() else { return self.write_anew(id, session).await };
        let (collection, one) = (self.collection.clone(), doc! { "_id": id });
        match self.random.below(20) {
            0 => {
                let delete = collection.delete_one(one);
                match session {
                    Some(session) => delete.session(session).await,
                    None => delete.await,
                }?;
            }
            1 => {
                let replace = collection.replace_one(one, self.random.mutated(&document));
                match session {
                    Some(session) => replace.session(session).await,
                    None => replace.await,
                }?;
            }
            2 if session.is_none() => self.write_aside(id).await?,
            3 => self.update(doc! { "_id": { "$gte": id, "$lt": id + 5 } }, vec![], &document, session).await?,
            // The server finds the difference; 4.4 logs the whole.
            4..=9 => {
                let made = self.random.mutated(&document);
                let pipeline = vec![doc! { "$replaceWith": { "$literal": made } }];
                self.update(one, pipeline, &document, session).await?;
            }
            10 => {
                let name = self.random.name();
                let cut =
                    doc! { "$cond": [{ "$isArray": [format!("${name}")] }, { "$slice": [format!("${name}"), 1] }, 5] };
                let pipeline = vec![doc! { "$unset": self.random.name() + ".b" }, doc! { "$set": { name: cut } }];
                self.update(one, pipeline, &document, session).await?;
            }
            _ => self.update(one, vec![], &document, session).await?,
        }
        Ok(())
    }

    /// Updates by a pipeline, or if it is empty by operators that are made for a document.
    async fn update(
        &mut self,
        which: Document,
        pipeline: Vec<Document>,
        document: &Document,
        session: Option<&mut ClientSession>,
    ) -> Result<(), Error> {
        let update = if pipeline.is_empty() {
            self.collection.update_many(which, self.random.modifiers(document))
        } else {
            self.collection.update_many(which, pipeline)
        };
        match session {
            Some(session) => update.session(session).await,
            None => update.await,
        }
        .map(drop)
    }

    async fn write_anew(&mut self, id: i32, session: Option<&mut ClientSession>) -> Result<(), Error> {
        let mut fields = self.random.document(3);
        fields.insert("long", "y".repeat(200));
        let insert = self.collection.update_one(doc! { "_id": id }, doc! { "$setOnInsert": fields }).upsert(true);
        match session {
            Some(session) => insert.session(session).await,
            None => insert.await,
        }
        .map(drop)
    }

    /// Gives a document an update that the log holds of another one: its paths lead to nothing, or to something else.
    async fn write_aside(&mut self, id: i32) -> Result<(), Error> {
        let gone = self.collection.find_one(doc! { "_id": id }).await?.is_none();
        if gone || self.updates.is_empty() {
            return Ok(());
        }
        let update = self.random.pick(&self.updates);
        let operation =
            doc! { "op": "u", "ns": self.collection.namespace().to_string(), "o": update, "o2": { "_id": id } };
        self.shop.client.database("admin").run_command(doc! { "applyOps": [operation] }).await?;
        *self.seen.entry("aside").or_default() += 1;
        Ok(())
    }

    /// Reads the log on, and applies what it says.
    async fn follow(&mut self) -> Outcome {
        let log = self.shop.client.database("local").collection::<RawDocumentBuf>("oplog.rs");
        let new = log.find(doc! { "ts": { "$gt": self.reached } }).sort(doc! { "$natural": 1 });
        let entries: Vec<RawDocumentBuf> = new.await?.try_collect().await?;
        for bytes in &entries {
            self.reached = bytes.get_timestamp("ts")?;
            let entry = RawEntry::read(RawDoc::new(bytes.as_bytes())?)?;
            match decode(&entry)? {
                DecodedEntry::Operation(operation) => self.apply(&operation)?,
                DecodedEntry::Operations(piece) => {
                    let ours = bytes.as_bytes().windows(4).any(|name| name == b"odds");
                    assert!(!ours || piece.end == PieceEnd::Committed, "no large or prepared transactions here");
                    for operation in piece.operations() {
                        let operation = operation?;
                        if piece.transaction.is_some() && operation.database == self.shop.database.name() {
                            *self.seen.entry("transaction").or_default() += 1;
                        }
                        self.apply(&operation)?;
                    }
                }
                DecodedEntry::Nothing => {}
                other => panic!("no prepared transactions here: {other:?}"),
            }
            if let Ok(update) = bytes.get_document("o")
                && entry.operation() == b"u"
                && update.get("$v")?.is_some()
            {
                self.updates.push(update.try_into()?);
            }
        }
        Ok(())
    }

    fn apply(&mut self, operation: &Operation<'_>) -> Outcome {
        if operation.database != self.shop.database.name() {
            return Ok(());
        }
        let namespace = Namespace { database: operation.database.into(), collection: operation.collection.into() };
        let change = operation.to_change(&Arc::from("rs0"), OplogPosition::default(), Arc::new(namespace))?;
        assert_eq!(change.namespace.collection, "odds");
        let key = operation.key()?.ok_or("a key")?;
        let id = Document::from_reader(&key[..])?.get_i32("_id")?;
        let what = match (operation.kind()?, change.kind) {
            (OperationKind::Insert, ChangeKind::Insert { document }) => {
                self.followed.insert(id, Document::from_reader(&document[..])?);
                "insert a document"
            }
            (OperationKind::Replace, ChangeKind::Replace { document }) => {
                let before = self.followed.insert(id, Document::from_reader(&document[..])?);
                assert!(before.is_some(), "{id} is replaced and was not there");
                "replace"
            }
            (OperationKind::Update, ChangeKind::Update { edits, .. }) => {
                self.count(&edits);
                applied::apply(self.followed.get_mut(&id).ok_or("an update of a document that is there")?, &edits);
                "update"
            }
            (OperationKind::Delete, ChangeKind::Delete { .. }) => {
                assert!(self.followed.remove(&id).is_some(), "{id} is deleted and was not there");
                "delete"
            }
            (kind, change) => panic!("{kind:?}, and as a whole {change:?}"),
        };
        *self.seen.entry(what).or_default() += 1;
        Ok(())
    }

    fn count(&mut self, edits: &Edits) {
        let (Edits::Diff(edits) | Edits::Modifiers(edits)) = edits else { return };
        for Edit { path, action } in edits {
            let action = match action {
                EditAction::Set(_) => "set",
                EditAction::Insert(_) => "insert",
                EditAction::Unset => "unset",
                EditAction::Resize(_) => "resize",
            };
            *self.seen.entry(action).or_default() += 1;
            let has = |wanted: fn(&Step) -> bool| path.iter().any(wanted);
            *self.seen.entry("in an array").or_default() += usize::from(has(|step| matches!(step, Step::Index(_))));
            *self.seen.entry("in an array or not").or_default() +=
                usize::from(has(|step| matches!(step, Step::FieldOrIndex { .. })));
            *self.seen.entry("below the root").or_default() += usize::from(path.len() > 1);
        }
    }

    async fn compare(&self, round: usize) -> Outcome {
        let stored: Vec<Document> = self.collection.find(doc! {}).sort(doc! { "_id": 1 }).await?.try_collect().await?;
        let followed: Vec<&Document> = self.followed.values().collect();
        assert_eq!(stored.len(), followed.len(), "round {round}: documents");
        for (stored, followed) in stored.iter().zip(followed) {
            // As bytes, since `Document` says that 1 and 1.0 differ, but not that fields stand in another order.
            assert!(stored.to_vec()? == followed.to_vec()?, "round {round}: stored\n{stored}\nfollowed\n{followed}");
        }
        Ok(())
    }
}

/// Lets errors go by which the server says that it does not do such a thing.
fn refused(error: Error) -> Result<(), Error> {
    match *error.kind {
        ErrorKind::Write(_) | ErrorKind::Command(_) | ErrorKind::InsertMany(_) => Ok(()),
        _ => Err(error),
    }
}
