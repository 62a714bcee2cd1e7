//! The release binary at work, and what it costs the machine.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use flate2::bufread::GzDecoder;
use tokio::time::sleep;

use super::cpu::cpu;

#[path = "../../tests/it/client.rs"]
#[allow(dead_code)] // What the tests alone need.
mod client;

/// What a page has once ledger and directory have been read to their ends.
const COMPLETE: [&str; 4] = [
    "llm_relay_history_loaded_ratio{relay=\"main\"} 1\n",
    "\nllm_relay_requests_total{",
    "\nllm_relay_day_requests{",
    "\nllm_relay_leaderboard_requests{",
];
/// As Prometheus asks. A form that anybody has asked for is kept ready for a while: of no other one may be here.
const AS_PROMETHEUS: &str = "Accept: application/openmetrics-text;version=1.0.0\r\nAccept-Encoding: gzip\r\n";
const PATIENCE: Duration = Duration::from_secs(3600);

pub struct Exporter {
    process: Child,
    port: u16,
    started: Instant,
}

impl Exporter {
    /// `settings` follow the table of the relay in the configuration, which stands in `place`.
    pub fn start(place: &Path, kind: &str, database_url: &str, settings: &str) -> anyhow::Result<Self> {
        let file = place.join("exporter.toml");
        let text = format!(
            "[relays.main]\nkind = \"{kind}\"\ndatabase_url = \"{database_url}\"\ntimeout = \"60s\"\n{settings}\n"
        );
        fs::write(&file, text)?;
        let port = free_port()?;
        let log = fs::File::create(place.join("exporter.log"))?;
        let started = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"))
            .env_clear()
            .arg("--config.file")
            .arg(file)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the exporter does not start")?;
        Ok(Self { process, port, started })
    }

    /// What it says to a Prometheus.
    pub fn page(&self) -> Option<String> {
        let mut page = String::new();
        GzDecoder::new(&*ask(self.port, AS_PROMETHEUS).ok()?).read_to_string(&mut page).ok()?;
        Some(page)
    }

    /// The share of the history that it has read, as it tells it.
    pub fn history_loaded(&self) -> String {
        let page = self.page().unwrap_or_default();
        let told = |line: &str| Some(line.strip_prefix("llm_relay_history_loaded_ratio{relay=\"main\"} ")?.to_owned());
        page.lines().find_map(told).unwrap_or_else(|| "none".to_owned())
    }

    /// Scrapes as a Prometheus does, until the process ends.
    pub fn keep_scraping(&self, interval: Duration) {
        let port = self.port;
        std::thread::spawn(move || {
            while ask(port, AS_PROMETHEUS).is_ok() {
                std::thread::sleep(interval);
            }
        });
    }

    /// Waits for a page that has all of `wanted`; gives the time since the start.
    pub async fn wait_for(&mut self, wanted: &[&str]) -> anyhow::Result<Duration> {
        while self.started.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait()? {
                bail!("the exporter ended: {status}");
            }
            if self.page().is_some_and(|page| wanted.iter().all(|text| page.contains(text))) {
                return Ok(self.started.elapsed());
            }
            // Often enough for one per cent, and no load to speak of.
            sleep((self.started.elapsed() / 200).max(Duration::from_millis(2))).await;
        }
        bail!("no page with {wanted:?}")
    }

    /// Waits for a page with all numbers; gives the time since the start.
    pub async fn wait_until_complete(&mut self) -> anyhow::Result<Duration> {
        self.wait_for(&COMPLETE).await
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Duration {
        cpu(self.process.id())
    }

    /// Resident memory in MiB: now, and the most that there was.
    pub fn memory(&self) -> [f64; 2] {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        ["VmRSS:", "VmHWM:"].map(|name| {
            let size = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
            size.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN) / 1024.0
        })
    }

    /// Asks it to end, as systemd and Docker do, and waits: its store is written.
    pub fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg("-TERM").arg(self.process.id().to_string()).status()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The page of whatever listens on the port. `headers` are lines with their ends.
pub fn ask(port: u16, headers: &str) -> std::io::Result<Vec<u8>> {
    Ok(client::send(("127.0.0.1", port), "GET /metrics", headers, "")?.body)
}

pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
