//! What the demo brings beside its exporter: a Prometheus with rules and a past, an Alertmanager, and how to get a Grafana.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::ask;

/// The port in a line such as `Alertmanager: http://127.0.0.1:9093`.
fn port(told: &str, of: &str) -> u16 {
    let (_, rest) = told.split_once(&format!("{of}: http://127.0.0.1:")).unwrap_or_else(|| panic!("no {of} in {told}"));
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap()
}

#[test]
fn the_demo_brings_prometheus_with_a_past_and_its_rules_and_alertmanager() {
    let places = tempfile::tempdir().unwrap();
    // Neither Redis nor Grafana; what is left of the servers is quick.
    let path = std::env::var_os("PATH").unwrap();
    for program in ["prometheus", "promtool", "prometheus-alertmanager", "sh", "sleep", "rm"] {
        let found = std::env::split_paths(&path).map(|it| it.join(program)).find(|it| it.is_file());
        let found = found.unwrap_or_else(|| panic!("{program} is not installed"));
        std::os::unix::fs::symlink(found, places.path().join(program)).unwrap();
    }
    let mut demo = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"))
        .args(["demo", "--days", "2", "--requests-per-day", "300", "--web.listen-address", "127.0.0.1:0"])
        .env("PATH", places.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let mut told = String::new();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines().map_while(Result::ok);
    for line in lines.by_ref() {
        told.extend([&line, "\n"]);
        assert!(began.elapsed() < Duration::from_secs(400), "{told}");
        if line.starts_with("Prometheus has the last 2 days of cpa-manager") {
            break;
        }
    }
    std::thread::spawn(move || lines.for_each(drop));
    assert!(told.contains("no Grafana in this demo: Grafana is not installed"), "{told}");
    let (prometheus, alertmanager) = (port(&told, "Prometheus"), port(&told, "Alertmanager"));
    let query = |path: &str| ask(([127, 0, 0, 1], prometheus).into(), "GET", &format!("/api/v1/{path}")).unwrap().1;
    assert!(
        query("alertmanagers").contains(&format!("http://127.0.0.1:{alertmanager}/")),
        "{}",
        query("alertmanagers")
    );
    assert!(query("rules").contains("LLMRelayErrorSpike"));
    // New blocks are seen within a minute, and the past is of the series that are scraped.
    let past = "query?query=llm_relay_day_requests%7Bday=%22today%22,relay=%22cpa-manager%22%7D%20offset%2012h%20and%20llm_relay_day_requests";
    while !query(past).contains("\"value\"") {
        assert!(began.elapsed() < Duration::from_secs(500), "{}", query(past));
        std::thread::sleep(Duration::from_secs(1));
    }

    let config = told.split("--config.file ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let check = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"))
        .args(["check", "--config.file", &config])
        .env_clear()
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(report.contains("relay cpa-manager") && report.contains("relay gemini-balance"), "{report}");

    assert!(Command::new("kill").args(["-s", "TERM", &demo.id().to_string()]).status().unwrap().success());
    assert!(demo.wait().unwrap().success());
    assert!(!std::path::Path::new(&config).exists());
    for port in [prometheus, alertmanager] {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "a server is left on {port}");
    }
}
