//! Single numbers out of `accounts.extra`: what the upstream told of a subscription's windows, and limits of spending.
//!
//! They are numbers, texts, or not there at all.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use sqlx::Row;

use super::limits::Spent;
use super::schema::Schema;
use crate::connect::postgres::Snapshot;
use crate::model::{QuotaWindow, ReadError, Subscription, Usd};

/// What an administrator makes, so that the rest of `extra` stays where it is.
pub(super) const FUNCTION: &str = "relay_exporter_account_windows";

/// Of one account.
#[derive(Debug, Default)]
pub(super) struct Windows(Map<String, Value>);

/// Those of all accounts; none without the function that tells them.
pub(super) async fn read(snapshot: &mut Snapshot, schema: &Schema) -> Result<HashMap<i64, Windows>, ReadError> {
    let mut all = HashMap::new();
    if schema.may_call(FUNCTION) {
        for row in snapshot.fetch("reading windows of accounts", sqlx::query(include_str!("sql/windows.sql"))).await? {
            let text = row.try_get::<Option<&str>, _>("windows").ok().flatten();
            if let (Ok(id), Some(windows)) = (row.try_get("id"), text.and_then(Windows::parse)) {
                all.insert(id, windows);
            }
        }
    }
    Ok(all)
}

impl Windows {
    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    fn number(&self, key: &str) -> Option<f64> {
        let number = match self.0.get(key)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| number.is_finite())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    fn time(&self, key: &str) -> Option<DateTime<Utc>> {
        DateTime::parse_from_rfc3339(self.text(key)?).ok().map(|at| at.to_utc())
    }

    fn usd(&self, key: &str) -> Option<Usd> {
        Usd::from_f64(self.number(key)?)
    }

    /// Limits of spending: ever, by day, by week. A window of the latter rolls from its first request, or ends at fixed times.
    pub(super) fn spending(&self, now: DateTime<Utc>) -> Vec<(QuotaWindow, Spent)> {
        let limit = |key: String| self.usd(&key).filter(|limit| limit.is_positive());
        let used = |key: String| self.usd(&key).unwrap_or_default();
        let total = limit("quota_limit".to_owned())
            .map(|limit| (QuotaWindow::Total, Spent { limit, used: used("quota_used".to_owned()), resets_at: None }));
        let rest = [(QuotaWindow::Daily, "daily", 24), (QuotaWindow::Weekly, "weekly", 168)];
        let rest = rest.into_iter().filter_map(|(window, name, hours)| {
            let limit = limit(format!("quota_{name}_limit"))?;
            let end = match self.text(&format!("quota_{name}_reset_mode")) {
                Some("fixed") => self.time(&format!("quota_{name}_reset_at")),
                _ => self.time(&format!("quota_{name}_start")).map(|start| start + TimeDelta::hours(hours)),
            };
            Some((window, Spent::until(limit, used(format!("quota_{name}_used")), end, now)))
        });
        total.into_iter().chain(rest).collect()
    }

    /// Whether it has spent what it may.
    pub(super) fn is_exhausted(&self, now: DateTime<Utc>) -> bool {
        self.spending(now).iter().any(|(_, spent)| spent.used >= spent.limit)
    }

    /// Windows of the upstream's subscription that have not ended, without those of Claude's session, which have columns.
    pub(super) fn subscriptions(&self, provider_id: i64, now: DateTime<Utc>) -> Vec<Subscription> {
        let seconds = |key| DateTime::from_timestamp(self.number(key)? as i64, 0);
        let percent = |key| self.number(key).map(|percent| percent / 100.0);
        let (by_claude, by_codex) = (self.told_by_claude_at(), self.time("codex_usage_updated_at"));
        [
            ("7d", self.number("passive_usage_7d_utilization"), seconds("passive_usage_7d_reset"), by_claude),
            (
                "7d_fable",
                self.number("passive_usage_7d_oi_utilization"),
                seconds("passive_usage_7d_oi_reset"),
                by_claude,
            ),
            ("5h", percent("codex_5h_used_percent"), self.time("codex_5h_reset_at"), by_codex),
            ("7d", percent("codex_7d_used_percent"), self.time("codex_7d_reset_at"), by_codex),
        ]
        .into_iter()
        .filter_map(|(window, used_ratio, end, told_at)| {
            let resets_at = end.filter(|end| *end > now);
            let is_told = used_ratio.is_some() && resets_at.is_some();
            is_told.then(|| Subscription {
                provider_id: provider_id.into(),
                window,
                used_ratio,
                told_at,
                resets_at,
                status: None,
            })
        })
        .collect()
    }

    /// When Claude last told of its windows: with an answer.
    pub(super) fn told_by_claude_at(&self) -> Option<DateTime<Utc>> {
        self.time("passive_usage_sampled_at")
    }

    /// Of Claude's session of five hours.
    pub(super) fn session_ratio(&self) -> Option<f64> {
        self.number("session_window_utilization")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_may_be_texts_and_a_window_that_has_ended_tells_nothing() {
        let now = at("2026-11-21T12:00:00Z");
        let windows = Windows::parse(
            r#"{"quota_limit":"100","quota_used":100.5,"quota_daily_limit":10,"quota_daily_used":4,
                "quota_daily_start":"2026-11-20T11:00:00Z","quota_weekly_limit":50,"quota_weekly_used":7.25,
                "quota_weekly_reset_mode":"fixed","quota_weekly_reset_at":"2026-11-23T00:00:00+08:00",
                "codex_5h_used_percent":"37.5","codex_5h_reset_at":"2026-11-21T14:00:00Z","codex_7d_used_percent":90,
                "codex_7d_reset_at":"2026-11-21T11:59:59Z","codex_usage_updated_at":"2026-11-21T11:58:00Z",
                "passive_usage_7d_utilization":0.5,"passive_usage_7d_reset":1795300000}"#,
        )
        .unwrap();
        let usd = |dollars| Usd::from_f64(dollars).unwrap();
        let spent = |limit, used, resets_at| Spent { limit: usd(limit), used: usd(used), resets_at };
        assert_eq!(
            windows.spending(now),
            [
                (QuotaWindow::Total, spent(100.0, 100.5, None)),
                (QuotaWindow::Daily, spent(10.0, 0.0, None)),
                (QuotaWindow::Weekly, spent(50.0, 7.25, Some(at("2026-11-22T16:00:00Z")))),
            ]
        );
        assert!(windows.is_exhausted(now));
        let told: Vec<_> =
            windows.subscriptions(7, now).into_iter().map(|it| (it.window, it.used_ratio, it.told_at)).collect();
        assert_eq!(told, [("7d", Some(0.5), None), ("5h", Some(0.375), Some(at("2026-11-21T11:58:00Z")))]);
        let empty = Windows::parse("{}").unwrap();
        assert!(empty.spending(now).is_empty() && empty.subscriptions(7, now).is_empty() && !empty.is_exhausted(now));
    }
}
