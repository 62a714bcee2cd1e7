//! Long ranges are read from what the rules record.

use llm_relay_exporter::lang::Lang;
use serde_json::Value;

use super::prometheus::{Prometheus, Span};
use super::{all, counted, filled, panels, text, world};

#[test]
fn long_ranges_are_the_same_from_what_is_recorded() {
    let plain = world::prometheus();
    let recorded = world::recorded(&plain);
    let all = all(Lang::En);
    let dashboard = |uid: &str| all.iter().find(|dashboard| dashboard["uid"] == uid).unwrap();
    let (trends, providers) = (dashboard("llm-relay-trends"), dashboard("llm-relay-providers"));
    let (overview, boards) = (dashboard("llm-relay-overview"), dashboard("llm-relay-leaderboards"));
    assert_eq!(separator(&recorded, trends, 2, "1d", ".+"), ":");
    assert_eq!(separator(&recorded, trends, 2, "1h", ".+"), "_", "hours are too short for it");
    assert_eq!(separator(&recorded, providers, 2, "", ".*"), ":");
    assert_eq!(separator(&recorded, providers, 2, "", "gpt"), "_", "models are not told apart");
    assert_eq!([overview, boards].map(|it| separator(&recorded, it, 2, "", "")), [":", ":"]);
    for dashboard in [trends, providers, overview, boards] {
        assert_eq!(separator(&recorded, dashboard, 1, "1d", ".*"), "_", "a day is too short for it");
        assert_eq!(separator(&plain, dashboard, 2, "1d", ".*"), "_", "nothing is recorded");
    }

    let compared = [trends, providers, overview, boards].map(|dashboard| compare(&recorded, dashboard));
    let fewest = [40, 60, 2, 20];
    assert!(compared.iter().zip(fewest).all(|(compared, fewest)| *compared > fewest), "{compared:?} numbers");
}

/// An expression as a page of so many days sends it.
fn of_days(expr: &str, days: i64, bucket: &str) -> String {
    let span = Span { seconds: days * 86_400, step: 86_400, rate_interval: "12h", compare: "1h" };
    filled(&expr.replace("$bucket", bucket), ".+", &span)
}

/// What Prometheus chooses: `_` for counters, `:` for what is recorded of them.
fn separator(server: &Prometheus, dashboard: &Value, days: i64, bucket: &str, models: &str) -> String {
    let variable = dashboard["templating"]["list"].as_array().unwrap().iter().find(|it| it["name"] == "sep").unwrap();
    let query = text(&variable["definition"]).strip_prefix("query_result(").unwrap().strip_suffix(')').unwrap();
    let answer = server.instant(&of_days(&query.replace("$model", models), days, bucket)).unwrap();
    text(&answer[0]["metric"]["sep"]).to_owned()
}

/// Asks everything twice, of counters and of what is recorded of them. How many numbers there were.
fn compare(recorded: &Prometheus, dashboard: &Value) -> usize {
    let mut compared = 0;
    for target in panels(dashboard).flat_map(|panel| panel["targets"].as_array().into_iter().flatten()) {
        let expr = text(&target["expr"]);
        if !expr.contains("${sep}") || target["refId"] == "running" {
            continue;
        }
        let ask = |expr: &str| {
            // A day before, there is no whole day.
            let expr = of_days(expr, 1, "1d").replace(" offset -1d", "").replace(" offset 1d", " offset 1h");
            let mut answer = recorded.instant(&expr).unwrap();
            answer.sort_by_key(|series| series["metric"].to_string());
            answer
        };
        let [counted, recorded] = [counted(expr), expr.replace("${sep}", ":")].map(|expr| ask(&expr));
        assert_eq!(counted.len(), recorded.len(), "{expr}");
        for (counted, recorded) in counted.iter().zip(&recorded) {
            assert_eq!(counted["metric"], recorded["metric"], "{expr}");
            let [one, other] = [counted, recorded].map(|it| text(&it["value"][1]).parse::<f64>().unwrap());
            // Twenty minutes more or less are three hundredths of the twelve hours that are asked for.
            let allowed = if expr.contains("increase20m") { 0.03 } else { 0.01 };
            assert!(one == other || (one - other).abs() < allowed * one.abs(), "{one} and {other}: {expr}");
            compared += 1;
        }
    }
    compared
}
