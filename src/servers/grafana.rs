//! A private Grafana: on 127.0.0.1, in a temporary directory, to be read by whoever is on this machine. It ends with its
//! value.

use std::io;
use std::path::{Path, PathBuf};

use super::host::{self, Host, has_page};
use super::{ServerError, homebrew, on_free_port, password, until_ready};

const GRAFANA: &str = "Grafana";

/// A Grafana of our own.
pub struct PrivateGrafana {
    host: Host,
    program: PathBuf,
    home: PathBuf,
    port: u16,
}

impl PrivateGrafana {
    /// A place for one; nothing runs yet.
    ///
    /// # Errors
    /// When Grafana is not installed (the text says how to get it).
    pub fn new() -> Result<Self, ServerError> {
        let places: Vec<_> = homebrew("grafana").into_iter().chain(["/usr/share/grafana/bin".into()]).collect();
        let program = ["grafana", "grafana-server"]
            .into_iter()
            .find_map(|name| Some(host::find(&[name], &places)?.join(name)))
            .ok_or(ServerError::GrafanaMissing)?;
        let home = home(&program).ok_or(ServerError::GrafanaMissing)?;
        let host = Host::new("TERM", "KILL").map_err(|error| ServerError::Place { server: GRAFANA, error })?;
        Ok(Self { host, program, home, port: 0 })
    }

    /// The directory that it lives in.
    pub fn directory(&self) -> &Path {
        self.host.path()
    }

    /// Writes a file of its provisioning, by its path below [`Self::directory`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> io::Result<()> {
        self.host.write_below(path, text)
    }

    /// Starts it on what has been provisioned; `first` is the dashboard that it begins with.
    ///
    /// # Errors
    /// When it does not start: its last words.
    pub async fn start(&mut self, first: &str) -> Result<(), ServerError> {
        let place = |error| ServerError::Place { server: GRAFANA, error };
        // As every other private server has one; nobody is told it.
        let secret = password();
        on_free_port(GRAFANA, async |port| {
            self.port = port;
            let mut grafana = self.host.command(&self.program);
            if self.program.ends_with("grafana") {
                grafana.arg("server");
            }
            grafana.arg("--homepath").arg(&self.home);
            let told = port.to_string();
            for (name, value) in [
                ("GF_SERVER_HTTP_ADDR", "127.0.0.1"),
                ("GF_SERVER_HTTP_PORT", &*told),
                ("GF_SECURITY_ADMIN_PASSWORD", &*secret),
                ("GF_AUTH_ANONYMOUS_ENABLED", "true"),
                ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
                // The wall refreshes every 2 s; Grafana's own minimum is 5 s.
                ("GF_DASHBOARDS_MIN_REFRESH_INTERVAL", "1s"),
                // Nothing is sent or fetched from elsewhere.
                ("GF_ANALYTICS_REPORTING_ENABLED", "false"),
                ("GF_ANALYTICS_CHECK_FOR_UPDATES", "false"),
                ("GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "false"),
                ("GF_PLUGINS_PREINSTALL_DISABLED", "true"),
            ] {
                grafana.env(name, value);
            }
            for (name, below) in [
                ("GF_PATHS_DATA", "data"),
                ("GF_PATHS_LOGS", "logs"),
                ("GF_PATHS_PLUGINS", "plugins"),
                ("GF_PATHS_PROVISIONING", "provisioning"),
                ("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH", first),
            ] {
                grafana.env(name, self.directory().join(below));
            }
            self.host.spawn(grafana).map_err(place)?;
            until_ready(&mut self.host, GRAFANA, async || has_page(port, "/api/health").await).await
        })
        .await
    }

    /// Of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Where its defaults and its pages lie: above its program in an archive, elsewhere in a package.
fn home(program: &Path) -> Option<PathBuf> {
    let above = program.ancestors().nth(2)?;
    let places = [above.to_owned(), above.join("share/grafana"), PathBuf::from("/usr/share/grafana")];
    places.into_iter().find(|place| place.join("conf/defaults.ini").is_file())
}
