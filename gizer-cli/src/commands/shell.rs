//! `gizer completions` and `gizer man`: what a shell and a person at it want to know, made from the command line's own description.

use std::path::Path;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::exit::{ExitCode, Failure};
use crate::ui::report;

/// Prints the completions of a shell.
///
/// # Errors
/// [`Failure`] if they are not text: a fault of gizer's.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command_line(), "gizer", &mut script);
    print(script)
}

/// Prints the manual page of gizer, or writes the pages of all commands into a folder.
///
/// # Errors
/// [`Failure`] if the folder cannot be made or written to.
pub fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let Some(folder) = &args.output else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command_line()).render(&mut page);
        rendered.map_err(|error| Failure::failed(format!("cannot make the manual page: {error}")))?;
        return print(page);
    };
    write_pages(folder).map_err(|error| Failure::failed(format!("cannot write into {}: {error}", folder.display())))?;
    Ok(ExitCode::Done)
}

fn write_pages(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command_line(), folder)
}

fn print(bytes: Vec<u8>) -> Result<ExitCode, Failure> {
    let text = String::from_utf8(bytes).map_err(|error| Failure::failed(format!("expected text: {error}")))?;
    report::text(&text);
    Ok(ExitCode::Done)
}
