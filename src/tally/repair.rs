//! One local day, summed and read anew.

use std::ops::Range;

use chrono::{DateTime, Days, NaiveDate, Utc};
use hashbrown::HashMap;

use super::log::KEPT_SECONDS;
use super::{KEPT_DAYS, Tally};
use crate::model::{LedgerSum, UsageRow, Usd};

impl Tally {
    /// When a day begins and ends; `None` outside the calendar or where not all of its rows have been read.
    pub(crate) fn day_range(&self, date: NaiveDate) -> Option<Range<DateTime<Utc>>> {
        let calendar = &self.moment.calendar;
        self.covers(date).then_some(calendar.start(date)?..calendar.start(date.succ_opt()?)?)
    }

    /// What the tally has of a day, to hold against the ledger's own sum.
    pub fn day_sum(&self, date: NaiveDate) -> LedgerSum {
        self.day_sums.get(&date).copied().unwrap_or_default()
    }

    /// Whether the tally may have more of `date` than a ledger of which the oldest row started on `kept_since`: of days
    /// before, and of that one when something before it is gone.
    pub(crate) fn outlives(&self, date: NaiveDate, kept_since: NaiveDate) -> bool {
        let lost = || self.day_sums.range(..kept_since).any(|(_, sum)| sum.requests > 0);
        date < kept_since || (date == kept_since && lost())
    }

    /// Whether [`Self::replace_day`] can repair the day.
    pub(crate) fn is_repairable(&self, date: NaiveDate) -> bool {
        date + Days::new(KEPT_DAYS) >= self.today()
    }

    /// Puts `rows`, all that started on `date`, in the place of what the tally has of that day.
    pub fn replace_day(&mut self, date: NaiveDate, rows: Vec<UsageRow>) {
        let calendar = self.moment.calendar.clone();
        let old_sum = self.day_sums.remove(&date).unwrap_or_default();
        self.total.unmerge(&self.days.remove(date).unwrap_or_default());
        self.names.models.forget_folded();
        // Whose ids the rows of other days have: a restored ledger gives them out again.
        let mut logged = HashMap::new();
        self.log.each(self.now() - KEPT_SECONDS..i64::MAX, |second, fact| {
            logged.insert(fact.request_id, second);
        });
        let mut facts = HashMap::new();
        if let (Some(start), Some(end)) = (calendar.start(date), date.succ_opt().and_then(|next| calendar.start(next)))
        {
            let span = start.timestamp()..end.timestamp();
            self.log.each(span.clone(), |_, fact| {
                facts.insert(fact.request_id, *fact);
            });
            self.log.cut(span);
        }
        let mut held: HashMap<i64, UsageRow> = self
            .held
            .extract_if(|_, held| calendar.date(held.row.started_at) == Some(date))
            .map(|(request_id, held)| (request_id, held.row))
            .collect();

        // What is known of single rows is told apart; the rest of the day only as a whole.
        let (mut requests, mut cost) = (i128::from(old_sum.requests), old_sum.cost);
        for fact in facts.values() {
            requests -= 1;
            cost -= fact.cost;
        }
        // Rows that are older than the log but have only just come.
        for row in held.values().filter(|row| row.counted && !facts.contains_key(&row.request_id)) {
            requests -= 1;
            cost -= row.cost;
        }
        for row in rows {
            let before = held.remove(&row.request_id);
            let known = logged.get(&row.request_id);
            let fact = if known.is_none_or(|second| *second == row.started_at.timestamp()) {
                facts.remove(&row.request_id)
            } else {
                // Another request has its id now, as after a restore; the one that had it is gone.
                self.counted.remove(row.request_id);
                None
            };
            let before = before.or_else(|| fact.map(|fact| self.row_of(&fact, &row)));
            if before.is_none() && row.counted && self.has_counted(&row) {
                requests -= 1;
                cost -= row.cost;
            }
            self.take(row, before.as_ref());
            self.fold_full();
        }
        for row in held.into_values().filter(|row| row.counted && !facts.contains_key(&row.request_id)) {
            if self.knows(row.request_id) {
                self.corrections.deleted.note(1, row.cost);
            }
        }
        for fact in facts.into_values() {
            if self.knows(fact.request_id) {
                self.corrections.deleted.note(1, fact.cost);
            }
        }
        let gone = u64::try_from(requests).unwrap_or(0);
        let (less, more) = (cost.max(Usd::ZERO), (-cost).max(Usd::ZERO));
        let which = if gone > 0 { &mut self.corrections.deleted } else { &mut self.corrections.lowered };
        which.note(if less.is_positive() { gone.max(1) } else { gone }, less);
        self.corrections.rewritten.note(u64::from(more.is_positive()), more);
        self.rest();
        self.rebuild_windows();
        self.marks.clear();
    }
}
