//! systemd units and lines of crontabs.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::command_line;

/// Where pages say that gizer is.
const INSTALLED: &str = "/usr/local/bin/gizer";

/// Puts a unit into a folder, with the program where it really is; `known` is false where its command is still to come.
///
/// # Errors
/// What is wrong with its command lines.
pub(crate) fn keep(folder: &Path, name: &str, text: &str, program: &Path, known: bool) -> Result<(), String> {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), text.replace(INSTALLED, &program.to_string_lossy())).unwrap();
    let commands = text.lines().filter_map(|line| {
        let (key, command) = line.split_once('=')?;
        key.starts_with("Exec").then_some(command)
    });
    for command in commands {
        if !command.starts_with(INSTALLED) {
            return Err(format!("expected a command that begins with {INSTALLED}, got {command}"));
        }
        if known {
            command_line::check(command)?;
        }
    }
    Ok(())
}

/// Has systemd look at all units of a folder, where there is one; otherwise only at whether they are units at all.
///
/// # Errors
/// What systemd says: it warns of what it passes over, and a warning is a fault here.
pub(crate) fn verify(folder: &Path) -> Result<(), String> {
    let Ok(units) = fs::read_dir(folder) else { return Ok(()) };
    for unit in units {
        let path = unit.unwrap().path();
        match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
            Ok(told) if told.status.success() && told.stderr.is_empty() => {}
            Ok(told) => return Err(String::from_utf8_lossy(&told.stderr).into_owned()),
            Err(_) => look_at(&fs::read_to_string(&path).unwrap())?,
        }
    }
    Ok(())
}

fn look_at(unit: &str) -> Result<(), String> {
    let mut in_section = false;
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let section = line.starts_with('[') && line.ends_with(']');
        in_section |= section;
        if !section && (!in_section || !line.contains('=')) {
            return Err(format!("expected [Section] or Key=value, got {line:?}"));
        }
    }
    Ok(())
}

/// Looks at the lines of a crontab.
///
/// # Errors
/// The first that cron, or gizer, would not take.
pub(crate) fn crontab(text: &str, known: bool) -> Result<(), String> {
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let is_variable =
            line.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        if is_variable {
            continue;
        }
        let mut rest = line;
        for _ in 0..5 {
            let (field, after) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
            if field.is_empty() || !field.chars().all(|c| c.is_ascii_digit() || "*/,-".contains(c)) {
                return Err(format!("expected five fields of time, got {field:?} in {line:?}"));
            }
            rest = after;
        }
        if rest.replace("\\%", "").contains('%') {
            return Err(format!("cron ends a command at %, unless it is \\%: {line:?}"));
        }
        if rest.trim().is_empty() {
            return Err(format!("expected a command in {line:?}"));
        }
        if known {
            command_line::check(rest)?;
        }
    }
    Ok(())
}

#[test]
fn what_cron_would_not_take_is_found() {
    crontab("MAILTO=ops@example.com\n# a note\n*/5 * * * * cd /etc/gizer && /usr/local/bin/gizer sync\n", true)
        .unwrap();
    for wrong in ["* * * * gizer sync", "* * * * * gizer snyc", "* * * * * date +%F", "* * * * *"] {
        assert!(crontab(wrong, true).is_err(), "{wrong}");
    }
    crontab("* * * * * gizer snyc", false).unwrap();
}

#[test]
fn what_systemd_would_not_take_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let service = "[Service]\nType=oneshot\nExecStart=/usr/local/bin/gizer sync\n";
    keep(folder.path(), "gizer.service", service, Path::new("/bin/true"), true).unwrap();
    verify(folder.path()).unwrap();
    keep(folder.path(), "gizer.service", &format!("nonsense\n{service}"), Path::new("/bin/true"), true).unwrap();
    assert!(verify(folder.path()).is_err());
    let wrong = service.replace("sync", "snyc");
    assert!(keep(folder.path(), "gizer.service", &wrong, Path::new("/bin/true"), true).is_err());
}
