//! `check`: connects, looks, and says what can be read and what cannot. Changes nothing.

use sqlx::Row;

use super::missed::Compared;
use super::schema::{COUNTERS, DELIVERIES, END_USERS, ROWS, Schema, WORKERS};
use super::{counts_days, statements};
use crate::connect::postgres::{Database, Snapshot};
use crate::model::ReadError;
use crate::relay::OpenError;
use crate::relay::known_database::Schema as _;
use crate::relay::plan::RelayPlan;
use crate::relay::report::Report;

const SCRIPT: &str = "deploy/litellm/readonly-role.sql";

/// Looks at the relay's database.
///
/// # Errors
/// When the address cannot be used at all.
pub async fn check(plan: &RelayPlan) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let mut database = Database::new(&plan.database_url, plan.timeout)?;
    if report.postgres(&mut database, async |snapshot, report| look(snapshot, counts_days(plan), report).await).await {
        database.close().await;
    }
    Ok(report)
}

async fn look(snapshot: &mut Snapshot, in_days: bool, report: &mut Report) -> Result<(), ReadError> {
    let schema = Schema::detect(snapshot).await?;
    server(snapshot, report).await?;
    for (table, columns) in schema.unreadable() {
        let columns = columns.join(", ");
        report.problem("grant", format!("{table} ({columns}) cannot be read: run {SCRIPT}"));
    }
    if schema.has(END_USERS, "end_user_id") && !schema.reads(END_USERS) {
        let text = format!("they are not counted: the role may not read {END_USERS} (date, end_user_id), see {SCRIPT}");
        report.note("end users", text);
    }
    let what = "looking for an index";
    let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/index.sql"))).await?;
    match row.try_get("is_indexed").map_err(|error| snapshot.error(what, &error))? {
        true => report.ok("index", "rows are found by their start"),
        false => {
            report.problem("index", format!("no index of {ROWS} begins with \"startTime\": every look reads it all"));
        }
    }
    processes(snapshot, &schema, report).await?;
    if schema.reads_column(ROWS, "startTime") && schema.reads(COUNTERS) {
        completeness(snapshot, in_days, report).await?;
    }
    Ok(())
}

async fn server(snapshot: &mut Snapshot, report: &mut Report) -> Result<(), ReadError> {
    let what = "looking at the server";
    let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/server.sql"))).await?;
    let wrong = |error: sqlx::Error| snapshot.error(what, &error);
    let version: &str = row.try_get("version").map_err(wrong)?;
    report.ok("postgres", format!("server version {version}"));
    if row.try_get("superuser").map_err(wrong)? {
        let role: &str = row.try_get("role").map_err(wrong)?;
        report.note(
            "role",
            format!("{role} is a superuser; a role from {SCRIPT} reads all that is needed and no prompt"),
        );
    }
    match row.try_get::<Option<i64>, _>("rows").map_err(wrong)?.unwrap_or(0) {
        0 => report.note("ledger", format!("{ROWS} is empty, or was never analysed")),
        rows => report.ok("ledger", format!("{ROWS} has about {rows} rows")),
    }
    Ok(())
}

/// LiteLLM's own processes, as far as its release tells of them.
async fn processes(snapshot: &mut Snapshot, schema: &Schema, report: &mut Report) -> Result<(), ReadError> {
    if schema.reads(WORKERS) {
        match statements::workers_alive(snapshot).await? {
            0 => report.note("workers", "no worker of LiteLLM has given a sign of life for three minutes"),
            alive => report.ok("workers", format!("workers of LiteLLM that are alive: {alive}")),
        }
    }
    if schema.reads(DELIVERIES) {
        let (pending, parked) = statements::backlog(snapshot).await?;
        let told = format!("LiteLLM has yet to account for {pending} requests, and has given up on {parked}");
        if parked > 0 {
            report.note("deliveries", format!("{told}: its budgets and its Usage page lack those"));
        } else {
            report.ok("deliveries", told);
        }
    }
    Ok(())
}

/// The rows of yesterday against LiteLLM's own counters: some of its settings leave requests without a row.
async fn completeness(snapshot: &mut Snapshot, in_days: bool, report: &mut Report) -> Result<(), ReadError> {
    let Compared { rows, counted } = Compared::read(snapshot, None).await?;
    let told = format!("yesterday has {rows} rows, and LiteLLM counted {counted} requests");
    if in_days {
        report.ok("usage", "taken from LiteLLM's counters by day: no durations, no error codes, no deployments");
        if rows > 0 {
            report.note("requests", format!("{told}; `usage = \"rows\"` tells more"));
        } else {
            report.ok("requests", told);
        }
        return Ok(());
    }
    match counted - rows {
        missed if missed > 0 && rows == 0 => {
            let why = "is `disable_spend_logs` or `SPEND_LOGS_URL` set? Then say `usage = \"days\"`";
            report.problem("requests", format!("{told}; without rows nothing can be told: {why}"));
        }
        missed if missed > 0 => {
            let why = "requests of one id leave one row, and batches are lost when the database is away";
            report.note("requests", format!("{told}; {missed} left no row: {why}"));
        }
        missed if missed < 0 => {
            let why = "releases up to 1.86 lost counts, and its Usage page shows too little";
            report.note("requests", format!("{told}; {why}"));
        }
        _ => report.ok("requests", told),
    }
    let what = "looking for failures";
    let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/failed.sql"))).await?;
    let has_failed: bool = row.try_get("has_failed").map_err(|error| snapshot.error(what, &error))?;
    if rows > 0 && !has_failed {
        let why = "`disable_error_logs` leaves failures without a row";
        report.note("failures", format!("no request of yesterday failed; {why}, and nobody counts them then"));
    }
    Ok(())
}
