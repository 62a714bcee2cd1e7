//! The reader of SQLite files next to a relay that writes them.

mod first_reading;
mod manager;
mod rollback;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use llm_relay_exporter::connect::sqlite::File;
use llm_relay_exporter::model::Reason;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor, Row, SqliteConnection};
use tempfile::TempDir;

const COUNT: &str = "select count(*) from t";
const LIMIT: Duration = Duration::from_secs(5);

fn reader(path: &Path) -> File {
    File::new(&format!("sqlite:{}", path.display()).into(), LIMIT, LIMIT).unwrap()
}

/// A relay's connection that does not wait for locks: whoever stands in its way is found out.
async fn relay(path: &Path, journal: SqliteJournalMode) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).busy_timeout(Duration::ZERO);
    // Locks are what is looked at, not this machine's disk.
    let options = options.synchronous(SqliteSynchronous::Off);
    let mut connection = options.journal_mode(journal).disable_statement_logging().connect().await.unwrap();
    connection.execute("create table if not exists t (id integer primary key, text text)").await.unwrap();
    connection
}

async fn place(journal: SqliteJournalMode) -> (TempDir, PathBuf, SqliteConnection) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.sqlite");
    let relay = relay(&path, journal).await;
    (dir, path, relay)
}

/// Of the file and its log. Read by another process: closing a file gives up all locks on it.
fn contents(path: &Path) -> Vec<u8> {
    let files = ["", "-wal"].map(|ending| format!("{}{ending}", path.display()));
    let output = Command::new("cat").args(files).output().unwrap();
    assert!(output.status.success(), "one is not there");
    output.stdout
}

async fn count(file: &File) -> i64 {
    let mut snapshot = file.snapshot().await.unwrap();
    let count = snapshot.fetch_one("counting", sqlx::query(COUNT)).await.unwrap().get(0);
    snapshot.close().await;
    count
}

#[tokio::test]
async fn a_snapshot_is_one_view_while_the_relay_writes() {
    let (_dir, path, mut relay) = place(SqliteJournalMode::Wal).await;
    let file = reader(&path);
    relay.execute("insert into t (text) values ('a')").await.unwrap();
    let mut snapshot = file.snapshot().await.unwrap();
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push(snapshot.fetch_one("counting", sqlx::query(COUNT)).await.unwrap().get::<i64, _>(0));
        relay.execute("insert into t (text) values ('b')").await.unwrap();
    }
    snapshot.close().await;
    assert_eq!(counts, [1, 1, 1]);
    assert_eq!(count(&file).await, 4);
}

#[tokio::test]
async fn with_a_rollback_journal_an_open_snapshot_holds_no_lock() {
    let (_dir, path, mut relay) = place(SqliteJournalMode::Delete).await;
    let file = reader(&path);
    let mut snapshot = file.snapshot().await.unwrap();
    for _ in 0..3 {
        snapshot.fetch("reading", sqlx::query("select * from t")).await.unwrap();
        relay.execute("insert into t (text) values ('a')").await.unwrap();
    }
    snapshot.close().await;
    assert_eq!(count(&file).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_relay_never_finds_the_file_busy() {
    let (_dir, path, mut relay) = place(SqliteJournalMode::Wal).await;
    let until = Instant::now() + Duration::from_secs(2);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let file = reader(&path);
            tokio::spawn(async move {
                let mut reads = 0;
                while Instant::now() < until {
                    count(&file).await;
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let mut written = 0;
    while Instant::now() < until {
        relay.execute("begin immediate; insert into t (text) values (hex(randomblob(500))); commit").await.unwrap();
        written += 1;
        if written % 50 == 0 {
            relay.execute("pragma wal_checkpoint(passive)").await.unwrap();
        }
        if written % 300 == 0 {
            // The relay's own patience with readers, as it empties its log.
            relay.execute("pragma busy_timeout = 5000").await.unwrap();
            let truncated = sqlx::query("pragma wal_checkpoint(truncate)").fetch_one(&mut relay).await.unwrap();
            assert_eq!(truncated.get::<i64, _>(0), 0, "the log could not be emptied");
            relay.execute("pragma busy_timeout = 0").await.unwrap();
        }
    }
    let mut reads = 0;
    for reader in readers {
        reads += reader.await.unwrap();
    }
    assert!(written > 20 && reads > 20, "{written} written, {reads} reads");
    assert_eq!(count(&reader(&path)).await, written);
}

#[tokio::test]
async fn nothing_is_written_and_nothing_is_checkpointed() {
    let (_dir, path, mut relay) = place(SqliteJournalMode::Wal).await;
    relay.execute("insert into t (text) values ('a')").await.unwrap();
    let before = contents(&path);
    let file = reader(&path);
    let mut snapshot = file.snapshot().await.unwrap();
    for statement in ["insert into t (text) values ('b')", "create table u (id integer)", "pragma wal_checkpoint(full)"]
    {
        let refused = snapshot.fetch("writing", sqlx::query(statement)).await;
        assert!(refused.is_err(), "{statement}");
    }
    snapshot.close().await;
    assert_eq!(count(&file).await, 1);
    assert!(before == contents(&path), "the files have changed");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_interrupted() {
    let (_dir, path, _relay) = place(SqliteJournalMode::Wal).await;
    let url = format!("sqlite://{}", path.display());
    let file = File::new(&url.into(), Duration::from_millis(300), Duration::from_secs(60)).unwrap();
    let mut snapshot = file.snapshot().await.unwrap();
    let endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
    let began = Instant::now();
    let error = snapshot.fetch("counting for ever", sqlx::query(endless)).await.unwrap_err();
    assert_eq!(error.reason, Reason::Timeout, "{}", error.text);
    assert!(began.elapsed() < Duration::from_secs(30));
    snapshot.close().await;
    assert_eq!(count(&file).await, 0);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_opened_anew() {
    let (dir, path, mut first) = place(SqliteJournalMode::Wal).await;
    first.execute("insert into t (text) values ('a'), ('b')").await.unwrap();
    let file = reader(&path);
    assert_eq!(count(&file).await, 2);
    first.close().await.unwrap();
    let other = dir.path().join("restored.sqlite");
    let mut second = relay(&other, SqliteJournalMode::Delete).await;
    second.execute("insert into t (text) values ('a')").await.unwrap();
    second.close().await.unwrap();
    for ending in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{ending}", path.display())).ok();
    }
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(count(&file).await, 1);
}

#[tokio::test]
async fn the_relay_is_the_last_to_close_and_a_backup_can_be_restored_over_its_file() {
    let (_dir, path, mut first) = place(SqliteJournalMode::Wal).await;
    first.execute("insert into t (text) values ('a'), ('b')").await.unwrap();
    first.close().await.unwrap();
    let backup = std::fs::read(&path).unwrap();

    let mut again = relay(&path, SqliteJournalMode::Wal).await;
    let file = reader(&path);
    for n in 0..300 {
        again.execute("insert into t (text) values (hex(randomblob(500)))").await.unwrap();
        if n % 50 == 0 {
            assert_eq!(count(&file).await, n + 3);
        }
    }
    again.close().await.unwrap();
    let log = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
    assert!(!log("-wal").exists() && !log("-shm").exists(), "the log stayed: somebody else had the file open");
    assert!(file.snapshot().await.is_err());
    std::fs::write(&path, backup).unwrap();

    let mut restored = relay(&path, SqliteJournalMode::Wal).await;
    let sound = sqlx::query("pragma integrity_check").fetch_one(&mut restored).await.unwrap();
    assert_eq!(sound.get::<String, _>(0), "ok");
    assert_eq!(count(&file).await, 2);
}

#[tokio::test]
async fn a_file_without_its_log_is_a_problem_and_nothing_is_made_beside_it() {
    let (_dir, path, mut first) = place(SqliteJournalMode::Wal).await;
    first.execute("insert into t (text) values ('a')").await.unwrap();
    // The same file, mounted alone.
    let mount = tempfile::tempdir().unwrap();
    let alone = mount.path().join("usage.sqlite");
    std::fs::hard_link(&path, &alone).unwrap();
    let error = reader(&alone).snapshot().await.err().unwrap();
    assert_eq!(error.reason, Reason::Connection, "{}", error.text);
    for says in ["usage.sqlite-wal", "usage.sqlite-shm", "mount the directory"] {
        assert!(error.text.contains(says), "{}", error.text);
    }
    let there: Vec<_> = std::fs::read_dir(mount.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(there, ["usage.sqlite"]);
}

/// SQLite takes a log beside an empty file for one of a file that has gone, and removes it, whoever opens it for whatever.
#[tokio::test]
async fn an_empty_file_is_not_opened_and_the_log_beside_it_stays() {
    let (_dir, path, mut relay) = place(SqliteJournalMode::Wal).await;
    relay.execute("insert into t (text) values ('a')").await.unwrap();
    // As a copy over it begins.
    assert!(Command::new("sh").args(["-c", ": > \"$0\""]).arg(&path).status().unwrap().success());
    let opened = reader(&path).snapshot().await;
    assert!(path.with_extension("sqlite-wal").exists(), "the relay's log was removed");
    let error = opened.err().expect("it is refused");
    assert_eq!(error.reason, Reason::Schema, "{}", error.text);
    assert!(error.text.contains("empty"), "{}", error.text);
}

/// With a rollback journal SQLite looks again at each statement.
#[tokio::test]
async fn a_log_that_comes_beside_a_file_that_is_being_replaced_stays() {
    for replaced in [": > \"$0\"", "rm \"$0\"; : > \"$0\"", "rm \"$0\"; cp \"$0.old\" \"$0\""] {
        let (_dir, path, mut relay) = place(SqliteJournalMode::Delete).await;
        relay.execute("insert into t (text) values ('a')").await.unwrap();
        let file = reader(&path);
        let mut snapshot = file.snapshot().await.unwrap();
        let script = format!("cp \"$0\" \"$0.old\"; echo log > \"$0-wal\"; {replaced}");
        assert!(Command::new("sh").args(["-c", &script]).arg(&path).status().unwrap().success());
        let error = snapshot.fetch("counting", sqlx::query(COUNT)).await.expect_err("it is being restored");
        assert!(path.with_extension("sqlite-wal").exists(), "the log was removed: {replaced}");
        assert!(error.text.contains("usage.sqlite"), "{}", error.text);
        snapshot.close().await;
        assert!(file.snapshot().await.is_err(), "{replaced}");
        assert!(path.with_extension("sqlite-wal").exists(), "the log was removed: {replaced}");
    }
}

/// Whose space somebody needs.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_was_removed_is_let_go_of() {
    let (_dir, path, relay) = place(SqliteJournalMode::Delete).await;
    let file = reader(&path);
    assert_eq!(count(&file).await, 0);
    relay.close().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(file.snapshot().await.is_err());
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fd.ok()?.path().read_link().ok());
    let ours: Vec<_> = open.filter(|it| it.starts_with(path.parent().unwrap())).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(&text, "not a database, but long enough to have a header".repeat(20)).unwrap();
    for (path, reason, says) in [
        (dir.path().join("missing"), Reason::Connection, "volume"),
        (dir.path().to_owned(), Reason::Connection, "no file"),
        (text, Reason::Data, "no SQLite file"),
    ] {
        let file = reader(&path);
        let error = match file.snapshot().await {
            Err(error) => error,
            Ok(mut snapshot) => snapshot.fetch("counting", sqlx::query(COUNT)).await.unwrap_err(),
        };
        assert_eq!(error.reason, reason, "{}", error.text);
        assert!(error.text.contains(says) && error.text.contains(path.to_str().unwrap()), "{}", error.text);
    }
    assert!(!dir.path().join("missing").exists());
    for url in ["postgres://host/db", "sqlite:", "sqlite::memory:", "sqlite:/a?mode=rwc", "/a"] {
        assert!(File::new(&url.into(), LIMIT, LIMIT).is_err(), "{url}");
    }
}
