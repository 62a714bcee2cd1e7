//! The statements with one answer, or a simple list.

use std::ops::Range;

use chrono::{DateTime, NaiveDateTime, Utc};
use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use super::positions::{RowKey, hour_at, start_of};
use super::row;
use super::schema::filled;
use crate::connect::postgres::Snapshot;
use crate::model::{LedgerSum, ReadError, Usd};
use crate::relay::TimeRange;

/// The server's clock, and the start of the oldest row.
pub(super) async fn clock(snapshot: &mut Snapshot) -> Result<(NaiveDateTime, NaiveDateTime), ReadError> {
    let what = "reading the clock";
    let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/clock.sql"))).await?;
    let read = || {
        let now = row.try_get::<DateTime<Utc>, _>("now")?.naive_utc();
        Ok((now, row.try_get::<Option<NaiveDateTime>, _>("first")?.unwrap_or(now)))
    };
    read().map_err(|error| snapshot.error(what, &error))
}

/// What tells the rows of a span.
pub(super) async fn keys(snapshot: &mut Snapshot, span: Range<NaiveDateTime>) -> Result<Vec<RowKey>, ReadError> {
    let what = "looking for rows";
    let query = sqlx::query(include_str!("sql/ids.sql")).bind(span.start).bind(span.end);
    keys_of(snapshot, what, query).await
}

/// The last hour before another that has rows.
pub(super) async fn hour_before(snapshot: &mut Snapshot, hour: i64) -> Result<Option<i64>, ReadError> {
    let what = "looking for older rows";
    let query = sqlx::query(include_str!("sql/before.sql")).bind(start_of(hour));
    let row = snapshot.fetch_one(what, query).await?;
    let last: Option<NaiveDateTime> = row.try_get("last").map_err(|error| snapshot.error(what, &error))?;
    Ok(last.map(hour_at))
}

/// The store's own sum of a span.
pub(super) async fn sum(snapshot: &mut Snapshot, span: &TimeRange) -> Result<LedgerSum, ReadError> {
    let what = "summing rows";
    let query = sqlx::query(filled(include_str!("sql/audit.sql")));
    let query = query.bind(span.start.naive_utc()).bind(span.end.naive_utc());
    let row = snapshot.fetch_one(what, query).await?;
    let read = || {
        let femto: &str = row.try_get("femto")?;
        let femto = femto.parse().map_err(|_| sqlx::Error::Decode("a sum of money is no number".into()))?;
        Ok(LedgerSum {
            requests: count(&row, "requests")?,
            cost: Usd::from_femto(femto),
            board_tokens: count(&row, "board_tokens")?,
            errors: count(&row, "errors")?,
            ..LedgerSum::default()
        })
    };
    read().map_err(|error| snapshot.error(what, &error))
}

/// What tells the rows that have been accounted for since a moment.
pub(super) async fn arrivals(snapshot: &mut Snapshot, since: NaiveDateTime) -> Result<Vec<RowKey>, ReadError> {
    keys_of(snapshot, "looking for late rows", sqlx::query(include_str!("sql/arrivals.sql")).bind(since)).await
}

async fn keys_of(
    snapshot: &mut Snapshot,
    what: &str,
    query: Query<'_, sqlx::Postgres, PgArguments>,
) -> Result<Vec<RowKey>, ReadError> {
    let rows = snapshot.fetch(what, query).await?;
    rows.iter().map(row::key).collect::<Result<_, _>>().map_err(|error| snapshot.error(what, &error))
}

/// How many rows started in each hour of a span.
pub(super) async fn rows_by_hour(
    snapshot: &mut Snapshot,
    span: &Range<NaiveDateTime>,
) -> Result<Vec<(i64, usize)>, ReadError> {
    let what = "counting rows by hour";
    let query = sqlx::query(include_str!("sql/hours.sql")).bind(span.start).bind(span.end);
    let rows = snapshot.fetch(what, query).await?;
    let read = |row: &PgRow| {
        let rows: i64 = row.try_get("rows")?;
        Ok((row.try_get("hour")?, usize::try_from(rows).unwrap_or(0)))
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| snapshot.error(what, &error))
}

/// Worker processes that have given a sign of life lately.
pub(super) async fn workers_alive(snapshot: &mut Snapshot) -> Result<u64, ReadError> {
    let what = "counting workers";
    let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/workers.sql"))).await?;
    count(&row, "alive").map_err(|error| snapshot.error(what, &error))
}

/// Requests that LiteLLM has yet to account for, and those that it has given up on.
pub(super) async fn backlog(snapshot: &mut Snapshot) -> Result<(u64, u64), ReadError> {
    let what = "counting deliveries";
    let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/backlog.sql"))).await?;
    let read = || Ok((count(&row, "pending")?, count(&row, "parked")?));
    read().map_err(|error| snapshot.error(what, &error))
}

/// End users with requests today.
pub(super) async fn end_users(snapshot: &mut Snapshot) -> Result<u64, ReadError> {
    let what = "counting end users";
    let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/end_users.sql"))).await?;
    count(&row, "active").map_err(|error| snapshot.error(what, &error))
}

fn count(row: &PgRow, column: &str) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or(0))
}
