//! A private Alertmanager: on 127.0.0.1, in a temporary directory. It ends with its value.

use tokio::net::TcpStream;

use super::host::{self, Host};
use super::{ServerError, homebrew, on_free_port, until_ready};

const ALERTMANAGER: &str = "Alertmanager";

/// An Alertmanager of our own.
pub struct PrivateAlertmanager {
    host: Host,
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
        let host = Host::new("TERM", "KILL").map_err(place)?;
        let file = host.write("alertmanager.yml", configuration).map_err(place)?;
        let mut server = Self { host, port: 0 };
        on_free_port(ALERTMANAGER, async |port| {
            let mut alertmanager = server.host.command(&program);
            alertmanager.arg(format!("--config.file={}", file.display())).arg("--storage.path=data");
            // It has no peers.
            alertmanager.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
            server.host.spawn(alertmanager).map_err(place)?;
            server.port = port;
            until_ready(&mut server.host, ALERTMANAGER, async || {
                TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
            })
            .await
        })
        .await?;
        Ok(server)
    }

    /// Of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}
