//! A row of the ledger in our words.

use std::sync::Arc;

use rust_decimal::Decimal;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::prices::Prices;
use crate::model::{FailureClass, Outcome, RowKind, Tokens, UsageRow, Usd};
use crate::relay::shared_names::SharedNames;

/// Shorter spans give no output speed (v0.9.2 `src/repository/leaderboard.ts`).
const LEAST_OUTPUT_MS: u32 = 100;

/// Which model name the relay bills by (`system_settings.billing_model_source`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BillingModel {
    /// The one that was asked for.
    Original,
    /// The one that was sent upstream.
    Redirected,
}

impl BillingModel {
    pub(crate) fn of_setting(setting: &str) -> Self {
        if setting == "redirected" { Self::Redirected } else { Self::Original }
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Redirected => "redirected",
        }
    }

    /// The name that counts, of the one that was asked for and the one that was sent. Without a redirect the name that
    /// was asked for is sent; an empty name is a name to the relay's coalesce, and then dropped.
    pub(crate) fn of<T: AsRef<str>>(self, original: Option<T>, sent: Option<T>) -> Option<T> {
        let name = match self {
            Self::Original => original.or(sent),
            Self::Redirected => sent.or(original),
        };
        name.filter(|name| !name.as_ref().is_empty())
    }
}

/// What tells whether and how a request has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'r> {
    said: Option<&'r str>,
    status: Option<u16>,
    blocked: bool,
    is_success: bool,
}

impl<'r> End<'r> {
    /// # Errors
    /// When a column is absent or cannot be understood.
    pub(crate) fn of(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let status: Option<i64> = row.try_get("status_code")?;
        Ok(Self {
            said: row.try_get("success_rate_outcome")?,
            status: status.and_then(|status| u16::try_from(status).ok()),
            blocked: row.try_get("blocked")?,
            is_success: row.try_get("is_success")?,
        })
    }

    /// What became of the request; `None` while it is in flight. Then it has neither status nor outcome, and is a success;
    /// without a status an error text is the only other sign of an end (v0.9.2 `src/lib/ledger-backfill/trigger.sql`).
    /// Rows from before v0.7.1 have no outcome until the relay's back-fill has been there.
    pub(crate) fn outcome(self) -> Option<Outcome> {
        match (self.said, self.status) {
            _ if self.blocked => Some(Outcome::Excluded),
            (Some("success"), _) => Some(Outcome::Success),
            (Some("failure"), _) => Some(Outcome::Failure),
            (Some(_), _) | (None, Some(404 | 499)) => Some(Outcome::Excluded),
            (None, None) if self.is_success => None,
            (None, _) if self.is_success => Some(Outcome::Success),
            (None, _) => Some(Outcome::Failure),
        }
    }
}

/// Reads rows; shares equal model names.
#[derive(Default)]
pub(crate) struct RowReader {
    names: SharedNames,
}

impl RowReader {
    /// # Errors
    /// When a column that a row cannot do without is absent or cannot be understood.
    pub(crate) fn read(
        &mut self,
        row: &PgRow,
        billing: BillingModel,
        prices: &Prices,
    ) -> Result<UsageRow, sqlx::Error> {
        let id = row.try_get("id")?;
        if row.try_get::<Option<bool>, _>("cost_unknown")? == Some(true) {
            tracing::warn!(row = id, "a row's cost is not a number; it counts as 0");
        }
        let sent = self.name(row.try_get("model")?);
        let original = self.name(row.try_get("original_model")?);
        let upstream = BillingModel::Redirected.of(original.clone(), sent.clone());
        let answered = self.name(row.try_get("actual_response_model")?);
        let answered = answered.filter(|name| upstream.as_ref().is_some_and(|upstream| upstream != name));
        let model = billing.of(original, sent);
        let end = End::of(row)?;
        let (status, outcome) = (end.status, end.outcome());
        let failure = match outcome {
            Some(Outcome::Failure | Outcome::Excluded) if end.blocked => Some(FailureClass::Policy),
            Some(Outcome::Failure | Outcome::Excluded) => Some(FailureClass::of_status(status)),
            Some(Outcome::Success) | None => None,
        };
        let counts = Counts::of(row)?;
        let tokens = counts.exclusive();
        let started_at = row.try_get("started_at")?;
        let multiplier = row.try_get::<Decimal, _>("multiplier").ok();
        let cache_saved = multiplier.and_then(|multiplier| {
            prices.cache_saved(model.as_deref()?, started_at, tokens.cache_read)?.checked_mul(multiplier)
        });
        let duration_ms = millis(row.try_get("duration_ms")?);
        Ok(UsageRow {
            id,
            request_id: row.try_get("request_id")?,
            started_at,
            counted: row.try_get("counted")?,
            kind: RowKind::Request,
            imported: false,
            is_final: outcome.is_some(),
            is_error: row.try_get("is_error")?,
            outcome,
            is_success: row.try_get::<Option<bool>, _>("succeeded")?.or_else(|| outcome?.verdict()),
            failure,
            user_id: row.try_get("user_id")?,
            key_id: row.try_get("key_id")?,
            team_id: None,
            organization_id: None,
            provider_id: row.try_get("provider_id")?,
            model,
            answered_model: answered.filter(|name| !name.is_empty()),
            status,
            cost: row.try_get::<Option<Decimal>, _>("cost_usd")?.map_or(Usd::ZERO, Usd::from_decimal),
            tokens,
            board_tokens: counts.on_boards(),
            duration_ms,
            ttft_ms: millis(row.try_get("ttfb_ms")?),
            output_speed_micro: speed(tokens.output, duration_ms, millis(row.try_get("first_byte_ms")?)),
            list_cost: None,
            account_cost: None,
            cache_saved: cache_saved.map(Usd::from_decimal),
        })
    }

    fn name(&mut self, name: Option<&str>) -> Option<Arc<str>> {
        name.map(|name| self.names.share(name))
    }
}

/// The token columns as they are.
struct Counts {
    input: Option<i64>,
    output: Option<i64>,
    written: i64,
    written_5m: i64,
    written_1h: i64,
    cache_read: i64,
}

impl Counts {
    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let or_zero = |column| row.try_get::<Option<i64>, _>(column).map(Option::unwrap_or_default);
        Ok(Self {
            input: row.try_get("input_tokens")?,
            output: row.try_get("output_tokens")?,
            written: or_zero("cache_creation_input_tokens")?,
            written_5m: or_zero("cache_creation_5m_input_tokens")?,
            written_1h: or_zero("cache_creation_1h_input_tokens")?,
            cache_read: or_zero("cache_read_input_tokens")?,
        })
    }

    fn exclusive(&self) -> Tokens {
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        let (cache_write_5m, cache_write_1h) = (count(self.written_5m), count(self.written_1h));
        Tokens {
            input: count(self.input.unwrap_or_default()),
            output: count(self.output.unwrap_or_default()),
            cache_read: count(self.cache_read),
            cache_write_5m,
            cache_write_1h,
            cache_write: count(self.written).saturating_sub(cache_write_5m).saturating_sub(cache_write_1h),
        }
    }

    /// The relay's boards add up columns of which null makes the whole sum null (v0.9.2
    /// `src/repository/leaderboard.ts`): without input or output, cache tokens are lost too.
    fn on_boards(&self) -> u64 {
        let (Some(input), Some(output)) = (self.input, self.output) else { return 0 };
        let sum = i128::from(input) + i128::from(output) + i128::from(self.written) + i128::from(self.cache_read);
        u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
    }
}

fn millis(value: Option<i64>) -> Option<u32> {
    value.map(|value| u32::try_from(value).unwrap_or(0))
}

/// Output tokens between the first byte and the end, in 10^-6 tokens per second.
fn speed(output: u64, duration_ms: Option<u32>, first_byte_ms: Option<u32>) -> Option<u64> {
    let span = duration_ms?.checked_sub(first_byte_ms?).filter(|span| *span >= LEAST_OUTPUT_MS)?;
    (output > 0).then(|| u64::try_from(u128::from(output) * 1_000_000_000 / u128::from(span)).unwrap_or(u64::MAX))
}
