//! Variables of a dashboard.

use serde_json::{Value, json};

use super::query::prometheus;
use super::text::Texts;
use crate::model::{Period, Scope};

pub(crate) enum Variable {
    /// The Prometheus data source.
    Source,
    /// Answers of Prometheus.
    Query {
        name: &'static str,
        label: &'static str,
        query: &'static str,
        regex: &'static str,
        hidden: bool,
        /// What stands for all of them; empty where there is one to be taken.
        all: &'static str,
    },
    /// A label where several of its values are chosen, else one that nothing has: what tells series of the same name apart.
    /// Asked for once, not with each refresh.
    Apart { by: &'static str, among: &'static str },
    /// Fixed choices: value and text; the first is the default.
    Choice { name: &'static str, label: &'static str, choices: &'static [(&'static str, &'static str)], all: bool },
    /// A regular expression that is typed in, or comes with the URL; asks nothing when the dashboard refreshes.
    Typed { name: &'static str, label: &'static str, value: &'static str },
    /// The PostgreSQL data source.
    Postgres,
}

/// All values of a label, shown; `all` is what stands for all of them.
const fn values(name: &'static str, label: &'static str, query: &'static str, all: &'static str) -> Variable {
    Variable::Query { name, label, query, regex: "", hidden: false, all }
}

pub(crate) const JOB: Variable = Variable::Query {
    name: "job",
    label: "Job",
    query: "label_values(llm_relay_source_up, job)",
    regex: "",
    hidden: true,
    all: ".+",
};
pub(crate) const JOB_SHOWN: Variable = values("job", "Job", "label_values(llm_relay_source_up, job)", ".+");
pub(crate) const INSTANCE: Variable =
    values("instance", "Instance", r#"label_values(llm_relay_source_up{job=~"$job"}, instance)"#, ".+");
pub(crate) const RELAY: Variable =
    values("relay", "Relay", r#"label_values(llm_relay_source_up{job=~"$job"}, relay)"#, ".+");
pub(crate) const RELAYS: Variable = Variable::Apart { by: "relay", among: r#"job=~"$job",relay=~"$relay""# };
pub(crate) const REPLICAS: Variable =
    Variable::Apart { by: "instance", among: r#"job=~"$job",instance=~"$instance",relay=~"$relay""# };
/// A condition: the range is longer than a day and a half, and what is recorded of counters is there, also at its beginning
/// for each relay that has counters. It lies `$look` apart at most, and is asked for with `$chosen` matchers.
macro_rules! recorded {
    ($series:literal, $look:literal, $chosen:literal) => {
        concat!(
            "vector($__range_s) > 129600",
            r#" and on () last_over_time("#,
            $series,
            r#"{job=~"$job""#,
            $chosen,
            "}[",
            $look,
            "])",
            " unless on () ",
            missing!($series, $look),
            "[$__range:1d])",
        )
    };
}
macro_rules! missing {
    ($series:literal, $look:literal) => {
        concat!(
            r#"last_over_time((llm_relay_requests_total{job=~"$job",relay=~"$relay"} unless on (relay) last_over_time("#,
            $series, r#"{job=~"$job"}["#, $look, "]))",
        )
    };
}
/// `:` where a condition holds, else `_`: what stands in the names of what is recorded, and in those of counters.
macro_rules! separator {
    ($($condition:expr),+) => {
        Variable::Query {
            name: "sep",
            label: "Counters",
            query: concat!(
                "query_result(label_replace(", $($condition),+,
                r#", "sep", ":", "", "") or on () label_replace(vector(0), "sep", "_", "", ""))"#,
            ),
            regex: r#"/sep="(.)"/"#,
            hidden: true,
            all: "",
        }
    };
}
pub(crate) const RECORDED: Variable = separator!(recorded!("llm_relay_provider:requests:increase20m", "1h", ""));
/// In days alone, and only if the range that it is compared with is recorded as well.
pub(crate) const RECORDED_DAYS: Variable = separator!(
    recorded!("llm_relay:requests:total", "20m", ""),
    " and on () count_over_time(vector(1)[$bucket:1h]) > 2 unless on () ",
    missing!("llm_relay:requests:total", "20m"),
    "[$__range:1d] offset $compare)"
);
/// What is recorded of a provider has no models to choose.
pub(crate) const RECORDED_SUMS: Variable =
    separator!(recorded!("llm_relay_provider:requests:increase20m", "1h", r#",model=~"$model""#));
/// Where the runbooks are: as for the alerts, where the rules are loaded.
pub(crate) const RUNBOOKS: Variable = Variable::Query {
    name: "runbooks",
    label: "Runbooks",
    query: r#"query_result(llm_relay:links:info or on () label_replace(vector(1), "runbooks", "https://github.com/llm-relay-exporter/llm-relay-exporter/blob/main/docs/runbooks.md", "", ""))"#,
    regex: r#"/runbooks="([^"]*)"/"#,
    hidden: true,
    all: "",
};
pub(crate) const USER: Variable = Variable::Query {
    name: "user",
    label: "User",
    query: r#"query_result(sum by (user, user_id) (llm_relay_user_info{job=~"$job",relay=~"$relay"}))"#,
    regex: r#"/user="(?<text>[^"]*)",user_id="(?<value>[^"]*)"/"#,
    hidden: false,
    all: ".+",
};
pub(crate) const KEY: Variable = Variable::Query {
    name: "key",
    label: "Key",
    // With its user's name before its own, if it belongs to somebody.
    query: r#"query_result(sum by (key_id, text) (label_join(llm_relay_key_info{job=~"$job",relay=~"$relay",user_id=~"$user"} * on (relay, user_id) group_left (user) topk by (relay, user_id) (1, llm_relay_user_info{job=~"$job",relay=~"$relay"}), "text", " / ", "user", "key") or label_replace(llm_relay_key_info{job=~"$job",relay=~"$relay",user_id=""}, "text", "$1", "key", "(.+)")))"#,
    regex: r#"/key_id="(?<value>[^"]*)",text="(?<text>[^"]*)"/"#,
    hidden: false,
    all: ".+",
};
// A provider may have no type.
pub(crate) const TYPE: Variable = values(
    "type",
    "Provider type",
    r#"label_values(llm_relay_provider_info{job=~"$job",relay=~"$relay"}, type)"#,
    ".*",
);
pub(crate) const PROVIDER: Variable = Variable::Query {
    name: "provider",
    label: "Provider",
    query: r#"query_result(sum by (provider, provider_id) (llm_relay_provider_info{job=~"$job",relay=~"$relay"}))"#,
    regex: r#"/provider="(?<text>[^"]*)",provider_id="(?<value>[^"]*)"/"#,
    hidden: false,
    all: ".+",
};
// What is recorded of all models has no model.
pub(crate) const MODEL: Variable =
    values("model", "Model", r#"label_values(llm_relay_requests_total{job=~"$job",relay=~"$relay"}, model)"#, ".*");
pub(crate) const PERIOD: Variable = Variable::Choice {
    name: "period",
    label: "Period",
    choices: &[
        (Period::Today.label(), "Today"),
        (Period::Last24Hours.label(), "Last 24 hours"),
        (Period::Week.label(), "This week"),
        (Period::Month.label(), "This month"),
        (Period::SevenDays.label(), "Last 7 days"),
        (Period::ThirtyDays.label(), "Last 30 days"),
        (Period::All.label(), "All time"),
    ],
    all: false,
};
pub(crate) const BUCKET: Variable =
    Variable::Choice { name: "bucket", label: "By the", choices: &[("1h", "hour"), ("1d", "day")], all: false };
pub(crate) const COMPARE: Variable = Variable::Choice {
    name: "compare",
    label: "Compare with",
    choices: &[("1d", "1 day before"), ("7d", "7 days before"), ("30d", "30 days before")],
    all: false,
};
pub(crate) const SCOPE: Variable = Variable::Choice {
    name: "scope",
    label: "Whose",
    choices: &[
        (Scope::User.label(), "Users"),
        (Scope::Key.label(), "Keys"),
        (Scope::Team.label(), "Teams"),
        (Scope::Organization.label(), "Organizations"),
        (Scope::Provider.label(), "Providers"),
    ],
    all: true,
};
/// The windows of limits in words.
pub(crate) const WINDOWS: &[(&str, &str)] = &[
    ("5h", "5 hours"),
    ("daily", "Day"),
    ("weekly", "Week"),
    ("monthly", "Month"),
    ("total", "Total"),
    ("subscription", "Subscription"),
];
/// Those of other lengths, of limits and of upstream accounts.
pub(crate) const LENGTHS: &[(&str, &str)] = &[(r"(\d+)h", "$1 hours"), (r"(\d+)d", "$1 days")];
pub(crate) const WINDOW: Variable = Variable::Choice { name: "window", label: "Window", choices: WINDOWS, all: true };
pub(crate) const ANY_JOB: Variable = Variable::Typed { name: "job", label: "Job", value: ".+" };
pub(crate) const ANY_RELAY: Variable = Variable::Typed { name: "relay", label: "Relay", value: ".+" };

impl Variable {
    /// `source` is the uid of the Prometheus data source to begin with; without it Grafana's default is taken.
    pub(crate) fn json(&self, texts: &Texts, source: Option<&str>) -> Value {
        match self {
            Self::Source | Self::Postgres => {
                let postgres = matches!(self, Self::Postgres);
                let (name, label, kind) = if postgres {
                    ("postgres", "PostgreSQL", "grafana-postgresql-datasource")
                } else {
                    ("datasource", "Data source", "prometheus")
                };
                let current = match source {
                    Some(uid) if !postgres => json!({"selected": true, "text": uid, "value": uid}),
                    _ => json!({}),
                };
                json!({
                    "type": "datasource", "name": name, "label": texts.get(label), "query": kind, "current": current,
                    "hide": 0, "includeAll": false, "multi": false, "options": [], "refresh": 1, "regex": "",
                    "skipUrlSync": false,
                })
            }
            Self::Query { name, label, query, regex, hidden, all: every } => json!({
                "type": "query", "name": name, "label": texts.get(label), "datasource": prometheus(),
                "definition": query, "query": {"query": query, "refId": format!("variable-{name}")}, "regex": regex,
                "refresh": 2, "sort": 5, "multi": !every.is_empty(), "includeAll": !every.is_empty(), "allValue": every,
                "current": if every.is_empty() { json!({}) } else { all(texts) }, "options": [], "hide": if *hidden { 2 } else { 0 }, "skipUrlSync": false,
            }),
            Self::Apart { by, among } => apart(by, among),
            Self::Choice { name, label, choices, all: with_all } => {
                let options: Vec<Value> = choices
                    .iter()
                    .enumerate()
                    .map(|(at, (value, text))| {
                        json!({"selected": at == 0 && !with_all, "text": texts.get(text), "value": value})
                    })
                    .collect();
                let query: Vec<String> =
                    choices.iter().map(|(value, text)| format!("{} : {value}", texts.get(text))).collect();
                let current = if *with_all { all(texts) } else { options[0].clone() };
                let mut json = json!({
                    "type": "custom", "name": name, "label": texts.get(label), "query": query.join(", "),
                    "current": current, "options": options, "multi": with_all, "includeAll": with_all, "hide": 0,
                    "skipUrlSync": false,
                });
                if *with_all {
                    json["allValue"] = ".+".into();
                }
                json
            }
            Self::Typed { name, label, value } => json!({
                "type": "textbox", "name": name, "label": texts.get(label), "query": value,
                "current": {"selected": true, "text": value, "value": value}, "options": [], "hide": 2,
                "skipUrlSync": false,
            }),
        }
    }
}

fn apart(by: &str, among: &str) -> Value {
    let several = format!("count(group by ({by}) (last_over_time(llm_relay_source_up{{{among}}}[1d]))) > 1");
    let query = format!(
        r#"query_result(label_replace({several}, "apart", "{by}", "", "") or on () label_replace(vector(1), "apart", "none", "", ""))"#
    );
    json!({
        "type": "query", "name": "apart", "label": "", "datasource": prometheus(), "definition": query,
        "query": {"query": query, "refId": "variable-apart"}, "regex": r#"/apart="([^"]*)"/"#, "refresh": 1, "sort": 0,
        "multi": false, "includeAll": false, "current": {}, "options": [], "hide": 2, "skipUrlSync": true,
    })
}

fn all(texts: &Texts) -> Value {
    json!({"selected": true, "text": [texts.get("All")], "value": ["$__all"]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QuotaWindow;

    #[test]
    fn every_value_of_a_label_can_be_chosen() {
        let values = |variable: &Variable| match variable {
            Variable::Choice { choices, .. } => choices.iter().map(|(value, _)| *value).collect(),
            _ => Vec::new(),
        };
        assert_eq!(values(&PERIOD), Period::ALL.map(Period::label));
        assert_eq!(values(&WINDOW), QuotaWindow::ALL.each_ref().map(QuotaWindow::label));
        // No limit is set on a model.
        assert_eq!([values(&SCOPE), vec![Scope::Model.label()]].concat(), Scope::ALL.map(Scope::label));
    }
}
