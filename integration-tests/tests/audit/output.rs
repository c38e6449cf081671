//! What `gizer verify` prints for people: by heart, but for times.

use std::path::Path;

use bson::{DateTime, Document, doc};
use integration_tests::rig::{Finished, Version, shared_mongod, shared_postgres};

use super::ddl::Held;
use super::world::World;

/// Two collections, of which one has dates for keys.
async fn world() -> World<'static> {
    let world = World::new([shared_mongod(Version::V6_0).await.unwrap()], shared_postgres().await.unwrap()).await;
    world.schema_file("posts", r#"{"_id": "INT", "title": "STRING", "stars": "INT", "tags": ["STRING"]}"#);
    world
        .schema_file("visits", r#"{"$gizer": 1, "fields": {"_id": "TIMESTAMP", "from": "STRING", "at": "TIMESTAMP"}}"#);
    let post = |n: i32| doc! { "_id": n, "title": format!("secret {n}"), "stars": n, "tags": ["hidden", "veiled"] };
    let visit = |n: i64| {
        let at = DateTime::from_millis(1_700_000_000_000 + n * 250);
        doc! { "_id": at, "from": format!("secret {n}"), "at": at }
    };
    let posts: Vec<Document> = (0..1_200).map(post).collect();
    world.mongo().collection("posts").insert_many(posts).await.unwrap();
    world.mongo().collection("visits").insert_many((0..9).map(visit)).await.unwrap();
    world.run(&["load"]).await.expect_code(0);
    world
}

const SPOIL: &str = "UPDATE posts SET title = 'changed' WHERE id = 7; UPDATE posts SET stars = NULL WHERE id IN (8, 9); \
    DELETE FROM posts WHERE id = 10; DELETE FROM post_tags WHERE posts_id = 11 AND idx = 2; \
    INSERT INTO posts (id, title) VALUES (5000, 'changed'); \
    UPDATE visits SET at = at + interval '1.5 ms' WHERE id = '2023-11-14 22:13:20.5+00'; \
    UPDATE visits SET \"from\" = 'changed' WHERE id = '2023-11-14 22:13:20+00'";

/// Without what is another one in each run: times, and how long it took.
fn without_times(text: &str) -> String {
    let as_of = |line: &str| match line.split_once(", as of ") {
        Some((before, _)) => format!("{before}, as of TIME"),
        None => line.to_owned(),
    };
    let seconds = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let place = words.windows(2).position(|pair| pair[1] == "s" && pair[0].parse::<f64>().is_ok());
        place.map_or_else(|| line.to_owned(), |place| line.replace(&format!("{} s", words[place]), "0.0 s"))
    };
    text.lines().map(|line| seconds(&as_of(line)).trim_end().to_owned() + "\n").collect()
}

/// What it prints is what this file holds; with `WRITE_OUTPUT=1` the file is made to hold it, to be looked at.
#[track_caller]
fn expect(finished: &Finished, name: &str) {
    let said = without_times(&finished.stdout);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/audit/output/{name}.txt"));
    if std::env::var_os("WRITE_OUTPUT").is_some() {
        std::fs::write(&file, &said).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert_eq!(said, expected, "it printed:\n{said}");
}

const SECRETS: [&str; 4] = ["secret", "hidden", "veiled", "changed"];

/// Nothing of what documents and rows hold is in it.
#[track_caller]
fn expect_no_values(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret:?} is in\n{text}");
    }
}

/// All that is kept of audits.
async fn kept(world: &World<'_>) -> String {
    let mut rows = world.rows("SELECT * FROM gizer_audit").await;
    rows.extend(world.rows("SELECT report FROM gizer_audit_segment").await);
    assert!(!rows.is_empty());
    serde_json::to_string(&rows).unwrap()
}

/// One worker: one difference after the other.
const VERIFY: [&str; 3] = ["verify", "--load-workers", "1"];

async fn verify(world: &World<'_>, args: &[&str], code: i32) -> Finished {
    world.run(&[&VERIFY, args].concat()).await.expect_code(code)
}

#[tokio::test]
async fn all_is_equal() {
    let world = world().await;
    let equal = verify(&world, &["-vv"], 0).await;
    expect(&equal, "equal");
    expect_no_values(&equal.stderr);
}

#[tokio::test]
async fn differences_and_their_repair() {
    let world = world().await;
    world.client().await.batch_execute(SPOIL).await.unwrap();
    let found = verify(&world, &["-vv"], 4).await;
    expect(&found, "differs");
    expect_no_values(&(found.stdout + &found.stderr));
    expect_no_values(&kept(&world).await);
    expect(&verify(&world, &["--differences", "2", "posts"], 4).await, "few_named");
    let json = verify(&world, &["--format", "json", "-vv"], 4).await;
    expect_no_values(&(json.stdout + &json.stderr));

    let shown = verify(&world, &["--show-values"], 4).await;
    expect(&shown, "values");
    for value in
        [r#""secret 7" in the document, "changed" in the table"#, r#""8" in the document, "NULL" in the table"#]
    {
        assert!(shown.stdout.contains(value), "{value} is not in {}", shown.stdout);
    }
    let json = verify(&world, &["--show-values", "--format", "json"], 4).await.stdout;
    assert!(json.contains(r#""expected": "secret 7""#) && json.contains(r#""stored": "changed""#), "{json}");
    // It was for the eyes of who asked.
    expect_no_values(&kept(&world).await);

    let repaired = verify(&world, &["--repair", "-vv"], 0).await;
    expect(&repaired, "repaired");
    expect_no_values(&(repaired.stdout + &repaired.stderr));
    expect(&verify(&world, &[], 0).await, "equal");
}

/// One that is taken up by a run that is not to show values has none.
#[tokio::test]
async fn values_of_an_audit_that_was_interrupted_are_not_shown_by_the_next() {
    let world = world().await;
    world.client().await.batch_execute(SPOIL).await.unwrap();
    let args = ["posts", "--show-values", "--load-workers", "1"];
    let held = Held::at(&world, ("UPDATE", "gizer_audit_segment"), &args).await;
    held.kill().await;
    let found = verify(&world, &[], 4).await;
    expect(&found, "differs");
}

#[tokio::test]
async fn the_help() {
    let world = world().await;
    let help = world.run(&["verify", "--help"]).await.expect_code(0);
    let (before, settings) = help.stdout.split_once("Settings:").unwrap();
    let (_, after) = settings.split_once("\n\nEvery document").unwrap();
    expect(&Finished { stdout: format!("{before}…\n\nEvery document{after}"), ..help.clone() }, "help");
}
