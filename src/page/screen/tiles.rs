//! The six numbers that one looks at first.

use super::Screen;
use super::html::{count, number, percent, seconds, size, usd};
use crate::lang::Lang;
use crate::model::Source;
use crate::view::DayView;

struct Tile {
    label: &'static str,
    metric: &'static str,
    source: Source,
    number: Option<String>,
    below: String,
}

/// How a number of a day is shown, and what its change means.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Count,
    Usd,
    Seconds,
    Ratio,
}

impl Form {
    fn show(self, value: f64) -> String {
        match self {
            Self::Count => count(value),
            Self::Usd => usd(value),
            Self::Seconds => seconds(value),
            Self::Ratio => percent(value),
        }
    }

    /// What has become of `before`: of a ratio the difference in points, else the growth.
    fn change(self, now: f64, before: f64, lang: Lang) -> Option<String> {
        let (by, shown) = match self {
            Self::Ratio => {
                let points = (now - before) * 100.0;
                (points, format!("{:.1} {}", points.abs(), lang.of("points", "个百分点")))
            }
            _ if before > 0.0 => {
                let growth = (now / before - 1.0) * 100.0;
                (growth, format!("{} %", count(growth.abs().round())))
            }
            _ => return None,
        };
        let is_good_when_low = matches!(self, Self::Seconds | Self::Ratio);
        let (class, arrow) = match by {
            _ if by.abs() < 0.05 => return Some("<span>=</span>".to_owned()),
            0.0.. => (if is_good_when_low { "worse" } else { "" }, "▲"),
            _ => (if is_good_when_low { "better" } else { "" }, "▼"),
        };
        Some(format!("<span class=\"{class}\">{arrow} {shown}</span>"))
    }
}

/// What the relay never tells has no tile.
pub(super) fn tiles(screen: &Screen<'_>) -> String {
    let lang = screen.lang;
    let tiles = [
        sessions(screen),
        last_minute(screen),
        of_day(screen, lang.of("Requests today", "今日请求数"), "llm_relay_day_requests", Form::Count, |day| {
            Some(day.requests as f64)
        }),
        of_day(screen, lang.of("Cost today", "今日成本"), "llm_relay_day_cost_usd", Form::Usd, |day| day.cost_usd),
        of_day(
            screen,
            lang.of("Mean time today", "今日平均耗时"),
            "llm_relay_day_mean_duration_seconds",
            Form::Seconds,
            |day| day.mean_duration_seconds,
        ),
        of_day(
            screen,
            lang.of("Error rate today", "今日错误率"),
            "llm_relay_day_error_ratio",
            Form::Ratio,
            |day| day.error_ratio,
        ),
    ];
    let told = tiles.into_iter().filter(|tile| screen.unsupported(tile.metric).is_none());
    let tiles = told.map(|Tile { label, source, number, below, .. }| {
        let (class, number, below) = match number {
            Some(number) => ("", number, below),
            None => (" class=\"none\"", "–".to_owned(), screen.missing(source)),
        };
        format!("<div{class}><dt>{label}</dt><dd>{number}</dd><dd class=\"below\">{below}</dd></div>\n")
    });
    format!("<dl class=\"tiles\">\n{}</dl>\n", tiles.collect::<String>())
}

fn sessions(screen: &Screen<'_>) -> Tile {
    let lang = screen.lang;
    let metric = "llm_relay_sessions_active";
    let running = screen.ledger().and_then(|ledger| ledger.requests_in_progress).map(|running| {
        let number = number("llm_relay_requests_in_progress", &[], running as f64, &count(running as f64));
        if lang == Lang::En { format!("{number} running") } else { format!("{number} 个进行中") }
    });
    let sessions = screen.view.live.as_ref().and_then(|live| live.sessions);
    Tile {
        label: lang.of("Sessions", "会话"),
        metric,
        source: Source::Live,
        number: sessions.map(|sessions| number(metric, &[], sessions as f64, &count(sessions as f64))),
        below: running.unwrap_or_default(),
    }
}

fn last_minute(screen: &Screen<'_>) -> Tile {
    let lang = screen.lang;
    let metric = "llm_relay_requests_last_minute";
    let tokens = screen.ledger().and_then(|ledger| ledger.tokens_last_minute).map(|tokens| {
        let number = number("llm_relay_tokens_last_minute", &[], tokens, &size(tokens));
        if lang == Lang::En { format!("{number} tokens / min") } else { format!("每分钟 {number} Token") }
    });
    let requests = screen.ledger().and_then(|ledger| ledger.requests_last_minute);
    Tile {
        label: lang.of("Requests / min", "每分钟请求数"),
        metric,
        source: Source::Ledger,
        number: requests.map(|requests| number(metric, &[], requests, &count(requests))),
        below: tokens.unwrap_or_default(),
    }
}

fn of_day(
    screen: &Screen<'_>,
    label: &'static str,
    metric: &'static str,
    form: Form,
    value: fn(&DayView) -> Option<f64>,
) -> Tile {
    let lang = screen.lang;
    let of = |label: &str| {
        let days = screen.ledger().into_iter().flat_map(|ledger| &ledger.days);
        days.into_iter().find(|(day, _)| *day == label).and_then(|(_, day)| value(day))
    };
    let shown = |day: &str, value: f64| number(metric, &[("day", day)], value, &form.show(value));
    let today = of("today");
    let before = match (of("yesterday_same_time"), of("yesterday")) {
        (Some(before), _) => {
            let change = today.and_then(|today| form.change(today, before, lang)).unwrap_or_default();
            let before = shown("yesterday_same_time", before);
            let text =
                if lang == Lang::En { format!("{before} yesterday by now") } else { format!("昨日此时 {before}") };
            format!("{change}<span>{text}</span>")
        }
        (None, Some(whole)) => {
            let whole = shown("yesterday", whole);
            if lang == Lang::En { format!("{whole} in all of yesterday") } else { format!("昨日全天 {whole}") }
        }
        (None, None) => String::new(),
    };
    let number = today.map(|today| shown("today", today));
    Tile { label, metric, source: Source::Ledger, number, below: before }
}
