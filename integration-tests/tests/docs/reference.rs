//! What the book must have: all pages, all settings, all exit codes, and no link that leads nowhere.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use gizer_cli::config::SETTINGS;
use gizer_cli::exit::ExitCode;

use super::book::{self, Page};
use super::{command_line, console};

fn page<'p>(pages: &'p [Page], path: &str) -> &'p Page {
    pages.iter().find(|page| page.path == Path::new(path)).unwrap_or_else(|| panic!("docs/{path} is not there"))
}

/// Where a link of a page leads, relative to `docs/`; nothing where it leads out of the repository.
fn target(page: &Page, link: &str) -> Option<(PathBuf, Option<String>)> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor.to_owned())));
    if path.is_empty() {
        return Some((page.path.clone(), anchor));
    }
    let mut target = PathBuf::new();
    for part in page.path.parent().unwrap_or(Path::new("")).join(path).components() {
        match part {
            Component::ParentDir if target.parent().is_some() => drop(target.pop()),
            Component::CurDir => {}
            part => target.push(part),
        }
    }
    Some((target, anchor))
}

#[test]
fn every_page_is_in_the_summary() {
    let pages = book::pages();
    let summary = page(&pages, "SUMMARY.md");
    let listed: Vec<PathBuf> = summary.links.iter().filter_map(|(_, link)| Some(target(summary, link)?.0)).collect();
    let unique: HashSet<&PathBuf> = listed.iter().collect();
    assert_eq!(listed.len(), unique.len(), "a page is listed twice: {listed:?}");
    for page in &pages {
        assert!(
            page.path == Path::new("SUMMARY.md") || unique.contains(&page.path),
            "{} is not listed",
            page.path.display()
        );
    }
}

#[test]
fn every_link_leads_somewhere() {
    let pages = book::pages();
    let mut broken = Vec::new();
    for page in &pages {
        for (line, link) in &page.links {
            let Some((path, anchor)) = target(page, link) else { continue };
            let to = pages.iter().find(|page| page.path == path);
            let is_there = match (to, &anchor) {
                (Some(to), Some(anchor)) => to.anchors.contains(anchor),
                (Some(_), None) => true,
                // A figure, or a file of the repository beside the book.
                (None, _) => book::folder().join(&path).is_file(),
            };
            if !is_there {
                broken.push(format!("{}: {link}", page.at(*line)));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_setting_is_explained() {
    let pages = book::pages();
    let page = page(&pages, "configuration.md");
    for setting in SETTINGS {
        let names = [format!("`{}`", setting.variable()), format!("`--{}`", setting.flag())];
        for name in names {
            assert!(page.text.contains(&name), "docs/configuration.md does not have {name}");
        }
        let default = setting.help.split_once("[default: ").map(|(_, rest)| rest.trim_end_matches(']'));
        let row =
            page.text.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{}`", setting.variable())));
        let row = row.unwrap_or_else(|| panic!("{} has no row of a table", setting.variable()));
        assert!(
            default.is_none_or(|default| row.contains(&format!("`{default}`"))),
            "expected the default {default:?}: {row}"
        );
    }
}

#[test]
fn every_exit_code_has_an_answer() {
    use ExitCode::{Differs, Done, Failed, Interrupted, LoadDue, Locked, NotAll, Terminated, Usage, Warning};
    let pages = book::pages();
    let page = page(&pages, "operations.md");
    for code in [Done, Failed, Usage, LoadDue, Differs, Locked, Warning, NotAll, Interrupted, Terminated] {
        // A code that is added must be added here.
        match code {
            Done | Failed | Usage | LoadDue | Differs | Locked | Warning | NotAll | Interrupted | Terminated => {}
        }
        let row = format!("| {} |", code as u8);
        assert!(page.text.contains(&row), "docs/operations.md has no row that begins with {row:?}");
    }
}

/// Command lines in the text, too, must be ones that gizer takes; what has `…` in it only says how one begins.
#[track_caller]
fn check_inline(page: &Page, at: &str) {
    for (line, code) in &page.code {
        if code.starts_with("gizer ") && !code.contains('…') {
            command_line::check_names(code).unwrap_or_else(|wrong| panic!("{at}:{line}: {wrong}"));
        }
    }
}

#[test]
fn command_lines_within_the_text_are_taken() {
    for page in book::pages() {
        check_inline(&page, &page.path.to_string_lossy());
    }
}

#[test]
fn every_mechanism_says_what_was_weighed_against_it() {
    for page in book::pages().iter().filter(|page| page.path.starts_with("architecture")) {
        let is_there = page.text.contains("\n**Weighed against it**\n\n| | |\n|---|---|\n| ");
        assert!(is_there, "docs/{} does not say what was weighed against it", page.path.display());
    }
}

#[test]
fn the_command_lines_of_the_readme_are_taken() {
    let readme = book::folder().with_file_name("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    assert!(
        readme.lines().count() <= 150,
        "README.md is for strangers: what is longer than 150 lines belongs in docs/"
    );
    let readme = Page::parse(Path::new("README.md"), readme).unwrap();
    check_inline(&readme, "README.md");
    let mut checked = 0;
    for block in readme.blocks.iter().filter(|block| block.language == "console") {
        for command in console::commands(&block.text).unwrap() {
            command_line::check(&command.text).unwrap_or_else(|wrong| panic!("README.md:{}: {wrong}", block.line));
            checked += usize::from(command.text.contains("gizer"));
        }
    }
    assert!(checked > 10, "only {checked} command lines of gizer were found");
    let of_repository = readme.links.iter().filter(|(_, link)| !link.contains("://"));
    for (line, link) in of_repository {
        let path = book::folder().with_file_name(link.split('#').next().unwrap_or_default());
        assert!(path.exists(), "README.md:{line}: {link}");
    }
}
