//! Text, numbers and times as HTML.

use std::fmt::{self, Display, Formatter, Write};

use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;

use super::Screen;
use crate::lang::Lang;

/// Text that is safe between tags and in a quoted attribute.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            _ => f.write_char(c),
        })
    }
}

/// A value of the page of metrics as people read it; its title is the series, without the relay.
pub(super) fn number(metric: &str, labels: &[(&str, &str)], value: f64, shown: &str) -> String {
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    format!("<data value=\"{value}\" title=\"{metric}{labels}\">{shown}</data>", labels = Escaped(&labels))
}

/// Like `1,234`; a mean below 100 with a decimal place.
pub(super) fn count(value: f64) -> String {
    if value.fract() != 0.0 && value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Like `52 k`, for numbers of which only the size matters.
pub(super) fn size(value: f64) -> String {
    match value {
        ..10_000.0 => count(value.round()),
        ..1_000_000.0 => format!("{:.0} k", value / 1e3),
        _ => format!("{:.1} M", value / 1e6),
    }
}

/// Like `$1.25`: to the cent as relays show it, whole dollars from a thousand on, and more places for less than a cent.
pub(super) fn usd(value: f64) -> String {
    match value.abs() {
        0.0 => "$0.00".to_owned(),
        ..0.01 => format!("${value:.4}"),
        ..1000.0 => format!("${value:.2}"),
        _ => format!("${}", count(value.round())),
    }
}

pub(super) fn seconds(value: f64) -> String {
    match value {
        ..1.0 => format!("{:.0}<small> ms</small>", value * 1e3),
        ..10.0 => format!("{value:.2}<small> s</small>"),
        ..60.0 => format!("{value:.1}<small> s</small>"),
        _ => format!("{:.0}<small> min</small> {:.0}<small> s</small>", (value / 60.0).floor(), value % 60.0),
    }
}

pub(super) fn percent(ratio: f64) -> String {
    format!("{:.1}<small> %</small>", ratio * 100.0)
}

/// A span in its two greatest units.
pub(super) fn span(span: Duration, lang: Lang) -> String {
    let seconds = span.num_seconds().max(0);
    let (day, hour, minute, second) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (lang, seconds) {
        (Lang::En, ..60) => format!("{second} s"),
        (Lang::En, ..3600) => format!("{minute} min {second} s"),
        (Lang::En, ..86400) => format!("{hour} h {minute} min"),
        (Lang::En, _) => format!("{day} d {hour} h"),
        (Lang::Zh, ..60) => format!("{second} 秒"),
        (Lang::Zh, ..3600) => format!("{minute} 分 {second} 秒"),
        (Lang::Zh, ..86400) => format!("{hour} 小时 {minute} 分"),
        (Lang::Zh, _) => format!("{day} 天 {hour} 小时"),
    }
}

/// The relay's own clock, and the zone it goes by.
pub(super) struct TimeOfDay<'a> {
    at: DateTime<Utc>,
    /// Seconds since the relay's midnight, and its zone.
    local: Option<(i64, &'a str)>,
}

impl<'a> TimeOfDay<'a> {
    pub(super) fn of(screen: &Screen<'a>) -> Self {
        let at = screen.at;
        let zone = screen.directory().map(|directory| directory.timezone.as_str());
        let local = zone.filter(|zone| !zone.is_empty()).and_then(|name| {
            let since_midnight = match name.parse::<Tz>() {
                Ok(zone) => at.with_timezone(&zone).time().signed_duration_since(chrono::NaiveTime::MIN),
                // An offset has days of 24 hours.
                Err(_) => at - screen.ledger()?.day_start?,
            };
            Some((since_midnight.num_seconds().rem_euclid(86400), name))
        });
        Self { at, local }
    }
}

impl Display for TimeOfDay<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (second, zone) = self.local.unwrap_or((self.at.timestamp().rem_euclid(86400), "UTC"));
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "<time datetime=\"{}\">{hour:02}:{minute:02}:{second:02}</time>", self.at.format("%FT%TZ"))?;
        write!(f, " <span class=\"soft\">{}</span>", Escaped(zone))
    }
}
