//! Where a click leads.

use serde_json::{Value, json};

use super::text::Texts;

/// From a number to its cause: to another dashboard, in the same time range, or to what is to be done.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// In words, from where one is: "Trends of this user".
    title: &'static str,
    to: To,
}

#[derive(Clone, Copy)]
enum To {
    /// Without the language; variables that follow from what is clicked on, and the labels that have their values.
    Dashboard(&'static str, &'static [(&'static str, &'static str)]),
    /// The section that a runbook begins with.
    Runbook(&'static str),
}

/// What is clicked on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clicked {
    /// A row whose first columns are those of [`super::promql::Named::columns`], or a model's name.
    Row,
    /// A series, or a number, which has no labels.
    Series,
}

impl Link {
    pub(crate) const TRENDS: Self = Self::dashboard("Trends", "llm-relay-trends", &[]);
    pub(crate) const PROVIDERS: Self = Self::dashboard("Providers", "llm-relay-providers", &[]);
    pub(crate) const SOURCES: Self = Self::dashboard("Which source", "llm-relay-exporter", &[]);
    pub(crate) const USER: Self =
        Self::dashboard("Trends of this user", "llm-relay-trends", &[("relay", "relay"), ("user", "user_id")]);
    pub(crate) const KEY: Self =
        Self::dashboard("Trends of this key", "llm-relay-trends", &[("relay", "relay"), ("key", "key_id")]);
    pub(crate) const PROVIDER: Self = Self::dashboard(
        "This provider alone",
        "llm-relay-providers",
        &[("relay", "relay"), ("provider", "provider_id")],
    );
    pub(crate) const MODEL: Self = Self::dashboard("Trends of this model", "llm-relay-trends", &[("model", "model")]);
    pub(crate) const CLASS: Self =
        Self { title: "What to do, by class", to: To::Runbook("llmrelayprovidererrorbudgetburn") };

    const fn dashboard(title: &'static str, uid: &'static str, variables: &'static [(&str, &str)]) -> Self {
        Self { title, to: To::Dashboard(uid, variables) }
    }

    pub(crate) fn json(self, texts: &Texts, clicked: Clicked) -> Value {
        let title = texts.get(self.title);
        match self.to {
            To::Runbook(section) => {
                json!([{"title": title, "url": format!("${{runbooks:raw}}#{section}"), "targetBlank": true}])
            }
            To::Dashboard(uid, variables) => {
                let mut url =
                    format!("/d/{uid}{}?${{datasource:queryparam}}&${{__url_time_range}}", texts.lang.suffix());
                // An id alone may be that of several relays.
                if variables.iter().all(|(variable, _)| *variable != "relay") {
                    url += "&${relay:queryparam}";
                }
                for (variable, label) in variables {
                    url += &format!("&var-{variable}=${{{}:percentencode}}", clicked.value(label));
                }
                json!([{"title": title, "url": url}])
            }
        }
    }
}

impl Clicked {
    fn value(self, label: &str) -> String {
        match (self, label) {
            (Self::Series, _) => format!("__field.labels.{label}"),
            (Self::Row, "model") => "__data.fields[0]".to_owned(),
            (Self::Row, "relay") => "__data.fields[2]".to_owned(),
            (Self::Row, _) => "__data.fields[1]".to_owned(),
        }
    }
}
