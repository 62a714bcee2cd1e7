//! Faults of the place that the exporter itself runs in: its store's disk, and being stopped.

use std::process::Command;
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};

use super::{Line, PATIENCE, STALE_AFTER};
use crate::claude_code_hub::{Store, redis_server};
use crate::process::{Page, Process, fallen, total, value};

/// What happens to the disk, or to the process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    Full,
    Locked,
    Stopped,
}

impl Trouble {
    pub const ALL: [Self; 3] = [Self::Full, Self::Locked, Self::Stopped];

    const fn fault(self) -> &'static str {
        match self {
            Self::Full => "the disk is full",
            Self::Locked => "somebody else locks the file",
            Self::Stopped => "it is stopped for four seconds and goes on (SIGSTOP, SIGCONT), as in a suspended machine",
        }
    }
}

/// A file system of the process's own, where the kernel allows that; seen from outside through `/proc`.
const WRAP: &str = "mount -t tmpfs -o size=3m tmpfs \"$0\" && exec \"$@\"";

/// `None` where this machine does not allow what the case needs.
pub async fn suffer(number: usize, trouble: Trouble) -> Option<Line> {
    let name = format!("fault_own_{number}");
    let mut relay = Store::new(&name, "v0.9.2").await;
    relay.people().await;
    request(&mut relay).await;
    let disk = tempfile::tempdir().unwrap();
    let redis = redis_server().await.url();
    let config = format!(
        "[store]\nurl = \"sqlite:{}/store.db\"\nsave_interval = \"1s\"\n[relays.{name}]\nkind = \"claude-code-hub\"\n\
         database_url = \"{}\"\nredis_url = \"{redis}\"\ninterval = \"1s\"\ndirectory_interval = \"1s\"\n\
         stale_after = \"{}s\"\ntimeout = \"5s\"\naudit_interval = \"1m\"\n",
        disk.path().display(),
        relay.url,
        STALE_AFTER.as_secs().max(5),
    );
    let path = disk.path().to_str().unwrap();
    let wrapper = ["unshare", "-Urm", "sh", "-c", WRAP, path];
    let small = trouble == Trouble::Full;
    if small && !Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success()) {
        return None;
    }
    let exporter = Process::under(if small { &wrapper } else { &[] }, &config, &[]);
    let filler = format!("/proc/{}/root{path}/filler", exporter.id());
    let mut seen = Page::new();
    let mut read = |exporter: &Process| {
        let page = exporter.page();
        assert_eq!(fallen(&seen, &page, &name), [""; 0]);
        seen.extend(page.iter().map(|(series, value)| (series.clone(), *value)));
        page
    };
    let stored = |page: &Page| value(page, "llm_relay_store_up", &[]);
    let sources_up = |page: &Page| {
        ["ledger", "live", "directory"]
            .iter()
            .all(|source| value(page, "llm_relay_source_up", &[("source", source)]) == Some(1.0))
    };
    let counted = |page: &Page| total(page, "llm_relay_requests_total", &name);
    let saved = |page: &Page| value(page, "llm_relay_store_last_save_timestamp_seconds", &[]).is_some();
    wait(&exporter, "it reads", || {
        let page = read(&exporter);
        sources_up(&page) && counted(&page) == 1.0 && saved(&page)
    });

    let mut lock = None;
    let began = std::time::Instant::now();
    match trouble {
        // What it tries to write next is more than what is left.
        Trouble::Full => drop(Command::new("sh").args(["-c", "cat /dev/zero > \"$0\" 2>/dev/null", &filler]).status()),
        Trouble::Locked => {
            let mut other = SqliteConnection::connect(&format!("sqlite:{path}/store.db")).await.unwrap();
            sqlx::raw_sql("begin exclusive").execute(&mut other).await.unwrap();
            lock = Some(other);
        }
        Trouble::Stopped => exporter.signal("STOP"),
    }
    for _ in 0..20 {
        request(&mut relay).await;
    }
    let mut noticed = Duration::ZERO;
    if trouble == Trouble::Stopped {
        tokio::time::sleep(Duration::from_secs(4)).await;
    } else {
        wait(&exporter, "it is noticed", || {
            let page = read(&exporter);
            assert!(sources_up(&page), "reading goes on");
            stored(&page) == Some(0.0)
        });
        noticed = began.elapsed();
    }
    for _ in 0..20 {
        request(&mut relay).await;
    }
    let ended = std::time::Instant::now();
    match trouble {
        Trouble::Full => std::fs::remove_file(&filler).unwrap(),
        Trouble::Locked => sqlx::raw_sql("rollback").execute(lock.as_mut().unwrap()).await.map(drop).unwrap(),
        Trouble::Stopped => exporter.signal("CONT"),
    }
    wait(&exporter, "everything is back", || {
        let page = read(&exporter);
        sources_up(&page) && stored(&page) == Some(1.0) && saved(&page) && counted(&page) >= 41.0
    });
    let back = ended.elapsed();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let counted = counted(&read(&exporter));
    Some(Line {
        fault: trouble.fault().to_owned(),
        store: if trouble == Trouble::Stopped { "the exporter" } else { "its own store (SQLite)" },
        said: if trouble == Trouble::Stopped { "nothing: no answer" } else { "`llm_relay_store_up` 0" }.to_owned(),
        goes_on: if trouble == Trouble::Stopped { "" } else { "ledger, live, directory" }.to_owned(),
        noticed,
        back,
        lost: (41.0 - counted).max(0.0) as u64,
        twice: (counted - 41.0).max(0.0) as u64,
    })
}

fn wait(exporter: &Process, what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}\n{}", exporter.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

async fn request(relay: &mut Store) {
    relay
        .run(
            "insert into message_request (provider_id, user_id, key, model, status_code, cost_usd, duration_ms)
             values (1, 1, 'sk-ann', 'sonnet', 200, 0.25, 900)",
        )
        .await;
}
