//! Counters of a Redis that falls, is reset and holds nonsense, of exporters that are killed and restored, and of replicas:
//! none falls, none counts twice, and the families agree.

use std::net::TcpListener;

use llm_relay_exporter::settings::StorePlan;
use llm_relay_exporter::store::{Checkpointer, Kept, Owner, Store};
use secrecy::ExposeSecret;

use super::*;
use crate::dashboards::prometheus::Prometheus;

/// What an exporter has written down.
fn saved(exporter: &mut Exporter) -> BTreeMap<String, bytes::Bytes> {
    let parts = exporter.metered.parts(true).unwrap().unwrap();
    parts.into_iter().map(|(name, bytes)| (name, bytes.unwrap().get())).collect()
}

fn restored(plan: &RelayPlan, parts: &BTreeMap<String, bytes::Bytes>) -> Exporter {
    let mut exporter = Exporter::open(plan);
    exporter.metered.restore(parts.clone()).unwrap();
    exporter
}

/// Every counter and histogram of the relay.
fn counters(page: &Page) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let is_counter = |name: &str| {
        let of_relay = name.starts_with("llm_relay_") && !name.starts_with("llm_relay_source");
        of_relay && ["_total", "_count", "_bucket"].iter().any(|end| name.ends_with(end)) && !name.contains("queue")
    };
    let of = page.iter().filter(|((name, _), _)| is_counter(name));
    let of = of.filter(|((name, _), _)| !name.contains("exporter") && !name.contains("refresh"));
    of.map(|(series, value)| (series.clone(), *value)).collect()
}

fn none_falls(before: &Page, after: &Page, when: &str) {
    let after = counters(after);
    for (series, value) in counters(before) {
        let now = after.get(&series).copied();
        assert!(now.is_some_and(|now| now >= value), "{when}: {series:?} fell from {value} to {now:?}");
    }
}

fn sum(page: &Page, metric: &str) -> f64 {
    page.iter().filter(|((name, _), _)| name == metric).map(|(_, value)| value).sum()
}

#[tokio::test]
async fn what_is_gone_from_an_older_redis_stays_counted_by_a_restored_exporter() {
    let mut scene = Scene::new(23).await;
    for key in [1, 2] {
        scene.add_key(&key_id(key), &[]).await;
        scene.book(&Usage { requests: 9, ..request(key, 1) }).await;
    }
    scene.page().await;
    let older = Contents::read(&mut scene.admin).await;
    // The last second: a model, a key's first use of it and the account's.
    let new = Usage { model: "new".to_owned(), counted_model: "new".to_owned(), ..request(1, 2) };
    scene.book(&new).await;
    let newest = scene.page().await;
    older.write(&mut scene.admin).await;
    let held = scene.page().await;
    none_falls(&newest, &held, "Redis is older");
    // A restored exporter reads everything at once, and does not find what is gone.
    let parts = saved(&mut scene.exporter);
    scene.exporter = restored(&scene.plan, &parts);
    let after = scene.page().await;
    none_falls(&held, &after, "restored");
    assert_eq!(counters(&held), counters(&after));
    scene.book(&new).await;
    assert_eq!(counters(&scene.page().await), counters(&newest), "the relay has what was shown");
}

#[tokio::test]
async fn one_counter_that_begins_anew_lowers_no_sum() {
    let mut scene = Scene::new(24).await;
    for key in [1, 2] {
        scene.add_key(&key_id(key), &[]).await;
        scene.book(&Usage { requests: 100, cost: 5.0, list_cost: 4.0, ..request(key, 1) }).await;
    }
    let before = scene.page().await;
    scene
        .run(&format!("DEL usage:{0} usage:cost:total:{0} usage:{0}:model:alltime:claude-sonnet-4-5", key_id(1)))
        .await;
    none_falls(&before, &scene.page().await, "gone");
    scene.book(&Usage { requests: 1, cost: 0.25, list_cost: 0.2, ..request(1, 1) }).await;
    let after = scene.page().await;
    none_falls(&before, &after, "begun anew");
    assert_eq!(one(&after, "llm_relay_key_requests_total", &[("key_id", &key_id(1))]), Some(101.0));
    assert_eq!(one(&after, "llm_relay_key_cost_usd_total", &[("key_id", &key_id(1))]), Some(5.25));
    assert_eq!(one(&after, "llm_relay_cost_usd_total", &[]), Some(10.25), "the sum of a model");
}

#[tokio::test]
async fn a_flushed_redis_begins_anew_and_counts_on() {
    let mut scene = Scene::new(25).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.book(&Usage { requests: 50, cost: 5.0, ..request(1, 1) }).await;
    let before = scene.page().await;
    scene.run("FLUSHDB").await;
    none_falls(&before, &scene.page().await, "empty");
    scene.add_key(&key_id(1), &[]).await;
    scene.book(&Usage { requests: 30, cost: 3.0, ..request(1, 1) }).await;
    let after = scene.page().await;
    none_falls(&before, &after, "in use again");
    assert_eq!(one(&after, "llm_relay_key_requests_total", &[]), Some(80.0));
    assert_eq!(one(&after, "llm_relay_requests_total", &[]), Some(80.0));
    assert_eq!(one(&after, "llm_relay_cost_usd_total", &[]), Some(8.0));
}

/// A busy opus is overtaken by a cheap haiku; the budget is full.
#[tokio::test]
async fn which_models_and_keys_have_series_does_not_depend_on_when_an_exporter_started() {
    let mut scene = Scene::new(26).await;
    scene.plan.series.max_models = 3;
    scene.plan.series.max_keys = 2;
    scene.restart();
    let ago = |days| Utc::now() - TimeDelta::days(days);
    for (key, created) in
        [(1, "2026-03-01T00:00:00.000Z"), (2, "2026-01-01T00:00:00.000Z"), (3, "2026-02-01T00:00:00.000Z")]
    {
        scene.add_key(&key_id(key), &[("createdAt", created)]).await;
    }
    let usage = |model: &str, key, requests, at| {
        let model = model.to_owned();
        Usage { counted_model: model.clone(), model, requests, at, cost: 0.5 * requests as f64, ..request(key, 1) }
    };
    for (model, days, requests) in [("sonnet", 40, 5), ("opus", 20, 20), ("gpt", 9, 12), ("haiku", 2, 1)] {
        scene.book(&usage(model, 1, requests, ago(days))).await;
        scene.book(&usage(model, 3, requests + 1, ago(days))).await;
    }
    let first = scene.page().await;
    let models = |page: &Page| values(page, "llm_relay_cost_usd_total", &["model"]).into_keys().collect::<Vec<_>>();
    assert_eq!(models(&first), ["gpt", "opus", "other", "sonnet"]);
    assert_eq!(one(&first, "llm_relay_series_folded", &[("dimension", "model")]), Some(1.0));
    scene.book(&usage("haiku", 2, 130, Utc::now())).await;
    scene.book(&usage("another", 2, 130, Utc::now())).await;
    let after = scene.page().await;
    none_falls(&first, &after, "haiku is the busiest");
    let parts = saved(&mut scene.exporter);
    for (what, mut exporter) in [("fresh", Exporter::open(&scene.plan)), ("restored", restored(&scene.plan, &parts))] {
        let page = exporter.page(&scene.plan).await;
        let of = |page: &Page| {
            let mut all = counters(page);
            all.retain(|(name, _), _| {
                // Money by account is told by records, from the first look on.
                name.contains("cost_usd") && name != "llm_relay_provider_cost_usd_total"
                    || name.contains("requests_total")
                    || name.contains("tokens")
            });
            all
        };
        assert_eq!(of(&page), of(&after), "a {what} exporter");
    }
    let keys = values(&after, "llm_relay_key_requests_total", &["key_id"]);
    assert_eq!(keys.into_keys().collect::<Vec<_>>(), [key_id(2), key_id(3), "other".to_owned()], "the oldest keys");
}

/// Above 50 000 combinations, most of them idle for longer than the relay keeps indexes.
#[tokio::test]
async fn a_restart_finds_what_a_thousand_keys_have_not_used_for_weeks() {
    let mut scene = Scene::new(27).await;
    let day = Offset::default().date(Utc::now()).format("%Y-%m-%d").to_string();
    let month = day[..7].to_owned();
    scene
        .write(|pipe| {
            pipe.set("apikey:index:version", 2);
            for key in 0..1000_u32 {
                let (id, mut requests) = (key_id(key), 0);
                pipe.sadd("apikey:idx:all", &id).hset(format!("apikey:{id}"), "name", "k");
                pipe.sadd(format!("usage:daily:index:{day}"), &id);
                for model in [key % 65, (key * 7 + 1) % 65] {
                    let name = format!("model-{model:02}");
                    pipe.sadd(format!("usage:model:monthly:index:{month}"), &name);
                    // Some pairs are in an index.
                    if key % 10 == 0 {
                        pipe.sadd(format!("usage:keymodel:daily:index:{day}"), format!("{id}:{name}"));
                    }
                    let totals = format!("usage:{id}:model:alltime:{name}");
                    pipe.hincr(&totals, "requests", 3).hincr(&totals, "ratedCostMicro", 250_000);
                    requests += 3;
                }
                pipe.hset(format!("usage:{id}"), "totalRequests", requests);
            }
            pipe.hset("usage:global:total", "requests", 6000);
        })
        .await;
    let page = scene.page().await;
    assert_eq!(values(&page, "llm_relay_cost_usd_total", &["model"]).len(), 65);
    assert!(
        (sum(&page, "llm_relay_cost_usd_total") - 500.0).abs() < 1e-6,
        "{}",
        sum(&page, "llm_relay_cost_usd_total")
    );
    let parts = saved(&mut scene.exporter);
    scene.exporter = restored(&scene.plan, &parts);
    assert_eq!(counters(&scene.page().await), counters(&page));
}

#[tokio::test]
async fn accounts_that_have_not_used_a_model_for_weeks_are_found_again() {
    let mut scene = Scene::new(28).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.add_account("claude:account:index", "claude:account:", &account_id(1), &[]).await;
    let now = Offset::default().local(Utc::now());
    scene.book(&Usage { requests: 7, ..request(1, 1) }).await;
    let before = scene.page().await;
    // As if 32 days had passed.
    let keys: Vec<String> = cmd("KEYS").arg("*:daily:index:*").query_async(&mut scene.admin).await.unwrap();
    cmd("DEL").arg(keys).exec_async(&mut scene.admin).await.unwrap();
    scene.restart();
    none_falls(&before, &scene.page().await, &format!("restarted in month {}", now.month()));
}

async fn fail(scene: &mut Scene, count: usize) {
    let account = account_id(1);
    for _ in 0..count {
        scene.write(|pipe| simulated::fail(pipe, "claude-official", &account, 529, "overload")).await;
    }
}

fn events(page: &Page) -> (f64, f64, f64) {
    let failures = one(page, "llm_relay_failures_total", &[("class", "overloaded")]).unwrap();
    let durations = sum(page, "llm_relay_request_duration_seconds_count");
    (failures, durations, one(page, "llm_relay_requests_missed_total", &[]).unwrap())
}

async fn scene_with_an_account(number: u32) -> Scene {
    let mut scene = Scene::new(number).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.add_account("claude:account:index", "claude:account:", &account_id(1), &[]).await;
    scene
}

#[tokio::test]
async fn every_class_of_failures_is_0_before_its_first() {
    let mut scene = scene_with_an_account(29).await;
    fail(&mut scene, 3).await;
    let page = scene.page().await;
    let failures = values(&page, "llm_relay_failures_total", &["provider_id", "class"]);
    let classes = ["auth", "overloaded", "rate_limited", "server", "timeout"];
    assert_eq!(failures, classes.iter().map(|class| (format!("{} {class}", account_id(1)), 0.0)).collect());
    fail(&mut scene, 2).await;
    assert_eq!(events(&scene.page().await).0, 2.0);
}

#[tokio::test]
async fn a_release_that_keeps_no_errors_has_no_failures_until_it_is_upgraded() {
    let mut scene = Scene::new(46).await;
    scene.run("SET system:migrated:version 1.1.280").await;
    scene.add_account("claude:account:index", "claude:account:", &account_id(1), &[]).await;
    let failures = |page: &Page| values(page, "llm_relay_failures_total", &["class"]);
    assert_eq!(failures(&scene.page().await).len(), 0);
    scene.run("SET system:migrated:version 1.1.314").await;
    assert_eq!(failures(&scene.page().await).into_values().collect::<Vec<_>>(), [0.0; 5]);
    fail(&mut scene, 2).await;
    assert_eq!(failures(&scene.page().await)["overloaded"], 2.0);
}

fn keep(url: &str) -> Store {
    Store::open(&StorePlan { save_interval: Duration::ZERO, ..StorePlan::new(url.to_owned()) }).unwrap()
}

fn owner(plan: &RelayPlan) -> Owner {
    Owner { relay: plan.name.clone(), kind: plan.product.label }
}

async fn tick_until_saved(saving: &mut Checkpointer, exporter: &mut Exporter) {
    let before = saving.status().last_save;
    for _ in 0..2000 {
        saving.tick(&mut exporter.metered, true).await;
        if saving.status().last_save > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing was saved: {:?}", saving.status());
}

#[tokio::test]
async fn a_restart_counts_the_events_that_happened_meanwhile_and_none_twice() {
    let mut scene = scene_with_an_account(30).await;
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("store.db").display());
    let mut saving = Checkpointer::start(keep(&url), owner(&scene.plan), &mut scene.exporter.metered).await.unwrap();
    scene.page().await;
    fail(&mut scene, 3).await;
    scene.book(&request(1, 1)).await;
    assert_eq!(events(&scene.page().await), (3.0, 1.0, 0.0));
    tick_until_saved(&mut saving, &mut scene.exporter).await;
    // After the last save: Redis still has it when the next process looks.
    fail(&mut scene, 1).await;
    let before = scene.page().await;
    drop(saving);
    fail(&mut scene, 2).await;
    for _ in 0..230 {
        scene.book(&request(1, 1)).await;
    }
    scene.restart();
    let mut saving = Checkpointer::start(keep(&url), owner(&scene.plan), &mut scene.exporter.metered).await.unwrap();
    let after = scene.page().await;
    none_falls(&before, &after, "killed");
    assert_eq!(events(&after), (6.0, 201.0, 30.0));
    tick_until_saved(&mut saving, &mut scene.exporter).await;
    saving.finish(&mut scene.exporter.metered).await;
    scene.restart();
    Checkpointer::start(keep(&url), owner(&scene.plan), &mut scene.exporter.metered).await.unwrap();
    assert_eq!(counters(&scene.page().await), counters(&after), "restarted");
}

/// A user of its own, so that what is taken from it is taken from no other test.
async fn with_a_user_of_its_own(scene: &mut Scene, name: &str) {
    scene.run(&format!("ACL SETUSER {name} on >planted-secret ~* +@all")).await;
    let url = scene.plan.redis_url.as_ref().unwrap().expose_secret().replace("llm_relay_exporter", name);
    scene.plan.redis_url = Some(url.into());
    scene.restart();
}

#[tokio::test]
async fn what_a_reading_that_failed_has_taken_is_told_after_a_restart() {
    let mut scene = scene_with_an_account(47).await;
    with_a_user_of_its_own(&mut scene, "half").await;
    scene.book(&request(1, 1)).await;
    scene.page().await;
    fail(&mut scene, 3).await;
    for _ in 0..2 {
        scene.book(&request(1, 1)).await;
    }
    scene.run("ACL SETUSER half -ttl").await;
    let directory = scene.exporter.directory.read().await.unwrap();
    for _ in 0..2 {
        // In its middle: records have been taken, nothing is told.
        scene.exporter.metered.refresh(&directory).await.unwrap_err();
    }
    let parts = saved(&mut scene.exporter);
    scene.exporter = restored(&scene.plan, &parts);
    scene.run("ACL SETUSER half +ttl").await;
    for _ in 0..2 {
        let page = scene.page().await;
        assert_eq!(events(&page), (3.0, 2.0, 0.0));
        assert_eq!(sum(&page, "llm_relay_provider_cost_usd_total"), 0.024);
        assert_eq!(sum(&page, "llm_relay_key_requests_total"), 3.0);
        let parts = saved(&mut scene.exporter);
        scene.exporter = restored(&scene.plan, &parts);
    }
}

/// As after a change of settings while the exporter runs.
fn reopen(scene: &mut Scene) {
    let Relay { usage: relay::Usage::Counters(counters), live, directory } = relay::open(&scene.plan).unwrap() else {
        panic!("it keeps counters")
    };
    let before = std::mem::replace(&mut scene.exporter, Exporter::open(&scene.plan));
    scene.exporter = Exporter { metered: before.metered.reopened(counters), live: live.unwrap(), directory };
}

#[tokio::test]
async fn a_reload_takes_nothing_away_until_all_is_read_again() {
    let mut scene = scene_with_an_account(48).await;
    with_a_user_of_its_own(&mut scene, "again").await;
    for _ in 0..5 {
        scene.book(&request(1, 1)).await;
    }
    for _ in 0..4 {
        scene.page().await;
    }
    // A password that was rotated. While the relay rests, only reading all again needs the command that is taken.
    scene.run("ACL SETUSER again >rotated").await;
    let url = scene.plan.redis_url.as_ref().unwrap().expose_secret().replace("planted-secret", "rotated");
    scene.plan.redis_url = Some(url.into());
    let directory = scene.exporter.directory.read().await.unwrap();
    scene.run("ACL SETUSER again -smembers").await;
    reopen(&mut scene);
    scene.exporter.metered.refresh(&directory).await.unwrap();
    let with = Presentation {
        directory: Some(&directory),
        live: None,
        boards: &scene.plan.boards,
        series: &scene.plan.series,
    };
    let view = scene.exporter.metered.view(&with).unwrap();
    assert_eq!((view.history_loaded, view.days[0].0, view.days[0].1.requests), (1.0, "today", 5));
    assert!(view.counters.is_some() && !view.boards.is_empty());
    // Days that begin at another hour are read anew.
    scene.plan.own.set("timezone_offset", OwnValue::Text("1".to_owned()));
    reopen(&mut scene);
    scene.exporter.metered.refresh(&directory).await.unwrap_err();
    scene.run("ACL SETUSER again +smembers").await;
    scene.book(&request(1, 1)).await;
    assert_eq!(sum(&scene.page().await, "llm_relay_key_requests_total"), 6.0);
}

#[tokio::test]
async fn replicas_on_one_store_show_the_same_and_one_takes_over() {
    let mut scene = scene_with_an_account(31).await;
    let url = crate::store::server().await.database("crs_store").await.unwrap();
    let store = keep(&url);
    let mut saving = Checkpointer::start(store.clone(), owner(&scene.plan), &mut scene.exporter.metered).await.unwrap();
    scene.page().await;
    fail(&mut scene, 2).await;
    scene.book(&request(1, 1)).await;
    scene.page().await;
    tick_until_saved(&mut saving, &mut scene.exporter).await;
    // The other one starts later, and reads what has been counted.
    let mut other = Exporter::open(&scene.plan);
    let mut others = Checkpointer::start(keep(&url), owner(&scene.plan), &mut other.metered).await.unwrap();
    fail(&mut scene, 1).await;
    scene.book(&request(1, 1)).await;
    let page = scene.page().await;
    assert_eq!(counters(&other.page(&scene.plan).await), counters(&page));
    assert_eq!(events(&page), (3.0, 2.0, 0.0));
    // The first dies. Whoever cannot read the relay has an older state than it had, and leaves it in the store.
    drop(saving);
    store.close().await;
    for _ in 0..20 {
        others.tick(&mut other.metered, false).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!others.status().writer && others.status().last_save.is_none());
    fail(&mut scene, 1).await;
    assert_eq!(events(&other.page(&scene.plan).await), (4.0, 2.0, 0.0));
    tick_until_saved(&mut others, &mut other).await;
    assert!(others.status().writer);
    scene.restart();
    Checkpointer::start(keep(&url), owner(&scene.plan), &mut scene.exporter.metered).await.unwrap();
    assert_eq!(events(&scene.page().await), (4.0, 2.0, 0.0));
}

#[tokio::test]
async fn check_says_what_the_store_has_of_it() {
    let mut scene = scene_with_an_account(32).await;
    let directory = tempfile::tempdir().unwrap();
    let store = StorePlan::new(format!("sqlite:{}", directory.path().join("store.db").display()));
    let plan = |store| Plan { relays: BTreeMap::from([("crs".to_owned(), scene.plan.clone())]), store };
    let (with, without) = (plan(Some(store.clone())), plan(None));
    assert!(!check::store(&without).await.to_string().contains("ledger"));
    let mut saving = Checkpointer::start(Store::open(&store).unwrap(), owner(&scene.plan), &mut scene.exporter.metered)
        .await
        .unwrap();
    scene.page().await;
    tick_until_saved(&mut saving, &mut scene.exporter).await;
    let report = check::store(&with).await.to_string();
    assert!(report.contains("of crs: 4 parts"), "{report}");
}

/// Random histories: traffic, a Redis that comes back older, resets, nonsense, deleted keys; exporters that are killed and
/// restored. One that lives through it all, and what was written down of it, show the same.
#[tokio::test]
async fn random_falls_resets_nonsense_and_kills_lower_nothing() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7_u64);
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new(33).await;
    for key in 0..4 {
        scene.add_key(&key_id(key), &[]).await;
    }
    for account in 0..2 {
        scene.add_account("claude:account:index", "claude:account:", &account_id(account), &[]).await;
    }
    let mut last = scene.page().await;
    let mut older = Contents::read(&mut scene.admin).await;
    let mut spoilt: Option<(String, String)> = None;
    // Requests since the dump, and those that were lost with it, each of $0.012.
    let (mut newer, mut lost) = (0.0, 0.0);
    for step in 0..120 {
        let action = random.random_range(0..12);
        match action {
            0 => {
                older.write(&mut scene.admin).await;
                spoilt = None;
                lost += newer;
                newer = 0.0;
            }
            1 if step % 3 == 0 => {
                let keys: Vec<String> = cmd("KEYS").arg("usage:*").query_async(&mut scene.admin).await.unwrap();
                if !keys.is_empty() {
                    cmd("DEL").arg(keys).exec_async(&mut scene.admin).await.unwrap();
                }
                spoilt = None;
            }
            2 => {
                let id = key_id(random.random_range(0..4));
                let nonsense = ["-7", "12.0", "NaN", "many"][random.random_range(0..4)];
                let of = format!("usage:{id}");
                let good: Option<String> =
                    cmd("HGET").arg(&of).arg("totalRequests").query_async(&mut scene.admin).await.unwrap();
                if let (Some(good), None) = (good, &spoilt) {
                    scene.run(&format!("HSET {of} totalRequests {nonsense}")).await;
                    spoilt = Some((of, good));
                }
            }
            3 => {
                let parts = saved(&mut scene.exporter);
                scene.exporter = restored(&scene.plan, &parts);
            }
            4 if step > 60 => {
                let id = key_id(3);
                scene.run(&format!("SREM apikey:idx:all {id}")).await;
                scene.run(&format!("DEL apikey:{id} usage:cost:total:{id} usage:cost:real:total:{id}")).await;
            }
            5 if spoilt.is_none() => {
                older = Contents::read(&mut scene.admin).await;
                newer = 0.0;
            }
            _ => {
                if let Some((of, good)) = spoilt.take() {
                    scene.run(&format!("HSET {of} totalRequests {good}")).await;
                }
                for _ in 0..random.random_range(1..5) {
                    let model = format!("m{}", random.random_range(0..3));
                    let usage = Usage {
                        counted_model: model.clone(),
                        model,
                        ..request(random.random_range(0..if step > 60 { 3 } else { 4 }), 0)
                    };
                    let account = Some(account_id(random.random_range(0..2)));
                    scene.book(&Usage { account, requests: random.random_range(1..9), ..usage }).await;
                    newer += 1.0;
                }
                fail(&mut scene, random.random_range(0..2)).await;
            }
        }
        let page = scene.page().await;
        none_falls(&last, &page, &format!("seed {seed}, step {step}, action {action}"));
        // What each counter waits for is at most what was lost.
        let apart = sum(&page, "llm_relay_key_cost_usd_total") - sum(&page, "llm_relay_cost_usd_total");
        assert!(apart.abs() <= lost * 0.012 + 1e-9, "seed {seed}, step {step}: keys and models are ${apart} apart");
        let parts = saved(&mut scene.exporter);
        let again = restored(&scene.plan, &parts).page(&scene.plan).await;
        assert_eq!(counters(&again), counters(&page), "seed {seed}, step {step}: a restored exporter");
        last = page;
    }
}

/// The increase that a real Prometheus sees: what was spent, not what was lost and found again.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_no_spending_in_a_redis_that_falls_or_an_exporter_that_restarts() {
    let mut scene = scene_with_an_account(34).await;
    scene.plan.series.max_models = 1;
    let pay = |model: &str, cost| {
        let model = model.to_owned();
        Usage { counted_model: model.clone(), model, cost, list_cost: cost, ..request(1, 1) }
    };
    scene.book(&Usage { requests: 2, ..pay("opus", 1000.0) }).await;
    scene.book(&pay("haiku", 2.5)).await;
    let directory = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = StorePlan {
        save_interval: Duration::from_secs(1),
        ..StorePlan::new(format!("sqlite:{}", directory.path().join("store.db").display()))
    };
    let plan = Plan { relays: BTreeMap::from([("crs".to_owned(), scene.plan.clone())]), store: Some(store) };
    let start = || {
        let (plan, stop) = (plan.clone(), CancellationToken::new());
        let (protection, stopped) = (Protection::load(None).unwrap(), stop.clone());
        let listener = TcpListener::bind(address).unwrap();
        (stop, tokio::spawn(async move { serve::run(&plan, listener, "/metrics", protection, stopped).await }))
    };
    let (stop, serving) = start();
    let prometheus = tokio::task::block_in_place(|| Prometheus::scraping(address, ""));
    let ask = |expr: &str| -> Option<f64> { tokio::task::block_in_place(|| prometheus.number(expr)) };
    let until = async |expr: &str, expected: f64| {
        for _ in 0..150 {
            if ask(expr).is_some_and(|value| (value - expected).abs() < 1e-6) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{expr} is {:?}, not {expected}", ask(expr));
    };
    let key = "sum(llm_relay_key_cost_usd_total)";
    until(key, 1002.5).await;
    fail(&mut scene, 0).await;
    let older = Contents::read(&mut scene.admin).await;
    scene.book(&pay("haiku", 2.0)).await;
    until(key, 1004.5).await;
    older.write(&mut scene.admin).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Haiku becomes the busiest, and the exporter restarts.
    scene.book(&Usage { requests: 50, ..pay("haiku", 3.0) }).await;
    until(key, 1005.5).await;
    fail(&mut scene, 4).await;
    until("sum(llm_relay_failures_total)", 4.0).await;
    stop.cancel();
    serving.await.unwrap().unwrap();
    let (stop, serving) = start();
    scene.book(&pay("haiku", 0.5)).await;
    until(key, 1006.0).await;
    scene.run("FLUSHDB").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.book(&pay("opus", 0.25)).await;
    until(key, 1006.25).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // `increase` extrapolates to the ends of its range by at most a little over what there is.
    for metric in ["llm_relay_key_cost_usd_total", "llm_relay_cost_usd_total"] {
        let seen = ask(&format!("sum(increase({metric}[5m]))")).unwrap();
        assert!((3.7..7.0).contains(&seen), "{metric} increased by {seen}, true are 3.75");
        assert_eq!(ask(&format!("sum(resets({metric}[5m]))")), Some(0.0), "{metric}");
    }
    let failures = ask("sum(increase(llm_relay_failures_total[5m]))").unwrap();
    assert!((3.9..8.0).contains(&failures), "{failures} failures, true are 4");
    stop.cancel();
    serving.await.unwrap().unwrap();
}
