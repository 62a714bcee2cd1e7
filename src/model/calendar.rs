//! The relay's days.

use chrono::{DateTime, Duration, LocalResult, NaiveDate, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

/// The relay's days: its own boundaries, in its own time zone, asked from its own database where it computes them there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    zone: String,
    /// Start of each day, ascending, without gaps in the dates; the last is a day that has not begun.
    days: Vec<(NaiveDate, DateTime<Utc>)>,
}

impl Calendar {
    /// # Errors
    /// When the days are not ascending and consecutive.
    pub fn new(zone: impl Into<String>, days: Vec<(NaiveDate, DateTime<Utc>)>) -> Result<Self, CalendarError> {
        let consecutive = days.windows(2).all(|pair| pair[0].1 < pair[1].1 && pair[0].0.succ_opt() == Some(pair[1].0));
        if days.len() < 2 || !consecutive {
            return Err(CalendarError);
        }
        Ok(Self { zone: zone.into(), days })
    }

    /// The IANA name of the zone, or an offset such as `UTC+8`.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The local date at an instant; `None` outside the calendar.
    pub fn date(&self, at: DateTime<Utc>) -> Option<NaiveDate> {
        let after = self.days.partition_point(|(_, start)| *start <= at);
        (after > 0 && after < self.days.len()).then(|| self.days[after - 1].0)
    }

    /// The first instant of a local date; `None` outside the calendar.
    pub fn start(&self, date: NaiveDate) -> Option<DateTime<Utc>> {
        let index = (date - self.days[0].0).num_days();
        self.days.get(usize::try_from(index).ok()?).map(|(_, start)| *start)
    }

    /// With the days before, from a calendar of the same zone that begins earlier; `None` when there are none.
    pub fn preceded_by(&self, earlier: &Self) -> Option<Self> {
        let (first, start) = self.days[0];
        let before: Vec<_> = earlier.days().take_while(|(date, _)| *date < first).collect();
        let fits = self.zone == earlier.zone && !before.is_empty() && earlier.start(first) == Some(start);
        let days = before.into_iter().chain(self.days()).collect();
        fits.then(|| Self { zone: self.zone.clone(), days })
    }

    /// Each local date and its first instant.
    pub fn days(&self) -> impl Iterator<Item = (NaiveDate, DateTime<Utc>)> {
        self.days.iter().copied()
    }

    /// The first local date that it knows.
    pub fn first_date(&self) -> NaiveDate {
        self.days[0].0
    }
}

/// Days that are no calendar.
#[derive(Debug, thiserror::Error)]
#[error("the calendar's days are not consecutive")]
pub struct CalendarError;

/// The first instant at which local clocks show `local`, or would have been past it: midnight may not exist, or exist
/// twice.
pub(crate) fn local_instant(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    // No zone has ever skipped more than a day.
    (0..=24 * 60)
        .find_map(|minutes| match zone.from_local_datetime(&(local + Duration::minutes(minutes))) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.to_utc()),
            LocalResult::None => None,
        })
        .unwrap_or_else(|| local.and_utc())
}
