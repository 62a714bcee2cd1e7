//! A dashboard and its JSON: classic, schema version 39, with nothing left to migrate up to 42 (Grafana 11 to 13).

use anyhow::Context;
use serde_json::{Value, json};

use super::panel::Panel;
use super::promql::Replicas;
use super::query::{Query, prometheus};
use super::text::Texts;
use super::variable::Variable;
use crate::lang::Lang;

const SCHEMA_VERSION: u32 = 39;
/// Grafana's grid: columns over the width of the screen.
const COLUMNS: u32 = 24;

/// Alerts where they begin: whole spans of several would hide what they are about.
const STARTED: &str =
    r#"ALERTS{alertstate="firing",relay=~"$relay"} unless ALERTS{alertstate="firing"} offset $__interval"#;

pub(crate) struct Dashboard {
    /// Without the language.
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub refresh: &'static str,
    /// Where the time range begins; it ends now.
    pub from: &'static str,
    pub replicas: Replicas,
    pub variables: Vec<Variable>,
    pub rows: Vec<Row>,
    /// Further links: text and URL. `{suffix}` stands for the language's part of a uid.
    pub links: Vec<(&'static str, &'static str)>,
    /// Marks alerts that fired on its charts.
    pub alerts: bool,
    /// A menu of time ranges of its own.
    pub quick_ranges: bool,
}

/// Begins a part of a dashboard.
#[derive(Clone, Copy)]
pub(crate) struct Heading {
    pub text: &'static str,
    /// Its panels are neither shown nor asked for until somebody opens it.
    pub folded: bool,
}

/// Panels beside each other: their common height, their widths.
pub(crate) struct Row {
    pub heading: Option<Heading>,
    pub height: u32,
    pub panels: Vec<(u32, Panel)>,
    /// What takes the places of panels that the relays can never fill, in order of preference.
    pub instead: Vec<(u32, Panel)>,
}

pub(crate) fn row(height: u32, panels: impl IntoIterator<Item = (u32, Panel)>) -> Row {
    Row { heading: None, height, panels: panels.into_iter().collect(), instead: Vec::new() }
}

impl Row {
    pub(crate) fn under(mut self, text: &'static str) -> Self {
        self.heading = Some(Heading { text, folded: false });
        self
    }

    pub(crate) fn folded(mut self, text: &'static str) -> Self {
        self.heading = Some(Heading { text, folded: true });
        self
    }

    pub(crate) fn or(mut self, instead: impl IntoIterator<Item = (u32, Panel)>) -> Self {
        self.instead.extend(instead);
        self
    }
}

impl Dashboard {
    pub(crate) fn uid(&self, lang: Lang) -> String {
        format!("{}{}", self.uid, lang.suffix())
    }

    pub(crate) fn queries(&mut self) -> impl Iterator<Item = &mut Query> {
        let panels = self.rows.iter_mut().flat_map(|row| &mut row.panels);
        panels.flat_map(|(_, panel)| &mut panel.queries)
    }

    /// `source` is the uid of the data source to begin with.
    pub(crate) fn json(&self, texts: &Texts, source: Option<&str>) -> anyhow::Result<Value> {
        let context = || format!("dashboard {}", self.uid);
        let variables: Vec<Value> = self.variables.iter().map(|variable| variable.json(texts, source)).collect();
        Ok(json!({
            "uid": self.uid(texts.lang),
            "title": format!("{} / {}", texts.get("LLM Relay"), texts.get(self.title)),
            "description": texts.get(self.description),
            "tags": [tag(texts.lang)],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": false,
            "graphTooltip": 1,
            "fiscalYearStartMonth": 0,
            "weekStart": "monday",
            "timezone": "browser",
            "time": {"from": self.from, "to": "now"},
            "refresh": self.refresh,
            "timepicker": self.timepicker(texts),
            "liveNow": false,
            "templating": {"list": variables},
            "annotations": {"list": self.annotations(texts)},
            "links": self.links(texts),
            "panels": self.panels(texts).with_context(context)?,
        }))
    }

    fn timepicker(&self, texts: &Texts) -> Value {
        let mut json = json!({"refresh_intervals": ["2s", "5s", "10s", "30s", "1m", "5m", "15m", "1h"]});
        if self.quick_ranges {
            let ranges = [
                ("now/d", "Today"),
                ("now-6d/d", "7 days"),
                ("now-29d/d", "30 days"),
                ("now/M", "This month"),
                ("now/w", "This week"),
            ];
            let ranges = ranges.map(|(from, text)| json!({"from": from, "to": "now", "display": texts.get(text)}));
            json["quick_ranges"] = json!(ranges);
        }
        json
    }

    /// Alerts that fired, as marks on every chart.
    fn annotations(&self, texts: &Texts) -> Value {
        if !self.alerts {
            return json!([]);
        }
        json!([{
            "name": texts.get("Alerts"), "enable": true, "hide": false, "iconColor": "red",
            "datasource": prometheus(), "expr": STARTED, "step": "60s",
            "titleFormat": "{{alertname}}", "textFormat": "{{relay}} {{provider}}", "tagKeys": "severity",
        }])
    }

    fn links(&self, texts: &Texts) -> Value {
        let link = |title: &str| {
            json!({
                "title": texts.get(title), "icon": "external link", "tooltip": "", "tags": [], "url": "",
                "asDropdown": false, "includeVars": false, "keepTime": false, "targetBlank": false, "type": "link",
            })
        };
        let mut links = Vec::new();
        for (title, url) in &self.links {
            let mut json = link(title);
            json["url"] = url.replace("{suffix}", texts.lang.suffix()).into();
            json["icon"] = "dashboard".into();
            links.push(json);
        }
        let mut all = link("More dashboards");
        all["type"] = "dashboards".into();
        all["tags"] = json!([tag(texts.lang)]);
        for flag in ["asDropdown", "includeVars", "keepTime"] {
            all[flag] = true.into();
        }
        links.push(all);
        Value::Array(links)
    }

    fn panels(&self, texts: &Texts) -> anyhow::Result<Vec<Value>> {
        let mut panels: Vec<Value> = Vec::new();
        let mut y = 0;
        // Of panels below a folded heading.
        let mut folded = None;
        for row in &self.rows {
            if let Some(Heading { text, folded: fold }) = row.heading {
                y = folded.take().unwrap_or(y);
                panels.push(json!({
                    "type": "row", "title": texts.get(text), "collapsed": fold, "panels": [],
                    "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                }));
                y += 1;
                folded = fold.then_some(y);
            }
            // Translated and checked with the others, though not shown here.
            for (_, panel) in &row.instead {
                panel.json(texts, self.replicas)?;
            }
            let mut x = 0;
            for (width, panel) in &row.panels {
                let mut json = panel.json(texts, self.replicas)?;
                json["gridPos"] = json!({"x": x, "y": y, "w": width, "h": row.height});
                panels.push(json);
                x += width;
            }
            y += row.height;
        }
        let titles: Vec<Value> = panels.iter().map(|panel| panel["title"].clone()).collect();
        for (index, panel) in panels.iter_mut().enumerate() {
            panel["id"] = (index + 1).into();
            if let Some(shared) = panel.pointer_mut("/targets/0/panelId") {
                let of = titles.iter().position(|title| title == shared);
                *shared = of.with_context(|| format!("there is no panel {shared}"))?.saturating_add(1).into();
            }
        }
        Ok(fold(panels))
    }
}

/// Puts what is below a folded heading into it.
fn fold(panels: Vec<Value>) -> Vec<Value> {
    let mut shown: Vec<Value> = Vec::new();
    for panel in panels {
        let heading = shown.last_mut().filter(|last| last["collapsed"] == true && panel["type"] != "row");
        match heading.and_then(|heading| heading["panels"].as_array_mut()) {
            Some(folded) => folded.push(panel),
            None => shown.push(panel),
        }
    }
    shown
}

/// The tag that the links of a language go by.
fn tag(lang: Lang) -> String {
    format!("llm-relay{}", lang.suffix())
}
