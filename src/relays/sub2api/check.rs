//! `check`: connects, looks, and says what can be read, what cannot, and what it will cost. Changes nothing.

use std::time::Instant;

use chrono::{Offset, Utc};
use redis::{FromRedisValue, cmd};
use sqlx::Row;

use super::directory::{ACCOUNTS, KEYS, PLATFORM_QUOTAS, SUBSCRIPTIONS, USERS};
use super::ledger::{OLDER, ROWS};
use super::schema::{Level, Schema};
use super::windows;
use super::zone::{From, Zones};
use crate::connect::postgres::{Database, Snapshot};
use crate::connect::redis::Redis;
use crate::model::ReadError;
use crate::relay::OpenError;
use crate::relay::known_database::Schema as _;
use crate::relay::plan::RelayPlan;
use crate::relay::report::Report;

/// What tells the settings of its operations monitoring, where the administrator has made it.
const SETTINGS: &str = "relay_exporter_ops_settings";
/// Columns that nobody but the relay need read.
const SECRETS: [(&str, &str); 4] =
    [("accounts", "credentials"), ("api_keys", "key"), ("users", "email"), ("users", "password_hash")];

/// Looks at the relay's stores.
///
/// # Errors
/// When an address cannot be used at all.
pub async fn check(plan: &RelayPlan) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let mut database = Database::new(&plan.database_url, plan.timeout)?;
    if report.postgres(&mut database, async |snapshot, report| store(snapshot, plan, report).await).await {
        database.close().await;
    }
    report.redis(plan, "no slots and no running requests", live).await?;
    Ok(report)
}

async fn store(snapshot: &mut Snapshot, plan: &RelayPlan, report: &mut Report) -> Result<(), ReadError> {
    let schema = Schema::detect(snapshot).await?;
    report.ok("relay", format!("sub2api {}, by its columns", schema.level().label()));
    if schema.level() == Level::Old {
        report.problem("relay", "releases before 0.1.104 are not supported");
    }
    privileges(&schema, report);
    zone(snapshot, &schema, plan, report).await?;
    failures(snapshot, &schema, report).await?;
    if !schema.may_call(windows::FUNCTION) {
        let lost = "no windows of upstream subscriptions and no limits of accounts";
        report.note("accounts", format!("{}() is not there: {lost}; {SCRIPT} makes it", windows::FUNCTION));
    }
    cost(snapshot, &schema, report).await?;
    for text in [USERS, KEYS, ACCOUNTS] {
        snapshot.fetch("reading the directory", sqlx::query(schema.fit(text))).await?;
    }
    for (table, text) in [("user_subscriptions", SUBSCRIPTIONS), ("user_platform_quotas", PLATFORM_QUOTAS)] {
        if schema.reads(table) {
            snapshot.fetch("reading the directory", sqlx::query(schema.fit(text)).bind("UTC")).await?;
        }
    }
    report.ok("directory", "users, keys, accounts and quotas can be read");
    Ok(())
}

const SCRIPT: &str = "deploy/sub2api/readonly-role.sql";

/// Names what the role may not read and what it need not.
fn privileges(schema: &Schema, report: &mut Report) {
    for (table, columns) in schema.unreadable() {
        let columns = columns.join(", ");
        report.problem("grant", format!("{table} ({columns}) cannot be read: run {SCRIPT} again"));
    }
    let secrets: Vec<String> =
        SECRETS.iter().filter(|(table, column)| schema.has(table, column)).map(|(t, c)| format!("{t}.{c}")).collect();
    if !secrets.is_empty() {
        report.note("grant", format!("this role may read {}: it need not; {SCRIPT} makes one", secrets.join(", ")));
    }
}

async fn zone(
    snapshot: &mut Snapshot,
    schema: &Schema,
    plan: &RelayPlan,
    report: &mut Report,
) -> Result<(), ReadError> {
    let (zone, from) = Zones::of(plan).choose(snapshot, schema).await?;
    let text = |from: &str| format!("days begin at midnight of {zone}, from {from}");
    match from {
        From::Configuration => report.ok("time zone", text("`timezone`")),
        From::Relay => report.ok("time zone", text("the relay")),
        From::Nothing => report.note("time zone", text("`timezone_fallback`: the relay does not tell before 0.1.177")),
        From::Unknown(name) => {
            report
                .problem("time zone", text(&format!("`timezone_fallback`: {name} is not known here; set `timezone`")));
        }
    }
    if Utc::now().with_timezone(&zone).offset().fix().local_minus_utc() % 3600 != 0 {
        let text = "the relay's own dashboards lose requests in zones that are no whole hours from UTC; the numbers here are \
                    summed up from its rows";
        report.note("time zone", text);
    }
    Ok(())
}

/// What keeps errors out of the ledger.
async fn failures(snapshot: &mut Snapshot, schema: &Schema, report: &mut Report) -> Result<(), ReadError> {
    if !schema.has_table("ops_error_logs") {
        report.note("failures", "the relay has no error log: no failures");
    }
    if schema.reads("ops_system_metrics") {
        let what = "looking at the operations monitoring";
        let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/monitoring.sql"))).await?;
        match row.try_get("runs").map_err(|error| snapshot.error(what, &error))? {
            true => report.ok("failures", "the relay's operations monitoring runs"),
            false => report.problem(
                "failures",
                "the relay's operations monitoring has written nothing for five minutes: it is off, or the relay is; \
                 failures are not counted then",
            ),
        }
    }
    if !schema.may_call(SETTINGS) {
        report.note(
            "failures",
            format!("{SETTINGS}() is not there: what the relay ignores is not known; {SCRIPT} makes it"),
        );
        return Ok(());
    }
    let what = "reading what the relay ignores";
    for row in snapshot.fetch(what, sqlx::query(include_str!("sql/settings.sql"))).await? {
        let read = || Ok::<(String, Option<String>), sqlx::Error>((row.try_get("name")?, row.try_get("value")?));
        let (name, value) = read().map_err(|error| snapshot.error(what, &error))?;
        match (name.as_str(), value.as_deref()) {
            ("ops_monitoring_enabled", Some("false" | "0" | "off" | "disabled")) => {
                report.problem("failures", "`ops_monitoring_enabled` is off: the relay writes no errors");
            }
            // No page of the relay counts these, nor do we.
            ("ignore_count_tokens_errors", _) => {}
            (ignores, Some("true")) => {
                report.note("failures", format!("`{ignores}` is on: the relay does not write these"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What a refresh takes: both ends, and a thousand rows.
async fn cost(snapshot: &mut Snapshot, schema: &Schema, report: &mut Report) -> Result<(), ReadError> {
    let began = Instant::now();
    let what = "reading a thousand rows";
    let query = sqlx::query(schema.fit_with(ROWS, OLDER)).bind(i64::MAX).bind(1000_i64);
    let rows = snapshot.fetch(what, query).await?.len();
    report.ok("cost", format!("{rows} rows took {:.1?}; a refresh reads new rows only", began.elapsed()));
    Ok(())
}

async fn live(redis: &mut Redis) -> Result<String, ReadError> {
    let what = "looking at Redis";
    let mut commands = vec![cmd("TIME"), cmd("ZCOUNT"), cmd("INFO")];
    commands[1].arg("concurrency:account:0").arg("-inf").arg("+inf");
    commands[2].arg("server");
    let mut answers = redis.read(what, &commands).await?;
    let info = answers.pop().and_then(Result::ok).and_then(|info| String::from_redis_value(info).ok());
    let version = info.as_deref().and_then(|info| info.lines().find_map(|line| line.strip_prefix("redis_version:")));
    for answer in answers {
        answer.map_err(|error| redis.error(what, &error))?;
    }
    Ok(format!("version {}; slots can be counted", version.unwrap_or("unknown")))
}
