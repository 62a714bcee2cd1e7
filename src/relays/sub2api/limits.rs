//! Spending limits of which the relay keeps what is used.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::{ColumnIndex, Row};

use crate::model::{EntityId, Limit, QuotaWindow, Scope, Usd, WindowRule};

/// Which windows a row of limits has, and what its columns begin with.
const WINDOWS: [(QuotaWindow, &str); 5] = [
    (QuotaWindow::FiveHours, "five_hour"),
    (QuotaWindow::Daily, "daily"),
    (QuotaWindow::Weekly, "weekly"),
    (QuotaWindow::Monthly, "monthly"),
    (QuotaWindow::Total, "total"),
];

/// A limit, and what is used of it in the window that is open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spent {
    pub limit: Usd,
    pub used: Usd,
    /// `None` while no window is open, and where it never ends.
    pub resets_at: Option<DateTime<Utc>>,
}

impl Spent {
    /// What is written of a window that has ended is of nothing: the relay sets it to 0 with the next request.
    pub(super) fn until(limit: Usd, used: Usd, end: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        let open = end.is_some_and(|end| end > now);
        Self { limit, used: if open { used } else { Usd::ZERO }, resets_at: end.filter(|_| open) }
    }
}

/// Each limit once: two series of one name would spoil the page.
#[derive(Default)]
pub(super) struct Limits {
    pub all: Vec<Limit>,
    seen: HashSet<(Scope, EntityId, QuotaWindow, String)>,
}

impl Limits {
    pub(super) fn add(&mut self, scope: Scope, id: &EntityId, part: &str, window: QuotaWindow, spent: Spent) {
        if self.seen.insert((scope, id.clone(), window.clone(), part.to_owned())) {
            let rule = WindowRule::Told { used: spent.used, resets_at: spent.resets_at };
            self.all.push(Limit { part: part.into(), ..Limit::of(scope, id.clone(), window, rule, spent.limit) });
        }
    }

    /// Those of a row that has columns for some windows. A limit of nothing is none, but for those of platforms, where it
    /// lets nothing through.
    pub(super) fn read(&mut self, row: &PgRow, scope: Scope, id: &EntityId, part: &str) {
        for (window, prefix) in WINDOWS {
            if format!("{prefix}_limit").as_str().index(row).is_err() {
                continue;
            }
            match spent(row, prefix, window == QuotaWindow::Total) {
                Ok(Some(spent)) if spent.limit.is_positive() || part.starts_with("platform:") => {
                    self.add(scope, id, part, window, spent);
                }
                Ok(_) => {}
                Err(error) => {
                    let (scope, window) = (scope.label(), window.label());
                    tracing::warn!(scope, %id, window, %error, "left out a limit that could not be understood");
                }
            }
        }
    }
}

fn spent(row: &PgRow, prefix: &str, is_endless: bool) -> Result<Option<Spent>, sqlx::Error> {
    let usd = |column| {
        let value: Option<Decimal> = row.try_get(format!("{prefix}_{column}").as_str())?;
        Ok::<_, sqlx::Error>(value.map(Usd::from_decimal))
    };
    let Some(limit) = usd("limit")? else { return Ok(None) };
    let used = usd("used")?.unwrap_or_default();
    if is_endless {
        return Ok(Some(Spent { limit, used, resets_at: None }));
    }
    Ok(Some(Spent::until(limit, used, row.try_get(format!("{prefix}_end").as_str())?, row.try_get("now")?)))
}
