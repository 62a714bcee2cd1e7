//! The text format 0.0.4, for clients that do not speak OpenMetrics (`promtool check metrics` is one).
//!
//! Its lines are those of OpenMetrics. It differs in three ways: a counter's header carries the whole name, help escapes
//! only backslash and newline, and there is no end mark.

use std::fmt::Write;

use super::samples::{Value, whole};
use crate::metrics::Metric;

/// Appends the two lines before a family.
pub(super) fn head(out: &mut String, metric: &Metric) {
    let name = metric.name;
    for part in ["# HELP ", name, " "] {
        out.push_str(part);
    }
    escape(out, metric.help, false);
    for part in ["\n# TYPE ", name, " ", metric.kind.label(), "\n"] {
        out.push_str(part);
    }
}

/// The lines of one sample. `end` stands after each value: a line break, or a time stamp and a line break.
pub(crate) fn write_sample<'n, 'v>(
    out: &mut String,
    name: &str,
    labels: impl Iterator<Item = (&'n str, &'v str)> + Clone,
    value: Value,
    end: &str,
) {
    match value {
        Value::Number(value) => {
            line(out, [name, ""], labels, None);
            number(out, value, end);
        }
        Value::Histogram { sum, buckets } => {
            let mut count = 0;
            for (bound, own) in buckets {
                count += own;
                line(out, [name, "_bucket"], labels.clone(), Some(*bound));
                integer(out, count, end);
            }
            line(out, [name, "_sum"], labels.clone(), None);
            number(out, sum, end);
            line(out, [name, "_count"], labels, None);
            integer(out, count, end);
        }
    }
}

/// A sample up to its value.
pub(crate) fn line<'n, 'v>(
    out: &mut String,
    name: [&str; 2],
    labels: impl Iterator<Item = (&'n str, &'v str)>,
    bound: Option<f64>,
) {
    out.extend(name);
    let mut separator = '{';
    for (label, value) in labels {
        out.push(separator);
        out.push_str(label);
        out.push_str("=\"");
        escape(out, value, true);
        out.push('"');
        separator = ',';
    }
    if let Some(bound) = bound {
        out.push(separator);
        if bound.is_finite() {
            append(out, format_args!("le=\"{bound:?}\""));
        } else {
            out.push_str("le=\"+Inf\"");
        }
        separator = ',';
    }
    out.push_str(if separator == ',' { "} " } else { " " });
}

pub(super) fn escape(out: &mut String, text: &str, quotes: bool) {
    let mut rest = text;
    while let Some(at) = rest.find(|c| matches!(c, '\\' | '\n') || (quotes && c == '"')) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            _ => "\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

fn number(out: &mut String, value: f64, end: &str) {
    match whole(value) {
        Some(whole) => append(out, format_args!("{whole}{end}")),
        // The shortest digits that give the same float back.
        None => append(out, format_args!("{value:?}{end}")),
    }
}

fn integer(out: &mut String, value: u64, end: &str) {
    append(out, format_args!("{value}{end}"));
}

fn append(out: &mut String, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a String takes every write");
}
