//! The usage ledger: by id for what is new, by request for what may still change, by time for the audit.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, LocalResult, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Row};

use super::plans::{Plans, Statement};
use super::prices::Prices;
use super::row::{BillingModel, End, RowReader};
use super::schema::{Level, Schema};
use super::zone::Zones;
use crate::connect::postgres::{Database, Snapshot};
use crate::model::LedgerSum;
use crate::model::{Calendar, Facts, ReadError, Reason, Scope, UsageRow, Usd};
use crate::relay::known_database::KnownDatabase;
use crate::relay::{Ledger, Older, Refresh, RefreshRequest, Refused, TimeRange};

pub(crate) struct LedgerReader {
    database: KnownDatabase<Schema>,
    zones: Zones,
    plans: Plans,
    prices: Prices,
    rows: RowReader,
    /// With the local date and zone that it was made for.
    calendar: Option<(NaiveDate, Arc<Calendar>)>,
}

/// What the meaning of rows rests on, at one moment.
struct Basis {
    schema: Arc<Schema>,
    zone: Tz,
    billing: BillingModel,
}

/// Rows as they came: some may be refused.
struct Batch {
    rows: Vec<UsageRow>,
    refused: Refused,
    read: usize,
}

impl LedgerReader {
    pub(crate) fn new(database: Database, zones: Zones) -> Self {
        let (plans, prices, rows) = (Plans::default(), Prices::default(), RowReader::default());
        Self { database: KnownDatabase::new(database), zones, plans, prices, rows, calendar: None }
    }

    async fn basis(&mut self, snapshot: &mut Snapshot, schema: Arc<Schema>) -> Result<Basis, ReadError> {
        let settings = super::Settings::read(snapshot, &schema).await?;
        self.prices.renew(snapshot, &schema).await?;
        let billing = BillingModel::of_setting(&settings.billing_model_source);
        Ok(Basis { schema, zone: self.zones.choose(settings.timezone.as_deref()).0, billing })
    }

    /// A statement cut to fit, unless its plan is refused.
    fn statement(&self, statement: Statement, schema: &Schema) -> Result<AssertSqlSafe<String>, ReadError> {
        self.plans.permit(statement, schema).map(|()| statement.sql(schema))
    }

    /// Looks at the plans before anything is read by them.
    async fn renew_plans(&mut self) -> Result<(), ReadError> {
        let (snapshot, schema) = self.database.snapshot().await?;
        self.database.end(snapshot, Ok(())).await?;
        self.plans.renew(self.database.database(), &schema).await
    }

    async fn read_refresh(
        &mut self,
        snapshot: &mut Snapshot,
        schema: Arc<Schema>,
        request: &RefreshRequest,
    ) -> Result<Refresh, ReadError> {
        let basis = self.basis(snapshot, schema).await?;
        let zone = basis.zone.name();
        let what = "reading the ledger's clock";
        let clock =
            snapshot.fetch_one(what, sqlx::query(self.statement(Statement::Clock, &basis.schema)?).bind(zone)).await?;
        let moment = |column| clock.try_get(column).map_err(|error| snapshot.error(what, &error));
        let (now, same_time_yesterday) = (moment("now")?, moment("same_time_yesterday")?);
        let date = |column| clock.try_get(column).map_err(|error| snapshot.error(what, &error));
        let (first, today) = (date("first_date")?, date("today")?);
        let top = clock.try_get("top").map_err(|error| snapshot.error(what, &error))?;
        let calendar = self.calendar(snapshot, zone, first, today).await?;

        let mut rows = Vec::new();
        let mut refused = Refused::default();
        let mut more = false;
        if let Some(after) = request.after {
            let query = sqlx::query(self.statement(Statement::NewRows, &basis.schema)?)
                .bind(after)
                .bind(i64::from(request.limit));
            let batch = self.batch(snapshot, "reading new rows", query, &basis).await?;
            more = batch.read >= request.limit as usize;
            rows = batch.rows;
            refused = batch.refused;
        }
        if !request.reread.is_empty() {
            let query = sqlx::query(self.statement(Statement::OpenRows, &basis.schema)?).bind(&request.reread);
            let batch = self.batch(snapshot, "reading open rows again", query, &basis).await?;
            rows.extend(batch.rows);
            refused.merge(batch.refused);
        }
        let mut audit = Vec::with_capacity(request.audit.len());
        for span in &request.audit {
            let query = sqlx::query(self.statement(Statement::Audit, &basis.schema)?).bind(span.start).bind(span.end);
            let what = "summing the ledger";
            let groups = snapshot.fetch(what, query).await?;
            audit.push(Some(ledger_sum(&groups, basis.billing).map_err(|error| snapshot.error(what, &error))?));
        }
        // Claude Code Hub's log cleanup deletes from the request log and leaves the ledger alone (`log-cleanup/service.ts`).
        let kept_since = (basis.schema.level < Level::Ledger).then_some(first);
        let basis = format!("{zone}; {}; {}", basis.billing.label(), basis.schema.level.label());
        Ok(Refresh {
            now,
            same_time_yesterday,
            calendar,
            basis,
            tariff: String::new(),
            top,
            kept_since,
            month_since: None,
            rows,
            more,
            refused,
            audit,
            lost_rows: false,
            resume_token: String::new(),
            zone_error: None,
        })
    }

    /// The cached calendar while zone and date stay and no row lies before it.
    async fn calendar(
        &mut self,
        snapshot: &mut Snapshot,
        zone: &str,
        first: NaiveDate,
        today: NaiveDate,
    ) -> Result<Arc<Calendar>, ReadError> {
        if let Some((made_on, calendar)) = &self.calendar
            && *made_on == today
            && calendar.zone() == zone
            && calendar.first_date() <= first
        {
            return Ok(Arc::clone(calendar));
        }
        let what = "reading the calendar";
        let query = sqlx::query(include_str!("calendar.sql")).bind(zone).bind(first).bind(today);
        let rows = snapshot.fetch(what, query).await?;
        let days = rows.iter().map(|row| Ok((row.try_get("date")?, row.try_get("start")?))).collect::<Result<_, _>>();
        let days = days.map_err(|error| snapshot.error(what, &error))?;
        let calendar = Calendar::new(zone, days).map_err(|error| {
            ReadError::new(Reason::Data, format!("{what} of {zone} from {first} to {today}: {error}"))
        })?;
        let calendar = Arc::new(calendar);
        self.calendar = Some((today, Arc::clone(&calendar)));
        Ok(calendar)
    }

    async fn batch(
        &mut self,
        snapshot: &mut Snapshot,
        what: &str,
        query: Query<'_, sqlx::Postgres, PgArguments>,
        basis: &Basis,
    ) -> Result<Batch, ReadError> {
        let read = snapshot.fetch(what, query).await?;
        let mut batch = Batch { rows: Vec::with_capacity(read.len()), refused: Refused::default(), read: read.len() };
        for row in &read {
            let read = self.rows.read(row, basis.billing, &self.prices);
            let id = row.try_get("id").map_err(|error| snapshot.error(what, &error))?;
            batch.rows.extend(batch.refused.sift(read, id));
        }
        Ok(batch)
    }
}

#[async_trait]
impl Ledger for LedgerReader {
    fn facts(&self) -> Facts {
        Facts { list_cost: false, imports: false, refunds: false, teams: false, ..Facts::ALL }
    }

    async fn refresh(&mut self, request: &RefreshRequest) -> Result<Refresh, ReadError> {
        if self.plans.due() {
            self.renew_plans().await?;
        }
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let result = self.read_refresh(&mut snapshot, schema, request).await;
        self.database.end(snapshot, result).await
    }

    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError> {
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let result = async {
            let basis = self.basis(&mut snapshot, schema).await?;
            let query =
                sqlx::query(self.statement(Statement::OlderRows, &basis.schema)?).bind(below).bind(i64::from(limit));
            let batch = self.batch(&mut snapshot, "reading older rows", query, &basis).await?;
            Ok(Older { rows: batch.rows, bottom: batch.read < limit as usize, refused: batch.refused })
        }
        .await;
        self.database.end(snapshot, result).await
    }

    async fn rows_between(&mut self, range: TimeRange, after: i64, limit: u32) -> Result<Vec<UsageRow>, ReadError> {
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let result = async {
            let basis = self.basis(&mut snapshot, schema).await?;
            let query = sqlx::query(self.statement(Statement::Span, &basis.schema)?);
            let query = query.bind(range.start).bind(range.end).bind(after).bind(i64::from(limit));
            let mut rows = self.batch(&mut snapshot, "reading rows of a span", query, &basis).await?.rows;
            rows.sort_unstable_by_key(|row| row.id);
            Ok(rows)
        }
        .await;
        self.database.end(snapshot, result).await
    }

    async fn spent(&mut self, scope: Scope, id: i64, range: TimeRange) -> Result<Usd, ReadError> {
        let Some(statement) = Statement::spent_by(scope) else {
            return Err(ReadError::new(Reason::Data, "the relay sets no limit on a model"));
        };
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let what = "summing one entity's spending";
        let result = async {
            let query = sqlx::query(self.statement(statement, &schema)?).bind(id).bind(range.start).bind(range.end);
            let row = snapshot.fetch_one(what, query).await?;
            row.try_get("cost_usd").map(Usd::from_decimal).map_err(|error| snapshot.error(what, &error))
        }
        .await;
        self.database.end(snapshot, result).await
    }

    fn day_before(&self, zone: Tz, instant: DateTime<Utc>) -> DateTime<Utc> {
        day_before(zone, instant)
    }

    fn statements(&self) -> Vec<(&'static str, bool)> {
        self.plans.all()
    }
}

/// What `clock.sql` says, of another instant. Where a clock change makes it ambiguous or skips it, as PostgreSQL reads it
/// (`DetermineTimeZoneOffset`): the later of two, and in a gap as the clock went before.
fn day_before(zone: Tz, instant: DateTime<Utc>) -> DateTime<Utc> {
    let local = instant.with_timezone(&zone).naive_local() - TimeDelta::days(1);
    let found = match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(_, at) => Some(at),
        LocalResult::None => {
            let before = TimeDelta::hours(6);
            zone.from_local_datetime(&(local - before)).latest().map(|at| at + before)
        }
    };
    found.map_or(instant - TimeDelta::days(1), |at| at.to_utc())
}

fn ledger_sum(groups: &[PgRow], billing: BillingModel) -> Result<LedgerSum, sqlx::Error> {
    let mut sum = LedgerSum { millis: Some(0), ..LedgerSum::default() };
    for group in groups {
        let count = |column| group.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or(0));
        let requests = count("requests")?;
        let model = billing.of(group.try_get::<Option<&str>, _>("original_model")?, group.try_get("model")?);
        sum.count(group.try_get("provider_id")?, model, End::of(group)?.outcome(), requests);
        sum.cost += Usd::from_decimal(group.try_get("cost_usd")?);
        let tokens = group.try_get::<Decimal, _>("board_tokens")?.to_u64().unwrap_or(u64::MAX);
        sum.board_tokens = sum.board_tokens.saturating_add(tokens);
        sum.errors += count("errors")?;
        sum.millis = Some(sum.millis.unwrap_or(0) + count("millis")?);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_before_follows_the_clock_on_the_wall() {
        let berlin = chrono_tz::Europe::Berlin;
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (now, yesterday) in [
            ("2026-03-10T11:00:00Z", "2026-03-09T11:00:00Z"),
            // The day of 23 hours, and the day after it.
            ("2026-03-29T10:00:00Z", "2026-03-28T11:00:00Z"),
            ("2026-03-30T10:00:00Z", "2026-03-29T10:00:00Z"),
            // 02:30 did not exist: PostgreSQL says 03:30.
            ("2026-03-30T00:30:00Z", "2026-03-29T01:30:00Z"),
            // 02:30 came twice: the second.
            ("2026-10-26T01:30:00Z", "2026-10-25T01:30:00Z"),
        ] {
            assert_eq!(day_before(berlin, at(now)), at(yesterday), "{now}");
        }
    }
}
