//! Spending limits and when their windows begin (v0.9.2 `src/lib/rate-limit/time-utils.ts`).

use rust_decimal::Decimal;
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::model::{EntityId, Limit, QuotaWindow, Scope, Usd, WindowRule};

/// The limits in a row of users, keys or providers: absent and not positive is no limit, and a deleted entity has none.
pub(crate) fn read(row: &PgRow, scope: Scope, id: &EntityId, deleted: bool, limits: &mut Vec<Limit>) {
    if deleted {
        return;
    }
    let fixed = |column| matches!(row.try_get::<Option<&str>, _>(column), Ok(Some("fixed")));
    let five_hours = if fixed("five_hour_mode") { WindowRule::Live } else { WindowRule::Rolling { hours: 5 } };
    let daily = if fixed("daily_mode") { daily_at(row) } else { WindowRule::Rolling { hours: 24 } };
    let windows = [
        (QuotaWindow::FiveHours, five_hours, "limit_5h_usd", "five_hour_since"),
        (QuotaWindow::Daily, daily, "limit_daily_usd", "since"),
        (QuotaWindow::Weekly, WindowRule::Weekly, "limit_weekly_usd", "since"),
        (QuotaWindow::Monthly, WindowRule::Monthly, "limit_monthly_usd", "since"),
        (QuotaWindow::Total, WindowRule::Total, "limit_total_usd", "total_since"),
    ];
    for (window, rule, limit, since) in windows {
        let most = row.try_get::<Option<Decimal>, _>(limit).map(|limit| limit.map(Usd::from_decimal));
        let set = most.map(|most| most.filter(|most| most.is_positive()));
        // Most have none.
        match set.and_then(|set| set.map(|most| Ok((most, row.try_get(since)?))).transpose()) {
            Ok(None) => {}
            Ok(Some((limit, since))) => {
                limits.push(Limit { since, ..Limit::of(scope, id.clone(), window, rule, limit) });
            }
            Err(error) => {
                let (scope, window) = (scope.label(), window.label());
                tracing::warn!(scope, %id, window, %error, "left out a limit that could not be understood");
            }
        }
    }
}

/// The relay takes an unreadable time of day for midnight.
fn daily_at(row: &PgRow) -> WindowRule {
    let time = row.try_get::<&str, _>("daily_reset_time").ok().and_then(|time| {
        let (hour, minute) = time.split_once(':')?;
        Some((hour.parse().ok()?, minute.parse().ok()?))
    });
    let (hour, minute) = time.filter(|(hour, minute)| *hour < 24 && *minute < 60).unwrap_or((0, 0));
    WindowRule::DailyAt { hour, minute }
}
