//! Some thousand documents, with keys of several types, of which nothing, a little or everything differs.

use bson::oid::ObjectId;
use bson::{Bson, Decimal128, Document, doc};
use futures::TryStreamExt;
use futures::future::try_join_all;
use integration_tests::rig::{Version, shared_mongod, shared_postgres};
use serde_json::Value;

use super::{expect_nothing_left, held_at, resynced};
use crate::judge::{judge_against_fresh_load, judge_by_oracle};
use crate::world::{World, one_of_two};

/// Documents of each collection.
const DOCUMENTS: i32 = 1_600;

/// Collections by the type of their `_id`s. Keys of `mixed` have no order that both servers share.
const KINDS: [&str; 4] = ["doubles", "mixed", "oids", "texts"];

fn id(kind: &str, n: i32) -> Bson {
    let oid = |n: i32| {
        let mut bytes = [0xa5; 12];
        // The first bytes differ most.
        bytes[..4].copy_from_slice(&n.wrapping_mul(-1_640_531_535).to_be_bytes());
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        Bson::ObjectId(ObjectId::from_bytes(bytes))
    };
    // Orders of text differ in these, from server to server and from collation to collation.
    let text = |n: i32| {
        let begin = ["a", "B", "ä", "_", "Z", "é", "-", "z"][n as usize % 8];
        Bson::String(format!("{begin} {n}"))
    };
    match kind {
        "doubles" => Bson::Double(f64::from(n - DOCUMENTS / 2) / 8.0),
        "oids" => oid(n),
        "texts" => text(n),
        _ => match n % 6 {
            0 => oid(n),
            1 => text(n),
            2 => Bson::Int32(n),
            3 => Bson::Decimal128(format!("{n}.5").parse::<Decimal128>().unwrap()),
            4 => Bson::Document(doc! { "a": n, "b": text(n) }),
            _ => Bson::DateTime(bson::DateTime::from_millis(i64::from(n) * 1_000)),
        },
    }
}

fn documents(kind: &str, numbers: impl Iterator<Item = i32>) -> Vec<Document> {
    numbers.map(|n| doc! { "_id": id(kind, n), "n": n, "title": format!("number {n}"), "tags": ["a", "b"] }).collect()
}

fn table_of_tags(kind: &str) -> String {
    format!("{}_tags", kind.trim_end_matches('s'))
}

async fn begin(world: &World<'_>, documents_each: i32) {
    for kind in KINDS {
        let shards = world.databases.len() as i32;
        for (shard, database) in (0..).zip(&world.databases) {
            let numbers = (0..documents_each).filter(|n| n % shards == shard);
            database.collection::<Document>(kind).insert_many(documents(kind, numbers)).await.unwrap();
        }
        let args = ["schema", "infer", kind, "--classic"];
        world.run(if kind == "mixed" { &args[..3] } else { &args }).await.expect_code(0);
    }
    world.run(&["load"]).await.expect_code(0);
    world.sync().await;
}

/// What of all collections was not as it should be: different, without rows, of no document.
fn found(report: &Value) -> Vec<(String, [u64; 3])> {
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap();
    let each = report["collections"].as_array().unwrap().iter();
    each.map(|of| {
        let counts = ["different", "only_in_mongodb", "only_in_postgresql"].map(|name| number(of, name));
        (of["name"].as_str().unwrap().to_owned(), counts)
    })
    .collect()
}

fn expected(counts: [u64; 3]) -> Vec<(String, [u64; 3])> {
    KINDS.map(|kind| (kind.to_owned(), counts)).into()
}

async fn judge(world: &World<'_>) {
    for kind in KINDS.into_iter().filter(|kind| *kind != "mixed") {
        judge_by_oracle(world, kind).await.unwrap();
    }
    judge_against_fresh_load(world).await.unwrap();
}

async fn on_all(world: &World<'_>, change: impl AsyncFn(mongodb::Collection<Document>, &'static str)) {
    for database in &world.databases {
        for kind in KINDS {
            change(database.collection(kind), kind).await;
        }
    }
}

#[tokio::test]
async fn nothing_a_little_or_everything_differs() {
    let world = World::new([shared_mongod(Version::V6_0).await.unwrap()], shared_postgres().await.unwrap()).await;
    begin(&world, DOCUMENTS).await;
    assert_eq!(found(&resynced(&world, &[]).await), expected([0, 0, 0]));

    // A hundredth, at both ends and in the middle; nobody has followed it.
    on_all(&world, async |all, kind| {
        all.update_many(doc! { "n": { "$mod": [100, 7] } }, doc! { "$set": { "title": "changed" } }).await.unwrap();
        all.delete_many(doc! { "n": { "$in": [0, 1, 800, 1_599] } }).await.unwrap();
        all.insert_many(documents(kind, [-5_000, 5_000, 5_001].into_iter())).await.unwrap();
    })
    .await;
    assert_eq!(found(&resynced(&world, &[]).await), expected([16, 3, 4]));

    // In the tables: rows of no document, in any of them, and documents without rows.
    for kind in KINDS {
        let (tags, root) = (table_of_tags(kind), kind);
        let spoil = format!(
            "DELETE FROM {root} WHERE ctid IN (SELECT ctid FROM {root} ORDER BY n LIMIT 5); \
             UPDATE {tags} SET tags = 'wrong' WHERE ctid IN (SELECT ctid FROM {tags} ORDER BY ctid DESC LIMIT 3)"
        );
        world.client().await.batch_execute(&spoil).await.unwrap();
    }
    let report = found(&resynced(&world, &[]).await);
    assert!(report.iter().all(|(_, [different, ..])| *different > 0), "{report:?}");
    judge(&world).await;

    on_all(&world, async |all, _| {
        all.update_many(doc! {}, doc! { "$set": { "title": "all of them" }, "$push": { "tags": "c" } }).await.unwrap();
    })
    .await;
    assert_eq!(found(&resynced(&world, &[]).await), expected([1_599, 0, 0]));

    // No document is left; none of the tables has rows then, and all come back.
    on_all(&world, async |all, _| {
        all.delete_many(doc! {}).await.unwrap();
    })
    .await;
    assert_eq!(found(&resynced(&world, &[]).await), expected([0, 0, 1_599]));
    on_all(&world, async |all, kind| {
        all.insert_many(documents(kind, 0..100)).await.unwrap();
    })
    .await;
    assert_eq!(found(&resynced(&world, &[]).await), expected([0, 100, 0]));
    world.sync().await;
    judge(&world).await;
    expect_nothing_left(&world).await;
}

/// Two shards read one by one. Documents go from one to the other while it goes on.
#[tokio::test]
async fn two_shards() {
    let shard = |name| one_of_two(Version::V6_0, name);
    let shards = try_join_all([shard("rs0"), shard("rs1")]).await.unwrap();
    let world = World::new(&shards, shared_postgres().await.unwrap()).await;
    begin(&world, DOCUMENTS / 4).await;
    for (event, from, to, kinds) in [("INSERT", 0, 1, ["oids", "mixed"]), ("UPDATE", 1, 0, ["doubles", "mixed"])] {
        on_all(&world, async |all, _| {
            all.update_many(doc! { "n": { "$mod": [50, 7] } }, doc! { "$inc": { "n": 0 }, "$push": { "tags": "c" } })
                .await
                .unwrap();
        })
        .await;
        for kind in kinds {
            let held = held_at(&world, event, kind, &[kind]).await;
            let from_is_second = from == 1;
            let [from, to] = [from, to].map(|at: usize| world.databases[at].collection::<Document>(kind));
            let some = from.find(doc! { "n": { "$mod": [50, i32::from(from_is_second)] } }).await.unwrap();
            for mut document in some.try_collect::<Vec<_>>().await.unwrap() {
                from.delete_one(doc! { "_id": document["_id"].clone() }).await.unwrap();
                document.insert("title", "moved");
                to.insert_one(document).await.unwrap();
            }
            held.finish().await.expect_code(0);
        }
        world.sync().await;
    }
    judge(&world).await;
    // A copy that a migration has left on the other shard, which is deleted while it goes on.
    for kind in ["mixed", "texts"] {
        let [one, other] = [0, 1].map(|at: usize| world.databases[at].collection::<Document>(kind));
        let copies: Vec<Document> = documents(kind, (4_000..4_010).step_by(2));
        one.insert_many(&copies).await.unwrap();
        let stale = copies.into_iter().map(|mut document| {
            document.insert("title", "stale");
            document
        });
        other.insert_many(stale).await.unwrap();
        let held = held_at(&world, "UPDATE", kind, &[kind]).await;
        other.delete_many(doc! { "title": "stale" }).await.unwrap();
        held.finish().await.expect_code(0);
    }
    world.sync().await;
    judge(&world).await;
    expect_nothing_left(&world).await;
}
