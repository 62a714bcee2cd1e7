//! Where the exporter listens: several addresses, or sockets of systemd.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Process, ask};
use crate::wait::{PATIENCE, seen};

const CONFIG: &str = "[relays.main]\nkind = \"claude-code-hub\"\ndatabase_url = \"postgres://u@127.0.0.1:1/db\"\n";

/// Of a log: every address that is listened on.
fn addresses(log: &str) -> Vec<SocketAddr> {
    let lines = log.lines().filter(|line| line.contains("listening"));
    let address = |line: &str| line.split_once("address=")?.1.split(' ').next()?.trim_matches('"').parse().ok();
    lines.filter_map(address).collect()
}

#[test]
fn every_address_that_is_named_serves_the_page() {
    let process = Process::start(CONFIG, &["--web.listen-address=127.0.0.1:0", "--web.listen-address=:0"]);
    seen("three addresses are told", || process.log(), || addresses(&process.log()).len() >= 3);
    let all = addresses(&process.log());
    assert_eq!(all.len(), 3, "{}", process.log());
    for address in all {
        let local = SocketAddr::from(([127, 0, 0, 1], address.port()));
        assert_eq!(ask(local, "GET", "/healthz").unwrap().0, 200, "{address}");
    }
}

#[test]
fn a_socket_of_systemd_is_served_and_its_absence_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("exporter.toml");
    std::fs::write(&file, CONFIG).unwrap();
    // What systemd does: a socket as descriptor 3, and whose it is.
    let activate = "import os, socket, sys
s = socket.create_server(('127.0.0.1', int(sys.argv[1])))
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])";
    let program = env!("CARGO_BIN_EXE_llm-relay-exporter");
    let arguments = ["--web.systemd-socket", "--config.file", file.to_str().unwrap()];
    let mut child = Command::new("python3")
        .args(["-c", activate, &address.port().to_string(), program])
        .args(arguments)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let answer = loop {
        match ask(address, "GET", "/healthz") {
            Ok(answer) => break answer,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer.0, 200);

    let without = Command::new(program).args(arguments).env_remove("LISTEN_FDS").output().unwrap();
    let error = String::from_utf8_lossy(&without.stderr).into_owned();
    assert_eq!(without.status.code(), Some(1));
    assert!(error.contains("systemd has handed over no socket"), "{error}");
}

#[test]
fn an_address_that_is_none_is_a_wrong_argument() {
    for (written, why) in [("9879", "no port"), ("::1:9879", "brackets"), ("http://0.0.0.0:9879", "is no host")] {
        let program = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
        let output = { program }.arg(format!("--web.listen-address={written}")).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{written}");
        assert!(error.contains(why) && error.contains("write HOST:PORT"), "{error}");
    }
}
