//! A full disk under the exporter's own store.

use std::process::Command;
use std::time::Duration;

use super::{Line, PATIENCE, STALE_AFTER};
use crate::claude_code_hub::{Store, redis_server};
use crate::process::{Page, Process, fallen, total, value};

/// A file system of the process's own, where the kernel allows that; seen from outside through `/proc`.
const WRAP: &str = "mount -t tmpfs -o size=3m tmpfs \"$0\" && exec \"$@\"";

/// `None` where this machine does not allow that.
pub async fn full_disk() -> Option<Line> {
    let name = "fault_own".to_owned();
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
    if !Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success()) {
        return None;
    }
    let exporter = Process::under(&wrapper, &config, &[]);
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

    let began = std::time::Instant::now();
    // What it tries to write next is more than what is left.
    Command::new("sh").args(["-c", "cat /dev/zero > \"$0\" 2>/dev/null", &filler]).status().unwrap();
    for _ in 0..20 {
        request(&mut relay).await;
    }
    wait(&exporter, "it is noticed", || {
        let page = read(&exporter);
        assert!(sources_up(&page), "reading goes on");
        stored(&page) == Some(0.0)
    });
    let noticed = began.elapsed();
    for _ in 0..20 {
        request(&mut relay).await;
    }
    let ended = std::time::Instant::now();
    std::fs::remove_file(&filler).unwrap();
    wait(&exporter, "everything is back", || {
        let page = read(&exporter);
        sources_up(&page) && stored(&page) == Some(1.0) && saved(&page) && counted(&page) >= 41.0
    });
    let back = ended.elapsed();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let counted = counted(&read(&exporter));
    Some(Line {
        fault: "the disk is full".to_owned(),
        store: "its own store (SQLite)",
        said: "`llm_relay_store_up` 0".to_owned(),
        goes_on: "ledger, live, directory".to_owned(),
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
