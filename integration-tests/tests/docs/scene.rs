//! The servers, folder and program of one page.
//!
//! Pages speak of servers as they are on nobody's machine: MongoDB at `localhost:27017` with the database `shop`, PostgreSQL
//! at `postgres://gizer@localhost/warehouse`. In all that is run, these are replaced, as text, by private servers, and by databases
//! that only this page has; in what is printed they are put back.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use integration_tests::rig::{
    Gizer, POSTGRES_PASSWORD, POSTGRES_USER, Version, shared_mongod, shared_postgres, unique_name, wait_until,
};
use mongodb::Client;
use tokio::process::Command;

use super::book::Page;
use super::mongosh;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The page whose collections and configuration the others begin with.
pub(crate) const FIRST_PAGE: &str = "getting-started.md";

/// Where the pages serve metrics.
const METRICS: &str = "127.0.0.1:9290";

const MONGO: &str = "localhost:27017";
const POSTGRES: &str = "postgres://gizer@localhost/warehouse";

/// What the commands of a page are run in.
pub(crate) struct Scene {
    /// Its folder is where they run.
    gizer: Gizer,
    mongo: Client,
    mongo_host: String,
    mongo_port: u16,
    pub(crate) mongo_database: String,
    postgres: tokio_postgres::Client,
    postgres_uri: String,
    postgres_port: u16,
    postgres_database: String,
}

/// How a command ended, and all that it printed.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
}

impl Scene {
    /// An empty folder and empty databases.
    pub(crate) async fn empty() -> Scene {
        let (mongod, server) = (shared_mongod(Version::V6_0).await.unwrap(), shared_postgres().await.unwrap());
        let database = server.create_database().await.unwrap();
        let gizer = Gizer::with_config("").unwrap();
        std::fs::remove_file(gizer.config_path()).unwrap();
        Scene {
            gizer,
            mongo: mongod.client().await.unwrap(),
            mongo_host: mongod.host(),
            mongo_port: mongod.port(),
            mongo_database: unique_name("shop"),
            postgres: server.client(&database).await.unwrap(),
            postgres_uri: server.uri(&database),
            postgres_port: server.port(),
            postgres_database: database,
        }
    }

    /// What a page says that it begins with: nothing, the `shop` of the first page (its documents and its `gizer.toml`), or the
    /// shop `loaded`.
    ///
    /// # Errors
    /// What of it failed.
    pub(crate) async fn of(page: &Page, first: &Page) -> Result<Scene, String> {
        let scene = Scene::empty().await;
        let commands: &[&str] = match page.scene.as_deref() {
            None => return Ok(scene),
            Some("shop") => &[],
            Some("loaded") => &["gizer schema infer", "gizer load"],
            Some(other) => return Err(format!("expected the scene shop or loaded, got {other:?}")),
        };
        let toml =
            first.blocks.iter().find(|block| block.language == "toml").ok_or("the first page has no gizer.toml")?;
        super::perform::write(&scene, "gizer.toml", &scene.on_servers(&toml.text));
        let documents =
            first.blocks.iter().find(|block| block.language == "js").ok_or("the first page has no documents")?;
        scene.mongosh(&documents.text).await?;
        for command in commands {
            let ended = scene.bash(command).await?;
            if ended.code != Some(0) {
                return Err(format!("{command}: {}", ended.output));
            }
        }
        Ok(scene)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.gizer.folder()
    }

    pub(crate) fn program(&self) -> &Path {
        self.gizer.program()
    }

    /// Text of a page, with the address of metrics free and the private servers in the place of the page's.
    pub(crate) fn on_servers(&self, text: &str) -> String {
        text.replace(POSTGRES, &self.postgres_uri)
            .replace(MONGO, &self.mongo_host)
            .replace("database = \"shop\"", &format!("database = \"{}\"", self.mongo_database))
            // Any port that is free.
            .replace(METRICS, "127.0.0.1:0")
            // A database beside the first, for what is moved.
            .replace("warehouse_new", &format!("{}_new", self.postgres_database))
    }

    /// An INI file of a page: there, hosts, ports and names stand alone.
    pub(crate) fn ini_on_servers(&self, text: &str) -> String {
        let line = |line: &str| {
            let Some(at) = line.find(['=', ':']) else { return line.to_owned() };
            let (key, value) = (line[..at].trim(), line[at + 1..].trim());
            let value = match value {
                "localhost" => "127.0.0.1".to_owned(),
                "5432" => self.postgres_port.to_string(),
                "27017" => self.mongo_port.to_string(),
                "shop" => self.mongo_database.clone(),
                "warehouse" => self.postgres_database.clone(),
                "gizer" if key.ends_with("-user") => POSTGRES_USER.to_owned(),
                "secret" if key.ends_with("-pass") => POSTGRES_PASSWORD.to_owned(),
                other => other.to_owned(),
            };
            format!("{} {value}", &line[..=at])
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What was printed, with the page's servers in the place of the private ones.
    fn as_on_the_page(&self, output: &str) -> String {
        let postgres_host = format!("127.0.0.1:{}", self.postgres_port);
        let without_password = self.postgres_uri.replace(&format!(":{POSTGRES_PASSWORD}@"), ":***@");
        without_log(&without_panics_of_the_driver(output))
            .replace(&format!("{}/", self.folder().display()), "")
            .replace(&without_password, POSTGRES)
            .replace(&self.postgres_uri, POSTGRES)
            .replace(&self.mongo_host, MONGO)
            .replace(&postgres_host, "localhost:5432")
            .replace(&format!("://{POSTGRES_USER}:***@"), "://gizer:***@")
            .replace(&self.mongo_database, "shop")
            .replace(&self.postgres_database, "warehouse")
            // The pages' URIs have no password; those of the private servers in their place do.
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("gizer: warning: everyone who can list processes sees the password"))
            .collect()
    }

    /// Runs a command in a shell of its own.
    ///
    /// # Errors
    /// It did not end within the limit.
    pub(crate) async fn bash(&self, command: &str) -> Result<Ended, String> {
        let run = self.shell(&format!("umask 077; exec 2>&1\n{}", self.on_servers(command))).output();
        let output =
            tokio::time::timeout(LIMIT, run).await.map_err(|_| format!("`{command}` takes more than {LIMIT:?}"))?;
        let output = output.map_err(|error| format!("cannot run bash: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Ended { code: output.status.code(), output: self.as_on_the_page(&text) })
    }

    /// Runs a command that stays on, until its run is in the status table, and then ends it by SIGTERM.
    ///
    /// # Errors
    /// It did not begin, or did not end.
    pub(crate) async fn bash_until_it_follows(&self, command: &str) -> Result<Ended, String> {
        let script = format!("umask 077; exec 2>&1\nexec {}", self.on_servers(command));
        let mut child = self.shell(&script).spawn().map_err(|error| format!("cannot run bash: {error}"))?;
        let open = "SELECT 1 FROM qmetlstatus WHERE time_end IS NULL";
        let began = wait_until(command, LIMIT, async || {
            let ended = child.try_wait().is_ok_and(|status| status.is_some());
            ended || self.postgres.query_opt(open, &[]).await.is_ok_and(|row| row.is_some())
        });
        began.await.map_err(|error| error.to_string())?;
        if let Some(pid) = child.id() {
            let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
        }
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let output = output.map_err(|_| format!("`{command}` does not end"))?.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Ended { code: output.status.code(), output: self.as_on_the_page(&text) })
    }

    fn shell(&self, script: &str) -> Command {
        let programs = self.program().parent().map(Path::to_owned).unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path: Vec<PathBuf> = [programs].into_iter().chain(std::env::split_paths(&path)).collect();
        let mut bash = Command::new("bash");
        bash.args(["-e", "-o", "pipefail", "-c", script])
            .current_dir(self.folder())
            .env("PATH", std::env::join_paths(path).unwrap_or_default())
            .envs([("LC_ALL", "C.UTF-8"), ("PGTZ", "UTC"), ("PGCLIENTENCODING", "UTF8"), ("PSQLRC", "/dev/null")])
            .envs([("NO_COLOR", "1"), ("PAGER", "cat"), ("RUST_BACKTRACE", "0")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            // A person's own settings are none of the book's.
            if name.to_string_lossy().starts_with("GIZER_") {
                bash.env_remove(name);
            }
        }
        bash
    }

    /// Does what somebody types into mongosh.
    pub(crate) async fn mongosh(&self, text: &str) -> Result<(), String> {
        let text = text.replace("use shop", &format!("use {}", self.mongo_database));
        mongosh::run(&self.mongo, &self.mongo_database, &text).await
    }

    /// Runs SQL in the page's database.
    pub(crate) async fn sql(&self, text: &str) -> Result<(), String> {
        self.postgres.batch_execute(text).await.map_err(|error| match error.as_db_error() {
            Some(error) => error.to_string(),
            None => error.to_string(),
        })
    }
}

/// What a person at a terminal sees: there, a run's summary takes the place of what the log says of its doings.
fn without_log(output: &str) -> String {
    let is_log = |line: &&str| {
        let mut words = line.split_whitespace();
        let is_time = words.next().is_some_and(|word| word.ends_with('Z') && word.contains('T') && word.contains('.'));
        is_time && words.next().is_some_and(|level| ["INFO", "DEBUG", "TRACE"].contains(&level))
    };
    output.split_inclusive('\n').filter(|line| !is_log(line)).collect()
}

/// Now and then a task of MongoDB's driver panics when the runtime ends under it, at the very end of a process (mongodb 3.9,
/// `connection_requester.rs`). That is worth a word, and no page's fault.
fn without_panics_of_the_driver(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let is_panic = |n: usize| lines[n].starts_with("thread 'tokio-rt-worker'") && lines[n].contains("/mongodb-");
    let Some(at) = (0..lines.len()).find(|n| is_panic(*n)) else { return output.to_owned() };
    println!("a task of the driver panicked at the end of a command:\n{}", lines[at..].join("\n"));
    let rest = lines[at..].iter().skip_while(|line| !line.starts_with("note: run with `RUST_BACKTRACE")).skip(1);
    lines[..at].iter().chain(rest).fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn doings_are_left_out_and_warnings_are_not() {
    let doing = "2026-11-22T23:43:18.123456Z  INFO gizer::batch: batch committed inserts=3\n";
    let warning = "2026-11-22T23:43:18.123456Z  WARN gizer: the row stays open\n";
    assert_eq!(
        without_log(&format!("a\n{doing}{warning}2026-11-22T23:43:18Z  x\n")),
        format!("a\n{warning}2026-11-22T23:43:18Z  x\n")
    );
}

#[test]
fn what_the_driver_says_at_the_end_is_taken_out() {
    let panic = "\nthread 'tokio-rt-worker' (834) panicked at /x/mongodb-3.9.1/src/cmap/connection_requester.rs:42:14:\n\
        called `Result::unwrap()` on an `Err` value: SendError { .. }\n\
        note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
    assert_eq!(without_panics_of_the_driver(&format!("a\n{panic}b\n")), "a\n\nb\n");
    let other = "thread 'main' panicked at gizer-cli/src/lib.rs:1:1:\n";
    assert_eq!(without_panics_of_the_driver(other), other);
}
