//! A row of the ledger in our words.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Datelike, Utc};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::identity::{key_id, provider_id};
use super::prices::{Models, Parts, Prices, without_effort};
use super::schema::Level;
use crate::model::{FailureClass, Outcome, RowKind, Tokens, UsageRow};
use crate::relay::shared_names::SharedNames;

/// A row that arrives so long after its request began was imported, not collected: the proxy's queue keeps a request
/// for an hour at most.
pub(super) const IMPORTED_MS: i64 = 60 * 60 * 1000;

/// Distinct keys, and providers, that are remembered.
const MOST_NAMES: usize = 10_000;

/// Statuses that are the caller's doing, not the provider's.
const CALLERS: [u16; 5] = [400, 404, 413, 422, 499];

#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error(transparent)]
    Column(#[from] sqlx::Error),
    #[error("its start is no time")]
    Start,
}

/// Reads rows; shares equal model names, and remembers numbers of credentials and keys.
#[derive(Default)]
pub(super) struct RowReader {
    models: SharedNames,
    keys: HashMap<Vec<u8>, Option<i64>>,
    providers: HashMap<[Vec<u8>; 3], i64>,
}

impl RowReader {
    /// # Errors
    /// When a column that a row cannot do without is absent or cannot be understood.
    pub(super) fn read(&mut self, row: &SqliteRow, level: Level, prices: &Prices) -> Result<UsageRow, RowError> {
        let id = row.try_get("id")?;
        let start_ms: i64 = row.try_get("timestamp_ms")?;
        let started_at = moment(start_ms).ok_or(RowError::Start)?;
        let imported = row.try_get::<i64, _>("created_at_ms")?.saturating_sub(start_ms) >= IMPORTED_MS;
        let failed: bool = row.try_get("failed")?;
        let (status, outcome) = end(row)?;
        let parts = Parts {
            prompt: row.try_get("prompt_tokens")?,
            output: row.try_get("output_tokens")?,
            cached: row.try_get("cached")?,
            cache_read: row.try_get("cache_read")?,
            cache_creation: row.try_get("cache_creation")?,
        };
        let [model, requested, resolved, tier] =
            ["model", "requested_model", "resolved_model", "service_tier"].map(|column| text(row, column));
        let models = Models { model: &model?, requested: &requested?, resolved: &resolved? };
        let price = prices.per_token(models, &tier?, row.try_get("total_input")?);
        let name = name(level, models);
        let duration_ms = millis(row.try_get("latency_ms")?);
        let output = count(parts.output);
        Ok(UsageRow {
            id,
            request_id: id,
            started_at,
            counted: true,
            kind: RowKind::Request,
            imported,
            is_final: true,
            is_error: failed,
            outcome: Some(outcome),
            // Its pages know nothing between (Plus v1.12.2 `internal/service/monitoring/service.go`).
            is_success: Some(!failed),
            failure: failed.then(|| FailureClass::of_status(status)),
            user_id: 0,
            key_id: self.key(row.try_get::<Option<&[u8]>, _>("api_key_hash")?.unwrap_or_default()),
            team_id: None,
            organization_id: None,
            provider_id: self.provider(row)?,
            model: (!name.is_empty()).then(|| self.models.share(name)),
            answered_model: None,
            status,
            cost: price.map(|price| price.cost(&parts)).unwrap_or_default(),
            tokens: Tokens {
                input: count(parts.prompt),
                output,
                cache_read: count(parts.cached + parts.cache_read),
                cache_write: count(parts.cache_creation),
                ..Tokens::default()
            },
            board_tokens: count(row.try_get("total_tokens")?),
            duration_ms,
            ttft_ms: millis(row.try_get("ttft_ms")?),
            output_speed_micro: speed(output, duration_ms),
            list_cost: None,
            account_cost: None,
            cache_saved: price.filter(|_| parts.cached + parts.cache_read > 0).map(|price| price.saved(&parts)),
        })
    }

    fn key(&mut self, hash: &[u8]) -> Option<i64> {
        if let Some(known) = self.keys.get(hash) {
            return *known;
        }
        make_room(&mut self.keys);
        *self.keys.entry(hash.to_vec()).or_insert_with(|| key_id(hash))
    }

    /// The credential of a row or of a group of rows.
    ///
    /// # Errors
    /// When a column is absent.
    pub(super) fn provider(&mut self, row: &SqliteRow) -> Result<i64, sqlx::Error> {
        let bytes = |column| row.try_get::<Option<&[u8]>, _>(column).map(Option::unwrap_or_default);
        let names = [bytes("auth_index")?, bytes("source_hash")?, bytes("provider")?];
        let owned = names.map(<[u8]>::to_vec);
        if let Some(known) = self.providers.get(&owned) {
            return Ok(*known);
        }
        make_room(&mut self.providers);
        let [auth_index, source_hash, provider] = names;
        Ok(*self.providers.entry(owned).or_insert_with(|| provider_id(auth_index, source_hash, provider)))
    }
}

/// The status and the outcome of a row or of a group of rows.
///
/// # Errors
/// When a column is absent or cannot be understood.
pub(super) fn end(row: &SqliteRow) -> Result<(Option<u16>, Outcome), sqlx::Error> {
    let failed: bool = row.try_get("failed")?;
    let status = row.try_get::<Option<i64>, _>("status")?.and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| (100..600).contains(status));
    let outcome = match status {
        _ if !failed => Outcome::Success,
        Some(status) if CALLERS.contains(&status) => Outcome::Excluded,
        _ => Outcome::Failure,
    };
    Ok((status, outcome))
}

/// The name that a row counts under.
pub(super) fn name(level: Level, models: Models<'_>) -> &str {
    if level == Level::Plus { without_effort(models.asked()) } else { models.model }
}

/// Over the whole time, as the relay's request log has it (Plus v1.12.2 `features/monitoring/model/eventRows.ts`).
fn speed(output: u64, duration_ms: Option<u32>) -> Option<u64> {
    duration_ms.filter(|_| output > 0).map(|ms| output.saturating_mul(1_000_000_000) / u64::from(ms))
}

fn make_room<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= MOST_NAMES {
        map.clear();
    }
}

/// A text column; the relay cuts names within a character, and what is not UTF-8 becomes a replacement character.
pub(super) fn text<'r>(row: &'r SqliteRow, column: &str) -> Result<Cow<'r, str>, sqlx::Error> {
    row.try_get::<Option<&[u8]>, _>(column).map(|bytes| String::from_utf8_lossy(bytes.unwrap_or_default()))
}

pub(super) fn moment(ms: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(ms).filter(|at| (2000..10_000).contains(&at.year()))
}

/// 0 is a time that is not known.
fn millis(value: Option<i64>) -> Option<u32> {
    value.filter(|ms| *ms > 0).map(|ms| u32::try_from(ms).unwrap_or(u32::MAX))
}

fn count(tokens: i64) -> u64 {
    u64::try_from(tokens).unwrap_or(0)
}
