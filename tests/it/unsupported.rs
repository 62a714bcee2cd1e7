//! Every metric of the catalogue is told by a relay or it is not, and the documentation says which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use llm_relay_exporter::demo::{DemoOptions, HistoryOptions, Pace, SimulatorOptions};
use llm_relay_exporter::metrics::{self, CATALOGUE, Metric};
use llm_relay_exporter::relay::Product;
use llm_relay_exporter::relay::demo::set_up;
use llm_relay_exporter::relay::unsupported::{unsupported_reason, unsupported_scopes};
use llm_relay_exporter::relays::PRODUCTS;
use llm_relay_exporter::servers::redis_connection;
use redis::AsyncCommands;
use secrecy::ExposeSecret;

use crate::process::{Page, Process};
use crate::{generated, probe};

/// What a relay may tell, and the demo's cannot.
const NOT_IN_THE_DEMO: [&str; 3] =
    ["llm_relay_replica_lag_seconds", "llm_relay_rate_limit_tokens", "llm_relay_rate_limit_used_tokens"];

fn of_relays() -> impl Iterator<Item = &'static Metric> {
    CATALOGUE.iter().filter(|metric| metric.is_of_relay())
}

/// The names of the metrics with samples, by relay.
fn told_on(page: &Page) -> BTreeMap<&str, BTreeSet<&'static str>> {
    let sample = |metric: &'static Metric| {
        let suffix = if metric.kind == metrics::MetricType::Histogram { "_count" } else { "" };
        (format!("{}{suffix}", metric.name), metric.name)
    };
    let names: BTreeMap<_, _> = of_relays().map(sample).collect();
    let mut told: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (name, labels) in page.keys() {
        if let (Some(metric), Some(relay)) = (names.get(name), labels.get("relay")) {
            told.entry(&**relay).or_default().insert(*metric);
        }
    }
    told
}

fn tellable(product: &Product) -> BTreeSet<&'static str> {
    of_relays()
        .map(|metric| metric.name)
        .filter(|name| unsupported_reason(product.unsupported, name).is_none())
        .collect()
}

/// The samples of this relay that have a scope which it does not support.
fn of_unsupported_scopes<'a>(page: &'a Page, product: &'static Product) -> Vec<&'a (String, BTreeMap<String, String>)> {
    let unsupported = |(name, labels): &&(String, BTreeMap<String, String>)| {
        let is = |scope: &str| ["scope", "dimension"].iter().any(|it| labels.get(*it).is_some_and(|it| it == scope));
        labels.get("relay").is_some_and(|relay| relay == product.label)
            && unsupported_scopes(product.unsupported, name).any(|(scope, _)| is(scope.label()))
    };
    page.keys().filter(unsupported).collect()
}

#[test]
fn every_reason_is_of_a_metric_and_every_metric_has_one_reason_at_most() {
    for product in PRODUCTS {
        let mut seen = BTreeSet::new();
        for it in product.unsupported {
            assert!(!it.why.is_empty() && (!it.metrics.is_empty() || it.scopes.is_some()));
            for name in it.metrics {
                let one = [llm_relay_exporter::relay::Unsupported::metrics(it.why, std::slice::from_ref(name))];
                let mut named = of_relays().filter(|metric| unsupported_reason(&one, metric.name).is_some()).peekable();
                assert!(named.peek().is_some(), "{name} is no metric");
                named.for_each(|metric| assert!(seen.insert(metric.name), "{}: {} twice", product.label, metric.name));
            }
        }
    }
}

fn kinds_with<'a>(page: &'a Page, label: &str, value: &str) -> Vec<&'a str> {
    let is_so = |name: &str, labels: &BTreeMap<String, String>| name == "llm_relay_info" && labels[label] == value;
    page.keys().filter(|(name, labels)| is_so(name, labels)).map(|(_, labels)| &*labels["kind"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_with_traffic_tell_all_that_the_table_says() {
    let options = DemoOptions {
        history: HistoryOptions { days: 40, requests_per_day: 300, ..HistoryOptions::default() },
        simulator: SimulatorOptions {
            pace: Pace::Steady(20.0),
            trouble_period: Duration::from_secs(10),
            ..SimulatorOptions::default()
        },
    };
    let environments = set_up(&options, PRODUCTS).await.unwrap();
    assert_eq!(environments.len(), PRODUCTS.len(), "a relay of the demo cannot run here");
    let folder = tempfile::tempdir().unwrap();
    let mut config = format!("[store]\nurl = \"sqlite:{}\"\n", folder.path().join("store.db").display());
    let health = probe::Server::start().await;
    for (product, environment) in &environments {
        let name = product.label;
        let health_url = health.url(product.health_path);
        writeln!(config, "[relays.{name}]\nkind = \"{name}\"\ninterval = \"1s\"\nhealth_url = \"{health_url}\"")
            .unwrap();
        for (path, url) in environment.urls().settings() {
            writeln!(config, "{path} = \"{url}\"").unwrap();
        }
        if let Some(url) = &environment.urls().redis_url {
            rare_events(product, url.expose_secret()).await;
        }
    }
    let exporter = Process::start(&config, &[]);
    let began = Instant::now();
    let mut told_by: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    loop {
        let page = exporter.page();
        let mut told_now = told_on(&page);
        let missing: BTreeMap<_, Vec<_>> = PRODUCTS
            .iter()
            .map(|product| {
                let (told, tellable) = (told_by.entry(product.label).or_default(), tellable(product));
                told.extend(told_now.remove(product.label).unwrap_or_default());
                assert!(told.is_subset(&tellable), "{}: {:?}", product.label, told.difference(&tellable));
                let unsupported = of_unsupported_scopes(&page, product);
                assert!(unsupported.is_empty(), "{}: {:?}", product.label, unsupported[0]);
                (
                    product.label,
                    tellable.difference(told).copied().filter(|name| !NOT_IN_THE_DEMO.contains(name)).collect(),
                )
            })
            .filter(|(_, missing): &(_, Vec<&str>)| !missing.is_empty())
            .collect();
        if missing.is_empty() {
            // What the alerts know of their kinds.
            assert_eq!(kinds_with(&page, "counts", "attempts"), ["cpa-manager", "gemini-balance", "new-api"]);
            assert_eq!(kinds_with(&page, "states", "checks"), ["litellm"]);
            break;
        }
        assert!(began.elapsed().as_secs() < 240, "not told: {missing:#?}\n{}", exporter.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    drop(exporter);
    for (_, environment) in environments {
        environment.tear_down().await;
    }
}

/// What a demo may take long to do, or never does.
async fn rare_events(product: &Product, redis_url: &str) {
    let mut redis = redis_connection(redis_url).await.unwrap();
    let now = Utc::now();
    let mut pipe = redis::pipe();
    if product.label == "claude-code-hub" {
        let open =
            [("circuitState", "open".to_owned()), ("circuitOpenUntil", (now.timestamp_millis() + 600_000).to_string())];
        pipe.hset_multiple("circuit_breaker:state:1", &open);
    } else if product.label == "claude-relay-service" {
        pipe.hset("claude_console_account:console", "maxConcurrentTasks", 4);
        for id in redis.smembers::<_, Vec<String>>("apikey:idx:all").await.unwrap() {
            pipe.hset(format!("apikey:{id}"), "expiresAt", (now + TimeDelta::days(30)).to_rfc3339());
            pipe.set(format!("rate_limit:window_start:{id}"), now.timestamp_millis());
            pipe.set(format!("concurrency:queue:{id}"), 1).hset(format!("concurrency:queue:stats:{id}"), "entered", 9);
        }
    } else {
        return;
    }
    pipe.exec_async(&mut redis).await.unwrap();
}

#[test]
fn the_documented_table_is_the_one_in_the_code() {
    generated::Part::of("docs/relays.md", "metrics by relay").hold(&metrics::docs::relay_table());
}
