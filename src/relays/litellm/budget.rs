//! Budgets: a limit, what is spent of it, and when LiteLLM means to begin anew.

use std::sync::Arc;

use chrono::NaiveDateTime;
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::model::{EntityId, Limit, QuotaWindow, Scope, Usd, WindowRule};

/// The budget of an entity; `None` where it has none.
///
/// LiteLLM's job sets the spending back some minutes after the reset: until then LiteLLM holds it against the limit.
///
/// # Errors
/// When a column cannot be understood.
pub(super) fn limit(row: &PgRow, scope: Scope, id: &EntityId) -> Result<Option<Limit>, sqlx::Error> {
    let usd = |column| row.try_get::<Option<f64>, _>(column).map(|usd| usd.and_then(Usd::from_f64));
    let (limit, soft_limit) = (usd("max_budget")?, usd("soft_budget")?);
    if limit.is_none() && soft_limit.is_none() {
        return Ok(None);
    }
    let Some(window) = window(row.try_get::<Option<&str>, _>("budget_duration")?.unwrap_or_default()) else {
        return Ok(None);
    };
    let resets_at: Option<NaiveDateTime> = row.try_get("budget_reset_at")?;
    let used = usd("spend")?.unwrap_or(Usd::ZERO).max(Usd::ZERO);
    let rule = WindowRule::Told { used, resets_at: resets_at.map(|at| at.and_utc()) };
    Ok(Some(Limit { scope, id: id.clone(), window, part: Arc::default(), rule, limit, soft_limit, since: None }))
}

/// As LiteLLM reads a duration (`litellm_core_utils/duration_parser.py`, 1.110.2): it rounds to midnights, Mondays and firsts
/// of the month, and what it does not understand is set back at the next midnight. `None` for a count that nobody means.
fn window(duration: &str) -> Option<QuotaWindow> {
    let text = match duration.trim().to_ascii_lowercase().as_str() {
        "hourly" => "1h",
        "daily" => "1d",
        "weekly" => "7d",
        "monthly" => "1mo",
        _ => duration,
    };
    if text.is_empty() {
        return Some(QuotaWindow::Total);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, rest) = text.split_at(digits);
    let word = &rest[..rest.bytes().take_while(u8::is_ascii_lowercase).count()];
    let unit = ["mo", "s", "m", "h", "d", "w"].into_iter().find(|unit| word.starts_with(unit));
    let (Some(unit), false) = (unit, count.is_empty()) else { return Some(QuotaWindow::Daily) };
    Some(match (count.parse::<u32>().ok()?, unit) {
        (5, "h") => QuotaWindow::FiveHours,
        (1, "d") | (24, "h") => QuotaWindow::Daily,
        (7, "d") | (1, "w") => QuotaWindow::Weekly,
        (30, "d") | (1, "mo") => QuotaWindow::Monthly,
        (_, "mo") if word != "mo" => QuotaWindow::Daily,
        (count, unit) => QuotaWindow::Other(format!("{count}{unit}").into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_means_what_it_means_to_litellm() {
        let other = |text: &str| Some(QuotaWindow::Other(text.into()));
        for (duration, meant) in [
            ("", Some(QuotaWindow::Total)),
            ("24h", Some(QuotaWindow::Daily)),
            ("1w", Some(QuotaWindow::Weekly)),
            ("30d", Some(QuotaWindow::Monthly)),
            (" Monthly", Some(QuotaWindow::Monthly)),
            ("hourly", other("1h")),
            ("10d", other("10d")),
            ("10days", other("10d")),
            ("2mo", other("2mo")),
            ("36h", other("36h")),
            ("1month", Some(QuotaWindow::Monthly)),
            // It falls back to the next midnight.
            ("2months", Some(QuotaWindow::Daily)),
            ("fortnight", Some(QuotaWindow::Daily)),
            ("3", Some(QuotaWindow::Daily)),
            ("99999999999d", None),
        ] {
            assert_eq!(window(duration), meant, "{duration}");
        }
    }
}
