//! The first of today.

use super::Screen;
use super::html::{Escaped, count, number, usd};
use crate::model::{Period, Scope, Source};
use crate::view::BoardEntry;

const FIRST: usize = 5;

/// Users, or keys where the relay knows no users; providers; models.
pub(super) fn boards(screen: &Screen<'_>) -> String {
    let lang = screen.lang;
    let people = if screen.unranked(Scope::User).is_some() {
        (Scope::Key, lang.of("Keys today", "今日密钥"))
    } else {
        (Scope::User, lang.of("Users today", "今日用户"))
    };
    let providers = (Scope::Provider, lang.of("Providers today", "今日供应商"));
    let models = (Scope::Model, lang.of("Models today", "今日模型"));
    [people, providers, models].map(|(scope, title)| board(screen, scope, title)).concat()
}

fn board(screen: &Screen<'_>, scope: Scope, title: &str) -> String {
    let boards = screen.ledger().map_or(&[][..], |ledger| &ledger.boards);
    // Of what is never ranked there is no board of another period either.
    if !boards.is_empty() && boards.iter().all(|board| board.scope != scope) {
        return String::new();
    }
    let Some(board) = boards.iter().find(|board| (board.scope, board.period) == (scope, Period::Today)) else {
        let source = if screen.directory().is_none() { Source::Directory } else { Source::Ledger };
        return format!("<div><h3>{title}</h3><p class=\"soft\">{}</p></div>\n", screen.missing(source));
    };
    let first: Vec<_> = board.entries.iter().filter(|entry| entry.id != "other").take(FIRST).collect();
    if first.is_empty() {
        let nobody = screen.lang.of("nothing yet today", "今日暂无");
        return format!("<div><h3>{title}</h3><p class=\"soft\">{nobody}</p></div>\n");
    }
    let highest = first.iter().filter_map(|entry| amount(entry)).fold(0.0, f64::max);
    let rows: String = first.into_iter().map(|entry| row(scope, entry, highest)).collect();
    format!("<div><h3>{title}</h3><ol>\n{rows}</ol></div>\n")
}

/// What the row's bar is drawn from: money, or requests where the relay knows no money.
fn amount(entry: &BoardEntry) -> Option<f64> {
    entry.cost_usd.or(entry.requests.map(|requests| requests as f64))
}

fn row(scope: Scope, entry: &BoardEntry, highest: f64) -> String {
    let labels = [("scope", scope.label()), ("period", Period::Today.label()), ("id", &*entry.id)];
    let value = match (entry.cost_usd, entry.requests) {
        (Some(cost), _) => number("llm_relay_leaderboard_cost_usd", &labels, cost, &usd(cost)),
        (None, Some(requests)) => {
            let requests = requests as f64;
            number("llm_relay_leaderboard_requests", &labels, requests, &count(requests))
        }
        (None, None) => String::new(),
    };
    let share = amount(entry).map_or(0.0, |amount| if highest > 0.0 { amount / highest } else { 0.0 });
    format!("<li>{}{value}{}</li>\n", label(&entry.name), bar(share))
}

pub(super) fn label(name: &str) -> String {
    format!("<bdi class=\"name\">{}</bdi>", Escaped(name))
}

/// A line under a row: how much of the whole it is, 0 to 1.
pub(super) fn bar(share: f64) -> String {
    let width = share.clamp(0.0, 1.0) * 100.0;
    format!("<svg class=\"bar\" aria-hidden=\"true\"><rect width=\"{width:.1}%\" height=\"100%\"/></svg>")
}
