//! CPA-Manager and CPA-Manager-Plus: the traps of their file one by one, and their numbers against plain SQL.

mod demo;
mod differential;
mod quotas;
pub mod relay;

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use llm_relay_exporter::check;
use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::model::{AccountState, Directory, Reason};
use llm_relay_exporter::relay::{RefreshRequest, Usage};
use llm_relay_exporter::relays::cpa_manager::{Level, key_id, provider_id};
use llm_relay_exporter::settings::{self};
use llm_relay_exporter::view::{CountersView, DayView, LedgerView};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use relay::{Event, Relay, hash_of, read_all, view};

fn noon() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 9, 16, 4, 0, 0).unwrap()
}

async fn shanghai(level: Level) -> Relay {
    Relay::new(level, "Asia/Shanghai", noon()).await
}

async fn directory(relay: &Relay) -> Directory {
    relay.open().directory.read().await.unwrap()
}

async fn looked_at(follower: &mut Follower, relay: &Relay) -> LedgerView {
    read_all(follower).await;
    view(follower, &relay.plan, &directory(relay).await)
}

fn today(view: &LedgerView) -> &DayView {
    &view.days.iter().find(|(day, _)| *day == "today").unwrap().1
}

fn counters(view: &LedgerView) -> &CountersView {
    view.counters.as_ref().unwrap()
}

fn requests(view: &LedgerView) -> u64 {
    counters(view).traffic.iter().flat_map(|it| it.requests).sum()
}

fn cost(view: &LedgerView) -> f64 {
    counters(view).traffic.iter().filter_map(|it| it.cost_usd).sum()
}

#[tokio::test]
async fn each_generation_is_told_by_its_columns_and_says_what_it_has() {
    for level in Level::ALL {
        let mut relay = shanghai(level).await;
        relay.insert(&Event { failed: true, status: Some(429), ..Event::default() }).await;
        let mut follower = relay.follower();
        let view = looked_at(&mut follower, &relay).await;
        let failures: Vec<_> = counters(&view).failures.iter().map(|(_, class, count)| (*class, *count)).collect();
        let latency = &counters(&view).latency[0];
        assert_eq!((latency.duration.count(), today(&view).requests), (1, 1));
        if level == Level::Plus {
            assert_eq!((failures, latency.ttft.count()), (vec![("rate_limited", 1)], 1));
        } else {
            // No status, no first token: a failure of unknown kind, and no observation rather than one of 0 s.
            assert_eq!((failures, latency.ttft.count()), (vec![("unknown", 1)], 0));
        }
        assert_eq!(directory(&relay).await.version, level.label());
    }
}

#[tokio::test]
async fn a_file_of_something_else_is_refused_with_a_reason() {
    let mut relay = shanghai(Level::First).await;
    relay.run("drop table usage_events").await;
    let error = relay.follower().refresh().await.unwrap_err();
    assert_eq!(error.reason, Reason::Schema);
    assert!(error.text.contains("usage.sqlite"), "{}", error.text);
}

#[tokio::test]
async fn an_upgrade_in_place_is_noticed() {
    let mut relay = shanghai(Level::First).await;
    relay.insert(&Event::default()).await;
    let mut follower = relay.follower();
    assert_eq!(today(&looked_at(&mut follower, &relay).await).requests, 1);
    relay.run(include_str!("../../src/relays/cpa_manager/least_schema/0002_v1.3.sql")).await;
    relay.run(include_str!("../../src/relays/cpa_manager/least_schema/0003_plus.sql")).await;
    relay.level = Level::Plus;
    // What only the new columns tell is told of the first row that has them, and nothing is counted twice.
    relay.insert(&Event { failed: true, status: Some(404), ..Event::default() }).await;
    let view = looked_at(&mut follower, &relay).await;
    assert_eq!(today(&view).requests, 2);
    let outcomes = counters(&view).traffic.iter().map(|it| it.requests);
    assert_eq!(outcomes.fold([0; 3], |all, it| std::array::from_fn(|n| all[n] + it[n])), [1, 0, 1]);
    assert_eq!(directory(&relay).await.version, Level::Plus.label());
}

/// The manager masks names by bytes: a Chinese name is cut within a character.
#[tokio::test]
async fn a_name_that_was_cut_within_a_character_loses_no_row() {
    let mut relay = shanghai(Level::Plus).await;
    relay.insert(&Event::default()).await;
    relay.insert(&Event { auth_index: String::new(), ..Event::default() }).await;
    relay
        .run(
            "update usage_events set source = cast(x'6d3ae58f' as text), provider = cast(x'e58fb0e5' as text),
               model = cast(x'67707499' as text), resolved_model = cast(x'ff' as text)",
        )
        .await;
    let mut follower = relay.follower();
    let view = looked_at(&mut follower, &relay).await;
    assert_eq!(requests(&view), 2);
    assert_eq!(counters(&view).traffic[0].model, "gpt\u{fffd}");
    assert!(directory(&relay).await.providers.iter().all(|provider| provider.kind == "台\u{fffd}"));
}

/// Streams are recorded when they end, under the time of their start.
#[tokio::test]
async fn starts_out_of_the_order_of_ids_are_all_counted_in_their_windows() {
    let mut relay = shanghai(Level::Plus).await;
    let mut follower = relay.follower();
    read_all(&mut follower).await;
    for (ago, recorded) in [(10_000, 1000), (1_800_000, 1_795_000), (5000, 900), (59_000, 58_000)] {
        relay.insert(&Event { ago_ms: ago, recorded_after_ms: recorded, ..Event::default() }).await;
        read_all(&mut follower).await;
    }
    let view = looked_at(&mut follower, &relay).await;
    assert_eq!(view.requests_last_minute, Some(3.0));
    assert_eq!(view.windows.iter().map(|(_, sums)| sums[0]).collect::<Vec<_>>(), [3, 4, 4, 4, 4]);
    assert_eq!(requests(&view), 4);
}

#[tokio::test]
async fn imports_belong_to_their_day_and_to_no_live_counter() {
    let mut relay = shanghai(Level::Plus).await;
    relay.price("gpt-5-codex", 1.0, 1.0, 0.0).await;
    let mut follower = relay.follower();
    relay.insert(&Event::default()).await;
    let before = looked_at(&mut follower, &relay).await;
    let hour = 3_600_000;
    for (recorded_after_ms, ago_ms) in [(hour - 1, hour), (hour, hour), (9 * hour, 9 * hour)] {
        relay.insert(&Event { ago_ms, recorded_after_ms, ..Event::default() }).await;
    }
    let after = looked_at(&mut follower, &relay).await;
    assert_eq!((today(&before).requests, today(&after).requests), (1, 4));
    assert_eq!((requests(&before), requests(&after)), (1, 2));
    assert_eq!((counters(&before).imported, counters(&after).imported), (Some(0), Some(2)));
    assert!((cost(&after) - 2.0 * cost(&before)).abs() < 1e-12);
    // A new exporter, which reads them all as history, says the same.
    let fresh = looked_at(&mut relay.follower(), &relay).await;
    assert_eq!((requests(&fresh), counters(&fresh).imported), (2, Some(2)));
}

/// An import of more rows than are read at once lies on top of today's requests.
#[tokio::test]
async fn a_large_import_is_not_taken_for_the_end_of_today() {
    let mut relay = shanghai(Level::First).await;
    relay.insert(&Event::default()).await;
    let month_ago = (noon() - TimeDelta::days(30)).timestamp_millis();
    relay
        .run(&format!(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 25000)
             insert into usage_events (event_hash, timestamp_ms, timestamp, model, created_at_ms)
             select 'import ' || i, {month_ago} - i, '', 'gpt-5', {} from n",
            noon().timestamp_millis()
        ))
        .await;
    let mut follower = relay.follower();
    let mut rest = follower.refresh().await.unwrap();
    let mut looked = 0;
    while rest != Backlog::Nothing {
        rest = if rest == Backlog::NewRows { follower.refresh().await } else { follower.read_history().await }.unwrap();
        let view = view(&mut follower, &relay.plan, &Directory::default());
        // Absent until it is true.
        if let Some((_, today)) = view.days.iter().find(|(day, _)| *day == "today") {
            assert_eq!(today.requests, 1);
            looked += 1;
        }
    }
    assert!(looked > 0);
}

#[tokio::test]
async fn a_price_is_that_of_its_time_in_counters_and_that_of_now_on_screens() {
    let mut relay = shanghai(Level::Plus).await;
    let mut follower = relay.follower();
    let event = Event { input: 1_000_000, output: 0, cached: 0, ..Event::default() };
    relay.insert(&event).await;
    let unpriced = looked_at(&mut follower, &relay).await;
    assert_eq!((cost(&unpriced), today(&unpriced).cost_usd), (0.0, Some(0.0)));
    // Not priced, and never having succeeded for money: the model still stands for itself.
    assert_eq!(counters(&unpriced).unpriced, [("gpt-5-codex".to_owned(), 1)]);
    let mut expected = 0.0;
    for price in [2.0, 8.0, 0.5, 0.5, 3.0] {
        relay.price("gpt-5-codex", price, 0.0, 0.0).await;
        let repriced = looked_at(&mut follower, &relay).await;
        let shown = today(&repriced).requests as f64 * price;
        assert!((today(&repriced).cost_usd.unwrap() - shown).abs() < 1e-9, "the screens follow the price");
        assert!((cost(&repriced) - expected).abs() < 1e-9, "a price that changes is no spending");
        relay.insert(&event).await;
        expected += price;
        let view = looked_at(&mut follower, &relay).await;
        assert!((cost(&view) - expected).abs() < 1e-9);
    }
    assert_eq!(counters(&looked_at(&mut follower, &relay).await).unpriced[0].1, 1);
}

/// Plus rewrites the tokens of old rows when it learns to count better.
#[tokio::test]
async fn rewritten_tokens_reach_the_screens_and_lower_no_counter() {
    let mut relay = shanghai(Level::Plus).await;
    relay.price("gpt-5-codex", 1.0, 1.0, 0.0).await;
    for ago in [5, 7_200, 90_000] {
        relay.insert(&Event { ago_ms: ago * 1000, input: 1_000_000, ..Event::default() }).await;
    }
    let mut follower = relay.follower();
    let before = looked_at(&mut follower, &relay).await;
    relay.run("update usage_events set normalized_total_input_tokens = 400000, total_tokens = 400100").await;
    let after = looked_at(&mut follower, &relay).await;
    let tokens =
        |view: &LedgerView| view.boards.iter().find(|board| board.period.label() == "today").unwrap().entries[0].tokens;
    assert_eq!((tokens(&before), tokens(&after)), (Some(2 * 1_000_100), Some(2 * 400_100)));
    assert!(today(&after).cost_usd < today(&before).cost_usd);
    assert!(cost(&after) >= cost(&before));
}

/// `latency_ms` may be 0, which means that it is not known.
#[tokio::test]
async fn an_unknown_latency_is_no_latency_of_zero() {
    let mut relay = shanghai(Level::Plus).await;
    for latency_ms in [None, Some(0), Some(3000)] {
        relay.insert(&Event { latency_ms, ..Event::default() }).await;
    }
    let mut follower = relay.follower();
    assert_eq!(today(&looked_at(&mut follower, &relay).await).mean_duration_seconds, Some(3.0));
}

#[tokio::test]
async fn keys_have_their_alias_or_the_first_digits_of_their_hash() {
    let mut relay = shanghai(Level::Snapshots).await;
    for key in ["alice", "bob"] {
        relay.insert(&Event { key: key.into(), ..Event::default() }).await;
    }
    relay.run(&format!("insert into api_key_aliases values ('{}', 'Alice''s laptop', 0)", hash_of("alice"))).await;
    relay.run(&format!("insert into api_key_aliases values ('{}', 'Not yet used', 0)", hash_of("carol"))).await;
    let directory = directory(&relay).await;
    let mut keys: Vec<_> = directory.keys.iter().map(|key| (key.id.to_string(), key.name.as_str())).collect();
    keys.sort_unstable_by_key(|(_, name)| *name);
    let id = |key| key_id(hash_of(key).as_bytes()).unwrap().to_string();
    assert_eq!(
        keys,
        [(id("bob"), &hash_of("bob")[..8]), (id("alice"), "Alice's laptop"), (id("carol"), "Not yet used")]
    );
    let credential = &directory.providers[0];
    assert_eq!((credential.kind.as_str(), credential.group.as_str()), ("codex", "oauth"));
    assert_eq!(credential.id, provider_id(b"0", b"", b"").into());
}

/// Credentials and keys that have been silent for long are found too, a little at a time.
#[tokio::test]
async fn who_appeared_long_ago_is_found() {
    let mut relay = shanghai(Level::First).await;
    relay.insert(&Event { auth_index: "old".into(), key: "old".into(), ..Event::default() }).await;
    relay
        .run(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 12000)
             insert into usage_events (event_hash, timestamp_ms, timestamp, model, created_at_ms) select 'n' || i, 1, '', 'm', 1 from n",
        )
        .await;
    relay.insert(&Event { auth_index: "new".into(), key: "new".into(), ..Event::default() }).await;
    let mut source = relay.open().directory;
    let mut known = 0;
    for _ in 0..100 {
        let directory = source.read().await.unwrap();
        known = directory.keys.len();
        assert!(directory.keys.iter().any(|key| key.name == hash_of("new")[..8]), "the newest come first");
        if known == 2 {
            break;
        }
    }
    assert_eq!(known, 2);
}

#[tokio::test]
async fn quotas_cooldowns_and_the_collector_are_told() {
    let mut relay = shanghai(Level::Plus).await;
    relay.insert(&Event { recorded_after_ms: 3300, latency_ms: Some(800), ..Event::default() }).await;
    let now = noon().timestamp_millis();
    let key = |index: &str| format!("usage-account-history:2:file-index:612E6A736F6E:{}", hex(index));
    relay
        .run(&format!(
            "insert into dead_letter_events (payload, error, created_at_ms) values ('secret', 'e', 1), ('secret', 'e', 1);
             delete from dead_letter_events;
             insert into quota_cooldowns (auth_file_name, auth_index, recover_at_ms, status) values
               ('a.json', '0', {0}, 'active'), ('b.json', '1', {1}, 'active'), ('c.json', '2', {0}, 'recovered'), ('d.json', '', {0}, 'active');
             insert into account_quota_snapshots (account_key, provider, provider_window_id, window_kind, model_scope_kind, model_scope_key, observed_at_ms, cycle_end_ms, used_percent, plan_type) values
               ('{2}', 'codex', 'five-hour', 'five_hour', 'family', 'codex_main', 3, {0}, 62.5, ''), ('{2}', 'codex', 'five-hour', 'five_hour', 'family', 'codex_main', 2, {0}, 75.0, 'Plus'),
               ('{2}', 'codex', 'weekly', 'weekly', 'family', 'codex_main', 1, {1}, 99.0, 'free'), ('{2}', 'xai', 'free', 'rolling_24h', 'all', null, 2, {0}, 20.0, null),
               ('{2}', 'codex', 'spark', 'five_hour', 'family', 'codex_spark', 2, {0}, 100.0, null), ('someone', 'codex', 'five-hour', 'five_hour', 'family', 'codex_main', 2, {0}, 100.0, 'team')",
            now + 60_000,
            now - 60_000,
            key("0"),
        ))
        .await;
    relay.note_windows().await;
    let live = relay.open().live.unwrap().read(&Directory::default()).await.unwrap();
    let collector = live.collector.unwrap();
    assert_eq!((collector.delay_seconds, collector.dead_letters), (Some(2.5), 2));
    let id = |index: &str| provider_id(index.as_bytes(), b"", b"").into();
    let (off, on) = (AccountState::QuotaExceeded, AccountState::Normal);
    // One that should be on again, and that the manager has not switched on yet, is off.
    assert_eq!(live.accounts, [(id("0"), off), (id("1"), off), (id("2"), on)]);
    let returns: Vec<_> =
        live.returns.iter().map(|it| (&it.provider_id, it.models, it.at.timestamp_millis())).collect();
    assert_eq!(returns, [(&id("0"), "all", now + 60_000), (&id("1"), "all", now - 60_000)]);
    assert_eq!(live.plans, [(id("0"), "plus".to_owned())]);
    assert_eq!(collector.last_record.unwrap().timestamp_millis(), now + 2300);
    let bytes: std::collections::BTreeMap<_, _> = live.database_bytes.iter().copied().collect();
    assert!(bytes["main"] > 0 && bytes["wal"] > 0, "{bytes:?}");
    let told: Vec<_> = live.subscriptions.iter().map(|it| (&it.provider_id, it.window, it.used_ratio)).collect();
    // The newest observation counts, whatever was written last; the weekly window is over: its use is out of date.
    assert_eq!(told, [(&id("0"), "5h", Some(0.625)), (&id("0"), "7d", None), (&id("0"), "24h", Some(0.2))]);
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

#[tokio::test]
async fn an_empty_file_has_no_requests_and_no_collector_delay() {
    let relay = shanghai(Level::Plus).await;
    let view = looked_at(&mut relay.follower(), &relay).await;
    assert_eq!((today(&view).requests, requests(&view)), (0, 0));
    let live = relay.open().live.unwrap().read(&Directory::default()).await.unwrap();
    assert_eq!(live.collector.unwrap().delay_seconds, None);
}

#[tokio::test]
async fn a_row_that_cannot_be_understood_takes_no_other_with_it() {
    let mut relay = shanghai(Level::Plus).await;
    for _ in 0..3 {
        relay.insert(&Event::default()).await;
    }
    relay.run("update usage_events set timestamp_ms = 9e18 where id = 1; update usage_events set timestamp_ms = 'soon' where id = 2").await;
    relay.insert(&Event { input: i64::MAX / 4, cached: -5, output: i64::MAX / 4, ..Event::default() }).await;
    relay.price("gpt-5-codex", 1e12, 1e12, 1e12).await;
    let view = looked_at(&mut relay.follower(), &relay).await;
    assert_eq!(requests(&view), 2);
    assert!(cost(&view).is_finite());
}

#[tokio::test]
async fn a_replaced_file_is_read_anew_and_no_counter_falls() {
    let mut relay = shanghai(Level::Plus).await;
    for _ in 0..5 {
        relay.insert(&Event::default()).await;
    }
    let mut follower = relay.follower();
    let before = requests(&looked_at(&mut follower, &relay).await);
    let mut other = shanghai(Level::Plus).await;
    other.insert(&Event { key: "bob".into(), ..Event::default() }).await;
    other.run("pragma wal_checkpoint(truncate)").await;
    for ending in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{ending}", relay.path.display())).unwrap();
    }
    // A file of its own, not the one that this process has open under another name.
    std::fs::remove_file(&relay.path).unwrap();
    std::fs::copy(&other.path, &relay.path).unwrap();
    let mut manager = SqliteConnectOptions::new().filename(&relay.path).connect().await.unwrap();
    manager.execute("select count(*) from usage_events").await.unwrap();
    let view = looked_at(&mut follower, &relay).await;
    assert_eq!((today(&view).requests, before), (1, 5));
    assert!(requests(&view) >= before);
}

/// The manager gives up after its patience with a lock; with us it never needs any.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_manager_never_finds_its_file_busy() {
    let mut relay = shanghai(Level::Plus).await;
    let until = Instant::now() + Duration::from_secs(2);
    let (mut follower, parts) = (relay.follower(), relay.open());
    let (mut live, mut names) = (parts.live.unwrap(), parts.directory);
    let reading = tokio::spawn(async move {
        let mut reads = 0;
        while Instant::now() < until {
            read_all(&mut follower).await;
            names.read().await.unwrap();
            live.read(&Directory::default()).await.unwrap();
            reads += 1;
        }
        reads
    });
    let mut written = 0;
    while Instant::now() < until {
        // Its connection has no patience at all here.
        relay.run("begin immediate").await;
        relay.insert(&Event::default()).await;
        relay.run("commit").await;
        written += 1;
        if written % 20 == 0 {
            relay.run("pragma wal_checkpoint(passive)").await;
        }
    }
    let reads = reading.await.unwrap();
    assert!(written > 10 && reads > 3, "{written} written, {reads} reads");
}

/// What a refresh costs SQLite follows the new rows, not the file: measured as steps of its virtual machine, whatever
/// else the computer does.
#[tokio::test]
async fn a_steady_refresh_costs_the_same_in_a_small_and_in_a_large_file() {
    let mut steps = Vec::new();
    for rows in [2_000, 200_000] {
        let mut relay = shanghai(Level::Plus).await;
        relay.plan.audit_interval = Duration::from_secs(86_400);
        relay.price("gpt-5-codex", 1.0, 1.0, 0.0).await;
        let now = noon().timestamp_millis();
        relay
            .run(&format!(
                "with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
                 insert into usage_events (event_hash, timestamp_ms, timestamp, model, provider, auth_index, api_key_hash,
                   input_tokens, output_tokens, total_tokens, raw_json, created_at_ms)
                 select 'n' || i, {now} - ({rows} - i) * 1000, '', 'gpt-5-codex', 'codex', i % 7, 'k' || i % 50, 10, 10, 20,
                   hex(zeroblob(300)), {now} - ({rows} - i) * 1000 + 900 from n"
            ))
            .await;
        let Usage::Rows(mut ledger) = relay.open().usage else { unreachable!("the relay keeps rows") };
        let after = Some(i64::from(rows) - 20);
        let ask = RefreshRequest { after, limit: 20_000, ..RefreshRequest::default() };
        assert_eq!(ledger.refresh(&ask).await.unwrap().rows.len(), 20);
        let mut times: Vec<_> = Vec::new();
        for _ in 0..50 {
            let began = Instant::now();
            ledger.refresh(&ask).await.unwrap();
            times.push(began.elapsed());
        }
        times.sort_unstable();
        println!("{rows} rows: a refresh with 20 new rows took {:.2?} (median of 50)", times[25]);
        steps.push(times[25].as_secs_f64());
        let report = check::check(&relay.plan).await.unwrap().to_string();
        assert!(report.contains("recurring statements run, each by an index"), "{report}");
    }
    let ratio = steps[1] / steps[0];
    println!("a hundred times the rows: {ratio:.2} times the time");
    // A refresh that walked over the file would take a hundred times as long.
    assert!(ratio < 20.0, "a hundred times the rows take {ratio:.1} times the time");
}

#[tokio::test]
async fn check_says_what_there_is_and_what_is_missing() {
    let mut relay = shanghai(Level::Plus).await;
    relay.insert(&Event::default()).await;
    relay.insert(&Event { recorded_after_ms: 8_000_000, ago_ms: 8_000_000, ..Event::default() }).await;
    relay
        .run(
            "insert into usage_hourly_aggregate_state values ('hourly_core', 3, 'ready', 2);
             insert into usage_hourly_aggregate_v1 (bucket_ms, model, billing_model, service_tier, failed, calls) values (0, 'gpt-5-codex', 'gpt-5-codex', '', 0, 2)",
        )
        .await;
    let report = check::check(&relay.plan).await.unwrap();
    assert_eq!(report.worst(), check::Level::Note, "{report}");
    let text = report.to_string();
    for words in [
        "CPA-Manager-Plus",
        "midnight of Asia/Shanghai",
        "hourly sums up to id 2 agree: 2 requests",
        "without a price, so they cost nothing: gpt-5-codex",
        "1 of them were recorded an hour or more after",
        "all 12 recurring statements run, each by an index",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    relay.run("update usage_hourly_aggregate_v1 set calls = 3; drop index idx_usage_events_timestamp").await;
    let text = check::check(&relay.plan).await.unwrap().to_string();
    assert!(text.contains("have 3 requests up to id 2, its events 2"), "{text}");
    assert!(text.contains("audit: walks through all of usage_events"), "{text}");
}

#[tokio::test]
async fn the_relay_is_configured_by_the_path_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("exporter.toml");
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        settings::load(Some(&file), &std::collections::BTreeMap::new())
    };
    let loaded = load("[relays.cpa]\nkind = \"cpa-manager\"\ndatabase_url = \"sqlite:/data/usage.sqlite\"\n").unwrap();
    assert_eq!(loaded.plan.relays["cpa"].product.label, "cpa-manager");
    for wrong in [
        "database_url = \"postgres://host/db\"",
        "database_url = \"sqlite:\"",
        "database_url = \"sqlite:/a\"\nredis_url = \"redis://host\"",
        "",
    ] {
        let error = load(&format!("[relays.cpa]\nkind = \"cpa-manager\"\n{wrong}\n")).unwrap_err();
        assert_eq!(error.0.len(), 1, "{wrong}: {error}");
    }
}

/// With nobody to help, SQLite cannot make the index of the log in a directory that it may not write: an honest failure,
/// and a good read again as soon as the manager is back.
#[tokio::test]
async fn without_its_manager_the_file_waits_for_it() {
    let mut relay = shanghai(Level::Plus).await;
    relay.insert(&Event::default()).await;
    let mut follower = relay.follower();
    let hidden = relay.path.with_extension("away");
    std::fs::rename(&relay.path, &hidden).unwrap();
    assert_eq!(follower.refresh().await.unwrap_err().reason, Reason::Connection);
    std::fs::rename(&hidden, &relay.path).unwrap();
    let options = SqliteConnectOptions::new().filename(&relay.path);
    let mut manager = options.connect().await.unwrap();
    manager.execute(AssertSqlSafe("select count(*) from usage_events")).await.unwrap();
    assert_eq!(today(&looked_at(&mut follower, &relay).await).requests, 1);
    let rows = manager.fetch_one("select count(*) from usage_events").await.unwrap();
    assert_eq!(rows.get::<i64, _>(0), 1);
    manager.close().await.unwrap();
}
