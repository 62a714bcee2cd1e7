//! What becomes of a request: answered, retried, raced, refused, broken off, never ended.

use serde::Serialize;

use super::people::{Family, Provider};
use super::traffic::{Request, Session, Traffic, cost};
use crate::model::Usd;

/// One element of the relay's `provider_chain`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    pub id: i32,
    pub name: &'static str,
    pub reason: &'static str,
    pub attempt_number: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<&'static str>,
}

/// A way for a request to end, with the relay's reason in the chain.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Success,
    /// The first provider failed, another one answered.
    Failover(Failure),
    /// Two providers raced; the loser's answer is billed too.
    Hedge,
    /// All attempts failed.
    Failed(Failure),
    /// The client went away; `true` when the upstream had begun to answer and is paid.
    Abort(bool),
    /// The upstream says 200 and sends an error.
    FakeSuccess,
    Replay,
    Warmup,
    SensitiveWord,
    CountTokens,
    Orphan,
}

/// Status, reason and text of an upstream's failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    status: i32,
    reason: &'static str,
    text: &'static str,
    /// Median time until it shows.
    after_ms: f64,
    share: u32,
}

const fn failure(status: i32, reason: &'static str, text: &'static str, after_ms: f64, share: u32) -> Failure {
    Failure { status, reason, text, after_ms, share }
}

const FAILURES: &[Failure] = &[
    failure(429, "retry_failed", "Provider returned 429: Too Many Requests", 400.0, 26),
    failure(429, "retry_failed", "Provider returned 429: rate limit exceeded for this account", 400.0, 8),
    failure(529, "retry_failed", "Provider returned 529: Overloaded", 900.0, 22),
    failure(500, "retry_failed", "Provider returned 500: Internal Server Error", 1500.0, 12),
    failure(502, "retry_failed", "Provider returned 502: Bad Gateway", 800.0, 5),
    failure(503, "retry_failed", "Provider returned 503: Service Unavailable", 500.0, 5),
    failure(524, "retry_failed", "Provider returned 524: no first byte in time", 60_000.0, 9),
    failure(504, "system_error", "fetch failed: connect timeout", 30_000.0, 4),
    failure(401, "retry_failed", "Provider returned 401: authentication failed", 300.0, 2),
    failure(404, "resource_not_found", "Provider returned 404: model not found", 300.0, 6),
    failure(400, "client_error_non_retryable", "Provider returned 400: prompt is too long", 600.0, 6),
];

/// Failures of a provider that is down.
const OUTAGE: &[Failure] = &[
    failure(529, "retry_failed", "Provider returned 529: Overloaded", 2500.0, 50),
    failure(500, "retry_failed", "Provider returned 500: Internal Server Error", 4000.0, 30),
    failure(524, "retry_failed", "Provider returned 524: no first byte in time", 60_000.0, 20),
];

impl Outcome {
    /// `failing`: the session's provider is down.
    pub(crate) fn draw(traffic: &mut Traffic, failing: bool) -> Self {
        if failing {
            let failure = *traffic.pick(OUTAGE, |f| f.share);
            return match traffic.unit() {
                u if u < 0.60 => Self::Failed(failure),
                u if u < 0.88 => Self::Failover(failure),
                _ => Self::Success,
            };
        }
        let failure = *traffic.pick(FAILURES, |f| f.share);
        match traffic.unit() {
            u if u < 0.006 => Self::Warmup,
            u if u < 0.012 => Self::Replay,
            u if u < 0.013 => Self::SensitiveWord,
            u if u < 0.016 => Self::CountTokens,
            u if u < 0.0163 => Self::Orphan,
            u if u < 0.020 => Self::Abort(true),
            u if u < 0.029 => Self::Abort(false),
            u if u < 0.055 => Self::Failed(failure),
            u if u < 0.085 => Self::Failover(failure),
            u if u < 0.105 => Self::Hedge,
            u if u < 0.106 => Self::FakeSuccess,
            _ => Self::Success,
        }
    }

    /// Turns a request that would have succeeded into what it becomes.
    pub(crate) fn apply(self, traffic: &mut Traffic, session: &Session, request: &mut Request) {
        let Some(first) = request.first else { return };
        let chosen = if session.sequence == 1 { "initial_selection" } else { "session_reuse" };
        let second = traffic.other(first, request.family, request.at);
        let outcome = match self {
            Self::Hedge if second.id == first.id => Self::Success,
            // Gemini's token counting is not known to the relay.
            Self::CountTokens if request.family == Family::Gemini => Self::Success,
            outcome => outcome,
        };
        let price =
            |request: &Request| request.tokens.map_or(Usd::ZERO, |t| cost(session.model, &t, second.multiplier));
        let steps = match outcome {
            Self::Replay | Self::Warmup | Self::SensitiveWord | Self::Orphan => {
                outcome.without_chain(request);
                return;
            }
            Self::Success => {
                if first.id == 3 && traffic.chance(0.01) {
                    request.answered_model = Some("claude-haiku-4-5-20251001");
                }
                vec![step(first, "request_success", 1, Some(200), None)]
            }
            Self::Failover(failure) => {
                request.cost = price(request);
                request.fail_over(second, traffic.log_normal(failure.after_ms, 0.4) as i32);
                vec![failure.step(first, 1), step(second, "retry_success", 2, Some(200), None)]
            }
            Self::Hedge => {
                let cost = price(request);
                request.loser = cost.is_positive().then_some((second, cost));
                hedged(traffic, first, second)
            }
            Self::Failed(failure) => {
                let attempts = if failure.reason == "client_error_non_retryable" { 1 } else { 2 };
                request.fail(failure.status, failure.text, traffic.log_normal(failure.after_ms, 0.4) as i32);
                (1..=attempts).map(|attempt| failure.step(first, attempt)).collect()
            }
            Self::Abort(paid) => {
                let part = traffic.unit();
                let (tokens, cost) = (request.tokens, request.cost);
                request.fail(499, "client disconnected", (f64::from(request.duration_ms) * part) as i32 + 50);
                if paid {
                    (request.tokens, request.cost) = (tokens, cost);
                }
                vec![step(first, "client_abort", 1, Some(499), None)]
            }
            Self::FakeSuccess => {
                const TEXT: &str = "upstream answered 200 with an error body";
                request.fail(200, TEXT, request.duration_ms);
                vec![step(first, "retry_failed", 1, Some(200), Some(TEXT))]
            }
            Self::CountTokens => {
                request.only_count_tokens();
                vec![step(first, "request_success", 1, Some(200), None)]
            }
        };
        request.chain = [vec![step(first, chosen, 1, None, None)], steps].concat();
    }

    /// What no provider answers, or nobody ends.
    fn without_chain(self, request: &mut Request) {
        match self {
            Self::Replay => {
                request.serve_here(120, Some(200));
                request.is_replay = true;
                return;
            }
            Self::Warmup => {
                request.serve_here(3, Some(200));
                request.blocked_by = Some("warmup");
            }
            Self::SensitiveWord => {
                request.serve_here(5, Some(400));
                request.blocked_by = Some("sensitive_word");
                request.error = Some("blocked by a sensitive word");
            }
            _ => {
                request.status = None;
                request.cost = Usd::ZERO;
            }
        }
        request.tokens = None;
    }
}

/// Two providers that were asked at the same time.
fn hedged(traffic: &mut Traffic, first: &Provider, second: &Provider) -> Vec<Step> {
    let winner = step(first, "hedge_winner", 1, Some(200), None);
    let loser = step(second, "hedge_loser_billed", 2, None, None);
    // Whoever is noted last counts as the one that answered: sometimes that is the loser.
    let ends = if traffic.chance(0.3) { [winner, loser] } else { [loser, winner] };
    let begin = [step(first, "hedge_triggered", 1, None, None), step(second, "hedge_launched", 2, None, None)];
    begin.into_iter().chain(ends).collect()
}

impl Failure {
    fn step(self, provider: &Provider, attempt: usize) -> Step {
        step(provider, self.reason, attempt, Some(self.status), Some(self.text))
    }
}

impl Request {
    fn fail(&mut self, status: i32, error: &'static str, duration_ms: i32) {
        self.status = Some(status);
        self.error = Some(error);
        self.duration_ms = duration_ms;
        self.tokens = None;
        self.cost = Usd::ZERO;
        self.ttft_ms = None;
        self.first_byte_ms = None;
    }

    /// Answered by another provider, later.
    fn fail_over(&mut self, provider: &'static Provider, lost_ms: i32) {
        self.provider = Some(provider);
        self.multiplier = provider.multiplier;
        self.duration_ms += lost_ms;
        self.ttft_ms = self.ttft_ms.map(|ms| ms + lost_ms);
        self.first_byte_ms = self.first_byte_ms.map(|ms| ms + lost_ms);
    }

    /// Answered by the relay itself.
    fn serve_here(&mut self, duration_ms: i32, status: Option<i32>) {
        self.first = None;
        self.provider = None;
        self.status = status;
        self.duration_ms = duration_ms;
        self.cost = Usd::ZERO;
        self.ttft_ms = None;
        self.first_byte_ms = None;
    }

    fn only_count_tokens(&mut self) {
        let claude = self.family == Family::Claude;
        self.endpoint = if claude { "/v1/messages/count_tokens" } else { "/v1/responses/compact" }.to_owned();
        self.tokens = None;
        self.cost = Usd::ZERO;
        self.duration_ms = 350;
        self.ttft_ms = None;
        self.first_byte_ms = None;
    }

    pub(crate) fn never_ends(&self) -> bool {
        self.status.is_none()
    }
}

fn step(
    provider: &Provider,
    reason: &'static str,
    attempt_number: usize,
    status_code: Option<i32>,
    error_message: Option<&'static str>,
) -> Step {
    Step { id: provider.id, name: provider.name, reason, attempt_number, status_code, error_message }
}
