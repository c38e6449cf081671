//! Blocks of language `console`: commands, and what they print.

/// A command of a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// For bash; of several lines, where one ends with `\` or a here-document follows.
    pub(crate) text: String,
    /// The lines that it prints, with `…` for what may be anything. Empty: it does not matter.
    pub(crate) expected: Vec<String>,
}

/// The commands of a block.
///
/// # Errors
/// What stands before the first command.
pub(crate) fn commands(block: &str) -> Result<Vec<Command>, String> {
    let mut commands: Vec<Command> = Vec::new();
    let mut lines = block.lines();
    while let Some(line) = lines.next() {
        if let Some(first) = line.strip_prefix("$ ") {
            let mut text = first.to_owned();
            while text.ends_with('\\') {
                text = format!("{text}\n{}", lines.next().unwrap_or_default());
            }
            if let Some(end) = end_of_document(first) {
                for line in lines.by_ref() {
                    text = format!("{text}\n{line}");
                    if line == end {
                        break;
                    }
                }
            }
            commands.push(Command { text, expected: Vec::new() });
        } else if let Some(command) = commands.last_mut() {
            command.expected.push(line.to_owned());
        } else if !line.trim().is_empty() {
            return Err(format!("expected a line that begins with `$ `, got {line:?}"));
        }
    }
    for command in &mut commands {
        while command.expected.last().is_some_and(|line| line.trim().is_empty()) {
            command.expected.pop();
        }
    }
    Ok(commands)
}

/// The word that ends the here-document of a command: `SQL` of `psql <<'SQL'`.
fn end_of_document(command: &str) -> Option<String> {
    let (_, word) = command.split_once("<<")?;
    let word: String = word.trim_matches(|c: char| c == '\'' || c == '"' || c == ' ').to_owned();
    (!word.is_empty() && word.chars().all(char::is_alphanumeric)).then_some(word)
}

/// Whether output is what a page shows of it: `…` stands for any text of a line, alone in a line for any lines. How wide blanks
/// and rules are does not count, nor does at which time something was, how long it took, or how
/// many a second that were.
pub(crate) fn is_as_shown(shown: &[String], output: &str) -> bool {
    let output: Vec<String> = output.trim_end().lines().map(usual).collect();
    let shown: Vec<String> = shown.iter().map(|line| usual(line)).collect();
    lines_match(&shown, &output)
}

/// A line without what differs from run to run.
fn usual(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut usual = Vec::new();
    for (n, word) in words.iter().enumerate() {
        let is_duration = words.get(n + 1).is_some_and(|next| next.trim_end_matches([';', ',', ')']) == "s");
        let word = match *word {
            word if word.len() >= 3 && word.chars().all(|c| "─-+".contains(c)) => "───",
            // 0.2 s   1,234: so many documents in a second.
            word if n > 1 && words[n - 1] == "s" && word.chars().all(|c| c.is_ascii_digit() || c == ',') => "0",
            word if is_duration && word.chars().all(|c| c.is_ascii_digit() || c == '.') => "0.0",
            word if is_time(word) => "(time)",
            word => word,
        };
        usual.push(word);
    }
    let line = usual.join(" ");
    // Timestamp(1795391500, 8)
    let mut parts = line.split("Timestamp(");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| {
        let after = part.split_once(')').map_or(part, |(_, after)| after);
        format!("{line}Timestamp(){after}")
    })
}

/// `2026-11-22T23:51:40Z`
fn is_time(word: &str) -> bool {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape.trim_end_matches([',', ';', ':', ')']) == "0000-00-00T00:00:00Z"
}

fn lines_match(shown: &[String], output: &[String]) -> bool {
    match shown.split_first() {
        None => output.is_empty(),
        Some((line, rest)) if line == "…" => (0..=output.len()).any(|skipped| lines_match(rest, &output[skipped..])),
        Some((line, rest)) => match output.split_first() {
            Some((printed, left)) => line_matches(line, printed) && lines_match(rest, left),
            None => false,
        },
    }
}

fn line_matches(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn commands_are_told_from_what_they_print() {
    let block = "$ echo a \\\n  b\na b\n\n$ psql <<'SQL'\nSELECT 1\nSQL\n$ true\n";
    let [echo, psql, last] = commands(block).unwrap().try_into().unwrap();
    assert_eq!((echo.text.as_str(), echo.expected), ("echo a \\\n  b", vec!["a b".to_owned()]));
    assert_eq!((psql.text.as_str(), psql.expected.len()), ("psql <<'SQL'\nSELECT 1\nSQL", 0));
    assert_eq!((last.text.as_str(), last.expected.len()), ("true", 0));
    assert!(commands("echo a\n").is_err());
}

#[test]
fn output_is_compared_with_wildcards() {
    let shown = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    for (lines, output, expected) in [
        (&["a … c"][..], "a b c\n", true),
        (&["a … c"], "a b d\n", false),
        (&["a…"], "a\nb\n", false),
        (&["a…", "…"], "a\nb\nc\n", true),
        (&["…", "c"], "a\nb\nc\n", true),
        (&["…", "b"], "a\nb\nc\n", false),
        (&["a…b…c"], "a-c-b-c  \n", true),
        (&["a…b…c"], "a-c-b\n", false),
        (&["a"], "a\nb\n", false),
        (&["a", "b"], "a\n", false),
        (&["x…x"], "x", false),
        (&["a   b", "─────"], "a b\n──────────\n", true),
        (
            &["at Timestamp(1, 2), 0.1 s; 2026-01-01T00:00:00Z"],
            "at Timestamp(99, 3), 2.5 s; 2026-11-22T23:51:40Z",
            true,
        ),
        (&["3 0.1 s 27"], "3 0.2 s 1,500", true),
        (&["1.5 m"], "1.6 m", false),
    ] {
        assert_eq!(is_as_shown(&shown(lines), output), expected, "{lines:?} {output:?}");
    }
}
