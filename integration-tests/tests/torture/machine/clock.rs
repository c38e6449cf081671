//! Steps of the clock that gizer sees. That of the machine, and of the servers, stays as it is.
//!
//! libfaketime, a Debian package that `scripts/setup` installs where it can, is loaded before the program and reads from a file how far
//! off the clock is. It does not touch the monotonic clock, as a step of a real one does not. Where it is missing clocks are not stepped.

use std::path::PathBuf;

use integration_tests::rig::Gizer;

use super::plan::Fault;
use crate::world::World;

/// What the library reads: `+60` is a minute ahead.
const FILE: &str = "clock";

/// Where Debian has the library, below the folder of the architecture.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

/// gizer with a clock that can be stepped, if there are any such faults.
pub(super) fn with_clock<'f>(gizer: Gizer, mut faults: impl Iterator<Item = &'f Fault>) -> Gizer {
    let Some(library) = library().filter(|_| faults.any(|fault| matches!(fault, Fault::Clock(_)))) else {
        return gizer;
    };
    let file = gizer.folder().join(FILE);
    std::fs::write(&file, "+0").unwrap();
    gizer
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", file)
        // Seconds after which the file is read again.
        .env("FAKETIME_CACHE_DURATION", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1")
}

/// From now on gizer's clock is so many seconds off.
pub(super) fn step(world: &World<'_>, seconds: i64) {
    let file = world.gizer.folder().join(FILE);
    match file.exists() {
        true => std::fs::write(file, format!("{seconds:+}")).unwrap(),
        false => println!("    not done: there is no libfaketime"),
    }
}
