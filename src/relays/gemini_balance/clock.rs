//! The relay's clock: naive times of a zone that its store does not name.

use chrono::{DateTime, MappedLocalTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::relay::plan::RelayPlan;

const HOUR: i64 = 3600;
/// Zones differ by multiples of this.
const QUARTER: i64 = 15 * 60;
/// How late a row may be written and still be recognised, in seconds.
const SLACK: i64 = 120;

/// The zone of the relay's process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    zone: Tz,
    configured: bool,
}

impl Clock {
    pub(super) fn new(plan: &RelayPlan) -> Self {
        Self { zone: plan.timezone.unwrap_or(plan.timezone_fallback), configured: plan.timezone.is_some() }
    }

    pub(super) fn zone(self) -> Tz {
        self.zone
    }

    /// Whether the zone was written down or assumed.
    pub(super) fn is_configured(self) -> bool {
        self.configured
    }

    /// The instant of a naive time. A time that a clock change repeats is the first of the two: the rows do not tell.
    pub(super) fn instant(self, naive_micros: i64) -> Option<DateTime<Utc>> {
        Some(self.resolve(DateTime::from_timestamp_micros(naive_micros)?.naive_utc()))
    }

    fn resolve(self, naive: NaiveDateTime) -> DateTime<Utc> {
        match self.zone.from_local_datetime(&naive) {
            MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => at.to_utc(),
            // No clock showed it: what a clock shows that has not been put forward yet.
            MappedLocalTime::None => {
                let later = self.zone.from_local_datetime(&(naive + TimeDelta::hours(1))).earliest();
                later.map_or_else(|| naive.and_utc(), |later| later.to_utc())
            }
        }
    }

    /// The naive time at an instant, as both engines compare it.
    pub(super) fn text(self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.zone).naive_local().format("%Y-%m-%d %H:%M:%S%.6f").to_string()
    }

    /// The naive time at an instant, in microseconds.
    pub(super) fn micros(self, at: DateTime<Utc>) -> i64 {
        at.with_timezone(&self.zone).naive_local().and_utc().timestamp_micros()
    }

    pub(super) fn date(self, at: DateTime<Utc>) -> NaiveDate {
        at.with_timezone(&self.zone).date_naive()
    }
}

/// By how many seconds the zone seems wrong, if the row that is `age` seconds old was written just now; `None` where its
/// age is not that of another zone, nor of this one.
pub(super) fn error(age: i64) -> Option<i64> {
    let quarters = (age + QUARTER / 2).div_euclid(QUARTER);
    let apart = (age - quarters * QUARTER).abs();
    (quarters.abs() <= 26 * 4 && apart <= SLACK).then_some(quarters * QUARTER)
}

/// For people.
pub(super) fn hours(seconds: i64) -> f64 {
    seconds as f64 / HOUR as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_zone(zone: &str) -> Clock {
        Clock { zone: zone.parse().unwrap(), configured: true }
    }

    #[test]
    fn an_age_of_whole_hours_betrays_a_wrong_zone() {
        let hours = |age| error(age).map(hours);
        assert_eq!(hours(8 * HOUR + 3), Some(8.0));
        assert_eq!(hours(-8 * HOUR + 7), Some(-8.0));
        assert_eq!(hours(5 * HOUR + 45 * 60), Some(5.75));
        assert_eq!(hours(4), Some(0.0));
        assert_eq!(hours(-30), Some(0.0));
        assert_eq!(hours(8 * HOUR + 400), None);
    }

    #[test]
    fn naive_times_are_of_the_relays_zone() {
        let at = |text: &str| text.parse::<NaiveDateTime>().unwrap().and_utc().timestamp_micros();
        let shanghai = in_zone("Asia/Shanghai").instant(at("2026-11-21T08:00:00.5")).unwrap();
        assert_eq!(shanghai.to_rfc3339(), "2026-11-21T00:00:00.500+00:00");
        let berlin = in_zone("Europe/Berlin");
        // Repeated: the first. Skipped: by the old offset.
        assert_eq!(berlin.instant(at("2026-10-25T02:30:00")).unwrap().to_rfc3339(), "2026-10-25T00:30:00+00:00");
        assert_eq!(berlin.instant(at("2026-03-29T02:30:00")).unwrap().to_rfc3339(), "2026-03-29T01:30:00+00:00");
    }
}
