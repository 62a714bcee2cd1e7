//! A real Prometheus of the test's own, asked as Grafana asks.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

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
    server: Child,
    port: u16,
    /// Unix time at which to ask; none is now.
    pub now: Option<i64>,
    _directory: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Prometheus {
    /// Over the blocks in the directory's `data`, if there are any.
    pub fn start(directory: tempfile::TempDir, config: &str) -> Self {
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let server = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is installed");
        let server = Self { server, port, now: None, _directory: directory };
        let began = Instant::now();
        while server
            .exchange("GET /-/ready HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .map_or(true, |body| !body.contains("Ready"))
        {
            assert!(began.elapsed() < Duration::from_secs(30), "Prometheus does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
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
        let answer = self.exchange("GET /api/v1/rules HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let json: Value = serde_json::from_str(&answer).unwrap();
        let groups = json["data"]["groups"].as_array().cloned().unwrap_or_default();
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
        let request = format!(
            "POST /api/v1/{what} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = self.exchange(&request).map_err(|error| error.to_string())?;
        let json: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        if json["status"] != "success" {
            return Err(json["error"].to_string());
        }
        Ok(json["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    fn exchange(&self, request: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }
}
