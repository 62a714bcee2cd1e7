//! What a row means.

use chrono::{NaiveDateTime, TimeDelta};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::ModelName;
use super::deployments::Deployments;
use super::identity::Kind;
use super::positions::RowKey;
use crate::model::{FailureClass, Outcome, RowKind, Tokens, UsageRow, Usd};
use crate::relay::shared_names::SharedNames;

/// Statuses that are the caller's doing, whoever tells them.
const CALLERS: [u16; 4] = [400, 404, 422, 499];
/// Statuses of a key that is refused: a caller's by LiteLLM, or LiteLLM's own by the upstream.
const FORBIDDEN: [u16; 2] = [401, 403];

/// What the end and the first token of an answer that was not streamed are apart: LiteLLM rounds the one to a millisecond
/// and cuts off the other (`proxy/db/db_spend_update_writer.py`, 1.80.8 to 1.109.3).
const SAME: TimeDelta = TimeDelta::milliseconds(1);

/// What rows are read with.
#[derive(Default)]
pub(super) struct RowReader {
    pub model: ModelName,
    pub names: SharedNames,
    pub deployments: Deployments,
}

/// What tells a row.
///
/// # Errors
/// When a column cannot be understood.
pub(super) fn key(row: &PgRow) -> Result<RowKey, sqlx::Error> {
    Ok(RowKey { id: row.try_get("request_id")?, start: row.try_get("started_at")? })
}

impl RowReader {
    /// In our words, at a position.
    ///
    /// # Errors
    /// When a column cannot be understood.
    pub(super) fn read(&mut self, row: &PgRow, position: i64) -> Result<UsageRow, sqlx::Error> {
        let started: NaiveDateTime = row.try_get("started_at")?;
        let ended: Option<NaiveDateTime> = row.try_get("ended_at")?;
        let first_token: Option<NaiveDateTime> = row.try_get("first_token_at")?;
        let text = |column| row.try_get::<Option<&str>, _>(column).map(Option::unwrap_or_default);
        let ending = Ending::of(row)?;
        let tokens = tokens(row)?;
        let output = tokens.output;
        let millis = |from: NaiveDateTime, to: NaiveDateTime| u32::try_from((to - from).num_milliseconds()).ok();
        // Of an answer that was not streamed, the end stands in the place of the first token.
        let first_token = first_token.filter(|at| *at > started && ended.is_some_and(|ended| ended - *at > SAME));
        let speed = |from: NaiveDateTime| {
            let ms = millis(from, ended?).filter(|ms| *ms > 0 && output > 0)?;
            Some(output.saturating_mul(1_000_000_000) / u64::from(ms))
        };
        let (model, group) = (text("model")?, text("model_group")?);
        let named = match self.model {
            ModelName::Group if !group.is_empty() => group,
            ModelName::Group | ModelName::Sent => model,
        };
        let key_id = Kind::Key.number(text("api_key")?);
        self.deployments.note_caller(key_id, text("api_key")?);
        let owner = |kind: Kind, column| text(column).map(|id| Some(kind.number(id)).filter(|number| *number > 0));
        // Where nobody was chosen, the provider is guessed from the name of the model.
        let provider = if ending.is_unrouted { "" } else { text("provider")? };
        let provider_id = self.deployments.number(text("model_id")?, provider, group);
        let request = UsageRow {
            id: position,
            request_id: position,
            started_at: started.and_utc(),
            counted: true,
            kind: RowKind::Request,
            imported: false,
            is_final: true,
            is_error: ending.is_error,
            outcome: Some(ending.outcome()),
            is_success: Some(!ending.is_error),
            failure: ending.failure(),
            user_id: Kind::User.number(text("user_id")?),
            key_id: Some(key_id).filter(|id| *id > 0),
            team_id: owner(Kind::Team, "team_id")?,
            organization_id: owner(Kind::Organization, "organization_id")?,
            provider_id,
            model: (!named.is_empty()).then(|| self.names.share(named)),
            answered_model: None,
            status: if ending.is_error { ending.status } else { Some(200) },
            cost: cost(row.try_get("spend")?),
            list_cost: None,
            account_cost: None,
            tokens,
            board_tokens: count(row, "prompt_tokens")?.saturating_add(output),
            duration_ms: ended.and_then(|ended| millis(started, ended)),
            ttft_ms: first_token.and_then(|at| millis(started, at)),
            output_speed_micro: first_token.and_then(speed),
            cache_saved: None,
        };
        Ok(if row.try_get("is_internal")? { charge(request) } else { request })
    }
}

/// What is no caller's request: the Usage page has its cost and tokens, and counts it nowhere.
fn charge(request: UsageRow) -> UsageRow {
    UsageRow {
        kind: RowKind::Charge,
        is_error: false,
        outcome: None,
        is_success: None,
        failure: None,
        status: None,
        duration_ms: None,
        ttft_ms: None,
        output_speed_micro: None,
        ..request
    }
}

/// How a request ended.
struct Ending {
    is_error: bool,
    status: Option<u16>,
    /// LiteLLM refused it for a limit or a budget of its own.
    is_policy: bool,
    is_timeout: bool,
    /// LiteLLM refused the caller's key, or the upstream one that the caller has brought.
    is_callers: bool,
    /// It was refused before anybody upstream was chosen.
    is_unrouted: bool,
}

impl Ending {
    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let text = |column| row.try_get::<Option<&str>, _>(column).map(Option::unwrap_or_default);
        let class = text("error_class")?;
        let status = text("error_code")?.parse().ok().filter(|code| (100..600).contains(code));
        let is_error = text("status")? == "failure";
        // `BaseLLMException` is what /v1/messages of old releases fails with (1.83.14).
        let is_upstreams = !text("error_provider")?.is_empty()
            || text("call_type")? == "pass_through_endpoint"
            || class == "BaseLLMException";
        let is_own_limit = class == "HTTPException" && status == Some(429) && !is_upstreams;
        let is_policy = class == "BudgetExceededError" || text("limited_by")?.starts_with("litellm_") || is_own_limit;
        let is_forbidden = status.is_some_and(|status| FORBIDDEN.contains(&status));
        Ok(Self {
            is_error,
            status: status.or_else(|| status_of(class)),
            is_policy,
            is_timeout: class.ends_with("Timeout"),
            is_callers: is_forbidden && !is_upstreams || class.starts_with("CallerCredential"),
            is_unrouted: is_error && text("model_id")?.is_empty() && (is_policy || !is_upstreams),
        })
    }

    fn outcome(&self) -> Outcome {
        let is_callers = self.is_callers || self.status.is_some_and(|status| CALLERS.contains(&status));
        match self.is_error {
            false => Outcome::Success,
            true if is_callers || self.is_policy || self.is_unrouted => Outcome::Excluded,
            true => Outcome::Failure,
        }
    }

    fn failure(&self) -> Option<FailureClass> {
        self.is_error.then(|| match FailureClass::of_status(self.status) {
            _ if self.is_policy => FailureClass::Policy,
            _ if self.is_timeout => FailureClass::Timeout,
            class => class,
        })
    }
}

/// Of errors whose code may be the upstream's own word, such as `context_length_exceeded` (`litellm/exceptions.py`, 1.110.2).
fn status_of(class: &str) -> Option<u16> {
    match class {
        "BadRequestError" | "ContentPolicyViolationError" | "ImageFetchError" => Some(400),
        "InternalServerError" => Some(500),
        _ => None,
    }
}

/// The prompt's tokens are with those of the cache (`litellm/litellm_core_utils/llm_cost_calc/cache_tokens.py`, 1.110.2).
fn tokens(row: &PgRow) -> Result<Tokens, sqlx::Error> {
    let first_of = |columns: &[&str]| {
        columns.iter().try_fold(0, |found, column| if found > 0 { Ok(found) } else { told(row, column) })
    };
    let read = first_of(&["cache_read", "cached"])?;
    let written = first_of(&["cache_creation", "cache_write", "cache_created"])?;
    let (five_minutes, hour) = (told(row, "written_5m")?, told(row, "written_1h")?);
    let split = five_minutes.saturating_add(hour);
    let written = written.max(split);
    Ok(Tokens {
        input: count(row, "prompt_tokens")?.saturating_sub(read).saturating_sub(written),
        output: count(row, "completion_tokens")?,
        cache_read: read,
        cache_write_5m: five_minutes,
        cache_write_1h: hour,
        cache_write: written - split,
    })
}

/// A count among the metadata; what is none is 0.
fn told(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    let text = row.try_get::<Option<&str>, _>(column)?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn count(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(row.try_get::<i32, _>(column)?).unwrap_or(0))
}

/// As `audit.sql` rounds it. What is no number, or more than anybody has, is no money.
fn cost(spend: f64) -> Usd {
    match spend.abs() {
        size if size < 9e3 => Usd::from_femto((spend * 1e15).round_ties_even() as i128),
        size if size < 9e9 => Usd::from_femto((spend * 1e6).round_ties_even() as i128 * 1_000_000_000),
        _ => Usd::ZERO,
    }
}
