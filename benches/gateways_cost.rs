//! What reading LiteLLM at two million rows a day, and sub2api at one, costs their PostgreSQL and the exporter.
//!
//! `cargo bench --bench gateways_cost`, or with other numbers of rows, all of one day:
//! `cargo bench --bench gateways_cost -- litellm 500000`. Needs PostgreSQL.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod cpu;
    pub mod table;
}

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{NaiveTime, TimeDelta, Utc};
use common::cpu::cpu;
use common::table;
use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::relay::{self, RefreshRequest, Usage};
use llm_relay_exporter::relays::{litellm, sub2api};
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::{OwnValue, RelayPlan};
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tokio::time::sleep;

/// Rows of one statement that fills the ledger.
const CHUNK: u64 = 250_000;
const ROUNDS: u32 = 50;
/// Pause between two refreshes, as configured by default.
const INTERVAL: Duration = Duration::from_secs(1);

/// A row of 1.3 kB for each `n`, as LiteLLM writes it.
const LITELLM: &str = r#"insert into "LiteLLM_SpendLogs" (request_id, call_type, api_key, spend, total_tokens, prompt_tokens,
    completion_tokens, "startTime", "endTime", "completionStartTime", model, model_id, model_group, custom_llm_provider, "user",
    team_id, metadata, status)
  select 'chatcmpl-' || md5(n::text), 'acompletion', md5((n % 500)::text) || md5((n % 500)::text), 0.0125, 1200, 1000, 200,
    {start}, {start} + interval '4 seconds', {start} + interval '700 milliseconds', 'gpt-4o-2024-11-20', 'deployment-' || n % 20,
    'gpt-4o', 'azure', 'user-' || n % 300, 'team-' || n % 40,
    jsonb_build_object('status', 'success', 'user_api_key_alias', 'key-' || n % 500, 'filler', repeat(md5(n::text), 24),
      'usage_object', jsonb_build_object('prompt_tokens', 1000, 'cache_read_input_tokens', 600)), 'success'
  from generate_series({first}::bigint, {last}) n"#;

/// A row of `usage_logs`, as sub2api writes it.
const SUB2API: &str = "insert into usage_logs (created_at, user_id, api_key_id, account_id, model, input_tokens, output_tokens,
    cache_read_tokens, total_cost, actual_cost, input_cost, cache_read_cost, rate_multiplier, duration_ms, first_token_ms,
    request_type, request_id)
  select {start} at time zone 'UTC', 1 + n % 3, 1 + n % 3, 1 + n % 3, 'claude-sonnet-4', 100, 50, 900, 0.0125, 0.0125, 0.0003,
    0.0003, 1, 4000, 700, 2, 'request-' || n
  from generate_series({first}::bigint, {last}) n";

/// Whom the rows of sub2api refer to.
const PEOPLE: &str = "insert into users (email, password_hash, username, role, balance)
    select 'user-' || n, 'hash', 'user-' || n, 'user', 10 from generate_series(1, 3) n;
  insert into api_keys (user_id, key, name) select n, 'key-' || n, 'key-' || n from generate_series(1, 3) n;
  insert into accounts (name, platform, type, credentials)
    select 'account-' || n, 'anthropic', 'oauth', '{}' from generate_series(1, 3) n";

struct Bench {
    _server: PrivatePostgres,
    connection: PgConnection,
    plan: RelayPlan,
    insert: &'static str,
    rows: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let rows: Option<u64> = arguments.iter().find_map(|it| it.parse().ok());
    let is_named = |kind: &str| arguments.iter().any(|it| it == kind);
    let all = !is_named("litellm") && !is_named("sub2api");
    let mut figures = Vec::new();
    if all || is_named("litellm") {
        let mut plan = RelayPlan::new("bench", &litellm::PRODUCT);
        for (path, value) in [("model_name", "group"), ("usage", "rows")] {
            plan.own.set(path, OwnValue::Text(value.to_owned()));
        }
        let table = "\"LiteLLM_SpendLogs\"";
        let bench = Bench::new(plan, &[litellm::LEAST_SCHEMA], LITELLM, rows.unwrap_or(2_000_000)).await?;
        figures.push(bench.run(table).await?);
    }
    if all || is_named("sub2api") {
        let scripts: Vec<&str> = sub2api::STEPS.iter().map(|(_, script)| *script).chain([PEOPLE]).collect();
        let plan = RelayPlan::new("bench", &sub2api::PRODUCT);
        let bench = Bench::new(plan, &scripts, SUB2API, rows.unwrap_or(1_000_000)).await?;
        figures.push(bench.run("usage_logs").await?);
    }
    let head = ["first reading", "a refresh, new rows written included", "audit of two days, every ten minutes"];
    table::print(&["rows of one day", head[0], head[1], head[2]], &figures);
    Ok(())
}

impl Bench {
    async fn new(plan: RelayPlan, scripts: &[&str], insert: &'static str, rows: u64) -> anyhow::Result<Self> {
        let server = PrivatePostgres::start().await?;
        let url = server.database("relay").await?;
        let mut connection = PgConnection::connect(&url).await?;
        for script in scripts {
            raw_sql(AssertSqlSafe((*script).to_owned())).execute(&mut connection).await?;
        }
        let plan = RelayPlan {
            database_url: url.into(),
            timeout: Duration::from_secs(120),
            audit_interval: Duration::from_secs(86_400),
            history_budget: Duration::from_secs(60),
            ..plan
        };
        Ok(Self { _server: server, connection, plan, insert, rows })
    }

    /// The rows `first` to `last` of a day of `rows` that ends now.
    async fn write(&mut self, first: u64, last: u64) -> anyhow::Result<()> {
        let pause = 86_400.0 / self.rows as f64;
        let start = format!("((now() at time zone 'UTC') - interval '1 second' * ({pause} * ({} - n)))", self.rows);
        let (first, last) = (first.to_string(), last.to_string());
        let text = self.insert.replace("{start}", &start).replace("{first}", &first).replace("{last}", &last);
        raw_sql(AssertSqlSafe(text)).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn run(mut self, table: &str) -> anyhow::Result<[String; 4]> {
        for first in (1..=self.rows).step_by(CHUNK as usize) {
            self.write(first, self.rows.min(first + CHUNK - 1)).await?;
        }
        raw_sql(AssertSqlSafe(format!("vacuum analyze {table}"))).execute(&mut self.connection).await?;
        let mut exporter = Follower::new(self.ledger()?, &self.plan);

        let (before, began) = (self.cpu().await?, Instant::now());
        let mut rest = exporter.refresh().await?;
        while rest != Backlog::Nothing {
            rest = match rest {
                Backlog::NewRows => exporter.refresh().await?,
                _ => exporter.read_history().await?,
            };
        }
        let first = self.since(before, began, 1).await?;

        // As many new rows before each refresh as come in its interval.
        let new = (self.rows / 86_400).max(1);
        let mut last = self.rows;
        let mut reading = Duration::ZERO;
        let before = self.cpu().await?;
        for _ in 0..ROUNDS {
            self.write(last + 1, last + new).await?;
            last += new;
            let began = Instant::now();
            while exporter.refresh().await? != Backlog::Nothing {}
            reading += began.elapsed();
            sleep(INTERVAL.saturating_sub(began.elapsed())).await;
        }
        let refresh = self.since(before, Instant::now() - reading, ROUNDS).await?;

        let midnight = Utc::now().date_naive().and_time(NaiveTime::MIN).and_utc();
        let audit = vec![midnight - TimeDelta::days(1)..midnight, midnight..midnight + TimeDelta::days(1)];
        let mut ledger = self.ledger()?;
        ledger.refresh(&RefreshRequest::default()).await?;
        let (before, began) = (self.cpu().await?, Instant::now());
        ledger.refresh(&RefreshRequest { audit, ..RefreshRequest::default() }).await?;
        let audit = self.since(before, began, 1).await?;
        let label = self.plan.product.label;
        Ok([format!("{label}, {}", self.rows), first, format!("{refresh} ({new} new rows)"), audit])
    }

    fn ledger(&self) -> anyhow::Result<Box<dyn relay::Ledger>> {
        match relay::open(&self.plan)?.usage {
            Usage::Rows(ledger) => Ok(ledger),
            Usage::Counters(_) => anyhow::bail!("the relay keeps rows"),
        }
    }

    /// Of this process, which is the exporter, and of the server's backends, by process.
    async fn cpu(&mut self) -> anyhow::Result<BTreeMap<u32, Duration>> {
        let backends = "select pid from pg_stat_activity where backend_type = 'client backend'";
        let pids: Vec<i32> = sqlx::query_scalar(backends).fetch_all(&mut self.connection).await?;
        let pids = pids.into_iter().filter_map(|pid| u32::try_from(pid).ok()).chain([std::process::id()]);
        Ok(pids.map(|pid| (pid, cpu(pid))).collect())
    }

    /// Time and processor time since, each of `times`.
    async fn since(&mut self, before: BTreeMap<u32, Duration>, began: Instant, times: u32) -> anyhow::Result<String> {
        let took = began.elapsed() / times;
        let own = std::process::id();
        let (mut exporter, mut server) = (Duration::ZERO, Duration::ZERO);
        for (pid, now) in self.cpu().await? {
            let spent = now.saturating_sub(before.get(&pid).copied().unwrap_or_default());
            *if pid == own { &mut exporter } else { &mut server } += spent;
        }
        Ok(format!("{took:.1?}; CPU {:.1?}, of the server {:.1?}", exporter / times, server / times))
    }
}
