//! The plain manifests as they are committed, without helm: what they start, and whether they are of this version.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::generated::path;
use crate::process::Process;

fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap()
}

fn objects(manifest: &str) -> Vec<Value> {
    let text = text(manifest);
    text.split("---\n").filter(|it| !it.trim().is_empty()).map(|it| serde_saphyr::from_str(it).unwrap()).collect()
}

fn one(kind: &str) -> Value {
    let mut found = objects("deploy/kubernetes/exporter.yaml");
    found.retain(|it| it["kind"] == kind);
    assert_eq!(found.len(), 1, "{kind}");
    found.remove(0)
}

#[test]
fn the_container_starts_and_its_probes_answer() {
    let secret = tempfile::tempdir().unwrap();
    let mut config = one("ConfigMap")["data"]["config.toml"].as_str().unwrap().to_owned();
    for (name, url) in [("database_url", "postgres://a:b@127.0.0.1:1/c"), ("redis_url", "redis://127.0.0.1:1")] {
        let file = secret.path().join(name);
        std::fs::write(&file, url).unwrap();
        config = config.replace(&format!("= {name:?}"), &format!("= {file:?}"));
    }
    let container = &one("StatefulSet")["spec"]["template"]["spec"]["containers"][0];
    let arguments: Vec<&str> = container["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let (here, further) = arguments.split_at(2);
    assert_eq!(here, ["--config.file=/etc/llm-relay-exporter/config.toml", "--web.listen-address=:9879"]);
    assert_eq!(container["ports"][0]["containerPort"], 9879);
    let process = Process::start(&config, further);
    let probe = |name: &str| process.ask("GET", container[name]["httpGet"]["path"].as_str().unwrap());
    assert_eq!(probe("livenessProbe"), (200, "ok\n".to_owned()));
    let (code, body) = probe("readinessProbe");
    assert!(code == 503 && body.starts_with("not ready\nmain ledger: "), "{code} {body}");
}

#[test]
fn the_healthcheck_says_what_a_probe_would() {
    let process =
        Process::start("[relays.main]\nkind = \"claude-code-hub\"\ndatabase_url = \"postgres://127.0.0.1:1/a\"\n", &[]);
    let healthcheck = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter")).arg("healthcheck").args(arguments).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let port = process.address.port();
    assert_eq!(healthcheck(&["--web.listen-address", &format!(":{port}")]), (Some(0), String::new()));
    let (code, told) = healthcheck(&[&format!("http://127.0.0.1:{port}/readyz")]);
    assert!(code == Some(1) && told.contains("answers 503"), "{told}");
    let (code, told) = healthcheck(&[&format!("http://me:verysecret@127.0.0.1:{port}/readyz")]);
    assert!(code == Some(64) && told.contains("a user or password") && !told.contains("verysecret"), "{told}");
    process.end();
    let (code, told) = healthcheck(&["--web.listen-address", &format!("127.0.0.1:{port}")]);
    assert!(code == Some(1) && told.contains("connection: "), "{told}");
}

#[test]
fn they_hold_no_secret_and_are_of_this_version() {
    let exporter = text("deploy/kubernetes/exporter.yaml");
    assert!(!exporter.contains("kind: Secret") && !exporter.contains("://"), "a URL stands in a manifest");
    let version = env!("CARGO_PKG_VERSION");
    assert!(exporter.contains(&format!("/llm-relay-exporter:{version}\n")), "the image is not of {version}");
    let chart = text("deploy/helm/llm-relay-exporter/Chart.yaml");
    for line in [format!("\nversion: {version}\n"), format!("\nappVersion: {version}\n")] {
        assert!(chart.contains(&line), "Chart.yaml has no{line}");
    }
}

#[test]
fn the_rules_are_those_of_prometheus() {
    let mut given = BTreeMap::new();
    for mut it in objects("deploy/kubernetes/prometheus-operator.yaml") {
        if it["kind"] == "PrometheusRule" {
            let name = it["metadata"]["name"].as_str().unwrap().replace("llm-relay-exporter-", "").replace('-', "/");
            given.insert(format!("{name}.yml"), it["spec"].take());
        }
    }
    let mut shipped = BTreeMap::new();
    for folder in ["rules", "alerts"] {
        for file in std::fs::read_dir(path("prometheus").join(folder)).unwrap() {
            let name = format!("{folder}/{}", file.unwrap().file_name().display());
            let rules: Value = serde_saphyr::from_str(&text(&format!("prometheus/{name}"))).unwrap();
            shipped.insert(name, rules);
        }
    }
    assert!(given == shipped, "deploy/kubernetes is stale: run tests/regenerate");
}
