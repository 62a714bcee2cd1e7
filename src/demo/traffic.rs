//! Requests as clients make them: sessions that stay with one key, model and provider, and what becomes of each request.
//!
//! Pure and deterministic: the same seed gives the same requests.

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::outcome::{Outcome, Step};
use super::people::{Family, KEYS, Key, MODELS, Model, PROVIDERS, Provider, USERS, User};
use crate::model::Usd;

/// Mean number of requests in a session.
pub(crate) const SESSION_LENGTH: f64 = 12.0;
/// A client compacts its context when it grows beyond so many tokens.
const CONTEXT_LIMIT: u64 = 170_000;

/// What is wrong with one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Most of its answers are errors.
    Failing(i32),
    /// Its circuit is open: nothing is sent to it.
    Open(i32),
}

/// A client's conversation.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub id: String,
    pub user: &'static User,
    pub key: &'static Key,
    pub model: &'static Model,
    pub provider: &'static Provider,
    pub sequence: i32,
    /// Requests still to come.
    pub left: u32,
    /// Tokens of context that the upstream has cached.
    context: u64,
    one_hour_cache: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
}

/// One request with all it will have been in the end.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub at: DateTime<Utc>,
    pub user: &'static User,
    pub key: &'static Key,
    pub session: String,
    pub sequence: i32,
    /// The provider that was selected first; `None` when nothing went upstream.
    pub first: Option<&'static Provider>,
    /// The provider that answered.
    pub provider: Option<&'static Provider>,
    pub chain: Vec<Step>,
    /// The model sent upstream.
    pub model: &'static str,
    pub original_model: &'static str,
    pub answered_model: Option<&'static str>,
    pub family: Family,
    pub endpoint: String,
    /// `None`: it never ended (the relay crashed).
    pub status: Option<i32>,
    pub error: Option<&'static str>,
    pub blocked_by: Option<&'static str>,
    pub is_replay: bool,
    pub tokens: Option<Tokens>,
    /// Without that of a hedge's loser.
    pub cost: Usd,
    pub multiplier: i32,
    pub duration_ms: i32,
    pub ttft_ms: Option<i32>,
    pub first_byte_ms: Option<i32>,
    /// A provider that lost a race and is billed all the same.
    pub loser: Option<(&'static Provider, Usd)>,
}

impl Request {
    pub(crate) fn ends(&self) -> DateTime<Utc> {
        self.at + TimeDelta::milliseconds(self.duration_ms.into())
    }

    pub(crate) fn total_cost(&self) -> Usd {
        self.cost + self.loser.map_or(Usd::ZERO, |(_, cost)| cost)
    }
}

pub(crate) struct Traffic {
    pub rng: StdRng,
    /// The present, from which "days ago" in the cast is counted.
    now: DateTime<Utc>,
}

impl Traffic {
    pub(crate) fn new(seed: u64, now: DateTime<Utc>) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), now }
    }

    pub(crate) fn session(&mut self, at: DateTime<Utc>) -> Session {
        let now = self.now;
        let user = self.pick(USERS, |user| if gone(user.deleted, at, now) { 0 } else { user.share });
        let model = self.pick(MODELS, |model| model.share);
        self.session_of(user, model, at)
    }

    pub(crate) fn session_of(&mut self, user: &'static User, model: &'static Model, at: DateTime<Utc>) -> Session {
        let now = self.now;
        let key = self.pick(KEYS, |key| if key.user == user.id { key.share } else { 0 });
        let provider = self.pick(PROVIDERS, |p| share(p, model.family, at, now));
        let left = (-SESSION_LENGTH * self.unit().ln()).clamp(1.0, 90.0) as u32;
        let id = format!("{:016x}{:016x}", self.rng.random::<u64>(), self.rng.random::<u64>());
        let context = self.log_normal(14_000.0, 0.5) as u64;
        let one_hour_cache = self.chance(0.12);
        Session { id, user, key, model, provider, sequence: 0, left, context, one_hour_cache }
    }

    /// The session's next request.
    pub(crate) fn request(&mut self, session: &mut Session, at: DateTime<Utc>, trouble: Option<Trouble>) -> Request {
        session.sequence += 1;
        session.left = session.left.saturating_sub(1);
        if trouble == Some(Trouble::Open(session.provider.id)) {
            session.provider = self.other(session.provider, session.model.family, at);
        }
        let failing = trouble == Some(Trouble::Failing(session.provider.id));
        let outcome = Outcome::draw(self, failing);
        let mut request = self.success(session, at);
        outcome.apply(self, session, &mut request);
        // A session stays where it was answered, but comes back to a provider that has only just begun to fail.
        if let (Some(provider), false) = (request.provider, failing) {
            session.provider = provider;
        }
        // People try again.
        if failing && request.error.is_some() && self.chance(0.7) {
            session.left += 1;
        }
        request
    }

    /// Another provider for the same kind of model; the same one when there is no other.
    pub(crate) fn other(&mut self, not: &'static Provider, family: Family, at: DateTime<Utc>) -> &'static Provider {
        let now = self.now;
        let weight = |p: &Provider| if p.id == not.id { 0 } else { share(p, family, at, now) };
        if PROVIDERS.iter().all(|p| weight(p) == 0) { not } else { self.pick(PROVIDERS, weight) }
    }

    fn success(&mut self, session: &mut Session, at: DateTime<Utc>) -> Request {
        let Session { model, provider, .. } = *session;
        let tokens = self.tokens(session);
        let (ttft, speed) = match model.family {
            Family::Claude => (1900.0, 62.0),
            Family::Gpt => (3200.0, 85.0),
            Family::Gemini => (1300.0, 130.0),
        };
        // Some upstreams are farther away.
        let distance = 1.0 + f64::from(provider.id % 3) / 8.0;
        let first_byte = self.log_normal(ttft * distance * 0.7, 0.5).min(120_000.0);
        let ttft = first_byte + self.log_normal(ttft * 0.25, 0.6).min(60_000.0);
        let speed = self.log_normal(speed, 0.3).max(5.0);
        let duration = (ttft + 1000.0 * tokens.output as f64 / speed).min(880_000.0) as i32;
        let streamed = self.chance(0.92);
        let redirected = model.name.starts_with("claude-opus-4-1") && provider.id == 3;
        let endpoint = match model.family {
            Family::Claude => "/v1/messages".to_owned(),
            Family::Gpt => "/v1/responses".to_owned(),
            Family::Gemini => format!("/v1beta/models/{}:streamGenerateContent", model.name),
        };
        Request {
            at,
            user: session.user,
            key: session.key,
            session: session.id.clone(),
            sequence: session.sequence,
            first: Some(provider),
            provider: Some(provider),
            chain: Vec::new(),
            model: if redirected { "claude-opus-4-5-20251101" } else { model.name },
            original_model: model.name,
            answered_model: None,
            family: model.family,
            endpoint,
            status: Some(200),
            error: None,
            blocked_by: None,
            is_replay: false,
            tokens: Some(tokens),
            cost: cost(model, &tokens, provider.multiplier),
            multiplier: provider.multiplier,
            duration_ms: duration,
            ttft_ms: Some(if streamed { ttft as i32 } else { duration }),
            first_byte_ms: Some(if streamed { first_byte as i32 } else { duration }),
            loser: None,
        }
    }

    fn tokens(&mut self, session: &mut Session) -> Tokens {
        let added = self.log_normal(1_400.0, 1.0).min(60_000.0) as u64;
        let output = self.log_normal(420.0, 1.1).clamp(1.0, 32_000.0) as u64;
        let cached = session.context;
        session.context += added + output;
        if session.context > CONTEXT_LIMIT {
            session.context = 12_000;
        }
        // The first request finds only what other sessions have left; a pause longer than the cache lives, nothing.
        let (read, missed) = if session.sequence == 1 {
            (cached / 2, cached - cached / 2)
        } else if self.chance(0.05) {
            (0, cached)
        } else {
            (cached, 0)
        };
        match session.model.family {
            Family::Claude => {
                let input = self.rng.random_range(3..60);
                let written = added + missed;
                let (write_5m, write_1h) = if session.one_hour_cache { (0, written) } else { (written, 0) };
                Tokens { input, output, cache_read: read, cache_write_5m: write_5m, cache_write_1h: write_1h }
            }
            Family::Gpt | Family::Gemini => {
                Tokens { input: added + missed, output, cache_read: read, ..Tokens::default() }
            }
        }
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    /// One item, by weight; the first when all weigh nothing.
    pub(crate) fn pick<T>(&mut self, items: &'static [T], weight: impl Fn(&T) -> u32) -> &'static T {
        let total: u32 = items.iter().map(&weight).sum();
        let mut at = self.rng.random_range(0..total.max(1));
        items
            .iter()
            .find(|item| {
                let weight = weight(item);
                let here = at < weight;
                at = at.saturating_sub(weight);
                here
            })
            .unwrap_or(&items[0])
    }

    /// Log-normal with the given median; `spread` is the standard deviation of the logarithm.
    pub(crate) fn log_normal(&mut self, median: f64, spread: f64) -> f64 {
        // Box and Muller.
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        median * (spread * normal).exp()
    }

    /// Uniform in (0, 1].
    pub(crate) fn unit(&mut self) -> f64 {
        1.0 - self.rng.random::<f64>()
    }
}

/// What the tokens cost by the relay's price list and a multiplier in 10^-4; nothing without a price.
pub(crate) fn cost(model: &Model, tokens: &Tokens, multiplier: i32) -> Usd {
    let Some(price) = model.price else { return Usd::ZERO };
    let pico = i128::from(tokens.input) * price.input
        + i128::from(tokens.output) * price.output
        + i128::from(tokens.cache_read) * price.cache_read
        + i128::from(tokens.cache_write_5m) * price.cache_write_5m
        + i128::from(tokens.cache_write_1h) * price.cache_write_1h;
    Usd::from_femto(pico * i128::from(multiplier) / 10)
}

fn share(provider: &Provider, family: Family, at: DateTime<Utc>, now: DateTime<Utc>) -> u32 {
    if provider.family != family || gone(provider.retired, at, now) { 0 } else { provider.share }
}

fn gone(days_ago: Option<i64>, at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    days_ago.is_some_and(|days| at >= now - TimeDelta::days(days))
}
