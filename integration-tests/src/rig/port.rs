//! Choosing a loopback port for a server that takes its port as a setting.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Error;

// Below 32,768, where Linux begins to hand out ports for outgoing connections: a server that is restarted must find its
// port free again, and a client's connection could have taken one from there in the meantime.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;
const COUNT: u32 = (LAST - FIRST) as u32 + 1;

/// A port nobody listens on. No port is given out twice in a process, unless all others have been.
///
/// Another process may still take it before the caller does: see [`Error::PortTaken`].
pub(crate) fn free_port() -> Result<u16, Error> {
    // Processes start at different places, so that two of them seldom want the same port at the same time.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        AtomicU32::new((nanos / 1_000).wrapping_add(process::id().wrapping_mul(7_919)) % COUNT)
    });
    for _ in 0..COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        // The remainder is below COUNT, which is a difference of two ports.
        let port = FIRST + offset as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::NoFreePort { first: FIRST, last: LAST })
}
