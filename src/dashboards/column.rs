//! Columns of a table.

use serde_json::{Value, json};

use super::link::Link;

/// Properties of one series or column: id and value.
pub(crate) type Properties = Vec<(&'static str, Value)>;

/// Seconds that stay seconds, so that the numbers of a column can be compared: 0.64 s, not 640 ms.
pub(crate) const SECONDS: &str = "suffix:s";
pub(crate) const WIDTH: &str = "custom.width";
const HIDDEN: &str = "custom.hidden";

/// A column of a table: where it comes from (a label, or `#` and the id of a query), its heading, its unit and further
/// properties. Without a unit, numbers have the panel's, and labels are text, also where they look like numbers.
pub(crate) struct Column {
    pub from: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub properties: Properties,
    /// Where a click on a cell leads.
    pub link: Option<Link>,
}

pub(crate) fn column(from: &'static str, title: &'static str, unit: &'static str) -> Column {
    // What is missing in one row.
    let column = Column { from, title, unit, properties: vec![("noValue", json!("–"))], link: None };
    if from.starts_with('#') {
        return column;
    }
    // A long name takes a second line.
    let column = column.with("custom.cellOptions", json!({"type": "auto", "wrapText": true}));
    Column { unit: if unit.is_empty() { "string" } else { unit }, ..column }
}

impl Column {
    pub(crate) fn with(mut self, id: &'static str, value: Value) -> Self {
        self.properties.retain(|(known, _)| *known != id);
        self.properties.push((id, value));
        self
    }

    /// A bar behind the number, as long as its share of the column's greatest.
    pub(crate) fn gauge(self) -> Self {
        self.with("custom.cellOptions", json!({"type": "gauge", "mode": "gradient", "valueDisplayMode": "text"}))
            .with("fieldMinMax", json!(true))
            .with("min", json!(0))
            .with("color", json!({"mode": "continuous-BlPu"}))
    }

    /// A bar from 0 to 1 that turns yellow and red near its end.
    pub(crate) fn fill(self) -> Self {
        self.with("custom.cellOptions", json!({"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}))
            .with("min", json!(0))
            .with("max", json!(1))
            .with("decimals", json!(0))
            .with("color", json!({"mode": "thresholds"}))
            .with(
                "thresholds",
                thresholds(&[(None, "text"), (Some(0.0), "green"), (Some(0.7), "yellow"), (Some(0.9), "red")]),
            )
    }

    /// Red, orange, green text for a share of successes.
    pub(crate) fn success(self) -> Self {
        self.with("custom.cellOptions", json!({"type": "color-text"}))
            .with("decimals", json!(1))
            .with("color", json!({"mode": "thresholds"}))
            .with(
                "thresholds",
                thresholds(&[(None, "text"), (Some(0.0), "red"), (Some(0.9), "orange"), (Some(0.98), "green")]),
            )
    }

    /// Not shown: links of the row use it.
    pub(crate) fn hidden(self) -> Self {
        // The first is Grafana 11's, the second that of 12 and later.
        self.with(HIDDEN, json!(true)).with("custom.hideFrom.viz", json!(true))
    }

    pub(crate) fn link(mut self, link: impl Into<Option<Link>>) -> Self {
        self.link = link.into();
        self
    }

    pub(crate) fn width(self, pixels: u32) -> Self {
        self.with(WIDTH, json!(pixels))
    }

    /// Of a width of its own, or not shown.
    pub(crate) fn is_narrow(&self) -> bool {
        self.properties.iter().any(|(property, _)| *property == WIDTH || *property == HIDDEN)
    }

    pub(crate) fn decimals(self, decimals: u8) -> Self {
        self.with("decimals", json!(decimals))
    }
}

pub(crate) fn thresholds(steps: &[(Option<f64>, &str)]) -> Value {
    let steps: Vec<Value> = steps.iter().map(|(value, color)| json!({"value": value, "color": color})).collect();
    json!({"mode": "absolute", "steps": steps})
}
