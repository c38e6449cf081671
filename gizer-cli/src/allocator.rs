//! How the system's allocator treats large blocks.
//!
//! glibc takes blocks from a threshold on directly from the system, and gives them back when they are freed. But it raises
//! the threshold to the size of whatever it has given back, up to 32 MiB, and keeps what is smaller in pieces: a load of
//! documents of 16 MiB then had twice the memory that it used (seen: 285 MiB; mimalloc kept more, and took more time).
//! A threshold that was set stays where it is (mallopt(3), `M_MMAP_THRESHOLD`). Without `unsafe` it can only be set in the
//! environment of a process, before it begins.

use std::ffi::OsString;

/// Above the 8 MiB of an ordinary reply, whose blocks are quicker to use again; below that of the largest document.
const MMAP_THRESHOLD: u32 = 12 << 20;

/// What glibc keeps at the end of a heap; if nothing is said it follows the other one, and then is twice as large.
const TRIM_THRESHOLD: u32 = 24 << 20;

/// The variable that says how, by an operator or by this program.
const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";

/// Restarts the program with the threshold set, unless something is set already. Comes back where that is not
/// possible or not needed: then all goes on, with more memory.
pub fn give_large_blocks_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os(VARIABLE).is_none() {
        begin_anew(&std::env::args_os().collect::<Vec<OsString>>());
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn begin_anew(arguments: &[OsString]) {
    use std::os::unix::process::CommandExt;
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = std::process::Command::new(program);
    if let Some((name, rest)) = arguments.split_first() {
        command.arg0(name).args(rest);
    }
    command.env(VARIABLE, MMAP_THRESHOLD.to_string()).env("MALLOC_TRIM_THRESHOLD_", TRIM_THRESHOLD.to_string());
    // It only comes back if it fails.
    let _ = command.exec();
}
