//! The relay's local dates (v1.1.314 `src/models/redis.js`, `config/config.example.js`): whole hours from UTC, no
//! daylight saving.

use std::fmt;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};

/// Hours that the relay's clock is ahead of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(i64);

impl Default for Offset {
    fn default() -> Self {
        Self(8)
    }
}

impl Offset {
    /// By the relay's rule for `TIMEZONE_OFFSET`, `parseInt(text) || 8`: what follows the whole hours is cut, and
    /// neither 0 nor nonsense can be configured.
    pub fn of(text: &str) -> Self {
        let text = text.trim_start();
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(rest) => (16, rest),
            None => (10, digits),
        };
        let end = digits.find(|it: char| !it.is_digit(radix)).unwrap_or(digits.len());
        match i64::from_str_radix(&digits[..end], radix) {
            // Far more than there are zones, and no date overflows.
            Ok(hours @ 1..=1000) => Self(sign * hours),
            _ => Self::default(),
        }
    }

    /// A whole number of hours; -1000 to 1000.
    pub const fn hours(hours: i64) -> Self {
        Self(hours)
    }

    /// The local time of an instant.
    pub fn local(self, at: DateTime<Utc>) -> NaiveDateTime {
        at.naive_utc() + TimeDelta::hours(self.0)
    }

    /// The relay's local date.
    pub fn date(self, at: DateTime<Utc>) -> NaiveDate {
        self.local(at).date()
    }

    /// The instant of a local time.
    pub fn utc(self, local: NaiveDateTime) -> DateTime<Utc> {
        (local - TimeDelta::hours(self.0)).and_utc()
    }

    /// The first instant of a local date.
    pub fn start_of(self, date: NaiveDate) -> DateTime<Utc> {
        self.utc(date.and_time(chrono::NaiveTime::MIN))
    }

    /// The name of the local week in releases before v1.1.281 (v1.1.280 `src/models/redis.js`,
    /// `getWeekStringInTimezone`, in a process whose own clock is UTC, as in its image): the year of the day itself, and the
    /// week of the week's Thursday, which is one too high in years that begin on a Friday.
    pub fn week_number(self, at: DateTime<Utc>) -> String {
        let today = self.local(at).date();
        let monday = today - Days::new(today.weekday().num_days_from_monday().into());
        let thursday = monday + Days::new(3);
        format!("{}-W{:02}", today.year(), thursday.ordinal() / 7 + 1)
    }

    /// The local start of the week that begins on `day` (1 is Monday) at `hour`; `getPeriodString`.
    pub fn week_start(self, at: DateTime<Utc>, day: u32, hour: u32) -> NaiveDateTime {
        let local = self.local(at);
        let today = local.weekday().number_from_monday();
        let mut since = (today + 7 - day.clamp(1, 7)) % 7;
        if since == 0 && local.hour() < hour {
            since = 7;
        }
        let date = local.date() - Days::new(since.into());
        date.and_hms_opt(hour.min(23), 0, 0).unwrap_or(local)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UTC{:+}", self.0)
    }
}
