//! An INI file as Python's `configparser` reads it, with the line of everything.

use std::collections::HashMap;

/// The section whose keys every other section has too, unless it has its own (Python, "configparser").
const DEFAULTS: &str = "default";

/// How deep `%(name)s` may lead on; as Python has it.
const MAX_REFERENCE_DEPTH: usize = 10;

/// The sections of a file, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ini {
    pub(super) sections: Vec<Section>,
}

/// A section. Its name and its keys are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) entries: Vec<IniEntry>,
}

/// A key with its value, which may be secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct IniEntry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: String,
}

impl std::fmt::Debug for IniEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("key", &self.key).field("line", &self.line).finish_non_exhaustive()
    }
}

impl Section {
    fn entry(&self, key: &str) -> Option<&IniEntry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl Ini {
    /// Reads the text of a file: `key = value` or `key: value` under `[section]`, comments on lines of their own behind
    /// `#` or `;`, further lines of a value indented, `%%` for `%`, and `%(key)s` for the value of another key.
    ///
    /// # Errors
    /// What is wrong, with its line, and never a value.
    pub(super) fn parse(text: &str) -> Result<Ini, String> {
        let text = text.trim_start_matches('\u{feff}');
        let mut reader = configparser::ini::Ini::new();
        reader.set_comment_symbols(&['#', ';']);
        reader.set_inline_comment_symbols(Some(&[]));
        reader.set_multiline(true);
        let mut read = reader.read(text.to_owned())?;
        let mut sections = outline(text)?;
        for section in &mut sections {
            let mut values = read.remove(&section.name).unwrap_or_default();
            for entry in &mut section.entries {
                entry.value = match values.remove(&entry.key) {
                    Some(Some(value)) => value,
                    _ => return Err(format!("line {}: expected KEY = VALUE", entry.line)),
                };
            }
        }
        let mut ini = Ini { sections };
        ini.follow_references()?;
        Ok(ini)
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name && name != DEFAULTS)
    }

    /// All but the section of defaults.
    pub(super) fn named_sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|section| section.name != DEFAULTS)
    }

    pub(super) fn entry(&self, section: &str, key: &str) -> Option<&IniEntry> {
        let defaults = || self.sections.iter().find(|section| section.name == DEFAULTS);
        self.section(section).and_then(|own| own.entry(key).or_else(|| defaults()?.entry(key)))
    }

    /// The value of a key as the classic look-up command printed it. Names in any case.
    pub fn value(&self, section: &str, key: &str) -> Option<&str> {
        self.entry(&section.to_lowercase(), &key.to_lowercase()).map(|entry| entry.value.as_str())
    }

    /// Every section with its keys, as messages name them.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.named_sections()
            .flat_map(|section| section.entries.iter().map(|entry| (section.name.as_str(), entry.key.as_str())))
    }

    fn follow_references(&mut self) -> Result<(), String> {
        let written = self.clone();
        let defaults = written.sections.iter().find(|section| section.name == DEFAULTS);
        for (section, own) in self.sections.iter_mut().zip(&written.sections) {
            let of = |key: &str| own.entry(key).or_else(|| defaults?.entry(key)).map(|entry| entry.value.clone());
            for entry in &mut section.entries {
                entry.value = interpolated(&entry.value, &of, MAX_REFERENCE_DEPTH)
                    .map_err(|problem| format!("line {}: {}: {problem}", entry.line, entry.key))?;
            }
        }
        Ok(())
    }
}

/// A value with its references followed. A `%` that begins neither `%%` nor `%(` stays: the classic tool refused it, so that it
/// can mean nothing else.
fn interpolated(value: &str, of: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<String, String> {
    let mut done = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        done.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            done.push('%');
            rest = after;
        } else if let Some(reference) = after.strip_prefix('(') {
            let unclosed = "expected %(KEY)s, or %% for a percent sign";
            let (key, after) = reference.split_once(")s").ok_or(unclosed)?;
            let known = of(&key.to_lowercase()).filter(|_| depth > 0);
            // What was written there may as well be a piece of a password.
            let referred = known.ok_or("%(…)s names no key that leads to a value; write %% for a percent sign")?;
            done.push_str(&interpolated(&referred, of, depth - 1)?);
            rest = after;
        } else {
            done.push('%');
            rest = after;
        }
    }
    Ok(done + rest)
}

/// Sections and keys with their lines, without values: what the reader of values does not tell.
fn outline(text: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    let mut seen: HashMap<(String, String), usize> = HashMap::new();
    let mut indent_of_key: Option<usize> = None;
    for (line, raw) in (1..).zip(text.lines()) {
        let trimmed = raw.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = trimmed.strip_prefix('[') {
            let name = header.rsplit_once(']').map_or(header, |(name, _)| name).trim().to_lowercase();
            first_time(&mut seen, &name, "", line)?;
            sections.push(Section { name, line, entries: Vec::new() });
            indent_of_key = None;
            continue;
        }
        let indent = raw.len() - raw.trim_start().len();
        if indent_of_key.is_some_and(|key| indent > key) {
            continue;
        }
        indent_of_key = Some(indent);
        let Some((key, _)) = trimmed.split_once(['=', ':']) else {
            return Err(format!("line {line}: expected KEY = VALUE"));
        };
        let section = sections.last_mut().ok_or_else(|| format!("line {line}: expected a [section] before any key"))?;
        let key = key.trim().to_lowercase();
        first_time(&mut seen, &section.name, &key, line)?;
        section.entries.push(IniEntry { key, line, value: String::new() });
    }
    Ok(sections)
}

/// Python refuses what is there twice, and so do we: one of the two would be lost in silence.
fn first_time(
    seen: &mut HashMap<(String, String), usize>,
    section: &str,
    key: &str,
    line: usize,
) -> Result<(), String> {
    match seen.insert((section.to_owned(), key.to_owned()), line) {
        None => Ok(()),
        Some(first) => Err(format!("line {line}: this is in line {first} already")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_python_reads_it() {
        let text = "\u{feff}# a comment\n[DEFAULT]\nwho = me\n\n[One]\nA-Key = 1 ; no comment # either\nb: two = three\n\
                    c = first\n  second\n# between\n  third\nd=\ne = 50%% of %(who)s, 5% x\nf = \"quoted\\n\"\n[two]\nA-Key=%(b)s\nb = %(who)s!\n";
        let ini = Ini::parse(text).unwrap();
        let value = |section, key| ini.value(section, key).unwrap();
        assert_eq!(value("one", "a-key"), "1 ; no comment # either");
        assert_eq!(value("One", "B"), "two = three");
        assert_eq!(value("one", "c").lines().collect::<Vec<_>>(), ["first", "second", "third"]);
        assert_eq!((value("one", "d"), value("one", "e")), ("", "50% of me, 5% x"));
        assert_eq!((value("one", "f"), value("one", "who")), ("\"quoted\\n\"", "me"));
        assert_eq!((value("two", "a-key"), ini.value("two", "c")), ("me!", None));
        assert_eq!((ini.entry("one", "c").unwrap().line, ini.entry("two", "b").unwrap().line), (8, 17));
    }

    proptest::proptest! {
        /// Two readers look at the text, and must find the same keys.
        #[test]
        fn any_text_is_read_or_refused(lines in proptest::collection::vec("[ \\t]{0,2}[a-bA\\[\\]=:#;%()sé]{0,6}", 0..12)) {
            let text = lines.join("\n");
            if let Ok(ini) = Ini::parse(&text) {
                for (section, key) in ini.names() {
                    assert!(ini.value(section, key).is_some(), "{section} {key}\n{text}");
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_without_values() {
        let cases = [
            ("a = hunter2\n[s]\n", "line 1: expected a [section]"),
            ("[s]\nhunter2\n", "line 2: expected KEY = VALUE"),
            ("[s]\na = hunter2\n\na = x\n", "line 4: this is in line 2 already"),
            ("[s]\n[t]\n[s]\n", "line 3: this is in line 1 already"),
            ("[s]\na = %(hunter2)s\n", "line 2: a: %(…)s names no key"),
            ("[s]\na = %(hunter2\n", "line 2: a: expected %(KEY)s"),
            ("[s]\na = %(b)s\nb = %(a)s\n", "names no key that leads to a value"),
            ("[s\na = hunter2\n", "line 1: "),
            ("[s]\n = hunter2\n", "line 2:"),
        ];
        for (text, expected) in cases {
            let error = Ini::parse(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{text}\n{error}");
        }
    }
}
