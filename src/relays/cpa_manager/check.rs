//! `check`: opens, looks, and says what can be read, what cannot, and what it will cost. Changes nothing.

use std::time::Instant;

use chrono::{TimeDelta, Utc};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Row, Sqlite};

use super::directory::SEEN;
use super::ledger::{AGAIN, AUDIT, BETWEEN, ENDS, MARKS, NEW, OLDER, ROWS};
use super::live::{COLLECTOR, COOLDOWNS, PLANS, QUOTA_WINDOWS};
use super::prices::Prices;
use super::row::RowReader;
use super::schema::{Level, Schema};
use crate::connect::sqlite::Snapshot;
use crate::model::{ReadError, Usd};
use crate::relay::OpenError;
use crate::relay::plan::RelayPlan;
use crate::relay::report::Report;

/// Looks at the relay's file.
///
/// # Errors
/// When the address cannot be used at all.
pub async fn check(plan: &RelayPlan) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let file = super::file(plan)?;
    match file.snapshot().await {
        Err(error) => report.problem("sqlite", error.text),
        Ok(mut snapshot) => {
            report.ok("sqlite", format!("opened {} read-only", file.endpoint()));
            if let Err(error) = store(&mut snapshot, plan, &mut report).await {
                report.problem("sqlite", error.text);
            }
            snapshot.close().await;
        }
    }
    Ok(report)
}

/// The relay's generation, size and days, its newest rows, and what the recurring statements do.
async fn store(snapshot: &mut Snapshot, plan: &RelayPlan, report: &mut Report) -> Result<(), ReadError> {
    if !snapshot.is_write_ahead() {
        report.note("sqlite", "the file has no write-ahead log: is the relay that writes it a CPA-Manager?");
    }
    let schema = Schema::detect(snapshot).await?;
    report.ok("relay", schema.level.label());
    if schema.level < Level::Plus {
        report.note("relay", "before Plus: no time to first token, no status of failures, no quotas");
    } else if !schema.has("account_quota_snapshots", "idx_quota_snapshots_latest") {
        report
            .note("relay", "no quota windows and plans: idx_quota_snapshots_latest is missing, which came with v1.12");
    }
    let ends = snapshot.fetch_one("looking at the ledger", sqlx::query(ENDS)).await?;
    let top: i64 = ends.try_get("top").unwrap_or(0);
    report.ok("ledger", format!("usage_events ends at id {top}"));
    let zone = plan.timezone.unwrap_or(plan.timezone_fallback);
    let from = if plan.timezone.is_some() { "`timezone`" } else { "`timezone_fallback`" };
    report
        .ok("time zone", format!("days begin at midnight of {zone}, from {from}: the relay's pages use the browser's"));
    aggregate(snapshot, &schema, report).await?;
    newest(snapshot, &schema, report).await?;
    statements(snapshot, &schema, report).await;
    Ok(())
}

/// Plus adds up its events by the hour, for itself: where that is done, it must agree with the events.
async fn aggregate(snapshot: &mut Snapshot, schema: &Schema, report: &mut Report) -> Result<(), ReadError> {
    if !schema.has_table("usage_hourly_aggregate_v1") {
        return Ok(());
    }
    let what = "comparing the relay's hourly sums";
    let Some(row) = snapshot.fetch(what, sqlx::query(include_str!("aggregate.sql"))).await?.pop() else {
        return Ok(());
    };
    let count = |column| row.try_get::<i64, _>(column).map_err(|error| snapshot.error(what, &error));
    let (covered, calls, events) = (count("covered")?, count("calls")?, count("events")?);
    if calls == events {
        report.ok("ledger", format!("the relay's hourly sums up to id {covered} agree: {calls} requests"));
    } else {
        let text = format!("the relay's hourly sums have {calls} requests up to id {covered}, its events {events}");
        report.note("ledger", format!("{text}; events were deleted, or the sums are being made again"));
    }
    Ok(())
}

/// A thousand rows: can they be understood, are they priced, are they live?
async fn newest(snapshot: &mut Snapshot, schema: &Schema, report: &mut Report) -> Result<(), ReadError> {
    let began = Instant::now();
    let mut prices = Prices::default();
    prices.renew(snapshot, schema).await?;
    let query = sqlx::query(schema.fit_with(ROWS, OLDER)).bind(i64::MAX).bind(1000_i64);
    let read = snapshot.fetch("reading a thousand rows", query).await?;
    let mut reader = RowReader::default();
    let rows: Vec<_> = read.iter().filter_map(|row| reader.read(row, schema.level, &prices).ok()).collect();
    let took = began.elapsed();
    report.ok("cost", format!("the newest {} rows took {took:.1?}; a refresh reads new rows only", read.len()));
    if rows.len() < read.len() {
        report.problem("ledger", format!("{} of them cannot be understood", read.len() - rows.len()));
    }
    let mut unpriced: Vec<&str> = rows
        .iter()
        .filter(|row| row.cost == Usd::ZERO && row.tokens.total() > 0)
        .filter_map(|row| row.model.as_deref())
        .collect();
    unpriced.sort_unstable();
    unpriced.dedup();
    if !unpriced.is_empty() {
        report.note("prices", format!("without a price, so they cost nothing: {}", unpriced.join(", ")));
    }
    let imported = rows.iter().filter(|row| row.imported).count();
    if imported > 0 {
        let why = "imports, or the proxy's clock is an hour behind the manager's";
        report.note(
            "ledger",
            format!(
                "{imported} of them were recorded an hour or more after they happened ({why}): no counter has them"
            ),
        );
    }
    Ok(())
}

/// The recurring statements: does each run, and without walking through the whole table?
async fn statements(snapshot: &mut Snapshot, schema: &Schema, report: &mut Report) {
    let (now, id) = (Utc::now(), 1_i64);
    let minute_ago = (now - TimeDelta::minutes(1)).timestamp_millis();
    let now = now.timestamp_millis();
    let rows = |which| schema.fit_with(ROWS, which);
    let all: [(&str, Query<'_, Sqlite, SqliteArguments>); 9] = [
        ("ends", explain(AssertSqlSafe(ENDS.to_owned()))),
        ("marks", explain(AssertSqlSafe(MARKS.to_owned())).bind(id).bind(id).bind(id)),
        ("new rows", explain(rows(NEW)).bind(id).bind(id)),
        ("rows again", explain(rows(AGAIN)).bind("[1]")),
        ("older rows", explain(rows(OLDER)).bind(id).bind(id)),
        ("span", explain(rows(BETWEEN)).bind(minute_ago).bind(now).bind(id).bind(id)),
        ("audit", explain(schema.fit(AUDIT)).bind(minute_ago).bind(now).bind(id)),
        ("who is who", explain(AssertSqlSafe(SEEN.to_owned())).bind(id).bind(id)),
        ("collector", explain(AssertSqlSafe(COLLECTOR.to_owned()))),
    ];
    let plus = [
        ("cooldowns", "quota_cooldowns", "auth_index", COOLDOWNS),
        ("quota windows", "account_quota_snapshots", "idx_quota_snapshots_latest", QUOTA_WINDOWS),
        ("plans", "account_quota_snapshots", "idx_quota_snapshots_latest", PLANS),
    ];
    let plus = plus.into_iter().filter(|(_, table, column, _)| schema.has(table, column));
    let all: Vec<_> =
        all.into_iter().chain(plus.map(|(name, _, _, text)| (name, explain(AssertSqlSafe(text.to_owned()))))).collect();
    let number = all.len();
    let mut bad = 0;
    for (name, query) in all {
        match snapshot.fetch("explaining", query).await {
            Err(error) => {
                bad += 1;
                report.problem("statement", format!("{name}: {}", error.text));
            }
            Ok(plan) => {
                let scanned = ["usage_events", "account_quota_snapshots"].into_iter().find(|table| {
                    let scan = format!("SCAN {table}");
                    plan.iter().any(|step| step.try_get::<&str, _>("detail").is_ok_and(|step| step == scan))
                });
                // The newest row is the first of a walk backwards.
                if let Some(table) = scanned.filter(|_| name != "collector") {
                    bad += 1;
                    report.problem(
                        "statement",
                        format!("{name}: walks through all of {table}; an index of the relay is missing"),
                    );
                }
            }
        }
    }
    if bad == 0 {
        report.ok("statement", format!("all {number} recurring statements run, each by an index"));
    }
}

fn explain<'q>(AssertSqlSafe(text): AssertSqlSafe<String>) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(AssertSqlSafe(format!("explain query plan {text}")))
}
