//! Rows of both tables, and what they mean.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::model::{FailureClass, Outcome, RowKind, Tokens, UsageRow, Usd};
use crate::relay::shared_names::SharedNames;
use crate::relay::stable_ids::RowIdentity;

/// The upstream refused by its policy; its row has what was charged all the same.
pub(super) const REFUSED: i16 = 4;
/// Status codes that are the caller's fault.
const CALLERS: [i32; 4] = [400, 404, 413, 422];
/// Shorter spans give no output speed.
const LEAST_OUTPUT_MS: u32 = 100;

/// A row of `usage_logs`: a request that was answered.
///
/// # Errors
/// When a column cannot be understood.
pub(super) fn request(row: &PgRow, names: &mut SharedNames) -> Result<UsageRow, sqlx::Error> {
    let id = row.try_get("id")?;
    let usd = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<Decimal>, _>(column)?.map(Usd::from_decimal));
    let refused = row.try_get::<Option<i16>, _>("request_type")? == Some(REFUSED);
    let outcome = if refused { Outcome::Excluded } else { Outcome::Success };
    let (tokens, board_tokens) = tokens(row)?;
    let (duration_ms, ttft_ms) = (millis(row.try_get("duration_ms")?), millis(row.try_get("first_token_ms")?));
    Ok(UsageRow {
        id,
        request_id: id,
        started_at: time(row)?,
        counted: true,
        kind: RowKind::Request,
        imported: false,
        is_final: true,
        is_error: false,
        outcome: Some(outcome),
        is_success: outcome.verdict(),
        failure: refused.then_some(FailureClass::Policy),
        user_id: row.try_get("user_id")?,
        key_id: Some(row.try_get("key_id")?),
        team_id: None,
        organization_id: None,
        provider_id: row.try_get("account_id")?,
        model: name(row, "model", names)?,
        answered_model: name(row, "answered_model", names)?,
        status: None,
        cost: usd("actual_cost")?.unwrap_or_default(),
        list_cost: usd("list_cost")?,
        account_cost: usd("account_cost")?,
        tokens,
        board_tokens,
        duration_ms,
        ttft_ms,
        output_speed_micro: speed(tokens.output, duration_ms, ttft_ms),
        cache_saved: usd("cache_saved")?,
    })
}

/// A row of `ops_error_logs` of which the stable id is given; `None` for one that counts tokens, which its pages leave out.
///
/// # Errors
/// When a column cannot be understood.
pub(super) fn error(row: &PgRow, stable_id: i64, names: &mut SharedNames) -> Result<Option<UsageRow>, sqlx::Error> {
    if row.try_get("counts_tokens")? {
        return Ok(None);
    }
    let fault = Fault {
        phase: row.try_get::<Option<String>, _>("phase")?.unwrap_or_default(),
        status: row.try_get("status_code")?,
        upstream: row.try_get("upstream_status_code")?,
        limited: row.try_get("limited")?,
    };
    let recovered = fault.is_recovered();
    let or_none = |column| row.try_get::<Option<i64>, _>(column);
    Ok(Some(UsageRow {
        id: row.try_get("position")?,
        // Apart from those of requests.
        request_id: -stable_id,
        started_at: time(row)?,
        counted: true,
        kind: if recovered { RowKind::RecoveredAttempt } else { RowKind::FailedAttempt },
        is_final: true,
        outcome: Some(fault.outcome()),
        failure: Some(fault.class()),
        user_id: or_none("user_id")?.unwrap_or(0),
        key_id: or_none("key_id")?,
        provider_id: or_none("account_id")?.unwrap_or(0),
        model: name(row, "model", names)?,
        status: code(fault.status),
        ..UsageRow::default()
    }))
}

/// What tells an error from another with its id.
///
/// # Errors
/// When it has no id.
pub(super) fn identity(row: &PgRow, key: &str) -> Result<RowIdentity, sqlx::Error> {
    Ok(RowIdentity { id: row.try_get("id")?, at: row.try_get("at")?, key: row.try_get(key)? })
}

/// What the relay wrote down of an error.
#[derive(Debug)]
struct Fault {
    phase: String,
    /// The client's answer.
    status: Option<i32>,
    upstream: Option<i32>,
    /// By a rule of the relay: a balance, a quota, a limit, a group.
    limited: bool,
}

impl Fault {
    /// Whether the client got an answer of another account. What the relay itself refused inside a stream that had begun
    /// has the status of the stream, 200, unless it counts towards the SLA (v0.1.179, internal/handler/ops_error_logger.go).
    fn is_recovered(&self) -> bool {
        let is_of_account = ["upstream", "network", "account_auth"].contains(&self.phase.as_str());
        is_of_account && self.status.is_some_and(|status| status < 400)
    }

    /// Whether the upstream found fault with the request, or no account of the group has its model.
    fn is_callers(&self) -> bool {
        let status = match self.phase.as_str() {
            "upstream" => self.upstream,
            "routing" => self.status,
            _ => None,
        };
        status.is_some_and(|status| CALLERS.contains(&status))
    }

    /// Whether it is the fault of whoever stands behind the relay.
    fn outcome(&self) -> Outcome {
        match self.phase.as_str() {
            _ if self.is_callers() => Outcome::Excluded,
            "upstream" | "network" | "account_auth" | "internal" | "routing" => Outcome::Failure,
            _ => Outcome::Excluded,
        }
    }

    fn class(&self) -> FailureClass {
        let status = self.upstream.or(self.status);
        match self.phase.as_str() {
            _ if self.is_callers() => FailureClass::Caller,
            "routing" => FailureClass::Overloaded,
            _ if self.limited => FailureClass::Policy,
            "account_auth" => FailureClass::Auth,
            "internal" => FailureClass::Server,
            "request" | "auth" => FailureClass::Caller,
            _ => FailureClass::of_status(code(status)),
        }
    }
}

fn code(status: Option<i32>) -> Option<u16> {
    status.and_then(|status| u16::try_from(status).ok()).filter(|status| (100..1000).contains(status))
}

/// When the relay wrote it: at the end, but for live sessions.
fn time(row: &PgRow) -> Result<DateTime<Utc>, sqlx::Error> {
    row.try_get("ended_at")
}

fn name(row: &PgRow, column: &str, names: &mut SharedNames) -> Result<Option<std::sync::Arc<str>>, sqlx::Error> {
    Ok(row.try_get::<Option<&str>, _>(column)?.map(|name| names.share(name)))
}

/// Those of cache writes of which the lifetime is not told are apart; and all of them, as its dashboards add them up.
fn tokens(row: &PgRow) -> Result<(Tokens, u64), sqlx::Error> {
    let count = |column| Ok::<_, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
    let written = count("cache_creation_tokens")?;
    let (five_minutes, hour) = (count("cache_creation_5m_tokens")?, count("cache_creation_1h_tokens")?);
    let (input, output, read) = (count("input_tokens")?, count("output_tokens")?, count("cache_read_tokens")?);
    let tokens = Tokens {
        input,
        output,
        cache_read: read,
        cache_write_5m: five_minutes,
        cache_write_1h: hour,
        cache_write: written.saturating_sub(five_minutes.saturating_add(hour)),
    };
    Ok((tokens, input.saturating_add(output).saturating_add(read).saturating_add(written)))
}

fn millis(value: Option<i32>) -> Option<u32> {
    value.map(|value| u32::try_from(value).unwrap_or(0))
}

/// Output tokens after the first one's time, in 10^-6 tokens per second; the relay has no rule of its own.
fn speed(output: u64, duration_ms: Option<u32>, ttft_ms: Option<u32>) -> Option<u64> {
    let span = duration_ms?.checked_sub(ttft_ms?).filter(|span| *span >= LEAST_OUTPUT_MS)?;
    (output > 0).then(|| output.saturating_mul(1_000_000_000) / u64::from(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the running program wrote them (0.1.179).
    #[test]
    fn a_fault_is_whose_it_was() {
        use FailureClass::{Auth, Caller, Overloaded, Policy, RateLimited, Server};
        use Outcome::{Excluded, Failure};
        for (phase, status, upstream, limited, outcome, class) in [
            ("upstream", 200, Some(500), false, Failure, Server),
            ("upstream", 502, Some(500), false, Failure, Server),
            ("upstream", 400, Some(400), false, Excluded, Caller),
            ("upstream", 429, Some(429), false, Failure, RateLimited),
            ("upstream", 503, Some(529), false, Failure, Overloaded),
            ("upstream", 502, Some(401), false, Failure, Auth),
            ("upstream", 502, Some(413), false, Excluded, Caller),
            ("routing", 503, None, true, Failure, Overloaded),
            // No account of the group has the model.
            ("routing", 404, None, true, Excluded, Caller),
            // It waited for a slot in a stream that had begun.
            ("request", 429, Some(429), true, Excluded, Policy),
            ("request", 403, None, true, Excluded, Policy),
            ("request", 400, None, false, Excluded, Caller),
            // A client that went away before the answer.
            ("upstream", 502, None, false, Failure, Server),
            ("account_auth", 502, None, false, Failure, Auth),
        ] {
            let fault = Fault { phase: phase.to_owned(), status: Some(status), upstream, limited };
            assert_eq!((fault.outcome(), fault.class()), (outcome, class), "{fault:?}");
        }
    }
}
