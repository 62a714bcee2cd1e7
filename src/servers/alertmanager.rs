//! A private Alertmanager: on 127.0.0.1, in a temporary directory. It ends with its value.

use tokio::net::TcpStream;

use super::host::{self, Host};
use super::{PORT_TRIES, ServerError, free_port, homebrew, port_was_taken, until_ready};

const ALERTMANAGER: &str = "Alertmanager";

/// An Alertmanager of our own.
pub struct PrivateAlertmanager {
    /// For its lifetime.
    _host: Host,
    port: u16,
}

impl PrivateAlertmanager {
    /// Starts it with a configuration in YAML.
    ///
    /// # Errors
    /// When Alertmanager is not installed (the text says how to get it), or it does not start (its last words).
    pub async fn start(configuration: &str) -> Result<Self, ServerError> {
        let program = ["alertmanager", "prometheus-alertmanager"]
            .into_iter()
            .find_map(|name| Some(host::find(&[name], &homebrew("alertmanager"))?.join(name)))
            .ok_or(ServerError::AlertmanagerMissing)?;
        let place = |error| ServerError::Place { server: ALERTMANAGER, error };
        let mut host = Host::new("TERM", "KILL").map_err(place)?;
        let file = host.write("alertmanager.yml", configuration).map_err(place)?;
        for attempt in 1.. {
            let port = free_port().map_err(place)?;
            let mut alertmanager = host.command(&program);
            alertmanager.arg(format!("--config.file={}", file.display())).arg("--storage.path=data");
            // It has no peers.
            alertmanager.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
            host.spawn(alertmanager).map_err(place)?;
            let started = until_ready(&mut host, ALERTMANAGER, async || {
                TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
            });
            match started.await {
                Err(_) if attempt < PORT_TRIES && port_was_taken(&host) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(Self { _host: host, port }),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}
