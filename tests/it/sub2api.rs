//! sub2api on a real PostgreSQL and a real Redis.

mod accounts;
pub mod database;
mod differential;
mod quotas;
mod rights;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use llm_relay_exporter::model::{Directory, Reason};
use llm_relay_exporter::relay::{Refresh, RefreshRequest};
use llm_relay_exporter::relays::sub2api::STEPS;
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::view::LedgerView;

use database::{Failure, Request, Saved, Store, follower, parts, settle, view, whole_view};

/// Requests by outcome: success, failure and neither.
fn outcomes(view: &LedgerView) -> [u64; 3] {
    let traffic = &view.counters.as_ref().unwrap().traffic;
    std::array::from_fn(|it| traffic.iter().map(|one| one.requests[it]).sum())
}

fn failures(view: &LedgerView) -> BTreeMap<(String, &'static str), u64> {
    let counters = view.counters.as_ref().unwrap();
    counters.failures.iter().map(|(provider, class, count)| ((provider.clone(), *class), *count)).collect()
}

#[tokio::test]
async fn each_release_is_told_by_its_columns_and_read_as_far_as_it_tells() {
    for (n, (release, _)) in STEPS.iter().enumerate() {
        let mut store = Store::of_release(&format!("release_{n}"), release).await;
        store.people().await;
        // A fork's own columns.
        store.run("alter table usage_logs add column tk_cost numeric, add column proxy_id bigint").await;
        store.run(&Request::default().insert()).await;
        store.run(&Failure::default().insert()).await;
        let mut plan = store.plan();
        plan.timezone_fallback = chrono_tz::UTC;
        let whole = whole_view(&plan).await;
        assert_eq!(outcomes(&whole), [1, 1, 0], "{release}");
        assert_eq!((whole.days[0].1.cost_usd, whole.days[0].1.list_cost_usd), (Some(0.001), Some(0.001)));
        let (directory, live) = parts(&plan).await;
        assert_eq!(directory.version, format!(">={release}"));
        assert_eq!(directory.timezone, if *release == "0.1.177" { "Asia/Shanghai" } else { "UTC" });
        assert_eq!(live.rejected.is_some(), n >= 5, "{release}");
        assert_eq!((directory.users.len(), directory.keys.len(), live.accounts.len()), (3, 3, 3));
    }
}

/// TokenKey, 1.8.170.
#[tokio::test]
async fn a_fork_may_lack_a_column_of_its_error_log_and_part_it_by_time() {
    let mut store = Store::new("fork").await;
    store.people().await;
    store
        .run(
            "alter table ops_error_logs drop column is_business_limited, drop constraint ops_error_logs_pkey;
             alter table ops_error_logs rename to ops_error_logs_legacy;
             create table ops_error_logs (like ops_error_logs_legacy including defaults) partition by range (created_at);
             create index on ops_error_logs (id);
             alter table ops_error_logs attach partition ops_error_logs_legacy for values from (minvalue) to (maxvalue)",
        )
        .await;
    store.grant().await;
    store.run(&Request::default().insert()).await;
    store
        .run(
            "insert into ops_error_logs (user_id, api_key_id, account_id, model, error_phase, error_type, status_code) values
               (2, 2, 1, 'claude-sonnet-4', 'upstream', 'upstream_error', 502), (2, 2, null, 'claude-sonnet-4', 'routing', 'api_error', 503),
               (2, 2, null, '', 'request', 'rate_limit_error', 429)",
        )
        .await;
    let whole = whole_view(&store.plan()).await;
    assert_eq!(outcomes(&whole), [1, 2, 1]);
    let expected = [(("0", "caller"), 1), (("0", "overloaded"), 1), (("1", "server"), 1)];
    assert_eq!(failures(&whole), expected.map(|((provider, class), n)| ((provider.to_owned(), class), n)).into());
}

#[tokio::test]
async fn another_programs_database_is_refused_by_name() {
    let url = database::postgres().await.database("not_sub2api").await.unwrap();
    let plan = database::plan(&url);
    let mut ledger = crate::claude_code_hub::ledger(&plan);
    let error = ledger.refresh(&crate::claude_code_hub::all()).await.unwrap_err();
    assert!(error.reason == Reason::Schema && error.text.contains("the database of sub2api"), "{error}");
}

#[tokio::test]
async fn each_money_is_told_apart_and_only_what_has_no_price_is_unpriced() {
    let mut store = Store::new("moneys").await;
    store.people().await;
    // Charged at half the price, billed at a fifth more than the list says.
    store.run(&Request { rate: 5000, account_rate: Some(12_000), ..Request::default() }.insert()).await;
    // A free group, a free account, an account with a price of its own.
    store.run(&Request { rate: 0, account_rate: Some(0), ..Request::default() }.insert()).await;
    store.run(&Request { account: 2, ..Request::default() }.insert()).await;
    store.run("update usage_logs set account_stats_cost = 0.004 where id = 3").await;
    // No price is known; and what a failed billing leaves: a price, and no charge.
    store.run(&Request { list: 0, input_cost: 0, model: "new-model", ..Request::default() }.insert()).await;
    store.run("insert into usage_logs (user_id, api_key_id, account_id, model, output_tokens, total_cost, actual_cost) values (1, 1, 2, 'gpt-5', 9, 0.002, 0)").await;
    let whole = whole_view(&store.plan()).await;
    let counters = whole.counters.unwrap();
    let of = |provider: &str, model: &str| {
        let it = counters
            .traffic
            .iter()
            .find(|it| (it.provider_id.as_str(), it.model.as_str()) == (provider, model))
            .unwrap();
        (it.cost_usd, it.list_cost_usd, it.account_cost_usd)
    };
    assert_eq!(of("1", "claude-sonnet-4"), (Some(0.0005), Some(0.002), Some(0.0012)));
    assert_eq!(of("2", "claude-sonnet-4"), (Some(0.001), Some(0.001), Some(0.004)));
    assert_eq!(of("2", "gpt-5"), (Some(0.0), Some(0.002), Some(0.002)));
    assert_eq!(counters.unpriced, [("new-model".to_owned(), 1)]);
    let lists: BTreeMap<_, _> = counters.keys.iter().map(|it| (it.id.as_str(), it.list_cost_usd)).collect();
    assert_eq!(lists, [("1", Some(0.002)), ("2", Some(0.003))].into());
    let today = &whole.days[0].1;
    assert_eq!((today.requests, today.cost_usd, today.list_cost_usd), (5, Some(0.0015), Some(0.005)));
}

#[tokio::test]
async fn tokens_exclude_each_other_and_the_board_has_all() {
    let mut store = Store::new("tokens").await;
    store.people().await;
    let row = Request { read: 1000, written: [20, 30, 5], rate: 5000, ..Request::default() };
    store.run(&row.insert()).await;
    // A row that says less was written than its parts, and one without durations.
    store.run("insert into usage_logs (user_id, api_key_id, account_id, model, requested_model, cache_creation_tokens, cache_creation_5m_tokens) values (1, 1, 1, 'billed', ' asked ', 3, 7)").await;
    let whole = whole_view(&store.plan()).await;
    let counters = whole.counters.unwrap();
    let traffic = |model: &str| counters.traffic.iter().find(|it| it.model == model).unwrap();
    let expected = [
        ("input", 100),
        ("output", 50),
        ("cache_read", 1000),
        ("cache_write_5m", 20),
        ("cache_write_1h", 30),
        ("cache_write", 5),
    ];
    assert_eq!(traffic("claude-sonnet-4").tokens, expected);
    assert_eq!(traffic(" asked ".trim()).tokens, [("cache_write_5m", 7)], "the model that was asked for");
    // 1000 tokens at 3 millionths would have cost $0.003, and cost a tenth; half of that is charged.
    assert_eq!(traffic("claude-sonnet-4").cache_saved_usd, Some(0.00135));
    assert_eq!(whole.tokens_last_minute, Some(1208.0));
    let latency = counters.latency.iter().find(|it| it.model == "claude-sonnet-4").unwrap();
    assert_eq!((latency.duration.sum, latency.ttft.sum, latency.speed.sum), (3.0, 0.5, 20.0));
}

#[tokio::test]
async fn what_failed_is_no_request_of_a_day_and_what_was_recovered_is_no_failure() {
    let mut store = Store::new("failures").await;
    store.people().await;
    let error = Failure::default();
    let recovered = Failure { status: 200, account: Some(2), ..Failure::default() };
    for it in [
        recovered.clone(),
        Failure { upstream: Some(429), ..recovered },
        error.clone(),
        Failure { status: 400, upstream: Some(400), ..error.clone() },
        Failure { status: 429, upstream: Some(429), ..error.clone() },
        Failure { status: 503, upstream: Some(529), ..error.clone() },
        Failure { phase: "routing", status: 503, upstream: None, limited: true, account: None, ..error.clone() },
        // No account of the group has the model.
        Failure { phase: "routing", status: 404, upstream: None, limited: true, account: None, ..error.clone() },
        Failure { phase: "request", status: 403, upstream: None, limited: true, account: None, ..error.clone() },
        // Refused inside a stream that had begun with 200: nobody else answered.
        Failure { phase: "request", status: 200, upstream: None, limited: true, account: None, ..error.clone() },
        Failure { phase: "request", status: 400, upstream: None, account: None, model: "", ..error.clone() },
        // A client that went away before the answer.
        Failure { upstream: None, ..error.clone() },
        // No page of the relay counts it.
        Failure { counts_tokens: true, ..error },
    ] {
        store.run(&it.insert()).await;
    }
    store.run(&Request::default().insert()).await;
    let whole = whole_view(&store.plan()).await;
    assert_eq!(outcomes(&whole), [1, 5, 5]);
    let expected = [
        (("0", "caller"), 2),
        (("0", "overloaded"), 1),
        (("0", "policy"), 2),
        (("1", "caller"), 1),
        (("1", "overloaded"), 1),
        (("1", "rate_limited"), 1),
        (("1", "server"), 2),
    ];
    assert_eq!(failures(&whole), expected.map(|((provider, class), n)| ((provider.to_owned(), class), n)).into());
    let counters = whole.counters.as_ref().unwrap();
    let recovered: BTreeMap<_, _> = counters.recovered.iter().map(|(_, class, count)| (*class, *count)).collect();
    assert_eq!(recovered, [("rate_limited", 1), ("server", 1)].into());
    assert_eq!((whole.days[0].1.requests, whole.requests_last_minute), (1, Some(1.0)), "its dashboards count answers");
    assert!(whole.windows.is_empty() && whole.days[0].1.error_ratio.is_none(), "no window has both");
}

#[tokio::test]
async fn a_stream_that_broke_off_is_one_request_of_the_day_and_an_answer_and_an_error_of_the_operations() {
    let mut store = Store::new("both_tables").await;
    store.people().await;
    store
        .run(
            &Request {
                output: 0,
                duration: Some(360_000),
                request_id: Some("client:a".to_owned()),
                ..Request::default()
            }
            .insert(),
        )
        .await;
    store.run(&Failure { upstream: Some(502), ..Failure::default() }.insert()).await;
    store.run("update ops_error_logs set client_request_id = 'a'").await;
    // The upstream's policy: an answer of its own kind, and an error.
    store.run(&Request { kind: 4, list: 0, input_cost: 0, ..Request::default() }.insert()).await;
    // The same request twice is one row, and burns an id.
    store.run(&Request { request_id: Some("client:a".to_owned()), ..Request::default() }.insert()).await;
    store.run(&Request { model: "after-the-gap", ..Request::default() }.insert()).await;
    let whole = whole_view(&store.plan()).await;
    assert_eq!(whole.days[0].1.requests, 3);
    assert_eq!(outcomes(&whole), [2, 1, 1]);
    assert_eq!(failures(&whole), [(("1".to_owned(), "policy"), 1), (("1".to_owned(), "server"), 1)].into());
    assert!(whole.counters.unwrap().unpriced.is_empty(), "what was refused has no price to miss");
}

/// An exporter that has seen a ledger, and goes on.
struct Watch {
    plan: RelayPlan,
    follower: llm_relay_exporter::follow::Follower,
    saved: Saved,
}

impl Watch {
    async fn of(store: &Store) -> Self {
        let plan = store.plan();
        let mut it = Self { follower: follower(&plan), plan, saved: Saved::default() };
        it.look().await;
        it
    }

    async fn look(&mut self) -> LedgerView {
        settle(&mut self.follower).await;
        self.saved.save(&mut self.follower);
        view(&mut self.follower, &self.plan, &Directory::default())
    }

    fn restart(&mut self) {
        self.follower = self.saved.restored(follower(&self.plan));
    }
}

#[tokio::test]
async fn rows_of_both_tables_that_become_visible_late_are_counted_once() {
    let mut store = Store::new("late").await;
    store.people().await;
    let mut watch = Watch::of(&store).await;
    let mut late = crate::db::Db::connect(&store.url).await;
    late.run(&format!("begin; {}; {}", Request::default().insert(), Failure::default().insert())).await;
    for _ in 0..3 {
        store.run(&Request::default().insert()).await;
        store.run(&Failure::default().insert()).await;
    }
    assert_eq!(outcomes(&watch.look().await), [3, 3, 0]);
    late.run("commit").await;
    assert_eq!(outcomes(&watch.look().await), [4, 4, 0]);
    watch.restart();
    assert_eq!(outcomes(&watch.look().await), [4, 4, 0], "the exporter begins again");
}

#[tokio::test]
async fn the_counters_outlive_what_the_relay_deletes() {
    let mut store = Store::new("retention").await;
    store.people().await;
    for days in [95, 60, 31, 3] {
        let at = format!("now() - interval '{days} days'");
        store.run(&Request { at: at.clone(), ..Request::default() }.insert()).await;
        store.run(&Failure { at, ..Failure::default() }.insert()).await;
    }
    // Newer rows, behind which the exporter does not look again.
    store
        .run(
            "insert into usage_logs (user_id, api_key_id, account_id, model, created_at)
             select 1, 1, 1, 'claude-sonnet-4', now() - interval '1 hour' from generate_series(1, 2100)",
        )
        .await;
    let mut watch = Watch::of(&store).await;
    assert_eq!(outcomes(&watch.look().await), [2104, 4, 0]);
    store.run("delete from usage_logs where created_at < now() - interval '90 days'").await;
    store.run("delete from ops_error_logs where created_at < now() - interval '30 days'").await;
    let after = watch.look().await;
    assert_eq!(outcomes(&after), [2104, 4, 0]);
    assert!(
        after.counters.unwrap().corrections.iter().all(|(_, rows)| *rows == 0),
        "what was kept long enough is no correction"
    );
    // A retention of nothing empties the error log; its ids go on.
    store.run("truncate ops_error_logs").await;
    watch.restart();
    assert_eq!(outcomes(&watch.look().await), [2104, 4, 0]);
    store.run(&Failure::default().insert()).await;
    assert_eq!(outcomes(&watch.look().await), [2104, 5, 0]);
    watch.restart();
    store.run(&Failure::default().insert()).await;
    assert_eq!(outcomes(&watch.look().await), [2104, 6, 0]);
}

#[tokio::test]
async fn a_clean_up_of_the_newest_rows_lowers_what_the_screens_show_and_no_counter() {
    let mut store = Store::new("cleanup").await;
    store.people().await;
    for user in [2, 3, 2, 3, 2] {
        store.run(&Request { user, key: user, ..Request::default() }.insert()).await;
    }
    let mut watch = Watch::of(&store).await;
    store.run("delete from usage_logs where user_id = 2; insert into usage_cleanup_tasks (status, deleted_rows) values ('succeeded', 3)").await;
    store.run(&Request { user: 3, key: 3, ..Request::default() }.insert()).await;
    let after = watch.look().await;
    assert_eq!((after.days[0].1.requests, outcomes(&after)), (3, [6, 0, 0]));
    let audit = after.audit.unwrap();
    assert_eq!((audit.drift_requests, audit.drift_cost_usd), (0.0, Some(0.0)));
    let deleted = after.counters.unwrap().corrections.into_iter().find(|(kind, _)| *kind == "deleted");
    assert_eq!(deleted, Some(("deleted", 3)));
}

#[tokio::test]
async fn ids_of_both_tables_that_a_restored_dump_gives_out_again_are_new_rows() {
    let mut store = Store::new("restored").await;
    store.people().await;
    for _ in 0..5 {
        store.run(&Request::default().insert()).await;
        // Requests tell by now that these are not late, but gone.
        store.run(&Failure { at: "now() - interval '2 minutes'".to_owned(), ..Failure::default() }.insert()).await;
    }
    let mut watch = Watch::of(&store).await;
    // The dump has the first two; the sequences are where they were then.
    store.run("delete from usage_logs where id > 2; delete from ops_error_logs where id > 2; select setval('usage_logs_id_seq', 2), setval('ops_error_logs_id_seq', 2)").await;
    watch.look().await;
    for _ in 0..4 {
        store.run(&Request { model: "after", ..Request::default() }.insert()).await;
        store.run(&Failure { upstream: Some(529), ..Failure::default() }.insert()).await;
        watch.look().await;
    }
    let after = watch.look().await;
    assert_eq!((after.days[0].1.requests, outcomes(&after)), (6, [9, 9, 0]));
    assert_eq!(failures(&after), [(("1".to_owned(), "overloaded"), 4), (("1".to_owned(), "server"), 5)].into());
}

#[tokio::test]
async fn days_begin_where_the_relays_do_also_half_an_hour_from_the_others() {
    for (zone, n) in [("Asia/Kolkata", 0), ("America/New_York", 1), ("UTC", 2)] {
        let mut store = Store::new(&format!("zone_{n}")).await;
        store.people().await;
        store.run(&format!("update usage_group_rollup_state set timezone_name = '{zone}'")).await;
        let midnight = format!("date_trunc('day', now() at time zone '{zone}') at time zone '{zone}'");
        for at in [format!("{midnight} - interval '1 minute'"), midnight.clone(), "now()".to_owned()] {
            store.run(&Request { at, ..Request::default() }.insert()).await;
        }
        let whole = whole_view(&store.plan()).await;
        let start = store.table(&format!("select 'at', extract(epoch from {midnight})::bigint")).await["at"][0];
        assert_eq!(whole.day_start, DateTime::from_timestamp(start, 0), "{zone}");
        let days: BTreeMap<_, _> = whole.days.iter().map(|(day, it)| (*day, it.requests)).collect();
        assert_eq!((days["today"], days["yesterday"]), (2, 1), "{zone}");
    }
    // A zone that is not known here.
    let mut store = Store::new("zone_unknown").await;
    store.people().await;
    store.run("update usage_group_rollup_state set timezone_name = 'Local'").await;
    assert_eq!(parts(&store.plan()).await.0.timezone, "Asia/Shanghai", "`timezone_fallback`");
}

#[tokio::test]
async fn another_zone_is_another_basis_and_no_counter_changes() {
    let mut store = Store::new("zone_change").await;
    store.people().await;
    for _ in 0..3 {
        store.run(&Request::default().insert()).await;
        store.run(&Failure::default().insert()).await;
    }
    let mut watch = Watch::of(&store).await;
    store.run("update usage_group_rollup_state set timezone_name = 'America/New_York'").await;
    assert_eq!(outcomes(&watch.look().await), [3, 3, 0]);
    // Before anything was shown, counters begin anew as well, and with them the errors.
    let mut fresh = follower(&watch.plan);
    fresh.refresh().await.unwrap();
    fresh.refresh().await.unwrap();
    store.run("update usage_group_rollup_state set timezone_name = 'UTC'").await;
    settle(&mut fresh).await;
    assert_eq!(outcomes(&view(&mut fresh, &watch.plan, &Directory::default())), [3, 3, 0]);
}

#[tokio::test]
async fn rows_that_cannot_be_are_left_out_alone() {
    let mut store = Store::new("hostile").await;
    store.people().await;
    store.run(&Request { at: "'infinity'".to_owned(), ..Request::default() }.insert()).await;
    store.run(&Failure { at: "'infinity'".to_owned(), ..Failure::default() }.insert()).await;
    store.run("insert into usage_logs (user_id, api_key_id, account_id, model, duration_ms, first_token_ms) values (1, 1, 1, 'negative', -5, -1)").await;
    store.run(&Request { at: "now() + interval '20 seconds'".to_owned(), ..Request::default() }.insert()).await;
    store.run("update api_keys set expires_at = 'infinity', rate_limit_5h = 1, window_5h_start = '-infinity'; update accounts set overload_until = 'infinity'").await;
    let (directory, live) = parts(&store.plan()).await;
    assert_eq!((directory.keys.len(), directory.keys[0].expires_at, live.accounts.len()), (3, None, 3));
    let mut ledger = crate::claude_code_hub::ledger(&store.plan());
    let refresh = ledger.refresh(&crate::claude_code_hub::all()).await.unwrap();
    assert_eq!((refresh.rows.len(), refresh.refused.ids.len()), (2, 2));
    let whole = whole_view(&store.plan()).await;
    assert_eq!((outcomes(&whole), whole.lag_seconds), ([2, 0, 0], Some(0.0)), "no negative age");
    let now: DateTime<Utc> = Utc::now();
    assert!(refresh.now - now < chrono::TimeDelta::minutes(1));
    // A user who is deleted by hand takes the rows along; the counters stay.
    let mut watch = Watch::of(&store).await;
    store.run("delete from users where id = 1").await;
    assert_eq!(outcomes(&watch.look().await), [2, 0, 0]);
}

#[tokio::test]
async fn a_relay_without_an_error_log_is_read_all_the_same() {
    let mut store = Store::new("no_ops").await;
    store.people().await;
    store.run("drop table ops_error_logs; drop table ops_system_metrics; drop table usage_cleanup_tasks").await;
    store.run(&Request::default().insert()).await;
    assert_eq!(outcomes(&whole_view(&store.plan()).await), [1, 0, 0]);
}

#[tokio::test]
async fn errors_of_a_refresh_that_was_lost_come_again() {
    let mut store = Store::new("lost_refresh").await;
    store.people().await;
    store
        .run(
            "insert into ops_error_logs (api_key_id, user_id, account_id, model, error_phase, error_type, status_code, upstream_status_code)
             select 1, 1, 1, 'sonnet', 'upstream', 'upstream_error', 502, 500 from generate_series(1, 5000)",
        )
        .await;
    let mut ledger = crate::claude_code_hub::ledger(&store.plan());
    let ask = RefreshRequest { limit: 3000, ..crate::claude_code_hub::all() };
    let ids = |refresh: &Refresh| refresh.rows.iter().map(|row| row.request_id).collect::<BTreeSet<_>>();
    // The follower has given up in the meantime, and asks for the same again.
    let lost = ledger.refresh(&ask).await.unwrap();
    let taken = ledger.refresh(&ask).await.unwrap();
    assert_eq!((ids(&lost).len(), ids(&taken)), (3000, ids(&lost)));
    let mut all = ids(&taken);
    let mut token = taken.resume_token;
    while all.len() < 5000 {
        let next = ledger.refresh(&RefreshRequest { resume_token: token, ..ask.clone() }).await.unwrap();
        assert!(!ids(&next).is_subset(&all), "{} of 5000", all.len());
        all.extend(ids(&next));
        token = next.resume_token;
    }
}
