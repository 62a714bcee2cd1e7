//! The error log, which is the ledger's second table: a sequence of ids of its own, read upwards from its oldest row.
//!
//! No day, window or board has its rows, so they need no order among the others, and may be delivered again.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::row::{self, identity};
use super::schema::Schema;
use crate::connect::postgres::Snapshot;
use crate::model::{ReadError, UsageRow};
use crate::relay::overlap::Overlap;
use crate::relay::shared_names::SharedNames;
use crate::relay::stable_ids::{RowIdentity, StableIds};
use crate::relay::{Refused, TimeRange};

const ERRORS: &str = include_str!("sql/errors.sql");
const NEW: &str = "e.id > $1 order by e.id limit $2";
const AGAIN: &str = "e.id = any($1)";
/// The newest of a span: those of which the exporter still has single rows.
const NEWEST: &str = "e.created_at >= $1 and e.created_at < $2 order by e.created_at desc limit $3";

/// How far the error log has been read.
pub(super) struct ErrorLog {
    overlap: Overlap,
    stable_ids: StableIds,
}

/// Which errors to read.
pub(super) enum Which<'a> {
    Again(&'a [i64]),
    Newest { of: &'a TimeRange, limit: i64 },
}

/// What was read of it.
#[derive(Default)]
pub(super) struct Errors {
    pub rows: Vec<UsageRow>,
    pub refused: Refused,
    pub more: bool,
}

impl ErrorLog {
    /// From its oldest row on.
    pub(super) fn begin(second: i64) -> Self {
        Self { overlap: Overlap::after(second, 0), stable_ids: StableIds::default() }
    }

    /// All will be read again, under the same ids.
    pub(super) fn again(&mut self, second: i64) {
        self.overlap = Overlap::after(second, 0);
    }

    pub(super) fn resume_token(&self) -> String {
        let overlap = serde_json::to_string(&self.overlap).unwrap_or_default();
        format!("{overlap}|{}", self.stable_ids.resume_token())
    }

    /// `None` when it is none.
    pub(super) fn restore(resume_token: &str) -> Option<Self> {
        let (overlap, stable_ids) = resume_token.split_once('|')?;
        Some(Self { overlap: serde_json::from_str(overlap).ok()?, stable_ids: StableIds::restore(stable_ids)? })
    }

    /// New rows, and those that have become visible late.
    pub(super) async fn new_rows(
        &mut self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        second: i64,
        limit: u32,
        names: &mut SharedNames,
    ) -> Result<Errors, ReadError> {
        let what = "looking at both ends of the error log";
        let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/error_ends.sql"))).await?;
        let number = |column| row.try_get::<Option<i64>, _>(column).map_err(|error| snapshot.error(what, &error));
        let (top, oldest) = (number("top")?.unwrap_or(0), number("first")?.zip(number("first_at")?));
        let latest = number("latest")?;
        // The relay empties it by its own rules.
        self.stable_ids
            .notice_lost("the error log", oldest, top, latest, snapshot, |snapshot, first, last| {
                Box::pin(identities(snapshot, first, last))
            })
            .await?;
        let after = self.stable_ids.id_up_to(self.overlap.floor());
        let query = sqlx::query(schema.fit_with(ERRORS, NEW)).bind(after).bind(i64::from(limit));
        let rows = snapshot.fetch("reading new errors", query).await?;
        let mut errors = Errors { more: rows.len() >= limit as usize, ..Errors::default() };
        self.understand(&rows, names, &mut errors);
        let last = rows.last().map_or(after, |row| row.try_get("id").unwrap_or(after));
        self.stable_ids.remember(rows.iter().filter_map(|row| identity(row, "key_id").ok()));
        self.stable_ids.top(top);
        let reached = self.stable_ids.of(if errors.more { last } else { top.max(last) });
        self.overlap.note(second, reached.max(self.overlap.top()));
        Ok(errors)
    }

    pub(super) async fn read(
        &self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        which: Which<'_>,
        names: &mut SharedNames,
    ) -> Result<Errors, ReadError> {
        let query = match which {
            Which::Again(stable_ids) => {
                let ids: Vec<i64> = stable_ids.iter().filter_map(|id| self.stable_ids.id(*id)).collect();
                sqlx::query(schema.fit_with(ERRORS, AGAIN)).bind(ids)
            }
            Which::Newest { of, limit } => {
                sqlx::query(schema.fit_with(ERRORS, NEWEST)).bind(of.start).bind(of.end).bind(limit)
            }
        };
        let rows = snapshot.fetch("reading errors again", query).await?;
        let mut errors = Errors::default();
        self.understand(&rows, names, &mut errors);
        Ok(errors)
    }

    fn understand(&self, rows: &[PgRow], names: &mut SharedNames, errors: &mut Errors) {
        for it in rows {
            let id: i64 = it.try_get("id").unwrap_or(0);
            let row = row::error(it, self.stable_ids.of(id), names);
            let position = it.try_get("position").unwrap_or(0);
            errors.rows.extend(errors.refused.sift(row, position).flatten());
        }
    }
}

async fn identities(snapshot: &mut Snapshot, first: i64, last: i64) -> Result<Vec<RowIdentity>, ReadError> {
    let query = sqlx::query(include_str!("sql/error_identities.sql")).bind(first).bind(last);
    let rows = snapshot.fetch("looking at errors again", query).await?;
    Ok(rows.iter().filter_map(|row| identity(row, "key").ok()).collect())
}
