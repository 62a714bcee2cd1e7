//! `check`: connects, looks, and says what can be read, what cannot, and what it will cost. Changes nothing.

use std::time::Instant;

use chrono::Utc;

use super::ledger::{ROWS, ends};
use super::log_database::log_database_url;
use super::options::Options;
use super::schema::{Level, Schema};
use super::slices::UP;
use super::{Family, database};
use crate::connect::sql::{Database, Session, Value};
use crate::model::ReadError;
use crate::relay::OpenError;
use crate::relay::plan::RelayPlan;
use crate::relay::report::Report;

/// Newest ids that are looked at for their types.
const LOOK_BACK: i64 = 20_000;
/// A log that has nothing newer may not be the one that is written.
const QUIET_SECONDS: i64 = 24 * 3600;
/// Columns that hold secrets, which an account for the exporter need not read.
const SECRETS: [(&str, &str); 4] =
    [("channels", "key"), ("tokens", "key"), ("users", "password"), ("users", "access_token")];

/// Looks at the relay's databases.
///
/// # Errors
/// When an address cannot be used at all.
pub async fn check(plan: &RelayPlan, family: Family) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let mut main = database(plan, &plan.database_url)?;
    let has_log_database = log_database_url(plan).is_some();
    let look = async |session: &mut Session, report: &mut Report| {
        let schema = Schema::detect(session, family).await?;
        if !has_log_database {
            log(session, &schema, family, report).await?;
            find_log(session, &schema, report).await?;
        }
        rest(session, &schema, family, report).await
    };
    look_at("database", &mut main, &mut report, look).await;
    if let Some(url) = log_database_url(plan) {
        let mut logs = database(plan, url)?;
        let look = async |session: &mut Session, report: &mut Report| {
            let schema = Schema::detect(session, family).await?;
            log(session, &schema, family, report).await
        };
        look_at("logs", &mut logs, &mut report, look).await;
    }
    let zone = plan.timezone.unwrap_or(plan.timezone_fallback);
    let from = if plan.timezone.is_some() { "`timezone`" } else { "`timezone_fallback`" };
    report
        .ok("time zone", format!("days begin at midnight of {zone}, from {from}: the relay's pages use the browser's"));
    Ok(report)
}

async fn look_at(
    subject: &'static str,
    database: &mut Database,
    report: &mut Report,
    look: impl AsyncFnOnce(&mut Session, &mut Report) -> Result<(), ReadError>,
) {
    match database.session().await {
        Err(error) => report.problem(subject, error.text),
        Ok(mut session) => {
            report.ok(subject, format!("connected to {}", database.endpoint()));
            if matches!(&session, Session::Sqlite(file) if !file.is_write_ahead()) {
                let text = "the file has no write-ahead log, so a reader makes the relay wait: statements are short, with rests between";
                report.note(subject, text);
            }
            if let Err(error) = look(&mut session, report).await {
                report.problem(subject, error.text);
            }
            database.finish(session).await;
            database.close().await;
        }
    }
}

/// The ledger: its ends, its speed, and what its newest rows tell of the relay's settings.
async fn log(session: &mut Session, schema: &Schema, family: Family, report: &mut Report) -> Result<(), ReadError> {
    schema.look_at_logs()?;
    let ends = ends(session).await?;
    let first = ends.first.map_or(0, |(first, _)| first);
    report.ok("ledger", format!("ids {first} to {} in logs", ends.top));
    let began = Instant::now();
    let after = ends.top - 1000;
    let values = [after, ends.top, 1000].map(Value::Int);
    let text = schema.fit_with(ROWS, &schema.fit(UP));
    let rows = session.fetch("reading a thousand rows", &text, &values, |row| row.int("id")).await?;
    report.ok("cost", format!("{} rows took {:.1?}; a refresh reads new rows only", rows.len(), began.elapsed()));
    if family == Family::NewApi && !schema.has("logs", "other") {
        report.note("ledger", "the column `other` is not there: no cache tokens, no time to first token, no outcomes");
    }
    let (text, after) = (include_str!("sql/newest_types.sql"), [Value::Int(ends.top - LOOK_BACK)]);
    let types = session.fetch_good("looking at the newest rows", text, &after, |row| {
        Ok((row.int("type")?.unwrap_or(0), row.int("newest")?.unwrap_or(0)))
    });
    let types = types.await?;
    let newest = types.iter().map(|(_, newest)| *newest).max().unwrap_or(0);
    if newest < Utc::now().timestamp() - QUIET_SECONDS {
        let text = "no row of the last 24 hours: if the relay is busy, its log is elsewhere (its `LOG_SQL_DSN`): set `log_database_url`";
        report.note("ledger", text);
    }
    if family == Family::NewApi && !types.iter().any(|(kind, _)| *kind == 5) {
        let text = "none of the newest rows is of an attempt that failed: without `ERROR_LOG_ENABLED=true` the relay writes none, and failures are not counted";
        report.note("failures", text);
    }
    if family == Family::OneApi {
        report.note("failures", "the relay writes no row of a request that failed");
    }
    Ok(())
}

/// What else is read: names, quotas, options; and what need not be readable.
async fn rest(session: &mut Session, schema: &Schema, family: Family, report: &mut Report) -> Result<(), ReadError> {
    report.ok("relay", format!("{} {}", family.label(), schema.level().label()));
    if family == Family::OneApi && schema.level() < Level::Timed {
        report.note("relay", "before v0.6.11: no durations and no speeds");
    }
    for (table, what) in
        [("users", "users and their wallets"), ("tokens", "keys and their quotas"), ("channels", "channels")]
    {
        if !schema.has(table, "id") {
            report.problem("grant", format!("{table} cannot be read: no {what}"));
        }
    }
    if schema.options().is_none() {
        report.problem("grant", "neither exporter_options nor options can be read: no costs and no quotas");
    }
    let options = Options::read(session, schema).await?;
    if schema.options().is_some() {
        match options.rate {
            Some(_) => {
                report.ok("money", format!("a dollar is {} units of quota (`QuotaPerUnit`)", options.quota_per_unit));
            }
            None => report.problem("money", "`QuotaPerUnit` is no positive number: no costs and no quotas"),
        }
    }
    if !options.logs_usage {
        report.problem("ledger", "`LogConsumeEnabled` is off: the relay writes no rows");
    }
    if schema.has_view_in_the_way() {
        let text = "the view exporter_options stands in the way of pg_restore --clean: run deploy/new-api/readonly-role.sql again, which makes a function of it";
        report.note("grant", text);
    }
    let secrets: Vec<_> = SECRETS.iter().filter(|(table, column)| schema.has(table, column)).collect();
    if !matches!(session, Session::Sqlite(_)) && !secrets.is_empty() {
        let names: Vec<_> = secrets.iter().map(|(table, column)| format!("{table}.{column}")).collect();
        let scripts = "deploy/new-api has scripts for one that may not";
        report.note("grant", format!("this account may read {}: it need not; {scripts}", names.join(", ")));
    }
    Ok(())
}

/// Requests without a row: the relay may write them elsewhere.
async fn find_log(session: &mut Session, schema: &Schema, report: &mut Report) -> Result<(), ReadError> {
    if !schema.has("users", "request_count") || ends(session).await?.top > 0 {
        return Ok(());
    }
    let text = schema.fit(include_str!("sql/served.sql"));
    let served = session.fetch_one("counting requests", &text, &[], |row| Ok(row.int("requests")?.unwrap_or(0)));
    if served.await? > 0 {
        let text = "logs is empty, but users have made requests: the log is elsewhere (the relay's `LOG_SQL_DSN`): set `log_database_url`; or it was cleaned up";
        report.problem("ledger", text);
    }
    Ok(())
}
