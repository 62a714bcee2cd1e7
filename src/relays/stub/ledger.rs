//! Its table as a ledger of rows that are final when they appear, and the users that appear in it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::Row;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};

use crate::connect::sqlite::File;
use crate::model::LedgerSum;
use crate::model::{Directory, Facts, Outcome, ReadError, Reason, Tokens, UsageRow, Usd, User};
use crate::relay::civil::Calendars;
use crate::relay::plan::RelayPlan;
use crate::relay::{DirectorySource, Ledger, Older, OpenError, Refresh, RefreshRequest, Refused, TimeRange, civil};

pub(super) struct Reader {
    file: File,
    calendars: Calendars,
}

impl Reader {
    pub(super) fn new(plan: &RelayPlan) -> Result<Self, OpenError> {
        let file = File::new(&plan.database_url, plan.timeout, plan.timeout)?;
        Ok(Self { file, calendars: Calendars::new(Tz::UTC) })
    }

    /// The greatest id.
    pub(super) async fn top(&mut self) -> Result<i64, ReadError> {
        Ok(self.ends().await?.0)
    }

    /// The greatest id and the first time.
    async fn ends(&mut self) -> Result<(i64, DateTime<Utc>), ReadError> {
        let ends = |row: &SqliteRow| Ok((row.try_get("top")?, time(row.try_get("first")?)));
        let ends = self.read("reading the ends", sqlx::query(include_str!("ends.sql")), ends).await?;
        ends.first().copied().ok_or_else(|| ReadError::new(Reason::Data, "reading the ends: nothing"))
    }

    async fn read<T>(
        &mut self,
        what: &str,
        query: Query<'_, sqlx::Sqlite, SqliteArguments>,
        read: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, ReadError> {
        let mut snapshot = self.file.snapshot().await?;
        let rows = snapshot.fetch(what, query).await;
        let rows = rows.and_then(|rows| {
            rows.iter().map(read).collect::<Result<Vec<T>, _>>().map_err(|error| snapshot.error(what, &error))
        });
        snapshot.close().await;
        rows
    }
}

#[async_trait]
impl Ledger for Reader {
    fn facts(&self) -> Facts {
        Facts { list_cost: false, in_progress: false, imports: false, refunds: false, teams: false, ..Facts::ALL }
    }

    async fn refresh(&mut self, request: &RefreshRequest) -> Result<Refresh, ReadError> {
        let (top, first) = self.ends().await?;
        let now = Utc::now();
        let mut rows = Vec::new();
        if let Some(after) = request.after {
            let new = sqlx::query(include_str!("new.sql")).bind(after).bind(i64::from(request.limit));
            rows = self.read("reading new rows", new, row).await?;
        }
        let more = rows.len() >= request.limit as usize && request.after.is_some();
        let again =
            sqlx::query(include_str!("again.sql")).bind(serde_json::Value::from(request.reread.as_slice()).to_string());
        rows.extend(self.read("reading rows again", again, row).await?);
        let mut audit = Vec::new();
        for span in &request.audit {
            let rows = self.rows_between(span.clone(), 0, u32::MAX).await?;
            let mut sum = LedgerSum::default();
            for row in rows {
                sum.count(0, row.model.as_deref(), row.outcome, 1);
                sum.cost += row.cost;
                sum.board_tokens += row.board_tokens;
            }
            audit.push(Some(sum));
        }
        Ok(Refresh {
            now,
            same_time_yesterday: civil::day_before(Tz::UTC, now),
            calendar: self.calendars.get(first.min(now).date_naive(), now.date_naive())?,
            basis: String::new(),
            tariff: String::new(),
            top,
            kept_since: None,
            month_since: None,
            rows,
            more,
            refused: Refused::default(),
            audit,
            lost_rows: false,
            resume_token: String::new(),
            zone_error: None,
        })
    }

    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError> {
        let older = sqlx::query(include_str!("older.sql")).bind(below).bind(i64::from(limit));
        let rows = self.read("reading older rows", older, row).await?;
        Ok(Older { bottom: rows.len() < limit as usize, rows, refused: Refused::default() })
    }

    async fn rows_between(&mut self, range: TimeRange, after: i64, limit: u32) -> Result<Vec<UsageRow>, ReadError> {
        let between = sqlx::query(include_str!("between.sql"));
        let between = between.bind(range.start.timestamp_millis()).bind(range.end.timestamp_millis());
        self.read("reading rows of a span", between.bind(after).bind(i64::from(limit)), row).await
    }
}

#[async_trait]
impl DirectorySource for Reader {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        let user = |row: &SqliteRow| {
            let name: String = row.try_get("user")?;
            Ok(User {
                id: id_of(&name).into(),
                name,
                role: String::new(),
                enabled: None,
                deleted: false,
                expires_at: None,
                sessions: None,
                requests_per_minute: None,
                balance: None,
            })
        };
        let users = Reader::read(self, "reading users", sqlx::query(include_str!("users.sql")), user).await?;
        Ok(Directory { users, version: "1".to_owned(), timezone: "UTC".to_owned(), ..Directory::default() })
    }
}

fn row(row: &SqliteRow) -> Result<UsageRow, sqlx::Error> {
    let (id, tokens) = (row.try_get("id")?, row.try_get::<u32, _>("tokens")?.into());
    Ok(UsageRow {
        id,
        request_id: id,
        started_at: time(row.try_get("time")?),
        counted: true,
        is_final: true,
        outcome: Some(Outcome::Success),
        is_success: Some(true),
        user_id: id_of(row.try_get("user")?),
        model: Some(row.try_get::<&str, _>("model")?.into()),
        cost: Usd::from_f64(row.try_get("cost")?).unwrap_or(Usd::ZERO),
        tokens: Tokens { input: tokens, ..Tokens::default() },
        board_tokens: tokens,
        ..UsageRow::default()
    })
}

fn time(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// Users are texts here, and numbers in the ledger.
fn id_of(user: &str) -> i64 {
    user.bytes().fold(7, |id: i64, byte| id.wrapping_mul(31).wrapping_add(byte.into())).rem_euclid(1 << 40)
}
