//! Rows of the past, hour by hour.

use std::ops::Range;

use chrono::NaiveDateTime;

use super::ledger::{LedgerReader, Listing};
use super::positions::{RowKey, first_of, hour_at, hour_of, start_of};
use super::schema::Schema;
use super::statements;
use crate::connect::postgres::Snapshot;
use crate::model::{ReadError, UsageRow};
use crate::relay::{Older, Refused};

/// Hours of the past that are listed at once, where they have few rows.
const LISTED_HOURS: i64 = 48;

impl LedgerReader {
    /// The rows of an hour with their positions, ascending. Rows of the hours that are remembered get one if they have
    /// none yet; others are numbered anew.
    async fn list(&mut self, snapshot: &mut Snapshot, hour: i64) -> Result<Listing, ReadError> {
        let mut found = statements::keys(snapshot, start_of(hour)..start_of(hour + 1)).await?;
        found.sort_unstable();
        let there = found.len();
        let is_known = hour >= self.positions.lowest();
        let mut rows: Vec<(i64, RowKey)> = Vec::with_capacity(there);
        for (at, key) in found.into_iter().enumerate() {
            let position = if is_known {
                self.positions.find(&key).or_else(|| self.positions.give(&key))
            } else {
                Some(first_of(hour) + at as i64)
            };
            rows.extend(position.map(|position| (position, key)));
        }
        if is_known {
            self.positions.note_present(hour, there);
        }
        rows.sort_unstable();
        Ok(Listing { hours: hour..hour + 1, is_history: false, rows })
    }

    /// The rows of the past in an hour and those before it, about `limit` of them. What has got its position since the
    /// reading of the past began comes by itself.
    async fn list_history(&mut self, snapshot: &mut Snapshot, hour: i64, limit: usize) -> Result<Listing, ReadError> {
        let (mut first, mut sum) = (hour, 0);
        for (it, rows) in
            statements::rows_by_hour(snapshot, &(start_of(hour - LISTED_HOURS)..start_of(hour))).await?.iter().rev()
        {
            sum += rows;
            if sum > limit {
                break;
            }
            first = *it;
        }
        let mut found = statements::keys(snapshot, start_of(first)..start_of(hour + 1)).await?;
        found.sort_unstable();
        let lowest = self.positions.lowest();
        let mut rows: Vec<(i64, RowKey)> = Vec::with_capacity(found.len());
        for key in found {
            let known = self.positions.find(&key);
            let position = if key.hour() < lowest {
                known.or_else(|| self.positions.give(&key))
            } else {
                known.filter(|position| self.positions.is_history(*position))
            };
            rows.extend(position.map(|position| (position, key)));
        }
        self.positions.open(first..lowest.min(hour + 1));
        rows.sort_unstable();
        Ok(Listing { hours: first..hour + 1, is_history: true, rows })
    }

    pub(super) async fn read_older(
        &mut self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        below: i64,
        limit: usize,
    ) -> Result<Older, ReadError> {
        let (mut below, mut refused) = (below, Refused::default());
        loop {
            let hour = hour_of(below - 1);
            let listing = match self.listing.take() {
                Some(listing) if listing.hours.contains(&hour) && listing.is_history => listing,
                _ => self.list_history(snapshot, hour, limit).await?,
            };
            let end = listing.rows.partition_point(|(position, _)| *position < below);
            let wanted = &listing.rows[end.saturating_sub(limit)..end];
            let Some((lowest, _)) = wanted.first() else {
                let Some(before) = statements::hour_before(snapshot, listing.hours.start).await? else {
                    return Ok(Older { rows: Vec::new(), bottom: true, refused });
                };
                below = first_of(before + 1);
                continue;
            };
            let lowest = *lowest;
            let batch = self.fetch(snapshot, schema, "reading older rows", wanted).await?;
            refused.merge(batch.refused);
            if batch.rows.is_empty() {
                below = lowest;
                self.listing = Some(listing);
                continue;
            }
            self.listing = Some(listing);
            return Ok(Older { rows: batch.rows, bottom: false, refused });
        }
    }

    pub(super) async fn read_between(
        &mut self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        range: &Range<NaiveDateTime>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<UsageRow>, ReadError> {
        let mut after = after;
        let mut hour = hour_at(range.start).max(hour_of(after));
        while start_of(hour) < range.end {
            let listing = match self.listing.take() {
                Some(listing) if listing.hours.contains(&hour) && !listing.is_history => listing,
                _ => self.list(snapshot, hour).await?,
            };
            let wanted = listing.rows.iter().filter(|(position, key)| *position > after && range.contains(&key.start));
            let wanted: Vec<(i64, RowKey)> = wanted.take(limit).cloned().collect();
            let Some((last, _)) = wanted.last() else {
                hour += 1;
                continue;
            };
            after = *last;
            let mut rows = self.fetch(snapshot, schema, "reading rows of a span", &wanted).await?.rows;
            self.listing = Some(listing);
            if !rows.is_empty() {
                rows.sort_unstable_by_key(|row| row.id);
                return Ok(rows);
            }
        }
        Ok(Vec::new())
    }
}
