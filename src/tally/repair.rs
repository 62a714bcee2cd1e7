//! One local day, summed and read anew.

use std::ops::Range;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use hashbrown::HashMap;

use super::log::KEPT_SECONDS;
use super::sums::WindowFact;
use super::{Corrections, KEPT_DAYS, Tally};
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

    /// The local date of an instant; `None` outside the calendar.
    pub fn date(&self, at: DateTime<Utc>) -> Option<NaiveDate> {
        self.moment.calendar.date(at)
    }

    /// On the relay's screen the month begins with the oldest row that it has: on this day, of which this is left.
    pub fn begin_month_with(&mut self, date: NaiveDate, left: LedgerSum) {
        let first = self.first_of_month();
        let mut gone = [0; 3];
        if date >= first {
            let days = self.day_sums.range(first..=date).map(|(_, sum)| sum.by_outcome());
            gone = days.fold(gone, |all: [u64; 3], day| std::array::from_fn(|it| all[it] + day[it]));
            let left = left.by_outcome();
            gone = std::array::from_fn(|it| gone[it].saturating_sub(left[it]));
        }
        self.gone_from_month = (first, gone);
    }

    /// Success, failure and neither of the present month's requests, as the relay's screen counts them.
    pub(super) fn month(&self) -> [u64; 3] {
        let all = self.month.boards.whole.spent.by_outcome();
        let (month, gone) = self.gone_from_month;
        if month == self.first_of_month() { std::array::from_fn(|it| all[it].saturating_sub(gone[it])) } else { all }
    }

    pub(super) fn first_of_month(&self) -> NaiveDate {
        self.today().with_day(1).unwrap_or(NaiveDate::MIN)
    }

    /// Whether [`Self::replace_day`] can repair the day.
    pub(crate) fn is_repairable(&self, date: NaiveDate) -> bool {
        date + Days::new(KEPT_DAYS) >= self.today()
    }

    /// Puts `rows`, all that started on `date`, in the place of what the tally has of that day.
    pub fn replace_day(&mut self, date: NaiveDate, rows: Vec<UsageRow>) {
        let old_sum = self.day_sums.remove(&date).unwrap_or_default();
        self.total.unmerge(&self.days.remove(date).unwrap_or_default());
        self.names.models.forget_folded();
        // Whose ids the rows of other days have: a restored ledger gives them out again.
        let mut logged = HashMap::new();
        self.log.each(self.now() - KEPT_SECONDS..i64::MAX, |second, fact| {
            logged.insert(fact.request_id, second);
        });
        let (mut facts, mut held) = self.take_out(date);

        // What is known of single rows is told apart; the rest of the day only as a whole.
        let mut remainder = Remainder { requests: old_sum.requests.into(), cost: old_sum.cost };
        facts.values().for_each(|fact| remainder.without(fact.requests, fact.cost));
        // Rows that are older than the log but have only just come.
        let older = |row: &&UsageRow| row.is_shown() && !facts.contains_key(&row.request_id);
        held.values().filter(older).for_each(|row| remainder.without(row.requests(), row.cost));
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
            if before.is_none() && row.is_shown() && self.has_counted(&row) {
                remainder.without(row.requests(), row.cost);
            }
            self.take(row, before.as_ref());
            self.fold_full();
        }
        held.retain(|request_id, row| row.counted && !facts.contains_key(request_id));
        let gone = held.values().map(|row| (row.request_id, row.cost));
        for (request_id, cost) in gone.chain(facts.values().map(|fact| (fact.request_id, fact.cost))) {
            if self.knows(request_id) {
                self.corrections.deleted.note(1, cost);
            }
        }
        remainder.note(&mut self.corrections);
        self.rest();
        self.rebuild_windows();
        self.marks.clear();
    }

    /// Takes a day's single rows out: what the log has of them, and those that are held.
    fn take_out(&mut self, date: NaiveDate) -> (HashMap<i64, WindowFact>, HashMap<i64, UsageRow>) {
        let calendar = self.moment.calendar.clone();
        let mut facts = HashMap::new();
        if let (Some(start), Some(end)) = (calendar.start(date), date.succ_opt().and_then(|next| calendar.start(next)))
        {
            let span = start.timestamp()..end.timestamp();
            self.log.each(span.clone(), |_, fact| {
                facts.insert(fact.request_id, *fact);
            });
            self.log.cut(span);
        }
        let held = self.held.extract_if(|_, held| calendar.date(held.row.started_at) == Some(date));
        let held = held.map(|(request_id, held)| (request_id, held.row)).collect();
        (facts, held)
    }
}

/// What a day's old sum has beyond the single rows that are known.
struct Remainder {
    requests: i128,
    cost: Usd,
}

impl Remainder {
    fn without(&mut self, requests: u64, cost: Usd) {
        self.requests -= i128::from(requests);
        self.cost -= cost;
    }

    /// It is gone, or was written anew.
    fn note(self, corrections: &mut Corrections) {
        let gone = u64::try_from(self.requests).unwrap_or(0);
        let (less, more) = (self.cost.max(Usd::ZERO), (-self.cost).max(Usd::ZERO));
        let which = if gone > 0 { &mut corrections.deleted } else { &mut corrections.lowered };
        which.note(if less.is_positive() { gone.max(1) } else { gone }, less);
        corrections.rewritten.note(u64::from(more.is_positive()), more);
    }
}
