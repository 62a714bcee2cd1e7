//! What the program says of its store: `check`, and the start with one that is refused.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};

use crate::process::Process;
use crate::store::{history, server};
use crate::wait::until;

fn command(relay: &str, store: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
    command.args(["--web.listen-address", "127.0.0.1:0"]).env_clear();
    command.env("DSN", relay).env("LLM_RELAY_EXPORTER__STORE__URL", store);
    command.env("LLM_RELAY_EXPORTER__STORE__SAVE_INTERVAL", "1s");
    command
}

fn check(relay: &str, store: &str) -> (Output, String) {
    let output = command(relay, store).arg("check").output().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let of_store = said.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    (output, of_store)
}

/// Runs until it has saved; its log.
async fn save_once(relay: &str, store: &str) -> String {
    let config = format!(
        "[store]\nurl = {store:?}\nsave_interval = \"1s\"\n[relays.default]\nkind = \"claude-code-hub\"\ndatabase_url = {relay:?}\n"
    );
    let process = Process::start(&config, &[]);
    until("it saves", async || process.log().contains("saving to the store")).await;
    let (status, log) = process.end();
    assert!(status.success());
    log
}

/// Names, sizes, modes and times of what is in a folder.
fn listing(folder: &Path) -> Vec<String> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let data = entry.metadata().unwrap();
            let (mode, changed) = (data.permissions().mode() & 0o777, data.modified().unwrap());
            format!("{:?} {} {mode:o} {changed:?}", entry.file_name(), data.len())
        })
        .collect();
    entries.sort();
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_what_is_in_a_file_and_changes_nothing() {
    let relay = history("check_file", 2, 300).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let store = format!("sqlite:{}", file.display());
    let (output, said) = check(&relay, &store);
    assert!(output.status.success() && said.contains("is not there yet and can be made"), "{said}");
    assert_eq!(listing(folder.path()), [""; 0]);

    let log = save_once(&relay, &store).await;
    let (listening, saving) = (log.find("listening").unwrap(), log.find("saving to the store").unwrap());
    assert!(listening < saving, "{log}");
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    let before = listing(folder.path());
    let (output, said) = check(&relay, &store);
    assert!(output.status.success() && said.contains("can be opened") && said.contains("of default:"), "{said}");
    assert_eq!(listing(folder.path()), before);

    std::fs::write(&file, "not a database at all\n".repeat(200)).unwrap();
    let before = listing(folder.path());
    let (output, said) = check(&relay, &store);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("PROBLEM") && said.contains("no SQLite file") && said.contains("move it away"), "{said}");
    assert_eq!(listing(folder.path()), before);

    let (output, said) = check(&relay, &format!("sqlite:{}/nowhere/store.db", folder.path().display()));
    assert!(output.status.code() == Some(1) && said.contains("the directory must exist"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_what_is_in_a_database_and_changes_nothing() {
    let relay = history("check_database", 2, 300).await;
    let store = server().await.database("check_database_store").await.unwrap();
    let mut owner = PgConnection::connect(&store).await.unwrap();
    let (output, said) = check(&relay, &store);
    assert!(output.status.success() && said.contains("is not there yet and can be made"), "{said}");
    let schemas = "select count(*) from pg_namespace where nspname = 'llm_relay_exporter'";
    assert_eq!(sqlx::query_scalar::<_, i64>(schemas).fetch_one(&mut owner).await.unwrap(), 0);

    owner.execute("create role looker login password 'l00k'").await.unwrap();
    let port = server().await.port();
    let stranger = format!("postgres://looker:l00k@127.0.0.1:{port}/check_database_store");
    let (output, said) = check(&relay, &stranger);
    assert!(output.status.code() == Some(1) && said.contains("own the schema") && !said.contains("l00k"), "{said}");

    save_once(&relay, &store).await;
    let (output, said) = check(&relay, &store);
    assert!(output.status.success() && said.contains("can be opened") && said.contains("of default:"), "{said}");
    let (output, said) = check(&relay, &stranger);
    assert!(output.status.code() == Some(1) && said.contains("own the schema"), "{said}");
    owner.execute("update llm_relay_exporter._sqlx_migrations set version = 99").await.unwrap();
    let (output, said) = check(&relay, &store);
    assert!(output.status.code() == Some(1) && said.contains("newer exporter"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_store_ends_the_start_with_its_own_exit_code_before_anything_is_served() {
    let relay = history("exit_code", 2, 300).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    std::fs::write(&file, "not a database at all\n".repeat(200)).unwrap();
    let output = command(&relay, &format!("sqlite:{}", file.display())).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{log}");
    assert!(log.contains("the store is refused") && log.contains(file.to_str().unwrap()), "{log}");
    assert!(log.contains("move it away") && !log.contains("listening"), "{log}");
}

/// Else a probe ends it before it serves, each time anew, for as long as the store is away.
#[test]
fn a_store_that_says_nothing_is_waited_for_once_and_not_once_for_each_relay() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let store = format!("postgres://u:p@{}/store?sslmode=disable", silent.local_addr().unwrap());
    let relay =
        |n| format!("[relays.r{n}]\nkind = \"claude-code-hub\"\ndatabase_url = \"postgres://u:p@127.0.0.1:1/none\"\n");
    let config = (0..10).map(relay).collect::<String>() + &format!("[store]\nurl = \"{store}\"\n");
    let began = Instant::now();
    let exporter = Process::start(&config, &[]);
    assert_eq!(exporter.ask("GET", "/healthz").0, 200);
    assert!(began.elapsed() < Duration::from_secs(20), "served after {:?}", began.elapsed());
    // All of them ask it now, one after the other.
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    exporter.end();
    assert!(began.elapsed() < Duration::from_secs(20), "ended after {:?}", began.elapsed());
}
