//! The command lines of `gizer completions` and `gizer man`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gizer completions bash > ~/.local/share/bash-completion/completions/gizer
  gizer completions fish > ~/.config/fish/completions/gizer.fish")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gizer man --output ~/.local/share/man/man1   then: man gizer, man gizer-load, …
  gizer man | man -l -")]
pub struct ManArgs {
    /// Write a page for each command into this folder.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}
