//! Running the `gizer` program as a user does: a config file, arguments, an exit code.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::guard::Guard;
use super::process::{GuardedChild, Program};
use super::{Error, Island, Signal, wait_for, wait_until};

/// The `gizer` program with a config file, in a temporary folder that is its working directory too.
#[derive(Debug)]
pub struct Gizer {
    program: PathBuf,
    config: PathBuf,
    env: Vec<(OsString, OsString)>,
    /// A process in whose network namespace it runs.
    island: Option<u32>,
    limit: Duration,
    runs: AtomicU32,
    guard: Arc<Guard>,
}

impl Gizer {
    /// gizer with a config that names a MongoDB database and a PostgreSQL schema.
    ///
    /// # Errors
    /// As [`Gizer::with_config`].
    pub fn new(mongo_uri: &str, mongo_database: &str, postgres_uri: &str, schema: &str) -> Result<Self, Error> {
        Self::with_config(&config_text(mongo_uri, mongo_database, postgres_uri, schema))
    }

    /// gizer with a config of the test's own, as the text of a `gizer.toml`.
    ///
    /// # Errors
    /// [`Error::GizerNotBuilt`], [`Error::GizerStale`], or [`Error::Io`].
    pub fn with_config(config: &str) -> Result<Self, Error> {
        Self::with_program(built_program()?, config)
    }

    fn with_program(program: PathBuf, config: &str) -> Result<Self, Error> {
        let guard = Arc::new(Guard::new(Signal::Kill)?);
        let path = guard.folder().join("gizer.toml");
        fs::write(&path, config).map_err(Error::io("write gizer's config file"))?;
        // It holds passwords: gizer warns of one that others may read.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(Error::io("protect gizer's config file"))?;
        Ok(Self {
            program,
            config: path,
            env: Vec::new(),
            island: None,
            limit: Duration::from_secs(120),
            runs: AtomicU32::new(0),
            guard,
        })
    }

    /// Sets an environment variable for every run.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Runs in a network namespace, which must last as long.
    #[must_use]
    pub fn within(mut self, island: &Island) -> Self {
        self.island = Some(island.holder());
        self
    }

    /// How long a run may take before it is killed; 120 s unless told.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The program itself, for tests that leave it to a shell to run it.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The folder of the config file, and the working directory of every run.
    pub fn folder(&self) -> &Path {
        self.guard.folder()
    }

    /// The config file, to be read or changed between runs.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Runs `gizer --config gizer.toml` and these arguments to the end.
    ///
    /// # Errors
    /// [`Error::GizerTimedOut`] if it does not end within the limit. An exit code other than 0 is not an error here.
    pub async fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Finished, Error> {
        self.spawn(args)?.wait().await
    }

    /// Starts `gizer --config gizer.toml` and these arguments, to be watched, signalled or killed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn spawn<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<RunningGizer, Error> {
        self.spawn_with(args, &[])
    }

    /// As [`Gizer::spawn`], with environment variables that this run alone has.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn spawn_with<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        env: &[(&str, &str)],
    ) -> Result<RunningGizer, Error> {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().into()).collect();
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let output = |stream: &str| {
            let path = self.folder().join(format!("{stream}.{run}"));
            let file = File::create(&path).map_err(Error::io(format!("create {}", path.display())))?;
            Ok::<_, Error>((path, file))
        };
        let (stdout_path, stdout) = output("stdout")?;
        let (stderr_path, stderr) = output("stderr")?;
        let mut program = Program::new(&self.program).arg("--config").arg(&self.config).args(&args);
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        for (name, value) in env {
            program = program.env(name, value);
        }
        if let Some(island) = self.island {
            // It becomes the program instead of starting it, so the process id stays the same.
            program = Program::new("nsenter").args(["--net", "--target", &island.to_string(), "--"]).program(&program);
        }
        let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        Ok(RunningGizer {
            command: format!("gizer {}", args.join(" ")),
            child: GuardedChild::spawn(&self.guard, &program, stdout, stderr)?,
            stdout_path,
            stderr_path,
            limit: self.limit,
        })
    }
}

/// A run of gizer under way. Dropping it kills it.
#[derive(Debug)]
pub struct RunningGizer {
    command: String,
    child: GuardedChild,
    stdout_path: PathBuf,
    stderr_path: PathBuf,
    limit: Duration,
}

impl RunningGizer {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout_path)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr_path)
    }

    /// Whether it has not ended yet.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_running(&mut self) -> Result<bool, Error> {
        Ok(self.child.ended()?.is_none())
    }

    /// Sends a signal and does not wait for what comes of it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        signal.send(&[self.pid()])
    }

    /// Waits until `text` is in what it has written to either stream.
    ///
    /// # Errors
    /// [`Error::TimedOut`] once the limit is over.
    pub async fn wait_for_output(&self, text: &str) -> Result<(), Error> {
        let what = format!("{:?} in the output of `{}`", text, self.command);
        wait_until(what, self.limit, async || self.stdout().contains(text) || self.stderr().contains(text)).await
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// As [`RunningGizer::wait`].
    pub async fn kill(mut self) -> Result<Finished, Error> {
        self.child.kill();
        self.wait().await
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`Error::GizerTimedOut`] once the limit is over; it has been killed then.
    pub async fn wait(mut self) -> Result<Finished, Error> {
        let ended = wait_for("gizer to end", self.limit, async || self.child.ended().transpose()).await;
        match ended {
            Ok(status) => Ok(Finished { status: status?, stdout: self.stdout(), stderr: self.stderr() }),
            Err(_) => {
                self.child.kill();
                let output = self.stdout() + &self.stderr();
                Err(Error::GizerTimedOut { command: self.command, limit: self.limit, output })
            }
        }
    }
}

/// How a run of gizer ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How the process ended.
    pub status: ExitStatus,
    /// All of its standard output. Bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// All of its standard error. Bytes that are not UTF-8 are replaced.
    pub stderr: String,
}

impl Finished {
    /// The exit code, or `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The number of the signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// This run, if it ended with `code`.
    ///
    /// # Panics
    /// If it did not, with everything that it wrote: made for tests.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            Some(code),
            "expected exit code {code}, got {}\n--- stdout\n{}\n--- stderr\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }
}

fn config_text(mongo_uri: &str, mongo_database: &str, postgres_uri: &str, schema: &str) -> String {
    // A JSON string is a TOML string too.
    let [mongo_uri, mongo_database, postgres_uri, schema] =
        [mongo_uri, mongo_database, postgres_uri, schema].map(|text| Value::from(text).to_string());
    format!(
        "[mongo]\nuri = {mongo_uri}\ndatabase = {mongo_database}\n\n\
         [postgres]\nuri = {postgres_uri}\nschema = {schema}\n"
    )
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The gizer program that was built in the same profile as this very program.
///
/// Cargo does not build it for another package's tests, so it may be missing, or older than its source. That is looked at
/// once a process, at its first use: what is edited while tests run is a matter for the next run.
fn built_program() -> Result<PathBuf, Error> {
    static CHECKED: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = CHECKED.get() {
        return Ok(program.clone());
    }
    let this = std::env::current_exe().map_err(Error::io("find the running program"))?;
    // Tests are in target/<profile>/deps, programs in target/<profile>.
    let mut folder = this.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") {
        folder = folder.parent().unwrap_or(folder);
    }
    let program = folder.join("gizer");
    let Ok(built) = modified(&program) else {
        return Err(Error::GizerNotBuilt { path: program });
    };
    if let Some(source_file) = source_newer_than(built, &program) {
        return Err(Error::GizerStale { path: program, source_file });
    }
    Ok(CHECKED.get_or_init(|| program).clone())
}

/// A file newer than the program that it was built from, by the list that cargo leaves beside it in `gizer.d`.
fn source_newer_than(built: SystemTime, program: &Path) -> Option<PathBuf> {
    let list = fs::read_to_string(program.with_extension("d")).ok()?;
    let (_, sources) = list.split_once(": ")?;
    // A space inside a path is written with a backslash before it.
    let sources = sources.trim_end().replace("\\ ", "\0");
    sources
        .split(' ')
        .map(|source| PathBuf::from(source.replace('\0', " ")))
        .find(|source| modified(source).is_ok_and(|changed| changed > built))
}

fn modified(path: &Path) -> io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use super::*;

    type Outcome = Result<(), Box<dyn StdError>>;

    /// A shell script in the place of gizer.
    fn script_as_gizer(script: &str) -> Result<Gizer, Box<dyn StdError>> {
        let gizer = Gizer::with_program(PathBuf::new(), "[mongo]\n")?;
        let program = gizer.folder().join("gizer.sh");
        fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(Gizer { program, ..gizer })
    }

    #[tokio::test]
    async fn a_run_tells_its_output_and_exit_code() -> Outcome {
        let gizer = script_as_gizer(r#"echo "$@"; cat "$2"; pwd; echo "$NAME" >&2; exit 3"#)?.env("NAME", "value");
        let finished = gizer.run(["load", "--prefix=a b"]).await?.expect_code(3);
        let config = gizer.config_path().display();
        let folder = gizer.folder().display();
        assert_eq!(finished.stdout, format!("--config {config} load --prefix=a b\n[mongo]\n{folder}\n"));
        assert_eq!((finished.stderr.as_str(), finished.signal()), ("value\n", None));
        Ok(())
    }

    #[tokio::test]
    async fn a_run_can_be_interrupted_and_killed() -> Outcome {
        let gizer = script_as_gizer("trap 'exit 130' INT; echo ready; while :; do sleep 0.02; done")?;
        let running = gizer.spawn(["sync"])?;
        running.wait_for_output("ready").await?;
        running.signal(Signal::Interrupt)?;
        assert_eq!(running.wait().await?.code(), Some(130));

        let mut running = gizer.spawn(["sync"])?;
        running.wait_for_output("ready").await?;
        assert!(running.is_running()?);
        let killed = running.kill().await?;
        assert_eq!((killed.code(), killed.signal(), killed.stdout.as_str()), (None, Some(9), "ready\n"));
        Ok(())
    }

    #[tokio::test]
    async fn a_run_that_takes_too_long_is_killed_and_shown() -> Outcome {
        let gizer = script_as_gizer("echo busy; exec sleep 60")?.limit(Duration::from_millis(300));
        let Err(Error::GizerTimedOut { command, output, .. }) = gizer.run(["sync", "--follow"]).await else {
            return Err("it should have been killed".into());
        };
        assert_eq!((command.as_str(), output.as_str()), ("gizer sync --follow", "busy\n"));
        Ok(())
    }

    #[test]
    fn a_program_older_than_its_source_is_found_out() -> Outcome {
        let guard = Guard::new(Signal::Kill)?;
        let program = guard.folder().join("gizer");
        let sources = ["lib.rs", "with space.rs"].map(|name| guard.folder().join(name));
        let list = sources.each_ref().map(|source| source.to_string_lossy().replace(' ', "\\ ")).join(" ");
        fs::write(program.with_extension("d"), format!("{}: {list}\n", program.display()))?;
        for source in &sources {
            fs::write(source, "")?;
        }
        let now = modified(&sources[1])?;

        assert_eq!(source_newer_than(now, &program), None);
        let touched = File::open(&sources[1])?;
        touched.set_modified(now + Duration::from_secs(1))?;
        assert_eq!(source_newer_than(now, &program).as_ref(), Some(&sources[1]));
        Ok(())
    }

    #[test]
    fn config_values_are_quoted() {
        assert_eq!(
            config_text("mongodb://h/?a=b", "d", r#"postgres://u:"\@h/db"#, "s"),
            concat!(
                "[mongo]\nuri = \"mongodb://h/?a=b\"\ndatabase = \"d\"\n\n",
                "[postgres]\nuri = \"postgres://u:\\\"\\\\@h/db\"\nschema = \"s\"\n",
            )
        );
    }
}
