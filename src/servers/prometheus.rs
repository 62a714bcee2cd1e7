//! A private Prometheus: on 127.0.0.1, in a temporary directory, filled from files. It ends with its value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::host::{self, Host, exchange, has_page};
use super::{ServerError, homebrew, on_free_port, until_ready};

const PROMETHEUS: &str = "Prometheus";
/// Relative to the server's directory.
const DATA: &str = "data";

/// A Prometheus server of our own.
pub struct PrivatePrometheus {
    host: Host,
    bin: PathBuf,
    port: u16,
}

/// One series of an answer: its labels, and time stamps in Unix seconds with values.
#[derive(Clone, Debug, Deserialize)]
pub struct Series {
    /// Label names and values, `__name__` among them.
    pub metric: BTreeMap<String, String>,
    /// Of a range query.
    #[serde(default)]
    pub values: Vec<(f64, String)>,
    /// Of an instant query.
    #[serde(default)]
    pub value: Option<(f64, String)>,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: Option<T>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Found {
    result: Vec<Series>,
}

impl PrivatePrometheus {
    /// A place for one; nothing runs yet.
    ///
    /// # Errors
    /// When Prometheus is not installed (the text says how to get it).
    pub fn new() -> Result<Self, ServerError> {
        let programs = ["prometheus", "promtool"];
        let bin = host::find(&programs, &homebrew("prometheus")).ok_or(ServerError::PrometheusMissing)?;
        let host = Host::new("TERM", "KILL").map_err(|error| ServerError::Place { server: PROMETHEUS, error })?;
        Ok(Self { host, bin, port: 0 })
    }

    /// A directory for files on their way in; it goes with the server.
    pub fn directory(&self) -> &Path {
        self.host.path()
    }

    /// Ends the server and turns a file in its directory into blocks of up to `block_seconds`.
    ///
    /// # Errors
    /// When promtool refuses the file: its last words.
    pub async fn import(&mut self, file: &Path, block_seconds: i64) -> anyhow::Result<()> {
        self.host.give(file)?;
        let mut promtool = self.host.command(&self.bin.join("promtool"));
        promtool.args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"]);
        promtool.arg(format!("--max-block-duration={block_seconds}s")).arg(file).arg(DATA);
        match self.host.run(promtool).await.context("cannot run promtool")? {
            Ok(()) => Ok(()),
            Err(words) => bail!("promtool refused {}: {words}", file.display()),
        }
    }

    /// Ends the server and takes copies of blocks that are no copies yet.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn adopt(&mut self, blocks: &Path) -> io::Result<()> {
        self.host.stop();
        let data = self.host.path().join(DATA);
        self.host.copy(blocks, &data)
    }

    /// Takes copies of blocks while it runs: it looks for new ones every minute.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn take_in(&self, blocks: &Path) -> io::Result<()> {
        // One that is not whole yet must not be seen.
        let aside = self.host.path().join("aside");
        self.host.copy(blocks, &aside)?;
        for block in fs::read_dir(&aside)? {
            let block = block?;
            fs::rename(block.path(), self.host.path().join(DATA).join(block.file_name()))?;
        }
        fs::remove_dir(aside)
    }

    /// Writes a file for the configuration to name, by its path below [`Self::directory`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> io::Result<()> {
        self.host.write_below(path, text)
    }

    /// Of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server on what has been imported, with a configuration in YAML.
    ///
    /// # Errors
    /// When it does not start: its last words.
    pub async fn start(&mut self, configuration: &str) -> Result<(), ServerError> {
        let place = |error| ServerError::Place { server: PROMETHEUS, error };
        let file = self.host.write("prometheus.yml", configuration).map_err(place)?;
        on_free_port(PROMETHEUS, async |port| self.launch(port, &file).await).await
    }

    /// Ends the server; what it has stays.
    pub fn stop(&mut self) {
        self.host.stop();
    }

    /// The value of an expression at an instant, by series.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn query(&self, expression: &str, second: i64) -> anyhow::Result<Vec<Series>> {
        let found: Found = self.ask("query", &[("query", expression), ("time", &second.to_string())]).await?;
        Ok(found.result)
    }

    /// The values of an expression from `first` to `last` (included), all in Unix seconds; at most 11 000 of them, and
    /// none where a short span has no step in it.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub(crate) async fn range(
        &self,
        expression: &str,
        first: i64,
        last: i64,
        step: i64,
    ) -> anyhow::Result<Vec<Series>> {
        if first > last {
            return Ok(Vec::new());
        }
        let [start, end, step] = [first, last, step].map(|seconds| seconds.to_string());
        let form = [("query", expression), ("start", &*start), ("end", &*end), ("step", &*step)];
        let found: Found = self.ask("query_range", &form).await?;
        Ok(found.result)
    }

    async fn ask<T: DeserializeOwned>(&self, what: &str, form: &[(&str, &str)]) -> anyhow::Result<T> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let head = format!("POST /api/v1/{what} HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let answer = exchange(self.port, &request).await.context("Prometheus does not answer")?;
        let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        let answer: Answer<T> = serde_json::from_slice(&answer[body..]).context("Prometheus' answer")?;
        match (answer.data, answer.error) {
            (Some(data), None) => Ok(data),
            (_, error) => bail!("Prometheus refuses {form:?}: {}", error.unwrap_or_default()),
        }
    }

    async fn launch(&mut self, port: u16, configuration: &Path) -> Result<(), ServerError> {
        self.port = port;
        let mut prometheus = self.host.command(&self.bin.join("prometheus"));
        prometheus.arg(format!("--config.file={}", configuration.display()));
        prometheus.arg(format!("--storage.tsdb.path={DATA}")).arg("--storage.tsdb.retention.time=100y");
        prometheus.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        prometheus.args(["--query.timeout=10m", "--query.max-samples=200000000"]);
        self.host.spawn(prometheus).map_err(|error| ServerError::Place { server: PROMETHEUS, error })?;
        until_ready(&mut self.host, PROMETHEUS, async || has_page(port, "/-/ready").await).await
    }
}
