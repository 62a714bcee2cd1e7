//! Scrapes of pages of 1 000 to 100 000 series, beside Debian's postgres_exporter with as many, under the same load.
//!
//! `cargo bench --bench scrape`, or `-- 10000` for that many series alone. Needs PostgreSQL, `wrk` and `prometheus-postgres-exporter`.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod series;
    pub mod table;
}

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use common::series::views;
use common::table;
use llm_relay_exporter::exporter_info::ExporterInfo;
use llm_relay_exporter::http::{self, State};
use llm_relay_exporter::page::{Page, Shared};
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::web::Protection;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const SERIES: [usize; 3] = [1_000, 10_000, 100_000];
/// As many as a busy site has Prometheus servers.
const CONNECTIONS: u32 = 4;
const ROUNDS: usize = 3;
const LENGTH: Duration = Duration::from_secs(10);
const SETTLING: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    // One thread for the server: the load generator and the database have the rest of the machine.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let mut figures = Vec::new();
    let wanted: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    for series in if wanted.is_empty() { SERIES.to_vec() } else { wanted } {
        let stop = CancellationToken::new();
        let ours = serve(series, stop.clone())?;
        let peer = Peer::start(&postgres, series)?;
        for (coding, name) in [("identity", "plain"), ("gzip", "gzip")] {
            // In turns, so that a slow moment of the machine meets both.
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push([load(ours, coding).await?, load(peer.port, coding).await?]);
                // The peer goes on with what nobody waits for any more.
                tokio::time::sleep(SETTLING).await;
            }
            let [us, them] = [0, 1].map(|side| median(rounds.iter().map(|round| round[side]).collect()));
            let figure = |it: Load| format!("{:.1}, {:.2} ms, {:.2} ms", it.per_second, it.p50_ms, it.p99_ms);
            let ratio = format!("{:.0}", us.per_second / them.per_second);
            figures.push([format!("{series}, {name}"), figure(us), figure(them), ratio]);
        }
        stop.cancel();
    }
    let head = ["exporter", "postgres_exporter"].map(|it| format!("{it}: scrapes/s, p50, p99"));
    table::print(&["series, coding", &head[0], &head[1], "ratio"], &figures);
    Ok(())
}

/// The page behind the exporter's own server; gives its port.
fn serve(series: usize, stop: CancellationToken) -> anyhow::Result<u16> {
    let state = State {
        page: Shared::new(Page::new(views(series), ExporterInfo::default())),
        paths: "/metrics".into(),
        protection: Protection::load(None)?,
        reload: None,
    };
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    tokio::spawn(http::run(vec![listener], state, stop));
    Ok(port)
}

#[derive(Clone, Copy)]
struct Load {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn median(mut rounds: Vec<Load>) -> Load {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds[rounds.len() / 2]
}

/// What wrk prints when it is done, as `key value` lines.
const REPORT: &str = r#"
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("requests %d\nmicroseconds %d\nfailed %d\np50 %f\np99 %f\n", summary.requests,
    summary.duration, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#;

async fn load(port: u16, coding: &str) -> anyhow::Result<Load> {
    let script = tempfile::NamedTempFile::new()?;
    fs::write(&script, REPORT)?;
    let output = tokio::process::Command::new("wrk")
        .args(["--threads=1", "--timeout=120s"])
        .arg(format!("--connections={CONNECTIONS}"))
        .arg(format!("--duration={}s", LENGTH.as_secs()))
        .arg(format!("--header=Accept-Encoding: {coding}"))
        .arg(format!("--script={}", script.path().display()))
        .arg(format!("http://127.0.0.1:{port}/metrics"))
        .output()
        .await
        .context("wrk does not run")?;
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let figure = |name: &str| -> anyhow::Result<f64> {
        let line = report.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no {name} in {report}"))?.parse().context("a figure of wrk")
    };
    anyhow::ensure!(figure("failed")? == 0.0, "some scrapes failed: {report}");
    let requests = figure("requests")?;
    Ok(Load {
        per_second: requests * 1e6 / figure("microseconds")?,
        p50_ms: figure("p50")? / 1000.0,
        p99_ms: figure("p99")? / 1000.0,
    })
}

/// Debian's postgres_exporter with one query of its user's that gives so many series with the same labels as ours.
struct Peer {
    process: Child,
    port: u16,
    _place: TempDir,
}

impl Peer {
    fn start(postgres: &PrivatePostgres, series: usize) -> anyhow::Result<Self> {
        let place = TempDir::new()?;
        let file = place.path().join("queries.yml");
        fs::write(&file, queries(series))?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let process = Command::new(program())
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--extend.query-path={}", file.display()))
            .args(["--disable-default-metrics", "--disable-settings-metrics"])
            .env("DATA_SOURCE_NAME", format!("{}?sslmode=disable", postgres.url()))
            .stdout(Stdio::null())
            .stderr(fs::File::create(place.path().join("log"))?)
            .spawn()
            .context("prometheus-postgres-exporter does not start")?;
        let peer = Self { process, port, _place: place };
        peer.wait()?;
        Ok(peer)
    }

    fn wait(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            anyhow::ensure!(Instant::now() < deadline, "prometheus-postgres-exporter does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where it is, when it is not installed but unpacked.
fn program() -> String {
    std::env::var("POSTGRES_EXPORTER").unwrap_or_else(|_| "prometheus-postgres-exporter".to_owned())
}

fn queries(series: usize) -> String {
    let query = format!(
        "select 'main' as relay, (n % 40)::text as provider_id, 'claude-sonnet-4-' || n / 5 as model, \
         'outcome-' || n % 5 as outcome, n as requests from generate_series(1, {series}) n"
    );
    let label = "{usage: LABEL, description: label}";
    format!(
        "bench:\n  query: \"{query}\"\n  metrics:\n  - relay: {label}\n  - provider_id: {label}\n  - model: {label}\n  \
         - outcome: {label}\n  - requests: {{usage: COUNTER, description: Final requests.}}\n"
    )
}
