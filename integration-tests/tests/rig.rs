//! The rig keeps its word: servers start, answer, restart with their data, and end however their owner ends.

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use integration_tests::rig::{
    Error as RigError, Mongod, POSTGRES_PASSWORD, Postgres, Proxy, ProxyMode, ReplicaSet, Signal, Version,
    shared_mongod, shared_postgres, unique_name, wait_for, wait_until,
};
use mongodb::Client;
use mongodb::options::ReadConcern;
use serde_json::Value;
use tokio_postgres::NoTls;

type Outcome = Result<(), Box<dyn Error>>;

const LIMIT: Duration = Duration::from_secs(60);

async fn admin(client: &Client, command: Document) -> Result<Document, mongodb::error::Error> {
    client.database("admin").run_command(command).await
}

fn is_alive(pid: u32) -> bool {
    // A process that nobody has waited for yet is a zombie, and dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn folder_of(log: &Path) -> &Path {
    log.parent().unwrap_or(log)
}

async fn wait_until_gone(pids: &[u32], folders: &[&Path]) -> Result<(), RigError> {
    wait_until(format!("processes {pids:?} and folders {folders:?} to be gone"), LIMIT, async || {
        !pids.iter().any(|&pid| is_alive(pid)) && !folders.iter().any(|folder| folder.exists())
    })
    .await
}

// --- mongod ---------------------------------------------------------------------------------------

async fn is_what_it_claims(version: Version) -> Outcome {
    let mongod = shared_mongod(version).await?;
    let client = mongod.client().await?;

    let info = admin(&client, doc! { "buildInfo": 1 }).await?;
    assert_eq!(info.get_str("version")?, version.full());
    let status = admin(&client, doc! { "replSetGetStatus": 1 }).await?;
    assert_eq!(status.get_str("set")?, "rs0");
    assert_eq!(status.get_i32("myState")?, 1, "1 is PRIMARY");

    let database = unique_name("oplog");
    client.database(&database).collection("c").insert_one(doc! { "_id": 1, "a": "x" }).await?;
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let ns = format!("{database}.c");
    wait_for("the insert to be majority committed in the oplog", LIMIT, async || {
        let entry =
            oplog.find_one(doc! { "ns": &ns, "op": "i" }).read_concern(ReadConcern::majority()).await.ok()??;
        (entry.get_document("o").ok()? == &doc! { "_id": 1, "a": "x" }).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn mongod_4_4_is_a_primary_with_an_oplog() -> Outcome {
    is_what_it_claims(Version::V4_4).await
}

#[tokio::test]
async fn mongod_5_0_is_a_primary_with_an_oplog() -> Outcome {
    is_what_it_claims(Version::V5_0).await
}

#[tokio::test]
async fn mongod_6_0_is_a_primary_with_an_oplog() -> Outcome {
    is_what_it_claims(Version::V6_0).await
}

#[tokio::test]
async fn two_mongods_live_side_by_side() -> Outcome {
    let start = |name| Mongod::builder(Version::V4_4).repl_set_name(name).start();
    let (one, other) = tokio::try_join!(start("shard1"), start("shard2"))?;
    assert_ne!(one.port(), other.port());
    for (mongod, set) in [(&one, "shard1"), (&other, "shard2")] {
        let hello = admin(&mongod.client().await?, doc! { "hello": 1 }).await?;
        assert_eq!(hello.get_str("setName")?, set);
    }
    Ok(())
}

#[tokio::test]
async fn a_restarted_mongod_has_its_data_and_its_port() -> Outcome {
    let mongod = Mongod::start(Version::V6_0).await?;
    let (port, uri) = (mongod.port(), mongod.uri());
    let insert = async |id: i32| {
        let client = mongod.client().await?;
        let durable = mongodb::options::WriteConcern::builder().journal(true).build();
        client.database("kept").collection("c").insert_one(doc! { "_id": id }).write_concern(durable).await?;
        Ok::<_, Box<dyn Error>>(())
    };

    insert(1).await?;
    mongod.stop().await?;
    assert_eq!(mongod.pid(), None);
    mongod.restart().await?;
    insert(2).await?;
    mongod.kill()?;
    mongod.restart().await?;

    assert_eq!((mongod.port(), mongod.uri()), (port, uri));
    let kept = mongod.client().await?.database("kept").collection::<Document>("c");
    assert_eq!(kept.count_documents(doc! {}).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_killed_mongod_is_dead_at_once_and_says_so() -> Outcome {
    let mongod = Mongod::start(Version::V5_0).await?;
    let pid = mongod.pid().ok_or("a running server has a pid")?;
    mongod.kill()?;
    assert!(!is_alive(pid));
    assert_eq!(mongod.kill().unwrap_err().to_string(), "mongod 5.0 is not running");
    Ok(())
}

#[tokio::test]
async fn a_dropped_server_leaves_nothing_behind() -> Outcome {
    let (mongod, postgres) = tokio::try_join!(Mongod::start(Version::V4_4), Postgres::start())?;
    let pids = [mongod.pid(), postgres.pid()].map(Option::unwrap_or_default);
    let logs = [mongod.log_path(), postgres.log_path()];
    assert!(pids.iter().all(|&pid| is_alive(pid)) && logs.iter().all(|log| log.exists()));
    drop((mongod, postgres));
    assert!(!pids.iter().any(|&pid| is_alive(pid)));
    assert!(!logs.iter().any(|log| folder_of(log).exists()));
    Ok(())
}

#[tokio::test]
async fn a_standalone_mongod_has_no_replica_set() -> Outcome {
    let mongod =
        Mongod::builder(Version::V6_0).standalone().set_parameter("ttlMonitorEnabled", "false").start().await?;
    let client = mongod.client().await?;
    assert!(!admin(&client, doc! { "hello": 1 }).await?.contains_key("setName"));
    let ttl = admin(&client, doc! { "getParameter": 1, "ttlMonitorEnabled": 1 }).await?;
    assert!(!ttl.get_bool("ttlMonitorEnabled")?);
    Ok(())
}

#[tokio::test]
async fn a_mongod_with_auth_wants_the_password() -> Outcome {
    let mongod = Mongod::builder(Version::V5_0).auth("root", "p@ss/word:%").start().await?;
    let list = doc! { "listDatabases": 1 };
    admin(&mongod.client().await?, list.clone()).await?;

    for uri in [format!("mongodb://{}/?directConnection=true", mongod.host()), mongod.uri_as("root", "wrong")] {
        let client = Client::with_uri_str(&uri).await?;
        assert!(admin(&client, list.clone()).await.is_err(), "{uri} should not have been let in");
    }
    Ok(())
}

#[tokio::test]
async fn a_mongod_that_cannot_start_shows_its_log() {
    let error = Mongod::builder(Version::V6_0).arg("--noSuchOption").start().await.unwrap_err().to_string();
    assert!(error.starts_with("mongod 6.0 ended with exit status: 2 while"), "{error}");
    assert!(error.contains("unrecognised option"), "{error}");
}

#[tokio::test]
async fn a_replica_set_survives_its_primary() -> Outcome {
    let set = ReplicaSet::start(Version::V6_0, 3).await?;
    assert_eq!(set.secondaries().await?.len(), 2);
    let client = set.client().await?;
    let majority = mongodb::options::WriteConcern::majority();
    client.database("d").collection("c").insert_one(doc! { "_id": 1 }).write_concern(majority).await?;

    let old = set.primary().await?;
    old.kill()?;
    let new = set.primary().await?;
    assert_ne!(new.port(), old.port());
    let found = client.database("d").collection::<Document>("c").find_one(doc! { "_id": 1 }).await?;
    assert!(found.is_some());

    old.restart().await?;
    assert_eq!(set.secondaries().await?.len(), 2);
    Ok(())
}

// --- PostgreSQL -----------------------------------------------------------------------------------

#[tokio::test]
async fn postgres_gives_each_test_a_database_of_its_own() -> Outcome {
    let postgres = shared_postgres().await?;
    let (one, other) = tokio::try_join!(postgres.create_database(), postgres.create_database())?;
    assert_ne!(one, other);
    postgres.client(&one).await?.batch_execute("CREATE TABLE t (a int)").await?;
    let tables = postgres.client(&other).await?.query("SELECT FROM pg_tables WHERE tablename = 't'", &[]).await?;
    assert!(tables.is_empty());
    Ok(())
}

#[tokio::test]
async fn postgres_wants_the_password_and_does_not_log_it() -> Outcome {
    let postgres = Postgres::builder().setting("log_connections", "on").setting("work_mem", "5MB").start().await?;
    let client = postgres.client("postgres").await?;
    let work_mem: String = client.query_one("SHOW work_mem", &[]).await?.get(0);
    assert_eq!(work_mem, "5MB");

    let wrong = postgres.uri_as("postgres", "wrong", "postgres");
    let Err(refused) = tokio_postgres::connect(&wrong, NoTls).await else {
        return Err("a wrong password should not have been let in".into());
    };
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
    let log = std::fs::read_to_string(postgres.log_path())?;
    assert!(log.contains("connection authorized") && !log.contains(POSTGRES_PASSWORD), "{log}");
    Ok(())
}

#[tokio::test]
async fn postgres_sorts_text_by_language_unless_told_otherwise() -> Outcome {
    let client = shared_postgres().await?.client("postgres").await?;
    let major: i32 = client.query_one("SELECT current_setting('server_version_num')::int / 10000", &[]).await?.get(0);
    if major < 15 {
        return Ok(()); // the default collation could only be one of the operating system's, and they vary
    }
    let row = client.query_one("SELECT 'b'::text < 'C'::text, 'b'::text < 'C'::text COLLATE \"C\"", &[]).await?;
    assert_eq!((row.get(0), row.get(1)), (true, false));
    Ok(())
}

#[tokio::test]
async fn a_restarted_postgres_has_what_was_committed() -> Outcome {
    let postgres = Postgres::builder().password("p@ss/word:%").data_file("note.txt", "kept").start().await?;
    let note = "SELECT pg_read_file('note.txt')";
    assert_eq!(postgres.client("postgres").await?.query_one(note, &[]).await?.get::<_, String>(0), "kept");

    postgres.client("postgres").await?.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await?;
    postgres.stop().await?;
    assert_eq!(postgres.kill().unwrap_err().to_string(), format!("{} is not running", server_name(&postgres)));
    postgres.restart().await?;

    // Ten times, since a killed server leaves backends and shared memory in its way.
    for round in 2..12 {
        let client = postgres.client("postgres").await?;
        client.execute("INSERT INTO t VALUES ($1)", &[&round]).await?;
        postgres.kill()?;
        assert!(client.execute("SELECT 1", &[]).await.is_err());
        postgres.restart().await?;
        let rows: i64 = postgres.client("postgres").await?.query_one("SELECT count(*) FROM t", &[]).await?.get(0);
        assert_eq!(rows, i64::from(round));
    }
    Ok(())
}

fn server_name(postgres: &Postgres) -> String {
    let log = std::fs::read_to_string(postgres.log_path()).unwrap_or_default();
    let major = log.split("starting PostgreSQL ").nth(1).and_then(|rest| rest.split('.').next()).unwrap_or_default();
    format!("PostgreSQL {major}")
}

#[tokio::test]
async fn a_stopped_process_hangs_and_goes_on() -> Outcome {
    let mongod = Mongod::start(Version::V4_4).await?;
    let client = mongod.client().await?;
    mongod.signal(Signal::Stop)?;
    let ping = admin(&client, doc! { "ping": 1 });
    assert!(tokio::time::timeout(Duration::from_millis(300), ping).await.is_err());
    mongod.signal(Signal::Continue)?;
    admin(&client, doc! { "ping": 1 }).await?;
    Ok(())
}

// --- Whatever happens to the test process ---------------------------------------------------------

/// A process of its own with servers in it.
struct Owner {
    process: Child,
    /// Held open: the end of its input ends the process.
    input: Option<ChildStdin>,
    /// Held open too: a test binary that cannot write its summary fails.
    _output: BufReader<ChildStdout>,
    pids: [u32; 2],
    folders: [PathBuf; 2],
}

impl Owner {
    /// `command` prints a line of JSON with `pids` of two servers, or the line of `rig-serve`.
    fn start(command: &mut Command) -> Result<Self, Box<dyn Error>> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let input = process.stdin.take();
        let mut output = BufReader::new(process.stdout.take().ok_or("its output is piped")?);
        let line: Value = output
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| serde_json::from_str(&line).ok().filter(Value::is_object))
            .ok_or("expected a line of JSON, got none")?;
        let pid = |name: &str| line[name].as_u64().and_then(|pid| u32::try_from(pid).ok()).ok_or("a pid");
        let pids = [pid("mongod_pid")?, pid("postgres_pid")?];
        let mut folders = [const { PathBuf::new() }; 2];
        for (folder, pid) in folders.iter_mut().zip(pids) {
            // The rig's folder is where a server runs, or just above it: postgres changes into its data folder.
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"))?;
            *folder = if cwd.ends_with("data") { folder_of(&cwd).into() } else { cwd };
            assert!(is_alive(pid) && folder.to_string_lossy().contains("gizer-rig."), "{}", folder.display());
        }
        Ok(Self { process, input, _output: output, pids, folders })
    }

    async fn wait_until_servers_gone(&self) -> Result<(), RigError> {
        let [one, other] = &self.folders;
        wait_until_gone(&self.pids, &[one, other]).await
    }
}

fn rig_serve() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rig-serve"));
    command.arg("5.0");
    command
}

#[tokio::test]
async fn servers_end_when_their_owner_is_killed() -> Outcome {
    let mut owner = Owner::start(&mut rig_serve())?;
    owner.process.kill()?;
    owner.process.wait()?;
    owner.wait_until_servers_gone().await?;
    Ok(())
}

#[tokio::test]
async fn rig_serve_ends_at_sigint_sigterm_and_end_of_input() -> Outcome {
    for signal in [Some("INT"), Some("TERM"), None] {
        let mut owner = Owner::start(&mut rig_serve())?;
        if let Some(signal) = signal {
            let kill = format!("kill -s {signal} {}", owner.process.id());
            assert!(Command::new("sh").args(["-c", &kill]).status()?.success());
        } else {
            owner.input = None;
        }
        assert!(owner.process.wait()?.success());
        // It drops its servers before it ends, so there is nothing to wait for.
        assert!(!owner.pids.iter().any(|&pid| is_alive(pid)) && !owner.folders.iter().any(|folder| folder.exists()));
    }
    Ok(())
}

const AS_OWNER: &str = "GIZER_RIG_TEST_AS_OWNER";

#[tokio::test]
async fn shared_servers_end_with_their_process() -> Outcome {
    if std::env::var_os(AS_OWNER).is_some() {
        return own_shared_servers().await;
    }
    let this_test = ["shared_servers_end_with_their_process", "--exact", "--nocapture"];
    let mut owner = Owner::start(Command::new(std::env::current_exe()?).args(this_test).env(AS_OWNER, "1"))?;
    owner.input = None;
    assert!(owner.process.wait()?.success());
    owner.wait_until_servers_gone().await?;
    Ok(())
}

/// What the test above does in a process of its own, which then ends as every test binary does: without dropping statics.
async fn own_shared_servers() -> Outcome {
    let (mongod, postgres) = tokio::try_join!(shared_mongod(Version::V4_4), shared_postgres())?;
    let line = serde_json::json!({ "mongod_pid": mongod.pid(), "postgres_pid": postgres.pid() });
    std::io::Write::write_all(&mut std::io::stdout(), format!("\n{line}\n").as_bytes())?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

// --- A bad network --------------------------------------------------------------------------------

/// Through a proxy, a client of the shared PostgreSQL.
async fn through(proxy: &Proxy) -> Result<tokio_postgres::Client, Box<dyn Error>> {
    let uri = proxy.uri(&shared_postgres().await?.uri("postgres"));
    let (client, connection) = tokio_postgres::connect(&uri, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Whether there is an answer soon; an error if the connection is gone.
async fn answers(client: &tokio_postgres::Client) -> Result<bool, tokio_postgres::Error> {
    match tokio::time::timeout(Duration::from_millis(300), client.query_one("SELECT 1", &[])).await {
        Ok(answer) => answer.map(|_| true),
        Err(_) => Ok(false),
    }
}

#[tokio::test]
async fn a_proxy_forwards_delays_holds_and_cuts() -> Outcome {
    let proxy = Proxy::start(shared_postgres().await?.port())?;
    let client = through(&proxy).await?;
    assert!(answers(&client).await? && proxy.passed() > 100 && proxy.accepted() == 1);

    // Both ways are delayed.
    proxy.set(ProxyMode::Delay(Duration::from_millis(50)));
    let asked = Instant::now();
    client.query_one("SELECT 1", &[]).await?;
    assert!(asked.elapsed() >= Duration::from_millis(100));

    // What was held comes once it may.
    for mode in [ProxyMode::Stall, ProxyMode::StallAfter(10)] {
        proxy.set(mode);
        let before = proxy.passed();
        assert!(!answers(&client).await? && proxy.passed() - before <= 10);
        proxy.set(ProxyMode::Forward);
        // Answers come in the order of their queries: with this one, those of all earlier ones have passed.
        tokio::time::timeout(LIMIT, client.query_one("SELECT 1", &[])).await??;
    }

    // One connection is held, another is not.
    proxy.set(ProxyMode::StallWhere(b"victim".to_vec()));
    let other = through(&proxy).await?;
    let victim = client.query_one("SELECT 'victim'", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(300), victim).await.is_err());
    assert!(!answers(&client).await? && answers(&other).await?);
    Ok(())
}

#[tokio::test]
async fn a_proxy_cuts_at_a_byte_and_refuses() -> Outcome {
    let proxy = Proxy::start(shared_postgres().await?.port())?;
    let client = through(&proxy).await?;
    let before = proxy.passed();
    proxy.set(ProxyMode::CutAfter(7));
    assert!(answers(&client).await.is_err() && client.is_closed());
    assert_eq!(proxy.passed() - before, 7);

    // It cuts once, or whenever it is told.
    let client = through(&proxy).await?;
    assert!(answers(&client).await?);
    proxy.cut();
    assert!(answers(&client).await.is_err());

    proxy.set(ProxyMode::Refuse);
    assert!(through(&proxy).await.is_err());
    proxy.set(ProxyMode::Forward);
    assert!(answers(&through(&proxy).await?).await?);
    Ok(())
}

// --- Waiting --------------------------------------------------------------------------------------

#[tokio::test]
async fn waiting_ends_at_the_limit_even_if_the_probe_hangs() {
    let limit = Duration::from_millis(50);
    let started = Instant::now();
    let never = wait_until("a thing that never comes", limit, async || false).await.unwrap_err();
    assert_eq!(never.to_string(), "waited 50ms in vain for a thing that never comes");
    let hangs = wait_until("a probe that hangs", limit, async || std::future::pending().await).await;
    assert!(hangs.is_err() && started.elapsed() < Duration::from_secs(5));

    let mut asked = 0;
    let third = wait_for("the third time", LIMIT, async || {
        asked += 1;
        (asked == 3).then_some("there")
    });
    assert_eq!(third.await.ok(), Some("there"));
}
