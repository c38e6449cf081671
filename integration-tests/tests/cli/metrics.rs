//! What Prometheus reads: over HTTP while gizer follows, and from the textfile after each run.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bson::{Document, doc};
use integration_tests::rig::{Mongod, RunningGizer, Signal, Version, shared_postgres, wait_for, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::place::{Place, assert_says, numbered};

const LIMIT: Duration = Duration::from_secs(120);

/// Documents that are there before anything is followed.
const DOCUMENTS: i32 = 20;

/// The values of all series, by their names as they are written.
type Series = BTreeMap<String, f64>;

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The rest after `{name="value",…}`, if it is that.
fn after_labels(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('{')?;
    loop {
        let (name, after) = rest.split_once("=\"")?;
        is_name(name).then_some(())?;
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') => ['\\', '"', 'n'].contains(&chars.next()?.1).then_some(())?,
                (at, '"') => break at,
                _ => {}
            }
        };
        rest = &after[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return rest.strip_prefix('}'),
        }
    }
}

/// Reads the text format of version 0.0.4, each line of it: HELP and TYPE once before the series of each metric, which stand
/// together, no series twice, buckets that grow up to +Inf, which is the count.
fn parse(text: &str) -> Series {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    let (mut all, mut types) = (Series::new(), BTreeMap::new());
    let (mut current, mut helped) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty() && !types.contains_key(name), "{line}");
            name.clone_into(&mut helped);
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind) && name == helped, "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            name.clone_into(&mut current);
            continue;
        }
        let name = line.split(['{', ' ']).next().unwrap();
        let rest = &line[name.len()..];
        let value = if rest.starts_with('{') { after_labels(rest).unwrap_or_else(|| panic!("{line}")) } else { rest };
        let series = &line[..line.len() - value.len()];
        let value: f64 = value.strip_prefix(' ').unwrap().parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        let of = match types[&current].as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap(),
            _ => name,
        };
        assert!(is_name(name) && of == current, "{line} stands under {current}");
        assert!(types[&current] == "gauge" || value >= 0.0, "{line}");
        assert!(all.insert(series.to_owned(), value).is_none(), "{line} stands there twice");
    }
    for histogram in types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
        let bucket = format!("{histogram}_bucket{{le=\"");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&bucket)?.split_once("\"} "));
        let buckets: Vec<(f64, f64)> =
            lines.map(|(le, count)| (le.replace("+Inf", "inf").parse().unwrap(), count.parse().unwrap())).collect();
        assert!(buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, all[&format!("{histogram}_count")])));
    }
    all
}

#[test]
fn the_parser_is_strict() {
    let good = "# HELP a_b b.\n# TYPE a_b gauge\na_b{x=\"1\\\"} 5\",y=\"\"} 2.5\n";
    assert_eq!(parse(good).into_iter().collect::<Vec<_>>(), [("a_b{x=\"1\\\"} 5\",y=\"\"}".to_owned(), 2.5)]);
    let head = "# HELP a_b b.\n# TYPE a_b gauge\n";
    let cases = [
        "a_b 1\n".to_owned(),
        format!("{head}a_b 1"),
        format!("{head}a_b 1\na_b 1\n"),
        format!("{head}a_b one\n"),
        format!("{head}other 1\n"),
        format!("{head}a_b{{x=1}} 1\n"),
        format!("{head}a_b{{x=\"1}} 1\n"),
        format!("{head}{head}a_b 1\n"),
    ];
    for text in cases {
        assert!(std::panic::catch_unwind(|| parse(&text)).is_err(), "{text}");
    }
}

/// A place with a loaded collection.
async fn loaded() -> Place {
    loaded_on(Place::shared(Version::V6_0).await).await
}

/// As [`loaded`], for a place that is there.
async fn loaded_on(place: Place) -> Place {
    place.insert("posts", numbered(DOCUMENTS)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    place
}

/// Lets each run write its metrics into a file, which has a folder of its own.
fn with_textfile(place: &Place) -> PathBuf {
    let folder = place.gizer.folder().join("node exporter");
    std::fs::create_dir(&folder).unwrap();
    let config = std::fs::read_to_string(place.gizer.config_path()).unwrap();
    let setting = "[metrics]\ntextfile = \"node exporter/gizer.prom\"\n";
    std::fs::write(place.gizer.config_path(), config + setting).unwrap();
    folder.join("gizer.prom")
}

/// What the textfile says, and that nothing lies beside it.
fn textfile(path: &PathBuf) -> Series {
    let beside: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside, ["gizer.prom"]);
    parse(&std::fs::read_to_string(path).unwrap())
}

/// Follows with metrics at a port of the system's choice; gives its address.
async fn follow(place: &Place) -> (RunningGizer, SocketAddr) {
    let running = place.gizer.spawn(["sync", "--follow", "--metrics", "127.0.0.1:0"]).unwrap();
    let told = wait_for("the address of the metrics", LIMIT, async || {
        let said = running.stderr();
        let (_, after) = said.split_once("metrics are served at http://")?;
        after.split_once("/metrics\n")?.0.parse().ok()
    });
    let address = told.await.unwrap();
    (running, address)
}

/// Sends this and gives all that comes back.
async fn ask(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn scrape(address: SocketAddr) -> Series {
    let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n").await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    parse(body)
}

/// Waits until this holds of what is scraped; gives it.
async fn scraped(what: &str, address: SocketAddr, holds: impl Fn(&Series) -> bool) -> Series {
    let mut last = Series::new();
    let outcome = wait_until(what, LIMIT, async || {
        last = scrape(address).await;
        holds(&last)
    });
    if let Err(error) = outcome.await {
        panic!("{error}: {last:#?}");
    }
    last
}

fn changes(series: &Series) -> Vec<f64> {
    let of = |operation| {
        let name = format!("gizer_changes_applied_total{{collection=\"posts\",operation=\"{operation}\"}}");
        series.get(&name).copied().unwrap_or(f64::NAN)
    };
    ["insert", "replace", "update", "delete", "migration"].map(of).to_vec()
}

fn rows(series: &Series, operation: &str) -> f64 {
    series[&format!("gizer_rows_written_total{{collection=\"posts\",operation=\"{operation}\"}}")]
}

/// The only series of a metric with one label.
fn single(series: &Series, name: &str) -> Option<f64> {
    let mut found = series.iter().filter(|(series, _)| series.split('{').next() == Some(name));
    let value = found.next().map(|(_, value)| *value);
    assert_eq!(found.next(), None, "{name} has several series");
    value
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[tokio::test]
async fn following_is_told_while_it_goes_on() {
    let place = loaded().await;
    let path = with_textfile(&place);
    let (running, address) = follow(&place).await;
    let first = scraped("the collection", address, |series| !changes(series)[0].is_nan()).await;
    assert_eq!(changes(&first), [0.0; 5], "counters begin at 0, so that the first change is an increase");
    let began = first["gizer_last_run_start_timestamp_seconds{command=\"sync\"}"];
    assert!((0.0..60.0).contains(&(now() - began)), "{began}");
    let untold = ["gizer_last_run_end_timestamp_seconds", "gizer_last_run_exit_code", "gizer_repairs_total"];
    assert!(untold.iter().all(|name| single(&first, name).is_none()), "what is not known is told: {first:#?}");

    let posts = place.mongo.collection::<Document>("posts");
    posts.insert_many([100, 101, 102].map(|n| doc! {"_id": n, "text": "new", "list": [1]})).await.unwrap();
    posts.replace_one(doc! {"_id": 100}, doc! {"text": "replaced", "list": []}).await.unwrap();
    posts.update_many(doc! {"_id": {"$in": [0, 1]}}, doc! {"$set": {"text": "updated"}}).await.unwrap();
    posts.delete_one(doc! {"_id": 2}).await.unwrap();
    let applied = scraped("the changes", address, |series| changes(series) == [3.0, 1.0, 2.0, 1.0, 0.0]).await;
    let net = rows(&applied, "insert") - rows(&applied, "delete");
    let before = f64::from(DOCUMENTS) * 3.0;
    let stored = place.number("SELECT (SELECT count(*) FROM posts) + (SELECT count(*) FROM post_list)").await;
    assert_eq!(before + net, stored as f64, "{applied:#?}");
    assert_eq!(applied["gizer_batch_duration_seconds_count"], applied["gizer_batches_committed_total"]);

    let quiet =
        scraped("no lag", address, |series| single(series, "gizer_lag_seconds").is_some_and(|lag| lag <= 1.0)).await;
    let value = |name| single(&quiet, name).unwrap_or_else(|| panic!("{name} is not known: {quiet:#?}"));
    assert!((now() - value("gizer_position_timestamp_seconds")).abs() < 60.0, "{quiet:#?}");
    assert!((now() - value("gizer_verified_timestamp_seconds")).abs() < 60.0, "{quiet:#?}");
    assert!(value("gizer_oplog_headroom_seconds") >= 0.0, "{quiet:#?}");
    assert_eq!((value("gizer_documents_under_way_bytes"), value("gizer_catching_up")), (0.0, 0.0));
    let memory = value("process_resident_memory_bytes");
    assert!((1e6..1e9).contains(&memory), "{memory}");
    wait_until("the textfile to say so, too", LIMIT, async || {
        path.exists() && changes(&textfile(&path)) == [3.0, 1.0, 2.0, 1.0, 0.0]
    })
    .await
    .unwrap();

    assert!(ask(address, "GET / HTTP/1.1\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 404 "));
    assert!(ask(address, "POST /metrics HTTP/1.1\r\n\r\n").await.unwrap().starts_with("HTTP/1.1 405 "));
    let batches = scrape(address).await["gizer_batches_committed_total"];
    running.signal(Signal::Terminate).unwrap();
    let ended = running.wait().await.unwrap().expect_code(143);
    assert_eq!(ended.stderr.matches("batch committed").count() as f64, batches, "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("run ended").count(), 1, "{}", ended.stderr);
    let last = textfile(&path);
    assert_eq!(changes(&last), [3.0, 1.0, 2.0, 1.0, 0.0], "each was added once");
    assert_eq!(last["gizer_last_run_exit_code{command=\"sync\"}"], 143.0);
    assert_eq!(single(&last, "gizer_lag_seconds"), None, "nobody looks any more");
    assert!(single(&last, "gizer_position_timestamp_seconds").is_some(), "the tables stand where they stood");
}

#[tokio::test]
async fn what_mongodb_does_not_tell_is_not_known() {
    let mongod = Mongod::start(Version::V5_0).await.unwrap();
    let place = loaded_on(Place::on(&mongod, shared_postgres().await.unwrap()).await).await;
    let (running, address) = follow(&place).await;
    let asked = ["gizer_lag_seconds", "gizer_oplog_headroom_seconds"];
    let known = |series: &Series| asked.map(|name| single(series, name).is_some());
    let before = scraped("both ends of the oplog", address, |series| known(series) == [true; 2]).await;
    mongod.kill().unwrap();
    let gone = scraped("the ends not to be known", address, |series| known(series) == [false; 2]).await;
    let position = |series: &Series| single(series, "gizer_position_timestamp_seconds");
    assert!(position(&gone) >= position(&before) && position(&gone).is_some(), "{gone:#?}");
    mongod.restart().await.unwrap();
    place.insert("posts", [doc! {"_id": 1000, "text": "after it"}]).await;
    let back =
        scraped("both ends again", address, |series| known(series) == [true; 2] && changes(series)[0] == 1.0).await;
    assert!(position(&back) >= position(&gone), "{back:#?}");
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap().expect_code(143);
}

#[tokio::test]
async fn reloads_rejects_and_catching_up_are_counted() {
    let place = loaded().await;
    let (running, address) = follow(&place).await;
    place.insert("posts", [doc! {"_id": "no number", "text": "rejected"}]).await;
    let of_posts = |name: &str| format!("{name}{{collection=\"posts\"}}");
    let rejected = of_posts("gizer_rejected_documents_total");
    scraped("the rejected document", address, |series| series.get(&rejected) == Some(&1.0)).await;
    place.insert("other", numbered(DOCUMENTS + 7)).await;
    let out = doc! {"aggregate": "other", "pipeline": [{"$out": "posts"}], "cursor": {}};
    place.mongo.run_command(out).await.unwrap();
    let reloads = "gizer_reloads_total{reason=\"another collection was renamed to its name\"}";
    let reloaded = scraped("the reload", address, |series| {
        series.get(reloads) == Some(&1.0) && series.contains_key(&of_posts("gizer_documents_loaded_total"))
    });
    let reloaded = reloaded.await;
    assert_eq!(reloaded[&of_posts("gizer_documents_loaded_total")], f64::from(DOCUMENTS + 7));
    assert_eq!(rows(&reloaded, "copy"), f64::from((DOCUMENTS + 7) * 3));
    let exact = |series: &Series| single(series, "gizer_catching_up") == Some(0.0);
    scraped("the tables to be exact", address, exact).await;
    running.signal(Signal::Terminate).unwrap();
    running.wait().await.unwrap().expect_code(143);
}

#[tokio::test]
async fn slow_clients_hold_nothing_up() {
    let place = loaded().await;
    let (running, address) = follow(&place).await;
    let mut clients = Vec::new();
    for n in 0..40 {
        let mut client = TcpStream::connect(address).await.unwrap();
        // Half of a request; all of one, whose answer is never read.
        let request = if n % 2 == 0 { "GET /metrics HTTP/1.1\r\nHost: x" } else { "GET /metrics HTTP/1.1\r\n\r\n" };
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    place.insert("posts", [doc! {"_id": 1000, "text": "beside them"}]).await;
    let there = "SELECT count(*) FROM posts WHERE text = 'beside them'";
    wait_until("the change to be applied", LIMIT, async || place.number(there).await == 1).await.unwrap();
    // They are cut off, and the next one is served.
    scraped("the change to be told", address, |series| changes(series)[0] == 1.0).await;
    for (n, client) in clients.iter_mut().enumerate() {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(LIMIT, client.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(n % 2 == 0, read.is_err() || answer.is_empty(), "{n}: {}", String::from_utf8_lossy(&answer));
    }
    // One that sends without an end is not listened to for ever. It may lose the answer, which it does not wait for.
    let mut endless = TcpStream::connect(address).await.unwrap();
    let line = format!("X: {}\r\n", "x".repeat(1000));
    let sent = async {
        endless.write_all(b"GET /metrics HTTP/1.1\r\n").await?;
        for _ in 0..100_000 {
            endless.write_all(line.as_bytes()).await?;
        }
        Ok::<_, io::Error>(())
    };
    assert!(tokio::time::timeout(LIMIT, sent).await.unwrap().is_err(), "100 MB of a request were taken");
    running.signal(Signal::Interrupt).unwrap();
    running.wait().await.unwrap().expect_code(130);
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_before_anything_begins() {
    let place = loaded().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let runs = "SELECT count(*) FROM qmetlstatus";
    let before = place.number(runs).await;
    let refused = place.gizer(&["sync", "--follow", "--metrics", &address]).await;
    assert_says(&refused, 2, &["cannot serve metrics at", &address, "help: give another address"]);
    let refused = place.gizer(&["sync", "--follow", "--metrics-listen", &address]).await;
    assert_says(&refused, 2, &["cannot serve metrics at", &address]);
    assert_eq!(place.number(runs).await, before);
    let pointless = place.gizer(&["sync", "--metrics", &address]).await;
    assert_says(&pointless, 2, &["--follow"]);
    let wrong = place.gizer(&["sync", "--follow", "--metrics-listen", "9290"]).await;
    assert_says(
        &wrong,
        2,
        &["--metrics-listen: expected an IP address and a port such as 127.0.0.1:9290, got \"9290\""],
    );
}

#[tokio::test]
async fn each_run_leaves_a_textfile() {
    let place = Place::shared(Version::V6_0).await;
    let path = with_textfile(&place);
    place.insert("posts", numbered(DOCUMENTS)).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    assert!(!path.exists(), "there was no run");
    let run = |series: &Series, what: &str, command: &str| {
        series.get(&format!("gizer_{what}{{command=\"{command}\"}}")).copied()
    };

    place.gizer(&["load"]).await.expect_code(0);
    let loaded = textfile(&path);
    assert_eq!(run(&loaded, "last_run_exit_code", "load"), Some(0.0));
    let succeeded = run(&loaded, "last_success_timestamp_seconds", "load").unwrap();
    assert!((now() - succeeded).abs() < 60.0);
    assert_eq!(single(&loaded, "gizer_documents_loaded_total"), Some(f64::from(DOCUMENTS)));
    assert_eq!(rows(&loaded, "copy"), f64::from(DOCUMENTS * 3));
    assert!(!loaded.keys().any(|name| name.starts_with("process_") || name.contains("shard=")), "{loaded:#?}");

    place.gizer(&["load", "nothing"]).await.expect_code(2);
    let failed = textfile(&path);
    assert_eq!(run(&failed, "last_run_exit_code", "load"), Some(2.0));
    assert_eq!(run(&failed, "last_success_timestamp_seconds", "load"), Some(succeeded));
    assert_eq!(single(&failed, "gizer_documents_loaded_total"), Some(f64::from(DOCUMENTS)));

    for (round, id) in [(1.0, 500), (2.0, 501)] {
        place.insert("posts", [doc! {"_id": id, "text": "later"}]).await;
        place.gizer(&["sync"]).await.expect_code(0);
        let synced = textfile(&path);
        assert_eq!(changes(&synced), [round, 0.0, 0.0, 0.0, 0.0], "rounds add up");
        assert!(single(&synced, "gizer_lag_seconds").is_some_and(|lag| lag <= 5.0), "{synced:#?}");
        assert!(single(&synced, "gizer_oplog_headroom_seconds").is_some_and(|left| left >= 0.0), "{synced:#?}");
        assert_eq!(run(&synced, "last_run_exit_code", "load"), Some(2.0), "what others have told stays");
    }
    let position = single(&textfile(&path), "gizer_position_timestamp_seconds");

    place.postgres.batch_execute("UPDATE posts SET text = 'other' WHERE id = 3").await.unwrap();
    place.gizer(&["verify"]).await.expect_code(4);
    let verified = textfile(&path);
    assert_eq!(single(&verified, "gizer_differing_documents"), Some(1.0));
    assert_eq!(run(&verified, "last_run_exit_code", "verify"), Some(4.0));
    assert_eq!(run(&verified, "last_success_timestamp_seconds", "verify"), None);
    place.gizer(&["verify", "--repair"]).await.expect_code(0);
    let repaired = textfile(&path);
    assert_eq!(single(&repaired, "gizer_differing_documents"), Some(0.0));
    assert_eq!(single(&repaired, "gizer_repairs_total"), Some(1.0), "{repaired:#?}");
    assert!(single(&repaired, "gizer_lag_seconds").is_some_and(|lag| lag <= 5.0), "its round followed: {repaired:#?}");
    assert!(single(&repaired, "gizer_oplog_headroom_seconds").is_some_and(|left| left >= 0.0), "{repaired:#?}");

    // A round that gets nowhere does not know how far the tables are behind. They stand where they stood.
    place.gizer(&["sync", "--postgres-uri", "postgresql://nobody:hunter2@127.0.0.1:1/x"]).await.expect_code(1);
    let lost = textfile(&path);
    assert_eq!(run(&lost, "last_run_exit_code", "sync"), Some(1.0));
    assert_eq!((single(&lost, "gizer_lag_seconds"), single(&lost, "gizer_oplog_headroom_seconds")), (None, None));
    assert!(single(&lost, "gizer_position_timestamp_seconds") >= position);
    assert_eq!(changes(&lost)[0], 2.0);

    // A file that cannot be written is a warning.
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let unwritten = place.gizer(&["sync"]).await;
    assert_says(&unwritten, 0, &["could not write the metrics textfile", "gizer.prom"]);
}
