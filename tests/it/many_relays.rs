//! Twelve relays of six kinds in one exporter: eight work, four cannot be read, and nobody waits for anybody.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use llm_relay_exporter::demo::{DemoOptions, HistoryOptions, Pace, SimulatorOptions};
use llm_relay_exporter::relay::demo::set_up;
use llm_relay_exporter::relays::PRODUCTS;

use crate::process::{Page, Process, fallen, total, value};

const SOURCES: [&str; 2] = ["ledger", "directory"];
/// The products that are there twice.
const TWICE: [&str; 2] = ["claude-code-hub", "cpa-manager"];
/// How long the good ones are watched beside the others.
const WATCHED: Duration = Duration::from_secs(6);

fn relay(name: &str, kind: &str, timeout: &str, urls: &[(&str, &str)]) -> String {
    let urls: String = urls.iter().map(|(path, url)| format!("{path} = \"{url}\"\n")).collect();
    format!(
        "[relays.{name}]\nkind = \"{kind}\"\ninterval = \"1s\"\ndirectory_interval = \"1s\"\nstale_after = \"60s\"\ntimeout = \"{timeout}\"\n{urls}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_of_all_kinds_do_not_wait_for_each_other() {
    let options = DemoOptions {
        history: HistoryOptions { days: 3, requests_per_day: 400, ..HistoryOptions::default() },
        simulator: SimulatorOptions { pace: Pace::Steady(10.0), ..SimulatorOptions::default() },
    };
    let environments = set_up(&options, PRODUCTS).await.unwrap();
    assert_eq!(environments.len(), PRODUCTS.len(), "a relay of the demo cannot run here");
    let mut config = String::new();
    let mut good = Vec::new();
    for (product, environment) in &environments {
        let urls: Vec<_> = environment.urls().settings().collect();
        // Some products are there twice, as of two teams.
        let copies = if TWICE.contains(&product.label) { 2 } else { 1 };
        for n in 1..=copies {
            let name = format!("{}-{n}", product.label);
            config += &relay(&name, product.label, "30s", &urls);
            good.push((name, product));
        }
    }
    // One that takes connections and says nothing, two that refuse, one that is not there.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("postgres://u:p@{}/cch?sslmode=disable", silent.local_addr().unwrap());
    let bad = ["silent", "refused", "refused-redis", "missing"];
    config += &relay("silent", "claude-code-hub", "5s", &[("database_url", &silent)]);
    config += &relay("refused", "gemini-balance", "5s", &[("database_url", "mysql://u:p@127.0.0.1:1/default_db")]);
    config += &relay("refused-redis", "claude-relay-service", "5s", &[("redis_url", "redis://127.0.0.1:1/0")]);
    config += &relay("missing", "cpa-manager", "5s", &[("database_url", "sqlite:/nowhere/usage.sqlite")]);

    let exporter = Process::start(&config, &[]);
    let up = |page: &Page, relay: &str| {
        SOURCES
            .iter()
            .all(|source| value(page, "llm_relay_source_up", &[("relay", relay), ("source", source)]) == Some(1.0))
    };
    exporter.until("all good relays are read", |page| {
        good.iter().all(|(name, _)| up(page, name) && total(page, "llm_relay_requests_total", name) > 0.0)
    });
    let before = exporter.page();
    let began = Instant::now();
    while began.elapsed() < WATCHED {
        let page = exporter.page();
        for (name, _) in &good {
            assert!(up(&page, name), "{name} has gone\n{}", exporter.log());
        }
        for name in bad {
            let down = value(&page, "llm_relay_source_up", &[("relay", name), ("source", "directory")]);
            assert_eq!(down, Some(0.0), "{name}");
            assert_eq!(total(&page, "llm_relay_requests_total", name), 0.0);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let requests = |page: &Page, name: &str| total(page, "llm_relay_requests_total", name);
    exporter.until("all good relays go on", |page| {
        good.iter().all(|(name, _)| requests(page, name) > requests(&before, name))
    });
    let after = exporter.page();
    for (name, product) in &good {
        assert_eq!(fallen(&before, &after, name), [""; 0]);
        // A relay that does not know who called has no users of ours.
        let of_users = |(family, labels): &(String, BTreeMap<String, String>)| {
            labels.get("relay") == Some(name)
                && (family.starts_with("llm_relay_user_")
                    || [labels.get("scope"), labels.get("dimension")].contains(&Some(&"user".to_owned())))
        };
        assert_eq!(after.keys().any(of_users), product.understands("boards.top_users"), "{name}");
    }
    // The numbers of two that read the same store are the same team's.
    for kind in TWICE {
        let [one, other] = [1, 2]
            .map(|n| value(&after, "llm_relay_day_start_timestamp_seconds", &[("relay", &format!("{kind}-{n}"))]));
        assert!(one.is_some() && one == other);
    }
    let log = exporter.log();
    let is_of_a_relay = |line: &&str| line.contains("level=warn") || line.contains("history has been read");
    let nameless: Vec<_> = log.lines().filter(is_of_a_relay).filter(|line| !line.contains(" relay=")).collect();
    assert_eq!(nameless, [""; 0]);
    for name in bad {
        assert!(log.contains(&format!(" relay={name}\n")), "{log}");
    }
    drop(exporter);
    for (_, environment) in environments {
        environment.tear_down().await;
    }
}
