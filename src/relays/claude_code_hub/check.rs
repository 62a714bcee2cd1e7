//! `check`: connects, looks, and says what can be read, what cannot, and what it will cost. Changes nothing.

use std::time::Instant;

use chrono::{DateTime, Utc};
use redis::{FromRedisValue, cmd};
use sqlx::{AssertSqlSafe, Row};

use super::directory::replica_lag;
use super::plans::{self, LARGE, Statement};
use super::schema::{Level, Schema};
use super::zone::{From, Zones};
use super::{Settings, directory, statements};
use crate::connect::postgres::{Database, Snapshot};
use crate::connect::redis::Redis;
use crate::model::ReadError;
use crate::relay::OpenError;
use crate::relay::known_database::Schema as _;
use crate::relay::plan::RelayPlan;
use crate::relay::report::Report;

/// Looks at the relay's stores.
///
/// # Errors
/// When an address cannot be used at all.
pub(crate) async fn check(plan: &RelayPlan) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let mut database = Database::new(&plan.database_url, plan.timeout)?;
    if report.postgres(&mut database, async |snapshot, report| store(snapshot, plan, report).await).await {
        statements(&mut database, &mut report).await;
        database.close().await;
    }
    report.redis(plan, "no sessions, slots, circuits or fixed five-hour windows", live).await?;
    Ok(report)
}

/// A replica that is so far behind is stuck.
const STUCK_SECONDS: f64 = 120.0;

/// The server, the relay's version, zone and size, and what this role may read.
async fn store(snapshot: &mut Snapshot, plan: &RelayPlan, report: &mut Report) -> Result<(), ReadError> {
    let schema = Schema::detect(snapshot).await?;
    let what = "looking at the server";
    let query = sqlx::query(include_str!("estimate.sql")).bind(schema.fact_table());
    let server = snapshot.fetch_one(what, query).await?;
    let wrong = |error: sqlx::Error| snapshot.error(what, &error);
    let version: String = server.try_get("server_version").map_err(wrong)?;
    report.ok("postgres", format!("server version {version}"));
    if server.try_get("superuser").map_err(wrong)? {
        let role: String = server.try_get("role").map_err(wrong)?;
        let script = "deploy/claude-code-hub/readonly-role.sql";
        report.note(
            "role",
            format!("{role} is a superuser; a role from {script} reads all that is needed and no secret"),
        );
    }
    report.ok("relay", format!("Claude Code Hub {}", schema.level.label()));
    if schema.level < Level::Ledger {
        report.note("relay", "no usage ledger before v0.5.9: history ends where the relay's log was cleaned up");
    }
    if schema.level < Level::Outcome {
        report.note("relay", "no outcomes before v0.7.1: they are told from status and error");
    }
    let rows: i64 = server.try_get("rows").map_err(wrong)?;
    let table = schema.fact_table();
    match rows {
        ..0 => report.note("ledger", format!("{table} was never analysed; its size is not known")),
        _ => report.ok("ledger", format!("{table} has about {rows} rows")),
    }
    privileges(&schema, report);
    let settings = Settings::read(snapshot, &schema).await?;
    let (zone, from) = Zones::of(plan).choose(settings.timezone.as_deref());
    let text = format!("days begin at midnight of {zone}, from {}", from.text());
    if from == From::Unknown {
        report.problem("time zone", text);
    } else {
        report.ok("time zone", text);
    }
    match replica_lag(snapshot).await {
        None => {}
        Some(lag) if lag > STUCK_SECONDS => report.problem(
            "replica",
            format!("this is a read replica, {lag:.0} s behind: every number is as old; is its replay paused?"),
        ),
        Some(lag) => report.note("replica", format!("this is a read replica, {lag:.0} s behind its primary")),
    }
    if settings.sessions_untracked {
        report.note("sessions", "the relay's high concurrency mode is on: it tracks no sessions, so none are counted");
    }
    Ok(())
}

/// Names what the role may not read, and what that costs.
fn privileges(schema: &Schema, report: &mut Report) {
    for (table, columns) in schema.unreadable() {
        let columns = columns.join(", ");
        if table == "model_prices" {
            report.note("grant", format!("{table} ({columns}) cannot be read: no savings by the cache"));
        } else {
            report.problem("grant", format!("{table} ({columns}) cannot be read: grant select on these columns"));
        }
    }
}

/// The recurring statements: does each run, and without walking through the whole fact table?
async fn statements(database: &mut Database, report: &mut Report) {
    let schema = match database.snapshot().await {
        Ok(mut snapshot) => {
            let schema = Schema::detect(&mut snapshot).await;
            let size = match &schema {
                Ok(schema) => plans::size(&mut snapshot, schema).await.unwrap_or(0),
                Err(_) => 0,
            };
            database.finish(snapshot).await;
            schema.map(|schema| (schema, size))
        }
        Err(error) => Err(error),
    };
    // Why not has been said already.
    let Ok((schema, size)) = schema else { return };
    let table = schema.fact_table();
    let mut bad = 0;
    for statement in Statement::ALL {
        // Each in its own transaction: a refused one would end the others'.
        let Ok(mut snapshot) = database.snapshot().await else { return };
        let name = statement.label();
        match statement.scans(&mut snapshot, &schema).await {
            Err(error) => {
                bad += 1;
                report.problem("statement", format!("{name}: {}", error.text));
            }
            Ok(true) if size > LARGE => {
                bad += 1;
                let text = format!("{name}: refused, it would walk through all of {table}; {}", plans::HINT);
                report.problem("statement", text);
            }
            Ok(_) => {}
        }
        database.finish(snapshot).await;
    }
    let Ok(mut snapshot) = database.snapshot().await else { return };
    let AssertSqlSafe(keys) = schema.fit(directory::KEYS);
    if let Err(error) = snapshot.fetch("explaining", sqlx::query(AssertSqlSafe(format!("explain {keys}")))).await {
        bad += 1;
        report.problem("statement", format!("directory: {}", error.text));
    }
    database.finish(snapshot).await;
    if bad == 0 {
        let how = if size > LARGE { ", each by an index" } else { "; the ledger is too small to tell about indexes" };
        report.ok("statement", format!("all {} recurring statements run{how}", Statement::ALL.len() + 1));
        cost(database, &schema, Utc::now(), report).await;
    }
}

/// What one refresh takes: its clock, a thousand rows, the same rows again.
async fn cost(database: &mut Database, schema: &Schema, now: DateTime<Utc>, report: &mut Report) {
    let Ok(mut snapshot) = database.snapshot().await else { return };
    let began = Instant::now();
    let rows = sqlx::query(schema.fit_with(statements::ROWS, statements::OLDER)).bind(i64::MAX).bind(1000_i64);
    let read = snapshot.fetch("reading a thousand rows", rows).await;
    let again = sqlx::query(schema.fit_with(statements::ROWS, statements::BETWEEN));
    let again = again.bind(now - chrono::TimeDelta::minutes(1)).bind(now).bind(0_i64).bind(1000_i64);
    let minute = snapshot.fetch("reading the last minute", again).await;
    if let (Ok(read), Ok(minute)) = (read, minute) {
        let (read, minute, took) = (read.len(), minute.len(), began.elapsed());
        let text = format!(
            "{read} rows and the last minute's {minute} took {took:.1?}; a refresh reads new and open rows only"
        );
        report.ok("cost", text);
    }
    database.finish(snapshot).await;
}

async fn live(redis: &mut Redis) -> Result<String, ReadError> {
    let what = "looking at Redis";
    let mut commands =
        vec![cmd("INFO"), cmd("EXISTS"), cmd("TIME"), cmd("ZRANGEBYSCORE"), cmd("HMGET"), cmd("PTTL"), cmd("GET")];
    commands[0].arg("server");
    commands[1].arg("{observed_sessions}:global:active_sessions").arg("{active_sessions}:global:active_sessions");
    commands[1].arg("global:active_sessions");
    commands[3].arg("{observed_sessions}:global:active_sessions").arg("+inf").arg("+inf");
    commands[4].arg("circuit_breaker:state:0").arg("circuitState");
    commands[5].arg("provider:0:cost_5h_fixed");
    commands[6].arg("provider:0:cost_5h_fixed");
    let mut answers = redis.read(what, &commands).await?.into_iter();
    let info = answers.next().and_then(Result::ok).and_then(|info| String::from_redis_value(info).ok());
    let version = info.as_deref().and_then(|info| info.lines().find_map(|line| line.strip_prefix("redis_version:")));
    let sets = answers.next().unwrap_or(Ok(redis::Value::Nil)).map_err(|error| redis.error(what, &error))?;
    for answer in answers {
        answer.map_err(|error| redis.error(what, &error))?;
    }
    let seen = match i64::from_redis_value(sets) {
        Ok(0) => "no session set there now (nobody works, or this is another relay's Redis)",
        _ => "the relay's session sets are there",
    };
    Ok(format!("version {}; {seen}", version.unwrap_or("unknown")))
}
