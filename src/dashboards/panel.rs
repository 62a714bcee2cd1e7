//! One panel and its JSON. Texts are English here and translated when the JSON is made.

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::column::{Column, Properties, thresholds};
use super::link::{Clicked, Link};
use super::promql::{self, Replicas};
use super::query::{Query, prometheus};
use super::text::Texts;
use crate::metrics::Metric;

/// What a number says where a relay does not have it.
pub(super) const UNTOLD: &str = "Not told by this relay";
/// The same of a number about success: no failures would be something else.
pub(super) const UNRECORDED: &str = "This relay does not record which requests fail";
/// What a panel shows without an answer, whatever the reason: there may be nothing, or nobody was there to tell.
pub(super) const NO_DATA: &str = "No data";
/// The same where there is often nothing, e.g. no failure.
pub(crate) const NOTHING: &str = "Nothing to show";
/// What a ranking says when every source is read and there is nothing in it.
const NONE: &str = "Nothing here now";

/// Which numbers are amounts of money, and so carry the symbol of the relay's currency.
pub(crate) enum Money {
    None,
    All,
    /// By translated legend.
    Legends(&'static [&'static str]),
    /// By column, before it is renamed.
    Columns(&'static [&'static str]),
}

pub(crate) struct Panel {
    pub plugin: &'static str,
    pub title: &'static str,
    pub note: &'static str,
    pub queries: Vec<Query>,
    pub columns: Vec<Column>,
    /// What to sort by (a column's heading, or `#` and the id of a query that need not be a column), whether descending,
    /// and how many rows to keep. A row without that number would come anywhere.
    pub order: Option<(&'static str, bool, Option<u32>)>,
    pub money: Money,
    pub empty: &'static str,
    /// What it says instead of a number of relays that cannot tell it; charts and tables say who can.
    pub untold: &'static str,
    /// The kinds of relay that can tell its numbers, and those that cannot.
    pub told_by: Vec<&'static str>,
    pub untold_by: Vec<&'static str>,
    /// Value, text, colour.
    pub mappings: Vec<(&'static str, &'static str, &'static str)>,
    /// What a label's values are called where they are all of a cell or legend, or the last of a legend behind a comma:
    /// a regular expression and words.
    pub words: Vec<(&'static str, &'static str)>,
    pub defaults: Map<String, Value>,
    pub custom: Map<String, Value>,
    pub options: Value,
    /// Legend (translated) and properties.
    pub overrides: Vec<(&'static str, Properties)>,
    /// Value of a label, its name in words, properties.
    pub renames: Vec<(&'static str, &'static str, Properties)>,
    pub transformations: Vec<Value>,
    /// Its name stands beside its number instead of above.
    pub slim: bool,
    /// Where a click on a number leads.
    pub link: Option<Link>,
    /// A metric without which the panel says nothing, though other queries of it have an answer.
    pub needs: Option<&'static str>,
    /// The title of the panel whose answers it shows, so that they are asked for once, and the query that it leaves out.
    pub same_as: Option<(&'static str, &'static str)>,
    /// How many points a line has at most; without it, one for each pixel.
    pub points: Option<u32>,
    /// Queries of another data source, as they are.
    pub foreign: Option<Value>,
}

impl Panel {
    pub(crate) fn unit(self, unit: &str) -> Self {
        self.set("unit", json!(unit))
    }

    pub(crate) fn decimals(self, decimals: u8) -> Self {
        self.set("decimals", json!(decimals))
    }

    /// A property of all fields.
    pub(crate) fn set(mut self, name: &str, value: Value) -> Self {
        self.defaults.insert(name.to_owned(), value);
        self
    }

    /// A property of the panel's plugin.
    pub(crate) fn style(mut self, name: &str, value: Value) -> Self {
        self.custom.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn option(mut self, name: &str, value: Value) -> Self {
        self.options[name] = value;
        self
    }

    pub(crate) fn levels(self, steps: &[(Option<f64>, &str)]) -> Self {
        self.set("thresholds", thresholds(steps)).set("color", json!({"mode": "thresholds"}))
    }

    pub(crate) fn query(mut self, query: Query) -> Self {
        self.queries.push(query);
        self
    }

    pub(crate) fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    pub(crate) fn empty(mut self, text: &'static str) -> Self {
        self.empty = text;
        self
    }

    pub(crate) fn untold(mut self, text: &'static str) -> Self {
        self.untold = text;
        self
    }

    /// Amounts in US dollars under the symbol of the relay's currency.
    pub(crate) fn money(mut self, which: Money) -> Self {
        if matches!(which, Money::All | Money::Columns(_)) {
            self = self.unit("currencyUSD");
        }
        self.money = which;
        self
    }

    pub(crate) fn map(mut self, value: &'static str, text: &'static str, color: &'static str) -> Self {
        self.mappings.push((value, text, color));
        self
    }

    pub(crate) fn words(mut self, words: &[(&'static str, &'static str)]) -> Self {
        self.words.extend(words);
        self
    }

    pub(crate) fn slim(mut self) -> Self {
        self.slim = true;
        self.option("textMode", json!("value_and_name")).option("wideLayout", json!(true))
    }

    pub(crate) fn link(mut self, link: Link) -> Self {
        self.link = Some(link);
        self
    }

    pub(crate) fn same_as(mut self, title: &'static str, without: &'static str) -> Self {
        self.same_as = Some((title, without));
        self
    }

    pub(crate) fn points(mut self, most: u32) -> Self {
        self.points = Some(most);
        self
    }

    pub(crate) fn needs(mut self, metric: &'static str) -> Self {
        self.needs = Some(metric);
        self
    }

    pub(crate) fn columns(mut self, columns: impl IntoIterator<Item = Column>) -> Self {
        self.columns.extend(columns);
        self
    }

    pub(crate) fn sort(mut self, column: &'static str, descending: bool, limit: Option<u32>) -> Self {
        self.order = Some((column, descending, limit));
        self
    }

    /// Gives a series that goes by a label's value a name in words.
    pub(crate) fn rename(mut self, value: &'static str, words: &'static str, properties: Properties) -> Self {
        self.renames.push((value, words, properties));
        self
    }

    pub(crate) fn legend(mut self, words: &'static str, properties: Properties) -> Self {
        self.overrides.push((words, properties));
        self
    }

    pub(crate) fn json(&self, texts: &Texts, replicas: Replicas) -> anyhow::Result<Value> {
        self.fill(texts, replicas).with_context(|| format!("panel {:?}", self.title))
    }

    fn fill(&self, texts: &Texts, replicas: Replicas) -> anyhow::Result<Value> {
        let mut targets = Vec::new();
        for (at, query) in self.queries.iter().enumerate() {
            let reason = if at == 0 { self.reason() } else { String::new() };
            targets.push(query.json(texts, replicas, &reason)?);
        }
        if !matches!(self.money, Money::None) {
            // Not a number: it must not be shown where the amounts are missing.
            let currency = Query::rows("cfg", "max by (unit) (llm_relay_currency_info) * NaN");
            targets.push(currency.json(texts, replicas, "")?);
        }
        let mut defaults = self.defaults.clone();
        defaults.insert("custom".to_owned(), Value::Object(self.custom.clone()));
        defaults.insert("mappings".to_owned(), self.mapping(texts));
        let mut no_value = self.no_value(texts);
        if self.slim {
            let name = texts.get(self.title);
            // Without a number Grafana leaves the name out.
            no_value = format!("{name}: {no_value}");
            defaults.entry("displayName").or_insert(name.into());
        }
        defaults.insert("noValue".to_owned(), no_value.into());
        if let Some(label) = self.named_by() {
            // Without it, one bar alone would have no name.
            defaults.insert("displayName".to_owned(), format!("${{__field.labels.{label}}}").into());
        }
        if let Some(link) = self.link {
            defaults.insert("links".to_owned(), link.json(texts, Clicked::Series));
        }

        let overrides = self.overrides(texts);
        let (datasource, targets) = match (&self.foreign, self.same_as) {
            (Some(foreign), _) => (foreign["datasource"].clone(), json!([foreign])),
            (None, Some((title, _))) => {
                let dashboard = json!({"type": "datasource", "uid": "-- Dashboard --"});
                // A dashboard knows the ids of its panels, and puts one in the place of the title.
                let shared = json!({"datasource": dashboard, "refId": "shared", "panelId": texts.get(title)});
                (dashboard, json!([shared]))
            }
            (None, None) => (prometheus(), Value::Array(targets)),
        };
        let mut json = json!({
            "type": self.plugin,
            "title": if self.title.is_empty() || self.slim { String::new() } else { texts.get(self.title) },
            "description": self.description(texts)?,
            "datasource": datasource,
            "targets": targets,
            "fieldConfig": {"defaults": defaults, "overrides": overrides},
            "options": self.options,
            "transformations": self.transform(texts),
        });
        if let Some(points) = self.points {
            json["maxDataPoints"] = points.into();
        }
        Ok(json)
    }

    /// Properties of single series and columns.
    fn overrides(&self, texts: &Texts) -> Vec<Value> {
        let mut overrides: Vec<Value> = Vec::new();
        for (words, properties) in &self.overrides {
            overrides.push(by_name(&texts.get(words), properties));
        }
        for (value, words, properties) in &self.renames {
            let name = ("displayName", Value::from(texts.get(words)));
            overrides.push(by_name(value, &[vec![name], properties.clone()].concat()));
        }
        for column in &self.columns {
            let mut properties = column.properties.clone();
            if !column.unit.is_empty() {
                properties.insert(0, ("unit", column.unit.into()));
            }
            properties.extend(column.link.map(|link| ("links", link.json(texts, Clicked::Row))));
            if !properties.is_empty() {
                overrides.push(by_name(&texts.get(column.title), &properties));
            }
        }
        overrides
    }

    /// The panel's note, then what its metrics mean.
    fn description(&self, texts: &Texts) -> anyhow::Result<String> {
        let mut parts = Vec::new();
        if !self.note.is_empty() {
            parts.push(texts.get(self.note));
        }
        let mut seen: Vec<&'static str> = Vec::new();
        for query in &self.queries {
            for metric in promql::families(&query.expr)? {
                if !seen.contains(&metric.name) && !is_fact(metric) {
                    seen.push(metric.name);
                    parts.push(format!("`{}`: {}", metric.name, texts.help(metric)));
                }
            }
        }
        Ok(parts.join("\n\n"))
    }

    /// Whether it can say why it has no number.
    fn gives_reasons(&self) -> bool {
        matches!(self.plugin, "stat" | "bargauge")
    }

    /// What follows its first query, and has an answer where that has none.
    fn reason(&self) -> String {
        let untold = (self.gives_reasons() && !self.untold_by.is_empty()).then(|| promql::untold(&self.told_by));
        // A bar with an end of its own would be full.
        let none = self.plugin == "bargauge" && !self.defaults.contains_key("max");
        let reasons = untold.into_iter().chain(none.then(|| promql::NONE.to_owned()));
        let named = |reason: String| self.named_by().map_or(reason.clone(), |label| promql::nameless(&reason, label));
        reasons.map(|reason| format!(" or on () {}", named(reason))).collect()
    }

    /// The label that bars have their names from.
    fn named_by(&self) -> Option<&'static str> {
        self.queries.first().filter(|_| self.plugin == "bargauge").and_then(Query::label)
    }

    /// Without an answer; charts and tables have no place for reasons but this.
    fn no_value(&self, texts: &Texts) -> String {
        let empty = texts.get(self.empty);
        if self.gives_reasons() || self.untold_by.is_empty() {
            return empty;
        }
        let (words, kinds) = if self.told_by.len() > self.untold_by.len() {
            (". Not told by ", &self.untold_by)
        } else {
            (". Only told by ", &self.told_by)
        };
        format!("{empty}{}{}", texts.get(words), kinds.join(", "))
    }

    fn mapping(&self, texts: &Texts) -> Value {
        let mut map = Map::new();
        let color = if self.options["colorMode"] == "background_solid" { "transparent" } else { "gray" };
        // Of a row in a table Grafana has no sign of infinity.
        let none = if self.plugin == "stat" { self.untold } else { NONE };
        let reasons = [(promql::UNTOLD_VALUE, self.untold, color), (promql::NONE_VALUE, none, color)];
        let reasons = reasons.iter().filter(|_| self.gives_reasons());
        for (value, text, color) in self.mappings.iter().chain(reasons) {
            let mut result = json!({"index": map.len(), "text": texts.get(text)});
            if !color.is_empty() {
                result["color"] = (*color).into();
            }
            map.insert((*value).to_owned(), result);
        }
        let values = (!map.is_empty()).then(|| json!({"type": "value", "options": map}));
        let words = self.words.iter().map(|(value, words)| {
            json!({"type": "regex", "options": {"pattern": format!("/^{value}$/"), "result": {"text": texts.get(words)}}})
        });
        values.into_iter().chain(words).collect()
    }

    /// Grafana's name of a column: a label, or the numbers of the query after `#`.
    fn source(&self, from: &str) -> String {
        let alone = self.queries.len() == 1 && matches!(self.money, Money::None);
        match from.strip_prefix('#') {
            Some(_) if alone => "Value".to_owned(),
            Some(query) => format!("Value #{query}"),
            None => from.to_owned(),
        }
    }

    fn transform(&self, texts: &Texts) -> Value {
        let left_out = |(_, query)| json!({"id": "filterByRefId", "options": {"exclude": query}});
        let mut steps: Vec<Value> = self.same_as.map(left_out).into_iter().collect();
        steps.extend(self.unit_of_money(texts));
        steps.extend(self.transformations.iter().cloned());
        let sort = |field: String, descending: bool| json!({"id": "sortBy", "options": {"fields": {}, "sort": [{"field": field, "desc": descending}]}});
        if self.columns.is_empty() {
            steps.extend(self.words.iter().map(|(value, words)| {
                let (regex, name) = (format!("/(?<=^|, ){value}(?= |$)/"), texts.get(words));
                json!({"id": "renameByRegex", "options": {"regex": regex, "renamePattern": name}})
            }));
        } else {
            if self.queries.len() > 1 {
                steps.push(json!({"id": "joinByField", "options": {"byField": "row", "mode": "outer"}}));
            }
            if let Some((query, descending, _)) = self.order.filter(|(by, ..)| by.starts_with('#')) {
                steps.push(sort(self.source(query), descending));
            }
            let mut rename = Map::new();
            let mut order = Map::new();
            for (index, column) in self.columns.iter().enumerate() {
                rename.insert(self.source(column.from), texts.get(column.title).into());
                order.insert(self.source(column.from), index.into());
            }
            // Only named columns stay: the times of the queries have names that depend on how many there are.
            let names: Vec<String> = self.columns.iter().map(|column| self.source(column.from)).collect();
            steps.push(json!({"id": "filterFieldsByName", "options": {"include": {"names": names}}}));
            steps.push(json!({
                "id": "organize",
                "options": {"excludeByName": {}, "indexByName": order, "renameByName": rename},
            }));
        }
        if let Some((column, descending, limit)) = self.order {
            if !column.starts_with('#') {
                steps.push(sort(texts.get(column), descending));
            }
            if let Some(limit) = limit {
                steps.push(json!({"id": "limit", "options": {"limitField": limit.to_string()}}));
            }
        }
        Value::Array(steps)
    }

    /// Gives what is money the relay's own currency, which the query `cfg` tells.
    fn unit_of_money(&self, texts: &Texts) -> Option<Value> {
        let apply_to = match self.money {
            Money::None => return None,
            Money::All => json!({"id": "byType", "options": "number"}),
            Money::Legends(legends) => {
                let names: Vec<String> = legends.iter().map(|legend| texts.get(legend)).collect();
                json!({"id": "byNames", "options": {"mode": "include", "names": names, "readOnly": false, "prefix": ""}})
            }
            Money::Columns(columns) => {
                let names: Vec<String> = columns.iter().map(|column| self.source(column)).collect();
                json!({"id": "byRegexp", "options": format!("/^({})$/", names.join("|"))})
            }
        };
        let ignored = ["Time", "Value", "Value #cfg"];
        let mut mappings = vec![json!({"fieldName": "unit", "handlerKey": "unit"})];
        mappings.extend(ignored.map(|name| json!({"fieldName": name, "handlerKey": "__ignore"})));
        Some(json!({
            "id": "configFromData",
            "options": {"configRefId": "cfg", "mappings": mappings, "applyTo": apply_to},
        }))
    }
}

fn is_fact(metric: &Metric) -> bool {
    metric.name.ends_with("_user_info")
        || metric.name.ends_with("_key_info")
        || metric.name.ends_with("_team_info")
        || metric.name.ends_with("_organization_info")
        || metric.name.ends_with("_provider_info")
        || metric.name.ends_with("_currency_info")
}

fn by_name(name: &str, properties: &[(&'static str, Value)]) -> Value {
    let properties: Vec<Value> = properties.iter().map(|(id, value)| json!({"id": id, "value": value})).collect();
    json!({"matcher": {"id": "byName", "options": name}, "properties": properties})
}
