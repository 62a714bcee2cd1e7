//! Budgets: a limit, what is spent of it, and when LiteLLM means to begin anew.

use chrono::{DateTime, NaiveDateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::model::{EntityId, Limit, QuotaWindow, Scope, Usd, WindowRule};

/// The budget of an entity; `None` where it has none, or one of a window that has no name here.
///
/// LiteLLM's job sets the spending back some minutes after the reset: until then it is of the window before.
///
/// # Errors
/// When a column cannot be understood.
pub(super) fn limit(
    row: &PgRow,
    scope: Scope,
    id: &EntityId,
    now: DateTime<Utc>,
) -> Result<Option<Limit>, sqlx::Error> {
    let most: Option<f64> = row.try_get("max_budget")?;
    let duration: Option<&str> = row.try_get("budget_duration")?;
    let resets_at: Option<NaiveDateTime> = row.try_get("budget_reset_at")?;
    let (Some(limit), Some(window)) = (most.and_then(Usd::from_f64), window(duration)) else { return Ok(None) };
    let resets_at = resets_at.map(|at| at.and_utc());
    let is_over = resets_at.is_some_and(|at| at <= now);
    let spend = Usd::from_f64(row.try_get("spend")?).unwrap_or(Usd::ZERO);
    let used = if is_over { Usd::ZERO } else { spend.max(Usd::ZERO) };
    let rule = WindowRule::Told { used, resets_at };
    Ok(Some(Limit { scope, id: id.clone(), window, part: "".into(), rule, limit, since: None }))
}

/// LiteLLM rounds to midnights, Mondays and firsts of the month (`litellm_core_utils/duration_parser.py`, 1.110.2).
fn window(duration: Option<&str>) -> Option<QuotaWindow> {
    match duration.unwrap_or_default() {
        "" => Some(QuotaWindow::Total),
        "5h" => Some(QuotaWindow::FiveHours),
        "1d" | "24h" => Some(QuotaWindow::Daily),
        "7d" | "1w" => Some(QuotaWindow::Weekly),
        "30d" | "1mo" => Some(QuotaWindow::Monthly),
        _ => None,
    }
}
