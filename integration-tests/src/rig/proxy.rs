//! A TCP proxy that stands for a bad network: it delays, holds or cuts what goes through it.
//!
//! ```text
//! client ──▶ Proxy (127.0.0.1:port) ──▶ server (127.0.0.1:its own port)
//! ```
//!
//! The mode is one for all connections, those that are there and those that come. Bytes are counted in both directions
//! together, from the moment a mode is set. No byte is ever changed, lost or put in another order: what is held comes later, or
//! never, if its connection is cut.

use std::io;
use std::net::{Ipv4Addr, TcpListener as BlockingListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Error;

/// What a [`Proxy`] does with what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyMode {
    /// Passes everything on at once.
    Forward,
    /// Holds each piece, of at most 16 KiB, for so long.
    Delay(Duration),
    /// Holds everything. Connections stay, and new ones are accepted: nobody hears anything any more, not even an end.
    Stall,
    /// Passes so many bytes on, then does as [`ProxyMode::Stall`].
    StallAfter(u64),
    /// Holds, for ever, the connections whose client sends a piece with these bytes in it, that piece included. Others go on.
    StallWhere(Vec<u8>),
    /// Passes so many bytes on, resets all connections, and goes back to [`ProxyMode::Forward`].
    CutAfter(u64),
    /// Resets all connections, and new ones as they come.
    Refuse,
}

/// A proxy before a server on the loopback interface. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct Proxy {
    address: Ipv4Addr,
    port: u16,
    server: u16,
    wire: Arc<Wire>,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy before the server on this port of 127.0.0.1, which need not run yet. It begins with
    /// [`ProxyMode::Forward`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start(server: u16) -> Result<Self, Error> {
        Self::start_at(Ipv4Addr::LOCALHOST, server)
    }

    /// As [`Proxy::start`], with another address of this machine to listen at.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start_at(address: Ipv4Addr, server: u16) -> Result<Self, Error> {
        let doing = || Error::io("start a proxy");
        let listener = BlockingListener::bind((address, 0)).map_err(doing())?;
        let port = listener.local_addr().map_err(doing())?.port();
        listener.set_nonblocking(true).map_err(doing())?;
        // A runtime of its own: the proxy goes on while the test's runtime is busy, and outlives it if it is shared.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(doing())?;
        let wire = Arc::new(Wire::new());
        let (stop, stopped) = watch::channel(());
        let shared = Arc::clone(&wire);
        let thread = thread::Builder::new()
            .name("proxy".into())
            .spawn(move || runtime.block_on(accept(listener, server, shared, stopped)))
            .map_err(doing())?;
        Ok(Self { address, port, server, wire, stop: Some(stop), thread: Some(thread) })
    }

    /// The port that stands for the server's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection string of the server, changed so that it leads through here.
    pub fn uri(&self, server_uri: &str) -> String {
        server_uri.replace(&format!("127.0.0.1:{}", self.server), &format!("{}:{}", self.address, self.port))
    }

    /// From now on, for all connections. What was held is dealt with by the new mode.
    pub fn set(&self, mode: ProxyMode) {
        self.wire.set(mode);
    }

    /// Resets all connections that there are now. New ones are dealt with by the mode, as before.
    pub fn cut(&self) {
        self.wire.cut();
    }

    /// Resets the clients' sides of all connections that there are now. The server is told nothing: its sides stay open.
    pub fn cut_clients(&self) {
        self.wire.client_cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Bytes passed on so far, in both directions together.
    pub fn passed(&self) -> u64 {
        self.wire.passed.load(Ordering::Relaxed)
    }

    /// Connections that [`ProxyMode::StallWhere`] has held so far.
    pub fn held(&self) -> u64 {
        self.wire.held.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.wire.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say; a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Wire {
    mode: watch::Sender<ProxyMode>,
    /// How many bytes a mode with a limit still passes on.
    left: Mutex<u64>,
    cuts: watch::Sender<u64>,
    client_cuts: watch::Sender<u64>,
    passed: AtomicU64,
    accepted: AtomicU64,
    held: AtomicU64,
}

/// What may be done with a piece.
enum Verdict {
    /// So many of its bytes are passed on.
    Pass(usize),
    /// Nothing, until there is another mode.
    Hold,
    /// Nothing, and the mode's limit is reached: connections are reset.
    Cut,
}

impl Wire {
    fn new() -> Self {
        Self {
            mode: watch::Sender::new(ProxyMode::Forward),
            left: Mutex::new(0),
            cuts: watch::Sender::new(0),
            client_cuts: watch::Sender::new(0),
            passed: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    fn set(&self, mode: ProxyMode) {
        if let ProxyMode::StallAfter(bytes) | ProxyMode::CutAfter(bytes) = mode {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        }
        let refuse = mode == ProxyMode::Refuse;
        self.mode.send_replace(mode);
        if refuse {
            self.cut();
        }
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ends a [`ProxyMode::CutAfter`] once, however many connections come to its limit.
    fn cut_at_limit(&self) {
        let ended = self.mode.send_if_modified(|mode| {
            let at_limit = matches!(mode, ProxyMode::CutAfter(_));
            if at_limit {
                *mode = ProxyMode::Forward;
            }
            at_limit
        });
        if ended {
            self.cut();
        }
    }

    /// Takes from the limit what a piece of this length may have.
    fn take(&self, length: usize) -> usize {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = (*left).min(length as u64);
        *left -= taken;
        taken as usize
    }

    fn judge(&self, mode: &ProxyMode, piece: &[u8], connection: &Connection) -> Verdict {
        match mode {
            ProxyMode::Forward | ProxyMode::Delay(_) => Verdict::Pass(piece.len()),
            ProxyMode::Stall | ProxyMode::Refuse => Verdict::Hold,
            ProxyMode::StallWhere(bytes) => match connection.is_held_for(bytes, piece) {
                true => Verdict::Hold,
                false => Verdict::Pass(piece.len()),
            },
            ProxyMode::StallAfter(_) => match self.take(piece.len()) {
                0 => Verdict::Hold,
                taken => Verdict::Pass(taken),
            },
            ProxyMode::CutAfter(_) => match self.take(piece.len()) {
                0 => Verdict::Cut,
                taken => Verdict::Pass(taken),
            },
        }
    }
}

/// One direction of a connection.
struct Connection<'c> {
    wire: &'c Wire,
    /// Whether what comes is the client's.
    from_client: bool,
    /// Set for both directions by [`ProxyMode::StallWhere`].
    held: &'c AtomicBool,
}

impl Connection<'_> {
    fn is_held_for(&self, bytes: &[u8], piece: &[u8]) -> bool {
        let found = self.from_client && !bytes.is_empty() && piece.windows(bytes.len()).any(|part| part == bytes);
        if found && !self.held.swap(true, Ordering::Relaxed) {
            self.wire.held.fetch_add(1, Ordering::Relaxed);
        }
        found || self.held.load(Ordering::Relaxed)
    }

    /// Passes on all that comes, until the end of it.
    async fn pump(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
        let mut buffer = vec![0; 16 << 10];
        let mut modes = self.wire.mode.subscribe();
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if self.pass(&buffer[..length], &mut to, &mut modes).await.is_err() {
                break;
            }
        }
        // The end is told as late as bytes would be.
        let tells_ends = |mode: &ProxyMode| match mode {
            ProxyMode::Stall => false,
            ProxyMode::StallWhere(_) => !self.held.load(Ordering::Relaxed),
            _ => true,
        };
        let _ = modes.wait_for(tells_ends).await;
        let _ = to.shutdown().await;
    }

    async fn pass(
        &self,
        mut piece: &[u8],
        to: &mut WriteHalf<'_>,
        modes: &mut watch::Receiver<ProxyMode>,
    ) -> io::Result<()> {
        while !piece.is_empty() {
            let mode = modes.borrow_and_update().clone();
            if let ProxyMode::Delay(delay) = mode {
                tokio::time::sleep(delay).await;
            }
            match self.wire.judge(&mode, piece, self) {
                Verdict::Pass(length) => {
                    // Counted first, so that who has got the bytes sees them counted.
                    self.wire.passed.fetch_add(length as u64, Ordering::Relaxed);
                    to.write_all(&piece[..length]).await?;
                    piece = &piece[length..];
                }
                Verdict::Cut => {
                    self.wire.cut_at_limit();
                    // The next thing this connection sees is its end, not the mode that comes after.
                    tokio::task::yield_now().await;
                }
                Verdict::Hold => modes.changed().await.map_err(|_| io::ErrorKind::BrokenPipe)?,
            }
        }
        Ok(())
    }
}

async fn accept(listener: BlockingListener, server: u16, wire: Arc<Wire>, mut stopped: watch::Receiver<()>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        if let Ok((client, _)) = client {
            wire.accepted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(client, server, Arc::clone(&wire)));
        }
    }
}

async fn serve(client: TcpStream, server: u16, wire: Arc<Wire>) {
    let (mut cuts, mut client_cuts) = (wire.cuts.subscribe(), wire.client_cuts.subscribe());
    let server = match *wire.mode.borrow() {
        ProxyMode::Refuse => None,
        _ => Some(TcpStream::connect((Ipv4Addr::LOCALHOST, server))),
    };
    let server = match server {
        Some(connecting) => connecting.await.ok(),
        None => None,
    };
    let Some(server) = server else {
        return reset(&client);
    };
    let (mut client, mut server) = (client, server);
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let mut only_client = false;
    {
        let held = AtomicBool::new(false);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let connection = |from_client| Connection { wire: &wire, from_client, held: &held };
        let (request, reply) = (connection(true), connection(false));
        let both = async { tokio::join!(request.pump(from_client, to_server), reply.pump(from_server, to_client)) };
        tokio::select! {
            // First, so that nothing passes after a cut.
            biased;
            _ = cuts.changed() => {}
            _ = client_cuts.changed() => only_client = true,
            _ = both => return,
        }
    }
    reset(&client);
    if only_client {
        drop(client);
        // Until the proxy ends, and its runtime with all that is on it.
        return std::future::pending().await;
    }
    reset(&server);
}

/// When it is dropped, the other side reads "connection reset by peer", not an end in good order.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
