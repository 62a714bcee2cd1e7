//! What has been made of the ledger, held against the ledger's own sums; a day that differs is read again.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::{Follower, State, rows_of_span};
use crate::model::{LedgerSum, ReadError, Usd};
use crate::relay::TimeRange;
use crate::view::AuditView;

/// A local day, and when it begins and ends.
pub(super) type Day = (NaiveDate, TimeRange);

/// Requests of a day that is read again as a whole. Each takes about 600 bytes meanwhile.
const MOST_REPAIRED: u64 = 200_000;

/// The exporter's sums minus the ledger's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drift {
    requests: i128,
    cost: Usd,
    list_cost: Usd,
    board_tokens: i128,
    errors: i128,
    millis: i128,
    /// Another provider, model or outcome.
    labels: u64,
}

impl Drift {
    pub(super) fn between(ours: LedgerSum, theirs: LedgerSum) -> Self {
        let minus = |a: u64, b: u64| i128::from(a) - i128::from(b);
        Self {
            requests: minus(ours.requests, theirs.requests),
            cost: ours.cost - theirs.cost,
            list_cost: theirs.list_cost.map_or(Usd::ZERO, |theirs| ours.list_cost.unwrap_or_default() - theirs),
            board_tokens: minus(ours.board_tokens, theirs.board_tokens),
            errors: minus(ours.errors, theirs.errors),
            millis: theirs.millis.map_or(0, |theirs| minus(ours.millis.unwrap_or(0), theirs)),
            labels: theirs.labels.map_or(0, |theirs| ours.labels.unwrap_or(0).wrapping_sub(theirs)),
        }
    }
}

impl Follower {
    /// Publishes the drift, and reads a day that drifted again; tells whether there was one.
    pub(super) async fn note_audit(
        &mut self,
        now: DateTime<Utc>,
        kept_since: Option<NaiveDate>,
        days: &[Day],
        ledger: &[Option<LedgerSum>],
    ) -> Result<bool, ReadError> {
        let Some(state) = &mut self.state else { return Ok(false) };
        if days.is_empty() {
            return Ok(false);
        }
        let mut drift_requests = 0;
        let mut drift_cost = Usd::ZERO;
        let mut drifted = Vec::new();
        let mut compared = 0;
        for ((date, range), theirs) in days.iter().zip(ledger) {
            let Some(theirs) = theirs else { continue };
            compared += 1;
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
        let found = AuditView { at: now, drift_requests: drift_requests as f64, drift_cost_usd };
        state.audit = (compared > 0).then_some(found);
        let repairs = !drifted.is_empty();
        // Positions are given as rows are found, also to old ones.
        let upto = if self.ledger.gives_positions() { i64::MAX } else { state.top };
        for (date, range, theirs) in drifted {
            if let Err(error) = self.repair(date, range, theirs, upto).await {
                let state = self.state.as_mut().filter(|state| error.is_of_effort() && !state.restored);
                let Some(state) = state else { return Err(error) };
                state.note_failed_audit(now, &error);
                return Ok(true);
            }
        }
        let Some(state) = &mut self.state else { return Ok(false) };
        state.audited_at = Some(now);
        state.audit_day = state.next_audit_day();
        state.audit_now = false;
        Ok(repairs)
    }

    /// Reads a day again of which the ledger has another sum.
    async fn repair(
        &mut self,
        date: NaiveDate,
        range: TimeRange,
        theirs: LedgerSum,
        upto: i64,
    ) -> Result<(), ReadError> {
        let Some(state) = &mut self.state else { return Ok(()) };
        if !state.tally.is_repairable(date) || theirs.requests > MOST_REPAIRED {
            // Too long ago for its boards to be replaced, or too many to hold: all rows are read again, in steps.
            state.basis.clear();
        } else {
            let rows = rows_of_span(&mut *self.ledger, self.timeout, range, upto).await?;
            self.rows_read += rows.len() as u64;
            if (rows.len() as u64) < theirs.requests.min(state.tally.day_sum(date).requests) {
                tracing::warn!(%date, read = rows.len(), of = theirs.requests, "not all rows could be read; the day stays");
            } else {
                state.tally.replace_day(date, rows);
            }
        }
        state.unrepairable.insert(date, Drift::between(state.tally.day_sum(date), theirs));
        Ok(())
    }

    /// What the relay has deleted of the month is told by what it has `left` of its oldest day. After a repair, which is of
    /// a later moment, that has to be summed anew.
    pub(super) fn note_month(&mut self, oldest_day: Option<NaiveDate>, left: Option<&LedgerSum>, repaired: bool) {
        let Some(state) = &mut self.state else { return };
        state.month_moved |= repaired;
        if let (Some(date), Some(left), false) = (oldest_day, left, repaired) {
            state.tally.begin_month_with(date, *left);
            state.month_moved = false;
        }
    }

    /// What was restored has yet to be held against the ledger.
    pub(super) fn awaits_audit(&mut self) -> bool {
        let Some(state) = &mut self.state else { return false };
        state.restored &= state.audited_at.is_none() && state.tally.covers_yesterday();
        state.restored
    }
}

impl State {
    /// The next attempt waits as long as after one that succeeded: it may be dear.
    pub(super) fn note_failed_audit(&mut self, now: DateTime<Utc>, error: &ReadError) {
        tracing::warn!(
            error = error.text,
            "the audit failed; what it would have found stays unknown until the next one"
        );
        self.audit_failed_at = Some(now);
    }

    pub(super) fn audit_rests(&self, interval: Duration) -> bool {
        let rests = |now, failed: DateTime<Utc>| now - failed.timestamp() < interval.as_secs().cast_signed();
        self.overlap.second().zip(self.audit_failed_at).is_some_and(|(now, failed)| rests(now, failed))
    }

    pub(super) fn audit_due(&self, interval: Duration) -> bool {
        let Some(now) = self.overlap.second() else { return false };
        let interval = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
        let due = self.audited_at.is_none_or(|at| now - at.timestamp() >= interval);
        !self.behind && self.tally.covers_yesterday() && (due || self.audit_now)
    }

    /// Today, yesterday, and one older day in turn, as far as they have been read.
    pub(super) fn audit_days(&self) -> Vec<Day> {
        let today = self.tally.today();
        [Some(today), today.pred_opt(), self.audit_day]
            .into_iter()
            .flatten()
            .filter_map(|date| Some((date, self.tally.day_range(date)?)))
            .collect()
    }

    /// The day to be summed because the relay's month begins elsewhere than at the last look.
    pub(super) fn oldest_day(&self) -> Option<Day> {
        let date = self.tally.date(self.month_since.filter(|_| self.month_moved)?)?;
        Some((date, self.tally.day_range(date)?))
    }

    fn next_audit_day(&self) -> Option<NaiveDate> {
        let newest = self.tally.today() - Days::new(2);
        let next = self.audit_day.and_then(|date| date.pred_opt()).unwrap_or(newest);
        Some(if self.tally.day_range(next).is_some() { next } else { newest })
    }
}
