//! The exit codes of each command, as its help lists them.

use std::fmt::Write;

use clap::Command;

/// What an exit code means.
type Code = (u8, &'static str);

const DONE: Code = (0, "done");
const FAILED: Code = (1, "failed; the message says why, and what can be done");
const USAGE: Code = (2, "wrong command line, configuration or schema file; no such database or collection");
const LOAD_DUE: Code = (3, "a load is due: the oplog has rolled over or diverged, or a schema file has changed");
const NOT_ALL: Code = (7, "done, but not all that is expected is copied: what is missing is named, with the reason");
const LOCKED: Code = (5, "another run holds the lock");
const INTERRUPTED: Code = (130, "interrupted (143: terminated); everything is in order, and the next run resumes");

/// By the names of the commands, from the outermost on.
const CODES: &[(&str, &[Code])] = &[
    (
        "run",
        &[
            (0, "nothing is due any more, and all that is expected is copied"),
            FAILED,
            USAGE,
            (3, "a load is due, and does not help or could not be done"),
            (4, "rows differ from the documents after they were written; nothing of that was committed"),
            (5, "another `gizer run` is running, or another run holds the lock"),
            NOT_ALL,
            INTERRUPTED,
        ],
    ),
    (
        "plan",
        &[(0, "everything can be done"), (1, "there is a problem for `run`, or a server cannot be reached"), USAGE],
    ),
    ("schema infer", &[DONE, FAILED, USAGE, INTERRUPTED]),
    ("schema evolve", &[DONE, FAILED, USAGE, LOAD_DUE, LOCKED, INTERRUPTED]),
    ("schema ddl", &[DONE, USAGE]),
    ("schema tables", &[DONE, USAGE]),
    ("schema merge", &[DONE, FAILED, USAGE]),
    ("schema patch", &[DONE, FAILED, USAGE]),
    (
        "schema diff",
        &[(0, "nothing differs"), (1, "something differs"), (2, "not known: a file or a server cannot be read")],
    ),
    ("schema diagram", &[DONE, FAILED, USAGE]),
    ("schema json-schema", &[DONE]),
    (
        "load",
        &[
            (0, "everything is loaded and swapped in"),
            FAILED,
            USAGE,
            (4, "rows differ from the documents before the swap; nothing of that was swapped in"),
            LOCKED,
            INTERRUPTED,
        ],
    ),
    ("extract", &[DONE, FAILED, USAGE, INTERRUPTED]),
    ("copy", &[DONE, FAILED, USAGE, LOCKED, INTERRUPTED]),
    (
        "sync",
        &[
            (0, "everything up to the beginning of the round is applied, and all that is expected is copied"),
            FAILED,
            USAGE,
            LOAD_DUE,
            (4, "rows differ from the documents after they were written; nothing of that was committed"),
            LOCKED,
            NOT_ALL,
            INTERRUPTED,
        ],
    ),
    (
        "resync",
        &[
            (0, "all is equal, and followed again"),
            FAILED,
            USAGE,
            (3, "the tables cannot be resynced, or the oplog has rolled over meanwhile"),
            (4, "rows differ from the documents after they were written; nothing of that was committed"),
            LOCKED,
            (7, "a collection could not be resynced: it is named, with the reason"),
            INTERRUPTED,
        ],
    ),
    (
        "verify",
        &[
            (0, "all is equal; after --repair: is equal now"),
            FAILED,
            USAGE,
            LOAD_DUE,
            (4, "something differs"),
            LOCKED,
            (7, "all that was compared is equal, but not all that is expected is copied: the rest is named"),
            INTERRUPTED,
        ],
    ),
    ("status", &[DONE, (1, "PostgreSQL cannot be asked, or a collection is not known"), USAGE, (6, "--check warns")]),
    ("pause", &[DONE, FAILED, (2, "wrong command line or configuration; or no such collection is known")]),
    ("resume", &[DONE, FAILED, (2, "wrong command line or configuration; or no such collection is known")]),
    (
        "etlstatus needed",
        &[
            (0, "no load is needed; 1 is printed while a run is in progress, else 0"),
            (1, "a load is needed, and nothing is printed; or PostgreSQL cannot be reached (see --format json)"),
            (2, "the configuration is wrong"),
        ],
    ),
    ("etlstatus start", &[DONE, FAILED, USAGE]),
    ("etlstatus finish", &[DONE, (1, "there is no open row, or PostgreSQL cannot be reached"), USAGE]),
    ("config show", &[DONE, (2, "the configuration is wrong")]),
    (
        "config get",
        &[
            (0, "printed"),
            (1, "it is not set"),
            (2, "there is no such setting, or it holds a password, and --show-secret is missing"),
        ],
    ),
    ("config convert", &[DONE, FAILED, USAGE]),
    ("completions", &[DONE, FAILED, USAGE]),
    ("man", &[DONE, FAILED, USAGE]),
];

/// Lets the help of every command end with its exit codes.
pub(super) fn told(command: Command) -> Command {
    CODES.iter().fold(command, |command, (path, codes)| {
        let names: Vec<&str> = path.split(' ').collect();
        tell(command, &names, codes)
    })
}

fn tell(command: Command, path: &[&str], codes: &[Code]) -> Command {
    let Some((first, rest)) = path.split_first() else {
        let help = command.get_after_help().map(ToString::to_string);
        let mut text = help.map(|help| unwrapped(&help) + "\n\n").unwrap_or_default();
        text.push_str("Exit codes:");
        for (code, meaning) in codes {
            // Text of ours goes into a string: that does not fail.
            let _ = write!(text, "\n  {code:<3}  {meaning}");
        }
        return command.after_help(text);
    };
    command.mut_subcommand(first, |command| tell(command, rest, codes))
}

/// Prose in one line a paragraph: it is written as wide as the source, and shown as wide as the terminal. Lines that begin with a
/// blank stay as they are.
fn unwrapped(help: &str) -> String {
    let mut text = String::with_capacity(help.len());
    let mut prose = false;
    for line in help.lines() {
        let begins_prose = line.starts_with(|c: char| !c.is_whitespace());
        if !text.is_empty() {
            text.push(if prose && begins_prose { ' ' } else { '\n' });
        }
        text.push_str(line);
        prose = begins_prose && !line.ends_with(':');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;

    fn leaves(command: &Command, path: &str, all: &mut Vec<(String, String)>) {
        let mut subcommands = command.get_subcommands().filter(|command| command.get_name() != "help").peekable();
        if subcommands.peek().is_none() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            all.push((path.trim().to_owned(), help));
        }
        for subcommand in subcommands {
            leaves(subcommand, &format!("{path} {}", subcommand.get_name()), all);
        }
    }

    #[test]
    fn prose_is_one_line_a_paragraph() {
        let text = "One\ntwo.\n\nExamples:\n  gizer x\n  gizer y\n\nThree\nfour:\n  five";
        assert_eq!(unwrapped(text), "One two.\n\nExamples:\n  gizer x\n  gizer y\n\nThree four:\n  five");
    }

    #[test]
    fn every_command_has_examples_and_exit_codes() {
        let mut all = Vec::new();
        leaves(&Cli::command_line(), "", &mut all);
        assert!(all.len() >= CODES.len(), "{all:?}");
        for (path, help) in &all {
            assert!(CODES.iter().any(|(known, _)| known == path), "{path} has no exit codes");
            assert!(help.contains("Exit codes:\n  0"), "{path}: {help}");
            assert!(
                help.contains(&format!("  gizer {path}")) || help.contains(" gizer "),
                "{path} has no example: {help}"
            );
            assert!(help.contains("Example"), "{path} has no examples: {help}");
            let (_, codes) = help.split_once("Exit codes:").unwrap();
            assert!(codes.lines().all(|line| line.len() <= 100), "{path}: {codes}");
        }
    }
}
