//! What screens show of a view, held against numbers of plain SQL.

use std::collections::BTreeMap;

use llm_relay_exporter::model::Scope;
use llm_relay_exporter::view::{BoardEntry, LedgerView};

/// Equal but for the last digits of a float.
pub fn close(ours: f64, theirs: f64, what: &str) {
    let equal = (ours.is_nan() && theirs.is_nan()) || (ours - theirs).abs() <= 1e-6 * theirs.abs().max(1e-6);
    assert!(equal, "{what}: exporter {ours}, SQL {theirs}");
}

/// Requests, dollars, seconds of each, and errors.
pub fn hold_day(view: &LedgerView, day: &str, sql: &[f64]) {
    let (_, ours) = view.days.iter().find(|(label, _)| *label == day).unwrap();
    assert_eq!(ours.requests as f64, sql[0], "requests {day}");
    close(ours.cost_usd.unwrap(), sql[1], &format!("cost {day}"));
    close(ours.mean_duration_seconds.unwrap_or(f64::NAN), sql[2], &format!("duration {day}"));
    let errors = if sql[0] > 0.0 { sql[3] / sql[0] } else { 0.0 };
    close(ours.error_ratio.unwrap(), errors, &format!("errors {day}"));
}

/// Successes, failures, all requests, and tokens.
pub fn hold_window(view: &LedgerView, window: &str, sql: &[f64]) {
    let (_, ours) = view.windows.iter().find(|(label, _)| *label == window).unwrap();
    assert_eq!(ours.map(|n| n as f64), [sql[0], sql[1], sql[2] - sql[0] - sql[1]], "{window}");
    if window == "1m" {
        assert_eq!(view.requests_last_minute, Some(sql[2]));
        assert_eq!(view.tokens_last_minute, Some(sql[3]));
    }
}

/// By id: requests, dollars, tokens, share of successes, seconds to the first token, tokens per second and cache hits. Gives
/// the entries that have a rank, and the rest.
pub fn hold_board<'a>(
    view: &'a LedgerView,
    (scope, size): (Scope, usize),
    period: &str,
    theirs: &BTreeMap<String, Vec<f64>>,
) -> (&'a [BoardEntry], &'a BoardEntry) {
    let board = view.boards.iter().find(|board| board.scope == scope && board.period.label() == period).unwrap();
    let (other, ranked) = board.entries.split_last().unwrap();
    assert_eq!(ranked.len(), theirs.len().min(size), "{scope:?} {period}");
    for entry in ranked {
        let it = &theirs[&entry.id];
        let what = format!("{scope:?} {} {period}", entry.id);
        assert_eq!(entry.requests.unwrap() as f64, it[0], "requests of {what}");
        close(entry.cost_usd.unwrap(), it[1], &format!("cost of {what}"));
        assert_eq!(entry.tokens.unwrap() as f64, it[2], "tokens of {what}");
        close(entry.success_ratio.unwrap_or(f64::NAN), it[3], &format!("success of {what}"));
        close(entry.cache_hit_ratio.unwrap_or(f64::NAN), it[6], &format!("cache hits of {what}"));
        if scope == Scope::Provider {
            close(entry.mean_ttft_seconds.unwrap_or(f64::NAN), it[4], &format!("ttft of {what}"));
            // Speeds are kept to 10^-6 tokens per second each.
            let speed = entry.mean_output_tokens_per_second.unwrap_or(f64::NAN);
            close(speed + 1.0, it[5] + 1.0, &format!("speed of {what}"));
        }
    }
    let least = ranked.iter().filter_map(|entry| entry.cost_usd).fold(f64::INFINITY, f64::min);
    for (id, it) in theirs {
        let shown = ranked.iter().any(|entry| entry.id == *id);
        assert!(shown || it[1] <= least + 1e-12, "{scope:?} {id} is missing from {period}");
    }
    (ranked, other)
}
