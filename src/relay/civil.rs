//! Local days where the relay's store cannot be asked for them: computed here from the time zone's rules.

use std::sync::Arc;

use chrono::{DateTime, Days, Duration, NaiveDate, NaiveTime, Utc};
use chrono_tz::Tz;

use crate::model::{Calendar, CalendarError, ReadError, Reason, local_instant};

/// Days that are always in the calendar of a relay with a clean-up: a month, and the week around its first day.
pub(crate) const LEAST_DAYS: Days = Days::new(40);

/// Every day from `first` to the one after tomorrow.
///
/// # Errors
/// When `first` is after that.
fn calendar(zone: Tz, first: NaiveDate, today: NaiveDate) -> Result<Calendar, CalendarError> {
    let days = first.iter_days().take_while(|date| *date <= today + Duration::days(2));
    Calendar::new(zone.name(), days.map(|date| (date, local_instant(zone, date.and_time(NaiveTime::MIN)))).collect())
}

/// The calendar of a zone, made anew when the date changes or an older day turns up.
pub(crate) struct Calendars {
    zone: Tz,
    /// With the local date that it was made on.
    made: Option<(NaiveDate, Arc<Calendar>)>,
}

impl Calendars {
    pub(crate) const fn new(zone: Tz) -> Self {
        Self { zone, made: None }
    }

    pub(crate) const fn zone(&self) -> Tz {
        self.zone
    }

    /// The days from `first` on.
    ///
    /// # Errors
    /// When `first` is after the day after tomorrow.
    pub(crate) fn get(&mut self, first: NaiveDate, today: NaiveDate) -> Result<Arc<Calendar>, ReadError> {
        if let Some((made_on, calendar)) = &self.made
            && *made_on == today
            && calendar.first_date() <= first
        {
            return Ok(Arc::clone(calendar));
        }
        let calendar = calendar(self.zone, first, today).map(Arc::new).map_err(|error| {
            ReadError::new(Reason::Data, format!("the days of {} since {first}: {error}", self.zone))
        })?;
        self.made = Some((today, Arc::clone(&calendar)));
        Ok(calendar)
    }
}

/// The same local time of day, one local day before `now`.
pub(crate) fn day_before(zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
    local_instant(zone, now.with_timezone(&zone).naive_local() - Duration::days(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_its_first_instant() {
        for (zone, date, start) in [
            ("Asia/Shanghai", "2026-11-21", "2026-11-20T16:00:00Z"),
            // Midnight is skipped.
            ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00:00Z"),
            // Midnight comes twice.
            ("America/Havana", "2024-11-03", "2024-11-03T04:00:00Z"),
            ("Asia/Kolkata", "2026-01-01", "2025-12-31T18:30:00Z"),
        ] {
            let date: NaiveDate = date.parse().unwrap();
            let calendar = calendar(zone.parse().unwrap(), date, date).unwrap();
            assert_eq!(calendar.start(date), Some(start.parse().unwrap()), "{zone}");
        }
    }
}
