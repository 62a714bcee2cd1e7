//! A row of the log, and what it means.

use chrono::{DateTime, Datelike, Utc};

use super::Family;
use super::keys::KeyNames;
use super::options::Rate;
use super::other::Other;
use crate::connect::sql::Cells;
use crate::model::{FailureClass, Outcome, RowKind, Tokens, UsageRow, Usd};
use crate::relay::shared_names::SharedNames;
use crate::relay::stable_ids::RowIdentity;

/// Status codes that are the caller's fault.
const CALLERS: [u16; 4] = [400, 404, 413, 422];

const REQUEST: i64 = 2;
const FAILED_ATTEMPT: i64 = 5;
const REFUND: i64 = 6;

/// A row of `logs`.
#[derive(Debug)]
pub(super) struct LogRow {
    pub id: i64,
    pub created_at: i64,
    kind: i64,
    user_id: i64,
    token_id: i64,
    /// Of one-api, which has no ids of keys here.
    token_name: Option<String>,
    channel_id: i64,
    model: String,
    quota: i64,
    prompt_tokens: i64,
    completion_tokens: i64,
    /// `None` where the release does not tell; so both.
    use_time: Option<i64>,
    elapsed_ms: Option<i64>,
    is_stream: bool,
    other: Other,
}

/// What rows are read with.
pub(super) struct Meaning<'a> {
    pub family: Family,
    /// `None` where costs cannot be told.
    pub rate: Option<Rate>,
    pub keys: &'a KeyNames,
    pub names: &'a mut SharedNames,
}

impl LogRow {
    /// # Errors
    /// When a column cannot be understood.
    pub(super) fn read(row: &dyn Cells) -> Result<Self, sqlx::Error> {
        let number = |column| row.int(column).map(Option::unwrap_or_default);
        Ok(Self {
            id: row.int("id")?.ok_or(sqlx::Error::RowNotFound)?,
            created_at: number("created_at")?,
            kind: number("type")?,
            user_id: number("user_id")?,
            token_id: number("token_id")?,
            token_name: row.text("token_name")?.map(std::borrow::Cow::into_owned),
            channel_id: number("channel_id")?,
            model: row.text("model_name")?.unwrap_or_default().into_owned(),
            quota: number("quota")?,
            prompt_tokens: number("prompt_tokens")?,
            completion_tokens: number("completion_tokens")?,
            use_time: row.int("use_time")?,
            elapsed_ms: row.int("elapsed_ms")?,
            is_stream: number("is_stream")? != 0,
            other: Other::parse(row.bytes("other")?),
        })
    }

    pub(super) fn identity(&self) -> RowIdentity {
        let Self { user_id, channel_id, quota, prompt_tokens, completion_tokens, .. } = *self;
        identity_of(self.id, self.created_at, [user_id, channel_id, quota, prompt_tokens, completion_tokens])
    }

    /// In our words, at a position of the ledger; `None` for what is none of its rows.
    ///
    /// # Errors
    /// When its time is none.
    pub(super) fn row(&self, position: i64, meaning: &mut Meaning<'_>) -> Result<Option<UsageRow>, sqlx::Error> {
        let (kind, outcome, failure, status) = match self.kind {
            REQUEST => {
                let (outcome, failure) = self.other.outcome();
                (RowKind::Request, outcome, failure, None)
            }
            FAILED_ATTEMPT => match self.other.failed_attempt() {
                Some(status) => {
                    let is_callers = status.is_some_and(|status| CALLERS.contains(&status));
                    let outcome = if is_callers { Outcome::Excluded } else { Outcome::Failure };
                    (RowKind::FailedAttempt, outcome, Some(FailureClass::of_status(status)), status)
                }
                None => return Ok(None),
            },
            REFUND => (RowKind::Refund(self.cost(meaning.rate)), Outcome::Excluded, None, None),
            _ => return Ok(None),
        };
        let is_request = kind == RowKind::Request;
        let has_tokens = is_request && !(meaning.family == Family::OneApi && self.is_audio());
        let duration_ms = self.duration_ms().filter(|_| is_request && !self.is_no_answer());
        Ok(Some(UsageRow {
            id: position,
            request_id: position,
            started_at: moment(self.created_at).ok_or_else(|| sqlx::Error::Decode("its time is none".into()))?,
            counted: true,
            kind,
            imported: false,
            is_final: true,
            is_error: false,
            outcome: Some(outcome),
            is_success: outcome.verdict(),
            failure,
            user_id: self.user_id,
            key_id: match &self.token_name {
                Some(name) => meaning.keys.id(self.user_id, name),
                None => Some(self.token_id).filter(|id| *id > 0),
            },
            team_id: None,
            organization_id: None,
            provider_id: self.channel_id,
            model: (!self.model.is_empty()).then(|| meaning.names.share(&self.model)),
            answered_model: None,
            status,
            cost: if is_request { self.cost(meaning.rate) } else { Usd::ZERO },
            tokens: if has_tokens { self.tokens() } else { Tokens::default() },
            board_tokens: if has_tokens { self.board_tokens() } else { 0 },
            duration_ms,
            ttft_ms: self.other.first_token_ms().filter(|_| is_request && self.is_stream),
            output_speed_micro: duration_ms.and_then(|ms| self.speed(ms)),
            list_cost: None,
            account_cost: None,
            cache_saved: self.cache_saved(meaning.rate).filter(|_| is_request),
        }))
    }

    fn duration_ms(&self) -> Option<u32> {
        let ms = match self.use_time {
            Some(seconds) => seconds.max(0).saturating_mul(1000),
            // 0 is what was not measured.
            None => self.elapsed_ms.filter(|ms| *ms > 0)?,
        };
        Some(u32::try_from(ms).unwrap_or(u32::MAX))
    }

    fn cost(&self, rate: Option<Rate>) -> Usd {
        rate.map_or(Usd::ZERO, |rate| rate.cost(self.quota))
    }

    fn cache_saved(&self, rate: Option<Rate>) -> Option<Usd> {
        rate?.cost_of_share(self.other.cache_saved_quota()?)
    }

    /// A job's row is of its beginning, or of what another program did.
    fn is_no_answer(&self) -> bool {
        self.other.is_no_answer() || self.model.starts_with("mj_") || self.model == "swap_face"
    }

    /// As its screens add them up.
    fn board_tokens(&self) -> u64 {
        count(self.prompt_tokens).saturating_add(count(self.completion_tokens))
    }

    /// Output over the whole time, as its log page has it.
    fn speed(&self, ms: u32) -> Option<u64> {
        let is_measured = self.completion_tokens > 0 && ms > 0;
        is_measured.then(|| count(self.completion_tokens).saturating_mul(1_000_000_000) / u64::from(ms))
    }

    fn tokens(&self) -> Tokens {
        let [read, created, five_minutes, hour] =
            ["cache_tokens", "cache_creation_tokens", "cache_creation_tokens_5m", "cache_creation_tokens_1h"]
                .map(|key| self.other.count(key));
        let written = created.max(five_minutes.saturating_add(hour));
        let prompt = count(self.prompt_tokens);
        let cached = if self.other.excludes_cache() { 0 } else { read.saturating_add(written) };
        Tokens {
            input: prompt.saturating_sub(cached),
            output: count(self.completion_tokens),
            cache_read: read,
            cache_write_5m: five_minutes,
            cache_write_1h: hour,
            cache_write: written.saturating_sub(five_minutes.saturating_add(hour)),
        }
    }

    /// Speech and transcription, where one-api writes the charge in the place of the tokens (v0.6.11
    /// `relay/controller/audio.go`). `sum.sql` has the same rule.
    fn is_audio(&self) -> bool {
        let is_named = self.model.starts_with("tts-") || self.model.starts_with("whisper");
        let is_charge = self.quota > 0 && self.prompt_tokens == self.quota && self.completion_tokens == 0;
        is_named || (is_charge && self.elapsed_ms == Some(0))
    }
}

/// What tells a row from another with its id.
///
/// # Errors
/// When it has no id.
pub(super) fn identity(row: &dyn Cells) -> Result<RowIdentity, sqlx::Error> {
    let number = |column| row.int(column).map(Option::unwrap_or_default);
    let rest = [
        number("user_id")?,
        number("channel_id")?,
        number("quota")?,
        number("prompt_tokens")?,
        number("completion_tokens")?,
    ];
    Ok(identity_of(row.int("id")?.ok_or(sqlx::Error::RowNotFound)?, number("created_at")?, rest))
}

/// `rest` is what else a row has that never changes, folded as FNV-1a does it.
fn identity_of(id: i64, created_at: i64, rest: [i64; 5]) -> RowIdentity {
    let key = rest.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, number| {
        (hash ^ number.cast_unsigned()).wrapping_mul(0x0100_0000_01b3)
    });
    RowIdentity { id, at: Some(created_at), key: Some(key.cast_signed()) }
}

pub(super) fn moment(seconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_secs(seconds).filter(|at| (2000..10_000).contains(&at.year()))
}

fn count(tokens: i64) -> u64 {
    u64::try_from(tokens).unwrap_or(0)
}
