//! Does what a page shows, block by block.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::book::{Block, Page};
use super::scene::Scene;
use super::{command_line, console, units};

/// What came of a page.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Faults, each with its place.
    pub(crate) faults: Vec<String>,
    /// What was not run, and why.
    pub(crate) not_run: Vec<String>,
}

/// Languages that a block can have.
const LANGUAGES: [&str; 11] =
    ["yaml", "console", "toml", "ini", "json", "sql", "js", "systemd", "cron", "text", "mermaid"];

/// Runs all blocks of a page, in its order.
pub(crate) async fn page(page: &Page, first: &Page) -> Outcome {
    let mut outcome = Outcome::default();
    let scene = match Scene::of(page, first).await {
        Ok(scene) => scene,
        Err(fault) => {
            outcome.faults.push(format!("docs/{}: {fault}", page.path.display()));
            return outcome;
        }
    };
    for block in &page.blocks {
        let at = page.at(block.line);
        if let Some(reason) = block.not_run() {
            outcome.not_run.push(format!("{at}: {reason}"));
        }
        let pending = block.marks.get("pending").and_then(|command| command.strip_prefix("gizer "));
        if let Some(command) = pending {
            outcome.not_run.push(format!("{at}: until there is a command `gizer {command}`"));
            if command_line::has_command(command) {
                outcome
                    .faults
                    .push(format!("{at}: there is a command `gizer {command}` now: take the mark `pending` off"));
            }
        }
        if let Err(fault) = perform(&scene, block, pending.is_none()).await {
            outcome.faults.push(format!("{at}: {fault}"));
        }
    }
    if let Err(fault) = units::verify(&scene.folder().join("units")) {
        outcome.faults.push(format!("docs/{}: {fault}", page.path.display()));
    }
    outcome
}

async fn perform(scene: &Scene, block: &Block, known: bool) -> Result<(), String> {
    if let Some(name) = block.other_test() {
        return match is_named_by_a_test(name) {
            true => Ok(()),
            false => Err(format!("no file of integration-tests/tests speaks of {name:?}")),
        };
    }
    let runs = block.not_run().is_none() && known;
    if block.not_run().is_some() && block.language != "console" {
        return Ok(());
    }
    match block.language.as_str() {
        "console" => commands(scene, block, runs, known).await,
        "toml" => {
            let file = config_file(scene, block, "gizer.toml", &scene.on_servers(&block.text));
            accepted(scene, &format!("gizer --config {file} config show")).await
        }
        "ini" => {
            let file = config_file(scene, block, "old.ini", &scene.ini_on_servers(&block.text));
            accepted(scene, &format!("gizer --config {file} config show")).await
        }
        "json" => json(scene, block).await,
        "sql" => scene.sql(&block.text).await,
        "js" => scene.mongosh(&block.text).await,
        "systemd" => {
            let name = block.marks.get("file").ok_or("expected `<!-- file: NAME.service -->` before a unit")?;
            units::keep(&scene.folder().join("units"), name, &block.text, scene.program(), known)
        }
        "cron" => units::crontab(&block.text, known),
        language if LANGUAGES.contains(&language) => Ok(()),
        other => Err(format!("the language of a block is one of {}, got {other:?}", LANGUAGES.join(", "))),
    }
}

async fn commands(scene: &Scene, block: &Block, runs: bool, known: bool) -> Result<(), String> {
    let commands = console::commands(&block.text)?;
    let exit: i32 =
        block.marks.get("exit").map_or(Ok(0), |code| code.parse()).map_err(|_| "exit: expected a number")?;
    let stays_on = block.marks.contains_key("stays on");
    for (n, command) in commands.iter().enumerate() {
        if known {
            command_line::check(&command.text)?;
        }
        if !runs {
            continue;
        }
        let last = n + 1 == commands.len();
        let ended = match stays_on && last {
            true => scene.bash_until_it_follows(&command.text).await?,
            false => scene.bash(&command.text).await?,
        };
        if std::env::var_os("GIZER_RIG_SHOW").is_some() {
            println!("$ {}\n{}", command.text, ended.output);
        }
        let expected = if last { exit } else { 0 };
        if ended.code != Some(expected) {
            let code = ended.code.map_or("a signal".to_owned(), |code| code.to_string());
            return Err(format!("`{}`: expected exit code {expected}, got {code}\n{}", command.text, ended.output));
        }
        if !command.expected.is_empty() && !console::is_as_shown(&command.expected, &ended.output) {
            let shown = command.expected.join("\n");
            return Err(format!(
                "`{}` prints something else. The page:\n{shown}\nThe command:\n{}",
                command.text, ended.output
            ));
        }
    }
    Ok(())
}

/// Writes a configuration: where the page says so, for the commands that follow; otherwise only to be looked at.
fn config_file(scene: &Scene, block: &Block, name: &str, text: &str) -> String {
    let file = block.marks.get("file").cloned().unwrap_or_else(|| format!("looked-at/{name}"));
    write(scene, &file, text);
    file
}

/// A schema file, or with `<!-- as: json -->` any JSON.
async fn json(scene: &Scene, block: &Block) -> Result<(), String> {
    let value: serde_json::Value = serde_json::from_str(&block.text).map_err(|error| error.to_string())?;
    if block.marks.get("as").is_some_and(|kind| kind == "json") {
        return Ok(());
    }
    let collection = value["collection"].as_str().unwrap_or("example");
    let file = block.marks.get("file").cloned().unwrap_or_else(|| format!("looked-at/schemas/{collection}.json"));
    write(scene, &file, &block.text);
    let (folder, name) = file.rsplit_once('/').ok_or("expected the folder of a schema file")?;
    let collection = name.trim_end_matches(".json");
    accepted(scene, &format!("gizer --schemas-dir {folder} schema ddl {collection}")).await
}

pub(crate) fn write(scene: &Scene, file: &str, text: &str) {
    let path = scene.folder().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    // Configurations hold passwords: gizer warns of those that others may read.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

async fn accepted(scene: &Scene, command: &str) -> Result<(), String> {
    match scene.bash(command).await? {
        ended if ended.code == Some(0) => Ok(()),
        ended => Err(format!("`{command}` refuses it: {}", ended.output)),
    }
}

/// Whether a test beside these has the text `"name"` in it.
fn is_named_by_a_test(name: &str) -> bool {
    let (quoted, own) = (format!("{name:?}"), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docs"));
    let mut folders = vec![own.parent().unwrap().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path != own {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && fs::read_to_string(&path).unwrap().contains(&quoted)
            {
                return true;
            }
        }
    }
    false
}

#[test]
fn a_block_of_another_test_is_named_there() {
    // What a shop of other tests is called, and what is nowhere but here.
    assert!(is_named_by_a_test("orders"));
    assert!(!is_named_by_a_test("a block that nobody runs"));
}
