//! `gizer config convert`: a classic INI file becomes a `gizer.toml`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;

use crate::args::{ConfigConvertArgs, Format};
use crate::config::{Effective, converted};
use crate::exit::{ExitCode, Failure};
use crate::ui::report;

/// Only its owner reads a file with passwords.
const OWNER_ONLY_MODE: u32 = 0o600;

/// Writes what a classic file says as TOML. Neither environment nor flags take part.
///
/// # Errors
/// [`Failure`] if the output is there already or cannot be written, or the file is none of the classic tool.
pub fn run(effective: &Effective, args: &ConfigConvertArgs, format: Format) -> Result<ExitCode, Failure> {
    let beside = |path: &Path| path.parent().map(Path::to_path_buf).unwrap_or_default();
    let text = converted(effective, &beside(args.output.as_deref().unwrap_or(&args.file)))?;
    match (&args.output, format) {
        (Some(output), _) => {
            write(output, &text)?;
            match format {
                Format::Text => report::note(format!("{} is written; it holds the passwords", output.display())),
                Format::Json => report::json(&json!({"output": output.display().to_string()})),
            }
        }
        (None, Format::Text) => report::text(&text),
        (None, Format::Json) => report::json(&json!({"toml": text})),
    }
    Ok(ExitCode::Done)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY_MODE).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::usage(format!("{} is there already", path.display()))
            .remedy("move it away, or choose another --output"),
        _ => Failure::failed(format!("cannot write {}: {error}", path.display())),
    })
}
