//! Faults of the exporter's own store, and of the exporter: as a process, with a configuration file.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Holder, Line};
use crate::claude_code_hub::{Store, redis_server};
use crate::process::{Page, Process, fallen, total, value};
use crate::wait::seen;

/// A file system of the process's own, where the kernel allows that.
const WRAP: &str = "mount -t tmpfs -o size=3m tmpfs \"$0\" && exec \"$@\"";
/// How long the exporter sleeps: longer than its numbers are good.
const SLEEP: Duration = Duration::from_secs(12);

#[derive(Clone, Copy, PartialEq)]
enum Act {
    /// In the store's directory `$0`, as the exporter sees it, on a file system of its own.
    Mount(&'static str),
    Shell(&'static str),
    Hold,
    Release,
    /// To the exporter.
    Signal(&'static str),
}

pub struct Case {
    fault: &'static str,
    begin: Act,
    end: Act,
}

pub fn cases() -> Vec<Case> {
    let case = |fault, begin, end| Case { fault, begin, end };
    vec![
        // What it tries to write next is more than what is left.
        case(
            "the disk is full",
            Act::Mount("cat /dev/zero > \"$0/filler\" 2>/dev/null || true"),
            Act::Mount("rm \"$0/filler\""),
        ),
        case(
            "a file system that cannot be written is mounted in its place",
            Act::Mount("mount -t tmpfs -o ro tmpfs \"$0\""),
            Act::Mount("umount \"$0\""),
        ),
        case("another process locks it", Act::Hold, Act::Release),
        case("its directory has gone", Act::Shell("mv \"$0\" \"$0.away\""), Act::Shell("mv \"$0.away\" \"$0\"")),
        case("the exporter sleeps (`SIGSTOP`)", Act::Signal("STOP"), Act::Signal("CONT")),
    ]
}

/// `None` where this machine has no file systems for users.
pub async fn suffer(number: usize, case: Case) -> Option<Line> {
    let is_mounted = matches!(case.begin, Act::Mount(_));
    let may_mount = || Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success());
    if is_mounted && !may_mount() {
        return None;
    }
    let name = format!("fault_own_{number}");
    let mut relay = Store::new(&name, "v0.9.2").await;
    relay.people().await;
    relay.requests(1, "0 s").await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("store");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.to_str().unwrap();
    let redis = redis_server().await.url();
    let config = format!(
        "[store]\nurl = \"sqlite:{path}/store.db\"\nsave_interval = \"1s\"\n[relays.{name}]\nkind = \"claude-code-hub\"\n\
         database_url = \"{}\"\nredis_url = \"{redis}\"\ninterval = \"1s\"\ndirectory_interval = \"1s\"\n\
         stale_after = \"10s\"\ntimeout = \"9s\"\naudit_interval = \"1m\"\n",
        relay.url,
    );
    let wrapper = ["unshare", "-Urm", "sh", "-c", WRAP, path];
    let exporter = Process::under(if is_mounted { &wrapper } else { &[] }, &config, &[]);
    let mut holder = None;
    let mut act = |act| match act {
        Act::Mount(script) => {
            let id = exporter.id().to_string();
            let there = ["--user", "--mount", "--preserve-credentials", "--target", &id, "sh", "-c", script, path];
            assert!(Command::new("nsenter").args(there).status().unwrap().success(), "{script}");
        }
        Act::Shell(script) => assert!(Command::new("sh").args(["-c", script, path]).status().unwrap().success()),
        Act::Hold => holder = Some(Holder::of(&Path::new(path).join("store.db"))),
        Act::Release => holder.take().into_iter().for_each(Holder::release),
        Act::Signal(name) => exporter.signal(name),
    };
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

    let began = Instant::now();
    act(case.begin);
    relay.requests(20, "0 s").await;
    let sleeps = matches!(case.begin, Act::Signal(_));
    if sleeps {
        std::thread::sleep(SLEEP);
    } else {
        wait(&exporter, "it is noticed", || {
            let page = read(&exporter);
            assert!(sources_up(&page), "{}: reading goes on\n{}", case.fault, exporter.log());
            stored(&page) == Some(0.0)
        });
    }
    let noticed = began.elapsed();
    relay.requests(20, "0 s").await;
    if !sleeps {
        wait(&exporter, "counting goes on", || counted(&read(&exporter)) == 41.0);
    }
    let ended = Instant::now();
    act(case.end);
    wait(&exporter, "everything is back", || {
        let page = read(&exporter);
        sources_up(&page) && stored(&page) == Some(1.0) && saved(&page) && counted(&page) >= 41.0
    });
    let back = ended.elapsed();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let counted = counted(&read(&exporter));
    Some(Line {
        fault: case.fault.to_owned(),
        store: if sleeps { "–" } else { "its own store (SQLite)" },
        said: if sleeps { "no page" } else { "`llm_relay_store_up` 0" }.to_owned(),
        goes_on: if sleeps { "–" } else { "ledger, live, directory" }.to_owned(),
        noticed: (!sleeps).then_some(noticed),
        back,
        lost: (41.0 - counted).max(0.0) as u64,
        twice: (counted - 41.0).max(0.0) as u64,
    })
}

fn wait(exporter: &Process, what: &str, holds: impl FnMut() -> bool) {
    seen(what, || exporter.log(), holds);
}
