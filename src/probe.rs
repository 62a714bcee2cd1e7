//! Whether the relay itself answers: a GET of its health address, on a timer of its own.
//!
//! A ledger tells what was served; that it grows no longer may be health or death. The probe takes no key and calls no
//! model, opens a connection of its own each time, as a client of the relay does, and follows no redirect. Any status from
//! 200 to 399 counts as up.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Notify;
use url::{Position, Url};

use crate::back_off::back_off;
use crate::connect::tls::Trust;

/// A health page says a few words; what is longer is not read on.
const LONGEST_BODY: usize = 64 * 1024;

/// What to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`, without user, password and query.
    pub url: Url,
    /// PEM file with authorities in place of the public ones; read at each connecting.
    pub ca_file: Option<PathBuf>,
    /// Limit of one probe, connecting included.
    pub timeout: Duration,
}

/// Why a probe failed: the closed list behind the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The host's name has no address.
    Dns,
    /// Nobody accepts the connection, or it broke.
    Connection,
    /// The certificate is not trusted, or the other side speaks no TLS.
    Tls,
    /// No whole answer within the limit.
    Timeout,
    /// A status below 200 or above 399.
    Status,
    /// The answer is not one of HTTP.
    Protocol,
}

impl Reason {
    /// In the order of [`Status::failures`].
    pub const ALL: [Self; 6] = [Self::Dns, Self::Connection, Self::Tls, Self::Timeout, Self::Status, Self::Protocol];

    /// The value of the label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Protocol => "protocol",
        }
    }
}

/// A probe that failed: the reason for the metric, the text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", reason.label())]
pub struct Failure {
    /// For the metric.
    pub reason: Reason,
    text: String,
}

impl Failure {
    const fn new(reason: Reason, text: String) -> Self {
        Self { reason, text }
    }
}

impl Target {
    /// Asks once. Gives the status.
    ///
    /// # Errors
    /// When the relay does not answer within the timeout with a status from 200 to 399.
    pub async fn probe(&self) -> Result<StatusCode, Failure> {
        let (status, _) = self.send(Request::default()).await?;
        if status.is_success() || status.is_redirection() {
            Ok(status)
        } else {
            Err(Failure::new(Reason::Status, format!("{}: answers {status}", self.url)))
        }
    }

    /// Sends a request to the address, over a connection of its own. Gives the status and as much of the body as is read.
    ///
    /// # Errors
    /// When there is no answer within the timeout.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Vec<u8>), Failure> {
        match tokio::time::timeout(self.timeout, self.ask(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                let limit = humantime::format_duration(self.timeout);
                Err(Failure::new(Reason::Timeout, format!("{}: no answer within {limit}", self.url)))
            }
        }
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Vec<u8>), Failure> {
        let failed = |reason, error: &dyn std::fmt::Display| Failure::new(reason, format!("{}: {error}", self.url));
        // An address of IPv6 stands in brackets.
        let host = self.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_or_known_default().unwrap_or(80);
        let addresses = lookup_host((host, port)).await.map_err(|error| failed(Reason::Dns, &error))?;
        let addresses: Vec<_> = addresses.collect();
        let stream = TcpStream::connect(&*addresses).await.map_err(|error| failed(Reason::Connection, &error))?;
        let answer = if self.url.scheme() == "https" {
            let trust = Trust { authorities: self.ca_file.clone(), client: None, name: Some(host.to_owned()) };
            let stream = trust.connect(stream).await.map_err(|error| {
                // Its own words for what it refuses, and for a file; anything else is the network's.
                let refused = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound);
                failed(if refused { Reason::Tls } else { Reason::Connection }, &error)
            })?;
            self.exchange(stream, request).await
        } else {
            self.exchange(stream, request).await
        };
        answer.map_err(|error| {
            let lost = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
            let broken = std::error::Error::source(&error).is_some_and(|source| source.is::<io::Error>());
            failed(if lost || broken { Reason::Connection } else { Reason::Protocol }, &error)
        })
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        mut request: Request<Full<Bytes>>,
    ) -> hyper::Result<(StatusCode, Vec<u8>)> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Every part of a parsed URL may stand in a request.
        *request.uri_mut() = self.url[Position::BeforePath..Position::AfterPath].parse().unwrap_or_default();
        let host = HeaderValue::from_str(&self.url[Position::BeforeHost..Position::AfterPort]);
        let agent = HeaderValue::from_static(concat!("llm-relay-exporter/", env!("CARGO_PKG_VERSION")));
        let headers = request.headers_mut();
        headers.extend(host.map(|host| (HOST, host)));
        headers.extend([(USER_AGENT, agent), (CONNECTION, HeaderValue::from_static("close"))]);
        let asking = async {
            let answer = sender.send_request(request).await?;
            Ok((answer.status(), read(answer.into_body()).await?))
        };
        tokio::pin!(asking);
        tokio::select! {
            answer = &mut asking => answer,
            // What it has taken from the connection before that ended is there for the asking.
            ended = connection => match ended {
                Ok(()) => asking.await,
                Err(error) => Err(error),
            },
        }
    }
}

/// To its end, or as far as it may be long.
async fn read(mut body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < LONGEST_BODY && !body.is_end_stream() {
        match body.frame().await {
            Some(frame) => all.extend(frame?.data_ref().into_iter().flatten()),
            None => break,
        }
    }
    Ok(all)
}

/// How the probes of one relay have gone.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<Status>);

/// What is known of a relay that is probed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// `None` before the first probe has ended.
    pub last: Option<Last>,
    /// By [`Reason::ALL`].
    pub failures: [u64; Reason::ALL.len()],
}

/// The last probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Last {
    /// It answered with a status from 200 to 399.
    pub up: bool,
    /// How long it took, connecting included, also when it failed.
    pub seconds: f64,
}

impl Probes {
    pub(crate) fn status(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Probes for ever, `interval` after the last began, later after failures.
    pub(crate) async fn keep(&self, target: &Target, interval: Duration, changed: &Notify) {
        let mut failed: Option<Failure> = None;
        let mut failures_in_a_row = 0;
        loop {
            let began = Instant::now();
            let outcome = target.probe().await;
            self.note(began.elapsed(), &outcome);
            changed.notify_one();
            match outcome {
                Ok(_) => {
                    if failed.take().is_some() {
                        tracing::info!("the relay answers again");
                    }
                    failures_in_a_row = 0;
                }
                Err(failure) => {
                    failures_in_a_row += 1;
                    if failed.as_ref().is_none_or(|known| known.reason != failure.reason) {
                        let reason = failure.reason.label();
                        tracing::warn!(reason, error = failure.text, "the relay does not answer");
                    }
                    failed = Some(failure);
                }
            }
            let due = match failures_in_a_row {
                0 => began + interval,
                failures => Instant::now() + back_off(interval, failures),
            };
            tokio::time::sleep_until(due.into()).await;
        }
    }

    fn note(&self, took: Duration, outcome: &Result<StatusCode, Failure>) {
        let mut status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        status.last = Some(Last { up: outcome.is_ok(), seconds: took.as_secs_f64() });
        if let Err(failure) = outcome {
            status.failures[failure.reason as usize] += 1;
        }
    }
}
