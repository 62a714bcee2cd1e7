//! LiteLLM's own counters by day, held against its rows: what it has counted more has left no row.

use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::schema::filled;
use crate::connect::postgres::Snapshot;
use crate::model::ReadError;

/// A day is looked at when nothing of it comes late any more, as rows do after an outage.
const SETTLED: Days = Days::new(2);

/// Requests of one day.
pub(super) struct Compared {
    /// Of callers, by rows.
    pub rows: i64,
    /// Of callers, as LiteLLM counted them.
    pub counted: i64,
}

impl Compared {
    /// Of a day, or of yesterday.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn read(snapshot: &mut Snapshot, date: Option<NaiveDate>) -> Result<Self, ReadError> {
        let what = "comparing a day with LiteLLM's counters";
        let query = sqlx::query(filled(include_str!("sql/compare.sql"))).bind(date);
        let row = snapshot.fetch_one(what, query).await?;
        let count = |column| row.try_get::<i64, _>(column).map_err(|error| snapshot.error(what, &error));
        Ok(Self { rows: count("rows")?, counted: count("counted")? })
    }
}

/// What has left no row, since the ledger was first read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Missed {
    /// Requests.
    pub total: u64,
    /// The last day that was looked at.
    until: NaiveDate,
}

impl Missed {
    /// From the days on that are not settled yet.
    pub(super) fn since(today: NaiveDate) -> Self {
        Self { total: 0, until: today - SETTLED }
    }

    /// The day that is looked at next.
    pub(super) fn next(&self) -> NaiveDate {
        self.until + Days::new(1)
    }

    /// Looks at the next day that has settled, if there is one. Of days at the `oldest` row retention may have some; one of
    /// which it is not affordable to count the rows is passed over.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn look(
        &mut self,
        snapshot: &mut Snapshot,
        today: NaiveDate,
        oldest: NaiveDate,
        is_affordable: bool,
    ) -> Result<(), ReadError> {
        let date = self.next();
        if date > today - SETTLED {
            return Ok(());
        }
        if date > oldest && is_affordable {
            let day = Compared::read(snapshot, Some(date)).await?;
            self.total += u64::try_from(day.counted - day.rows).unwrap_or(0);
        }
        self.until = date;
        Ok(())
    }
}
