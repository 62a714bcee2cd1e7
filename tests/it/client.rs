//! A small HTTP client, for benchmarks, too: one request, on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A server that says nothing for so long never will.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads until the server closes.
    pub fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let no_answer = || io::Error::other("no HTTP answer");
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(no_answer)? + 4;
        let body = bytes.split_off(end);
        let head = String::from_utf8(bytes).map_err(io::Error::other)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(no_answer)?;
        Ok(Self { status, head, body })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A request as it is written, whatever it is, and all that comes back.
pub fn exchange(address: impl ToSocketAddrs, request: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    Answer::read(&mut stream)
}

/// A method and a path, such as `GET /metrics`; `headers` are lines with their ends. In HTTP/1.0 the server closes, and
/// sends no chunks.
pub fn send(address: impl ToSocketAddrs, what: &str, headers: &str, body: &str) -> io::Result<Answer> {
    let length = body.len();
    exchange(address, &format!("{what} HTTP/1.0\r\nHost: test\r\nContent-Length: {length}\r\n{headers}\r\n{body}"))
}

pub fn get(address: impl ToSocketAddrs, path: &str) -> io::Result<Answer> {
    send(address, &format!("GET {path}"), "", "")
}
