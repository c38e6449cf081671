//! A network namespace for gizer, on ways on which packets can get lost.
//!
//! ```text
//! gizer in the namespace ──veth──▶ Proxy at an address of this end ──▶ server (127.0.0.1)
//! ```
//!
//! Where packets are dropped, each end sends to a hardware address that nobody has: nothing arrives, no error is sent, and
//! either side hears nothing of the other, as behind a firewall that has forgotten a connection.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

use super::guard::Guard;
use super::process::{GuardedChild, Program};
use super::{Error, Signal};

/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:01";

/// A network namespace, which goes when this is dropped or its process dies.
#[derive(Debug)]
pub struct Island {
    // It holds the namespace, and the ways go with that.
    holder: GuardedChild,
}

/// A way from a namespace to this end.
#[derive(Debug)]
pub struct Strait {
    holder: u32,
    near: Ipv4Addr,
    far: Ipv4Addr,
    device: String,
}

impl Island {
    /// Makes one, or says why that is not possible here: it takes root, and a kernel with namespaces.
    ///
    /// # Errors
    /// [`Error::Io`] if a process cannot be started.
    pub fn create() -> Result<Result<Island, String>, Error> {
        let guard = Arc::new(Guard::new(Signal::Kill)?);
        let probe = Command::new("unshare").args(["--net", "ip", "link", "show"]).output();
        match probe {
            Err(error) => return Ok(Err(format!("unshare: {error}"))),
            Ok(probe) if !probe.status.success() => {
                return Ok(Err(String::from_utf8_lossy(&probe.stderr).trim_end().to_owned()));
            }
            Ok(_) => {}
        }
        let log = || File::create(guard.folder().join("log")).map_err(Error::io("create the log of a namespace"));
        let program = Program::new("unshare").args(["--net", "--", "sleep", "infinity"]);
        let holder = GuardedChild::spawn(&guard, &program, log()?, log()?)?;
        Ok(Ok(Island { holder }))
    }

    /// Its process: programs are run in its namespace.
    pub(super) fn holder(&self) -> u32 {
        self.holder.pid()
    }

    /// A way to this end, the `number`th of up to eight; `None` until the namespace is there.
    pub fn strait(&self, number: u8) -> Option<Strait> {
        let holder = self.holder.pid();
        let there = std::fs::read_link(format!("/proc/{holder}/ns/net")).ok()?;
        if Some(there) == std::fs::read_link("/proc/self/ns/net").ok() {
            return None;
        }
        // The range for tests of networks (RFC 2544), 4 addresses for each way.
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (holder % 2_048 * 8 + u32::from(number % 8)) * 4;
        let (near, far) = (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2));
        let device = format!("gz{holder}n{number}");
        let strait = Strait { holder, near, far, device };
        strait.build().then_some(strait)
    }
}

impl Strait {
    /// The address of this end.
    pub fn address(&self) -> Ipv4Addr {
        self.near
    }

    fn build(&self) -> bool {
        let Strait { holder, near, far, device } = self;
        let peer = format!("{device}p");
        ip(None, &format!("link add {device} type veth peer name {peer} netns {holder}"))
            && ip(None, &format!("address add {near}/30 dev {device}"))
            && ip(None, &format!("link set {device} up"))
            && ip(Some(*holder), &format!("address add {far}/30 dev {peer}"))
            && ip(Some(*holder), &format!("link set {peer} up"))
    }

    /// From now on all packets are lost, in both directions. Gives whether that could be arranged.
    #[must_use]
    pub fn drop_packets(&self) -> bool {
        let Strait { holder, near, far, device } = self;
        ip(None, &format!("neighbour replace {far} lladdr {NOBODY} nud permanent dev {device}"))
            && ip(Some(*holder), &format!("neighbour replace {near} lladdr {NOBODY} nud permanent dev {device}p"))
    }

    /// From now on packets arrive again.
    #[must_use]
    pub fn carry_packets(&self) -> bool {
        let Strait { holder, near, far, device } = self;
        ip(None, &format!("neighbour del {far} dev {device}"))
            && ip(Some(*holder), &format!("neighbour del {near} dev {device}p"))
    }
}

/// The `ip` of iproute2, here or in the namespace of a process.
fn ip(within: Option<u32>, arguments: &str) -> bool {
    let arguments = arguments.split_whitespace();
    let mut command = match within {
        None => Command::new("ip"),
        Some(holder) => {
            let mut command = Command::new("nsenter");
            command.args(["--net", "--target", &holder.to_string(), "--", "ip"]);
            command
        }
    };
    command.args(arguments).status().is_ok_and(|status| status.success())
}
