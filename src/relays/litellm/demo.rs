//! A LiteLLM with invented traffic in a PostgreSQL of its own, written as LiteLLM writes it: rows in batches, some
//! seconds after the ends of their requests, and its own counters with them.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, raw_sql};

use super::LEAST_SCHEMA;
use crate::demo::{DemoOptions, Environment, Pace, Urls, pick};
use crate::servers::PrivatePostgres;

/// Rows of one statement of history.
const BATCH: usize = 500;
/// Users, their keys, their teams and organizations, and their share of the traffic.
const KEYS: [(&str, &str, &str, &str, f64); 6] = [
    ("ann", "ann-laptop", "search", "acme", 0.25),
    ("ann", "ann-ci", "ads", "acme", 0.10),
    ("bob", "bob-agent", "ads", "acme", 0.30),
    ("cleo", "cleo-notebook", "research", "", 0.20),
    ("dan", "dan-batch", "", "", 0.10),
    ("default_user_id", "litellm-internal-health-check", "", "", 0.05),
];

/// A model: its public name, what is sent upstream, its share, its deployments, and millionths of a dollar for a token.
struct Model {
    group: &'static str,
    sent: &'static str,
    share: f64,
    deployments: &'static [(&'static str, &'static str)],
    input: f64,
    output: f64,
}

const MODELS: [Model; 4] = [
    Model {
        group: "gpt-4o",
        sent: "gpt-4o-2024-11-20",
        share: 0.35,
        deployments: &[("azure-west", "azure"), ("azure-east", "azure"), ("openai-1", "openai")],
        input: 2.5,
        output: 10.0,
    },
    Model {
        group: "claude-sonnet",
        sent: "claude-sonnet-4-5",
        share: 0.35,
        deployments: &[("bedrock-1", "bedrock"), ("anthropic-1", "anthropic")],
        input: 3.0,
        output: 15.0,
    },
    Model {
        group: "gemini-pro",
        sent: "gemini-2.5-pro",
        share: 0.2,
        deployments: &[("vertex-1", "vertex_ai")],
        input: 1.25,
        output: 10.0,
    },
    // Without a price.
    Model {
        group: "local-llama",
        sent: "llama3.3",
        share: 0.1,
        deployments: &[("ollama-1", "ollama")],
        input: 0.0,
        output: 0.0,
    },
];

/// A relay's database and the traffic that goes into it.
struct Simulator {
    connection: PgConnection,
    rng: StdRng,
    requests: u64,
}

impl Simulator {
    async fn create(url: &str, seed: u64) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await.context("cannot connect to the demo's database")?;
        for script in [LEAST_SCHEMA, include_str!("demo/people.sql"), include_str!("demo/processes.sql")] {
            raw_sql(script).execute(&mut connection).await?;
        }
        Ok(Self { connection, rng: StdRng::seed_from_u64(seed), requests: 0 })
    }

    /// Traffic from `since` until now.
    async fn fill(&mut self, since: DateTime<Utc>, pace: Pace) -> Result<(), sqlx::Error> {
        let mut rows = Vec::new();
        let mut at = since;
        while at < Utc::now() {
            rows.push(self.request(at));
            if rows.len() >= BATCH {
                self.write(std::mem::take(&mut rows)).await?;
            }
            at += pace.pause(at.naive_utc(), &mut self.rng);
        }
        self.write(rows).await?;
        raw_sql("analyze").execute(&mut self.connection).await.map(drop)
    }

    /// Traffic from now on, a batch every other second. Ends when this future is dropped.
    async fn live(&mut self, pace: Pace) -> Result<(), sqlx::Error> {
        let mut next = Utc::now();
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let mut rows = Vec::new();
            while next < Utc::now() {
                rows.push(self.request(next));
                next += pace.pause(next.naive_utc(), &mut self.rng);
            }
            let text = Value::from(rows.as_slice()).to_string();
            for job in [
                include_str!("demo/signs_of_life.sql"),
                include_str!("demo/reset.sql"),
                include_str!("demo/checked.sql"),
            ] {
                raw_sql(job).execute(&mut self.connection).await?;
            }
            self.write(rows).await?;
            for charge in [include_str!("demo/charge.sql"), include_str!("demo/deliveries.sql")] {
                sqlx::query(charge).bind(&text).execute(&mut self.connection).await?;
            }
        }
    }

    /// One request that ends at an instant.
    fn request(&mut self, end: DateTime<Utc>) -> Value {
        self.requests += 1;
        let (user, key, team, organization, _) = pick(&KEYS, |it| it.4, self.rng.random());
        let model = pick(&MODELS, |it| it.share, self.rng.random());
        let (model_id, provider) = model.deployments[self.rng.random_range(0..model.deployments.len())];
        let spread: f64 = self.rng.random_range(-1.0..1.4);
        let ms = (6_000.0 * spread.exp()) as i64;
        let start = end - TimeDelta::milliseconds(ms);
        let prompt = (7_000.0 * spread.exp()) as i64;
        let output = self.rng.random_range(30..1_500);
        let cached = if self.rng.random_bool(0.5) { prompt * 6 / 10 } else { 0 };
        // An agent that serves customers.
        let customer = format!("customer-{}", self.rng.random_range(0..40));
        let end_user = if *key == "bob-agent" { customer } else { String::new() };
        let mut row = json!({
            "request_id": format!("chatcmpl-{:016x}{:08x}", self.rng.random::<u64>(), self.requests),
            "call_type": "acompletion", "key": key, "user": user, "team": team, "organization": organization,
            "end_user": end_user,
            "start": start, "end": end,
            "first": start + TimeDelta::milliseconds(if self.rng.random_bool(0.8) { ms / 6 } else { ms }),
            "model": model.sent, "group": model.group, "model_id": model_id, "provider": provider,
            "prompt": prompt, "completion": output, "status": "success",
            "spend": ((prompt - cached) as f64 + cached as f64 * 0.1) * model.input * 1e-6 + output as f64 * model.output * 1e-6,
            "metadata": {"status": "success", "usage_object": {"prompt_tokens": prompt, "completion_tokens": output,
                "cache_read_input_tokens": cached}}
        });
        // As the proxy of 1.110.2 writes them.
        let (code, class, limited_by) = match self.rng.random_range(0..1000) {
            0..14 => ("429", "RateLimitError", Some("vendor_rate_limit")),
            14..20 => ("500", "InternalServerError", None),
            20..24 => ("408", "Timeout", None),
            24..30 => ("400", "BadRequestError", None),
            30..34 => ("422", "BudgetExceededError", Some("litellm_rate_limit")),
            34..44 => ("499", "HTTPException", None),
            _ => return row,
        };
        // Of a stream that its client left, what was delivered counts.
        if code != "499" {
            for key in ["prompt", "completion", "spend"] {
                row[key] = 0.into();
            }
            row["first"] = row["end"].clone();
        }
        // Refused before anybody was asked; the provider is a guess from the model's name.
        if class == "BudgetExceededError" {
            row["model_id"] = "".into();
            row["start"] = row["end"].clone();
        }
        row["status"] = "failure".into();
        row["metadata"] = json!({"status": "failure", "error_information": {"error_code": code, "error_class": class,
            "llm_provider": if code == "499" { "" } else { provider }, "error_rate_limit_category": limited_by}});
        row
    }

    async fn write(&mut self, rows: Vec<Value>) -> Result<(), sqlx::Error> {
        let rows = Value::from(rows).to_string();
        for text in [include_str!("demo/rows.sql"), include_str!("demo/counters.sql")] {
            sqlx::query(text).bind(&rows).execute(&mut self.connection).await?;
        }
        Ok(())
    }
}

/// A LiteLLM's database in a private PostgreSQL.
///
/// # Errors
/// When PostgreSQL is not installed or does not start.
pub(super) async fn set_up(DemoOptions { history, simulator }: DemoOptions) -> anyhow::Result<Environment> {
    simulator.check()?;
    let postgres = PrivatePostgres::start().await?;
    let url = postgres.database("litellm").await?;
    let mut relay = Simulator::create(&url, history.seed).await?;
    let since = Utc::now() - TimeDelta::days(i64::from(history.days));
    relay.fill(since, Pace::Daily(history.requests_per_day)).await?;
    let urls = Urls { database_url: url.into(), redis_url: None };
    Ok(Environment::until_stopped(urls, async move { relay.live(simulator.pace).await }, postgres))
}
