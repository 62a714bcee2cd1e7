//! Live state in Redis, as Claude Code Hub v0.9 keeps it (`src/lib/session-tracker.ts`, `src/lib/session-manager.ts`,
//! `src/lib/redis/circuit-breaker-state.ts`).
//!
//! Like the relay, it goes on without Redis when that does not answer.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use redis::Pipeline;
use redis::aio::ConnectionManager;
use sqlx::PgPool;

use super::rows::usd;
use crate::demo::people::{KEYS, PROVIDERS, Provider, USERS};
use crate::demo::traffic::{Request, Session};
use crate::model::Usd;

/// `SESSION_TTL`, its default.
const SESSION_TTL: i64 = 300;
const SET_TTL: i64 = 3600;
const COUNT_TTL: i64 = 600;
const CIRCUIT_TTL: i64 = 86_400;
const FIVE_HOURS: u64 = 5 * 3600;
/// How long ago the fixed five-hour windows have opened when the traffic begins.
const WINDOW_AGE: u64 = 2 * 3600;
const FAILURE_THRESHOLD: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Circuit {
    Closed,
    Open { until: DateTime<Utc> },
    HalfOpen,
}

pub(crate) struct Live {
    redis: Option<ConnectionManager>,
    /// The last command failed: further failures are not worth a line in the log.
    down: AtomicBool,
}

impl Live {
    pub(crate) fn new(redis: Option<ConnectionManager>) -> Self {
        Self { redis, down: AtomicBool::new(false) }
    }

    /// What a relay that has run for hours would have: recent sessions, open windows, settings of the breakers.
    pub(crate) async fn prepare(&self, pool: &PgPool, sessions: &[Session]) -> sqlx::Result<()> {
        let now = Utc::now();
        let mut pipe = redis::pipe();
        for (n, session) in sessions.iter().enumerate() {
            let seen = now - TimeDelta::seconds((n as i64 * 37) % (SESSION_TTL - 60));
            track(&mut pipe, session, session.provider, seen);
            remember(&mut pipe, session, seen);
        }
        for provider in PROVIDERS.iter().filter(|p| !p.deleted) {
            let key = format!("circuit_breaker:config:{}", provider.id);
            let half_open = ("halfOpenSuccessThreshold", 2);
            pipe.hset_multiple(key, &[("failureThreshold", 5), ("openDuration", 1_800_000), half_open]).ignore();
        }
        for (key, filter) in fixed_windows() {
            let spent: f64 = sqlx::query_scalar(include_str!("sql/spent_recently.sql"))
                .bind(filter.user)
                .bind(filter.secret)
                .bind(filter.provider)
                .fetch_one(pool)
                .await?;
            if spent > 0.0 {
                pipe.set_ex(key, spent, FIVE_HOURS - WINDOW_AGE).ignore();
            }
        }
        self.send(pipe).await;
        Ok(())
    }

    /// A request goes upstream.
    pub(crate) async fn began(&self, session: &Session, first: &Provider) {
        let now = Utc::now();
        let mut pipe = redis::pipe();
        track(&mut pipe, session, first, now);
        remember(&mut pipe, session, now);
        for key in concurrent_counts(&session.id) {
            pipe.incr(&key, 1).ignore().expire(&key, COUNT_TTL).ignore();
        }
        if session.user.rpm.is_some() {
            let key = format!("user:{}:rpm_window", session.user.id);
            let member = format!("{}:{}", now.timestamp_millis(), session.sequence);
            pipe.zadd(&key, member, now.timestamp_millis()).ignore().expire(&key, 120).ignore();
        }
        self.send(pipe).await;
    }

    /// Headers are on their way to the client; the stream may go on.
    pub(crate) async fn answered(&self, session: &Session) {
        let mut pipe = redis::pipe();
        for key in concurrent_counts(&session.id) {
            pipe.decr(&key, 1).ignore();
        }
        self.send(pipe).await;
    }

    /// The cost of a request is booked, its session refreshed.
    pub(crate) async fn booked(&self, session: &Session, request: &Request) {
        let Some(provider) = request.provider else { return };
        let now = Utc::now();
        let mut pipe = redis::pipe();
        if let Some(first) = request.first.filter(|first| first.id != provider.id) {
            pipe.zrem(format!("provider:{}:active_sessions", first.id), &session.id).ignore();
            pipe.hdel(format!("provider:{}:active_session_refs", first.id), &session.id).ignore();
        }
        track(&mut pipe, session, provider, now);
        let score = now.timestamp_millis();
        pipe.zadd(format!("provider:{}:active_sessions", provider.id), &session.id, score).ignore();
        if request.cost > Usd::ZERO {
            for (key, filter) in fixed_windows() {
                let theirs = filter.user == Some(session.user.id)
                    || filter.provider == Some(provider.id)
                    || filter.secret.as_deref() == Some(&session.key.secret());
                if theirs {
                    // The window opens at the first booked cost and is not prolonged.
                    pipe.cmd("SET").arg(&key).arg(0).arg("NX").arg("EX").arg(FIVE_HOURS).ignore();
                    pipe.cmd("INCRBYFLOAT").arg(&key).arg(usd(request.cost).to_string()).ignore();
                }
            }
        }
        self.send(pipe).await;
    }

    pub(crate) async fn ended(&self, session: &Session, request: &Request) {
        let status = if request.error.is_none() { "completed" } else { "error" };
        let tokens = request.tokens.unwrap_or_default();
        let (info, usage) = (format!("session:{}:info", session.id), format!("session:{}:usage", session.id));
        let fields = [
            ("status", status.to_owned()),
            ("inputTokens", tokens.input.to_string()),
            ("outputTokens", tokens.output.to_string()),
            ("cacheCreationInputTokens", (tokens.cache_write_5m + tokens.cache_write_1h).to_string()),
            ("cacheReadInputTokens", tokens.cache_read.to_string()),
            ("costUsd", usd(request.cost).to_string()),
            ("statusCode", request.status.unwrap_or_default().to_string()),
        ];
        let mut pipe = redis::pipe();
        pipe.hset_multiple(&usage, &fields).ignore().expire(&usage, SESSION_TTL).ignore();
        if let Some(provider) = request.provider {
            let provider = [("providerId", provider.id.to_string()), ("providerName", provider.name.to_owned())];
            pipe.hset_multiple(&info, &provider).ignore();
        }
        pipe.hset(&info, "status", status).ignore().expire(&info, SESSION_TTL).ignore();
        self.send(pipe).await;
    }

    pub(crate) async fn circuit(&self, provider: i32, circuit: Circuit) {
        let now = Utc::now().timestamp_millis().to_string();
        // An empty text is the relay's null.
        let (state, failures, failed, until) = match circuit {
            Circuit::Closed => ("closed", 0, String::new(), String::new()),
            Circuit::Open { until } => ("open", FAILURE_THRESHOLD, now, until.timestamp_millis().to_string()),
            Circuit::HalfOpen => ("half-open", FAILURE_THRESHOLD, now, String::new()),
        };
        let fields = [
            ("failureCount", failures.to_string()),
            ("lastFailureTime", failed),
            ("circuitState", state.to_owned()),
            ("circuitOpenUntil", until),
            ("halfOpenSuccessCount", "0".to_owned()),
        ];
        let key = format!("circuit_breaker:state:{provider}");
        let mut pipe = redis::pipe();
        pipe.hset_multiple(&key, &fields).ignore().expire(&key, CIRCUIT_TTL).ignore();
        self.send(pipe).await;
    }

    async fn send(&self, pipe: Pipeline) {
        let Some(redis) = &self.redis else { return };
        let sent = pipe.exec_async(&mut redis.clone()).await;
        let was_down = self.down.swap(sent.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (sent, was_down) {
            tracing::warn!(error = %error.category(), "live state is not written");
        }
    }
}

/// The session counts as live everywhere it is counted.
fn track(pipe: &mut Pipeline, session: &Session, provider: &Provider, at: DateTime<Utc>) {
    let score = at.timestamp_millis();
    let mut sets = vec![
        "{observed_sessions}:global:active_sessions".to_owned(),
        "{active_sessions}:global:active_sessions".to_owned(),
        format!("{{active_sessions}}:key:{}:active_sessions", session.key.id),
        format!("{{active_sessions}}:user:{}:active_sessions", session.user.id),
    ];
    // Without a limit the relay tracks a provider's session only when its cost is booked.
    if provider.limits.sessions.is_some() {
        sets.push(format!("provider:{}:active_sessions", provider.id));
        let refs = format!("provider:{}:active_session_refs", provider.id);
        pipe.hset(&refs, &session.id, 1).ignore().expire(&refs, SET_TTL).ignore();
    }
    for set in sets {
        pipe.zadd(&set, &session.id, score).ignore().expire(&set, SET_TTL).ignore();
    }
    pipe.set_ex(format!("session:{}:last_seen", session.id), score, SESSION_TTL as u64).ignore();
}

fn remember(pipe: &mut Pipeline, session: &Session, at: DateTime<Utc>) {
    let key = format!("session:{}:info", session.id);
    let fields = [
        ("userName", session.user.name.to_owned()),
        ("userId", session.user.id.to_string()),
        ("keyId", session.key.id.to_string()),
        ("keyName", session.key.name.to_owned()),
        ("model", session.model.name.to_owned()),
        ("apiType", session.model.family.api_type().to_owned()),
        ("startTime", at.timestamp_millis().to_string()),
        ("status", "in_progress".to_owned()),
        ("providerId", session.provider.id.to_string()),
        ("providerName", session.provider.name.to_owned()),
    ];
    let age = (Utc::now() - at).num_seconds();
    pipe.hset_multiple(&key, &fields).ignore().expire(&key, SESSION_TTL - age).ignore();
}

fn concurrent_counts(session: &str) -> [String; 2] {
    [format!("session:{session}:concurrent_count"), format!("observed_session:{session}:concurrent_count")]
}

/// Whose spending a counter of a fixed five-hour window holds.
#[derive(Default)]
struct Owner {
    user: Option<i32>,
    secret: Option<String>,
    provider: Option<i32>,
}

fn fixed_windows() -> impl Iterator<Item = (String, Owner)> {
    let users = USERS.iter().filter(|u| u.limits.five_hours_fixed);
    let users = users.map(|u| (format!("user:{}", u.id), Owner { user: Some(u.id), ..Owner::default() }));
    let keys = KEYS.iter().filter(|k| k.limits.five_hours_fixed);
    let keys = keys.map(|k| (format!("key:{}", k.id), Owner { secret: Some(k.secret()), ..Owner::default() }));
    let providers = PROVIDERS.iter().filter(|p| p.limits.five_hours_fixed);
    let providers =
        providers.map(|p| (format!("provider:{}", p.id), Owner { provider: Some(p.id), ..Owner::default() }));
    users.chain(keys).chain(providers).map(|(entity, owner)| (format!("{entity}:cost_5h_fixed"), owner))
}
