//! What the rows amount to. Pure and deterministic: the same rows, in any split into batches and with any row delivered
//! more than once, give the same view.
//!
//! A row enters when it is first seen and stays *held* while it may still change; a new version takes the place of the
//! old one in every sum. Sums follow the ledger, down as well as up; [`Counters`] never fall.
//!
//! Nothing here grows with the history: a day of facts for the windows that slide, five weeks of days for the boards
//! and quotas, one small sum per day for the audit, and totals.

mod boards;
mod counters;
mod days;
mod log;
mod meter;
mod names;
mod parts;
mod present;
mod quota;
mod sums;
mod windows;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use crate::model::{Calendar, Outcome, UsageRow};
use crate::relays::LedgerSum;
use counters::{Counters, Final};
use days::{Daily, Day};
use log::{KEPT_SECONDS, Log};
use names::{NONE, Names, Sym};
use sums::{Boards, Fact, Total};
use windows::Windows;

pub use meter::Meter;
pub use parts::{Part, PartError, decoded, encoded};
pub use present::Presentation;
pub use quota::Want;

/// A final row is looked at for changes for so long: hedge losers are drained for 120 s, then priced and flushed
/// (Claude Code Hub v0.9.2, `response-handler.ts`), and a write may be retried.
const GRACE_SECONDS: i64 = 600;
/// A row that is not final by then is an orphan of a crash; the relay hides it too (`proxy-status-tracker.ts`).
pub const ORPHAN_SECONDS: i64 = 24 * 3600;
/// Days whose boards are kept: the longest month, and the week around its first day.
const KEPT_DAYS: u64 = 38;
/// Days whose counters are kept apart, so that the audit can repair them: today and two before.
const REPAIRABLE_DAYS: u64 = 2;

/// The moment that a tally is brought up to.
#[derive(Clone, Debug)]
pub struct Moment {
    pub now: DateTime<Utc>,
    pub same_time_yesterday: DateTime<Utc>,
    pub calendar: Arc<Calendar>,
}

impl Moment {
    /// The relay's local date.
    pub fn today(&self) -> NaiveDate {
        self.calendar.date(self.now).unwrap_or_else(|| self.now.date_naive())
    }
}

/// All sums over the rows of one relay's ledger.
#[derive(Debug)]
pub struct Tally {
    names: Dimensions,
    moment: Moment,
    /// Rows that may still change or be delivered again, by request id.
    held: HashMap<i64, Held>,
    /// Rows up to this id are not delivered again once they are settled.
    floor: i64,
    log: Log,
    windows: Windows,
    days: Daily,
    week: Span,
    month: Span,
    total: Boards,
    /// Every day's sum, to hold against the ledger's own.
    day_sums: BTreeMap<NaiveDate, LedgerSum>,
    counters: Counters,
    /// What the counters stood at when the ledger had to be read anew: they do not fall below it.
    carried: Option<Counters>,
    /// Which rows have been counted before the ledger had to be read anew.
    counted: Counted,
    /// Models of which rows are counted as early.
    early_models: HashSet<Sym>,
    marks: quota::Marks,
    corrections: Corrections,
    /// All rows that started at or after this second have been read; `i64::MIN` when all have.
    covered_since: i64,
    newest: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Dimensions {
    users: Names<i64>,
    keys: Names<i64>,
    providers: Names<i64>,
    models: Names<Arc<str>>,
}

#[derive(Debug)]
struct Held {
    row: UsageRow,
    final_since: Option<i64>,
    /// When to read it again, though it is final.
    next_look: i64,
    /// The cost that the counters have of it; `None` while they have not counted it.
    charged: Option<crate::model::Usd>,
}

/// Rows, by id, that have been counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counted {
    /// All up to this id.
    upto: i64,
    /// But for these: up to `upto` they have not been counted, beyond it they have.
    except: HashSet<i64>,
}

impl Counted {
    fn any(&self) -> bool {
        self.upto > 0 || !self.except.is_empty()
    }

    fn has(&self, id: i64) -> bool {
        (id <= self.upto) != self.except.contains(&id)
    }
}

/// Boards since a local day that began a week or a month.
#[derive(Debug, Default)]
struct Span {
    start: i64,
    boards: Boards,
}

/// Changes of rows that had already been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Corrections {
    late_cost: u64,
    lowered: u64,
    deleted: u64,
    reclassified: u64,
}

impl Tally {
    pub fn new(moment: Moment) -> Self {
        let mut tally = Self {
            names: Dimensions::default(),
            moment,
            held: HashMap::new(),
            floor: 0,
            log: Log::default(),
            windows: Windows::default(),
            days: Daily::default(),
            week: Span::default(),
            month: Span::default(),
            total: Boards::default(),
            day_sums: BTreeMap::new(),
            counters: Counters::default(),
            carried: None,
            counted: Counted::default(),
            early_models: HashSet::new(),
            marks: quota::Marks::default(),
            corrections: Corrections::default(),
            covered_since: i64::MAX,
            newest: None,
        };
        tally.rebuild_windows();
        tally
    }

    /// Forgets the rows, because they will all be read again; the counters resume where they stood.
    pub fn restart(self, moment: Moment) -> Self {
        let (carried, counted) =
            if self.is_complete() { (Some(self.counters), Counted::default()) } else { (self.carried, self.counted) };
        Self { names: self.names, corrections: self.corrections, carried, counted, ..Self::new(moment) }
    }

    /// Like [`Self::restart`], where the same rows now mean something else: one that has been counted keeps the labels
    /// and the cost it was counted with.
    pub fn reread(self, moment: Moment) -> Self {
        if !self.is_complete() {
            return self.restart(moment);
        }
        let counted = Counted {
            upto: self.floor,
            except: self
                .held
                .values()
                .filter(|held| (held.row.id <= self.floor) != held.charged.is_some())
                .map(|held| held.row.id)
                .collect(),
        };
        Self { counted, ..self.restart(moment) }
    }

    /// Moves the clock.
    pub fn advance(&mut self, mut moment: Moment) {
        // When the ledger's oldest rows are gone, their days still have sums here.
        if let Some(calendar) = moment.calendar.preceded_by(&self.moment.calendar) {
            moment.calendar = Arc::new(calendar);
        }
        // Older rows than all before lengthen the calendar, and with it the week and the month.
        let new_day = self.today() != moment.today() || self.moment.calendar != moment.calendar;
        self.moment = moment;
        let now = self.now();
        self.windows.slide(&self.log, &self.moment);
        // Only now: after a long sleep the windows have yet to let go of what the log forgets.
        self.log.forget_before(now - KEPT_SECONDS);
        if new_day {
            self.turn_day();
        }
    }

    /// Tells ahead of a row that will be applied, so that a series budget admits in the order of the ledger's ids even
    /// where a later row ends first.
    pub fn announce(&mut self, row: &UsageRow) {
        if !row.counted {
            return;
        }
        let fact = self.fact(row);
        self.names.users.admit(fact.user, row.id);
        self.names.keys.admit(fact.key, row.id);
        if row.is_final && row.outcome == Some(Outcome::Success) {
            self.names.models.admit(fact.model, row.id);
        }
    }

    /// Takes rows in: new ones, and new versions of held ones.
    pub fn apply(&mut self, rows: impl IntoIterator<Item = UsageRow>) {
        for row in rows {
            self.put(row);
        }
        // What is older hardly changes any more.
        self.log.pack_before(self.now() - GRACE_SECONDS);
        self.days.pack_before(self.today() - Days::new(REPAIRABLE_DAYS));
    }

    /// Requests whose present version is wanted: those in flight, and final ones whose age has doubled since the last
    /// look, so that a late cost is seen soon without reading every row of the grace period on every refresh.
    pub fn due(&self) -> Vec<i64> {
        let now = self.now();
        self.held
            .iter()
            .filter(|(_, held)| held.final_since.is_none() || held.next_look <= now)
            .map(|(request_id, _)| *request_id)
            .collect()
    }

    /// All requests that may still change.
    pub fn unsettled(&self) -> Vec<i64> {
        self.held.keys().copied().collect()
    }

    /// Notes that `asked` were read again; those that are not among `found` are gone from the ledger.
    pub fn looked_at(&mut self, asked: &[i64], found: &HashSet<i64>) {
        let now = self.now();
        for request_id in asked {
            if found.contains(request_id) {
                if let Some(held) = self.held.get_mut(request_id) {
                    held.next_look = next_look(now, held.final_since);
                }
            } else if let Some(held) = self.held.remove(request_id) {
                if held.row.counted {
                    self.withdraw(&held.row);
                }
                self.corrections.deleted += u64::from(held.charged.is_some());
            }
        }
    }

    /// Lets go of rows that will neither change nor be delivered again: settled ones with an id up to `floor`. One that
    /// is due, because nobody looked for a while, is looked at first.
    pub fn settle(&mut self, floor: i64) {
        self.floor = floor;
        let now = self.now();
        self.held.retain(|_, held| {
            let due = held.final_since.is_some() && held.next_look <= now;
            held.row.id > floor || due || !settled(&held.row, held.final_since, now)
        });
    }

    /// All rows that started at or after `since` have been read.
    pub fn cover_since(&mut self, since: DateTime<Utc>) {
        // The next second: the one of `since` itself may have begun before.
        self.covered_since = self.covered_since.min(since.timestamp() + 1);
    }

    /// All rows have been read.
    pub fn complete(&mut self) {
        self.covered_since = i64::MIN;
        if let Some(carried) = self.carried.take() {
            let now = std::mem::take(&mut self.counters);
            let before = if self.counted.any() { Counters::default() } else { carried.clone() };
            self.counters = carried;
            self.counters.raise(&before, &now);
        }
    }

    pub fn is_complete(&self) -> bool {
        self.covered_since == i64::MIN
    }

    /// Whether every row since the start of `date` has been read.
    pub fn covers(&self, date: NaiveDate) -> bool {
        self.moment.calendar.start(date).is_some_and(|start| self.covered_since <= start.timestamp())
    }

    pub fn today(&self) -> NaiveDate {
        self.moment.today()
    }

    pub fn covers_yesterday(&self) -> bool {
        self.is_complete() || self.today().pred_opt().is_some_and(|yesterday| self.covers(yesterday))
    }

    /// When a day begins and ends; `None` outside the calendar or where not all of its rows have been read.
    pub fn day_range(&self, date: NaiveDate) -> Option<Range<DateTime<Utc>>> {
        let calendar = &self.moment.calendar;
        self.covers(date).then_some(calendar.start(date)?..calendar.start(date.succ_opt()?)?)
    }

    /// What the tally has of a day, to hold against the ledger's own sum.
    pub fn day_sum(&self, date: NaiveDate) -> LedgerSum {
        self.day_sums.get(&date).copied().unwrap_or_default()
    }

    /// Whether the tally may have more of `date` than a ledger of which the oldest row started on `kept_since`: of days
    /// before, and of that one when something before it is gone.
    pub fn outlives(&self, date: NaiveDate, kept_since: NaiveDate) -> bool {
        let lost = || self.day_sums.range(..kept_since).any(|(_, sum)| sum.requests > 0);
        date < kept_since || (date == kept_since && lost())
    }

    /// Whether [`Self::replace_day`] can repair the day.
    pub fn is_repairable(&self, date: NaiveDate) -> bool {
        self.days.ready(date).map_or(date + Days::new(REPAIRABLE_DAYS) >= self.today(), |day| day.counters.is_some())
    }

    /// Puts `rows`, all that started on `date`, in the place of what the tally has of that day.
    pub fn replace_day(&mut self, date: NaiveDate, rows: Vec<UsageRow>) {
        let old = self.days.remove(date).unwrap_or_default();
        self.total.unmerge(&old.boards);
        self.day_sums.remove(&date);
        if let (Some(start), Some(end)) =
            (self.moment.calendar.start(date), date.succ_opt().and_then(|next| self.moment.calendar.start(next)))
        {
            self.log.cut(start.timestamp()..end.timestamp());
        }
        let calendar = self.moment.calendar.clone();
        self.held.retain(|_, held| calendar.date(held.row.started_at) != Some(date));

        // Count the day alone, then raise the totals by the difference.
        let totals = std::mem::take(&mut self.counters);
        self.apply(rows);
        self.counters = totals;
        let none = Counters::default();
        let before = old.counters.as_ref().unwrap_or(&none);
        if let Some(now) = self.days.ready(date).and_then(|day| day.counters.as_ref()) {
            let lowered = self.counters.raise(before, now);
            self.corrections.lowered += u64::from(lowered);
        }
        self.rebuild_windows();
        self.turn_day();
        self.marks.clear();
    }

    fn now(&self) -> i64 {
        self.moment.now.timestamp()
    }

    fn put(&mut self, row: UsageRow) {
        let now = self.now();
        let request_id = row.request_id;
        let Some(held) = self.held.remove(&request_id) else {
            self.newest = self.newest.max(Some(row.started_at));
            if row.counted {
                self.enter(&row);
            }
            let charged = (row.counted && row.is_final).then(|| {
                self.count(&row);
                row.cost
            });
            let final_since = row.is_final.then(|| {
                let ended = row.started_at.timestamp() + i64::from(row.duration_ms.unwrap_or(0) / 1000);
                ended.min(now)
            });
            if row.id > self.floor || !settled(&row, final_since, now) {
                let next_look = next_look(now, final_since);
                self.held.insert(request_id, Held { row, final_since, next_look, charged });
            }
            return;
        };
        if held.row == row {
            self.held.insert(request_id, held);
            return;
        }

        if held.row.counted {
            self.withdraw(&held.row);
        }
        if row.counted {
            self.enter(&row);
        }
        let charged = match held.charged {
            None => (row.counted && row.is_final).then(|| {
                self.count(&row);
                row.cost
            }),
            Some(charged) => Some(self.correct(&held.row, &row, charged)),
        };
        let final_since = held.final_since.or(row.is_final.then_some(now));
        self.held.insert(request_id, Held { row, final_since, next_look: next_look(now, final_since), charged });
    }

    /// A row that had been counted has changed. Returns what the counters have of its cost now.
    fn correct(&mut self, old: &UsageRow, new: &UsageRow, charged: crate::model::Usd) -> crate::model::Usd {
        let unlike = |row: &UsageRow| {
            (row.counted, row.is_final, row.outcome, row.status, row.provider_id, row.model.clone(), row.tokens)
        };
        self.corrections.reclassified += u64::from(unlike(old) != unlike(new));
        if new.counted && !new.imported && new.cost > charged {
            self.corrections.late_cost += 1;
            // Under the labels that the row was counted with.
            let it = self.resolve(old);
            self.counters.charge(&it, new.cost - charged);
            if let Some(counters) = self.day_of(old).and_then(|day| day.counters.as_mut()) {
                counters.charge(&it, new.cost - charged);
            }
            return new.cost;
        }
        self.corrections.lowered += u64::from(!new.counted || new.cost < charged);
        charged
    }

    fn count(&mut self, row: &UsageRow) {
        if self.counted.has(row.id) {
            return;
        }
        let mut it = self.resolve(row);
        if row.outcome == Some(Outcome::Success) && it.early {
            let first = self.names.models.admitted_by(it.model);
            // Once counters have been shown, rows do not move from `other` to their model: `other` would fall.
            let first_load = self.carried.is_none() && !self.is_complete();
            if first_load || first == i64::MAX {
                self.names.models.admit(it.model, row.id);
                it.early = false;
            }
            if first_load {
                self.admit_early(it.model, row.id);
            }
        }
        if it.early {
            self.early_models.insert(it.model);
        }
        self.counters.count(&it);
        if let Some(counters) = self.day_of(row).and_then(|day| day.counters.as_mut()) {
            counters.count(&it);
        }
    }

    /// While history is read backwards, rows count as early until an older success of their model turns up.
    fn admit_early(&mut self, model: Sym, id: i64) {
        let later = |counters: &Counters| {
            counters.traffic.iter().all(|(key, traffic)| key.1 != model || !key.2 || traffic.first_id > id)
        };
        if self.early_models.contains(&model) && later(&self.counters) {
            self.early_models.remove(&model);
            self.counters.admit_early(model);
            self.days.counters().for_each(|counters| counters.admit_early(model));
        }
    }

    fn resolve<'a>(&mut self, row: &'a UsageRow) -> Final<'a> {
        let fact = self.fact(row);
        let answered = row.answered_model.as_ref().map_or(NONE, |model| self.names.models.sym(model));
        Final {
            row,
            user: fact.user,
            key: fact.key,
            provider: fact.provider,
            model: fact.model,
            answered,
            early: fact.model != NONE && row.id < self.names.models.admitted_by(fact.model),
        }
    }

    fn fact(&mut self, row: &UsageRow) -> Fact {
        // Tokens beyond this are not a request's but a broken row's; the limit keeps a sum of them within 64 bits.
        const ABSURD: u64 = 1 << 40;
        let narrow = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        let names = &mut self.names;
        let input = row.tokens.input.saturating_add(row.tokens.cache_read).saturating_add(row.tokens.written());
        let touched_cache = row.tokens.cache_read > 0 || row.tokens.written() > 0;
        Fact {
            request_id: row.request_id,
            cost: row.cost,
            board_tokens: row.board_tokens.min(ABSURD),
            speed_micro: row.output_speed_micro.map(|speed| speed.min(ABSURD)),
            user: names.users.sym(&row.user_id),
            key: row.key_id.map_or(NONE, |key| names.keys.sym(&key)),
            provider: names.providers.sym(&row.provider_id),
            model: row.model.as_ref().map_or(NONE, |model| names.models.sym(model)),
            duration_ms: row.duration_ms,
            ttft_ms: row.ttft_ms,
            cache_read: narrow(row.tokens.cache_read),
            cache_input: if touched_cache { narrow(input) } else { 0 },
            is_error: row.is_error,
            outcome: row.outcome,
        }
    }

    fn day_of(&mut self, row: &UsageRow) -> Option<&mut Day> {
        let date = self.moment.calendar.date(row.started_at)?;
        let today = self.today();
        if date + Days::new(KEPT_DAYS) < today {
            return None;
        }
        let repairable = date + Days::new(REPAIRABLE_DAYS) >= today;
        let make = || Day { boards: Boards::default(), counters: repairable.then(Counters::default) };
        Some(self.days.entry(date, make))
    }

    fn enter(&mut self, row: &UsageRow) {
        let second = row.started_at.timestamp();
        let fact = self.fact(row);
        self.names.users.admit(fact.user, row.id);
        self.names.keys.admit(fact.key, row.id);
        self.total.add(&fact);
        if let Some(day) = self.day_of(row) {
            day.boards.add(&fact);
        }
        if let Some(date) = self.moment.calendar.date(row.started_at) {
            let sum = self.day_sums.entry(date).or_default();
            sum.requests += 1;
            sum.cost += fact.cost;
            sum.board_tokens = sum.board_tokens.wrapping_add(fact.board_tokens);
            sum.errors += u64::from(fact.is_error);
        }
        for span in [&mut self.week, &mut self.month] {
            if second >= span.start {
                span.boards.add(&fact);
            }
        }
        if second >= self.now() - KEPT_SECONDS {
            self.log.insert(second, fact);
        }
        self.windows.add(second, &fact);
        self.marks.change(second, &fact, fact.cost);
    }

    fn withdraw(&mut self, row: &UsageRow) {
        let second = row.started_at.timestamp();
        let fact = self.fact(row);
        self.total.sub(&fact);
        if let Some(day) = self.day_of(row) {
            day.boards.sub(&fact);
        }
        if let Some(sum) = self.moment.calendar.date(row.started_at).and_then(|date| self.day_sums.get_mut(&date)) {
            sum.requests -= 1;
            sum.cost -= fact.cost;
            sum.board_tokens = sum.board_tokens.wrapping_sub(fact.board_tokens);
            sum.errors -= u64::from(fact.is_error);
        }
        for span in [&mut self.week, &mut self.month] {
            if second >= span.start {
                span.boards.sub(&fact);
            }
        }
        self.log.remove(second, fact.request_id);
        self.windows.sub(second, &fact);
        self.marks.change(second, &fact, -fact.cost);
    }

    fn rebuild_windows(&mut self) {
        self.windows.begin(&self.log, &self.moment);
        self.turn_day();
    }

    /// Week and month begin anew from the days, and days that nobody asks for any more go.
    fn turn_day(&mut self) {
        let today = self.today();
        let recent = today - Days::new(REPAIRABLE_DAYS);
        self.days.forget_before(today - Days::new(KEPT_DAYS));
        self.days.unpack_since(recent);
        self.days.pack_before(recent);
        let monday = today - Days::new(u64::from(today.weekday().num_days_from_monday()));
        self.week = self.span_since(monday);
        self.month = self.span_since(today.with_day(1).unwrap_or(today));
    }

    fn span_since(&self, date: NaiveDate) -> Span {
        let mut boards = Boards::default();
        self.days.boards(date.., |_, day| boards.merge(day));
        // A calendar that begins later than the week or month began has no older rows either.
        let start = self.moment.calendar.start(date.max(self.moment.calendar.first_date()));
        Span { start: start.map_or(i64::MAX, |start| start.timestamp()), boards }
    }
}

/// When to read a row again that is as it should be now: one in flight each time, a final one when its age has doubled.
fn next_look(now: i64, final_since: Option<i64>) -> i64 {
    now + final_since.map_or(0, |since| now - since).max(1)
}

fn settled(row: &UsageRow, final_since: Option<i64>, now: i64) -> bool {
    match final_since {
        Some(since) => now - since > GRACE_SECONDS,
        None => now - row.started_at.timestamp() > ORPHAN_SECONDS,
    }
}
