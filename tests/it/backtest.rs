//! Which alerts would have fired: on a history with an outage and a surge in it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use llm_relay_exporter::backtest::{self, Options};
use llm_relay_exporter::demo::HistoryOptions;
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings;

#[tokio::test(flavor = "multi_thread")]
async fn the_planted_outage_and_the_planted_surge_are_in_the_table() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    // A Saturday: what is planted lies two and four days back.
    let until = "2026-03-14T08:30:00Z".parse().unwrap();
    let history = HistoryOptions { days: 9, requests_per_day: 2000, until, ..HistoryOptions::default() };
    let url = crate::claude_code_hub::filled(&postgres, "claude_code_hub", &history).await;
    let planted = history.planted();
    let env = [("DATABASE_URL".to_owned(), url), ("TZ".to_owned(), "Asia/Shanghai".to_owned())].into();
    let mut plan = settings::load(None, &env).unwrap().plan;
    // What is told apart takes time; nothing here is about models and their speed.
    let series = &mut plan.relays.get_mut("default").unwrap().series;
    (series.max_models, series.max_histograms) = (2, 1);
    // From some hours before the one to some minutes after the other.
    let to = planted.surge.end + TimeDelta::minutes(40);
    let last = (to - planted.outage.start + TimeDelta::hours(6)).to_std().unwrap();
    let options = Options { last, to: Some(to), step: Duration::from_secs(180), rules: None };
    let began = Instant::now();
    let report = backtest::run(&plan.relays["default"], &options).await.unwrap();
    println!("{report}\nafter {:.1} s", began.elapsed().as_secs_f64());

    let fired = |alert: &str, labels: (&str, &str), span: &std::ops::Range<chrono::DateTime<chrono::Utc>>| {
        let lines = report.alerts.iter().filter(|line| line.alert == alert);
        lines.flat_map(|line| &line.episodes).any(|episode| {
            let has = labels.0.is_empty() || episode.labels.get(labels.0).is_some_and(|value| value == labels.1);
            // It takes some minutes to see, and some to be over.
            has && episode.start >= span.start.timestamp() && episode.start <= span.end.timestamp() + 1800
        })
    };
    assert!(fired("LLMRelayProviderErrorBudgetBurn", ("provider_id", "3"), &planted.outage), "the outage");
    assert!(fired("LLMRelayUserCostSurge", ("user_id", "5"), &planted.surge), "the surge of the user");
    assert!(fired("LLMRelayCostSurge", ("", ""), &planted.surge), "the surge of the relay");
    let surges = report.alerts.iter().filter(|line| line.alert == "LLMRelayUserCostSurge");
    assert!(
        surges.flat_map(|line| &line.episodes).all(|it| it.labels["user_id"] == "5"),
        "nobody else spends like that"
    );

    // By names, with who was told: the owner's surge explains that of the key.
    let during = |alert: &str| {
        let lines = report.alerts.iter().filter(|line| line.alert == alert).flat_map(|line| &line.episodes);
        let surge = planted.surge.start.timestamp()..planted.surge.end.timestamp();
        lines.filter(|it| surge.contains(&it.start)).cloned().collect::<Vec<_>>()
    };
    let (users, keys) = (during("LLMRelayUserCostSurge"), during("LLMRelayKeyCostSurge"));
    assert_eq!((&*users[0].names["user"], users[0].told.receiver.as_deref()), ("alice", Some("chat")), "{users:?}");
    assert!(keys[0].names.contains_key("key"), "{keys:?}");
    assert_eq!(keys[0].told.kept_back_by.as_deref(), Some("LLMRelayUserCostSurge"), "{keys:?}");

    // An incident is not its own limit: the outage is told at the suggested one, too.
    let spike = report.thresholds.iter().find(|it| it.threshold == "error_ratio_spike").unwrap();
    let outage = planted.outage.start.timestamp()..planted.outage.end.timestamp() + 1800;
    assert!(spike.episodes_after.iter().any(|it| outage.contains(&it.start)), "{spike:?}");
    let json = serde_json::to_value(&report).unwrap();
    let lines = json["alerts"].as_array().unwrap();
    let line = lines.iter().find(|it| it["alert"] == "LLMRelayUserCostSurge" && it["episodes"][0].is_object()).unwrap();
    assert!(line["episodes"][0]["start"].is_i64() && line["episodes"][0]["names"]["user"] == "alice", "{line}");
    let table = report.to_string();
    for text in ["LLMRelayProviderErrorBudgetBurn", "error_ratio_spike", "LLMRelayExporterDown"] {
        assert!(table.contains(text), "{text} is not in\n{table}");
    }
    postgres.stop();
}

#[test]
fn without_prometheus_it_says_how_to_get_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"))
        .args(["backtest"])
        .env_clear()
        .env("DATABASE_URL", "postgres://reader@127.0.0.1:1/none")
        .env("PATH", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("apt-get install prometheus") && told.trim_end().lines().count() == 1, "{told}");
}
