//! gizer at a shell: completions, manual pages, typing errors, colours.

use std::path::PathBuf;
use std::process::Command;

use integration_tests::rig::{Gizer, Version, shared_mongod};

/// What begins a colour, or anything else that only a terminal understands.
const ESCAPE: char = '\u{1b}';

fn gizer() -> Gizer {
    Gizer::with_config("").unwrap()
}

#[tokio::test]
async fn shells_complete_commands_and_settings() {
    let gizer = gizer();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = gizer.run(["completions", shell]).await.unwrap().expect_code(0).stdout;
        for word in ["etlstatus", "convert", "mongo-uri", "completions"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
    let script = gizer.run(["completions", "bash"]).await.unwrap().stdout;
    // It is longer than one argument may be.
    std::fs::write(gizer.folder().join("completions.bash"), script).unwrap();
    let words = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let ask = format!(
            ". ./completions.bash\nCOMP_WORDS=({line})\nCOMP_CWORD={}\n_gizer gizer \"${{COMP_WORDS[COMP_CWORD]}}\" \"\"\necho \"${{COMPREPLY[@]}}\"",
            words.len() - 1
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).current_dir(gizer.folder()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(words("gizer etl"), "etlstatus");
    assert_eq!(words("gizer config con"), "convert");
    assert_eq!(words("gizer etlstatus finish o"), "ok");
}

#[tokio::test]
async fn every_command_has_a_manual_page() {
    let gizer = gizer();
    let page = gizer.run(["man"]).await.unwrap().expect_code(0).stdout;
    assert!(page.contains(".TH gizer 1") && page.contains("another run holds the lock"), "{page}");
    gizer.run(["man", "--output", "pages"]).await.unwrap().expect_code(0);
    for page in ["gizer", "gizer-load", "gizer-config-get", "gizer-etlstatus-needed", "gizer-schema-infer"] {
        let text = std::fs::read_to_string(gizer.folder().join("pages").join(format!("{page}.1"))).unwrap();
        assert!(text.contains(&format!(".TH {page} 1")), "{text}");
    }
}

/// They need neither a configuration nor a server.
#[tokio::test]
async fn completions_and_pages_do_without_a_configuration() {
    let broken = Gizer::with_config("[mongo\n").unwrap();
    broken.run(["completions", "fish"]).await.unwrap().expect_code(0);
    broken.run(["man"]).await.unwrap().expect_code(0);
    broken.run(["status"]).await.unwrap().expect_code(2);
}

#[tokio::test]
async fn typing_errors_are_answered_with_what_was_meant() {
    let gizer = gizer();
    let cases: [(&[&str], &str); 5] = [
        (&["lod"], "'load'"),
        (&["etlstatus", "finnish"], "'finish'"),
        (&["load", "--togehter"], "'--together'"),
        (&["status", "--fromat", "json"], "'--format'"),
        (&["status", "--postgres-shema", "s"], "'--postgres-schema'"),
    ];
    for (args, meant) in cases {
        let said = gizer.run(args).await.unwrap().expect_code(2);
        assert!(said.stderr.contains("similar") && said.stderr.contains(meant), "{}", said.stderr);
    }
}

/// The built program, to be run where the rig cannot: at a terminal.
fn program() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.parent().unwrap().parent().unwrap().join("gizer")
}

/// What a run writes to a terminal. `script` makes one.
pub(super) fn at_terminal(args: &str, environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let args: Vec<String> = args.split(' ').map(|arg| format!("'{arg}'")).collect();
    let command = format!("{} {}", program().display(), args.join(" "));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).current_dir(folder.path()).env("TERM", "xterm-256color");
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        script.env_remove(variable);
    }
    let output = script.envs(environment.iter().copied()).output().expect("`script` of util-linux is needed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn colours_are_for_terminals_and_for_those_who_want_them() {
    // The rig refuses a program that is older than its source.
    let gizer = gizer();
    let mongod = shared_mongod(Version::V6_0).await.unwrap();
    let logged = format!("-vv schema infer --mongo-database nothing --mongo-uri {}", mongod.uri());
    // Help, an error of usage, the log, a failure, a table.
    let outputs = ["--help", "lod", logged.as_str(), "status", "config show"];
    for args in outputs {
        let plain = at_terminal(args, &[("NO_COLOR", "1")]);
        assert!(!plain.trim().is_empty() && !plain.contains(ESCAPE), "{args}: {plain:?}");
        let piped = gizer.run(args.split(' ')).await.unwrap();
        assert!(!piped.stdout.contains(ESCAPE) && !piped.stderr.contains(ESCAPE), "{args}: {piped:?}");
    }
    // An empty value says nothing (no-color.org).
    for environment in [&[][..], &[("NO_COLOR", "")]] {
        for args in &outputs[..3] {
            let coloured = at_terminal(args, environment);
            assert!(coloured.contains(ESCAPE), "{args} {environment:?}: {coloured:?}");
        }
    }
}
