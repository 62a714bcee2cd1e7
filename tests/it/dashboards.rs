//! The Grafana bundle: what is committed is what the generator makes, Grafana can load it, and a real Prometheus answers it.

mod demo;
mod kinds;
mod lint;
mod long_ranges;
pub mod prometheus;
mod provisioning;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use llm_relay_exporter::dashboards::{self, Options};
use llm_relay_exporter::lang::Lang;
use llm_relay_exporter::relay::Product;
use llm_relay_exporter::relays::PRODUCTS;
use regex::{Captures, Regex};
use serde_json::Value;

use prometheus::{Prometheus, Span};

use crate::generated;

/// One query of one panel.
#[derive(Clone)]
struct Target {
    dashboard: String,
    panel: String,
    id: String,
    expr: String,
    instant: bool,
    step: String,
}

impl Target {
    fn ask(&self, prometheus: &Prometheus, span: &Span, relay: &str) -> Result<Vec<Value>, String> {
        // Buckets of an hour need a day.
        let span = if self.step == "$bucket" { Span { seconds: 86_400, step: 3600, ..*span } } else { *span };
        let expr = self.expr.replace("$__to", &format!("{}000", prometheus.time()));
        let expr = filled(&expr, relay, &span);
        if self.instant { prometheus.instant(&expr) } else { prometheus.range(&expr, span.seconds, span.step) }
    }

    /// Without what stands in for a number that is not told.
    fn number(&self) -> Self {
        let end = self.reason().map_or(self.expr.len(), |reason| self.expr.len() - reason.len());
        Self { expr: self.expr[..end].to_owned(), ..self.clone() }
    }

    /// What stands in for a number that is not told.
    fn reason(&self) -> Option<&str> {
        static BEGINS: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r" or on \(\) (label_replace\()?\((group\(llm_relay_info|min\(max by \(relay, source\) \(llm_relay_source_up)").unwrap()
        });
        BEGINS.find(&self.expr).map(|found| &self.expr[found.start()..])
    }
}

fn all(lang: Lang) -> &'static [Value] {
    static BUNDLES: [OnceLock<Vec<Value>>; Lang::ALL.len()] = [const { OnceLock::new() }; Lang::ALL.len()];
    let build = |optional| dashboards::build(&Options { lang, optional, ..Options::default() }).unwrap();
    BUNDLES[lang as usize].get_or_init(|| [false, true].into_iter().flat_map(build).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Every panel, those below a folded heading too.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    grids(dashboard).flatten()
}

/// What is shown at once, and what each folded heading shows when it is opened.
fn grids(dashboard: &Value) -> impl Iterator<Item = &Vec<Value>> {
    let shown = dashboard["panels"].as_array();
    let folded = shown.into_iter().flatten().filter(|panel| panel["collapsed"] == true);
    shown.into_iter().chain(folded.filter_map(|heading| heading["panels"].as_array()))
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
                expr: counted(text(&target["expr"])),
                instant: target["instant"] == true,
                step: text(&target["interval"]).to_owned(),
            })
            .collect()
    };
    panels(dashboard).flat_map(of).collect()
}

/// With the names of counters instead of what is recorded of them.
fn counted(expr: &str) -> String {
    static SUMMED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#" or sum_over_time\(\{__name__="llm_relay_provider\$[^"]*",[^}]*\}\[[^]]*\](?: @ end\(\))?\)"#)
            .unwrap()
    });
    static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"\{__name__="([^"]+)","#).unwrap());
    let name = |found: &Captures<'_>| found[1].replace("${sep}", "_") + "{";
    NAME.replace_all(&SUMMED.replace_all(expr, ""), name).into_owned()
}

/// An expression as Grafana sends it, with `relay` as the value of that variable.
fn filled(expr: &str, relay: &str, span: &Span) -> String {
    let values = [
        ("$__rate_interval", span.rate_interval.to_owned()),
        ("$__range_s", span.seconds.to_string()),
        ("$__range", format!("{}s", span.seconds)),
        ("$relay", relay.to_owned()),
        ("$bucket", "1h".to_owned()),
        ("$compare", span.compare.to_owned()),
        ("$period", "today".to_owned()),
        ("$apart", "relay".to_owned()),
        ("$type", ".*".to_owned()),
        ("$model", ".*".to_owned()),
        ("$__to", "1".to_owned()),
        ("$__interval_ms", format!("{}000", span.step)),
    ];
    let any = ["$job", "$instance", "$user", "$key", "$provider", "$scope", "$window"];
    let values = values.into_iter().chain(any.map(|name| (name, ".+".to_owned())));
    values.fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, &value))
}

/// What the panels of a dashboard ask.
pub fn asked(dashboard: &Value) -> Vec<String> {
    targets(dashboard).iter().map(|target| filled(&target.expr, ".+", &world::SPAN)).collect()
}

fn grafana() -> PathBuf {
    generated::path("grafana/dashboards")
}

#[test]
fn committed_files_are_what_the_generator_makes() {
    let fresh = tempfile::tempdir().unwrap();
    for lang in Lang::ALL {
        for (optional, folder) in [(false, lang.label().to_owned()), (true, format!("optional/{}", lang.label()))] {
            let committed = grafana().join(&folder);
            let out = if generated::is_wanted() { committed.clone() } else { fresh.path().join(&folder) };
            dashboards::write(&Options { lang, out: out.clone(), optional, ..Options::default() }).unwrap();
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
            assert!(stale.is_empty(), "grafana/dashboards/{folder} is stale: {stale:?}; run tests/regenerate");
        }
    }
}

#[test]
fn a_pinned_data_source_is_the_one_to_begin_with() {
    let pinned = Options { datasource_uid: Some("my-prometheus".to_owned()), ..Options::default() };
    for dashboard in dashboards::build(&pinned).unwrap() {
        let source = &dashboard["templating"]["list"][0];
        assert_eq!((text(&source["name"]), text(&source["current"]["value"])), ("datasource", "my-prometheus"));
    }
}

/// The dashboards of one kind of relay.
fn of_kind(product: &'static Product, lang: Lang) -> Vec<Value> {
    dashboards::build(&Options { lang, relays: vec![product], ..Options::default() }).unwrap()
}

#[test]
fn dashboards_of_a_kind_fill_the_grid_and_stay_those_of_the_bundle() {
    let bundle: Vec<String> = all(Lang::En).iter().map(|dashboard| text(&dashboard["uid"]).to_owned()).collect();
    for product in PRODUCTS {
        for dashboard in of_kind(product, Lang::En).iter().chain(&of_kind(product, Lang::Zh)) {
            let place = format!("{}: {}", product.label, dashboard["uid"]);
            assert!(bundle.contains(&text(&dashboard["uid"]).replace("-zh", "")), "{place} is a dashboard of its own");
            let mut rows: BTreeMap<(usize, u64), Vec<[u64; 3]>> = BTreeMap::new();
            for (at, grid) in grids(dashboard).enumerate() {
                for panel in grid {
                    let [x, y, w, h] = ["x", "y", "w", "h"].map(|of| panel["gridPos"][of].as_u64().unwrap());
                    rows.entry((at, y)).or_default().push([x, w, h]);
                }
            }
            for (y, row) in rows {
                let end = row.iter().fold(0, |end, [x, w, h]| {
                    assert_eq!((*x, *h), (end, row[0][2]), "{place}: row {y:?}: {row:?}");
                    end + w
                });
                assert_eq!(end, 24, "{place}: row {y:?} does not fill the screen: {row:?}");
            }
        }
    }
}

#[test]
fn the_kinds_are_those_of_the_command_line_or_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("exporter.toml");
    std::fs::write(&config, "[relays.g]\nkind = \"gemini-balance\"\ndatabase_url = \"sqlite:/nowhere.db\"\n").unwrap();
    let written = |out: &str, arguments: &[&str]| {
        let out = folder.path().join(out);
        let mut command = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
        let ended = command.args(["dashboards", "--lang", "en", "--out"]).arg(&out).args(arguments).output().unwrap();
        let files = std::fs::read_dir(&out).into_iter().flatten().count();
        (ended.status.code(), files, String::from_utf8(ended.stderr).unwrap())
    };
    let config = format!("--config.file={}", config.display());
    assert_eq!(written("all", &[]).1, 7);
    // It sets no limits.
    assert_eq!(written("named", &["--kind", "gemini-balance"]).1, 6);
    assert_eq!(written("configured", &[&config]).1, 6);
    assert_eq!(written("both", &["--kind", "gemini-balance", "--kind", "claude-code-hub"]).1, 7);
    let (code, files, said) = written("wrong", &["--kind", "gemini"]);
    assert_eq!((code, files), (Some(64), 0));
    assert!(said.contains("the kinds are claude-code-hub, "), "{said}");
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
        assert_eq!(bones(en)["panels"], bones(zh)["panels"], "{}", en["uid"]);
        let exprs = |dashboard: &Value| targets(dashboard).into_iter().map(|target| target.expr).collect::<Vec<_>>();
        assert_eq!(exprs(en), exprs(zh), "{}", en["uid"]);
        for panel in panels(zh).filter(|panel| panel["type"] != "row") {
            assert!(!text(&panel["description"]).is_ascii(), "{}: {} is not translated", zh["uid"], panel["title"]);
        }
    }
}

/// Panel, query and why it may have no answer.
type Excuse = (&'static str, &'static str, &'static str);

/// What a minute of the demo need not show; [`world`] does.
const BEYOND_THE_DEMO: &[Excuse] = &[
    ("Cost and calls", "cost_before", "the day before its first scrape"),
    ("Cost and calls", "calls_before", "the day before its first scrape"),
    ("Answered by another model than asked for", "count", "too rare for one minute"),
    ("Requests without a price", "unpriced", "too rare for one minute"),
    ("Refused requests per minute", "rejected", "too rare for one minute"),
    ("Failed refreshes per minute", "failures", "nothing fails"),
    ("Corrections per hour", "corrections", "nothing need be corrected"),
    ("Corrections in dollars per hour", "corrections", "nothing need be corrected"),
    ("Statements that are refused", "refused", "all are run"),
    ("Ledger lag", "replica", "the demo's database is no replica"),
    ("The relay itself", "up", "the demo is a relay's stores, without the relay"),
    ("The relays themselves", "now", "the demo is a relay's stores, without the relay"),
    ("Duration of the probe", "duration", "the demo is a relay's stores, without the relay"),
    ("Failed probes per minute", "failures", "the demo is a relay's stores, without the relay"),
    ("Limits of users", "empty", "at some hours no limit will be used up before its reset"),
    ("Limits of keys", "empty", "at some hours no limit will be used up before its reset"),
    ("Limits of teams", "empty", "at some hours no limit will be used up before its reset"),
    ("Limits of organizations", "empty", "at some hours no limit will be used up before its reset"),
    ("Limits of providers", "empty", "at some hours no limit will be used up before its reset"),
    ("Upstream accounts", "back", "an account is out for some minutes now and then"),
    ("Open circuits try again in", "reopen", "a circuit opens for some seconds now and then"),
];

/// Lines beyond the tenth, where there are no more than ten.
const FEW: &[Excuse] = &[
    ("Cost of providers, stacked", "others", "no more than ten providers"),
    ("Calls of providers, stacked", "others", "no more than ten providers"),
    ("Cost of models, stacked", "others", "no more than ten models"),
    ("Calls of models, stacked", "others", "no more than ten models"),
];

/// The synthetic relay is small.
const FEWER: &[Excuse] = &[
    ("Cost of users, stacked", "others", "no more than ten users"),
    ("Calls of users, stacked", "others", "no more than ten users"),
    ("Cost of keys, stacked", "others", "no more than ten keys"),
    ("Calls of keys, stacked", "others", "no more than ten keys"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_that_scraped_the_demo_answers_every_query() {
    let prometheus = &demo::scraped().await;
    let problems = tokio::task::block_in_place(|| {
        let mut problems = ask(prometheus, &demo::SPAN, &[BEYOND_THE_DEMO, FEW].concat());
        problems.extend(kinds::ask(prometheus, &demo::SPAN, &[BEYOND_THE_DEMO, FEW, FEWER].concat()));
        problems.extend(kinds::boards(prometheus));
        problems.extend(kinds::apart(prometheus));
        problems.extend(rules(prometheus));
        problems
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn what_the_demo_cannot_show_has_an_answer_too() {
    let problems = ask(&world::prometheus(), &world::SPAN, &[FEW, FEWER].concat());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Prints what the shipped rules and alerts say; which of them the server cannot evaluate.
fn rules(prometheus: &Prometheus) -> Vec<String> {
    let mut problems = Vec::new();
    let rules = prometheus.rules();
    assert!(rules.len() > 50, "the shipped rules are loaded");
    println!("| rule | state |\n|---|---|");
    for rule in rules {
        let name = text(&rule["name"]);
        match prometheus.instant(text(&rule["query"])) {
            Ok(answer) => {
                let state = if rule["state"].is_string() { text(&rule["state"]) } else { text(&rule["health"]) };
                println!("| {name} | {state}, {} series now |", answer.len());
            }
            Err(error) => problems.push(format!("{name}: {error}")),
        }
        if rule["health"] == "err" {
            problems.push(format!("{name}: {}", rule["lastError"]));
        }
    }
    problems
}

/// Prints the table of panels, queries and answers; what is wrong with them.
fn ask(prometheus: &Prometheus, span: &Span, excused: &[Excuse]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut spent: BTreeMap<String, Duration> = BTreeMap::new();
    println!("| dashboard | panel | query | answer |\n|---|---|---|---|");
    for target in all(Lang::En).iter().flat_map(targets) {
        let place = format!("{} | {} | {}", target.dashboard, target.panel, target.id);
        let began = Instant::now();
        let answer = target.ask(prometheus, span, ".+");
        *spent.entry(target.dashboard.clone()).or_default() += began.elapsed();
        let excuse = excused.iter().find(|(panel, id, _)| (*panel, *id) == (&target.panel, &target.id));
        match answer {
            Ok(answer) => {
                println!("| {place} | {} |", short(&answer, excuse));
                if answer.is_empty() && excuse.is_none() {
                    problems.push(format!("{place}: no answer to {}", filled(&target.expr, ".+", span)));
                }
            }
            Err(error) => problems.push(format!("{place}: {error}\n  {}", filled(&target.expr, ".+", span))),
        }
        // A relay that cannot tell has no number, and above all not 0.
        if target.expr.contains("$relay") && !target.expr.contains("vector(3)") {
            match target.ask(prometheus, span, "none") {
                Ok(answer) if answer.is_empty() => {}
                other => problems.push(format!("{place}: for a relay without such numbers: {other:?}")),
            }
        }
    }
    println!("time of one refresh without concurrency: {spent:.0?}");
    problems
}

fn short(answer: &[Value], excuse: Option<&Excuse>) -> String {
    let Some(first) = answer.first() else {
        return excuse.map_or_else(|| "no answer".to_owned(), |(_, _, why)| format!("none: {why}"));
    };
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
fn replicas_do_not_add_up_names_are_those_of_now_and_the_bar_that_is_not_over_is_marked() {
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
        target.ask(&prometheus, &world::SPAN, ".+").unwrap()
    };
    let value = |series: &Value| text(&series["value"][1]).parse::<f64>().unwrap();

    let running = ask("llm-relay-trends", "Calls by hour or day", "running");
    let [only] = &running[0]["values"].as_array().unwrap()[..] else { panic!("one bar is not over: {running:?}") };
    assert_eq!(only[0], prometheus.time() / 3600 * 3600);

    let cost = ask("llm-relay-overview", "Cost today", "now");
    let at = |at: &str| cost.iter().find(|series| series["metric"]["at"] == at).map(value);
    assert_eq!((at("1"), at("2")), (Some(10.0), Some(12.5)));

    let back = ask("llm-relay-providers", "Upstream accounts", "back");
    assert!(!back.is_empty() && back.iter().all(|series| value(series) == -60.0), "{back:?}");

    let users = ask("llm-relay-leaderboards", "Users in the time range", "order");
    let names: BTreeSet<&str> = users.iter().map(|series| text(&series["metric"]["user"])).collect();
    assert_eq!(users.len(), 4, "{users:?}");
    assert!(names.contains("user 1") && names.contains("9"), "a deleted user keeps its id: {names:?}");
}
