//! How old the numbers are, and what cannot be read.

use chrono::Duration;

use super::Screen;
use super::absent::name;
use super::html::{Escaped, number, percent, span};
use crate::lang::Lang;
use crate::view::SourceStatus;

/// What is wrong now, in large letters.
pub(super) fn alarms(screen: &Screen<'_>) -> String {
    let lang = screen.lang;
    let mut alarms: Vec<String> = Vec::new();
    for status in &screen.view.sources {
        let (source, age) = (name(status.source, lang), status.last_success.map(|last| span(screen.at - last, lang)));
        alarms.extend(status.problem.as_ref().filter(|_| !status.up).map(|_| match (age, lang) {
            (Some(age), Lang::En) => format!("The {source} cannot be read; last read {age} ago."),
            (None, Lang::En) => format!("The {source} cannot be read."),
            (Some(age), Lang::Zh) => format!("{source}无法读取；上次读取于 {age}前。"),
            (None, Lang::Zh) => format!("{source}无法读取。"),
        }));
    }
    let probe = screen.view.probe.as_ref().and_then(|probe| probe.last);
    if probe.is_some_and(|last| !last.up) {
        alarms.push(
            lang.of("The relay does not answer at its health address.", "中转的健康检查地址没有响应。").to_owned(),
        );
    }
    alarms.iter().map(|alarm| format!("<p class=\"alarm\" role=\"alert\">{alarm}</p>\n")).collect()
}

pub(super) fn sources(screen: &Screen<'_>) -> String {
    let lang = screen.lang;
    let mut items: String = screen.view.sources.iter().map(|status| source(screen, status)).collect();
    if let Some(last) = screen.view.probe.as_ref().and_then(|probe| probe.last) {
        let milliseconds = format!("{:.0} ms", last.seconds * 1e3);
        let took = number("llm_relay_http_probe_duration_seconds", &[], last.seconds, &milliseconds);
        let (class, text) = if last.up {
            ("up", lang.of("answers in", "健康检查耗时"))
        } else {
            ("down", lang.of("did not answer:", "无响应："))
        };
        items += &format!("<li class=\"source {class}\">{text} {took}</li>\n");
    }
    if let Some(loaded) = screen.ledger().map(|ledger| ledger.history_loaded).filter(|loaded| *loaded < 1.0) {
        let text = lang.of("history read:", "历史已读取");
        let loaded = number("llm_relay_history_loaded_ratio", &[], loaded, &percent(loaded));
        items += &format!("<li class=\"source\">{text} {loaded}</li>\n");
    }
    format!("<ul class=\"sources\">\n{items}</ul>\n")
}

fn source(screen: &Screen<'_>, status: &SourceStatus) -> String {
    let lang = screen.lang;
    let age = match (status.last_success, lang) {
        (Some(last), _) if screen.at - last < Duration::seconds(1) => lang.of("read just now", "刚刚读取").to_owned(),
        (Some(last), Lang::En) => format!("read {} ago", span(screen.at - last, lang)),
        (Some(last), Lang::Zh) => format!("{}前读取", span(screen.at - last, lang)),
        (None, _) => lang.of("never read", "从未读取").to_owned(),
    };
    let problem = status.problem.as_ref().map(|problem| problem.shown(screen.strangers));
    let problem = problem.map(|problem| format!(" <em lang=\"en\">{}</em>", Escaped(&problem)));
    format!(
        "<li class=\"source {class}\">{name} {age}{problem}</li>\n",
        class = if status.up { "up" } else { "down" },
        name = name(status.source, lang),
        problem = problem.unwrap_or_default(),
    )
}
