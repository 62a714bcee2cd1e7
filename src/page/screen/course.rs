//! The last 24 hours as a line.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::Screen;
use super::html::{count, usd};
use crate::lang::Lang;
use crate::model::Source;
use crate::view::CourseStep;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 72.0;
/// Between the highest point and the upper edge, so that the line is not cut.
const MARGIN: f64 = 2.0;

/// Requests, and their cost where the relay knows it; nothing where its ledger has no times.
pub(super) fn courses(screen: &Screen<'_>) -> String {
    if screen.unsupported("llm_relay_window_requests").is_some() {
        return String::new();
    }
    let lang = screen.lang;
    let steps = screen.ledger().map_or(&[][..], |ledger| &ledger.course);
    // The running one is not over: drawn, it would always seem to fall.
    let [whole @ .., _] = steps else {
        let (title, colon) = (lang.of("Last 24 hours", "最近 24 小时"), lang.of(": ", "："));
        let why = screen.missing(Source::Ledger);
        return format!("<p class=\"soft courses\">{title}{colon}{why}</p>\n");
    };
    let midnight = screen.ledger().and_then(|ledger| ledger.day_start);
    let requests: Vec<f64> = whole.iter().map(|step| step.requests as f64).collect();
    let costs: Vec<f64> = whole.iter().filter_map(|step| step.cost_usd).collect();
    let mut figures = figure(lang.of("Requests", "请求数"), "requests", &requests, count, midnight, whole, lang);
    if !costs.is_empty() {
        figures += &figure(lang.of("Cost", "成本"), "cost", &costs, usd, midnight, whole, lang);
    }
    format!("<div class=\"courses\">\n{figures}</div>\n")
}

fn figure(
    title: &str,
    class: &str,
    values: &[f64],
    show: fn(f64) -> String,
    midnight: Option<DateTime<Utc>>,
    steps: &[CourseStep],
    lang: Lang,
) -> String {
    let highest = values.iter().copied().fold(0.0, f64::max);
    let peak = match lang {
        Lang::En => format!("peak {} in 30 min", show(highest)),
        Lang::Zh => format!("30 分钟峰值 {}", show(highest)),
    };
    let line = line(values, highest);
    let midnight = midnight.and_then(|midnight| x(midnight, steps)).map_or_else(String::new, |x| {
        format!("<line class=\"midnight\" x1=\"{x:.0}\" x2=\"{x:.0}\" y1=\"0\" y2=\"{HEIGHT}\"/>")
    });
    format!(
        "<figure class=\"{class}\"><figcaption><b>{title}</b> {span}<span class=\"peak\">{peak}</span></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title}, {span}: {peak}\">\
         {midnight}<path class=\"area\" d=\"M0 {HEIGHT}L{line}L{WIDTH} {HEIGHT}Z\"/><path class=\"line\" d=\"M{line}\"/></svg>\
         <p class=\"axis\"><span>−24 h</span><span>−12 h</span><span>{now}</span></p></figure>\n",
        span = lang.of("last 24 h", "最近 24 小时"),
        now = lang.of("now", "现在"),
    )
}

/// The points from left to right.
fn line(values: &[f64], highest: f64) -> String {
    let mut points = String::new();
    let last = values.len().saturating_sub(1).max(1) as f64;
    for (at, value) in values.iter().enumerate() {
        let share = if highest > 0.0 { value / highest } else { 0.0 };
        let (x, y) = (WIDTH * at as f64 / last, HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN));
        let separator = if at == 0 { "" } else { " " };
        // A String takes every write.
        let _ = write!(points, "{separator}{x:.0} {y:.1}");
    }
    points
}

/// Where an instant lies between the first step and the last.
fn x(instant: DateTime<Utc>, steps: &[CourseStep]) -> Option<f64> {
    let (first, last) = (steps.first()?.start, steps.last()?.start);
    let share = (instant - first).as_seconds_f64() / (last - first).as_seconds_f64();
    (0.0..=1.0).contains(&share).then_some(share * WIDTH)
}
