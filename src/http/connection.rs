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
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    warned: Arc<Mutex<Option<Instant>>>,
    protection: Arc<Protection>,
}

impl Gate {
    pub(crate) fn new(protection: Arc<Protection>) -> Self {
        Self::with_places(CONNECTIONS, protection)
    }

    fn with_places(places: usize, protection: Arc<Protection>) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), warned: Arc::default(), protection }
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
            Ok((Connection { stream, unread: None, reading: READING, _place: place }, service))
        })
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// Ends with an error when a response is not read in time.
pub(crate) struct Connection {
    stream: Pin<Box<dyn Stream>>,
    /// Runs from the moment the client's window is full until the response has left.
    unread: Option<Pin<Box<Sleep>>>,
    /// How long that may take.
    reading: Duration,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn in_time<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() {
            let reading = self.reading;
            let unread = self.unread.get_or_insert_with(|| Box::pin(tokio::time::sleep(reading)));
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn connections_beyond_the_places_are_closed_at_once_and_others_go_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::with_places(2, Protection::load(None).unwrap());
        let app = axum::Router::new().fallback(async || "inside\n").into_make_service();
        tokio::spawn(axum_server::from_tcp(listener).unwrap().acceptor(gate).serve(app));

        let answered = async |stream: &mut TcpStream| {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.ok();
            matches!(stream.read(&mut [0]).await, Ok(1))
        };
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert!(answered(&mut first).await && answered(&mut second).await);
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(matches!(third.read(&mut [0]).await, Ok(0) | Err(_)));
        assert!(answered(&mut second).await);
        drop(first);
        while !answered(&mut TcpStream::connect(address).await.unwrap()).await {}
    }

    fn connection(stream: impl Stream + 'static, reading: Duration) -> Connection {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Connection { stream: Box::pin(stream), unread: None, reading, _place: place }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off() {
        let (ours, _client) = tokio::io::duplex(16);
        let failed = connection(ours, Duration::from_millis(20)).write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_a_byte_now_and_then_is_cut_off() {
        let (ours, mut client) = tokio::io::duplex(16);
        tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let failed = connection(ours, Duration::from_millis(200)).write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_each_response_has_its_time_for_each() {
        let (ours, mut client) = tokio::io::duplex(16);
        let mut connection = connection(ours, Duration::from_secs(3600));
        for _ in 0..3 {
            connection.write_all(&[0; 16]).await.unwrap();
            let mut more = std::pin::pin!(connection.write_all(&[0; 16]));
            tokio::select! {
                biased;
                _ = &mut more => panic!("the client's window is full"),
                () = std::future::ready(()) => {}
            }
            client.read_exact(&mut [0; 16]).await.unwrap();
            more.await.unwrap();
            assert!(connection.unread.is_some(), "the clock runs");
            client.read_exact(&mut [0; 16]).await.unwrap();
            connection.flush().await.unwrap();
            assert!(connection.unread.is_none(), "it has stopped");
        }
    }
}
