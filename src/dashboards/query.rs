//! Queries of a panel.

use serde_json::{Value, json};

use super::promql::{self, Replicas};
use super::text::Texts;

/// The data source of every panel, target and variable.
pub(crate) fn prometheus() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// One query of a panel. Its id names its column in tables (`Value #id`).
pub(crate) struct Query {
    pub id: &'static str,
    pub expr: String,
    /// The same of native histograms, in functions that PromQL alone has.
    pub native: Option<String>,
    format: &'static str,
    range: bool,
    legend: Legend,
    min_step: &'static str,
}

enum Legend {
    /// Translated.
    Words(&'static str),
    /// As it is, e.g. `{{user}}`.
    Labels(&'static str),
}

impl Query {
    /// Rows of now.
    pub(crate) fn rows(id: &'static str, expr: impl Into<String>) -> Self {
        let legend = Legend::Labels("__auto");
        Self { id, expr: expr.into(), native: None, format: "table", range: false, legend, min_step: "" }
    }

    /// One value of now per series.
    pub(crate) fn values(id: &'static str, expr: impl Into<String>, labels: &'static str) -> Self {
        Self { format: "time_series", legend: Legend::Labels(labels), ..Self::rows(id, expr) }
    }

    /// A line over time under a name in words.
    pub(crate) fn line(id: &'static str, expr: impl Into<String>, words: &'static str) -> Self {
        Self { format: "time_series", range: true, legend: Legend::Words(words), ..Self::rows(id, expr) }
    }

    /// Lines over time under names from labels.
    pub(crate) fn lines(id: &'static str, expr: impl Into<String>, labels: &'static str) -> Self {
        Self { legend: Legend::Labels(labels), ..Self::line(id, expr, "") }
    }

    /// The buckets of a histogram over time.
    pub(crate) fn buckets(id: &'static str, expr: impl Into<String>) -> Self {
        Self { format: "heatmap", legend: Legend::Labels("{{le}}"), ..Self::line(id, expr, "") }
    }

    /// The same where Prometheus has no classic histogram.
    pub(crate) fn or_native(mut self, expr: String) -> Self {
        self.native = Some(expr);
        self
    }

    /// No finer than this, e.g. `5m`.
    pub(crate) fn step(mut self, min_step: &'static str) -> Self {
        self.min_step = min_step;
        self
    }

    /// The label whose value is the name of its series.
    pub(crate) fn label(&self) -> Option<&'static str> {
        match self.legend {
            Legend::Labels(labels) => labels.strip_prefix("{{")?.strip_suffix("}}"),
            Legend::Words(_) => None,
        }
    }

    /// `reason` follows the expression.
    pub(crate) fn json(&self, texts: &Texts, replicas: Replicas, reason: &str) -> anyhow::Result<Value> {
        let legend = match self.legend {
            Legend::Words(words) => texts.get(words),
            Legend::Labels(labels) => labels.to_owned(),
        };
        let native = self.native.iter().map(|native| format!(" or {native}"));
        let expr = promql::scope(&format!("{}{}{reason}", self.expr, native.collect::<String>()), replicas)?;
        let mut json = json!({
            "datasource": prometheus(), "refId": self.id, "expr": expr,
            "format": self.format, "instant": !self.range, "range": self.range, "legendFormat": legend,
            "editorMode": "code",
        });
        if !self.min_step.is_empty() {
            json["interval"] = self.min_step.into();
        }
        Ok(json)
    }
}
