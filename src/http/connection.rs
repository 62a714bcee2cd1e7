//! Connections: how many, over which transport, and for how long a client may leave a response unread.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::web::Protection;

/// Connections at once; further ones are closed when they come.
const CONNECTIONS: usize = 512;
/// How long the beginning of an encrypted connection may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a client may take to read a whole response.
const READING: Duration = Duration::from_secs(30);
/// Pause between two warnings about too many connections.
const WARNING: Duration = Duration::from_secs(60);

/// Lets a bounded number of clients in, each over the transport that holds at that moment.
#[derive(Clone)]
pub struct Gate {
    places: Arc<Semaphore>,
    warned: Arc<Mutex<Option<Instant>>>,
    protection: Arc<Protection>,
}

impl Gate {
    pub fn new(protection: Arc<Protection>) -> Self {
        Self { places: Arc::new(Semaphore::new(CONNECTIONS)), warned: Arc::default(), protection }
    }

    fn place(&self) -> io::Result<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().map_err(|full| {
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.is_none_or(|at| at.elapsed() > WARNING) {
                *warned = Some(Instant::now());
                tracing::warn!("more than {CONNECTIONS} connections at once; further ones are closed");
            }
            io::Error::other(full)
        })
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Gate {
    type Stream = Connection;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Connection, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = self.place();
        let rules = self.protection.rules();
        Box::pin(async move {
            let place = place?;
            stream.set_nodelay(true)?;
            let stream: Pin<Box<dyn Stream>> = match &rules.tls {
                None => Box::pin(stream),
                Some(tls) => {
                    let tls = RustlsConfig::from_config(tls.config.clone());
                    let accepted = RustlsAcceptor::new(tls).handshake_timeout(HANDSHAKE).accept(stream, ()).await;
                    let refused = |error: &io::Error| tracing::debug!("a TLS handshake failed: {error}");
                    Box::pin(accepted.inspect_err(refused)?.0)
                }
            };
            Ok((Connection { stream, unread: None, _place: place }, service))
        })
    }
}

pub trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Ends with an error when a response is not read in time.
pub struct Connection {
    stream: Pin<Box<dyn Stream>>,
    /// Runs from the moment the client's window is full until the response has left.
    unread: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn in_time<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            let unread = self.unread.get_or_insert_with(|| Box::pin(tokio::time::sleep(READING)));
            ready!(unread.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.stream.as_mut().poll_write(cx, bytes);
        self.in_time(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream.as_mut().poll_write_vectored(cx, slices);
        self.in_time(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream.as_mut().poll_flush(cx);
        if polled.is_ready() {
            self.unread = None;
        }
        self.in_time(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream.as_mut().poll_shutdown(cx);
        self.in_time(cx, polled)
    }
}
