//! What the relay's screens show, beside what the exporter says.

use std::collections::BTreeMap;

use llm_relay_exporter::model::Scope;
use llm_relay_exporter::view::LedgerView;

/// Dollars in the relay's units.
pub fn units(usd: f64) -> i64 {
    (usd * 500_000.0).round() as i64
}

/// Requests, quota, tokens, seconds and how many have some, by the name of a span; of boards by scope and id.
pub fn compare_screens(view: &LedgerView, theirs: &BTreeMap<String, Vec<i64>>, what: &str) {
    for (day, ours) in &view.days {
        let it = &theirs[*day];
        assert_eq!((ours.requests as i64, units(ours.cost_usd.unwrap())), (it[0], it[1]), "{day} {what}");
        let mean = (it[4] > 0).then(|| (it[3] * 1000) as f64 / it[4] as f64 / 1e3);
        assert_eq!(ours.mean_duration_seconds, mean, "{day} {what}");
        assert_eq!(ours.error_ratio, None, "its screens know no errors");
    }
    assert_eq!(view.days.len(), 3, "{what}");
    for (window, ours) in &view.windows {
        let (ours, theirs) = (ours.iter().sum::<u64>() as i64, theirs[*window][0]);
        // A clean-up takes no month from the exporter.
        let is_right = if *window == "month" { ours >= theirs } else { ours == theirs };
        assert!(is_right, "{window} {what}: {ours}, {theirs}");
    }
    let minute = &theirs["1m"];
    assert_eq!(view.requests_last_minute, Some(minute[0] as f64), "RPM {what}");
    assert_eq!(view.tokens_last_minute, Some(minute[2] as f64), "TPM {what}");
    let mut boards = 0;
    for board in view.boards.iter().filter(|board| board.period.label() == "last24h" && board.scope != Scope::Model) {
        for entry in board.entries.iter().filter(|entry| entry.id != "other") {
            let it = &theirs[&format!("{} {}", board.scope.label(), entry.id)];
            let ours = [entry.requests.unwrap() as i64, units(entry.cost_usd.unwrap()), entry.tokens.unwrap() as i64];
            assert_eq!(ours.as_slice(), it.as_slice(), "{} {} {what}", board.scope.label(), entry.id);
            assert_eq!(entry.success_ratio, None);
            boards += 1;
        }
    }
    let all = theirs.keys().filter(|name| ["user ", "key ", "provider "].iter().any(|it| name.starts_with(it)));
    assert_eq!(boards, all.count(), "{what}");
}
