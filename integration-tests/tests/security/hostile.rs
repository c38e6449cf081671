//! Names and values that would like to be SQL, or a path, or a format: on real servers, all the way through.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use integration_tests::rig::{Finished, Gizer, Postgres, Version, shared_mongod, shared_postgres, unique_name};
use mongodb::Database;
use tokio_postgres::Client;

use super::judge::judge;

/// A PostgreSQL schema whose name ends every way of quoting.
const SCHEMA: &str = "a\"b;c' $$--\\";

/// What might end a name, a text, a comment, a line or a statement, or mean something to a format, a path or a shell.
const PAYLOADS: [&str; 30] = [
    "'",
    "\"",
    "\"\"",
    "$$",
    ";",
    "--",
    "/*",
    "*/",
    "\\",
    "\\'",
    "\n",
    "\r\n",
    "\t",
    "\u{1}\u{7f}\u{1b}[31m",
    "%s%n%1$s",
    "${x}",
    "{0}",
    "$1",
    "`id`",
    "$(id)",
    "\\.",
    "\\N",
    "E'\\''",
    "'; DROP TABLE public.canary; --",
    "\"; DROP TABLE public.canary; --",
    "$$; DROP TABLE public.canary; SELECT $$",
    "x'); DROP TABLE public.canary; --",
    "\" text); DROP TABLE public.canary; CREATE TABLE x (\"y",
    "a\".\"b",
    "ünï\u{202e}\u{200d}🦀漢",
];

/// Names of collections: those without what MongoDB does not allow there, which is `$` and NUL.
fn collections() -> Vec<String> {
    let usable = PAYLOADS.iter().filter(|payload| !payload.contains('$'));
    let mut names: Vec<String> = usable.map(|payload| format!("c{payload}")).collect();
    names.extend(
        ["/../../etc/passwd", "c", "con\\..\\x", "gizer_stream\"", "-rf", "--postgres-schema", "c.d e"]
            .map(str::to_owned),
    );
    names.push(format!("long'{}", "\"".repeat(150)));
    names
}

struct Bed {
    mongo: Database,
    postgres: Client,
    gizer: Gizer,
    server: &'static Postgres,
}

impl Bed {
    async fn new() -> Bed {
        let (mongod, server) = (shared_mongod(Version::V6_0).await.unwrap(), shared_postgres().await.unwrap());
        let target = server.create_database().await.unwrap();
        let name = unique_name("hostile");
        let postgres = server.client(&target).await.unwrap();
        let gizer = Gizer::new(&mongod.uri(), &name, &server.uri(&target), SCHEMA).unwrap();
        let bed = Bed { mongo: mongod.client().await.unwrap().database(&name), postgres, gizer, server };
        let quoted = SCHEMA.replace('"', "\"\"");
        let canaries = ["public".to_owned(), quoted.clone()]
            .map(|schema| format!("CREATE TABLE \"{schema}\".canary AS SELECT 'alive' AS state;"));
        let set_up = format!("CREATE SCHEMA \"{quoted}\"; {}", canaries.concat());
        bed.postgres.batch_execute(&set_up).await.unwrap();
        bed
    }

    /// It ends with this code, and does nothing to the terminal.
    async fn run(&self, args: &[&str], code: i32) -> Finished {
        let finished = self.gizer.run(args).await.unwrap().expect_code(code);
        for text in [&finished.stdout, &finished.stderr] {
            assert!(!text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{args:?}: {text:?}");
        }
        assert!(!finished.stderr.contains("syntax error"), "{}", finished.stderr);
        finished
    }

    /// It is refused by a short message.
    async fn refused(&self, args: &[&str], words: &[&str]) {
        let stderr = self.run(args, 2).await.stderr;
        assert!(stderr.len() < 1_500, "{} bytes of {stderr}", stderr.len());
        for word in words {
            assert!(stderr.contains(word), "{word:?} is not in {stderr:?}");
        }
    }

    fn schema_file(&self, name: &str, text: &str) {
        let folder = self.gizer.folder().join("schemas");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{name}.json")), text).unwrap();
    }

    async fn insert(&self, collection: &str, documents: impl IntoIterator<Item = Document>) {
        self.mongo.collection(collection).insert_many(documents).await.unwrap();
    }

    async fn judge_all(&mut self, collections: &[(&str, bool)]) {
        for (collection, classic) in collections {
            let what = (*collection, SCHEMA, *classic);
            judge(&self.mongo, &mut self.postgres, &self.gizer, what).await.unwrap();
        }
        for schema in ["public", SCHEMA] {
            let canary = format!("SELECT state FROM \"{}\".canary", schema.replace('"', "\"\""));
            let rows = self.postgres.query(&canary, &[]).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["alive"]);
        }
        let sql = "SELECT count(*) FROM pg_tables WHERE tablename NOT LIKE 'canary' AND schemaname NOT IN \
                   ($1, 'pg_catalog', 'information_schema')";
        assert_eq!(self.postgres.query_one(sql, &[&SCHEMA]).await.unwrap().get::<_, i64>(0), 0);
    }
}

/// Hostile texts as ids and as values, and NULs, which only PostgreSQL minds.
fn texts() -> impl Iterator<Item = String> {
    let nuls = ["a\0b", "\0", "'\0;"].map(str::to_owned);
    PAYLOADS.iter().map(|payload| (*payload).to_owned()).chain(nuls).chain(["'\"".repeat(5_000), String::new()])
}

fn with_values() -> Vec<Document> {
    let each = texts().enumerate().map(|(n, text)| {
        doc! {
            "_id": format!("{n}{text}"), "text": &text, "list": [&text, "b"], "in": { "text": &text },
            "items": [{ "text": &text, "n": n as i32 }], "code": Bson::JavaScriptCode(text.clone()),
            "bytes": Binary { subtype: BinarySubtype::Generic, bytes: text.into_bytes() },
        }
    });
    each.collect()
}

/// Every payload as the name of a field: of documents, of documents in them, and of arrays.
fn with_names(names: &[String]) -> Vec<Document> {
    let mut documents = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let other = &names[(n + 1) % names.len()];
        documents.push(doc! {
            "_id": n as i32, name: "value", format!("{name}1"): { other: n as i64, "b": 1 },
            format!("{name}2"): [{ other: "in an array", name: [1, 2] }], format!("{name}3"): ["a", name],
        });
    }
    documents
}

fn field_names() -> Vec<String> {
    let mut names: Vec<String> = PAYLOADS.iter().map(|payload| (*payload).to_owned()).collect();
    // What stands at the beginning of a name of MongoDB's own is no name of a field in all versions and places.
    names.retain(|name| !name.starts_with('$'));
    names.extend(["a$$b", "a$1", "_extra", "idx", "\"_extra\"", "a.b"].map(str::to_owned));
    names
}

fn long_names() -> Vec<String> {
    let long = |text: &str| text.repeat(10_000 / text.len());
    vec![long("x"), long("'\""), long("; DROP TABLE canary; --"), long("é"), format!("{}1", long("x"))]
}

#[tokio::test]
async fn names_and_values_never_become_sql() {
    let mut bed = Bed::new().await;
    let names = collections();
    for name in &names {
        bed.insert(name, [doc! { "_id": 1, "a": "b" }, doc! { "_id": 2, "a": name, "list": [{ "b": name }] }]).await;
    }
    bed.insert("values", with_values()).await;
    bed.insert("fields", with_names(&field_names())).await;
    bed.insert("long", with_names(&long_names())).await;
    let all: Vec<(&str, bool)> =
        names.iter().map(String::as_str).chain(["values", "fields", "long"]).map(|name| (name, false)).collect();

    bed.run(&["schema", "infer"], 0).await;
    text_files_stay_in_their_folder(&bed, names.len() + 3).await;
    bed.judge_all(&all).await;
    bed.run(&["load"], 0).await;
    bed.judge_all(&all).await;
    the_printed_ddl_makes_the_same_tables(&bed).await;

    // Changes come through the oplog: fields by name, whole documents, ids.
    let late = "late'\"; DROP TABLE canary; --".to_owned() + &"y".repeat(10_000);
    for (name, _) in &all {
        let collection = bed.mongo.collection::<Document>(name);
        collection.update_one(doc! {}, doc! { "$set": { "a'\";--": name, &late: 1 } }).await.unwrap();
        collection.delete_one(doc! { "a": "no such" }).await.unwrap();
    }
    for (at, name) in names.iter().enumerate() {
        bed.insert(name, [doc! { "_id": 3, "a": name, name.replace('.', ""): PAYLOADS[at % PAYLOADS.len()] }]).await;
        let collection = bed.mongo.collection::<Document>(name);
        collection.delete_one(doc! { "_id": 1 }).await.unwrap();
        collection
            .replace_one(doc! { "_id": 2 }, doc! { "list": [{ "b": "c" }, { name.replace('.', "") : 1 }] })
            .await
            .unwrap();
    }
    let values = bed.mongo.collection::<Document>("values");
    for (n, text) in texts().enumerate() {
        let id = doc! { "_id": format!("{n}{text}") };
        match n % 3 {
            0 => drop(values.delete_one(id).await.unwrap()),
            1 => drop(
                values
                    .update_one(id, doc! { "$set": { "text": format!("{text}{text}"), "in.text": "" } })
                    .await
                    .unwrap(),
            ),
            _ => drop(values.update_one(id, doc! { "$push": { "list": &text } }).await.unwrap()),
        }
    }
    bed.insert("values", texts().map(|text| doc! { "_id": format!("new {text}"), "text": text })).await;
    bed.run(&["sync"], 0).await;
    bed.judge_all(&all).await;
    bed.run(&["verify"], 0).await;
    bed.run(&["status"], 0).await;

    // What was damaged is found, named, and repaired.
    let tables: Vec<(String, String)> = damaged_columns(&bed).await;
    assert!(tables.len() > 30, "{tables:?}");
    for (table, column) in &tables {
        let sql = format!("UPDATE {table} SET {column} = 'damaged'");
        bed.postgres.batch_execute(&sql).await.unwrap();
    }
    let told = bed.run(&["verify", "--show-values"], 4).await;
    assert!(told.stdout.len() < 400_000, "{} bytes", told.stdout.len());
    bed.run(&["verify", "--repair"], 0).await;
    bed.judge_all(&all).await;
}

/// The root tables of collections with a column `a`, quoted.
async fn damaged_columns(bed: &Bed) -> Vec<(String, String)> {
    let sql = "SELECT format('%I.%I', table_schema, table_name), format('%I', column_name) FROM information_schema.columns \
               WHERE table_schema = $1 AND data_type = 'text' AND column_name IN ('a', 'text')";
    let rows = bed.postgres.query(sql, &[&SCHEMA]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What `gizer schema ddl` prints is run in a database of its own, by whoever likes to.
async fn the_printed_ddl_makes_the_same_tables(bed: &Bed) {
    let ddl = bed.gizer.run(["schema", "ddl"]).await.unwrap().expect_code(0).stdout;
    let database = bed.server.create_database().await.unwrap();
    let client = bed.server.client(&database).await.unwrap();
    client.batch_execute(&format!("CREATE SCHEMA \"{}\"", SCHEMA.replace('"', "\"\""))).await.unwrap();
    client.batch_execute(&ddl).await.unwrap();
    let sql = "SELECT coalesce(string_agg(format('%s %s %s', table_name, column_name, data_type), E'\\n' \
               ORDER BY table_name, ordinal_position), '') \
               FROM information_schema.columns WHERE table_schema = $1 AND table_name NOT LIKE 'gizer\\_%' \
               AND table_name NOT IN ('canary', 'qmetlstatus')";
    let columns = async |client: &Client| client.query_one(sql, &[&SCHEMA]).await.unwrap().get::<_, String>(0);
    assert_eq!(columns(&client).await, columns(&bed.postgres).await);
}

/// The classic way: every collection into text files, and those into tables.
async fn text_files_stay_in_their_folder(bed: &Bed, collections: usize) {
    bed.run(&["extract", "--csv-path", "csv/inside"], 0).await;
    let folder = bed.gizer.folder();
    let entries = |path: &str| std::fs::read_dir(folder.join(path)).unwrap().count();
    assert_eq!(entries("csv"), 1, "nothing is beside the folder");
    assert!(entries("csv/inside") >= collections, "{}", entries("csv/inside"));
    bed.run(&["copy", "--csv-path", "csv/inside"], 0).await;
}

#[tokio::test]
async fn hand_written_schema_files_hold_no_sql() {
    let mut bed = Bed::new().await;
    // The classic dialect, judged by one that knows nothing of gizer.
    let usable = PAYLOADS.iter().filter(|name| !name.starts_with('$') && !name.contains('.') && name.len() < 28);
    let names: Vec<&str> = usable.copied().collect();
    let mut fields = serde_json::Map::new();
    fields.insert("_id".into(), "INT".into());
    for name in &names {
        fields.insert(format!("{name}x"), "STRING".into());
    }
    fields.insert("in'\";--".into(), serde_json::json!({ "a\"b": "INT", "list$$": [{ "c'd": "STRING" }] }));
    let classic = "classic'\";--";
    bed.schema_file(classic, &serde_json::Value::from(fields).to_string());
    let documents = (0..20).map(|n| {
        let mut document =
            doc! { "_id": n, "in'\";--": { "a\"b": n, "list$$": [{ "c'd": "'; DROP TABLE canary; --" }] } };
        for name in &names {
            document.insert(format!("{name}x"), format!("{name}{n}"));
        }
        document
    });
    bed.insert(classic, documents).await;
    // Names that the file chooses, and one of 10 kB.
    let chosen = serde_json::json!({ "$gizer": 1, "fields": {
        "_id": "INT",
        "a": { "$type": "STRING", "$name": "x\"; DROP TABLE canary; --" },
        "b": { "$items": { "c": { "$type": "INT", "$name": "'" } }, "$name": "t') ; DROP TABLE canary; --" },
        "l".repeat(10_000): "STRING",
    }});
    bed.schema_file("chosen", &chosen.to_string());
    let long = "l".repeat(10_000);
    bed.insert("chosen", (0..9).map(|n| doc! { "_id": n, "a": "'", "b": [{ "c": n }], &long: "v" })).await;

    let all = [(classic, true), ("chosen", false)];
    bed.run(&["load"], 0).await;
    bed.judge_all(&all).await;
    for (collection, _) in all {
        let collection = bed.mongo.collection::<Document>(collection);
        collection.delete_one(doc! { "_id": 3 }).await.unwrap();
        collection.update_one(doc! { "_id": 4 }, doc! { "$set": { "a": "\"", "'x": "\\", "b.0.c": 7 } }).await.unwrap();
        collection.insert_one(doc! { "_id": 100, "a": "new", "\"x": "'", &long: "\0" }).await.unwrap();
    }
    bed.run(&["sync"], 0).await;
    bed.judge_all(&all).await;
    bed.run(&["verify"], 0).await;

    let prefix = "p'\";--";
    bed.run(&["load", "chosen", "--prefix", prefix], 0).await;
    let table =
        format!("SELECT count(*) FROM \"{}\".\"{}chosen\"", SCHEMA.replace('"', "\"\""), prefix.replace('"', "\"\""));
    assert_eq!(bed.postgres.query_one(&table, &[]).await.unwrap().get::<_, i64>(0), 9);
    bed.judge_all(&all).await;
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_in_few_words() {
    let bed = Bed::new().await;
    let long = "y'".repeat(5_000);
    let files = [
        (format!(r#"{{"_id": "{long}"}}"#), "unknown type"),
        (format!(r#"{{"_id": "INT", "{long}": "INT", "{long}": "INT"}}"#), "in this object twice"),
        (format!(r#"{{"_id": "INT", "{long}": 7}}"#), "expected"),
        (format!(r#"{{"$gizer": 1, "fields": {{"_id": "INT", "a": {{"${long}": 1}}}}}}"#), "unknown directive"),
        (format!(r#"{{"$gizer": 1, "fields": {{"_id": "INT", "a": {{"$as": "{long}"}}}}}}"#), "unknown policy"),
        (
            format!(r#"{{"$gizer": 1, "fields": {{"_id": "INT", "a": {{"$type": "INT", "$name": "{long}"}}}}}}"#),
            "longer than 63 bytes",
        ),
        (format!(r#"{{"$gizer": 1, "fields": {{"_id": "INT", "{long}": {{"$type": "INT", "$name": ""}}}}}}"#), "empty"),
        (format!(r#"{{"$gizer": 1, "fields": {{"_id": "INT", "{long}": "KEY"}}}}"#), "only _id can be"),
        (format!(r#"{{"$gizer": 1, "collection": "{long}", "fields": {{"_id": "INT"}}}}"#), "this is the schema of"),
        (format!(r#"{{"$gizer": 1, "{long}": {{}}}}"#), "unknown key"),
        (format!(r#"{{"$gizer": 1, "fields": "{long}"}}"#), "expected"),
        (format!(r#"["{long}"]"#), "expected"),
        (long.clone(), "expected"),
        (
            r#"{"$gizer": 1, "fields": {"_id": "INT", "a": {"$type": "INT", "$name": "a\u0000b"}}}"#.to_owned(),
            "holds a NUL",
        ),
        (r#"{"_id": "INT", "a\u001b[31m\u202e": "NO"}"#.to_owned(), "unknown type"),
    ];
    bed.insert("bad", [doc! { "_id": 1 }]).await;
    for (text, word) in &files {
        bed.schema_file("bad", text);
        bed.refused(&["load", "bad"], &[word]).await;
        bed.refused(&["schema", "ddl"], &[word]).await;
    }
    bed.schema_file("bad", r#"{"_id": "INT"}"#);
    let long = long.as_str();
    let cases: [(&[&str], &str); 8] = [
        (&["load", long], "schema file"),
        (&["schema", "infer", long], "found none"),
        (&["verify", long], "expected a collection"),
        (&["load", "bad", "--prefix", long], "expected at most 63"),
        (&["load", "bad", "--prefix", ""], "cannot begin names"),
        (&["load", "bad", "--postgres-schema", long], "does not exist"),
        (&["load", "bad", "--mongo-database", long], "expected the name of a database"),
        (&["load", "a\u{1b}[31m\u{202e}\n"], "schema file"),
    ];
    for (args, word) in cases {
        bed.refused(args, &[word]).await;
    }
    let unknown = bed.run(&["status", long], 1).await.stderr;
    assert!(unknown.len() < 1_500, "{unknown}");
    for file in ["nul%00nul", "esc\u{1b}ape"] {
        bed.schema_file(file, r#"{"_id": "INT"}"#);
        let told = bed.run(&["load"], 2).await;
        assert!(told.stderr.len() < 3_000, "{told:?}");
        std::fs::remove_file(bed.gizer.folder().join(format!("schemas/{file}.json"))).unwrap();
    }
}
