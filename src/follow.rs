//! Follows one ledger: new rows, rows that may still change, history backwards, and the audit.
//!
//! In the steady state a refresh reads rows beyond the cursor (with a small overlap, because commits become visible out
//! of the order of their ids) and the rows that may still change. No statement touches the day or the history, but the
//! audit: every `audit_interval` it holds today, yesterday and one older day against the ledger's own sums.

mod checkpoint;
mod counters;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use crate::model::LedgerSum;
use crate::model::{ReadError, UsageRow, Usd};
use crate::relay::plan::RelayPlan;
use crate::relay::{Ledger, Refresh, RefreshRequest, within};
use crate::tally::{Moment, Presentation, Tally};
use crate::view::{AuditView, LedgerView};
pub use counters::CounterFollower;

/// Ids behind the cursor that are read again, at most: at about three ids per request (Claude Code Hub burns one on
/// each update of a row), the requests of some busy seconds.
const OVERLAP_IDS: i64 = 2000;
/// A commit that becomes visible later than this after a greater id did is left to the audit.
const OVERLAP_SECONDS: i64 = 60;
/// Rows of one bounded step: over before anybody notices, and some megabytes until they are told apart.
const STEP_ROWS: u32 = 5_000;
/// Sums of single entities in one refresh; each is an index range of the relay's.
const WANTS_PER_REFRESH: usize = 20;
/// How far a row's start may lie from the order of ids.
pub(crate) const DISORDER: chrono::Duration = chrono::Duration::minutes(1);

/// A ledger and what has been made of it.
pub struct Follower {
    ledger: Box<dyn Ledger>,
    state: Option<State>,
    timeout: Duration,
    audit_interval: Duration,
    /// See [`Tally::pin`].
    pinned: Vec<String>,
    rows_read: u64,
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
    /// Tops of the last minute, oldest first: `(second, top)`.
    recent_tops: VecDeque<(i64, i64)>,
    audit: Option<AuditView>,
    /// Drifts that reading again did not mend (rows that cannot be understood), by day: not worth a second try.
    unrepairable: HashMap<NaiveDate, Drift>,
    /// Which older day the next audit looks at.
    audit_day: Option<NaiveDate>,
    /// The next refresh audits, whenever the last one was.
    audit_now: bool,
    /// The last refresh left new rows to read: an audit after it would be in vain, and dear after each step of many.
    behind: bool,
    /// What is known is of a checkpoint, which others may have gone beyond: nothing is shown before the first audit.
    restored: bool,
    /// What the ledger wants to be told again.
    resume_token: String,
}

/// The exporter's sums minus the ledger's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Drift {
    requests: i128,
    cost: Usd,
    board_tokens: i128,
    errors: i128,
    millis: i128,
    /// Another provider, model or outcome.
    labels: u64,
}

impl Drift {
    fn between(ours: LedgerSum, theirs: LedgerSum) -> Self {
        let minus = |a: u64, b: u64| i128::from(a) - i128::from(b);
        Self {
            requests: minus(ours.requests, theirs.requests),
            cost: ours.cost - theirs.cost,
            board_tokens: minus(ours.board_tokens, theirs.board_tokens),
            errors: minus(ours.errors, theirs.errors),
            millis: theirs.millis.map_or(0, |theirs| minus(ours.millis.unwrap_or(0), theirs)),
            labels: ours.labels.wrapping_sub(theirs.labels),
        }
    }
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
        }
    }

    /// Goes on with the same ledger, opened anew with changed settings.
    #[must_use]
    pub fn reopened(self, ledger: Box<dyn Ledger>, plan: &RelayPlan) -> Self {
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
        self.state.as_ref().map_or(0.0, State::history_loaded)
    }

    /// The numbers as of the last refresh; `None` before the first.
    pub fn view(&mut self, with: &Presentation<'_>) -> Option<LedgerView> {
        let state = self.state.as_mut()?;
        state.tally.rows_tell(self.ledger.facts());
        let mut view = state.tally.view(with);
        view.history_loaded = state.history_loaded();
        view.audit = state.audit;
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
        let audit_due = state.audit_due(self.audit_interval);
        // An audit compares what has been read, so it first reads everything that may have changed.
        let due = if audit_due { state.tally.unsettled() } else { state.tally.due() };
        let days = if audit_due { state.audit_days() } else { Vec::new() };
        let floor = state.floor();
        let request = RefreshRequest {
            after: Some(floor),
            limit: STEP_ROWS,
            // Those above the floor come again as new rows.
            reread: due.iter().copied().filter(|id| !state.tally.is_above(*id, floor)).collect(),
            audit: days.iter().map(|(_, range)| range.clone()).collect(),
            resume_token: state.resume_token.clone(),
        };
        let refresh = within(self.timeout, self.ledger.refresh(&request)).await?;
        self.rows_read += refresh.rows.len() as u64;
        let contradicts = state.tally.contradicts(&refresh.rows, refresh.now);
        let is_gone = |(request_id, id): (i64, i64)| {
            let asked = request.reread.contains(&request_id) || (id > floor && !refresh.more);
            asked && !refresh.rows.iter().any(|row| row.request_id == request_id)
        };
        if contradicts || refresh.top < state.top || state.tally.newest_held().is_some_and(is_gone) {
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
        let anew = if contradicts || refresh.basis != state.basis || refresh.top < state.top - OVERLAP_IDS {
            let (basis, was) = (&refresh.basis, &state.basis);
            tracing::warn!(basis, was, "the ledger or the settings it is read by have changed; reading it anew");
            true
        } else if refresh.tariff != state.tariff {
            tracing::info!("the relay's prices have changed; reading its rows anew at the new ones");
            true
        } else {
            false
        };
        if anew {
            if let Some(State { tally, unrepairable, .. }) = self.state.take() {
                self.begin(&refresh, tally.restart(moment(&refresh)), unrepairable);
            }
            return Ok(Backlog::NewRows);
        }
        let found: HashSet<i64> = refresh.rows.iter().map(|row| row.request_id).collect();
        let second = refresh.now.timestamp();
        if refresh.top < state.top {
            // Ids below the new top may be given out again as well.
            state.recent_tops = VecDeque::from([(second, refresh.top - OVERLAP_IDS)]);
            state.top = refresh.top;
        }
        state.resume_token.clone_from(&refresh.resume_token);
        if refresh.lost_rows {
            // What is gone from older days does not come back, and their counters cannot be told apart any more.
            state.audit_now = true;
            state.audit_day = None;
        }
        state.top = refresh.rows.iter().map(|row| row.id).max().unwrap_or(0).max(state.top);
        state.recent_tops.push_back((second, state.top));
        state.tally.advance(moment(&refresh));
        state.tally.rows_may_grow(refresh.tariff.is_empty());
        let mut rows = refresh.rows;
        rows.sort_unstable_by_key(|row| row.id);
        state.tally.apply(rows);
        state.tally.looked_at(if refresh.more { &request.reread } else { &due }, &found);
        let floor = state.floor();
        state.tally.settle(floor);
        state.behind = refresh.more;
        if !refresh.more && !refresh.lost_rows {
            self.note_audit(refresh.now, refresh.kept_since, &days, &refresh.audit).await?;
        }
        self.answer_wants().await;
        let more = refresh.more || refresh.lost_rows || self.awaits_audit();
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
        let mut rows = slice.rows;
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id));
        state.bottom = rows.last().map_or(state.bottom, |row| row.id);
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
            state.tally.cover_since(newest + DISORDER);
        }
        Ok(self.rest(false))
    }

    /// What was restored has yet to be held against the ledger.
    fn awaits_audit(&mut self) -> bool {
        let Some(state) = &mut self.state else { return false };
        state.restored &= state.audit.is_none() && state.tally.covers_yesterday();
        state.restored
    }

    fn begin(&mut self, refresh: &Refresh, mut tally: Tally, unrepairable: HashMap<NaiveDate, Drift>) {
        tally.pin(&self.pinned);
        // The cursor starts behind the newest rows: smaller ids may still become visible.
        let start = refresh.top.saturating_sub(OVERLAP_IDS).max(0);
        let state = State {
            tally,
            basis: refresh.basis.clone(),
            tariff: refresh.tariff.clone(),
            top: start,
            bottom: start + 1,
            history: start,
            recent_tops: VecDeque::from([(refresh.now.timestamp(), start)]),
            audit: None,
            unrepairable,
            audit_day: None,
            audit_now: false,
            behind: false,
            restored: false,
            resume_token: refresh.resume_token.clone(),
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

    /// Publishes the drift, and reads a day that drifted again.
    async fn note_audit(
        &mut self,
        now: DateTime<Utc>,
        kept_since: Option<NaiveDate>,
        days: &[(NaiveDate, Range<DateTime<Utc>>)],
        ledger: &[LedgerSum],
    ) -> Result<(), ReadError> {
        let Some(state) = &mut self.state else { return Ok(()) };
        if days.is_empty() {
            return Ok(());
        }
        let mut drift_requests = 0;
        let mut drift_cost = Usd::ZERO;
        let mut drifted = Vec::new();
        for ((date, range), theirs) in days.iter().zip(ledger) {
            // What the relay has cleaned up is no drift: the tally keeps it.
            if kept_since.is_some_and(|since| state.tally.outlives(*date, since)) {
                continue;
            }
            let drift = Drift::between(state.tally.day_sum(*date), *theirs);
            drift_requests += drift.requests;
            drift_cost += drift.cost;
            if drift == Drift::default() {
                // Reading again did mend it: the same drift, should it come back, is a new one.
                state.unrepairable.remove(date);
                continue;
            }
            if state.unrepairable.get(date) == Some(&drift) {
                continue;
            }
            tracing::warn!(%date, ?drift, "the audit found a drift; reading the rows again");
            drifted.push((*date, range.clone(), *theirs));
        }
        let drift_cost_usd = self.ledger.facts().cost.then(|| drift_cost.to_f64());
        state.audit = Some(AuditView { at: now, drift_requests: drift_requests as f64, drift_cost_usd });
        state.audit_day = state.next_audit_day();
        state.audit_now = false;
        for (date, range, theirs) in drifted {
            if !state.tally.is_repairable(date) {
                // Too long ago for its boards to be replaced: all rows are read again.
                state.unrepairable.insert(date, Drift::between(state.tally.day_sum(date), theirs));
                state.basis.clear();
                continue;
            }
            let rows = rows_of_span(&mut *self.ledger, self.timeout, range).await?;
            self.rows_read += rows.len() as u64;
            state.tally.replace_day(date, rows);
            state.unrepairable.insert(date, Drift::between(state.tally.day_sum(date), theirs));
        }
        Ok(())
    }

    async fn answer_wants(&mut self) {
        let Some(state) = &mut self.state else { return };
        let mut answers = Vec::new();
        // The rest is still wanted by the next view, and asked then.
        for want in state.tally.take_pending_sums().into_iter().take(WANTS_PER_REFRESH) {
            match within(self.timeout, self.ledger.spent(want.scope, want.id, want.range.clone())).await {
                Ok(spent) => answers.push((want, spent)),
                // One quota is absent for a while; everything else has been read.
                Err(error) => {
                    let (scope, id) = (want.scope.label(), want.id);
                    tracing::warn!(scope, id, error = error.text, "cannot sum what counts against a limit");
                    break;
                }
            }
        }
        state.tally.answer(&answers);
    }
}

impl State {
    /// Rows up to this id are not asked for again: where the cursor stood a minute ago, but not too far back.
    fn floor(&mut self) -> i64 {
        let newest = self.recent_tops.back().map_or(0, |(second, _)| *second);
        // The last top that is old enough stays in front.
        while self.recent_tops.len() > 1 && self.recent_tops[1].0 <= newest - OVERLAP_SECONDS {
            self.recent_tops.pop_front();
        }
        self.recent_tops.front().map_or(0, |(_, top)| *top).max(self.top - OVERLAP_IDS)
    }

    fn history_loaded(&self) -> f64 {
        if self.tally.is_complete() || self.history <= 0 {
            return 1.0;
        }
        (self.history - self.bottom + 1).max(0) as f64 / self.history as f64
    }

    fn audit_due(&self, interval: Duration) -> bool {
        let Some(now) = self.recent_tops.back().map(|(second, _)| *second) else { return false };
        let interval = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
        let due = self.audit.is_none_or(|audit| now - audit.at.timestamp() >= interval);
        !self.behind && self.tally.covers_yesterday() && (due || self.audit_now)
    }

    /// Today, yesterday, and one older day in turn, as far as they have been read.
    fn audit_days(&self) -> Vec<(NaiveDate, Range<DateTime<Utc>>)> {
        let today = self.tally.today();
        [Some(today), today.pred_opt(), self.audit_day]
            .into_iter()
            .flatten()
            .filter_map(|date| Some((date, self.tally.day_range(date)?)))
            .collect()
    }

    fn next_audit_day(&self) -> Option<NaiveDate> {
        let newest = self.tally.today() - Days::new(2);
        let next = self.audit_day.and_then(|date| date.pred_opt()).unwrap_or(newest);
        Some(if self.tally.day_range(next).is_some() { next } else { newest })
    }
}

/// Tells the tally which requests a ledger of another past has, and which of them are new.
async fn part_ways(
    ledger: &mut dyn Ledger,
    timeout: Duration,
    tally: &mut Tally,
    now: DateTime<Utc>,
) -> Result<(), ReadError> {
    // Ids and request ids hardly differ in their order.
    let newest = within(timeout, ledger.older(i64::MAX, OVERLAP_IDS as u32)).await?;
    let last = newest.rows.iter().map(|row| row.request_id).max().unwrap_or(i64::MIN);
    let since = tally.looked_until() + TimeDelta::microseconds(1);
    let (mut newer, mut after) = (Vec::new(), i64::MIN);
    loop {
        let page = within(timeout, ledger.rows_between(since..now + Days::new(1), after, STEP_ROWS)).await?;
        let Some(greatest) = page.iter().map(|row| row.id).max() else { break };
        after = greatest;
        newer.extend(page.iter().filter(|row| !tally.holds(row)).map(|row| row.request_id));
    }
    tally.part_ways(&newer, last);
    Ok(())
}

/// All rows that started in a span, by ascending id, read in bounded steps.
pub(crate) async fn rows_of_span(
    ledger: &mut dyn Ledger,
    timeout: Duration,
    span: Range<DateTime<Utc>>,
) -> Result<Vec<UsageRow>, ReadError> {
    let mut rows: Vec<UsageRow> = Vec::new();
    loop {
        let after = rows.last().map_or(i64::MIN, |row| row.id);
        let page = within(timeout, ledger.rows_between(span.clone(), after, STEP_ROWS)).await?;
        // A page may be short because some of its rows could not be understood.
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}

fn moment(refresh: &Refresh) -> Moment {
    Moment {
        now: refresh.now,
        same_time_yesterday: refresh.same_time_yesterday,
        calendar: Arc::clone(&refresh.calendar),
    }
}
