//! The tally cut into parts, to be written down and taken up again.
//!
//! A part is a key and its bytes. Parts that grow with the history or with traffic are cut by time, and only those that
//! have changed are made again: a day's sums, ten minutes of facts, a chunk of request ids. Windows, weeks, months and marks are not written;
//! they follow from the days and the facts.
//!
//! The bytes are postcard's, which do not describe themselves: whatever changes the shape of a written type must raise
//! [`crate::store::FORMAT`].

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use super::counted::Counted;
use super::counters::Counters;
use super::days::Daily;
use super::log::Log;
use super::{Corrections, Held, Moment, Sym, Tally, identity};
use crate::model::{Calendar, UsageRow};
use crate::parts::{Part, PartError, decoded, encoded};

const MOMENT: &str = "moment";
const CALENDAR: &str = "calendar";
const NAMES: &str = "names";
const HELD: &str = "held";
const TOTALS: &str = "totals";
const DAY_SUMS: &str = "day_sums";
const COUNTERS: &str = "counters";
const BOOKED: &str = "booked";
const COUNTED: &str = "counted/";
const DOUBTFUL: &str = "doubtful/";
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
    counters_complete: bool,
    rows_grow: bool,
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
}

#[derive(Serialize, Deserialize)]
struct CountersPart<C, E> {
    counters: C,
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
            counters_complete: self.counters_complete,
            rows_grow: self.rows_grow,
        };
        let calendar = CalendarPart {
            zone: self.moment.calendar.zone().to_owned(),
            days: self.moment.calendar.days().map(|(date, start)| (date, start.timestamp_micros())).collect(),
        };
        let held: Vec<_> =
            self.held.values().map(|held| HeldPart { row: &held.row, final_since: held.final_since }).collect();
        let booked: Vec<_> = self.booked.values().collect();
        let counters = CountersPart { counters: &self.counters, early_models: &self.early_models };
        let mut parts = vec![
            encoded(MOMENT, &moment)?,
            encoded(CALENDAR, &calendar)?,
            encoded(NAMES, &self.names)?,
            encoded(HELD, &held)?,
            encoded(TOTALS, &self.total)?,
            encoded(DAY_SUMS, &self.day_sums)?,
            encoded(COUNTERS, &counters)?,
            encoded(BOOKED, &booked)?,
        ];
        parts.extend(self.counted.take(all).map(|(chunk, ids)| (format!("{COUNTED}{chunk}"), ids)));
        for (since, ids) in &mut self.doubtful {
            parts.extend(ids.take(all).map(|(chunk, ids)| (format!("{DOUBTFUL}{since}/{chunk}"), ids)));
        }
        parts.extend(self.days.take(all).map(|(date, day)| (format!("{DAY}{date}"), day)));
        parts.extend(self.log.take(all).map(|(start, slot)| (format!("{LOG}{start}"), slot)));
        Ok(parts)
    }

    /// The tally that [`Self::parts`] came from. Takes out the parts that are cut: each is let go of once it is packed.
    ///
    /// # Errors
    /// When a part is missing or cannot be understood.
    pub fn restore(parts: &mut BTreeMap<String, Bytes>) -> Result<Self, PartError> {
        let it: MomentPart = decoded(parts, MOMENT)?;
        let calendar: CalendarPart = decoded(parts, CALENDAR)?;
        let unreadable = || PartError::Unreadable(CALENDAR.to_owned());
        let days = calendar.days.into_iter().map(|(date, start)| Some((date, DateTime::from_timestamp_micros(start)?)));
        let days = days.collect::<Option<Vec<_>>>().ok_or_else(unreadable)?;
        let calendar = Calendar::new(calendar.zone, days).map_err(|_| unreadable())?;
        let moment = Moment { now: it.now, same_time_yesterday: it.same_time_yesterday, calendar: Arc::new(calendar) };
        let held: Vec<HeldPart<UsageRow>> = decoded(parts, HELD)?;
        let held: HashMap<i64, Held> = held
            .into_iter()
            // Any may have changed since, and this process or another may have shown that already.
            .map(|HeldPart { row, final_since }| (row.request_id, Held { row, final_since, next_look: i64::MIN }))
            .collect();
        let booked: Vec<UsageRow> = decoded(parts, BOOKED)?;
        let counters: CountersPart<Counters, HashSet<Sym>> = decoded(parts, COUNTERS)?;
        let unreadable = |name: &str| PartError::Unreadable(name.to_owned());
        let mut pasts: BTreeMap<i64, Vec<(i64, Bytes)>> = BTreeMap::new();
        for (key, ids) in cut::<String>(parts, DOUBTFUL)? {
            let (since, chunk) = key.split_once('/').ok_or_else(|| unreadable(DOUBTFUL))?;
            let number = |text: &str| text.parse().map_err(|_| unreadable(DOUBTFUL));
            pasts.entry(number(since)?).or_default().push((number(chunk)?, ids));
        }
        let ids = |chunks, name| Counted::restore(chunks).ok_or_else(|| unreadable(name));
        let mut tally = Self {
            names: decoded(parts, NAMES)?,
            held,
            floor: it.floor,
            log: Log::restore(cut(parts, LOG)?).ok_or_else(|| PartError::Unreadable(LOG.to_owned()))?,
            days: Daily::restore(cut(parts, DAY)?).ok_or_else(|| PartError::Unreadable(DAY.to_owned()))?,
            counted: ids(cut(parts, COUNTED)?, COUNTED)?,
            doubtful: pasts.into_iter().map(|(since, it)| Ok((since, ids(it, DOUBTFUL)?))).collect::<Result<_, _>>()?,
            booked: booked.into_iter().map(|row| (identity(&row), row)).collect(),
            counters_complete: it.counters_complete,
            rows_grow: it.rows_grow,
            total: decoded(parts, TOTALS)?,
            day_sums: decoded(parts, DAY_SUMS)?,
            counters: counters.counters,
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

/// The parts of something that is cut, by what they are cut by.
fn cut<T: FromStr>(parts: &mut BTreeMap<String, Bytes>, prefix: &str) -> Result<Vec<(T, Bytes)>, PartError> {
    let of_it = parts.extract_if(.., |key, _| key.starts_with(prefix));
    let parsed = of_it.map(|(key, bytes)| match key[prefix.len()..].parse() {
        Ok(by) => Ok((by, bytes)),
        Err(_) => Err(PartError::Unreadable(key)),
    });
    parsed.collect()
}
