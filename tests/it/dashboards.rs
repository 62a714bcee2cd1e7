//! The Grafana bundle: what is committed is what the generator makes, Grafana can load it, and a real Prometheus answers it.

mod lint;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llm_relay_exporter::dashboards::{self, Lang, Options};
use serde_json::Value;

/// One query of one panel.
struct Target {
    dashboard: String,
    panel: String,
    id: String,
    expr: String,
    instant: bool,
    step: String,
}

fn all(lang: Lang) -> Vec<Value> {
    [false, true].into_iter().flat_map(|optional| dashboards::build(lang, None, optional).unwrap()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().into_iter().flatten()
}

fn targets(dashboard: &Value) -> Vec<Target> {
    let of = |panel: &Value| -> Vec<Target> {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let prometheus = targets.iter().filter(|target| target["datasource"]["type"] == "prometheus");
        prometheus
            .map(|target| Target {
                dashboard: text(&dashboard["uid"]).to_owned(),
                panel: text(&panel["title"]).to_owned(),
                id: text(&target["refId"]).to_owned(),
                expr: text(&target["expr"]).to_owned(),
                instant: target["instant"] == true,
                step: text(&target["interval"]).to_owned(),
            })
            .collect()
    };
    panels(dashboard).flat_map(of).collect()
}

/// An expression as Grafana sends it, with `relay` as the value of that variable.
fn filled(expr: &str, relay: &str) -> String {
    let values = [
        ("$__rate_interval", "10m"),
        ("$__range", "86400s"),
        ("$relay", relay),
        ("$bucket", "1h"),
        ("$compare", "1d"),
        ("$period", "today"),
        ("$type", ".*"),
        ("$job", ".+"),
        ("$instance", ".+"),
        ("$user", ".+"),
        ("$key", ".+"),
        ("$provider", ".+"),
        ("$model", ".+"),
        ("$scope", ".+"),
        ("$window", ".+"),
    ];
    // Longer names first: $relay must not be taken for a part of another.
    values.iter().fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value))
}

fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/dashboards")
}

/// `UPDATE_DASHBOARDS=1 cargo test --test it dashboards` writes the files anew.
#[test]
fn committed_files_are_what_the_generator_makes() {
    let fresh = tempfile::tempdir().unwrap();
    for lang in Lang::ALL {
        for (optional, folder) in [(false, lang.label().to_owned()), (true, format!("optional/{}", lang.label()))] {
            let committed = grafana().join(&folder);
            let update = std::env::var_os("UPDATE_DASHBOARDS").is_some();
            let out = if update { committed.clone() } else { fresh.path().join(&folder) };
            dashboards::write(&Options { lang, out: out.clone(), datasource_uid: None, optional }).unwrap();
            let files = |folder: &Path| -> BTreeSet<(String, String)> {
                let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
                let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
                paths
                    .map(|path| {
                        (
                            path.file_name().unwrap().to_string_lossy().into_owned(),
                            std::fs::read_to_string(&path).unwrap(),
                        )
                    })
                    .collect()
            };
            let stale: Vec<String> =
                files(&committed).symmetric_difference(&files(&out)).map(|(name, _)| name.clone()).collect();
            assert!(stale.is_empty(), "grafana/dashboards/{folder} is stale: {stale:?}; UPDATE_DASHBOARDS=1 renews it");
        }
    }
}

#[test]
fn a_pinned_data_source_is_the_one_to_begin_with() {
    for dashboard in dashboards::build(Lang::En, Some("my-prometheus"), false).unwrap() {
        let source = &dashboard["templating"]["list"][0];
        assert_eq!((text(&source["name"]), text(&source["current"]["value"])), ("datasource", "my-prometheus"));
    }
}

#[test]
fn languages_differ_in_words_alone() {
    /// Structure with every text that may be translated left out.
    fn bones(value: &Value) -> Value {
        match value {
            Value::Object(map) => map
                .iter()
                .filter(|(key, _)| {
                    ![
                        "title",
                        "description",
                        "label",
                        "text",
                        "noValue",
                        "legendFormat",
                        "display",
                        "renameByName",
                        "names",
                        "tags",
                        "query",
                        "uid",
                        "url",
                    ]
                    .contains(&key.as_str())
                })
                .map(|(key, value)| (key.clone(), bones(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
            Value::Array(list) => list.iter().map(bones).collect(),
            // The name of a column, as overrides and sorting know it.
            Value::String(text)
                if !text.is_ascii() || text.contains(' ') || text.chars().next().is_some_and(char::is_uppercase) =>
            {
                Value::Null
            }
            other => other.clone(),
        }
    }
    for (en, zh) in all(Lang::En).iter().zip(all(Lang::Zh)) {
        assert_eq!(format!("{}-zh", text(&en["uid"])), text(&zh["uid"]));
        assert_eq!(bones(en)["panels"], bones(&zh)["panels"], "{}", en["uid"]);
        let exprs = |dashboard: &Value| targets(dashboard).into_iter().map(|target| target.expr).collect::<Vec<_>>();
        assert_eq!(exprs(en), exprs(&zh), "{}", en["uid"]);
        for panel in panels(&zh).filter(|panel| panel["type"] != "row") {
            assert!(!text(&panel["description"]).is_ascii(), "{}: {} is not translated", zh["uid"], panel["title"]);
        }
    }
}

/// Queries that rightly find nothing in a relay where all is well, or that need not.
const MAY_BE_EMPTY: &[(&str, &str, &str)] =
    &[("llm-relay-trends", "others", "no more than ten lines"), ("*", "cfg", "is never a number, see `Panel`")];

#[test]
fn a_real_prometheus_answers_every_query() {
    let prometheus = world::prometheus();
    let mut problems = Vec::new();
    let mut spent: BTreeMap<String, Duration> = BTreeMap::new();
    println!("| dashboard | panel | query | answer |\n|---|---|---|---|");
    for target in all(Lang::En).iter().flat_map(targets) {
        let ask = |relay: &str| {
            let expr = filled(&target.expr, relay);
            if target.instant {
                prometheus.instant(&expr)
            } else {
                prometheus.range(&expr, if target.step.is_empty() { 300 } else { 3600 })
            }
        };
        let place = format!("{} | {} | {}", target.dashboard, target.panel, target.id);
        let began = Instant::now();
        let answer = ask(".+");
        *spent.entry(target.dashboard.clone()).or_default() += began.elapsed();
        match answer {
            Ok(answer) => {
                println!("| {place} | {} |", short(&answer));
                let excused = MAY_BE_EMPTY.iter().any(|(dashboard, id, _)| {
                    (*dashboard == "*" || *dashboard == target.dashboard) && *id == target.id
                });
                if answer.is_empty() && !excused {
                    problems.push(format!("{place}: no answer to {}", filled(&target.expr, ".+")));
                }
            }
            Err(error) => problems.push(format!("{place}: {error}\n  {}", filled(&target.expr, ".+"))),
        }
        // A relay that cannot tell has no number, and above all not 0.
        if target.expr.contains("$relay") && !target.expr.contains("vector(3)") {
            match ask("none") {
                Ok(answer) if answer.is_empty() => {}
                other => problems.push(format!("{place}: for a relay without such numbers: {other:?}")),
            }
        }
    }
    println!("time of one refresh without concurrency: {spent:.0?}");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn short(answer: &[Value]) -> String {
    let Some(first) = answer.first() else { return "nothing".to_owned() };
    let labels: Vec<String> = first["metric"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", text(value)))
        .collect();
    let value = first["value"].get(1).or_else(|| first["values"].as_array()?.last()?.get(1));
    format!("{} series, first {{{}}} {}", answer.len(), labels.join(", "), value.map_or("", text))
}

#[test]
fn replicas_do_not_add_up_and_names_are_those_of_now() {
    let prometheus = world::prometheus();
    let all = all(Lang::En);
    let ask = |dashboard: &str, panel: &str, id: &str| {
        let targets: Vec<Target> = all.iter().flat_map(targets).collect();
        let target = targets
            .iter()
            .find(|target| {
                (target.dashboard.as_str(), target.panel.as_str(), target.id.as_str()) == (dashboard, panel, id)
            })
            .unwrap_or_else(|| panic!("no {id} of {panel} on {dashboard}"));
        prometheus.instant(&filled(&target.expr, ".+")).unwrap()
    };
    let value = |series: &Value| text(&series["value"][1]).parse::<f64>().unwrap();

    let cost = ask("llm-relay-overview", "Cost today", "now");
    let at = |at: &str| cost.iter().find(|series| series["metric"]["at"] == at).map(value);
    assert_eq!((at("1"), at("2")), (Some(10.0), Some(12.5)));

    let users = ask("llm-relay-leaderboards", "Users in the time range", "cost");
    let names: BTreeSet<&str> = users.iter().map(|series| text(&series["metric"]["user"])).collect();
    assert_eq!(users.len(), 4, "{users:?}");
    assert!(names.contains("user 1") && names.contains("9"), "a deleted user keeps its id: {names:?}");
}
