//! A CPA-Manager-Plus that needs nothing but a directory: its SQLite file with a history, and its collector, which takes
//! what the proxy has finished every half second and writes it in one transaction.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Level, least_schema};
use crate::demo::clients::{Clients, SimulatorOptions};
use crate::demo::history::{HistoryOptions, Past, progress};
use crate::demo::people::{Family, KEYS, MODELS, PROVIDERS, Provider, USERS};
use crate::demo::traffic::{Request, Tokens, Trouble};
use crate::demo::{DemoOptions, Environment, Urls};
use crate::servers::host::Host;

/// How often the collector asks the proxy's queue.
const COLLECT: Duration = Duration::from_millis(500);
/// How often upstreams tell of their quotas.
const TELL: Duration = Duration::from_secs(30);
/// The relay's patience with locks.
const PATIENCE: Duration = Duration::from_secs(5);

/// The relay's file in a directory.
fn path(directory: &Path) -> PathBuf {
    directory.join("usage.sqlite")
}

/// Makes the file, with people, prices and a history.
///
/// # Errors
/// When it cannot be written.
async fn create(path: &Path, history: &HistoryOptions) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // Nobody needs the demo's file after a power cut.
        .synchronous(SqliteSynchronous::Off)
        .busy_timeout(PATIENCE)
        .disable_statement_logging();
    let mut file = options.connect().await.with_context(|| format!("cannot make {}", path.display()))?;
    for script in least_schema(Level::Plus) {
        sqlx::raw_sql(script).execute(&mut file).await.context("cannot make the demo's schema")?;
    }
    let now = history.until.timestamp_millis();
    let prices: Vec<_> = MODELS
        .iter()
        .filter_map(|model| {
            let price = model.price?;
            // From 10^-12 dollars per token to dollars per million tokens.
            let dollars = |pico: i128| pico as f64 / 1e6;
            Some(json!({
                "model": model.name, "prompt": dollars(price.input), "completion": dollars(price.output),
                "cache_read": dollars(price.cache_read), "cache_creation": dollars(price.cache_write_5m),
            }))
        })
        .collect();
    let prices = json!(prices).to_string();
    sqlx::query(include_str!("demo/prices.sql")).bind(prices).bind(now).execute(&mut file).await?;
    let aliases: Vec<_> = KEYS
        .iter()
        .filter(|key| key.secret_of == key.id)
        .filter_map(|key| {
            let user = USERS.iter().find(|user| user.id == key.user)?;
            Some((hash(&key.secret()), format!("{} {}", user.name, key.name)))
        })
        .collect();
    let aliases = json!(aliases).to_string();
    sqlx::query(include_str!("demo/aliases.sql")).bind(aliases).bind(now).execute(&mut file).await?;
    fill(&mut file, history).await.context("cannot write the history")?;
    Ok(file)
}

async fn fill(file: &mut SqliteConnection, history: &HistoryOptions) -> anyhow::Result<()> {
    let bar = progress(history);
    let mut past = Past::new(history);
    let dates: Vec<NaiveDate> = history.dates().collect();
    for date in &dates {
        let mut requests = past.day(*date, Some(date) == dates.last());
        // The ledger has them in the order of their ends.
        requests.sort_by_key(Request::ends);
        let events: Vec<_> = requests.iter().filter_map(|request| Event::of(request, request.ends())).collect();
        write(file, &events).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Writes traffic until `stop`. Requests under way then are lost, as with the proxy's queue.
///
/// # Errors
/// When the file cannot be written.
async fn run(mut file: SqliteConnection, options: SimulatorOptions, stop: CancellationToken) -> anyhow::Result<()> {
    let mut clients = Clients::new(&options);
    let began = Instant::now();
    let mut due = began + clients.pause(&options);
    let mut told: Option<Instant> = None;
    let mut cooling: Option<i32> = None;
    let mut under_way: Vec<Request> = Vec::new();
    let mut ticks = interval(COLLECT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let trouble = trouble(began.elapsed(), options.trouble_period);
        while due <= Instant::now() {
            under_way.push(clients.next(trouble).1);
            due += clients.pause(&options);
        }
        let now = Utc::now();
        let (mut ended, rest): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|request| request.ends() <= now);
        under_way = rest;
        ended.sort_by_key(Request::ends);
        let events: Vec<_> = ended.iter().filter_map(|request| Event::of(request, now)).collect();
        if !events.is_empty() {
            write(&mut file, &events).await?;
        }
        let open = match trouble {
            Some(Trouble::Open(id)) => Some(id),
            _ => None,
        };
        if cooling != open {
            sqlx::query(include_str!("demo/recovered.sql")).execute(&mut file).await?;
            if let Some(id) = open {
                let until = now + TimeDelta::from_std(options.trouble_period.mul_f64(0.3)).unwrap_or_default();
                let cooldown = sqlx::query(include_str!("demo/cooldown.sql"));
                cooldown.bind(id.to_string()).bind(until.timestamp_millis()).execute(&mut file).await?;
            }
        }
        cooling = open;
        if told.is_none_or(|told| told.elapsed() >= TELL) {
            told = Some(Instant::now());
            tell_quotas(&mut file, now).await?;
        }
    }
    file.close().await.context("cannot close the demo's file")
}

/// In the second half of a period one credential fails, and then is left alone; another one each time.
fn trouble(elapsed: Duration, period: Duration) -> Option<Trouble> {
    let candidates: Vec<&Provider> = credentials().filter(|provider| provider.family != Family::Gemini).collect();
    let turns = elapsed.as_secs_f64() / period.as_secs_f64();
    let id = candidates.get(turns as usize % candidates.len().max(1))?.id;
    match turns.fract() {
        0.5..0.6 => Some(Trouble::Failing(id)),
        0.6..0.9 => Some(Trouble::Open(id)),
        _ => None,
    }
}

fn credentials() -> impl Iterator<Item = &'static Provider> {
    PROVIDERS.iter().filter(|provider| provider.enabled && !provider.deleted)
}

/// Windows that begin with the hour's fifth and the week, and fill up evenly.
async fn tell_quotas(file: &mut SqliteConnection, now: DateTime<Utc>) -> anyhow::Result<()> {
    for provider in credentials() {
        let index: String = provider.id.to_string().bytes().map(|byte| format!("{byte:02X}")).collect();
        let account = format!("usage-account-history:2:file-index:64656D6F:{index}");
        for (window, kind, hours) in [("five-hour", "five_hour", 5), ("weekly", "weekly", 7 * 24)] {
            let length = hours * 3_600_000;
            let into = (now.timestamp_millis() + i64::from(provider.id) * 1_234_567).rem_euclid(length);
            let pace = 40.0 + f64::from(provider.id % 4) * 20.0;
            let known = sqlx::query(include_str!("demo/quota_window.sql"));
            known.bind(&account).bind(window).bind(kind).execute(&mut *file).await?;
            sqlx::query(include_str!("demo/quota.sql"))
                .bind(&account)
                .bind(window)
                .bind(kind)
                .bind(now.timestamp_millis())
                .bind(now.timestamp_millis() - into + length)
                .bind(pace * into as f64 / length as f64)
                .execute(&mut *file)
                .await?;
        }
    }
    Ok(())
}

async fn write(file: &mut SqliteConnection, events: &[Event]) -> anyhow::Result<()> {
    let events = serde_json::to_string(events)?;
    sqlx::query(include_str!("demo/events.sql")).bind(events).execute(file).await?;
    Ok(())
}

/// A row of `usage_events`.
#[derive(Serialize)]
struct Event {
    hash: String,
    timestamp_ms: i64,
    timestamp: String,
    provider: &'static str,
    model: &'static str,
    resolved_model: &'static str,
    endpoint: String,
    auth_index: String,
    source: String,
    source_hash: String,
    api_key_hash: String,
    input_tokens: u64,
    output_tokens: u64,
    cached_tokens: u64,
    cache_read_tokens: u64,
    cache_creation_tokens: u64,
    total_input: u64,
    total_tokens: u64,
    latency_ms: i32,
    ttft_ms: Option<i32>,
    failed: bool,
    status: Option<i32>,
    created_at_ms: i64,
}

impl Event {
    /// `None` for what the proxy would not have told of: it sends everything upstream, and tells of what has ended.
    fn of(request: &Request, recorded_at: DateTime<Utc>) -> Option<Self> {
        let provider = request.provider.or(request.first)?;
        if request.never_ends() || request.is_replay || request.blocked_by.is_some() {
            return None;
        }
        let status = request.status.filter(|status| *status >= 400);
        let failed = status.is_some() || request.error.is_some();
        let tokens = request.tokens.unwrap_or_default();
        let Tokens { input, output, cache_read, .. } = tokens;
        let written = tokens.cache_write_5m + tokens.cache_write_1h;
        let total_input = input + cache_read + written;
        // Anthropic tells input without what is cached, the others with it.
        let (kind, told_input, told_read) = match request.family {
            Family::Claude => ("claude", input, cache_read),
            Family::Gpt => ("codex", total_input, 0),
            Family::Gemini => ("gemini", total_input, 0),
        };
        let started = request.at.timestamp_millis();
        Some(Self {
            hash: hash(&format!("{} {} {started}", request.session, request.sequence)),
            timestamp_ms: started,
            timestamp: request.at.to_rfc3339(),
            provider: kind,
            model: request.original_model,
            resolved_model: request.model,
            endpoint: format!("POST {}", request.endpoint),
            auth_index: provider.id.to_string(),
            source: format!("{}***@example.com", &provider.name[..3]),
            source_hash: hash(provider.name),
            api_key_hash: hash(&request.key.secret()),
            input_tokens: told_input,
            output_tokens: output,
            cached_tokens: cache_read,
            cache_read_tokens: told_read,
            cache_creation_tokens: written,
            total_input,
            total_tokens: total_input + output,
            latency_ms: request.duration_ms,
            ttft_ms: request.ttft_ms,
            failed,
            status: status.filter(|_| failed),
            created_at_ms: recorded_at.timestamp_millis() + 150,
        })
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A CPA-Manager-Plus: one SQLite file in a temporary directory, on any machine. Otherwise like the others.
///
/// # Errors
/// When there is no place for temporary files.
pub(super) async fn set_up(options: DemoOptions) -> anyhow::Result<Environment> {
    options.simulator.check()?;
    let host = Host::new("TERM", "KILL").context("the demo's SQLite file has no place to be")?;
    let path = path(host.path());
    let file = create(&path, &options.history).await?;
    let urls = Urls { database_url: format!("sqlite:{}", path.display()).into(), redis_url: None };
    let stop = CancellationToken::new();
    Ok(Environment::live(urls, run(file, options.simulator, stop.clone()), stop, host))
}
