//! A manager of CPA-Manager-Plus' kind, in a process of its own, and the exporter beside it: stops, restores and mounts.
//!
//! Locks are a process's, so this cannot be tried within one. The manager opens its file as that of v1.12.2 does:
//! several connections, `journal_mode=wal`, `synchronous=full`, a busy timeout of five seconds
//! (`apps/manager-server/internal/repository/sqlite/db.go` and `migrate.go`).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use llm_relay_exporter::model::Reason;
use llm_relay_exporter::relays::cpa_manager::{Level, least_schema};
use sqlx::Row;
use tempfile::TempDir;

use super::reader;
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
        for (name, mode) in [("", 0o755), ("data", 0o755)] {
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

    /// All files of the data directory.
    fn bytes(&self) -> Vec<Vec<u8>> {
        self.files().iter().map(|name| std::fs::read(self.dir.path().join("data").join(name)).unwrap()).collect()
    }

    /// An exporter that sees what a script mounts, as a user who owns nothing here.
    fn seen_by(&self, script: &str, user: &str) -> Process {
        let binary = env!("CARGO_BIN_EXE_llm-relay-exporter");
        let number = names(self.dir.path()).len();
        let seen = self.dir.path().join(format!("seen{number}"));
        std::fs::create_dir(&seen).unwrap();
        let names = ["exporter".to_owned(), format!("exporter{number}.toml")].map(|name| self.dir.path().join(name));
        // Whoever runs it must find it: the build's directory may be closed to others.
        if !names[0].exists() {
            std::fs::hard_link(binary, &names[0]).or_else(|_| std::fs::copy(binary, &names[0]).map(|_| ())).unwrap();
        }
        std::fs::write(&names[1], config(&seen.join("usage.sqlite"), "1s")).unwrap();
        let script = format!(
            "cd \"$0\"; seen=seen{number}; {script}; exec setpriv --reuid {user} --regid {user} --clear-groups ./exporter --config.file exporter{number}.toml \"${{@:4}}\""
        );
        Process::under(&["unshare", "-m", "bash", "-ec", &script, self.dir.path().to_str().unwrap()], "", &[])
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

fn config(file: &Path, interval: &str) -> String {
    let stale = if interval == "1s" { "3s" } else { "1d" };
    format!(
        "[relays.cpa]\nkind = \"cpa-manager\"\ndatabase_url = \"sqlite:{}\"\ninterval = \"{interval}\"\ndirectory_interval = \"{interval}\"\nstale_after = \"{stale}\"\n",
        file.display()
    )
}

fn is_up(page: &Page, source: &str) -> bool {
    value(page, "llm_relay_source_up", &[("source", source)]) == Some(1.0)
}

fn events(page: &Page) -> Option<f64> {
    value(page, "llm_relay_window_requests", &[("window", "1h"), ("outcome", "success")])
}

fn shows(count: f64) -> impl Fn(&Page) -> bool {
    move |page| is_up(page, "ledger") && events(page) == Some(count)
}

/// The numbers are right, or they are absent and that is told.
fn is_honest(page: &Page, count: f64) -> bool {
    shows(count)(page) || (!is_up(page, "ledger") && events(page).is_none())
}

/// How often the ledger has been read, or has been tried to.
fn reads(page: &Page) -> f64 {
    value(page, "llm_relay_refresh_duration_seconds_count", &[("source", "ledger")]).unwrap_or(0.0)
}

/// "Stop CPAMP. Restore the full data directory. Start CPAMP" (CPA-Manager-Plus v1.12.2 `apps/docs/operations/backup.md`).
#[test]
fn the_documented_restore_of_a_manager_is_sound_wherever_the_exporter_is() {
    for when in ["attached", "stopped before", "stopped after"] {
        let place = Place::new("wal");
        let mut manager = Manager::start(&place);
        manager.write(50);
        manager.stop();
        place.shell("tar czf backup.tgz data");
        let mut manager = Manager::start(&place);
        manager.write(300);
        // Between two reads, for as long as this takes.
        let mut exporter = Some(Process::start(&config(&place.file(), "1h"), &[]));
        exporter
            .as_ref()
            .unwrap()
            .until("all is read", |page| shows(350.0)(page) && is_up(page, "live") && is_up(page, "directory"));
        if when == "stopped before" {
            exporter = None;
        }
        manager.stop();
        assert_eq!(place.files(), ["usage.sqlite"], "{when}: the manager was not the last to close");
        if when == "stopped after" {
            exporter = None;
        }
        place.shell("tar xzf backup.tgz");
        let mut manager = Manager::start(&place);
        manager.write(5);
        assert_eq!(place.integrity(), "ok", "{when}");
        Process::start(&config(&place.file(), "1s"), &[]).until("the restored file is read", shows(55.0));
        drop(exporter);
        manager.stop();
        assert_eq!(place.integrity(), "ok", "{when}");
    }
}

/// A log that stays is told of at once, and by everybody who looks; nothing is lost with it, and it goes with the next
/// stop. What is told is enough to restore a backup all the same.
#[tokio::test]
async fn a_log_that_stays_because_the_manager_stops_in_the_middle_of_a_read_is_told() {
    let place = Place::new("wal");
    let mut manager = Manager::start(&place);
    manager.write(20);
    manager.stop();
    place.shell("cp data/usage.sqlite backup");
    let mut manager = Manager::start(&place);
    let file = reader(&place.file());
    let mut snapshot = file.snapshot().await.unwrap();
    let count = || sqlx::query("select count(*) from usage_events");
    assert_eq!(snapshot.fetch_one("counting", count()).await.unwrap().get::<i64, _>(0), 20);
    manager.write(10);
    manager.stop();
    assert_eq!(place.files(), ["usage.sqlite", "usage.sqlite-shm", "usage.sqlite-wal"]);
    assert_eq!(snapshot.fetch_one("counting", count()).await.unwrap().get::<i64, _>(0), 20, "it is one view");
    snapshot.close().await;

    let error = file.snapshot().await.err().unwrap();
    assert_eq!(error.reason, Reason::Connection, "{}", error.text);
    let log = place.file().with_extension("sqlite-wal").display().to_string();
    assert!(error.text.contains("nobody has it open") && error.text.contains(&log), "{}", error.text);
    let checked = check(&place);
    assert!(checked.contains("PROBLEM") && checked.contains("nobody has it open"), "{checked}");

    let mut manager = Manager::start(&place);
    manager.write(1);
    let mut snapshot = file.snapshot().await.unwrap();
    assert_eq!(snapshot.fetch_one("counting", count()).await.unwrap().get::<i64, _>(0), 31, "nothing was lost");
    manager.stop();
    snapshot.close().await;
    place.shell("rm data/usage.sqlite-wal data/usage.sqlite-shm; cp backup data/usage.sqlite");
    let manager = Manager::start(&place);
    let mut snapshot = file.snapshot().await.unwrap();
    assert_eq!(snapshot.fetch_one("counting", count()).await.unwrap().get::<i64, _>(0), 20);
    snapshot.close().await;
    manager.stop();
    assert_eq!(place.files(), ["usage.sqlite"]);
    assert_eq!(place.integrity(), "ok");
}

/// A manager that is ended by force leaves its log, with what it has committed.
#[tokio::test]
async fn what_a_killed_manager_leaves_is_not_read_as_if_it_were_running() {
    let place = Place::new("wal");
    let mut manager = Manager::start(&place);
    manager.write(20);
    manager.child.kill().unwrap();
    manager.child.wait().unwrap();
    let left = place.bytes();
    let error = reader(&place.file()).snapshot().await.err().unwrap();
    assert!(error.text.contains("nobody has it open"), "{}", error.text);
    assert!(place.bytes() == left, "what was left has changed");
    let manager = Manager::start(&place);
    let mut snapshot = reader(&place.file()).snapshot().await.unwrap();
    let count = sqlx::query("select count(*) from usage_events");
    assert_eq!(snapshot.fetch_one("counting", count).await.unwrap().get::<i64, _>(0), 20);
    snapshot.close().await;
    manager.stop();
}

/// Files of these names beside one that is mounted alone are not its log.
#[tokio::test]
async fn empty_files_beside_a_file_are_not_its_log() {
    let place = Place::new("wal");
    let mut manager = Manager::start(&place);
    manager.write(5);
    let alone = place.dir.path().join("alone");
    std::fs::create_dir(&alone).unwrap();
    place.shell("ln data/usage.sqlite alone; touch alone/usage.sqlite-wal alone/usage.sqlite-shm");
    let error = reader(&alone.join("usage.sqlite")).snapshot().await.err().unwrap();
    assert!(error.text.contains("nobody has it open"), "{}", error.text);
    manager.stop();
}

/// How the exporter sees the data directory, made by a shell script in a mount namespace of its own.
const DIRECTORY: (&str, &str) = ("the directory", "mount --bind data $seen; mount -o remount,bind,ro $seen");
const THREE_FILES: (&str, &str) =
    ("three files", "for f in data/*; do touch $seen/${f#data/}; mount --bind $f $seen/${f#data/}; done");
const ONE_FILE: (&str, &str) =
    ("one file", "touch $seen/usage.sqlite; mount --bind data/usage.sqlite $seen/usage.sqlite");

/// One who may do anything, and one who may only read.
const USERS: [&str; 2] = ["0", "65532"];

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// Right numbers or a clear problem: never old numbers that look well. Only root can mount.
#[test]
fn whatever_is_mounted_for_whomever_numbers_are_right_or_absent() {
    if !is_root() {
        return;
    }
    let all: &[_] = &[DIRECTORY, THREE_FILES, ONE_FILE];
    let one: &[_] = &[DIRECTORY];
    std::thread::scope(|all_at_once| {
        for (journal, mounts) in
            [("wal", all), ("delete", all), ("truncate", one), ("persist", one), ("memory", one), ("off", one)]
        {
            all_at_once.spawn(move || numbers_are_right_or_absent(journal, mounts));
        }
    });
}

fn numbers_are_right_or_absent(journal: &'static str, mounts: &[(&str, &str)]) {
    let place = Place::new(journal);
    let mut manager = Manager::start(&place);
    manager.write(20);
    let cases: Vec<_> = mounts
        .iter()
        .flat_map(|(mount, script)| USERS.map(|user| (*mount, user, place.seen_by(script, user))))
        .collect();
    let mut expected = 20.0;
    for step in ["running", "written", "restarted"] {
        match step {
            "written" => manager.write(10),
            "restarted" => {
                manager.stop();
                // A log that stays because of a read in that moment is not a new one after a start.
                while journal == "wal" && place.files().len() > 1 {
                    Manager::start(&place).stop();
                }
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
        let can_follow = |mount: &str| {
            journal != "wal" || mount == "the directory" || (mount == "three files" && step != "restarted")
        };
        let named = |mount: &str, user: &str| format!("{mount}, journal mode {journal}, user {user}, {step}");
        let mut reads_before = Vec::new();
        for (mount, user, exporter) in &cases {
            let is_settled = |page: &Page| is_honest(page, expected) && is_up(page, "ledger") == can_follow(mount);
            exporter.until(&named(mount, user), is_settled);
            reads_before.push(reads(&exporter.page()));
        }
        for ((mount, user, exporter), before) in cases.iter().zip(reads_before) {
            let case = named(mount, user);
            if can_follow(mount) {
                // It stays so. What fails is tried ever more rarely.
                exporter.until(&case, |page| reads(page) >= before + 2.0);
            }
            let page = exporter.page();
            assert!(is_honest(&page, expected), "{case}: {:?}\n{}", events(&page), exporter.log());
            let told = exporter.log().contains("mount the directory");
            assert!(told || can_follow(mount), "{case}:\n{}", exporter.log());
        }
    }
    drop(cases);
    manager.stop();
    // A journal of mode persist stays.
    assert!(place.files().iter().all(|name| !name.ends_with("-wal") && !name.ends_with("-shm")), "{:?}", place.files());
    assert_eq!(place.integrity(), "ok", "{journal}");
}

/// Who may not read one of the files is told which.
#[test]
fn a_file_that_may_not_be_read_is_named() {
    if !is_root() {
        return;
    }
    for ending in ["", "-wal", "-shm"] {
        let place = Place::new("wal");
        let mut manager = Manager::start(&place);
        manager.write(3);
        place.shell(&format!("chmod 600 data/usage.sqlite{ending}"));
        let exporter = place.seen_by(DIRECTORY.1, USERS[1]);
        exporter.until(ending, |page| reads(page) >= 1.0);
        assert!(!is_up(&exporter.page(), "ledger"), "{ending}");
        let says = format!("usage.sqlite{ending}: Permission denied");
        assert!(exporter.log().contains(&says), "{says}\n{}", exporter.log());
        manager.stop();
    }
}

/// `check` leaves the directory as it is, while the manager runs and when it has stopped.
#[test]
fn check_makes_nothing_beside_the_file() {
    let place = Place::new("wal");
    let mut manager = Manager::start(&place);
    manager.write(3);
    let running = place.bytes();
    let text = check(&place);
    assert!(text.contains("opened") && !text.contains("PROBLEM"), "{text}");
    assert!(place.bytes() == running, "check has changed a file");
    manager.stop();
    let text = check(&place);
    assert!(text.contains("PROBLEM") && text.contains("usage.sqlite-wal"), "{text}");
    assert_eq!(place.files(), ["usage.sqlite"]);
}

fn check(place: &Place) -> String {
    let file = place.dir.path().join("exporter.toml");
    std::fs::write(&file, config(&place.file(), "1s")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
    let output = command.arg("--config.file").arg(&file).arg("check").output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
