//! Names that clients invent, by the tens of thousands: they take no place from models that succeed, boards stay what
//! the rows say, and memory is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration as Wait;

use chrono::{DateTime, Duration, TimeZone, Utc};
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::{Directory, FailureClass, Outcome, Scope, UsageRow, Usd};
use llm_relay_exporter::settings::{Boards, RelayPlan, SeriesBudget};
use llm_relay_exporter::tally::{Presentation, Tally};
use llm_relay_exporter::view::{BoardEntry, LedgerView};
use proptest::prelude::*;
use sqlx::Row;

use crate::claude_code_hub::{Store, ledger, plan};
use crate::reading::{self, Saved, follower, read_all};
use crate::tally::{counter_lines, moment, row};

const ZONE: chrono_tz::Tz = chrono_tz::Asia::Shanghai;
/// More than twice as many as are kept apart (`MODELS` in `src/tally/names.rs`): names are let go of more than once.
const FAR_MORE: i64 = 64_000;

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap()
}

fn success(id: i64, model: &str, cost: f64) -> UsageRow {
    UsageRow { model: Some(model.into()), cost: Usd::from_f64(cost).unwrap(), ..row(id, now() - Duration::hours(1)) }
}

fn failure(id: i64, model: &str) -> UsageRow {
    UsageRow {
        outcome: Some(Outcome::Failure),
        is_success: Some(false),
        failure: Some(FailureClass::Server),
        status: Some(400),
        is_error: true,
        ..success(id, model, 0.01)
    }
}

/// 50 successes of `real-model` at $7, three failures of `later`, then `junk` invented names at $0.01.
fn invented(junk: i64) -> Vec<UsageRow> {
    let real = (1..=50).map(|id| success(id, "real-model", 7.0));
    let later = (51..=53).map(|id| failure(id, "later"));
    real.chain(later).chain((1..=junk).map(|n| failure(100 + n, &format!("junk-{n}")))).collect()
}

fn pinned() -> Vec<String> {
    vec!["real-model".to_owned(), "later".to_owned(), "not-yet".to_owned()]
}

fn tally(pins: &[String]) -> Tally {
    let mut tally = Tally::new(moment(ZONE, now()));
    tally.pin(pins);
    tally
}

/// Reads rows newest first, as history is read.
fn backwards(rows: &[UsageRow], pins: &[String]) -> Tally {
    let mut tally = tally(pins);
    loop {
        rows.rchunks(5000).for_each(|chunk| tally.apply(chunk.iter().rev().cloned()));
        tally.settle(i64::MAX);
        if tally.complete() {
            return tally;
        }
        tally = tally.restart(moment(ZONE, now()));
    }
}

/// Reads rows as they happen.
fn forwards(rows: &[UsageRow], pins: &[String]) -> Tally {
    let mut tally = tally(pins);
    tally.complete();
    for chunk in rows.chunks(5000) {
        tally.apply(chunk.to_vec());
        tally.settle(i64::MAX);
    }
    tally
}

fn view(tally: &mut Tally, pins: &[String]) -> LedgerView {
    tally.view(&Presentation {
        directory: Some(&Directory::default()),
        live: None,
        boards: &Boards::default(),
        series: &SeriesBudget { pinned_models: pins.to_vec(), ..SeriesBudget::default() },
    })
}

/// Requests by the model that they are shown under.
fn requests(view: &LedgerView) -> BTreeMap<String, u64> {
    let mut requests = BTreeMap::new();
    for it in view.counters.as_ref().unwrap().traffic.iter() {
        *requests.entry(it.model.clone()).or_default() += it.requests.iter().sum::<u64>();
    }
    requests
}

fn limited(view: &LedgerView, dimension: &str) -> u64 {
    view.folded.iter().find(|(it, _)| *it == dimension).unwrap().1
}

fn models<'a>(view: &'a LedgerView, period: &str) -> &'a [BoardEntry] {
    &view.boards.iter().find(|it| it.scope == Scope::Model && it.period.label() == period).unwrap().entries
}

/// Every leaderboard of models as the rows say.
fn assert_boards(view: &LedgerView, rows: &[UsageRow]) {
    let mut sums: BTreeMap<&str, (Usd, u64)> = BTreeMap::new();
    for row in rows {
        let (cost, requests) = sums.entry(row.model.as_deref().unwrap()).or_default();
        *cost += row.cost;
        *requests += 1;
    }
    let mut ranked: Vec<_> =
        sums.into_iter().map(|(name, (cost, requests))| (-cost, -(requests as i64), name)).collect();
    ranked.sort();
    let expected: Vec<_> =
        ranked.iter().take(20).map(|(cost, requests, name)| (*name, (-*cost).to_f64(), -requests as u64)).collect();
    for period in ["today", "last24h", "week", "month", "all"] {
        let entries = models(view, period);
        let (_, first) = entries.split_last().unwrap();
        let shown: Vec<_> =
            first.iter().map(|it| (it.id.as_str(), it.cost_usd.unwrap(), it.requests.unwrap())).collect();
        assert_eq!(shown, expected, "{period}");
        let all: u64 = entries.iter().filter_map(|it| it.requests).sum();
        assert_eq!(all, rows.len() as u64, "{period}");
    }
}

#[test]
fn invented_names_take_no_place_whatever_the_order_of_reading() {
    for junk in [2_000, FAR_MORE] {
        let rows = invented(junk);
        for pins in [Vec::new(), pinned()] {
            let mut expected = BTreeMap::from([("real-model".to_owned(), 50), ("other".to_owned(), junk as u64 + 3)]);
            if !pins.is_empty() {
                expected.insert("later".to_owned(), 3);
                expected.insert("other".to_owned(), junk as u64);
            }
            for mut tally in [backwards(&rows, &pins), forwards(&rows, &pins)] {
                let view = view(&mut tally, &pins);
                assert_eq!(requests(&view), expected, "{junk}");
                assert_boards(&view, &rows);
                assert_eq!(limited(&view, "model"), 0);
                assert_eq!(limited(&view, "model_without_success"), junk as u64 + u64::from(pins.is_empty()));
            }
        }
    }
}

#[test]
fn a_model_that_succeeds_after_far_more_names_than_are_kept_has_a_series_also_after_a_restart() {
    let mut tally = forwards(&invented(FAR_MORE), &[]);
    tally.apply([success(200_001, "claude-next", 3.0)]);
    assert_eq!(requests(&view(&mut tally, &[]))["claude-next"], 1);

    let mut saved = Saved::default();
    saved.keep(tally.parts(true).unwrap(), |bytes| bytes.get());
    let mut tally = Tally::restore(&mut saved.0).unwrap();
    tally.apply([success(200_002, "claude-next", 3.0), success(200_003, "claude-last", 2.0)]);
    let view = view(&mut tally, &[]);
    let requests = requests(&view);
    assert_eq!((requests["real-model"], requests["claude-next"], requests["claude-last"]), (50, 2, 1));
    assert_eq!(models(&view, "all")[1].id, "claude-next");
    assert_eq!(models(&view, "all")[1].cost_usd, Some(6.0));
}

#[test]
fn after_the_junk_rows_are_gone_boards_are_as_if_they_had_never_been() {
    for junk in [2_000, FAR_MORE] {
        let mut tally = forwards(&invented(junk), &[]);
        let rows = invented(0);
        let today = tally.today();
        tally.replace_day(today, rows.clone());
        let mut never = forwards(&rows, &[]);
        let (after, never) = (view(&mut tally, &[]), view(&mut never, &[]));
        assert_eq!(format!("{:?}", after.boards), format!("{:?}", never.boards));
        assert_eq!(format!("{:?}", after.days), format!("{:?}", never.days));
        assert_eq!(after.folded, never.folded);
        // Counters never fall: what has been counted stays in `other`.
        assert_eq!(requests(&after)["real-model"], 50);
    }
}

/// The newest rows of some real models are failures, and far more names than are kept apart lie between them and the
/// models' first success.
#[test]
fn a_model_that_was_let_go_of_while_reading_backwards_is_counted_as_if_it_had_been_read_forwards() {
    let mut rows = Vec::new();
    for n in 0..20 {
        rows.push(failure(1 + n, &format!("model-{n}")));
        rows.push(success(101 + n, &format!("model-{n}"), 1.0));
        rows.push(failure(1_000_000 + n, &format!("model-{n}")));
    }
    rows.extend((0..70_000).map(|n| failure(1000 + n, &format!("junk-{n}"))));
    rows.sort_by_key(|row| row.id);
    let (mut there, mut back) = (forwards(&rows, &[]), backwards(&rows, &[]));
    let (there, back) = (view(&mut there, &[]), view(&mut back, &[]));
    assert_eq!(requests(&back)["model-7"], 2, "but for the failure before its first success");
    assert_eq!(counter_lines(back.counters.as_ref().unwrap()), counter_lines(there.counters.as_ref().unwrap()));
    assert_boards(&back, &rows);
}

#[test]
fn hundreds_of_thousands_of_names_take_no_more_memory_than_some_ten_thousand() {
    // Weeks ago, so that no day of facts for the windows is in what is measured.
    let old =
        |n: i64| UsageRow { started_at: now() - Duration::days(60), ..failure(n, &format!("invented-model-{n}")) };
    let size = |names: i64, backwards: bool| {
        let mut tally = tally(&[]);
        if !backwards {
            tally.complete();
        }
        for start in (0..names).step_by(5000) {
            tally.apply((start..start + 5000).map(|n| old(if backwards { names - n } else { n + 1 })));
            tally.settle(i64::MAX);
        }
        // What is cut by time or id, together.
        let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
        for (key, bytes) in tally.parts(true).unwrap() {
            let part = key.split('/').next().unwrap().to_owned();
            *sizes.entry(part).or_default() += bytes.unwrap().get().len();
        }
        assert!(tally.complete());
        assert_eq!(models(&view(&mut tally, &[]), "all").len(), 21);
        sizes
    };
    for (many, backwards) in [(100_000, false), (300_000, true)] {
        let (some, many) = (size(25_000, backwards), size(many, backwards));
        for (part, bytes) in &many {
            assert!(*bytes <= some[part] * 5 / 4 + 4096, "{part}: {} bytes, {bytes} with many more", some[part]);
        }
    }
}

#[test]
fn users_and_keys_beyond_the_old_bound_are_told_apart() {
    let rows: Vec<_> =
        (1..=60_000).map(|id| UsageRow { user_id: id, key_id: Some(100_000 + id), ..success(id, "m", 0.01) }).collect();
    let series = SeriesBudget { max_users: 50_000, max_keys: 50_000, ..SeriesBudget::default() };
    for mut tally in [backwards(&rows, &[]), forwards(&rows, &[])] {
        let with = Presentation { directory: None, live: None, boards: &Boards::default(), series: &series };
        let view = tally.view(&with);
        let counters = view.counters.as_ref().unwrap();
        let users: BTreeSet<&str> = counters.users.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(users.len(), 50_001);
        assert!(users.contains("1") && users.contains("50000") && !users.contains("50001"));
        assert_eq!((limited(&view, "user"), limited(&view, "key")), (10_000, 10_000));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// New rows are read forwards and history backwards, in turns and in steps of any size.
    #[test]
    fn who_has_a_series_and_what_it_counts_do_not_depend_on_the_order_of_reading(
        kinds in prop::collection::vec((0..12_u8, any::<bool>()), 1..80),
        begin in any::<prop::sample::Index>(),
        steps in prop::collection::vec((any::<bool>(), 1..7_usize), 0..40),
        max_models in 1..6_usize,
        pin in any::<bool>(),
    ) {
        let pins: Vec<String> = pin.then(|| "model-3".to_owned()).into_iter().collect();
        let rows: Vec<_> = kinds
            .iter()
            .zip(1..)
            .map(|((model, ok), id)| {
                let model = format!("model-{model}");
                if *ok { success(id, &model, 1.0) } else { failure(id, &model) }
            })
            .collect();
        let shown = |mut tally: Tally| {
            let view = tally.view(&Presentation {
                directory: None,
                live: None,
                boards: &Boards::default(),
                series: &SeriesBudget { max_models, pinned_models: pins.clone(), ..SeriesBudget::default() },
            });
            (counter_lines(view.counters.as_ref().unwrap()), view.folded)
        };
        let expected = shown(forwards(&rows, &pins));
        prop_assert_eq!(&shown(backwards(&rows, &pins)), &expected);
        let mut tally = tally(&pins);
        let begin = begin.index(rows.len());
        let (mut bottom, mut top) = (begin, begin);
        for (forward, size) in steps {
            if forward {
                let to = (top + size).min(rows.len());
                tally.apply(rows[top..to].to_vec());
                top = to;
            } else {
                let to = bottom.saturating_sub(size);
                tally.apply(rows[to..bottom].iter().rev().cloned());
                bottom = to;
            }
        }
        tally.apply(rows[top..].to_vec());
        tally.apply(rows[..bottom].iter().rev().cloned());
        prop_assert!(tally.complete());
        prop_assert_eq!(&shown(tally), &expected);
    }
}

fn page(follower: &mut Follower, plan: &RelayPlan) -> LedgerView {
    reading::view(follower, plan, &Directory::default())
}

/// The leaderboard of models as plain SQL has it.
async fn board(store: &mut Store) -> Vec<(String, String, i64)> {
    let sql = "select model, sum(cost_usd)::float8::text, count(*) from message_request
               group by model order by sum(cost_usd) desc, count(*) desc, model collate \"C\" limit 20";
    let rows = sqlx::query(sql).fetch_all(&mut store.owner).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

async fn assert_page(follower: &mut Follower, plan: &RelayPlan, store: &mut Store, series: &[(&str, u64)]) {
    let view = page(follower, plan);
    let expected = board(store).await;
    // Not those that may begin while the test runs.
    for period in ["last24h", "all"] {
        let (_, first) = models(&view, period).split_last().unwrap();
        let shown: Vec<_> = first
            .iter()
            .map(|it| (it.id.clone(), it.cost_usd.unwrap().to_string(), i64::try_from(it.requests.unwrap()).unwrap()))
            .collect();
        assert_eq!(shown, expected, "{period}");
    }
    let requests = requests(&view);
    for (model, count) in series {
        assert_eq!(requests.get(*model), Some(count), "{model} of {requests:?}");
    }
}

/// `count` requests of a model (`g` numbers them) at `cost` each, long enough ago to change no more.
fn insert(model: &str, count: i64, status: i64, cost: &str) -> String {
    let reason = if status == 200 { "request_success" } else { "retry_failed" };
    format!(
        "insert into message_request (provider_id, user_id, key, model, original_model, duration_ms, cost_usd,
                                      provider_chain, status_code, endpoint, input_tokens, output_tokens, created_at)
         select 1, 1, 'sk-ann', {model}, {model}, 900, {cost},
                '[{{\"id\": 1, \"reason\": \"{reason}\", \"statusCode\": {status}}}]', {status}, '/v1/messages', 10, 20, now() - interval '20 minutes'
         from generate_series(1, {count}) g"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn far_more_invented_names_than_are_kept_on_a_real_ledger() {
    let mut store = Store::new("invented_names", "v0.9.2").await;
    store.people().await;
    store.run(&insert("'real-model'", 50, 200, "7")).await;
    store.run(&insert("'later'", 3, 400, "0")).await;
    let mut plan = plan(&store.url, None);
    plan.series.pinned_models = vec!["later".to_owned()];
    plan.timeout = Wait::from_secs(60);

    // A running exporter meets them.
    let mut running = follower(&plan);
    read_all(&mut running).await;
    for _ in 0..2 {
        store.run(&insert("'junk-' || g", 10_000, 400, "0.01")).await;
        read_all(&mut running).await;
    }
    store.run(&insert("'junk-' || g", 40_000, 400, "0.01")).await;
    read_all(&mut running).await;
    store.run(&insert("'claude-next'", 2, 200, "3")).await;
    read_all(&mut running).await;
    let series = [("real-model", 50), ("later", 3), ("claude-next", 2), ("other", 60_000)];
    assert_page(&mut running, &plan, &mut store, &series).await;

    // One that begins now reads them newest first.
    let mut fresh = follower(&plan);
    read_all(&mut fresh).await;
    assert_page(&mut fresh, &plan, &mut store, &series).await;

    // They are deleted while nobody looks; the exporter goes on from what it has written down.
    let mut saved = Saved::default();
    saved.save(&mut running);
    for table in ["message_request", "usage_ledger"] {
        store.run(&format!("delete from {table} where model like 'junk-%'")).await;
    }
    plan.audit_interval = Wait::ZERO;
    running = running.reopened(ledger(&plan), &plan);
    let mut restored = saved.restored(follower(&plan));
    for follower in [&mut running, &mut restored] {
        store.run(&insert("'claude-last'", 1, 200, "2")).await;
        read_all(follower).await;
        read_all(follower).await;
        assert_page(follower, &plan, &mut store, &series).await;
        assert!(requests(&page(follower, &plan)).contains_key("claude-last"));
        assert_eq!(limited(&page(follower, &plan), "model_without_success"), 0);
    }
    let mut afresh = follower(&plan);
    read_all(&mut afresh).await;
    assert_page(&mut afresh, &plan, &mut store, &[("real-model", 50), ("later", 3), ("claude-next", 2)]).await;
    assert!(!requests(&page(&mut afresh, &plan)).contains_key("other"));
}

#[test]
fn a_leaderboard_of_length_0_is_switched_off() {
    let mut tally = forwards(&invented(0), &[]);
    let view = tally.view(&Presentation {
        directory: Some(&Directory::default()),
        live: None,
        boards: &Boards { top_users: 0, top_teams: 0, top_models: 0, ..Boards::default() },
        series: &SeriesBudget::default(),
    });
    let scopes: BTreeSet<&str> = view.boards.iter().map(|board| board.scope.label()).collect();
    assert_eq!(scopes, BTreeSet::from(["key", "provider"]));
}
