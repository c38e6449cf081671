//! `GET /metrics`, and nothing else.
//!
//! Each connection has one answer and is closed (RFC 9112, 9.6). Whoever is slow, or sends too much, loses the connection; whoever
//! comes when there are very many waits for one of them to end, 2 s at most where they say nothing. None of them holds anything that following needs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Metrics;
use crate::exit::Failure;

/// How long a client may take to send its request. Prometheus sends it at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it may take to take the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections at a time: a Prometheus or two, somebody with a browser, and many that say nothing.
const MAX_METRICS_CONNECTIONS: usize = 256;

/// The most bytes of a request. Prometheus sends some hundred.
const MAX_REQUEST_BYTES: usize = 8 * 1024;

/// How long to wait where the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The text format, as Prometheus asks for it.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A server that has its address.
#[derive(Debug)]
pub(super) struct MetricsServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsServer {
    /// Takes the address; of port 0 the system chooses one.
    pub(super) async fn open(address: SocketAddr) -> Result<MetricsServer, Failure> {
        let failed = |error: io::Error| {
            let message = format!("cannot serve metrics at {address}: {error}");
            Failure::usage(message)
                .remedy("give another address by --metrics or [metrics] listen, or port 0 for any that is free")
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(MetricsServer { listener, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped.
    pub(super) async fn run(self, metrics: Metrics) {
        let places = Arc::new(Semaphore::new(MAX_METRICS_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "could not accept a connection for metrics");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let metrics = metrics.clone();
            tokio::spawn(async move {
                let _place = place;
                if answer(stream, &metrics).await.is_err() {
                    tracing::debug!("a client of metrics was too slow, or left");
                }
            });
        }
    }
}

async fn answer(mut stream: TcpStream, metrics: &Metrics) -> io::Result<()> {
    let answer = match timeout(REQUEST_TIMEOUT, head(&mut stream)).await?? {
        Some(head) => respond(&head, || metrics.text()),
        None => Answer::new("431 Request Header Fields Too Large", "the request is too large\n"),
    };
    let bytes = answer.bytes();
    let sent = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    };
    timeout(ANSWER_TIMEOUT, sent).await?
}

/// The request up to the empty line; `None` if it is too large.
async fn head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        if head.windows(4).any(|window| window == b"\r\n\r\n") {
            return Ok(Some(head));
        }
        if head.len() >= MAX_REQUEST_BYTES {
            return Ok(None);
        }
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
}

struct Answer {
    status: &'static str,
    header: &'static str,
    body: String,
    /// Whether the body is only measured: the answer to HEAD.
    without_body: bool,
}

impl Answer {
    fn new(status: &'static str, body: &str) -> Answer {
        Answer { status, header: "", body: body.to_owned(), without_body: false }
    }

    fn bytes(&self) -> Vec<u8> {
        let Answer { status, header, body, without_body } = self;
        let shown = if *without_body { "" } else { body };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\n{header}Connection: close\r\n\r\n{shown}",
            body.len()
        )
        .into_bytes()
    }
}

fn respond(head: &[u8], text: impl FnOnce() -> String) -> Answer {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Answer::new("400 Bad Request", "expected GET /metrics HTTP/1.1\n");
    };
    if !version.starts_with("HTTP/1.") {
        return Answer::new("505 HTTP Version Not Supported", "expected HTTP/1.1\n");
    }
    let path = target.split('?').next().unwrap_or_default();
    let answer = match (*method, path) {
        ("GET" | "HEAD", "/metrics") => Answer::new("200 OK", &text()),
        (_, "/metrics") => {
            Answer { header: "Allow: GET, HEAD\r\n", ..Answer::new("405 Method Not Allowed", "expected GET\n") }
        }
        _ => Answer::new("404 Not Found", "metrics are at /metrics\n"),
    };
    Answer { without_body: *method == "HEAD", ..answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(request: &str) -> String {
        let head = format!("{request}\r\nHost: here\r\n\r\n");
        String::from_utf8(respond(head.as_bytes(), || "up 1\n".to_owned()).bytes()).unwrap()
    }

    #[test]
    fn only_metrics_are_served() {
        let cases = [
            ("GET /metrics HTTP/1.1", "HTTP/1.1 200 OK\r\n", "\r\n\r\nup 1\n"),
            ("GET /metrics?x=1 HTTP/1.0", "HTTP/1.1 200 OK\r\n", "\r\n\r\nup 1\n"),
            ("HEAD /metrics HTTP/1.1", "HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\nConnection: close\r\n\r\n"),
            ("GET / HTTP/1.1", "HTTP/1.1 404 ", "/metrics\n"),
            ("GET /metrics/ HTTP/1.1", "HTTP/1.1 404 ", "/metrics\n"),
            ("POST /metrics HTTP/1.1", "HTTP/1.1 405 ", "expected GET\n"),
            ("GET /metrics HTTP/2.0", "HTTP/1.1 505 ", "\n"),
            ("GET /metrics", "HTTP/1.1 400 ", "\n"),
            ("", "HTTP/1.1 400 ", "\n"),
        ];
        for (request, begins, ends) in cases {
            let answer = answer_to(request);
            assert!(answer.starts_with(begins) && answer.ends_with(ends), "{request:?}: {answer}");
        }
        assert!(answer_to("GET /metrics HTTP/1.1").contains("\r\nContent-Type: text/plain; version=0.0.4; "));
        assert!(answer_to("PUT /metrics HTTP/1.1").contains("\r\nAllow: GET, HEAD\r\n"));
    }
}
