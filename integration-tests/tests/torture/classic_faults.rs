//! What the classic tool got wrong in following updates: a scenario for each.

use bson::{Bson, Document, doc};
use integration_tests::rig::Version;
use integration_tests::traffic::Step;
use serde_json::json;

use super::scenario::{Scenario, command, update};

/// Forms of updates differ between these.
const ALL: &[Version] = &Version::ALL;

const NEWEST: &[Version] = &[Version::V6_0];

fn orders() -> Vec<Document> {
    (1..=4)
        .map(|n| {
            doc! {
                "_id": n, "title": format!("order {n}"), "note": "short", "n": n, "total": 5_000_000_000i64 + i64::from(n),
                "customer": { "name": "x", "address": { "city": "Ulm", "zip": n } },
                "tags": ["a", "b", "c"],
                "items": [
                    { "sku": "A", "quantity": 1, "parts": [{ "code": "p", "marks": [1, 2] }] },
                    { "sku": "B", "quantity": 2, "parts": [{ "code": "q", "marks": [3] }, { "code": "r", "marks": [] }] },
                    { "sku": "C", "quantity": 3, "parts": [] },
                ],
            }
        })
        .collect()
}

/// It failed the run on both.
#[tokio::test]
async fn replacements_and_diffs() {
    let scenario = Scenario {
        before: orders(),
        operations: |posts| {
            let long = "long ".repeat(500);
            vec![
                update(posts, 1, doc! { "title": "replaced", "tags": ["only"], "n": 10 }),
                update(posts, 2, doc! { "$set": { "title": "set", "customer.address.city": "Bonn", "note": long } }),
                // Beside a long text, what differs is shorter than the document: a diff, with sub-diffs.
                update(posts, 2, vec![doc! { "$set": { "items.quantity": 7, "customer.address.zip": 99 } }]),
                update(posts, 2, vec![doc! { "$set": { "tags": { "$slice": ["$tags", 1] } } }]),
                update(posts, 3, vec![doc! { "$replaceWith": { "_id": "$_id", "title": "by pipeline", "n": 3 } }]),
                update(posts, 4, vec![doc! { "$unset": ["customer.address.city", "title"] }]),
            ]
        },
        after: vec![
            (
                "SELECT id, title, n, customer_address_city AS city, customer_address_zip AS zip FROM posts ORDER BY id",
                json!([
                    { "id": 1, "title": "replaced", "n": 10, "city": null, "zip": null },
                    { "id": 2, "title": "set", "n": 2, "city": "Bonn", "zip": 99 },
                    { "id": 3, "title": "by pipeline", "n": 3, "city": null, "zip": null },
                    { "id": 4, "title": null, "n": 4, "city": null, "zip": 4 },
                ]),
            ),
            (
                "SELECT posts_id AS id, tags FROM post_tags WHERE posts_id < 4 ORDER BY 1, idx",
                json!([{ "id": 1, "tags": "only" }, { "id": 2, "tags": "a" }]),
            ),
        ],
    };
    scenario.play_on(ALL).await;
}

/// It ignored the one beside the other.
#[tokio::test]
async fn unset_beside_set() {
    let scenario = Scenario {
        before: orders(),
        operations: |posts| {
            vec![
                update(posts, 1, doc! { "$set": { "n": 9 }, "$unset": { "title": 1 } }),
                update(
                    posts,
                    2,
                    doc! { "$unset": { "customer.name": 1, "tags": 1 }, "$set": { "customer.address.zip": 5 } },
                ),
                update(posts, 3, doc! { "$rename": { "title": "note" }, "$inc": { "n": 1 } }),
            ]
        },
        after: vec![(
            "SELECT id, n, title, note, customer_name AS name, customer_address_zip AS zip, \
             (SELECT count(*) FROM post_tags t WHERE t.posts_id = p.id) AS tags FROM posts p WHERE id < 4 ORDER BY id",
            json!([
                { "id": 1, "n": 9, "title": null, "note": "short", "name": "x", "zip": 1, "tags": 3 },
                { "id": 2, "n": 2, "title": "order 2", "note": "short", "name": null, "zip": 5, "tags": 0 },
                { "id": 3, "n": 4, "title": null, "note": "order 3", "name": "x", "zip": 3, "tags": 3 },
            ]),
        )],
    };
    scenario.play_on(ALL).await;
}

/// It shifted the neighbours.
#[tokio::test]
async fn elements_by_position_leave_their_neighbours() {
    let scenario = Scenario {
        before: orders(),
        operations: |posts| {
            vec![
                update(posts, 1, doc! { "$set": { "items.1.quantity": 22, "tags.0": "A" } }),
                update(posts, 2, doc! { "$unset": { "items.1": 1, "tags.1": 1 } }),
                update(posts, 3, doc! { "$set": { "items.1": { "sku": "new", "quantity": 0 }, "tags.5": "far" } }),
                update(posts, 4, doc! { "$set": { "items.1.parts.0.marks.2": 33 }, "$unset": { "items.0.sku": 1 } }),
            ]
        },
        after: vec![
            (
                "SELECT string_agg(coalesce(tags, '-'), ' ' ORDER BY idx) AS tags FROM post_tags GROUP BY posts_id ORDER BY posts_id",
                json!([{ "tags": "A b c" }, { "tags": "a - c" }, { "tags": "a b c - - far" }, { "tags": "a b c" }]),
            ),
            (
                "SELECT string_agg(coalesce(sku, '-') || coalesce(quantity::text, '-'), ' ' ORDER BY idx) AS items \
                 FROM post_items GROUP BY posts_id ORDER BY posts_id",
                json!([{ "items": "A1 B22 C3" }, { "items": "A1 -- C3" }, { "items": "A1 new0 C3" }, { "items": "-1 B2 C3" }]),
            ),
        ],
    };
    scenario.play_on(ALL).await;
}

/// It never wrote them.
#[tokio::test]
async fn columns_of_bigint() {
    let scenario = Scenario {
        before: orders(),
        operations: |posts| {
            vec![
                update(posts, 1, doc! { "$set": { "total": i64::MAX } }),
                update(posts, 2, doc! { "$inc": { "total": 1i64 } }),
                update(posts, 3, doc! { "$set": { "total": 7 } }),
                update(posts, 4, doc! { "$mul": { "total": -2.0 } }),
            ]
        },
        after: vec![(
            "SELECT total::text FROM posts ORDER BY id",
            json!([
                { "total": "9223372036854775807" }, { "total": "5000000003" }, { "total": "7" }, { "total": "-10000000008" },
            ]),
        )],
    };
    scenario.play_on(ALL).await;
}

/// Rows that were left over were invisible to its verifier.
#[tokio::test]
async fn emptied_arrays_have_no_rows() {
    let scenario = Scenario {
        before: orders(),
        operations: |posts| {
            vec![
                update(posts, 1, doc! { "$set": { "items": [], "tags": [] } }),
                update(
                    posts,
                    2,
                    doc! { "$pull": { "items": { "quantity": { "$gt": 0 } } }, "$pullAll": { "tags": ["a", "b", "c"] } },
                ),
                update(posts, 3, doc! { "$set": { "items": Bson::Null, "tags": "scalar" } }),
                update(posts, 4, doc! { "$pop": { "items": -1, "tags": 1 } }),
                update(posts, 4, doc! { "$set": { "items.0.parts": [] } }),
            ]
        },
        after: vec![(
            "SELECT (SELECT count(*) FROM post_tags) AS tags, (SELECT count(*) FROM post_items) AS items, \
             (SELECT count(*) FROM post_item_parts) AS parts, (SELECT count(*) FROM post_item_part_marks) AS marks",
            json!([{ "tags": 2, "items": 2, "parts": 0, "marks": 0 }]),
        )],
    };
    scenario.play_on(ALL).await;
}

/// What types change from and to, and back again.
#[tokio::test]
async fn values_that_change_their_type() {
    let scenario = Scenario {
        before: orders(),
        operations: |posts| {
            vec![
                update(
                    posts,
                    1,
                    doc! { "$set": { "customer": "nobody", "items": { "sku": "no array" }, "n": "text" } },
                ),
                update(
                    posts,
                    2,
                    doc! { "$set": { "customer": [1, 2], "items": [1, [2], Bson::Null], "tags": { "a": 1 } } },
                ),
                update(posts, 3, doc! { "$set": { "customer": 5, "items": true, "title": { "a": [1] } } }),
                update(
                    posts,
                    3,
                    doc! { "$set": { "customer": { "name": "back" }, "items": [{ "sku": "back" }], "title": "back" } },
                ),
                update(
                    posts,
                    4,
                    doc! { "$set": { "customer.address": Bson::Null, "items.1": 7, "items.0.parts": "none" } },
                ),
            ]
        },
        after: vec![(
            "SELECT id, n, title, customer_name AS name FROM posts ORDER BY id",
            json!([
                { "id": 1, "n": null, "title": "order 1", "name": null },
                { "id": 2, "n": 2, "title": "order 2", "name": null },
                { "id": 3, "n": 3, "title": "back", "name": "back" },
                { "id": 4, "n": 4, "title": "order 4", "name": "x" },
            ]),
        )],
    };
    scenario.play_on(ALL).await;
}

const ODD_IDS: [&str; 7] =
    ["O'Brien", "say \"hi\"", "back\\slash", "'; DROP TABLE posts; --", "$1 %s {}", "ü 😀", "tab\tand\nline"];

/// They reached its SQL as they were.
#[tokio::test]
async fn text_ids_with_quotes() {
    let scenario = Scenario {
        before: ODD_IDS.iter().map(|id| doc! { "_id": id, "n": 1, "tags": ["a", "b"] }).collect(),
        operations: |posts| {
            let mut steps = Vec::new();
            for (id, n) in ODD_IDS.iter().zip(0..) {
                steps.push(update(posts, *id, doc! { "$set": { "n": n, "tags.1": *id } }));
            }
            steps.push(command(doc! { "delete": posts, "deletes": [{ "q": { "_id": ODD_IDS[3] }, "limit": 1 }] }));
            steps.push(command(doc! { "insert": posts, "documents": [{ "_id": "it's '' new", "tags": ["'"] }] }));
            steps
        },
        after: vec![(
            "SELECT count(*) AS posts, (SELECT count(*) FROM post_tags) AS tags, \
             (SELECT count(*) FROM post_tags WHERE tags = posts_id) AS ids FROM posts",
            json!([{ "posts": 7, "tags": 13, "ids": 6 }]),
        )],
    };
    scenario.play_on(NEWEST).await;
}

/// It skipped them, as all entries of kind `c`.
#[tokio::test]
async fn transactions_are_applied_if_they_are_committed() {
    let scenario = Scenario {
        before: orders(),
        operations: |posts| {
            let write = |n: i32| {
                vec![
                    doc! { "insert": posts, "documents": [{ "_id": n, "title": "in a transaction", "tags": ["t"] }] },
                    doc! { "update": posts, "updates": [{ "q": { "_id": n }, "u": { "$push": { "tags": "u" } } }] },
                    doc! { "update": posts, "updates": [{ "q": { "_id": 1 }, "u": { "$inc": { "n": n } } }] },
                    doc! { "delete": posts, "deletes": [{ "q": { "_id": 2 }, "limit": 1 }] },
                    doc! { "insert": posts, "documents": [{ "_id": 2, "title": "born again" }] },
                ]
            };
            vec![
                Step::Transaction { commands: write(10), commit: true },
                Step::Transaction { commands: write(100), commit: false },
            ]
        },
        after: vec![(
            "SELECT id, title, n FROM posts WHERE id NOT IN (3, 4) ORDER BY id",
            json!([
                { "id": 1, "title": "order 1", "n": 11 },
                { "id": 2, "title": "born again", "n": null },
                { "id": 10, "title": "in a transaction", "n": null },
            ]),
        )],
    };
    scenario.play_on(ALL).await;
}

/// More than 16 MiB of it, so that it is several entries, and one counts only if all do.
#[tokio::test]
async fn transactions_larger_than_an_entry() {
    let scenario = Scenario {
        before: orders(),
        operations: |posts| {
            let text = "x".repeat(6 << 20);
            let write = |first: i32| {
                let insert = |n: i32| doc! { "insert": posts, "documents": [{ "_id": n, "title": &text }] };
                (first..first + 3).map(insert).collect::<Vec<Document>>()
            };
            vec![
                Step::Transaction { commands: write(10), commit: true },
                Step::Transaction { commands: write(20), commit: false },
            ]
        },
        after: vec![(
            "SELECT id FROM posts WHERE id > 4 ORDER BY id",
            json!([{ "id": 10 }, { "id": 11 }, { "id": 12 }]),
        )],
    };
    scenario.play_on(&[Version::V4_4, Version::V6_0]).await;
}

/// 1, 1.0, Int64 1 and Decimal 1 are one `_id`.
#[tokio::test]
async fn one_number_is_one_id() {
    let scenario = Scenario {
        before: orders(),
        operations: |posts| {
            let one: Bson = Bson::Decimal128("1.0".parse().unwrap());
            vec![
                update(posts, 1.0, doc! { "$set": { "n": 100 } }),
                command(doc! { "delete": posts, "deletes": [{ "q": { "_id": 2i64 }, "limit": 1 }] }),
                command(doc! { "insert": posts, "documents": [{ "_id": 2.0, "title": "as a double" }] }),
                command(doc! { "delete": posts, "deletes": [{ "q": { "_id": 3 }, "limit": 1 }] }),
                command(doc! { "insert": posts, "documents": [{ "_id": 3i64, "title": "as a long" }] }),
                update(posts, one, doc! { "$set": { "title": "by a decimal" } }),
            ]
        },
        after: vec![(
            "SELECT id, title FROM posts ORDER BY id",
            json!([
                { "id": 1, "title": "by a decimal" }, { "id": 2, "title": "as a double" }, { "id": 3, "title": "as a long" },
                { "id": 4, "title": "order 4" },
            ]),
        )],
    };
    scenario.play_on(NEWEST).await;
}
