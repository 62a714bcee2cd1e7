//! The exporter as its users run it: a process with a configuration file, scraped over HTTP.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use llm_relay_exporter::metrics::{CATALOGUE, MetricType};

use crate::client;
use crate::exposition::{Dialect, parse, series};
use crate::guarded::Guarded;
use crate::wait::{found, seen};

pub type Page = BTreeMap<(String, BTreeMap<String, String>), f64>;

pub struct Process {
    child: Guarded,
    pub address: SocketAddr,
    directory: tempfile::TempDir,
    log: Arc<Mutex<String>>,
    /// Ends when the log does.
    told: JoinHandle<()>,
}

impl Process {
    /// With this configuration file, and these arguments besides.
    pub fn start(config: &str, arguments: &[&str]) -> Self {
        Self::under(&[], config, arguments)
    }

    /// Run by another program, which ends as this one: `nice`, `unshare` ...
    pub fn under(wrapper: &[&str], config: &str, arguments: &[&str]) -> Self {
        Self::run("127.0.0.1:0", wrapper, config, arguments)
    }

    /// Where one was before, for a Prometheus that goes on with its series.
    pub fn at(address: SocketAddr, config: &str) -> Self {
        Self::run(&address.to_string(), &[], config, &[])
    }

    fn run(address: &str, wrapper: &[&str], config: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("exporter.toml");
        std::fs::write(&file, config).unwrap();
        let words = [wrapper, &[env!("CARGO_BIN_EXE_llm-relay-exporter")]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.arg("--config.file").arg(&file).args(["--web.listen-address", address]);
        let mut child =
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it has ended: {}", log.lock().unwrap()));
            log.lock().unwrap().extend([&line, "\n"]);
            if let Some((_, address)) = line.split_once("address=").filter(|_| line.contains("listening")) {
                break address.split(' ').next().unwrap().parse().unwrap();
            }
        };
        let told = log.clone();
        let told = std::thread::spawn(move || lines.for_each(|line| told.lock().unwrap().extend([&line, "\n"])));
        Self { child: Guarded(child), address, directory, log, told }
    }

    pub fn write(&self, config: &str) {
        std::fs::write(self.directory.path().join("exporter.toml"), config).unwrap();
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// `HUP`, `STOP`, ...
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Status and body.
    pub fn ask(&self, method: &str, path: &str) -> (u16, String) {
        ask(self.address, method, path).unwrap()
    }

    pub fn page(&self) -> Page {
        page(self.address)
    }

    /// Waits until the page satisfies a condition; how long it took.
    pub fn until(&self, what: &str, holds: impl Fn(&Page) -> bool) -> Duration {
        let began = Instant::now();
        seen(what, || self.log(), || holds(&self.page()));
        began.elapsed()
    }
}

impl Process {
    /// As a service manager ends it; how that was, and the whole log.
    pub fn end(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = self.child.0.wait().unwrap();
        self.told.join().unwrap();
        (status, self.log.lock().unwrap().clone())
    }
}

pub fn ask(address: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let answer = client::send(address, &format!("{method} {path}"), "", "")?;
    Ok((answer.status, answer.text().to_owned()))
}

pub fn page(address: SocketAddr) -> Page {
    let (status, body) = ask(address, "GET", "/metrics").unwrap();
    assert_eq!(status, 200);
    series(&parse(body.as_bytes(), Dialect::Text))
}

/// The first series with these labels.
pub fn value(page: &Page, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    page.iter()
        .find(|((found, all), _)| found == name && labels.iter().all(|(k, v)| all.get(*k).is_some_and(|it| it == v)))
        .map(|(_, value)| *value)
}

pub fn total(page: &Page, name: &str, relay: &str) -> f64 {
    page.iter().filter(|((found, labels), _)| found == name && labels["relay"] == relay).map(|(_, value)| value).sum()
}

/// Every counter, as its series are called on the page.
pub fn is_counter(name: &str) -> bool {
    CATALOGUE.iter().any(|metric| match metric.kind {
        MetricType::Counter => metric.name == name,
        MetricType::Histogram => {
            name.strip_prefix(metric.name).is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
        }
        MetricType::Gauge => false,
    })
}

/// Counters of this relay that were on both pages and fell.
pub fn fallen(before: &Page, after: &Page, relay: &str) -> Vec<String> {
    before
        .iter()
        .filter(|((name, labels), _)| is_counter(name) && labels.get("relay").is_some_and(|it| it == relay))
        .filter_map(|(series, was)| Some((series, was, after.get(series)?)))
        // A sum of dollars is exact, its float is not.
        .filter(|(_, was, is)| **is < **was - 1e-9)
        .map(|(series, was, is)| format!("{series:?} fell from {was} to {is}"))
        .collect()
}

/// The exporter in this process, for settings that no file may have.
pub struct Serving {
    pub address: SocketAddr,
    shutdown: tokio_util::sync::CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Serving {
    pub fn start(plan: llm_relay_exporter::settings::Plan) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = llm_relay_exporter::web::Protection::load(None).unwrap();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let stop = shutdown.clone();
        let serve = async move { llm_relay_exporter::serve::run(&plan, listener, "/metrics", open, stop).await };
        Self { address, shutdown, running: tokio::spawn(serve) }
    }

    pub fn page(&self) -> Page {
        tokio::task::block_in_place(|| page(self.address))
    }

    /// Waits until the page satisfies a condition; how long it took.
    pub async fn until(&self, what: &str, holds: impl Fn(&Page) -> bool) -> Duration {
        let began = Instant::now();
        found(what, async || Some(self.page()).filter(|page| !holds(page)).map_or(Ok(()), Err)).await;
        began.elapsed()
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}
