//! Data that nobody sane would write, and bytes that are none of what they should be.

mod entry;

use std::time::Duration;

use futures_util::future::join_all;
use llm_relay_exporter::settings::Plan;
use llm_relay_exporter::tally::{Presentation, Tally};
use proptest::prelude::*;

use crate::claude_code_hub::{Store, plan};
use crate::process::{Page, Serving, total, value};
use crate::tally::{moment, row};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_from_outside_do_harm(
        bytes in any::<Vec<u8>>(),
        web in "(tls_server_config|basic_auth_users|http_server_config|rate_limit|bearer_tokens_file)?:? ?[\\[{]?\\PC{0,20}[&*!|>-]? ?\\PC{0,20}\n? ?\\PC{0,20}",
        address in "\\PC{0,10}[:@/,?&=#%]\\PC{0,10}[:@/,?&=#%]\\PC{0,10}",
    ) {
        entry::configuration(&bytes);
        entry::web_configuration(&bytes);
        entry::web_configuration(web.as_bytes());
        entry::addresses(&bytes);
        entry::addresses(address.as_bytes());
        entry::accept(&bytes);
    }
}

/// One reply of Redis' protocol, well formed or not.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        "[+-]\\PC{0,20}\r\n".prop_map(String::into_bytes),
        any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| { [format!("${}\r\n", bytes.len()).into_bytes(), bytes, b"\r\n".to_vec()].concat() }),
        Just(b"$-1\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b"$99999999999\r\nx".to_vec()),
        Just(b"*2147483647\r\n:1\r\n".to_vec()),
        Just(b"*99999999999999999999\r\n".to_vec()),
        Just(b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n".to_vec()),
        Just(b"-MOVED 1 127.0.0.1:1\r\n".to_vec()),
        Just(b",nan\r\n".to_vec()),
        Just(b"%1\r\n+a\r\n+b\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 1..30),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop::collection::vec(inner, 0..5)
            .prop_map(|parts| [format!("*{}\r\n", parts.len()).into_bytes(), parts.concat()].concat())
    })
}

#[test]
fn no_reply_of_redis_does_harm() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases: 6, max_shrink_iters: 50, ..ProptestConfig::default() };
    // Ten servers at once, because most of the time they are waited for in vain.
    let servers = prop::collection::vec(prop::collection::vec(reply(), 1..6), 10);
    proptest!(config, |(servers in servers)| {
        runtime.block_on(join_all(servers.into_iter().map(entry::redis_replies)));
    });
    // Nested more deeply than anything that Redis says.
    runtime.block_on(entry::redis_replies(vec![b"*1\r\n".repeat(100_000)]));
}

#[test]
fn no_value_in_any_column_does_harm() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Ten files at once: with a rollback journal most of the time is rests.
    let files = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 10);
    proptest!(ProptestConfig::with_cases(6), |(files in files)| {
        runtime.block_on(join_all(files.iter().map(|bytes| entry::rows(bytes))));
    });
}

#[test]
fn fifty_thousand_models_stay_within_the_budget() {
    let relay = plan("postgres://nobody@127.0.0.1:1/none", None);
    let now = chrono::DateTime::from_timestamp(1_795_000_000, 0).unwrap();
    let mut tally = Tally::new(moment(chrono_tz::UTC, now));
    let named = |n: i64| llm_relay_exporter::model::UsageRow {
        model: Some(if n == 7 { "x".repeat(1 << 20).into() } else { format!("model-{n}").into() }),
        ..row(n, now - chrono::Duration::seconds(n % 3000))
    };
    for chunk in 0..5 {
        tally.apply((chunk * 10_000..(chunk + 1) * 10_000).map(named));
    }
    tally.complete();
    let view = tally.view(&Presentation { directory: None, live: None, boards: &relay.boards, series: &relay.series });
    let traffic = view.counters.unwrap().traffic.iter().count();
    assert!(traffic <= relay.series.max_models + 1, "{traffic}");
    let boards: usize = view.boards.iter().map(|board| board.entries.len()).sum();
    assert!(boards < 1000, "{boards}");
}

fn holds(page: &Page, name: &str) -> f64 {
    total(page, name, "hub")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_takes_the_others_with_it() {
    let mut store = Store::new("hostile", "v0.9.2").await;
    store.people().await;
    let good = "insert into message_request (provider_id, user_id, key, model, status_code, cost_usd, duration_ms, input_tokens, output_tokens)
                values (1, 1, 'sk-ann', 'good', 200, 0.5, 900, 10, 20)";
    for _ in 0..5 {
        store.run(good).await;
    }
    let label = "a\"b\\c{relay=\"x\"} 1\n# TYPE d gauge\nd 5 𝔘\u{200b}\u{202e} é";
    let long = "n".repeat(1 << 20);
    let mut taken = 0;
    for (columns, values) in [
        ("cost_usd", "'NaN'"),
        ("cost_usd", "-5"),
        ("cost_usd", "99999.99"),
        ("input_tokens, output_tokens", "9223372036854775807, 9223372036854775807"),
        ("input_tokens, output_tokens", "9223372036854775807, 9223372036854775807"),
        ("input_tokens, cache_read_input_tokens", "-9223372036854775808, -1"),
        ("duration_ms, ttfb_ms", "-2147483648, 2147483647"),
        ("duration_ms, ttfb_ms", "2147483647, 0"),
        ("created_at", "'0001-01-01'"),
        ("created_at", "'9999-12-31'"),
        ("created_at", "'infinity'"),
        ("created_at", "'-infinity'"),
        ("created_at", "'4713-01-01 BC'"),
        ("status_code", "-1"),
        ("status_code", "2147483647"),
        ("model, original_model", "'', ''"),
        ("model", &format!("left('{}', 100)", label.replace('\'', "''"))),
        ("endpoint, session_id", "'/v1/\n\t', '\u{1}'"),
        ("provider_chain", "'[{\"id\": \"nobody\"}, 5, null, []]'"),
        ("cost_multiplier", "'NaN'"),
    ] {
        let insert = format!(
            "insert into message_request (provider_id, user_id, key, {columns}) values (1, 1, 'sk-ann', {values})"
        );
        let tried = sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut store.owner).await;
        taken += u32::from(tried.is_ok());
        if let Err(error) = tried {
            println!("the relay's database takes no {values:.40}: {error}");
        }
    }
    assert!(taken > 10, "{taken}");
    for entity in [
        format!("update users set name = '{long}'"),
        format!("update keys set name = '{}', expires_at = '-infinity'", label.replace('\'', "''")),
        "insert into keys (user_id, key, name, expires_at) values (1, 'sk-2', 'second', 'infinity')".to_owned(),
        "update providers set limit_daily_usd = 'NaN', daily_reset_time = 'never'".to_owned(),
    ] {
        if let Err(error) = sqlx::raw_sql(sqlx::AssertSqlSafe(entity)).execute(&mut store.owner).await {
            println!("the relay's database takes no {error}");
        }
    }
    let mut relay = plan(&store.url, None);
    relay.interval = Duration::from_millis(200);
    relay.directory_interval = Duration::from_millis(200);
    relay.audit_interval = Duration::from_secs(1);
    let exporter = Serving::start(Plan { relays: [("hub".to_owned(), relay)].into(), store: None });
    let good_requests =
        |page: &Page| value(page, "llm_relay_requests_total", &[("model", "good"), ("outcome", "success")]);
    let all_there = |page: &Page| good_requests(page) == Some(5.0) && holds(page, "llm_relay_user_info") == 1.0;
    exporter.until("what is good is there", all_there).await;
    store.run(good).await;
    exporter.until("reading goes on", |page| good_requests(page) == Some(6.0)).await;
    let page = exporter.page();
    for source in ["ledger", "directory"] {
        assert_eq!(value(&page, "llm_relay_source_up", &[("source", source)]), Some(1.0), "{source}");
    }
    assert_eq!(holds(&page, "llm_relay_key_info"), 2.0);
    assert!(page.keys().all(|(_, labels)| labels.values().all(|value| value.len() <= 256)), "no value is too long");
    assert!(!page.keys().any(|(name, _)| name == "d"), "no label writes a line of its own");
    exporter.stop().await;
}
