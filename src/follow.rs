//! Follows one ledger: new rows, rows that may still change, history backwards, and the audit.
//!
//! In the steady state a refresh reads rows beyond the cursor (with a small overlap, because commits become visible out
//! of the order of their ids) and the rows that may still change. No statement touches the day or the history, but the
//! audit: every `audit_interval` it holds today, yesterday and one older day against the ledger's own sums.

mod audit;
mod checkpoint;
mod counters;
mod reading;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use hashbrown::{HashMap, HashSet};

use crate::model::ReadError;
use crate::relay::overlap::Overlap;
use crate::relay::plan::RelayPlan;
use crate::relay::{Ledger, Refresh, RefreshRequest, within};
use crate::tally::{Moment, PendingSum, Presentation, Tally};
use crate::view::{AuditView, LedgerView};
use audit::{Day, Drift};
pub use counters::CounterFollower;
pub(crate) use reading::rows_of_span;
use reading::{complain, ids, part_ways, read};

/// Rows of one bounded step: over before anybody notices, and some megabytes until they are told apart.
const STEP_ROWS: u32 = 5_000;
/// Sums of single entities in one refresh; each is an index range of the relay's.
const WANTS_PER_REFRESH: usize = 20;
/// One that failed, perhaps because it is too dear, rests so long.
const WANTED_AGAIN: Duration = Duration::from_secs(600);
/// A store's clock that goes back further was far ahead, and what is young by the right time was let go of as old.
const CLOCK_STEP: TimeDelta = TimeDelta::hours(1);

/// A ledger and what has been made of it.
pub struct Follower {
    ledger: Box<dyn Ledger>,
    state: Option<State>,
    timeout: Duration,
    audit_interval: Duration,
    /// See [`Tally::pin`].
    pinned: Vec<String>,
    rows_read: u64,
    /// Sums of single entities that could not be had, and when.
    unanswered: HashMap<PendingSum, Instant>,
    /// What was said last of rows that could not be understood.
    complaint: Option<String>,
}

struct State {
    tally: Tally,
    basis: String,
    tariff: String,
    /// The greatest id read.
    top: i64,
    /// The smallest id read; history below it waits.
    bottom: i64,
    /// Ids before the first refresh, for the progress of the history.
    history: i64,
    /// What becomes visible too late for it is left to the audit.
    overlap: Overlap,
    /// Rows of the last refresh that could not be understood.
    left_out: usize,
    audit: Option<AuditView>,
    /// When days were last due to be compared, whether or not the ledger could sum one up.
    audited_at: Option<DateTime<Utc>>,
    /// When the ledger could not be summed up, or a day not be read again.
    audit_failed_at: Option<DateTime<Utc>>,
    /// Drifts that reading again did not mend (rows that cannot be understood), by day: not worth a second try.
    unrepairable: HashMap<NaiveDate, Drift>,
    /// Which older day the next audit looks at.
    audit_day: Option<NaiveDate>,
    /// The next refresh audits, whenever the last one was.
    audit_now: bool,
    /// The last refresh left new rows to read: an audit after it would be in vain, and dear after each step of many.
    behind: bool,
    /// The next refresh is the first since all rows are to be read.
    anew: bool,
    /// What is known is of a checkpoint, which others may have gone beyond: nothing is shown before the first audit.
    restored: bool,
    /// What the ledger wants to be told again.
    resume_token: String,
    /// The last [`Refresh::month_since`], and whether what the relay has of its day is still to be summed.
    month_since: Option<DateTime<Utc>>,
    month_moved: bool,
    /// The last [`Refresh::zone_error`].
    zone_error: Option<i64>,
}

/// What a refresh left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// More new rows are waiting.
    NewRows,
    /// Rows of today or yesterday have not been read yet.
    RecentHistory,
    /// Older rows have not been read yet.
    History,
    /// All that the ledger has is read.
    Nothing,
}

impl Follower {
    /// Nothing is read yet.
    pub fn new(ledger: Box<dyn Ledger>, plan: &RelayPlan) -> Self {
        Self {
            ledger,
            state: None,
            timeout: plan.timeout,
            audit_interval: plan.audit_interval,
            pinned: plan.series.pinned_models.clone(),
            rows_read: 0,
            unanswered: HashMap::new(),
            complaint: None,
        }
    }

    /// Goes on with the same ledger, opened anew with changed settings.
    #[must_use]
    pub fn reopened(mut self, mut ledger: Box<dyn Ledger>, plan: &RelayPlan) -> Self {
        let parts = self.ledger.parts(true).and_then(|parts| {
            ledger.restore(&parts.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.get()))).collect())
        });
        if let Err(error) = parts {
            tracing::warn!(%error, "where the ledger was is lost; it is read anew");
            return Self::new(ledger, plan);
        }
        let mut it = Self { state: self.state, rows_read: self.rows_read, ..Self::new(ledger, plan) };
        if let Some(state) = &mut it.state {
            state.tally.pin(&it.pinned);
        }
        it
    }

    /// Rows read since the start.
    pub const fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// See [`Ledger::statements`].
    pub(crate) fn statements(&self) -> Vec<(&'static str, bool)> {
        self.ledger.statements()
    }

    /// Share of the ledger's history that has been read.
    pub(crate) fn history_loaded(&self) -> f64 {
        self.state.as_ref().map_or(0.0, |state| state.history_loaded(self.ledger.first()))
    }

    /// The numbers as of the last refresh; `None` before the first.
    pub fn view(&mut self, with: &Presentation<'_>) -> Option<LedgerView> {
        let state = self.state.as_mut()?;
        state.tally.rows_tell(self.ledger.facts());
        let mut view = state.tally.view(with);
        view.history_loaded = state.history_loaded(self.ledger.first());
        view.audit = state.audit;
        view.rows_left_out = Some(state.left_out);
        if let Some(counters) = &mut view.counters {
            counters.missed = self.ledger.missed();
        }
        view.zone_error_seconds = state.zone_error.map(|error| error as f64);
        Some(view)
    }

    /// Reads what is new and what may have changed.
    ///
    /// # Errors
    /// When the ledger cannot be read; what has been read before stays.
    pub async fn refresh(&mut self) -> Result<Backlog, ReadError> {
        let Some(state) = &mut self.state else {
            let refresh = within(self.timeout, self.ledger.refresh(&RefreshRequest::default())).await?;
            self.begin(&refresh, Tally::new(moment(&refresh)), HashMap::new());
            return Ok(Backlog::NewRows);
        };
        let rests = state.audit_rests(self.audit_interval);
        let days = if !rests && state.audit_due(self.audit_interval) { state.audit_days() } else { Vec::new() };
        let oldest_day = state.oldest_day().filter(|_| !rests);
        let (mut request, due) = state.request(days.iter().chain(&oldest_day), !days.is_empty());
        if self.ledger.gives_positions() {
            // Its rows do not change.
            request.reread.clear();
        }
        let mut refresh = read(&mut *self.ledger, self.timeout, state, &mut request).await?;
        complain(&mut self.complaint, &refresh.refused);
        self.rows_read += refresh.rows.len() as u64;
        let keeps_ids = !self.ledger.gives_positions();
        let contradicts = keeps_ids && state.tally.contradicts(&refresh.rows, refresh.now);
        let has_lost = keeps_ids && (refresh.top < state.top || state.has_lost_newest(&request, &refresh));
        if contradicts || has_lost {
            let (since, top, was_top) = (state.tally.looked_until(), refresh.top, state.top);
            tracing::warn!(
                %since,
                top,
                was_top,
                "the newest requests are gone, or others have their ids, as after a restore: what has started since the \
                 last look is new, and what was counted stays counted"
            );
            part_ways(&mut *self.ledger, self.timeout, &mut state.tally, refresh.now).await?;
        }
        if state.begins_anew(&refresh, contradicts) {
            if let Some(State { tally, unrepairable, .. }) = self.state.take() {
                self.begin(&refresh, tally.restart(moment(&refresh)), unrepairable);
            }
            return Ok(Backlog::NewRows);
        }
        let (now, kept_since, sums) = (refresh.now, refresh.kept_since, std::mem::take(&mut refresh.audit));
        let looks_again = refresh.lost_rows && !state.audit_rests(self.audit_interval);
        let (is_behind, more) = (refresh.more, refresh.more || looks_again);
        if keeps_ids {
            let mut found: HashSet<i64> = refresh.rows.iter().map(|row| row.request_id).collect();
            // It is there, whatever has become of it.
            found.extend(state.tally.held_as(&refresh.refused.ids));
            state.take(refresh, if is_behind { &request.reread } else { &due }, &found);
        } else {
            state.take(refresh, &due, &due.iter().copied().collect());
        }
        if !more {
            let repairs = self.note_audit(now, kept_since, &days, &sums).await?;
            self.note_month(oldest_day.map(|(date, _)| date), sums.get(days.len()).and_then(Option::as_ref), repairs);
        }
        self.answer_wants().await;
        let more = more || self.awaits_audit();
        Ok(self.rest(more))
    }

    /// Reads one bounded slice of older rows, newest first.
    ///
    /// # Errors
    /// Like [`Self::refresh`].
    pub async fn read_history(&mut self) -> Result<Backlog, ReadError> {
        let Some(state) = &mut self.state else { return Ok(Backlog::Nothing) };
        if state.tally.is_complete() {
            return Ok(Backlog::Nothing);
        }
        let slice = within(self.timeout, self.ledger.older(state.bottom, STEP_ROWS)).await?;
        self.rows_read += slice.rows.len() as u64;
        complain(&mut self.complaint, &slice.refused);
        let mut rows = slice.rows;
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id));
        state.bottom = ids(&rows, &slice.refused).min().unwrap_or(state.bottom);
        // An import says nothing about when the rows before it started.
        let newest = rows.iter().filter(|row| !row.imported).map(|row| row.started_at).max();
        state.tally.apply(rows);
        if slice.bottom && !state.tally.complete() {
            tracing::info!("models have turned up of which rows had been let go of; reading the ledger once more");
            state.basis.clear();
            return Ok(Backlog::NewRows);
        }
        if slice.bottom {
            tracing::info!(rows = self.rows_read, "the ledger's history has been read; counters are complete");
        } else if let Some(newest) = newest {
            // Everything below started before the newest of these, but for a little disorder.
            state.tally.cover_since(newest + self.ledger.disorder());
        }
        Ok(self.rest(false))
    }

    fn begin(&mut self, refresh: &Refresh, mut tally: Tally, unrepairable: HashMap<NaiveDate, Drift>) {
        tally.pin(&self.pinned);
        self.ledger.begin();
        // The cursor starts behind the newest rows: smaller ids may still become visible.
        let behind = if self.ledger.gives_positions() { 0 } else { Overlap::IDS };
        let start = refresh.top.saturating_sub(behind).max(0);
        let state = State {
            tally,
            basis: refresh.basis.clone(),
            tariff: refresh.tariff.clone(),
            top: start,
            bottom: start + 1,
            history: start,
            overlap: Overlap::after(refresh.now.timestamp(), start),
            left_out: 0,
            audit: None,
            audited_at: None,
            audit_failed_at: None,
            unrepairable,
            audit_day: None,
            audit_now: false,
            behind: false,
            anew: true,
            restored: false,
            resume_token: refresh.resume_token.clone(),
            month_since: None,
            month_moved: false,
            zone_error: refresh.zone_error,
        };
        self.state = Some(state);
    }

    fn rest(&self, more: bool) -> Backlog {
        let Some(state) = &self.state else { return Backlog::Nothing };
        if more {
            Backlog::NewRows
        } else if state.tally.is_complete() {
            Backlog::Nothing
        } else if !state.tally.covers_yesterday() {
            Backlog::RecentHistory
        } else {
            Backlog::History
        }
    }

    async fn answer_wants(&mut self) {
        let Some(state) = &mut self.state else { return };
        let (mut answers, began) = (Vec::new(), Instant::now());
        self.unanswered.retain(|_, failed| failed.elapsed() < WANTED_AGAIN);
        let mut wants = state.tally.take_pending_sums();
        wants.retain(|want| !self.unanswered.contains_key(want));
        // The rest is still wanted by the next view, and asked then.
        for want in wants.into_iter().take(WANTS_PER_REFRESH) {
            if began.elapsed() >= self.timeout {
                break;
            }
            match within(self.timeout, self.ledger.spent(want.scope, want.id, want.range.clone())).await {
                Ok(spent) => answers.push((want, spent)),
                // One quota is absent for a while; everything else has been read.
                Err(error) => {
                    let (scope, id) = (want.scope.label(), want.id);
                    tracing::warn!(scope, id, error = error.text, "cannot sum what counts against a limit");
                    self.unanswered.insert(want, Instant::now());
                }
            }
        }
        state.tally.answer(&answers);
    }
}

impl State {
    fn history_loaded(&self, first: i64) -> f64 {
        let history = self.history - first;
        if self.tally.is_complete() || history <= 0 {
            return 1.0;
        }
        (self.history - self.bottom + 1).clamp(0, history) as f64 / history as f64
    }

    /// What to read next, and of which requests the version is wanted.
    fn request<'a>(&mut self, days: impl Iterator<Item = &'a Day>, is_audit: bool) -> (RefreshRequest, Vec<i64>) {
        // An audit compares what has been read, so it first reads everything that may have changed.
        let due = if is_audit { self.tally.unsettled() } else { self.tally.due() };
        let floor = self.overlap.floor();
        let request = RefreshRequest {
            after: Some(floor),
            limit: STEP_ROWS,
            // Those above the floor come again as new rows.
            reread: due.iter().copied().filter(|id| !self.tally.is_above(*id, floor)).collect(),
            audit: days.map(|(_, range)| range.clone()).collect(),
            anew: self.anew,
            resume_token: self.resume_token.clone(),
        };
        (request, due)
    }

    /// Whether the newest row that is held should have been read, and was not.
    fn has_lost_newest(&self, request: &RefreshRequest, refresh: &Refresh) -> bool {
        let is_new = |id| request.after.is_some_and(|after| id > after) && !refresh.more;
        self.tally.newest_held().is_some_and(|(request_id, id)| {
            let asked = request.reread.contains(&request_id) || is_new(id);
            let is_there = || refresh.rows.iter().any(|row| row.request_id == request_id);
            asked && !is_there() && !refresh.refused.ids.contains(&id)
        })
    }

    /// Whether all rows have to be read again, with the reason in the log.
    fn begins_anew(&self, refresh: &Refresh, contradicts: bool) -> bool {
        if contradicts || refresh.basis != self.basis || refresh.top < self.top - Overlap::IDS {
            let (basis, was) = (&refresh.basis, &self.basis);
            tracing::warn!(basis, was, "the ledger or the settings it is read by have changed; reading it anew");
            return true;
        }
        if refresh.tariff != self.tariff {
            tracing::info!("the relay's prices have changed; reading its rows anew at the new ones");
            return true;
        }
        let (now, was) = (refresh.now, self.tally.looked_until());
        if now + CLOCK_STEP < was {
            tracing::warn!(%now, %was, "the store's clock has gone back; reading its rows anew");
            return true;
        }
        false
    }

    /// Takes what a refresh has read.
    fn take(&mut self, refresh: Refresh, asked: &[i64], found: &HashSet<i64>) {
        let second = refresh.now.timestamp();
        if refresh.top < self.top {
            // Ids below the new top may be given out again as well.
            self.overlap = Overlap::after(second, refresh.top - Overlap::IDS);
            self.top = refresh.top;
        }
        self.resume_token.clone_from(&refresh.resume_token);
        if refresh.lost_rows {
            // What is gone from older days does not come back, and their counters cannot be told apart any more.
            self.audit_now = true;
            self.audit_day = None;
        }
        self.top = ids(&refresh.rows, &refresh.refused).max().unwrap_or(0).max(self.top);
        self.overlap.note(second, self.top);
        self.left_out = refresh.refused.ids.len();
        self.tally.advance(moment(&refresh));
        self.tally.rows_may_grow(refresh.tariff.is_empty());
        let mut rows = refresh.rows;
        rows.sort_unstable_by_key(|row| row.id);
        self.tally.apply(rows);
        self.tally.looked_at(asked, found);
        self.tally.settle(self.overlap.floor());
        self.behind = refresh.more;
        self.anew = false;
        self.month_moved |= self.month_since != refresh.month_since;
        self.month_since = refresh.month_since;
        self.zone_error = refresh.zone_error;
    }
}

fn moment(refresh: &Refresh) -> Moment {
    Moment {
        now: refresh.now,
        same_time_yesterday: refresh.same_time_yesterday,
        calendar: Arc::clone(&refresh.calendar),
    }
}
