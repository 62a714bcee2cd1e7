//! The column `other`: JSON of which anything may be missing, null or of another type.

use serde_json::{Map, Value};

use crate::model::{FailureClass, Outcome};

/// What is longer is no time.
const LONGEST_FIRST_TOKEN_MS: f64 = 1e7;

/// What is read of it. Nothing of it is kept.
#[derive(Debug, Default)]
pub(super) struct Other(Map<String, Value>);

impl Other {
    pub(super) fn parse(bytes: Option<&[u8]>) -> Self {
        Self(bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default())
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.as_f64().filter(|number| number.is_finite())
    }

    fn is_true(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool) == Some(true)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// A count of tokens; 0 where it is absent.
    pub(super) fn count(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The prompt tokens are without those of the cache, as Anthropic counts. Rows before 2026-01-15 have only `claude`.
    pub(super) fn excludes_cache(&self) -> bool {
        match self.0.get("usage_semantic") {
            Some(semantic) => semantic == "anthropic",
            None => self.is_true("claude"),
        }
    }

    /// Milliseconds to the first chunk; −1000 where there was none.
    pub(super) fn first_token_ms(&self) -> Option<u32> {
        self.number("frt").filter(|ms| *ms > 0.0 && *ms < LONGEST_FIRST_TOKEN_MS).map(|ms| ms as u32)
    }

    /// A job that goes on after the request, or a fee: its row says nothing of how long an answer took.
    pub(super) fn is_no_answer(&self) -> bool {
        self.is_true("is_task") || self.is_true("violation_fee")
    }

    /// What a quota would have been more without the cache's rate; `None` where it is not priced by tokens.
    pub(super) fn cache_saved_quota(&self) -> Option<f64> {
        let by_tokens = self.number("model_price").is_none_or(|price| price < 0.0)
            && self.text("billing_mode") != Some("tiered_expr");
        let cached = self.count("cache_tokens");
        if !by_tokens || cached == 0 {
            return None;
        }
        let rates = self.number("model_ratio")? * self.number("group_ratio")?;
        Some(cached as f64 * (1.0 - self.number("cache_ratio")?) * rates)
    }

    /// What became of a request that was charged: a stream may have ended badly (since 2026-03-31).
    pub(super) fn outcome(&self) -> (Outcome, Option<FailureClass>) {
        if self.is_true("violation_fee") {
            return (Outcome::Excluded, Some(FailureClass::Policy));
        }
        let stream = self.0.get("stream_status").and_then(Value::as_object);
        let word = |key| stream.and_then(|stream| stream.get(key)).and_then(Value::as_str);
        if word("status") != Some("error") {
            return (Outcome::Success, None);
        }
        match word("end_reason") {
            Some("client_gone" | "ping_fail") => (Outcome::Excluded, Some(FailureClass::ClientAbort)),
            Some("timeout") => (Outcome::Failure, Some(FailureClass::Timeout)),
            _ => (Outcome::Failure, Some(FailureClass::Server)),
        }
    }

    /// Of a failed attempt: `Some` where this tells of one, with the status code of the upstream's answer. Veloera writes
    /// check-ins as rows of the same type.
    pub(super) fn failed_attempt(&self) -> Option<Option<u16>> {
        let status = self.0.get("status_code").and_then(Value::as_u64);
        let is_one = status.is_some() || self.text("error_type").is_some();
        is_one.then(|| status.and_then(|it| u16::try_from(it).ok()).filter(|it| (100..600).contains(it)))
    }
}
