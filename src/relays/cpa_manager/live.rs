//! What the manager knows beside its events: how the collector does; in Plus, quotas of credentials.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Clock;
use super::identity::provider_id;
use super::row::{IMPORTED_MS, moment, text};
use super::schema::{Schema, SchemaCache};
use crate::connect::sqlite::{File, Snapshot};
use crate::model::{AccountReturn, AccountState, Collector, Directory, EntityId, Live, ReadError, Subscription};
use crate::relay::LiveState;

pub(super) const COLLECTOR: &str = include_str!("collector.sql");
pub(super) const COOLDOWNS: &str = include_str!("cooldowns.sql");
pub(super) const PLANS: &str = include_str!("plans.sql");
pub(super) const QUOTA_WINDOWS: &str = include_str!("quota_windows.sql");

pub(super) struct LiveReader {
    file: File,
    clock: Clock,
    schema: SchemaCache,
}

impl LiveReader {
    pub(super) fn new(file: File, clock: Clock) -> Self {
        Self { file, clock, schema: SchemaCache::default() }
    }

    async fn read_all(&mut self, snapshot: &mut Snapshot) -> Result<Live, ReadError> {
        let version = snapshot.schema_version().await?;
        let schema = self.schema.get(Some(version), Schema::detect(snapshot)).await?;
        let now = (self.clock)();
        let mut live =
            Live { collector: Some(collector(snapshot).await?), database_bytes: self.file.sizes(), ..Live::default() };
        if schema.has("quota_cooldowns", "auth_index") {
            (live.accounts, live.returns) = cooldowns(snapshot).await?;
        }
        if schema.has("account_quota_snapshots", "idx_quota_snapshots_latest") {
            live.plans = plans(snapshot).await?;
            live.subscriptions = subscriptions(snapshot, now).await?;
        }
        Ok(live)
    }
}

async fn collector(snapshot: &mut Snapshot) -> Result<Collector, ReadError> {
    let what = "looking at the collector";
    let row = snapshot.fetch_one(what, sqlx::query(COLLECTOR)).await?;
    let number = |column| row.try_get::<Option<i64>, _>(column).map_err(|error| snapshot.error(what, &error));
    let arrived = (number("timestamp_ms")?, number("latency_ms")?, number("created_at_ms")?);
    let delay_ms = match arrived {
        // An import tells nothing about the collector.
        (Some(start), Some(latency), Some(created)) if created.saturating_sub(start) < IMPORTED_MS => {
            Some(created.saturating_sub(start).saturating_sub(latency).max(0))
        }
        _ => None,
    };
    let dead_letters = number("dead_letters")?.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
    let last_record = number("created_at_ms")?.and_then(moment);
    Ok(Collector { delay_seconds: delay_ms.map(|ms| ms as f64 / 1e3), last_record, dead_letters })
}

/// Of credentials that were never switched off, nothing is known: the proxy has their state, not the manager. One is off
/// until the manager has switched it on again, which may be later than it meant to (Plus v1.12.2 `ListActive` of
/// `internal/repository/quotacooldown/repository.go`, which its pages show).
async fn cooldowns(snapshot: &mut Snapshot) -> Result<(Vec<(EntityId, AccountState)>, Vec<AccountReturn>), ReadError> {
    let what = "reading cooldowns";
    let (mut accounts, mut returns) = (Vec::new(), Vec::new());
    for row in snapshot.fetch(what, sqlx::query(COOLDOWNS)).await? {
        let mut note = || {
            let id: EntityId = provider_id(row.try_get("auth_index")?, b"", b"").into();
            if row.try_get("cooling")? {
                let at = row.try_get::<Option<i64>, _>("recover_at_ms")?.and_then(moment);
                returns.extend(at.map(|at| AccountReturn { provider_id: id.clone(), models: "all", at }));
                accounts.push((id, AccountState::QuotaExceeded));
            } else {
                accounts.push((id, AccountState::Normal));
            }
            Ok(())
        };
        note().map_err(|error| snapshot.error(what, &error))?;
    }
    Ok((accounts, returns))
}

async fn plans(snapshot: &mut Snapshot) -> Result<Vec<(EntityId, String)>, ReadError> {
    let what = "reading plans";
    let rows = snapshot.fetch(what, sqlx::query(PLANS)).await?;
    let plan = |row: &SqliteRow| {
        let Some(auth_index) = auth_index(row.try_get("account_key")?) else { return Ok(None) };
        Ok(Some((provider_id(&auth_index, b"", b"").into(), plan_name(&text(row, "plan_type")?))))
    };
    rows.iter()
        .filter_map(|row| plan(row).transpose())
        .collect::<Result<_, _>>()
        .map_err(|error| snapshot.error(what, &error))
}

/// A header of the upstream's: what is no word is none of ours to show.
fn plan_name(text: &str) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let word = text.trim().to_ascii_lowercase();
    if word.len() <= 32 && word.bytes().all(is_word) { word } else { "other".to_owned() }
}

async fn subscriptions(snapshot: &mut Snapshot, now: DateTime<Utc>) -> Result<Vec<Subscription>, ReadError> {
    let what = "reading quota windows";
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for row in snapshot.fetch(what, sqlx::query(QUOTA_WINDOWS)).await? {
        let subscription = subscription(&row, now).map_err(|error| snapshot.error(what, &error))?;
        let Some(subscription) = subscription else { continue };
        let same =
            |it: &&mut Subscription| (&it.provider_id, it.window) == (&subscription.provider_id, subscription.window);
        match subscriptions.iter_mut().find(same) {
            // An upstream may have several windows of one length: the fullest one stops requests.
            Some(known) if known.used_ratio < subscription.used_ratio => *known = subscription,
            Some(_) => {}
            None => subscriptions.push(subscription),
        }
    }
    Ok(subscriptions)
}

/// `None` when the account is not known by the index of a credential, as events are.
fn subscription(row: &SqliteRow, now: DateTime<Utc>) -> Result<Option<Subscription>, sqlx::Error> {
    let window = match row.try_get::<&[u8], _>("window_kind")? {
        b"five_hour" => "5h",
        b"rolling_24h" => "24h",
        b"weekly" => "7d",
        _ => "30d",
    };
    let Some(auth_index) = auth_index(row.try_get("account_key")?) else { return Ok(None) };
    let resets_at = row.try_get::<Option<i64>, _>("cycle_end_ms")?.and_then(moment);
    let used = row.try_get::<Option<f64>, _>("used_percent")?.filter(|percent| percent.is_finite());
    let over = resets_at.is_some_and(|at| at <= now);
    Ok(Some(Subscription {
        provider_id: provider_id(&auth_index, b"", b"").into(),
        window,
        used_ratio: used.filter(|_| !over).map(|percent| percent / 100.0),
        told_at: None,
        resets_at: resets_at.filter(|_| !over),
        status: None,
    }))
}

/// The key of an account ends with the index of its credential in hexadecimal digits (Plus `usageidentity/identity.go`).
fn auth_index(account_key: &[u8]) -> Option<Vec<u8>> {
    let mut parts = account_key.split(|byte| *byte == b':');
    let (kind, last) = (parts.nth(2)?, parts.next_back()?);
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    let index: Vec<u8> = last.chunks(2).map(byte).collect::<Option<_>>()?;
    (matches!(kind, b"file-index" | b"auth-index") && !index.is_empty()).then_some(index)
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, _: &Directory) -> Result<Live, ReadError> {
        let mut snapshot = self.file.snapshot().await?;
        let result = self.read_all(&mut snapshot).await;
        snapshot.close().await;
        result.inspect_err(|error| self.schema.forget_after(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_the_index_of_its_credential() {
        for (key, index) in [
            ("usage-account-history:2:file-index:612E6A736F6E:3132", Some("12")),
            ("usage-account-history:2:auth-index:636F646578:61", Some("a")),
            ("usage-account-history:2:file:612E6A736F6E:636F646578", None),
            ("usage-account-history:2:auth-index:636F646578:6", None),
            ("", None),
        ] {
            assert_eq!(auth_index(key.as_bytes()).as_deref(), index.map(str::as_bytes), "{key}");
        }
    }
}
