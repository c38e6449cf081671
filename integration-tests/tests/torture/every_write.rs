//! Every form of entry that a server writes, one after the other below a follower: the steps of a list that was made by trying
//! what servers of 4.4, 5.0 and 6.0 write into their oplogs.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Timestamp, doc};
use integration_tests::rig::{RunningGizer, Signal, Version, shared_mongod, shared_postgres, wait_until};
use integration_tests::traffic::Step;

use super::judge::{judge_against_fresh_load, judge_rebuilt};
use super::scenario::{command, update};
use super::world::{FOLLOW, LIMIT, World};

const ORDERS: &str = "orders";

/// What is written in a step.
enum Write {
    Step(Step),
    /// A command to `admin`; `{}` in a text stands for the database.
    Admin(Document),
    /// By the driver, which makes it a write that can be repeated, with entries that say so.
    Retryable,
}

/// A name, and what is written.
type Named = (&'static str, Vec<Write>);

fn one(name: &'static str, step: Step) -> Named {
    (name, vec![Write::Step(step)])
}

/// An update of document 1 or 2.
fn change(name: &'static str, id: i32, change: impl Into<Bson>) -> Named {
    one(name, update(ORDERS, id, change))
}

/// An update of document 1 with more than a change: array filters, say.
fn change_with(name: &'static str, id: i32, change: Document, also: Document, array_filters: Vec<Document>) -> Named {
    let mut filter = doc! { "_id": id };
    filter.extend(also);
    let mut update = doc! { "q": filter, "u": change };
    if !array_filters.is_empty() {
        update.insert("arrayFilters", array_filters);
    }
    one(name, command(doc! { "update": ORDERS, "updates": [update] }))
}

fn insert(documents: Vec<Document>) -> Step {
    command(doc! { "insert": ORDERS, "documents": documents })
}

fn delete(filter: Document, limit: i32) -> Step {
    command(doc! { "delete": ORDERS, "deletes": [{ "q": filter, "limit": limit }] })
}

fn order(id: i32) -> Document {
    doc! {
        "_id": id, "name": "a", "n": 1, "obj": { "x": 1, "y": { "z": 2 } },
        "items": [{ "sku": "A", "qty": 1, "tags": ["t1"] }, { "sku": "B", "qty": 2, "tags": [] }], "arr": [1, 2, 3],
    }
}

fn all_types() -> Document {
    doc! {
        "_id": ObjectId::from_bytes([0x64; 12]), "dbl": 1.5, "str": "s", "i32": 7, "i64": 1i64 << 40,
        "dec": Bson::Decimal128("1.10".parse().unwrap()), "bool": true, "null": Bson::Null,
        "date": DateTime::from_millis(1_704_164_645_678), "ts": Timestamp { time: 5, increment: 6 },
        "bin": Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 1] },
        "uuid": Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] },
        "min": Bson::MinKey, "max": Bson::MaxKey, "arr": [1, "two", { "three": 3 }], "empty": {}, "none": [],
    }
}

/// So large that what differs is always shorter than the whole.
fn large() -> Document {
    let items = (0..20).map(|n| {
        let sub: Vec<Document> = (0..4).map(|q| doc! { "q": q, "p": "w".repeat(30) }).collect();
        doc! { "sku": n.to_string(), "qty": n, "pad": "z".repeat(50), "sub": sub }
    });
    let fields = (0..30).map(|n| (format!("k{n:02}"), Bson::from("v".repeat(30))));
    doc! {
        "_id": 2, "arr": (0..40).map(|n| format!("s{n:03}-{}", "y".repeat(40))).collect::<Vec<String>>(),
        "items": items.collect::<Vec<Document>>(), "o": fields.collect::<Document>(), "added": 1,
    }
}

fn inserts() -> Vec<Named> {
    vec![
        one("insert of another order", insert(vec![order(3)])),
        one("insert of all types", insert(vec![all_types()])),
        one("insert of three", insert((10..13).map(|n| doc! { "_id": n }).collect())),
    ]
}

fn operators() -> Vec<Named> {
    let mut replaced = order(1);
    replaced.remove("_id");
    replaced.insert("name", "replaced");
    vec![
        change("replacement", 1, replaced),
        change("$set", 1, doc! { "$set": { "name": "set", "obj.y.z": 5 } }),
        change("$set of a new field", 1, doc! { "$set": { "newf": { "a": 1 } } }),
        change("$set of a new nested path", 1, doc! { "$set": { "deep.a.b": 1 } }),
        change("$unset", 1, doc! { "$unset": { "newf": 1, "obj.x": 1 } }),
        change("$inc", 1, doc! { "$inc": { "n": 3 } }),
        change("$set and $unset", 1, doc! { "$set": { "n": 9 }, "$unset": { "deep": 1 } }),
        change("$rename", 1, doc! { "$rename": { "name": "title" } }),
        change("$push of a document", 1, doc! { "$push": { "items": { "sku": "C", "qty": 3, "tags": ["x"] } } }),
        change("$push to the front", 1, doc! { "$push": { "items": { "$each": [{ "sku": "0" }], "$position": 0 } } }),
        change("$pull", 1, doc! { "$pull": { "items": { "sku": "A" } } }),
        change("$pop", 1, doc! { "$pop": { "arr": 1 } }),
        change("$set by position", 1, doc! { "$set": { "items.1.qty": 42 } }),
        change_with("positional $", 1, doc! { "$set": { "items.$.qty": 43 } }, doc! { "items.sku": "C" }, vec![]),
        change_with(
            "array filters",
            1,
            doc! { "$set": { "items.$[i].tags.1": "new" } },
            doc! {},
            vec![doc! { "i.sku": "C" }],
        ),
        change("$set of an element", 1, doc! { "$set": { "items.0": { "sku": "ZERO", "qty": 0 } } }),
        change("$set past the end", 1, doc! { "$set": { "arr.5": 99 } }),
        change("$unset of an element", 1, doc! { "$unset": { "arr.0": 1 } }),
        change("numeric names", 1, doc! { "$set": { "m": { "0": "a", "1": { "b": 1 } } } }),
        change("$set below a numeric name", 1, doc! { "$set": { "m.1.b": 2 } }),
    ]
}

fn pipelines() -> Vec<Named> {
    let truncated = |length: i32| doc! { "$slice": ["$arr", length] };
    vec![
        change("pipeline $set", 1, vec![doc! { "$set": { "n": 10, "obj.y.w": "pipe" } }]),
        change("pipeline $unset", 1, vec![doc! { "$unset": "obj.y.w" }]),
        change("pipeline truncates", 1, vec![doc! { "$set": { "arr": truncated(2) } }]),
        change("pipeline in all elements", 1, vec![doc! { "$set": { "items.qty": 7 } }]),
        change("pipeline $replaceWith", 1, vec![doc! { "$replaceWith": { "_id": "$_id", "only": "this" } }]),
        one("insert of a large one", insert(vec![large()])),
        change("large: truncated", 2, vec![doc! { "$set": { "arr": truncated(10) } }]),
        change(
            "large: truncated and changed",
            2,
            vec![doc! { "$set": { "arr": { "$concatArrays": [["first"], { "$slice": ["$arr", 1, 5] }] } } }],
        ),
        change(
            "large: appended",
            2,
            vec![doc! { "$set": { "arr": { "$concatArrays": ["$arr", ["last1", "last2"]] } } }],
        ),
        change(
            "large: nested",
            2,
            vec![
                doc! { "$set": { "o.k04": "changed", "o.new": { "a": [1, { "b": 2 }] } } },
                doc! { "$unset": "o.k03" },
            ],
        ),
        change(
            "large: an array in an array",
            2,
            vec![doc! { "$set": { "items": { "$map": { "input": "$items", "as": "i", "in": { "$cond": [
                { "$eq": ["$$i.sku", "3"] },
                { "$mergeObjects": ["$$i", { "extra": true, "sub": { "$slice": ["$$i.sub", 2] } }] },
                "$$i",
            ] } } } } }],
        ),
        change(
            "large: reordered",
            2,
            vec![doc! { "$replaceWith": { "$mergeObjects": [{ "_id": "$_id", "items": "$items" }, "$$ROOT"] } }],
        ),
        change("large: $pull", 2, doc! { "$pull": { "items": { "qty": { "$gte": 5 } } } }),
        change("large: $push with $slice", 2, doc! { "$push": { "arr": { "$each": ["p"], "$slice": -3 } } }),
        change("large: $addToSet", 2, doc! { "$addToSet": { "arr": "q" } }),
        change(
            "large: $mul, $min, $max, $currentDate, $bit",
            2,
            doc! {
                "$mul": { "added": 5 }, "$min": { "lo": 1 }, "$max": { "hi": 9 }, "$currentDate": { "at": true },
                "$bit": { "bits": { "or": 4 } },
            },
        ),
        change(
            "names like the keys of a diff",
            2,
            doc! { "$set": { "a": true, "l": 5, "s": { "u": 2, "d": 3 }, "su": { "x": 1 }, "u": 1, "i": [1], "diff": { "b": 1 } } },
        ),
        change(
            "changes below such names",
            2,
            doc! { "$set": { "s.u": 9, "su.x": 2, "i.0": 2 }, "$unset": { "s.d": 1, "diff.b": 1 } },
        ),
    ]
}

fn others() -> Vec<Named> {
    let compound = doc! { "a": 1, "b": "x" };
    let statement =
        |q: Document, u: Document| doc! { "update": ORDERS, "updates": [{ "q": q, "u": u, "multi": true }] };
    let upsert =
        doc! { "update": ORDERS, "updates": [{ "q": { "_id": 77 }, "u": { "$set": { "v": 1 } }, "upsert": true }] };
    let apply = |op: &str, o: Document| doc! { "op": op, "ns": "{}.orders", "o": o };
    let mut applied_update = apply("u", doc! { "$set": { "z": 1 } });
    applied_update.insert("o2", doc! { "_id": 4_001 });
    let in_transaction = || {
        vec![
            doc! { "insert": ORDERS, "documents": [{ "_id": 100, "t": 1 }] },
            doc! { "update": ORDERS, "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "only": "txn" } } }] },
            doc! { "delete": ORDERS, "deletes": [{ "q": { "_id": 77 }, "limit": 1 }] },
            doc! { "insert": "bystander", "documents": [{ "t": 1 }] },
        ]
    };
    let aborted = vec![doc! { "insert": ORDERS, "documents": [{ "_id": 101 }] }];
    vec![
        one("insert with a compound _id", insert(vec![doc! { "_id": compound.clone(), "v": 1 }])),
        one("update with a compound _id", update(ORDERS, compound.clone(), doc! { "$set": { "v": 2 } })),
        one("delete with a compound _id", delete(doc! { "_id": compound }, 1)),
        (
            "applyOps",
            vec![Write::Admin(doc! { "applyOps": [
                apply("i", doc! { "_id": 4_001 }), applied_update, apply("i", doc! { "_id": 4_002 }),
                apply("d", doc! { "_id": 4_002 }),
            ] })],
        ),
        one("upsert", command(upsert)),
        one(
            "update of many",
            command(statement(doc! { "_id": { "$gte": 10, "$lt": 13 } }, doc! { "$set": { "many": 1 } })),
        ),
        one("update without a change", update(ORDERS, 10, doc! { "$set": { "many": 1 } })),
        one("delete", delete(doc! { "_id": 10 }, 1)),
        one("delete of many", delete(doc! { "_id": { "$in": [11, 12] } }, 0)),
        one("transaction", Step::Transaction { commands: in_transaction(), commit: true }),
        one("aborted transaction", Step::Transaction { commands: aborted, commit: false }),
        ("retryable writes", vec![Write::Retryable]),
    ]
}

fn commands() -> Vec<Named> {
    let index = |key: &str| doc! { "key": { key: 1 }, "name": key };
    let aggregate =
        |stage: Document| doc! { "aggregate": ORDERS, "pipeline": [{ "$match": { "_id": 1 } }, stage], "cursor": {} };
    let renamed = |from: &str, to: &str| {
        Write::Admin(doc! { "renameCollection": format!("{{}}.{from}"), "to": format!("{{}}{to}"), "dropTarget": true })
    };
    vec![
        one("index", command(doc! { "createIndexes": ORDERS, "indexes": [index("n")] })),
        one("index dropped", command(doc! { "dropIndexes": ORDERS, "index": "n" })),
        one(
            "options",
            command(doc! { "collMod": ORDERS, "validator": { "_id": { "$exists": true } }, "validationLevel": "off" }),
        ),
        one("capped collection", command(doc! { "create": "capd", "capped": true, "size": 4_096 })),
        one("view", command(doc! { "create": "vw", "viewOn": ORDERS, "pipeline": [] })),
        one("another collection", command(doc! { "insert": "other", "documents": [{ "_id": 1 }] })),
        ("it is renamed", vec![renamed("other", ".other2")]),
        ("onto another", vec![Write::Step(command(doc! { "create": "tgt" })), renamed("other2", ".tgt")]),
        ("into another database", vec![renamed("tgt", "2.tgt")]),
        one("$out", command(aggregate(doc! { "$out": "outc" }))),
        one("$merge", command(aggregate(doc! { "$merge": "outc" }))),
        one("drop", command(doc! { "drop": ORDERS })),
        one("again", insert(vec![order(1), order(2)])),
        one("$out onto it", command(doc! { "aggregate": "outc", "pipeline": [{ "$out": ORDERS }], "cursor": {} })),
        one("after it", insert(vec![order(5)])),
        one("drop of the database", command(doc! { "dropDatabase": 1 })),
        one("after that", insert(vec![order(6)])),
    ]
}

/// `{}` in texts stands for the database.
fn with_database(value: Bson, database: &str) -> Bson {
    match value {
        Bson::String(text) => text.replace("{}", database).into(),
        Bson::Array(values) => {
            values.into_iter().map(|value| with_database(value, database)).collect::<Vec<_>>().into()
        }
        Bson::Document(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, with_database(value, database)));
            fields.collect::<Document>().into()
        }
        other => other,
    }
}

async fn write(world: &World<'_>, write: &Write) {
    match write {
        Write::Step(step) => {
            let outcome = step.run(world.mongo()).await.unwrap_or_else(|error| panic!("{error}: {step:?}"));
            assert_eq!(outcome.refused, 0, "{step:?}");
        }
        Write::Admin(command) => {
            let Bson::Document(command) = with_database(command.clone().into(), world.mongo().name()) else { return };
            world.mongo().client().database("admin").run_command(command).await.unwrap();
        }
        Write::Retryable => {
            let orders = world.mongo().collection::<Document>(ORDERS);
            let one = doc! { "_id": 100 };
            orders.find_one_and_update(one.clone(), doc! { "$set": { "t": 2 } }).await.unwrap().unwrap();
            orders.find_one_and_replace(one.clone(), doc! { "t": 3 }).await.unwrap().unwrap();
            orders.insert_many([doc! { "_id": 900 }, doc! { "_id": 901 }]).await.unwrap();
            orders.find_one_and_delete(one).await.unwrap().unwrap();
        }
    }
}

async fn expect_followed(world: &World<'_>, running: &mut RunningGizer, name: &str) {
    let done = async || judge_rebuilt(world, ORDERS).await.is_ok() || !running.is_running().unwrap();
    let waited = wait_until("the follower to catch up", LIMIT / 2, done).await;
    assert!(running.is_running().unwrap(), "{name} ended the follower: {}", running.stderr());
    if waited.is_err() {
        judge_rebuilt(world, ORDERS).await.unwrap_or_else(|difference| panic!("{name}: {difference}"));
    }
}

async fn every_write_on(version: Version) {
    let world = World::new([shared_mongod(version).await.unwrap()], shared_postgres().await.unwrap()).await;
    let types = |id: Bson| {
        let mut document = all_types();
        document.insert("_id", id);
        document
    };
    let before = vec![order(1), types("text".into()), types(doc! { "a": 2 }.into())];
    world.mongo().collection::<Document>(ORDERS).insert_many(before).await.unwrap();
    world.run(&["schema", "infer", ORDERS]).await.expect_code(0);
    world.run(&["load"]).await.expect_code(0);
    let mut running = world.spawn(FOLLOW);
    for (name, writes) in [inserts(), operators(), pipelines(), others(), commands()].into_iter().flatten() {
        for one in &writes {
            write(&world, one).await;
        }
        println!("{version}: {name}");
        expect_followed(&world, &mut running, name).await;
    }
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap().expect_code(143);
    judge_against_fresh_load(&world).await.unwrap();
}

#[tokio::test]
async fn every_write_of_4_4() {
    every_write_on(Version::V4_4).await;
}

#[tokio::test]
async fn every_write_of_5_0() {
    every_write_on(Version::V5_0).await;
}

#[tokio::test]
async fn every_write_of_6_0() {
    every_write_on(Version::V6_0).await;
}
