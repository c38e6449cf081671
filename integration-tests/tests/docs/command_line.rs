//! Command lines of gizer, wherever a page shows one: whether the program would take them.

use clap::error::ErrorKind;
use gizer_cli::args::Cli;

/// Whether gizer takes all of its command lines in a line of shell; other programs' are passed over.
///
/// # Errors
/// What gizer's own parser says.
pub(crate) fn check(line: &str) -> Result<(), String> {
    for command in simple_commands(line) {
        let program = command.first().map(String::as_str).unwrap_or_default();
        if program != "gizer" && !program.ends_with("/gizer") {
            continue;
        }
        match Cli::command_line().try_get_matches_from(&command) {
            Ok(_) => {}
            Err(told) if !told.use_stderr() => {} // --help and --version
            Err(wrong) => return Err(format!("`{}`: {wrong}", command.join(" "))),
        }
    }
    Ok(())
}

/// Whether gizer has the commands and flags that a piece of text names. It may leave out what else belongs to them.
///
/// # Errors
/// What gizer's own parser says.
pub(crate) fn check_names(line: &str) -> Result<(), String> {
    let wrong = |command: &Vec<String>| match Cli::command_line().try_get_matches_from(command) {
        Err(wrong) if [ErrorKind::UnknownArgument, ErrorKind::InvalidSubcommand].contains(&wrong.kind()) => {
            Some(format!("`{}`: {wrong}", command.join(" ")))
        }
        _ => None,
    };
    simple_commands(line).iter().filter(|command| command[0] == "gizer").find_map(wrong).map_or(Ok(()), Err)
}

/// Whether gizer has this command.
pub(crate) fn has_command(name: &str) -> bool {
    Cli::command_line().get_subcommands().any(|command| command.get_name() == name)
}

/// The commands of a line of shell, cut into words: at `|`, `&`, `;` and redirections one ends. As much of the shell's
/// grammar as documentation needs.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut command): (Vec<Vec<String>>, Vec<String>) = (Vec::new(), Vec::new());
    let mut word: Option<String> = None;
    let mut into_file = false;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\'' | '"' => {
                let inside = characters.by_ref().take_while(|inner| *inner != c);
                word.get_or_insert_default().extend(inside);
            }
            '\\' => match characters.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            '#' if word.is_none() => break,
            c if c.is_whitespace() || "|&;<>".contains(c) => {
                if let Some(word) = word.take()
                    && !std::mem::take(&mut into_file)
                    && !("<>".contains(c) && word.chars().all(|c| c.is_ascii_digit()))
                {
                    command.push(word);
                }
                match c {
                    '<' | '>' => into_file = true,
                    // 2>&1 goes on; && and & do not.
                    '&' if into_file => {}
                    '|' | '&' | ';' => commands.push(std::mem::take(&mut command)),
                    _ => {}
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    if let Some(word) = word
        && !into_file
    {
        command.push(word);
    }
    commands.push(command);
    commands.retain(|command| !command.is_empty());
    commands
}

#[test]
fn lines_of_shell_are_cut_into_commands() {
    let words = |line: &str| simple_commands(line).iter().map(|command| command.join("·")).collect::<Vec<_>>();
    assert_eq!(words("gizer load --filter '{\"a\": 1}'  # a part"), ["gizer·load·--filter·{\"a\": 1}"]);
    assert_eq!(words("a b > c && d 2>&1 | e; f >>g h"), ["a·b", "d", "e", "f·h"]);
    assert_eq!(words("flock -n x gizer sync \\\n  --follow"), ["flock·-n·x·gizer·sync·--follow"]);
}

#[test]
fn what_gizer_does_not_know_is_found() {
    check("gizer sync --follow && /usr/bin/gizer load orders > report.json; ls --bogus").unwrap();
    check("gizer verify --help").unwrap();
    assert!(check("true | gizer sync --fallow").unwrap_err().contains("--fallow"));
    assert!(check("gizer lod").is_err());
    check_names("gizer schema merge").unwrap();
    check_names("gizer load --verify").unwrap();
    assert!(check_names("gizer schema mrege").is_err() && check_names("gizer load --verfy").is_err());
}
