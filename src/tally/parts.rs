//! The tally cut into parts, to be written down and taken up again.
//!
//! A part is a key and its bytes. Parts that grow with the history or with traffic are cut by time, and only those that
//! have changed are made again: a day's sums, ten minutes of facts. Windows, weeks, months and marks are not written;
//! they follow from the days and the facts.
//!
//! The bytes are postcard's, which do not describe themselves: whatever changes the shape of a written type must raise
//! [`crate::store::FORMAT`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use hashbrown::{HashMap, HashSet};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::days::Daily;
use super::log::Log;
use super::{Corrections, Counted, Held, Moment, Sym, Tally, next_look};
use crate::model::{Calendar, UsageRow, Usd};

/// A part that exists: its bytes, or `None` where nothing in it has changed since the last time.
pub type Part = (String, Option<Bytes>);

#[derive(Debug, thiserror::Error)]
pub enum PartError {
    #[error("the part {0:?} is missing")]
    Missing(String),
    #[error("the part {0:?} cannot be understood")]
    Unreadable(String),
    #[error("the part {0:?} cannot be written")]
    Unwritable(String),
}

const MOMENT: &str = "moment";
const CALENDAR: &str = "calendar";
const NAMES: &str = "names";
const HELD: &str = "held";
const TOTALS: &str = "totals";
const DAY_SUMS: &str = "day_sums";
const COUNTERS: &str = "counters";
const DAY: &str = "day/";
const LOG: &str = "log/";

#[derive(Serialize, Deserialize)]
struct MomentPart {
    now: DateTime<Utc>,
    same_time_yesterday: DateTime<Utc>,
    floor: i64,
    covered_since: i64,
    newest: Option<DateTime<Utc>>,
    corrections: Corrections,
}

#[derive(Serialize, Deserialize)]
struct CalendarPart {
    zone: String,
    days: Vec<(NaiveDate, i64)>,
}

#[derive(Serialize, Deserialize)]
struct HeldPart<R> {
    row: R,
    final_since: Option<i64>,
    charged: Option<Usd>,
}

#[derive(Serialize, Deserialize)]
struct CountersPart<C, N, E> {
    counters: C,
    carried: Option<C>,
    counted: N,
    early_models: E,
}

impl Tally {
    /// Every part; those that are cut by time without their bytes unless they have changed, or `all` are wanted.
    ///
    /// # Errors
    /// When a part cannot be written.
    pub fn parts(&mut self, all: bool) -> Result<Vec<Part>, PartError> {
        let moment = MomentPart {
            now: self.moment.now,
            same_time_yesterday: self.moment.same_time_yesterday,
            floor: self.floor,
            covered_since: self.covered_since,
            newest: self.newest,
            corrections: self.corrections,
        };
        let calendar = CalendarPart {
            zone: self.moment.calendar.zone().to_owned(),
            days: self.moment.calendar.days().map(|(date, start)| (date, start.timestamp_micros())).collect(),
        };
        let held: Vec<_> = self
            .held
            .values()
            .map(|held| HeldPart { row: &held.row, final_since: held.final_since, charged: held.charged })
            .collect();
        let counters = CountersPart {
            counters: &self.counters,
            carried: self.carried.as_ref(),
            counted: &self.counted,
            early_models: &self.early_models,
        };
        let mut parts = vec![
            encoded(MOMENT, &moment)?,
            encoded(CALENDAR, &calendar)?,
            encoded(NAMES, &self.names)?,
            encoded(HELD, &held)?,
            encoded(TOTALS, &self.total)?,
            encoded(DAY_SUMS, &self.day_sums)?,
            encoded(COUNTERS, &counters)?,
        ];
        parts.extend(self.days.take(all).map(|(date, day)| (format!("{DAY}{date}"), day)));
        parts.extend(self.log.take(all).map(|(start, slot)| (format!("{LOG}{start}"), slot)));
        Ok(parts)
    }

    /// The tally that [`Self::parts`] came from.
    ///
    /// # Errors
    /// When a part is missing or cannot be understood.
    pub fn restore(parts: &BTreeMap<String, Bytes>) -> Result<Self, PartError> {
        let it: MomentPart = decoded(parts, MOMENT)?;
        let calendar: CalendarPart = decoded(parts, CALENDAR)?;
        let unreadable = || PartError::Unreadable(CALENDAR.to_owned());
        let days = calendar.days.into_iter().map(|(date, start)| Some((date, DateTime::from_timestamp_micros(start)?)));
        let days = days.collect::<Option<Vec<_>>>().ok_or_else(unreadable)?;
        let calendar = Calendar::new(calendar.zone, days).map_err(|_| unreadable())?;
        let moment = Moment { now: it.now, same_time_yesterday: it.same_time_yesterday, calendar: Arc::new(calendar) };
        let now = moment.now.timestamp();

        let held: Vec<HeldPart<UsageRow>> = decoded(parts, HELD)?;
        let held: HashMap<i64, Held> = held
            .into_iter()
            .map(|HeldPart { row, final_since, charged }| {
                // Due at once, unless it is read again as new: a cost that came since must be in the first page, or a
                // counter would fall.
                let next_look = if row.id > it.floor { next_look(now, final_since) } else { i64::MIN };
                (row.request_id, Held { row, final_since, next_look, charged })
            })
            .collect();
        let counters: CountersPart<Counters, Counted, HashSet<Sym>> = decoded(parts, COUNTERS)?;
        let mut slots = Vec::new();
        let mut days = Vec::new();
        for (key, bytes) in parts {
            if let Some(start) = key.strip_prefix(LOG) {
                let start = start.parse().map_err(|_| PartError::Unreadable(key.clone()))?;
                slots.push((start, bytes.clone()));
            } else if let Some(date) = key.strip_prefix(DAY) {
                let date = date.parse().map_err(|_| PartError::Unreadable(key.clone()))?;
                days.push((date, bytes.clone()));
            }
        }
        let mut tally = Self {
            names: decoded(parts, NAMES)?,
            held,
            floor: it.floor,
            log: Log::restore(slots).ok_or_else(|| PartError::Unreadable(LOG.to_owned()))?,
            days: Daily::restore(days).ok_or_else(|| PartError::Unreadable(DAY.to_owned()))?,
            total: decoded(parts, TOTALS)?,
            day_sums: decoded(parts, DAY_SUMS)?,
            counters: counters.counters,
            carried: counters.carried,
            counted: counters.counted,
            early_models: counters.early_models,
            corrections: it.corrections,
            covered_since: it.covered_since,
            newest: it.newest,
            ..Self::new(moment)
        };
        tally.rebuild_windows();
        Ok(tally)
    }
}

/// What has been written, in no more memory than it takes: the vector may have grown to twice of it.
pub(super) fn tight(bytes: Vec<u8>) -> Bytes {
    bytes.into_boxed_slice().into()
}

/// A part with its bytes.
///
/// # Errors
/// When the value cannot be written.
pub fn encoded(key: &str, value: &impl Serialize) -> Result<Part, PartError> {
    let bytes = postcard::to_stdvec(value).map_err(|_| PartError::Unwritable(key.to_owned()))?;
    Ok((key.to_owned(), Some(bytes.into())))
}

/// The value of a part.
///
/// # Errors
/// When the part is missing, cannot be understood, or has bytes to spare.
pub fn decoded<T: DeserializeOwned>(parts: &BTreeMap<String, Bytes>, key: &str) -> Result<T, PartError> {
    let bytes = parts.get(key).ok_or_else(|| PartError::Missing(key.to_owned()))?;
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(PartError::Unreadable(key.to_owned())),
    }
}
