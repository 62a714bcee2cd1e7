//! Weeks of past traffic, written in bulk.

use std::fmt::Write as _;
use std::ops::Range;

use anyhow::Context;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use indicatif::{ProgressBar, ProgressStyle};
use rust_decimal::Decimal;
use serde_json::json;
use sqlx::PgConnection;

use super::people::{MODELS, OUTAGE_PROVIDER, SURGE_MODEL, SURGE_USER};
use super::rhythm::{self, HOURS, Planted};
use super::traffic::{Request, SESSION_LENGTH, Session, Tokens, Traffic, Trouble};
use crate::model::Usd;

/// Which history to make. The same options give the same rows.
#[derive(Clone, Debug)]
pub struct HistoryOptions {
    /// Days of the relay's time zone, today included.
    pub days: u32,
    /// Mean number of requests per day.
    pub requests_per_day: u32,
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
    pub fn planted(&self) -> Planted {
        Planted::new(self.today(), self.days, self.zone)
    }

    /// Every local date of the history.
    pub(crate) fn dates(&self) -> impl Iterator<Item = NaiveDate> + use<> {
        let first = self.today() - TimeDelta::days(self.days.saturating_sub(1).into());
        first.iter_days().take(self.days as usize)
    }

    fn today(&self) -> NaiveDate {
        self.until.with_timezone(&self.zone).date_naive()
    }
}

/// Writes the history into a database with users, keys and providers; the relay's trigger makes the ledger.
///
/// Returns the number of requests. A progress bar shows on a terminal.
///
/// # Errors
/// When the database refuses.
pub async fn fill(connection: &mut PgConnection, options: &HistoryOptions) -> anyhow::Result<u64> {
    let bar = progress(options);
    let mut past = Past::new(options);
    let mut written = 0;
    for date in options.dates() {
        let last = date == options.today();
        let requests = past.day(date, last);
        copy(connection, &requests).await?;
        written += requests.len() as u64;
        bar.set_message(format!("{written} requests"));
        bar.inc(1);
    }
    bar.finish_and_clear();
    // Plans and index-only scans as in a relay that has run for weeks.
    sqlx::raw_sql(include_str!("sql/vacuum.sql")).execute(connection).await.context("vacuum of the history")?;
    Ok(written)
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

/// Writes finished requests (and such as never end) as they stand, in one statement.
pub(crate) async fn copy(connection: &mut PgConnection, requests: &[Request]) -> anyhow::Result<()> {
    let mut rows = String::with_capacity(requests.len() * 600);
    for request in requests {
        line(&mut rows, request);
    }
    let mut copy = connection.copy_in_raw(include_str!("sql/copy_requests.sql")).await.context("copy of requests")?;
    copy.send(rows.as_bytes()).await.context("copy of requests")?;
    copy.finish().await.context("copy of requests")?;
    Ok(())
}

/// One row in PostgreSQL's text format, with the columns of `copy_requests.sql`.
fn line(out: &mut String, request: &Request) {
    let Request { user, key, session, sequence, model, original_model, endpoint, .. } = request;
    let at = request.at.to_rfc3339();
    let ended = request.ends().to_rfc3339();
    let provider = request.provider.map_or(0, |p| p.id);
    let answered = text(request.answered_model);
    let api_type = request.family.api_type();
    let multiplier = Decimal::new(request.multiplier.into(), 4);
    let (status, error, blocked) = (field(request.status), text(request.error), text(request.blocked_by));
    let replay = request.is_replay;
    // An intercepted warm-up has no cost, not even zero.
    let cost = field((request.blocked_by != Some("warmup")).then(|| usd(request.total_cost())));
    let ended_for_good = !request.never_ends();
    let duration = field(ended_for_good.then_some(request.duration_ms));
    let ttft = field(request.ttft_ms.filter(|_| ended_for_good));
    let first_byte = field(request.first_byte_ms.filter(|_| ended_for_good));
    let chain = field(chain(request));
    let losers = field(losers(request));
    let tokens = token_fields(request.tokens.as_ref());
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{at}\t{ended}\t{provider}\t{user}\t{key}\t{model}\t{original_model}\t{answered}\t{endpoint}\t{api_type}\t\
         {session}\t{session}\t{sequence}\tdemo/1.0\t{multiplier}\t1\t{status}\t{error}\t{blocked}\t{replay}\t{cost}\t\
         {tokens}\t{duration}\t{ttft}\t{first_byte}\t{chain}\t{losers}",
        user = user.id,
        key = key.secret(),
    );
}

fn token_fields(tokens: Option<&Tokens>) -> String {
    let Some(t) = tokens else { return [NULL; 6].join("\t") };
    let written = t.cache_write_5m + t.cache_write_1h;
    [t.input, t.output, written, t.cache_read, t.cache_write_5m, t.cache_write_1h].map(|n| n.to_string()).join("\t")
}

/// `provider_chain` as JSON.
pub(crate) fn chain(request: &Request) -> Option<String> {
    // Numbers and plain strings always serialise.
    (!request.chain.is_empty()).then(|| serde_json::to_string(&request.chain).unwrap_or_default())
}

/// `hedge_losers` as JSON.
pub(crate) fn losers(request: &Request) -> Option<String> {
    let (provider, cost) = request.loser?;
    let loser = json!({
        "providerId": provider.id,
        "providerName": provider.name,
        "attemptNumber": 2,
        "costUsd": usd(cost).to_string(),
    });
    Some(json!([loser]).to_string())
}

/// Dollars with all fifteen decimal places.
pub(crate) fn usd(amount: Usd) -> Decimal {
    Decimal::from_i128_with_scale(amount.femto(), 15)
}

const NULL: &str = r"\N";

fn field(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NULL.to_owned(), |value| value.to_string())
}

fn text(value: Option<&str>) -> &str {
    value.unwrap_or(NULL)
}
