//! A manager of CPA-Manager's kind, in a process of its own, and the exporter beside it: stops, restores and mounts.
//!
//! Locks are a process's, so this cannot be tried within one.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use llm_relay_exporter::model::Reason;
use llm_relay_exporter::relays::cpa_manager::{Level, least_schema};
use sqlx::Row;
use tempfile::TempDir;

use super::{COUNT, reader};
use crate::process::{Page, Process, value};

/// Opens, writes as it is told, and closes as the manager does: all connections, the last one with a checkpoint.
const MANAGER: &str = "
import sqlite3, sys, time
path, journal, schema = sys.argv[1:]
connections = [sqlite3.connect(path, isolation_level=None, timeout=5) for _ in range(4)]
for connection in connections:
    connection.execute('pragma journal_mode=' + journal)
    connection.execute('pragma synchronous=full')
file = connections[0]
if not file.execute('select count(*) from sqlite_schema').fetchone()[0]:
    file.executescript(open(schema).read())
print('ready', flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        now = int(time.time() * 1000)
        (last,) = file.execute('select coalesce(max(id), 0) from usage_events').fetchone()
        file.execute('''insert into usage_events (event_hash, timestamp_ms, timestamp, provider, model, auth_index,
            source_hash, input_tokens, output_tokens, total_tokens, latency_ms, raw_json, created_at_ms)
            values (?, ?, '', 'codex', 'gpt-5-codex', '0', '', 10, 5, 15, 900, hex(randomblob(500)), ?)''',
            (f'{last}-{now}', now - 1000, now))
    print('done', flush=True)
for connection in connections:
    connection.close()
";

struct Manager {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Manager {
    fn start(place: &Place) -> Self {
        let mut command = Command::new("python3");
        let command = command.args(["-c", MANAGER]).arg(place.file()).arg(place.journal).arg(place.schema());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut manager = Self { child, input, output };
        manager.hears("ready\n");
        manager
    }

    fn hears(&mut self, what: &str) {
        let mut said = String::new();
        self.output.read_line(&mut said).unwrap();
        assert_eq!(said, what);
    }

    fn write(&mut self, events: u32) {
        writeln!(self.input.as_mut().unwrap(), "{events}").unwrap();
        self.hears("done\n");
    }

    fn stop(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// The manager's data directory, its backup, and where the exporter sees it.
struct Place {
    dir: TempDir,
    journal: &'static str,
}

impl Place {
    fn new(journal: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("", 0o755), ("data", 0o755), ("seen", 0o755)] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let place = Self { dir, journal };
        let schema: Vec<_> = least_schema(Level::Plus).collect();
        std::fs::write(place.schema(), schema.join(";\n")).unwrap();
        place
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("data/usage.sqlite")
    }

    fn schema(&self) -> PathBuf {
        self.dir.path().join("schema.sql")
    }

    /// What is in the data directory.
    fn files(&self) -> Vec<String> {
        names(&self.dir.path().join("data"))
    }

    fn shell(&self, script: &str) {
        let status = Command::new("sh").args(["-ec", script]).current_dir(self.dir.path()).status().unwrap();
        assert!(status.success(), "{script}");
    }

    /// Of `pragma integrity_check`, by another process.
    fn integrity(&self) -> String {
        let script =
            "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('pragma integrity_check').fetchone()[0])";
        let output = Command::new("python3").args(["-c", script]).arg(self.file()).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn config(file: &Path) -> String {
    format!(
        "[relays.cpa]\nkind = \"cpa-manager\"\ndatabase_url = \"sqlite:{}\"\ninterval = \"1s\"\ndirectory_interval = \"1s\"\nstale_after = \"3s\"\n",
        file.display()
    )
}

fn is_up(page: &Page) -> bool {
    value(page, "llm_relay_source_up", &[("source", "ledger")]) == Some(1.0)
}

fn events(page: &Page) -> Option<f64> {
    value(page, "llm_relay_window_requests", &[("window", "1h"), ("outcome", "success")])
}

fn shows(count: f64) -> impl Fn(&Page) -> bool {
    move |page| is_up(page) && events(page) == Some(count)
}

/// "Stop CPAMP. Restore the full data directory. Start CPAMP" (CPA-Manager-Plus `docs/operations/backup.md`).
#[test]
fn the_documented_restore_of_a_manager_is_sound_wherever_the_exporter_is() {
    for when in ["attached", "stopped before", "stopped after"] {
        let place = Place::new("wal");
        let mut manager = Manager::start(&place);
        manager.write(50);
        manager.stop();
        place.shell("tar czf backup.tgz data");
        let mut manager = Manager::start(&place);
        let mut exporter = Some(Process::start(&config(&place.file()), &[]));
        manager.write(300);
        exporter.as_ref().unwrap().until("all are read", shows(350.0));
        if when == "stopped before" {
            exporter = None;
        }
        manager.stop();
        assert_eq!(place.files(), ["usage.sqlite"], "{when}: the manager was not the last to close");
        if let Some(exporter) = &exporter {
            exporter.until("it is noticed", |page| !is_up(page));
            assert!(exporter.log().contains("usage.sqlite-wal"), "{}", exporter.log());
        }
        if when == "stopped after" {
            exporter = None;
        }
        place.shell("tar xzf backup.tgz");
        let mut manager = Manager::start(&place);
        manager.write(5);
        assert_eq!(place.integrity(), "ok", "{when}");
        let exporter = exporter.unwrap_or_else(|| Process::start(&config(&place.file()), &[]));
        exporter.until("the restored file is read", shows(55.0));
        manager.stop();
        assert_eq!(place.files(), ["usage.sqlite"], "{when}");
        assert_eq!(place.integrity(), "ok", "{when}");
    }
}

/// A read that is under way does not keep the manager from being the last one, and does not pretend to have seen the end.
#[tokio::test]
async fn a_manager_that_stops_in_the_middle_of_a_read_is_still_the_last_to_close() {
    let place = Place::new("wal");
    let mut manager = Manager::start(&place);
    manager.write(20);
    let file = reader(&place.file());
    let mut snapshot = file.snapshot().await.unwrap();
    let count = COUNT.replace(" t", " usage_events");
    let query = || sqlx::query(sqlx::AssertSqlSafe(count.clone()));
    assert_eq!(snapshot.fetch_one("counting", query()).await.unwrap().get::<i64, _>(0), 20);
    manager.write(10);
    manager.stop();
    assert_eq!(place.files(), ["usage.sqlite"]);
    let error = snapshot.fetch_one("counting", query()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Connection, "{}", error.text);
    assert!(error.text.contains("closed it meanwhile"), "{}", error.text);
    snapshot.close().await;
    assert_eq!(place.files(), ["usage.sqlite"]);
    assert_eq!(place.integrity(), "ok");
}

/// What the exporter sees of the data directory, by a shell script in a mount namespace of its own.
const MOUNTS: [(&str, &str); 3] = [
    ("the directory", "mount --bind data seen; mount -o remount,bind,ro seen"),
    ("three files", "for f in data/*; do touch seen/${f#data/}; mount --bind $f seen/${f#data/}; done"),
    ("one file", "touch seen/usage.sqlite; mount --bind data/usage.sqlite seen/usage.sqlite"),
];

/// Right numbers or a clear problem: never old numbers that look well.
#[test]
fn whatever_is_mounted_for_whomever_numbers_are_right_or_absent() {
    let binary = env!("CARGO_BIN_EXE_llm-relay-exporter");
    for journal in ["wal", "delete"] {
        for (mount, script) in MOUNTS {
            for user in ["0", "65532"] {
                let case = format!("{mount}, journal mode {journal}, user {user}");
                let place = Place::new(journal);
                let mut manager = Manager::start(&place);
                manager.write(20);
                // Whoever runs it must find it: the build's directory may be closed to others.
                place.shell(&format!("cp {binary} exporter; chmod 755 exporter"));
                let config = config(&place.dir.path().join("seen/usage.sqlite"));
                std::fs::write(place.dir.path().join("exporter.toml"), config).unwrap();
                let script = format!(
                    "cd \"$0\"; {script}; shift; exec setpriv --reuid {user} --regid {user} --clear-groups ./exporter --config.file exporter.toml \"${{@:3}}\""
                );
                let wrapper = ["unshare", "-m", "bash", "-ec", &script, place.dir.path().to_str().unwrap()];
                let exporter = Process::under(&wrapper, "", &[]);
                let mut right = 0;
                let mut expected = 20.0;
                for step in ["running", "written", "restarted"] {
                    match step {
                        "written" => manager.write(10),
                        "restarted" => {
                            manager.stop();
                            manager = Manager::start(&place);
                            manager.write(5);
                        }
                        _ => {}
                    }
                    expected += match step {
                        "written" => 10.0,
                        "restarted" => 5.0,
                        _ => 0.0,
                    };
                    let settled = |page: &Page| shows(expected)(page) || (!is_up(page) && events(page).is_none());
                    exporter.until(&format!("{case}: {step}"), settled);
                    // It stays so.
                    std::thread::sleep(Duration::from_millis(1500));
                    let page = exporter.page();
                    assert!(settled(&page), "{case}: {step}: {:?}\n{}", events(&page), exporter.log());
                    right += u32::from(is_up(&page));
                }
                let can_follow = journal == "delete" || mount == "the directory";
                let hint = exporter.log().contains("mount the directory");
                assert!((right == 3) == can_follow && hint == !can_follow, "{case}: {right}\n{}", exporter.log());
                let made = place.files();
                manager.stop();
                assert!(made.len() <= 3 && place.files() == ["usage.sqlite"], "{case}: {made:?}");
                assert!(names(&place.dir.path().join("seen")).len() <= 3);
                assert_eq!(place.integrity(), "ok", "{case}");
            }
        }
    }
}

/// `check` leaves the directory as it is, whoever runs it, while the manager runs and when it has stopped.
#[test]
fn check_makes_nothing_beside_the_file() {
    let place = Place::new("wal");
    let mut manager = Manager::start(&place);
    manager.write(3);
    let config_file = place.dir.path().join("exporter.toml");
    std::fs::write(&config_file, config(&place.file())).unwrap();
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
        let output = command.arg("--config.file").arg(&config_file).arg("check").output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let running = place.files();
    let text = check();
    assert!(text.contains("opened") && !text.contains("PROBLEM"), "{text}");
    assert_eq!(place.files(), running);
    manager.stop();
    let text = check();
    assert!(text.contains("PROBLEM") && text.contains("usage.sqlite-wal"), "{text}");
    assert_eq!(place.files(), ["usage.sqlite"]);
}
