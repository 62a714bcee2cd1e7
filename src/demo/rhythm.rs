//! When people work, and what has gone wrong: the shape of the history over days and hours of the relay's time zone.

use std::ops::Range;
use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use rand::Rng;
use rand::rngs::StdRng;

use crate::model::local_instant;

/// Relative traffic of each hour of a day.
pub(crate) const HOURS: [f64; 24] = [
    0.22, 0.12, 0.07, 0.05, 0.05, 0.07, 0.12, 0.25, 0.55, 0.95, 1.05, 0.95, 0.60, 0.75, 1.10, 1.15, 1.10, 0.95, 0.60,
    0.55, 0.70, 0.75, 0.60, 0.40,
];

/// Relative traffic of a day; the mean over a week is 1.
pub(crate) fn day(date: NaiveDate) -> f64 {
    match date.weekday() {
        Weekday::Sat => 0.42,
        Weekday::Sun => 0.38,
        Weekday::Mon => 1.20,
        Weekday::Fri => 1.14,
        _ => 1.286,
    }
}

/// How many requests come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many per second at any hour.
    Steady(f64),
    /// As in a history with so many on an average day.
    Daily(u32),
}

impl Pace {
    /// Requests per second at a local time.
    pub(crate) fn per_second(self, local: NaiveDateTime) -> f64 {
        match self {
            Self::Steady(rate) => rate,
            Self::Daily(requests) => {
                let of_day = HOURS[local.hour() as usize] / HOURS.iter().sum::<f64>();
                f64::from(requests) * day(local.date()) * of_day / 3600.0
            }
        }
    }

    /// How long the next request is waited for, at a local time: they come by chance.
    pub(crate) fn pause(self, local: NaiveDateTime, rng: &mut StdRng) -> Duration {
        let seconds = -(1.0 - rng.random::<f64>()).ln() / self.per_second(local);
        Duration::from_millis((seconds * 1e3).clamp(1.0, 36e5) as u64)
    }
}

/// One of several, each with its share of 1.
pub(crate) fn pick<T>(all: &[T], share: impl Fn(&T) -> f64, mut draw: f64) -> &T {
    let drawn = all.iter().find(|it| {
        draw -= share(it);
        draw <= 0.0
    });
    drawn.unwrap_or(&all[0])
}

/// What is planted into the history: where, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    /// One provider answers mostly with errors.
    pub outage: Range<DateTime<Utc>>,
    /// One user spends many times more than usual.
    pub surge: Range<DateTime<Utc>>,
}

impl Planted {
    /// In a history of so many days that ends with `today`, on working days: an outage about four days ago at 14:20, a
    /// surge about two days ago at 20:00; nearer in a shorter history.
    pub(crate) fn new(today: NaiveDate, days: u32, zone: Tz) -> Self {
        let first = today - TimeDelta::days(days.saturating_sub(1).into());
        let span = |days_ago: i64, (hour, minute): (u32, u32), minutes: i64| {
            let mut date = today - TimeDelta::days(days_ago);
            while matches!(date.weekday(), Weekday::Sat | Weekday::Sun) {
                date -= TimeDelta::days(1);
            }
            let start = instant(date.max(first), hour * 3600 + minute * 60, zone);
            start..start + TimeDelta::minutes(minutes)
        };
        Self { outage: span(4, (14, 20), 40), surge: span(2, (20, 0), 180) }
    }
}

/// The instant of a local time of day; in a gap of the clock, the first one after it.
pub(crate) fn instant(date: NaiveDate, second_of_day: u32, zone: Tz) -> DateTime<Utc> {
    let time = NaiveTime::from_num_seconds_from_midnight_opt(second_of_day, 0).unwrap_or_default();
    local_instant(zone, date.and_time(time))
}
