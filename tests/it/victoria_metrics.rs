//! Rules, back-fill and dashboards for VictoriaMetrics, against the real servers where they are on `PATH`.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use llm_relay_exporter::demo::HistoryOptions;
use llm_relay_exporter::servers::PrivatePostgres;
use serde_json::Value;

use crate::claude_code_hub::{Store, filled};
use crate::client;
use crate::dashboards::prometheus::paced;
use crate::guarded::Guarded;
use crate::process::{Process, page};
use crate::wait::seen;

/// A server of VictoriaMetrics' on a free port. It ends with its value.
struct Server {
    _child: Guarded,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Server {
    /// `None`, and a word about it, where the program is not installed.
    fn start(program: &str, arguments: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.arg(format!("-httpListenAddr={address}")).args(arguments).current_dir(&directory);
        let Ok(child) = command.stdout(Stdio::null()).stderr(log).spawn() else {
            println!("skipped: {program} is not installed");
            return None;
        };
        let server = Self { _child: Guarded(child), address, directory };
        server.until("it answers", || client::get(address, "/health").is_ok_and(|answer| answer.status == 200));
        Some(server)
    }

    /// Scrapes the exporter each second, if there is one.
    fn database(exporter: Option<SocketAddr>) -> Option<Self> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let targets = exporter.map(|address| format!("'{address}'")).unwrap_or_default();
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: llm-relay, static_configs: [{{targets: [{targets}]}}]}}]\n"
        );
        fs::write(&file, config).unwrap();
        let scrape = format!("-promscrape.config={}", file.path().display());
        Self::start("victoria-metrics", &["-retentionPeriod=100y", "-search.latencyOffset=0s", &scrape])
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        seen(what, || fs::read_to_string(self.directory.path().join("log")).unwrap(), holds);
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_slice(&client::get(self.address, path).unwrap().body).unwrap()
    }

    /// The values of an instant query, by labels.
    fn query(&self, expression: &str, second: i64) -> BTreeMap<BTreeMap<String, String>, f64> {
        let form = [("query", expression), ("time", &second.to_string()), ("nocache", "1")];
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let answer = self.get(&format!("/api/v1/query?{query}"));
        let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
        let series = series.iter().map(|series| {
            let labels = serde_json::from_value(series["metric"].clone()).unwrap();
            (labels, series["value"][1].as_str().unwrap().parse().unwrap())
        });
        series.collect()
    }
}

fn exporter(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Every file below a directory, by its path there.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in ["rules", "alerts"] {
        for entry in fs::read_dir(directory.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{part}/{}", path.file_name().unwrap().to_str().unwrap());
            found.insert(name, fs::read_to_string(path).unwrap());
        }
    }
    found
}

#[test]
fn rules_are_written_for_both_languages() {
    let out = tempfile::tempdir().unwrap();
    let written = |dialect: &str| {
        let out = out.path().join(dialect);
        exporter(&["rules", "--dialect", dialect, "--out", out.to_str().unwrap()]);
        files(&out)
    };
    let mut shipped = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus"));
    assert_eq!(written("promql"), shipped);
    let metricsql = written("metricsql");
    shipped.remove("rules/native.yml").unwrap();
    for (name, text) in &metricsql {
        for function in ["increase", "rate", "delta", "changes"] {
            assert!(!text.contains(&format!("{function}(")), "{name} has a bare {function}");
        }
    }
    let back = metricsql.into_iter().map(|(name, text)| (name, text.replace("_prometheus(", "(")));
    assert_eq!(back.collect::<BTreeMap<_, _>>(), shipped, "nothing else differs");
}

#[test]
fn dashboards_ask_victoria_metrics_in_its_own_words() {
    let out = tempfile::tempdir().unwrap();
    exporter(&["dashboards", "--lang", "en", "--dialect", "metricsql", "--out", out.path().to_str().unwrap()]);
    let Some(server) = Server::database(None) else { return };
    if client::get(server.address, "/api/v1/query?query=rate_prometheus(up[1m])").unwrap().status != 200 {
        println!("skipped: this victoria-metrics is too old");
        return;
    }
    let mut asked = 0;
    for entry in fs::read_dir(&out).unwrap() {
        let dashboard: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        for expression in crate::dashboards::asked(&dashboard) {
            assert!(!expression.contains("increase(") && !expression.contains("rate("), "{expression}");
            server.query(&expression, 1_700_000_000);
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked}");
}

/// A relay on which requests failed, and others did not, an hour before anybody scraped it.
async fn seeded() -> (Store, Process) {
    let mut store = Store::new("seeded", "v0.9.2").await;
    store.people().await;
    for (status, count) in [(200, 5), (401, 9)] {
        let sql = format!(
            "insert into message_request (provider_id, user_id, key, model, original_model, status_code, cost_usd,
                                          duration_ms, input_tokens, output_tokens, created_at)
             select 1, 1, 'sk-ann', 'cheap', 'cheap', {status}, 1, 900, 10, 20, now() - interval '1 hour'
             from generate_series(1, {count})"
        );
        store.run(&sql).await;
    }
    let config = format!("[relays.seeded]\nkind = \"claude-code-hub\"\ndatabase_url = \"{}\"\n", store.url);
    let exporter = tokio::task::block_in_place(|| Process::start(&config, &[]));
    (store, exporter)
}

/// The rules in a folder, at that pace.
fn hurried(folder: &Path) {
    exporter(&["rules", "--dialect", "metricsql", "--out", folder.to_str().unwrap()]);
    for (name, text) in files(folder) {
        fs::write(folder.join(name), paced(&text)).unwrap();
    }
}

/// The names of the alerts, pending or not, that vmalert has after a while.
fn alerts(database: &Server) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    hurried(folder.path());
    let rules = ["rules", "alerts"].map(|part| format!("-rule={}/{part}/*.yml", folder.path().display()));
    let check = Command::new("vmalert").arg("-dryRun").args(&rules).output();
    if check.is_ok_and(|it| String::from_utf8_lossy(&it.stderr).contains("unknown fields in rule: keep_firing_for")) {
        println!("skipped: this vmalert is too old");
        return None;
    }
    let url = format!("http://{}", database.address);
    let [datasource, write, read] =
        ["datasource", "remoteWrite", "remoteRead"].map(|what| format!("-{what}.url={url}"));
    let vmalert = Server::start(
        "vmalert",
        &[&rules[0], &rules[1], &datasource, &write, &read, "-notifier.blackhole", "-rule.evalDelay=0s"],
    )?;
    let known = || !database.query("llm_relay:threshold:auth_failures", Utc::now().timestamp()).is_empty();
    vmalert.until("rules are evaluated", known);
    std::thread::sleep(Duration::from_secs(12));
    let answer = vmalert.get("/api/v1/alerts");
    let alerts = answer["data"]["alerts"].as_array().unwrap();
    let mut names: Vec<String> = alerts.iter().map(|alert| alert["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names.dedup();
    Some(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_before_the_first_scrape_fires_nothing_in_vmalert() {
    let (_store, exporter) = seeded().await;
    tokio::task::block_in_place(|| {
        let Some(database) = Server::database(Some(exporter.address)) else { return };
        let growth = |function: &str| {
            let growth = database.query(&format!("{function}(llm_relay_failures_total[15m])"), Utc::now().timestamp());
            growth.values().sum::<f64>()
        };
        database.until("the exporter is scraped", || growth("count_over_time") >= 2.0);
        assert_eq!((growth("increase"), growth("increase_prometheus")), (9.0, 0.0));
        let Some(alerts) = alerts(&database) else { return };
        assert_eq!(alerts, ["LLMRelayWatchdog"]);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn live_series_go_on_where_an_imported_back_fill_ends() {
    let postgres = PrivatePostgres::start().await.unwrap();
    let until = Utc::now() - TimeDelta::minutes(5);
    let history = HistoryOptions { days: 1, requests_per_day: 400, until, ..HistoryOptions::default() };
    let url = filled(&postgres, "claude_code_hub", &history).await;
    let config = format!("[relays.it]\nkind = \"claude-code-hub\"\ndatabase_url = \"{url}\"\n");
    tokio::task::block_in_place(|| {
        let live = Process::start(&config, &[]);
        let instance = format!("instance={}", live.address);
        let directory = tempfile::tempdir().unwrap();
        let (file, out) = (directory.path().join("exporter.toml"), directory.path().join("fill"));
        fs::write(&file, config).unwrap();
        let paths = [&file, &out].map(|path| path.to_str().unwrap());
        let what = ["backfill", "--no-rules", "--from", "2h", "--step", "2m", "--label", &instance];
        exporter(&[&what[..], &["--config.file", paths[0], "--out", paths[1]]].concat());
        let seam = Utc::now().timestamp();

        let Some(database) = Server::database(Some(live.address)) else { return };
        for entry in fs::read_dir(&out).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            let answer = client::send(database.address, "POST /api/v1/import/prometheus", "", &text).unwrap();
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
        let counted = "{__name__=~\"llm_relay_.+(_total|_bucket|_sum|_count)\",job=\"llm-relay\"}";
        let now = || Utc::now().timestamp();
        database.until("the exporter is scraped", || {
            !database.query("llm_relay_history_loaded_ratio == 1", now()).is_empty()
        });
        let before = database.query(counted, seam - 120);
        assert!(before.len() > 200, "{} series", before.len());
        let shown = page(live.address);
        for (mut labels, value) in before {
            labels.retain(|label, _| label != "job" && label != "instance");
            let name = labels.remove("__name__").unwrap();
            assert_eq!(shown.get(&(name.clone(), labels)), Some(&value), "{name}");
        }
        let falls = format!("sum(resets({counted}[3h]))");
        assert_eq!(database.query(&falls, now()).into_values().sum::<f64>(), 0.0);
    });
}
