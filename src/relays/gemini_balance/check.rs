//! `check`: connects, looks, and says what can be read, what cannot, and what it will cost. Changes nothing.

use std::time::Instant;

use chrono::TimeDelta;

use super::attempt::Status;
use super::clock::{self, Clock};
use super::store::{Session, Which};
use crate::connect::sql::Database;
use crate::model::ReadError;
use crate::relay::OpenError;
use crate::relay::plan::RelayPlan;
use crate::relay::report::Report;

/// Looks at the relay's database.
///
/// # Errors
/// When the address cannot be used at all.
pub async fn check(plan: &RelayPlan) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let clock = Clock::new(plan);
    let mut database = super::database(plan)?;
    match database.session().await {
        Err(error) => report.problem("database", error.text),
        Ok(session) => {
            let mut session = Session(session);
            report.ok("database", format!("connected to {}", database.endpoint()));
            if let Err(error) = tables(&mut session, clock, &mut report).await {
                report.problem("ledger", error.text);
            }
            error_log(&mut session, &mut report).await;
            database.finish(session.0).await;
            settings(&mut database, &mut report).await;
            database.close().await;
        }
    }
    Ok(report)
}

async fn tables(session: &mut Session, clock: Clock, report: &mut Report) -> Result<(), ReadError> {
    let ends = session.ends().await?;
    let began = Instant::now();
    let newest = session.attempts("reading a thousand rows", Which::Before { upto: ends.top, limit: 1000 }).await?;
    let took = began.elapsed();
    report.ok("relay", "gemini-balance: t_request_log has the columns of v2.2");
    let first = ends.first.map_or(0, |(id, _)| id);
    report.ok("ledger", format!("ids {first} to {} in t_request_log, of which only the id has an index", ends.top));
    report.ok("cost", format!("{} rows took {took:.1?}; a refresh reads new rows only", newest.len()));

    let zone = clock.zone();
    let text = format!("the relay's times are read as of {zone}");
    if clock.is_configured() {
        report.ok("time zone", format!("{text}, from `timezone` of the configuration"));
    } else {
        report.note(
            "time zone",
            format!("{text}, from `timezone_fallback`: its Docker image has it; else set `timezone`"),
        );
    }
    let attempts = || newest.iter().flatten();
    if let Some(ended) = attempts().find_map(|attempt| {
        let started = clock.instant(attempt.at?)?;
        Some(started + TimeDelta::milliseconds(attempt.latency_ms.unwrap_or(0)))
    }) {
        let age = (ends.now - ended).num_seconds();
        let human = humantime::format_duration(std::time::Duration::from_secs(age.unsigned_abs()));
        match (age, clock::error(age).filter(|error| *error != 0).map(clock::hours)) {
            (..-300, _) => {
                report.problem("time zone", format!("the newest row is of the future, by {human}: set `timezone` to the relay's"));
            }
            (_, Some(hours)) => report.note(
                "time zone",
                format!("the newest row is {hours} hours old, almost to the minute: if the relay is busy, `timezone` is wrong"),
            ),
            _ => report.ok("time zone", format!("the newest row is {human} old")),
        }
    }
    let texts = attempts().filter(|it| it.status == Status::Text).count();
    if texts > 0 {
        report.note(
            "ledger",
            format!(
                "{texts} of the newest rows have a text for a status code: the relay's own call details fail on them"
            ),
        );
    }
    Ok(())
}

async fn error_log(session: &mut Session, report: &mut Report) {
    match session.errors(0, 0).await {
        Ok(_) => report.ok("error log", "t_error_logs can be read"),
        Err(error) => report.note("error log", format!("cannot be read, so it is not counted: {}", error.text)),
    }
}

/// The settings hold every secret of the relay in clear: an account need not read them.
async fn settings(database: &mut Database, report: &mut Report) {
    let Ok(mut session) = database.session().await.map(Session) else { return };
    match session.pool_keys().await {
        Ok(keys) => report.ok("keys", format!("{} keys are in the pool (they are hashed at once)", keys.len())),
        Err(error) => report.note(
            "keys",
            format!(
                "which keys are in the pool cannot be read, so those that have been used are shown: {}",
                error.text
            ),
        ),
    }
    if session.is_server() && session.reads_settings().await {
        report.note("grant", "this account may read t_settings, with the relay's keys and passwords: it need not");
    }
    database.finish(session.0).await;
}
