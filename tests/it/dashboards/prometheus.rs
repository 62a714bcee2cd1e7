//! A real Prometheus of the test's own, asked as Grafana asks.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::client;
use crate::guarded::Guarded;
use crate::wait::seen;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// The time range of a dashboard and what follows from it.
#[derive(Clone, Copy)]
pub struct Span {
    pub seconds: i64,
    /// Seconds between two points of a line.
    pub step: i64,
    pub rate_interval: &'static str,
    /// How long ago numbers of now are compared with.
    pub compare: &'static str,
}

pub struct Prometheus {
    _server: Guarded,
    port: u16,
    /// Unix time at which to ask; none is now.
    pub now: Option<i64>,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// Over the blocks in the directory's `data`, if there are any.
    pub fn start(directory: tempfile::TempDir, config: &str) -> Self {
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let server = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--web.enable-remote-write-receiver")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is installed");
        let server = Self { _server: Guarded(server), port, now: None, _directory: directory };
        let is_ready = || client::get(("127.0.0.1", port), "/-/ready").is_ok_and(|answer| answer.status == 200);
        seen("Prometheus starts", String::new, is_ready);
        server
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Of one target, every second. `fields` are further ones of the scrape configuration, as in a YAML flow mapping.
    pub fn scraping(target: SocketAddr, fields: &str) -> Self {
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs: [{{job_name: relays, static_configs: [{{targets: ['{target}']}}], {fields}}}]\n"
        );
        Self::start(tempfile::tempdir().unwrap(), &config)
    }

    /// The answer to an instant query as soon as there is one.
    pub fn some(&self, expr: &str) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let answer = self.instant(expr).unwrap();
            if !answer.is_empty() {
                return answer;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no answer to {expr}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The value of an instant query that gives one number.
    pub fn number(&self, expr: &str) -> Option<f64> {
        self.instant(expr).unwrap().first()?["value"][1].as_str()?.parse().ok()
    }

    pub fn instant(&self, expr: &str) -> Result<Vec<Value>, String> {
        self.instant_at(expr, self.time())
    }

    pub fn instant_at(&self, expr: &str, time: i64) -> Result<Vec<Value>, String> {
        self.ask("query", &[("query", expr), ("time", &time.to_string())])
    }

    /// The last `seconds` in steps that are aligned as Grafana aligns them.
    pub fn range(&self, expr: &str, seconds: i64, step: i64) -> Result<Vec<Value>, String> {
        let end = self.time() / step * step;
        let start = (self.time() - seconds) / step * step;
        let numbers = [start, end, step].map(|number| number.to_string());
        self.ask("query_range", &[("query", expr), ("start", &numbers[0]), ("end", &numbers[1]), ("step", &numbers[2])])
    }

    /// Every rule that the server was given.
    pub fn rules(&self) -> Vec<Value> {
        let groups = &self.get("rules")["groups"];
        let groups = groups.as_array().cloned().unwrap_or_default();
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// What now is to every question.
    pub fn time(&self) -> i64 {
        self.now.unwrap_or_else(|| {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed()
        })
    }

    fn ask(&self, what: &str, form: &[(&str, &str)]) -> Result<Vec<Value>, String> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let answer = client::send(("127.0.0.1", self.port), &format!("POST /api/v1/{what}"), FORM, &body);
        let answer = answer.map_err(|error| error.to_string())?;
        let json: Value =
            serde_json::from_slice(&answer.body).map_err(|error| format!("{error}: {}", answer.text()))?;
        if json["status"] != "success" {
            return Err(json["error"].to_string());
        }
        Ok(json["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// The data of a part of the API that takes no parameters.
    pub fn get(&self, what: &str) -> Value {
        let answer = client::get(("127.0.0.1", self.port), &format!("/api/v1/{what}")).unwrap();
        serde_json::from_slice::<Value>(&answer.body).unwrap()["data"].clone()
    }
}

/// Rules at a pace that a test can wait for.
pub fn paced(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line.trim_start() {
        rest if rest.starts_with("interval:") => line.replace(rest, "interval: 2s"),
        rest if rest.starts_with("for:") => line.replace(rest, "for: 4s"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The shipped rules and alerts in a folder, as they are but for their pace: a test cannot wait.
pub fn hurried(folder: &Path) -> String {
    for part in ["rules", "alerts"] {
        fs::create_dir(folder.join(part)).unwrap();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus").join(part)).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let copy = folder.join(part).join(path.file_name().unwrap());
            fs::write(&copy, paced(&text)).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(folder.join(part), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let folder = folder.display();
    format!("rule_files: ['{folder}/rules/*.yml', '{folder}/alerts/*.yml']\n")
}
