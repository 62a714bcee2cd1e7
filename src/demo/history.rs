//! Weeks of past traffic.

use std::ops::Range;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use indicatif::{ProgressBar, ProgressStyle};

use super::people::{MODELS, OUTAGE_PROVIDER, SURGE_MODEL, SURGE_USER};
use super::rhythm::{self, HOURS, Planted};
use super::traffic::{Request, SESSION_LENGTH, Session, Traffic, Trouble};

/// Which history to make. The same options give the same rows.
#[derive(Clone, Debug)]
pub struct HistoryOptions {
    /// Days of the relay's time zone, today included.
    pub days: u32,
    /// Mean number of requests per day.
    pub requests_per_day: u32,
    /// Of every choice that is made.
    pub seed: u64,
    /// The relay's time zone.
    pub zone: Tz,
    /// The end: every request has ended by then.
    pub until: DateTime<Utc>,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self { days: 30, requests_per_day: 4000, seed: 1, zone: chrono_tz::Asia::Shanghai, until: Utc::now() }
    }
}

impl HistoryOptions {
    /// The incidents in it, at known times, for tests of alerts.
    pub fn planted(&self) -> Planted {
        Planted::new(self.today(), self.days, self.zone)
    }

    /// Every local date of the history.
    pub(crate) fn dates(&self) -> impl Iterator<Item = NaiveDate> + use<> {
        let first = self.today() - TimeDelta::days(self.days.saturating_sub(1).into());
        first.iter_days().take(self.days as usize)
    }

    pub(crate) fn today(&self) -> NaiveDate {
        self.until.with_timezone(&self.zone).date_naive()
    }
}

pub(crate) fn progress(options: &HistoryOptions) -> ProgressBar {
    let bar = ProgressBar::new(options.days.into());
    if let Ok(style) = ProgressStyle::with_template("history {bar:30} day {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Makes the requests of one day after the other.
pub(crate) struct Past<'a> {
    options: &'a HistoryOptions,
    planted: Planted,
    traffic: Traffic,
    /// Requests of sessions that go on after midnight.
    later: Vec<Request>,
}

impl<'a> Past<'a> {
    pub(crate) fn new(options: &'a HistoryOptions) -> Self {
        let traffic = Traffic::new(options.seed, options.until);
        Self { options, planted: options.planted(), traffic, later: Vec::new() }
    }

    /// The requests of a day in order of start.
    pub(crate) fn day(&mut self, date: NaiveDate, last: bool) -> Vec<Request> {
        let zone = self.options.zone;
        let mut requests = std::mem::take(&mut self.later);
        let wanted = f64::from(self.options.requests_per_day) * rhythm::day(date) * self.traffic.log_normal(1.0, 0.06);
        for _ in 0..(wanted / SESSION_LENGTH).round() as u32 {
            let second = self.second_of_day();
            let at = rhythm::instant(date, second, zone);
            let session = self.traffic.session(at);
            self.follow(session, at, &mut requests);
        }
        let begins_today = |span: &Range<DateTime<Utc>>| span.start.with_timezone(&zone).date_naive() == date;
        if begins_today(&self.planted.outage) {
            self.outage(&mut requests);
        }
        if begins_today(&self.planted.surge) {
            self.surge(&mut requests);
        }
        let midnight = rhythm::instant(date + TimeDelta::days(1), 0, zone);
        let until = self.options.until;
        requests.retain(|request| request.ends() < until);
        if !last {
            let (today, later) = requests.into_iter().partition(|request| request.at < midnight);
            requests = today;
            self.later = later;
        }
        requests.sort_by_key(|request| request.at);
        requests
    }

    fn second_of_day(&mut self) -> u32 {
        let mut rest = self.traffic.unit() * HOURS.iter().sum::<f64>();
        let mut hour = 0;
        while hour < 23 && rest > HOURS[hour] {
            rest -= HOURS[hour];
            hour += 1;
        }
        hour as u32 * 3600 + ((rest / HOURS[hour]).min(1.0) * 3599.0) as u32
    }

    /// An instant in a span, not too near its end.
    fn within(&mut self, span: &Range<DateTime<Utc>>) -> DateTime<Utc> {
        let millis = (span.end - span.start).num_milliseconds() as f64 * 0.8;
        span.start + TimeDelta::milliseconds((self.traffic.unit() * millis) as i64)
    }

    /// All requests of a session: each begins when the client has read the answer to the last one.
    fn follow(&mut self, mut session: Session, mut at: DateTime<Utc>, requests: &mut Vec<Request>) {
        while session.left > 0 {
            let trouble = self.planted.outage.contains(&at).then_some(Trouble::Failing(OUTAGE_PROVIDER.id));
            let request = self.traffic.request(&mut session, at, trouble);
            let pause = self.traffic.log_normal(18_000.0, 1.1).min(1_500_000.0) as i64;
            at = request.ends() + TimeDelta::milliseconds(pause);
            requests.push(request);
        }
    }

    /// Some sessions that are sure to meet the failing provider, however little traffic there is.
    fn outage(&mut self, requests: &mut Vec<Request>) {
        let outage = self.planted.outage.clone();
        for _ in 0..self.options.requests_per_day.div_ceil(500) {
            let at = self.within(&outage);
            let mut session = self.traffic.session(at);
            (session.model, session.provider) = (&MODELS[0], OUTAGE_PROVIDER);
            self.follow(session, at, requests);
        }
    }

    /// A script that runs wild: about a seventh of a day's requests again, on the dearest model.
    fn surge(&mut self, requests: &mut Vec<Request>) {
        let surge = self.planted.surge.clone();
        let wanted = self.options.requests_per_day as usize / 7 + requests.len();
        while requests.len() < wanted {
            let at = self.within(&surge);
            let session = self.traffic.session_of(SURGE_USER, SURGE_MODEL, at);
            self.follow(session, at, requests);
        }
    }
}
