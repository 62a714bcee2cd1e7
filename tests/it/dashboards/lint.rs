//! What Grafana, its linter and our own rules ask of a dashboard.

use std::collections::{BTreeMap, BTreeSet};

use super::{Target, all, filled, grids, panels, targets, text, world};
use llm_relay_exporter::dashboards::promql;
use llm_relay_exporter::lang::Lang;
use llm_relay_exporter::metrics::{CATALOGUE, MetricType};
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use regex::Regex;
use serde_json::Value;

const UIDS: &[&str] = &[
    "llm-relay-overview",
    "llm-relay-trends",
    "llm-relay-wall",
    "llm-relay-leaderboards",
    "llm-relay-providers",
    "llm-relay-quotas",
    "llm-relay-exporter",
    "llm-relay-wall-cch",
];

/// Metrics on no dashboard, and why.
const NOT_SHOWN: &[(&str, &str)] =
    &[("process_virtual_memory_bytes", "says nothing about the need of memory; resident memory is shown")];

/// Metrics of Prometheus itself that stand on dashboards.
const FOREIGN: &[&str] = &[
    "scrape_samples_scraped",
    "scrape_duration_seconds",
    "llm_relay:requests:total",
    "llm_relay_provider:requests:increase20m",
    "llm_relay:links:info",
];

#[test]
fn uids_and_titles_are_fixed_and_unique() {
    for lang in Lang::ALL {
        let uids: Vec<String> = all(lang).iter().map(|dashboard| text(&dashboard["uid"]).to_owned()).collect();
        let expected: Vec<String> = UIDS.iter().map(|uid| format!("{uid}{}", lang.suffix())).collect();
        assert_eq!(uids, expected);
        let titles: BTreeSet<String> = all(lang).iter().map(|dashboard| text(&dashboard["title"]).to_owned()).collect();
        assert_eq!(titles.len(), UIDS.len());
        assert!(uids.iter().all(|uid| uid.len() <= 40));
    }
}

#[test]
fn grafana_finds_nothing_to_migrate_and_nobody_edits() {
    for dashboard in Lang::ALL.into_iter().flat_map(all) {
        assert_eq!(dashboard["schemaVersion"], 39);
        assert_eq!(dashboard["editable"], false);
        assert!(dashboard["refresh"].is_string(), "schema 40");
        assert!(dashboard["timepicker"]["time_options"].is_null(), "schema 41");
        for absent in ["id", "__inputs", "__requires"] {
            assert!(dashboard[absent].is_null(), "{absent} in {}", dashboard["uid"]);
        }
        let intervals = dashboard["timepicker"]["refresh_intervals"].as_array().unwrap();
        assert!(intervals.contains(&dashboard["refresh"]), "{} cannot be refreshed that often", dashboard["uid"]);
        assert_eq!(dashboard["templating"]["list"][0]["current"], serde_json::json!({}));
    }
}

#[test]
fn panels_lie_in_the_grid_and_do_not_overlap() {
    for dashboard in all(Lang::En) {
        let uid = text(&dashboard["uid"]);
        let mut ids = BTreeSet::new();
        for grid in grids(dashboard) {
            let mut taken = BTreeMap::new();
            for panel in grid {
                assert!(ids.insert(panel["id"].as_u64().unwrap()), "id twice on {uid}");
                let [x, y, w, h] = ["x", "y", "w", "h"].map(|edge| panel["gridPos"][edge].as_u64().unwrap());
                assert!(w > 0 && h > 0 && x + w <= 24, "{uid}: {}", panel["title"]);
                for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                    let below = taken.insert(cell, text(&panel["title"]));
                    assert!(below.is_none(), "{uid}: {} lies on {below:?}", panel["title"]);
                }
            }
            let rows: BTreeSet<u64> = taken.keys().map(|(_, y)| *y).collect();
            let height = rows.last().unwrap() + 1 - rows.first().unwrap();
            assert_eq!(taken.len() as u64, 24 * height, "{uid} has holes");
            if uid.starts_with("llm-relay-wall") {
                assert_eq!(height, 26, "the wall fills 1080 pixels and no more");
            }
        }
    }
}

#[test]
fn every_panel_is_explained_and_has_a_unit_and_words_for_nothing() {
    let known = [
        "short",
        "none",
        "string",
        "locale",
        "s",
        "ms",
        "dthms",
        "percentunit",
        "suffix:s",
        "bytes",
        "currencyUSD",
        "time:HH:mm:ss",
    ];
    for dashboard in Lang::ALL.into_iter().flat_map(all) {
        for panel in panels(dashboard).filter(|panel| panel["type"] != "row") {
            let place = format!("{} {}", dashboard["uid"], panel["title"]);
            let name = [&panel["title"], &panel["fieldConfig"]["defaults"]["displayName"]];
            assert!(name.iter().any(|name| !text(name).is_empty()), "{place}");
            assert!(!text(&panel["description"]).is_empty(), "{place}");
            assert!(!text(&panel["fieldConfig"]["defaults"]["noValue"]).is_empty(), "{place}");
            let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap();
            let properties = overrides.iter().flat_map(|rule| rule["properties"].as_array().unwrap());
            let units = properties.filter(|property| property["id"] == "unit").map(|property| &property["value"]);
            let own = &panel["fieldConfig"]["defaults"]["unit"];
            assert!(own.is_string() || panel["type"] == "state-timeline", "{place} has no unit");
            for unit in units.chain([own]).filter(|unit| unit.is_string()) {
                assert!(known.contains(&text(unit)), "{place}: Grafana has no unit {unit}");
            }
            let hidden = &panel["fieldConfig"]["defaults"]["custom"]["hideFrom"];
            assert!(hidden["viz"] != true || hidden["tooltip"] == true, "schema 42: {place}");
            assert!(panel["fieldConfig"]["defaults"]["custom"]["displayMode"].is_null(), "schema 38: {place}");
        }
    }
}

#[test]
fn overrides_name_columns_and_legends_that_exist() {
    for dashboard in Lang::ALL.into_iter().flat_map(all) {
        for panel in panels(dashboard).filter(|panel| panel["type"] != "row") {
            let place = format!("{} {}", dashboard["uid"], panel["title"]);
            let targets = panel["targets"].as_array().unwrap();
            let numbers: Vec<String> = targets.iter().map(|of| format!("Value #{}", text(&of["refId"]))).collect();
            let mut names: BTreeSet<&str> = targets.iter().map(|target| text(&target["legendFormat"])).collect();
            let steps = panel["transformations"].as_array().unwrap();
            for step in steps {
                names.extend(
                    step["options"]["renameByName"].as_object().into_iter().flatten().map(|(_, name)| text(name)),
                );
            }
            // Series that go by the value of a label.
            if names.contains("{{outcome}}") {
                names.extend(["success", "excluded", "failure"]);
            }
            for rule in panel["fieldConfig"]["overrides"].as_array().unwrap() {
                assert!(names.contains(text(&rule["matcher"]["options"])), "{place}: {}", rule["matcher"]["options"]);
            }
            names.insert("at");
            names.extend(numbers.iter().map(String::as_str));
            for sort in steps.iter().flat_map(|step| step["options"]["sort"].as_array().into_iter().flatten()) {
                assert!(names.contains(text(&sort["field"])), "{place} is sorted by {}", sort["field"]);
            }
        }
    }
}

#[test]
fn what_is_of_one_relay_says_of_which_where_several_are_chosen() {
    let of_relay = ["{{user}}", "{{key}}", "{{provider}}", "{{name}}"];
    for dashboard in all(Lang::En) {
        for panel in panels(dashboard).filter(|panel| panel["title"] != "Models today") {
            let place = format!("{} {}", dashboard["uid"], panel["title"]);
            let columns = &panel["transformations"].to_string();
            let is_told = |target: &Value| text(&target["expr"]).contains("$apart");
            for target in panel["targets"].as_array().into_iter().flatten() {
                let named = of_relay.iter().any(|name| text(&target["legendFormat"]).contains(name));
                assert!(!named || is_told(target), "{place}: {}", target["legendFormat"]);
            }
            if columns.contains(r#""relay":"Link""#) || columns.contains(r#""shown_relay":"#) {
                assert!(columns.contains(r#""shown_relay":"Relay""#), "{place} has no column of relays");
                assert!(panel["targets"].as_array().unwrap().iter().any(is_told), "{place}");
            }
        }
    }
}

#[test]
fn everything_asks_the_data_source_of_the_variable() {
    for dashboard in Lang::ALL.into_iter().flat_map(all) {
        let allowed = ["${datasource}", "${postgres}"];
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        for variable in variables.iter().filter(|variable| variable["type"] == "query") {
            assert_eq!(variable["datasource"]["uid"], "${datasource}");
            let with_range = if variable["name"] == "apart" { 1 } else { 2 };
            assert_eq!(variable["refresh"], with_range, "{}: renewed with the time range", variable["name"]);
            assert!(variable["query"]["refId"].is_string() && variable["definition"].is_string());
        }
        for panel in panels(dashboard).filter(|panel| panel["type"] != "row") {
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{} asks nothing", panel["title"]);
            let ids: BTreeSet<&str> = targets.iter().map(|target| text(&target["refId"])).collect();
            assert_eq!(ids.len(), targets.len(), "refId twice in {}", panel["title"]);
            if panel["datasource"]["uid"] == "-- Dashboard --" {
                let mut asking = panels(dashboard).filter(|other| other["id"] == targets[0]["panelId"]);
                let asked = asking.next().unwrap_or_else(|| panic!("{} shows no panel's answers", panel["title"]));
                assert!(text(&asked["datasource"]["uid"]) == "${datasource}", "{}", panel["title"]);
                continue;
            }
            for asked in targets.iter().chain([panel]) {
                assert!(allowed.contains(&text(&asked["datasource"]["uid"])), "{}", panel["title"]);
            }
        }
    }
}

#[test]
fn links_lead_to_dashboards_that_have_their_variables() {
    let link = Regex::new(r#""url":"/d/([a-z-]+)\?([^"]*)""#).unwrap();
    let variable = Regex::new(r"var-([a-z]+)=").unwrap();
    for lang in Lang::ALL {
        let dashboards = all(lang);
        let mut links = 0;
        for dashboard in dashboards {
            let json = dashboard.to_string();
            for found in link.captures_iter(&json) {
                let mut targets = dashboards.iter().filter(|to| to["uid"] == found[1]);
                let target =
                    targets.next().unwrap_or_else(|| panic!("{}: no dashboard {}", dashboard["uid"], &found[1]));
                let variables = target["templating"]["list"].as_array().unwrap();
                for wanted in variable.captures_iter(&found[2]) {
                    assert!(variables.iter().any(|it| it["name"] == wanted[1]), "{}: no {}", &found[0], &wanted[1]);
                }
                links += 1;
            }
        }
        assert!(links > 20, "{links}");
    }
}

#[test]
fn variables_are_declared_and_used() {
    for dashboard in Lang::ALL.into_iter().flat_map(all) {
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let declared: BTreeSet<String> = variables.iter().map(|variable| text(&variable["name"]).to_owned()).collect();
        let mut used = BTreeSet::new();
        for part in dashboard.to_string().split('$').skip(1) {
            let name = part.trim_start_matches('{');
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            used.insert(name[..end].to_owned());
        }
        let built_in =
            |name: &str| name.starts_with("__") || name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty();
        used.retain(|name| !built_in(name));
        assert_eq!(used, declared, "{}", dashboard["uid"]);
    }
}

#[test]
fn links_lead_to_dashboards_of_the_same_language() {
    for lang in Lang::ALL {
        let uids: BTreeSet<String> = UIDS.iter().map(|uid| format!("{uid}{}", lang.suffix())).collect();
        for dashboard in all(lang) {
            for link in dashboard["links"].as_array().unwrap() {
                match text(&link["type"]) {
                    "dashboards" => assert_eq!(link["tags"], dashboard["tags"]),
                    _ => {
                        let uid = text(&link["url"]).trim_start_matches("/d/").split('?').next().unwrap();
                        assert!(uids.contains(uid), "{uid}");
                    }
                }
                assert!(!text(&link["title"]).is_empty());
            }
        }
    }
}

/// Everything in an expression that the catalogue must know.
#[derive(Default)]
struct Names {
    selectors: Vec<VectorSelector>,
    /// Labels that are grouped by, joined on or read, and labels that the expression makes.
    wanted: BTreeSet<String>,
    made: BTreeSet<String>,
    /// Selectors under a function over a range, and those functions.
    ranged: Vec<(String, String)>,
}

impl Names {
    fn read(&mut self, expr: &Expr, function: &str) {
        let modifier = |labels: &LabelModifier| labels.labels().labels.clone();
        match expr {
            Expr::Aggregate(of) => {
                self.wanted.extend(of.modifier.iter().flat_map(modifier));
                self.read(&of.expr, "");
            }
            Expr::Unary(of) => self.read(&of.expr, ""),
            Expr::Paren(of) => self.read(&of.expr, ""),
            Expr::Subquery(of) => self.read(&of.expr, ""),
            Expr::Binary(of) => {
                if let Some(how) = &of.modifier {
                    self.wanted.extend(how.matching.iter().flat_map(modifier));
                    self.wanted.extend(how.card.labels().into_iter().flat_map(|labels| labels.labels.clone()));
                }
                self.read(&of.lhs, "");
                self.read(&of.rhs, "");
            }
            Expr::Call(call) => {
                let texts: Vec<String> = call
                    .args
                    .args
                    .iter()
                    .filter_map(|argument| match &**argument {
                        Expr::StringLiteral(literal) => Some(literal.val.clone()),
                        _ => None,
                    })
                    .collect();
                match call.func.name {
                    "label_replace" => {
                        self.made.insert(texts[0].clone());
                        self.wanted.extend((!texts[2].is_empty()).then(|| texts[2].clone()));
                    }
                    "label_join" => {
                        self.made.insert(texts[0].clone());
                        self.wanted.extend(texts[2..].iter().cloned());
                    }
                    _ => {}
                }
                for argument in &call.args.args {
                    self.read(argument, call.func.name);
                }
            }
            Expr::MatrixSelector(of) => {
                self.ranged.push((of.vs.name.clone().unwrap(), function.to_owned()));
                self.selectors.push(of.vs.clone());
            }
            Expr::VectorSelector(of) => self.selectors.push(of.clone()),
            _ => {}
        }
    }
}

/// What an expression asks for.
pub fn selectors(expr: &str) -> Vec<VectorSelector> {
    names(expr).selectors
}

fn names(expr: &str) -> Names {
    let expr = filled(expr, ".+", &world::SPAN);
    let parsed = parser::parse(&expr).unwrap_or_else(|error| panic!("{error}: {expr}"));
    let mut names = Names::default();
    names.read(&parsed, "");
    names
}

/// Metrics in the queries of panels and variables.
pub fn expressions() -> Vec<Target> {
    let mut all_targets = Vec::new();
    for dashboard in all(Lang::En) {
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let query = text(&variable["definition"]);
            let inner = query.strip_prefix("query_result(").and_then(|query| query.strip_suffix(')'));
            let inner = inner.or_else(|| query.strip_prefix("label_values(")?.rsplit_once(", ").map(|(expr, _)| expr));
            all_targets.extend(inner.map(|expr| Target {
                dashboard: text(&dashboard["uid"]).to_owned(),
                panel: format!("variable {}", text(&variable["name"])),
                id: String::new(),
                expr: expr.to_owned(),
                instant: true,
                step: String::new(),
            }));
        }
        all_targets.extend(targets(dashboard));
    }
    all_targets
}

#[test]
fn metrics_and_labels_are_those_of_the_catalogue() {
    for Target { dashboard, panel, expr, .. } in expressions() {
        let names = names(&expr);
        let mut labels: BTreeSet<String> = names.made.clone();
        for selector in &names.selectors {
            let name = selector.name.as_deref().unwrap();
            let mut own: BTreeSet<&str> = BTreeSet::from(["job", "instance"]);
            if FOREIGN.contains(&name) {
                // One of them is asked whether it has any.
                own.insert("model");
            } else {
                let metric = promql::family(name).unwrap_or_else(|| panic!("{dashboard} {panel}: {name}"));
                own.extend(metric.labels);
                own.extend(metric.is_of_relay().then_some("relay"));
                own.extend((metric.kind == MetricType::Histogram && name.ends_with("_bucket")).then_some("le"));
                let variable = panel.starts_with("variable ");
                let matched = |label: &str| selector.matchers.matchers.iter().any(|matcher| matcher.name == label);
                assert!(matched("job") || variable, "{dashboard} {panel}: {name} of any job");
                assert!(
                    matched("relay") || variable || !own.contains("relay"),
                    "{dashboard} {panel}: {name} of any relay"
                );
            }
            for matcher in &selector.matchers.matchers {
                assert!(
                    own.contains(matcher.name.as_str()),
                    "{dashboard} {panel}: {name} has no label {}",
                    matcher.name
                );
            }
            labels.extend(own.into_iter().map(str::to_owned));
        }
        let strange: Vec<_> = names.wanted.difference(&labels).collect();
        assert!(strange.is_empty(), "{dashboard} {panel}: no metric has the labels {strange:?}");
    }
}

#[test]
fn counters_are_read_as_rates_and_rates_of_charts_follow_the_scrape_interval() {
    for Target { dashboard, panel, expr, instant, .. } in expressions() {
        let names = names(&expr);
        for selector in &names.selectors {
            let name = selector.name.as_deref().unwrap();
            let counter = promql::family(name).is_some_and(|metric| metric.kind != MetricType::Gauge);
            let how = names.ranged.iter().find(|(ranged, _)| ranged == name).map(|(_, function)| function.as_str());
            let rated = matches!(how, Some("rate" | "increase"));
            let exempt = panel.starts_with("variable ");
            assert!(rated == counter || exempt, "{dashboard} {panel}: {name} under {how:?}");
        }
        if !instant {
            for range in expr.split('[').skip(1).map(|rest| rest.split(']').next().unwrap()) {
                let allowed = ["$__rate_interval", "$bucket", "$__range"];
                assert!(allowed.contains(&range), "{dashboard} {panel}: [{range}] in a chart");
            }
        }
    }
}

#[test]
fn every_metric_is_on_a_dashboard() {
    let shown: BTreeSet<&str> = expressions()
        .iter()
        .flat_map(|target| promql::families(&target.expr).unwrap())
        .map(|metric| metric.name)
        .collect();
    for metric in CATALOGUE {
        let excused = NOT_SHOWN.iter().any(|(name, _)| *name == metric.name);
        assert_ne!(shown.contains(metric.name), excused, "{} is on no dashboard, or is and need not be", metric.name);
    }
}

/// The load of one screen. The wall asks every two seconds; 13 queries a second are its limit.
#[test]
fn screens_ask_no_more_than_their_share() {
    for dashboard in all(Lang::En) {
        let seconds = match text(&dashboard["refresh"]) {
            "2s" => 2.0,
            "5s" => 5.0,
            "30s" => 30.0,
            "1m" => 60.0,
            other => panic!("refresh {other}"),
        };
        let in_panels = targets(dashboard).len();
        let in_variables = dashboard["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|variable| variable["type"] == "query" && variable["refresh"] == 2)
            .count();
        let per_second = (in_panels + in_variables) as f64 / seconds;
        println!(
            "{}: {in_panels} + {in_variables} queries every {seconds} s, {per_second:.1} a second",
            text(&dashboard["uid"])
        );
        assert!(per_second <= 13.0, "{} asks {per_second} times a second", dashboard["uid"]);
        for panel in panels(dashboard) {
            assert!(panel["targets"].as_array().map_or(0, Vec::len) <= 11, "{} asks too much", panel["title"]);
        }
        if text(&dashboard["uid"]).starts_with("llm-relay-wall") {
            assert_eq!(in_variables, 0, "variables are asked for with every refresh");
            assert!(panels(dashboard).count() <= 16);
        }
    }
}
