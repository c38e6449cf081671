//! The book under `docs/`: every command and configuration in it is run, every link followed.
//!
//! A page is done from its top to its end, in one folder, against databases of its own on real servers ([`scene`]); what a page
//! shows is what happened. Each fenced block has a language, which says what is done with it:
//!
//! | language | done with it |
//! |---|---|
//! | `console` | each line that begins with `$ ` is run, by `bash -e -o pipefail`, with gizer first on the `PATH`; lines after it are what it prints (`…`: anything), standard error included |
//! | `toml`, `ini` | read by `gizer config show` |
//! | `json` | read as a schema file |
//! | `sql`, `js` | run in the page's PostgreSQL database; as mongosh would in its MongoDB |
//! | `systemd`, `cron` | read by `systemd-analyze verify`; as cron would; the command lines in them by gizer |
//! | `text`, `mermaid` | nothing |
//!
//! Any other language is a fault, so that nothing goes unchecked by accident. What stands between backticks in the text and begins
//! with `gizer` must name commands and flags that there are. Comments before a block say more:
//!
//! | comment | says |
//! |---|---|
//! | `<!-- exit: 3 -->` | the last command ends with this code, and not with 0 |
//! | `<!-- file: schemas/orders.json -->` | the block is this file from here on; a configuration without it is looked at, and not used |
//! | `<!-- stays on: SIGTERM -->` | the last command is ended once its run is in the status table |
//! | `<!-- as: json -->` | JSON, but no schema file |
//! | `<!-- test: NAME -->` | another test takes the block by this name, and runs it |
//! | `<!-- not run: why -->` | of `console`: its command lines are read by gizer's parser only; of any other language, known or not: nothing is done. Counted and printed |
//! | `<!-- pending: gizer run -->` | as `not run`, until there is such a command: then the mark is a fault |
//! | `<!-- scene: loaded -->` | of the page: it begins with the documents of the first page, loaded |
//!
//! Output is that of a terminal: lines of the log that are no warnings are left out of it.
//!
//! For who writes: `GIZER_RIG_PAGE=mapping.md` does one page, `GIZER_RIG_SHOW=1` with `--nocapture` shows what commands print.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it did not run")]

mod book;
mod command_line;
mod console;
mod mongosh;
mod perform;
mod reference;
mod scene;
mod units;

use std::path::Path;

use futures::stream::{self, StreamExt};

/// The most blocks that may go without being run: each is a promise that nobody keeps.
const MOST_NOT_RUN: usize = 8;

/// How many pages are done at once: commands wait for servers most of the time.
const AT_ONCE: usize = 4;

#[tokio::test]
async fn what_the_book_shows_is_what_happens() {
    let pages = book::pages();
    let first = pages.iter().find(|page| page.path == Path::new(scene::FIRST_PAGE)).unwrap();
    let only = std::env::var("GIZER_RIG_PAGE").ok();
    let chosen = pages
        .iter()
        .filter(|page| !page.blocks.is_empty() && only.as_ref().is_none_or(|only| page.path == Path::new(only)));
    let outcomes = stream::iter(chosen).map(|page| perform::page(page, first)).buffered(AT_ONCE);
    let outcomes: Vec<perform::Outcome> = outcomes.collect().await;
    let not_run: Vec<&String> = outcomes.iter().flat_map(|outcome| &outcome.not_run).collect();
    let faults: Vec<&str> = outcomes.iter().flat_map(|outcome| &outcome.faults).map(String::as_str).collect();
    for each in &not_run {
        println!("not run: {each}");
    }
    println!("{} blocks were not run", not_run.len());
    assert!(faults.is_empty(), "{} faults\n\n{}", faults.len(), faults.join("\n\n"));
    assert!(not_run.len() <= MOST_NOT_RUN, "{} blocks were not run: too many", not_run.len());
}
