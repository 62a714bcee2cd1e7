//! A TCP proxy that spoils connections: what a network, a firewall or a dying server does to them.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What happens to all connections, open and new ones. Requests pass; answers do not come as they should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// Nobody listens; open connections end.
    Refuse,
    /// Connections are taken, and nothing ever comes back.
    Silence,
    /// Answers stop after so many bytes, the connection stays.
    Stall(usize),
    /// Connections end after so many bytes of answers.
    Cut(usize),
    /// Answers have their length, and noise in place of their bytes.
    Garbage,
    /// A byte of the answer every so often.
    Trickle(Duration),
    /// Connections are reset as soon as an answer comes.
    Reset,
}

pub struct Proxy {
    pub port: u16,
    fault: watch::Sender<Fault>,
    listening: JoinHandle<()>,
}

impl Proxy {
    /// Before a server on this port of 127.0.0.1.
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (fault, watched) = watch::channel(Fault::None);
        Self { port, fault, listening: tokio::spawn(listen(listener, port, server, watched)) }
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(mut listener: TcpListener, port: u16, server: u16, mut fault: watch::Receiver<Fault>) {
    // Dropped with the task, and with them their connections.
    let mut connections = JoinSet::new();
    loop {
        if *fault.borrow_and_update() == Fault::Refuse {
            drop(listener);
            connections.shutdown().await;
            fault.wait_for(|fault| *fault != Fault::Refuse).await.unwrap();
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(([127, 0, 0, 1], port).into()).unwrap();
            listener = socket.listen(64).unwrap();
        }
        tokio::select! {
            client = listener.accept() => {
                let client = client.unwrap().0;
                client.set_nodelay(true).unwrap();
                connections.spawn(pass(client, server, fault.clone()));
            }
            _ = fault.changed() => {}
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Ends when either side does.
async fn pass(client: TcpStream, server: u16, fault: watch::Receiver<Fault>) {
    if *fault.borrow() == Fault::Silence {
        // As after a partition: even when all is well again, nobody at the other end knows this connection.
        swallow(client).await;
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    server.set_nodelay(true).unwrap();
    let client = Arc::new(client);
    let (mut from_server, mut to_server) = server.into_split();
    let requests = client.clone();
    let up = async move {
        let mut bytes = vec![0; 16 * 1024];
        loop {
            requests.readable().await.ok()?;
            match requests.try_read(&mut bytes) {
                Ok(0) => return None::<()>,
                Ok(count) => to_server.write_all(&bytes[..count]).await.ok()?,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    };
    let answers = client.clone();
    let down = async move {
        let mut fault = fault;
        let mut bytes = vec![0; 16 * 1024];
        let mut passed = 0;
        let mut present = *fault.borrow_and_update();
        loop {
            let count = from_server.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
            if fault.has_changed().ok()? {
                present = *fault.borrow_and_update();
                passed = 0;
            }
            let answer = &mut bytes[..count];
            match present {
                Fault::None => write(&answers, answer).await?,
                Fault::Refuse => return None,
                Fault::Silence => std::future::pending().await,
                Fault::Stall(after) | Fault::Cut(after) if passed + count > after => {
                    write(&answers, &answer[..after.saturating_sub(passed)]).await?;
                    if matches!(present, Fault::Cut(_)) {
                        return None::<()>;
                    }
                    std::future::pending::<()>().await;
                }
                Fault::Stall(_) | Fault::Cut(_) => write(&answers, answer).await?,
                Fault::Garbage => {
                    rand::fill(answer);
                    write(&answers, answer).await?;
                }
                Fault::Trickle(pause) => {
                    for byte in answer {
                        write(&answers, std::slice::from_ref(byte)).await?;
                        tokio::time::sleep(pause).await;
                    }
                }
                Fault::Reset => {
                    answers.set_zero_linger().ok()?;
                    return None;
                }
            }
            passed += count;
        }
    };
    tokio::select! { _ = up => {}, _ = down => {} }
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        to.writable().await.ok()?;
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
    Some(())
}

async fn swallow(mut client: TcpStream) {
    let mut bytes = [0; 1024];
    while client.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}
