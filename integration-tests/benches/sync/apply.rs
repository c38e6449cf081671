//! The backlog, as MongoDB is told of it.

use bson::oid::ObjectId;
use bson::{DateTime, Document, RawDocumentBuf, doc};
use integration_tests::bench::Result;
use mongodb::Collection;

use crate::backlog::{Backlog, Operation, Orders, new_order};

/// Carries out all operations, chunk by chunk. `orders` are those that were loaded.
///
/// # Errors
/// MongoDB's; if it did not do everything.
pub(crate) async fn apply(backlog: &Backlog, orders: &Orders, collection: &Collection<RawDocumentBuf>) -> Result<()> {
    let database = collection.client().database(&collection.namespace().db);
    for chunk in &backlog.chunks {
        let (mut inserted, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
        for &operation in chunk {
            let number = operation.document();
            let id = || -> Result<ObjectId> {
                Ok(orders.get(number).ok_or("expected a loaded order")?.get_object_id("_id")?)
            };
            match operation {
                Operation::Insert(_) => inserted.extend(new_order(number)),
                Operation::Set(_, millis) => {
                    let set = doc! { "updated_at": DateTime::from_millis(millis) };
                    updates.push(doc! { "q": { "_id": id()? }, "u": { "$set": set } });
                }
                Operation::SetItem(_, item, quantity) => {
                    let set = doc! { format!("items.{item}.quantity"): quantity };
                    updates.push(doc! { "q": { "_id": id()? }, "u": { "$set": set } });
                }
                Operation::Delete(_) => deletes.push(doc! { "q": { "_id": id()? }, "limit": 1 }),
            }
        }
        if !inserted.is_empty() {
            collection.insert_many(&inserted).await?;
        }
        for (command, field, all) in [("update", "updates", updates), ("delete", "deletes", deletes)] {
            if !all.is_empty() {
                let count = all.len();
                let reply = database.run_command(doc! { command: collection.name(), field: all }).await?;
                expect(&reply, if command == "update" { "nModified" } else { "n" }, count)?;
            }
        }
    }
    Ok(())
}

fn expect(reply: &Document, field: &str, count: usize) -> Result<()> {
    if reply.get_i32(field).is_ok_and(|done| done as usize == count) && !reply.contains_key("writeErrors") {
        return Ok(());
    }
    Err(format!("expected {field} to be {count}, MongoDB replied {reply}").into())
}
