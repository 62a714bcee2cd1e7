//! What the rows amount to. Pure and deterministic: the same rows, in any split into batches and with any row delivered
//! more than once, give the same view.
//!
//! A row enters when it is first seen and stays *held* while it may still change; a new version takes the place of the
//! old one in every sum. Sums follow the ledger, down as well as up. [`Counters`] never fall: a request is counted once
//! in its life, when it is final, under the labels that it has then, and [`Counted`] remembers it. So the ledger may be
//! read anew as often as need be. What a later version has more is added; what it has less stays counted.
//!
//! Nothing here grows with the history, but a bit per request and one small sum per day for the audit: a day of facts
//! for the windows that slide, five weeks of days for the boards and quotas, and totals.

mod boards;
mod counted;
mod counter_state;
mod counters;
mod course;
mod days;
mod fold;
mod log;
mod names;
mod parts;
mod present;
mod quota;
mod repair;
mod rows;
mod sums;
mod windows;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use crate::model::{Calendar, Facts, LedgerSum, Outcome, Scope, UsageRow, Usd};
use crate::view::{Blocks, EntityCounters};
use counted::Counted;
use counters::Counters;
use days::Daily;
use log::{KEPT_SECONDS, Log};
use names::{Names, Sym};
use rows::{next_look, settled};
use sums::BoardSums;
use windows::Windows;

pub use counter_state::CounterState;
pub use present::Presentation;
pub use quota::PendingSum;

/// A final row is looked at for changes for so long: hedge losers are drained for 120 s, then priced and flushed
/// (Claude Code Hub v0.9.2, `response-handler.ts`), and a write may be retried.
const GRACE_SECONDS: i64 = 600;
/// Restores of the ledger that are told apart.
const MOST_PASTS: usize = 8;
/// A row that is not final by then is an orphan of a crash; the relay hides it too (`proxy-status-tracker.ts`).
pub(crate) const ORPHAN_SECONDS: i64 = 24 * 3600;
/// Days whose boards are kept: the longest month, and the week around its first day.
const KEPT_DAYS: u64 = 38;
/// Newest rows that stay held: whether the ledger is still the one that was read shows in them.
const ANCHORS: usize = 16;

/// The moment that a tally is brought up to.
#[derive(Clone, Debug)]
pub struct Moment {
    /// By the store's clock.
    pub now: DateTime<Utc>,
    /// The same local time of day, one local day before `now`.
    pub same_time_yesterday: DateTime<Utc>,
    /// The relay's days.
    pub calendar: Arc<Calendar>,
}

impl Moment {
    /// The relay's local date.
    pub(crate) fn today(&self) -> NaiveDate {
        self.calendar.date(self.now).unwrap_or_else(|| self.now.date_naive())
    }
}

/// All sums over the rows of one relay's ledger.
#[derive(Debug)]
pub struct Tally {
    names: Dimensions,
    moment: Moment,
    /// What the rows tell.
    facts: Facts,
    /// Rows that may still change or be delivered again, by request id.
    held: HashMap<i64, Held>,
    /// Rows up to this id are not delivered again once they are settled.
    floor: i64,
    log: Log,
    windows: Windows,
    days: Daily,
    week: Span,
    month: Span,
    total: BoardSums,
    /// Every day's sum, to hold against the ledger's own.
    day_sums: BTreeMap<NaiveDate, LedgerSum>,
    /// First day of a month, and success, failure and neither of its requests that the relay's screen has not any more.
    gone_from_month: (NaiveDate, [u64; 3]),
    counters: Counters,
    counted: Counted,
    /// Counted requests that a ledger of another past has not: it may bring them again, or give their ids to others,
    /// which start later. By the microsecond after which the others start.
    doubtful: BTreeMap<i64, Counted>,
    /// What the counters have of a request, where its row says something else now. By second of the start, and request id.
    booked: BTreeMap<(i64, i64), UsageRow>,
    /// The counters have the whole ledger, and are shown from then on.
    counters_complete: bool,
    /// A row may get more cost, tokens or durations after its end; otherwise what changes in it was written anew later.
    rows_grow: bool,
    /// Models of which rows are counted as early, while the history is read for the first time.
    early_models: HashSet<Sym>,
    /// Which models succeed is known from reading the rows before.
    reads_again: bool,
    marks: quota::Marks,
    /// Those of the last view, by [`Scope::SPENDERS`].
    shown_spenders: [Blocks<EntityCounters>; 4],
    corrections: Corrections,
    /// All rows that started at or after this second have been read; `i64::MIN` when all have.
    covered_since: i64,
    newest: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Dimensions {
    /// By [`Scope::ALL`], but models.
    ids: [Names<i64>; 5],
    models: Names<Arc<str>>,
}

#[derive(Debug)]
struct Held {
    row: UsageRow,
    final_since: Option<i64>,
    /// When to read it again, though it is final.
    next_look: i64,
}

/// BoardSums since a local day that began a week or a month.
#[derive(Debug, Default)]
struct Span {
    start: i64,
    boards: BoardSums,
}

/// Changes of rows that had already been counted. What the ledger has is what the counters have, with `rewritten`,
/// without `lowered` and `deleted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Corrections {
    /// Cost that came after the end, and was counted then.
    late_cost: Correction,
    lowered: Correction,
    deleted: Correction,
    /// Cost that was raised without being spent: a past that was priced or written anew.
    rewritten: Correction,
    reclassified: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Correction {
    rows: u64,
    cost: Usd,
}

impl Correction {
    fn note(&mut self, rows: u64, cost: Usd) {
        self.rows += rows;
        self.cost += cost;
    }
}

impl Tally {
    /// Without any row.
    pub fn new(moment: Moment) -> Self {
        let mut tally = Self {
            names: Dimensions::default(),
            moment,
            facts: Facts::ALL,
            held: HashMap::new(),
            floor: 0,
            log: Log::default(),
            windows: Windows::default(),
            days: Daily::default(),
            week: Span::default(),
            month: Span::default(),
            total: BoardSums::default(),
            day_sums: BTreeMap::new(),
            gone_from_month: (NaiveDate::MIN, [0; 3]),
            counters: Counters::default(),
            counted: Counted::default(),
            doubtful: BTreeMap::new(),
            booked: BTreeMap::new(),
            counters_complete: false,
            rows_grow: true,
            early_models: HashSet::new(),
            reads_again: false,
            marks: quota::Marks::default(),
            shown_spenders: Default::default(),
            corrections: Corrections::default(),
            covered_since: i64::MAX,
            newest: None,
        };
        tally.rebuild_windows();
        tally
    }

    /// Forgets the rows, because they will all be read again, but not that they have been counted.
    #[must_use]
    pub fn restart(self, moment: Moment) -> Self {
        let mut tally = Self {
            names: self.names,
            corrections: self.corrections,
            rows_grow: self.rows_grow,
            reads_again: true,
            ..Self::new(moment)
        };
        // Counters that nobody has seen begin anew as well.
        if self.counters_complete {
            tally.booked = self.booked;
            let rows = self.held.into_values().map(|held| held.row);
            let counted = |row: &UsageRow| {
                let is_known = |ids: &Counted| ids.contains(row.request_id);
                row.counted && (is_known(&self.counted) || self.doubtful.values().any(is_known))
            };
            for row in rows.filter(counted) {
                tally.booked.entry(identity(&row)).or_insert(row);
            }
            (tally.counters, tally.counters_complete) = (self.counters, true);
            (tally.counted, tally.doubtful) = (self.counted, self.doubtful);
        }
        // Names that never succeeded are as if they had never been, until their rows are read again.
        tally.fold(Scope::Model, &HashSet::new());
        tally.names.models.forget_folded();
        tally
    }

    /// Whether a row may get more cost, tokens or durations after its end.
    pub(crate) fn rows_may_grow(&mut self, rows_grow: bool) {
        self.rows_grow = rows_grow;
    }

    /// What its rows tell: the rest is absent from its view.
    pub(crate) fn rows_tell(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// Models whose rows count under their own name whatever becomes of them, in the place of those pinned before.
    pub fn pin(&mut self, models: &[String]) {
        self.names.models.pin(models.iter().map(|model| Arc::from(model.as_str())));
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
        self.windows.slide(&mut self.log, &self.moment);
        // Only now: after a long sleep the windows have yet to let go of what the log forgets.
        self.log.forget_before(now - KEPT_SECONDS);
        if new_day {
            self.turn_day();
        }
    }

    /// Tells ahead of a row that will be applied, so that a series budget admits in the order of the ledger's ids even
    /// where a later row ends first.
    pub(crate) fn announce(&mut self, row: &UsageRow) {
        if !row.counted {
            return;
        }
        let fact = self.fact(row);
        self.names.admit(&Scope::SPENDERS, &fact, row.id);
        if row.is_final && row.outcome == Some(Outcome::Success) {
            self.names.models.admit(fact.entity(Scope::Model), row.id);
        }
    }

    /// Takes rows in: new ones, and new versions of held ones.
    pub fn apply(&mut self, rows: impl IntoIterator<Item = UsageRow>) {
        for row in rows {
            self.put(row);
            self.fold_full();
        }
        self.rest();
    }

    /// Packs what is older and hardly changes any more.
    fn rest(&mut self) {
        self.log.pack_before(self.now() - GRACE_SECONDS);
        self.days.pack_before(self.today());
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

    /// Whether the row of a request has a greater id than `floor`.
    pub(crate) fn is_above(&self, request_id: i64, floor: i64) -> bool {
        self.held.get(&request_id).is_some_and(|held| held.row.id > floor)
    }

    /// The request with the greatest row id among those that may still change, and that id.
    pub(crate) fn newest_held(&self) -> Option<(i64, i64)> {
        self.held.values().map(|held| (held.row.request_id, held.row.id)).max_by_key(|(_, id)| *id)
    }

    /// Requests that are held from rows with these ids.
    pub(crate) fn held_as(&self, ids: &[i64]) -> impl Iterator<Item = i64> {
        let ids: HashSet<i64> = ids.iter().copied().collect();
        let held = self.held.iter().filter(move |(_, held)| ids.contains(&held.row.id));
        held.map(|(request_id, _)| *request_id)
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
                self.lose(&held.row);
            }
        }
    }

    /// A row is gone from the ledger.
    fn lose(&mut self, row: &UsageRow) {
        self.withdraw(row);
        if row.counted && self.knows(row.request_id) {
            self.corrections.deleted.note(1, row.cost);
        }
    }

    /// Whether some of the rows, read at `now`, are of other requests than those that had their ids at the last look. A
    /// start that is ahead of both clocks says nothing about when its request came, nor one that is known.
    pub(crate) fn contradicts(&self, rows: &[UsageRow], now: DateTime<Utc>) -> bool {
        let is_new = |row: &UsageRow| {
            row.started_at > self.moment.now && row.started_at <= now && !self.booked.contains_key(&identity(row))
        };
        rows.iter().any(|row| match self.held.get(&row.request_id) {
            Some(held) => !is_same(&held.row, row),
            None => is_new(row) && self.counted.contains(row.request_id),
        })
    }

    /// The ledger is of another past than the one that was read: of its requests, `newer` have started since the last
    /// look, and `last` is the greatest id. Those are new, whoever had their ids. Of the counted ones from the first of
    /// them on, nobody knows which are still there: a row tells by its start, when it comes.
    pub(crate) fn part_ways(&mut self, newer: &[i64], last: i64) {
        let first = newer.iter().copied().min().unwrap_or(i64::MAX).min(last.saturating_add(1));
        let doubtful = self.doubtful.entry(self.moment.now.timestamp_micros()).or_default();
        self.counted.move_above(first.saturating_sub(1), doubtful);
        for ids in self.doubtful.values_mut() {
            newer.iter().for_each(|id| {
                ids.remove(*id);
            });
        }
        self.doubtful.retain(|_, ids| !ids.is_empty());
        while self.doubtful.len() > MOST_PASTS
            && let Some((_, mut oldest)) = self.doubtful.pop_first()
            && let Some(mut next) = self.doubtful.first_entry()
        {
            oldest.move_above(i64::MIN, next.get_mut());
        }
        self.booked.retain(|(_, id), _| *id < first || self.doubtful.values().any(|ids| ids.contains(*id)));
    }

    /// Whether the row is of a request that may still change, and of no other with its id.
    pub(crate) fn holds(&self, row: &UsageRow) -> bool {
        self.held.get(&row.request_id).is_some_and(|held| is_same(&held.row, row))
    }

    /// The last look at the ledger.
    pub(crate) fn looked_until(&self) -> DateTime<Utc> {
        self.moment.now
    }

    /// Lets go of rows that will neither change nor be delivered again: settled ones with an id up to `floor`, but for
    /// the newest. One that is due, because nobody looked for a while, is looked at first.
    pub fn settle(&mut self, floor: i64) {
        self.floor = floor;
        let now = self.now();
        let mut newest: Vec<i64> = self.held.values().map(|held| held.row.id).collect();
        newest.sort_unstable_by_key(|id| Reverse(*id));
        let anchor = newest.get(ANCHORS).copied().unwrap_or(i64::MIN);
        self.held.retain(|_, held| {
            let due = held.final_since.is_some() && held.next_look <= now;
            held.row.id > floor.min(anchor) || due || !settled(&held.row, held.final_since, now)
        });
        // Of what the log has forgotten nothing is told apart any more.
        let (held, logged) = (&self.held, now - KEPT_SECONDS);
        self.booked.retain(|(second, id), _| *second >= logged || held.contains_key(id));
    }

    /// All rows that started at or after `since` have been read.
    pub(crate) fn cover_since(&mut self, since: DateTime<Utc>) {
        // The next second: the one of `since` itself may have begun before.
        self.covered_since = self.covered_since.min(since.timestamp() + 1);
    }

    /// All rows have been read. `false` when they have to be read once more: a model has succeeded of which rows that
    /// had been read before were let go of.
    pub fn complete(&mut self) -> bool {
        if !self.counters_complete {
            if self.names.models.has_returned() && !self.reads_again {
                return false;
            }
            self.early_models.clear();
            self.counters.settle_early();
        }
        self.covered_since = i64::MIN;
        self.counters_complete = true;
        true
    }

    pub(crate) const fn is_complete(&self) -> bool {
        self.covered_since == i64::MIN
    }

    /// Whether every row since the start of `date` has been read.
    pub(crate) fn covers(&self, date: NaiveDate) -> bool {
        self.moment.calendar.start(date).is_some_and(|start| self.covered_since <= start.timestamp())
    }

    /// The relay's local date at the tally's moment.
    pub fn today(&self) -> NaiveDate {
        self.moment.today()
    }

    pub(crate) fn covers_yesterday(&self) -> bool {
        self.is_complete() || self.today().pred_opt().is_some_and(|yesterday| self.covers(yesterday))
    }

    fn now(&self) -> i64 {
        self.moment.now.timestamp()
    }

    fn rebuild_windows(&mut self) {
        self.windows.begin(&mut self.log, &self.moment);
        self.turn_day();
    }

    /// Week and month begin anew from the days, and days that nobody asks for any more go.
    fn turn_day(&mut self) {
        let today = self.today();
        self.days.forget_before(today - Days::new(KEPT_DAYS));
        self.days.unpack_since(today);
        let monday = today - Days::new(u64::from(today.weekday().num_days_from_monday()));
        self.week = self.span_since(monday);
        self.month = self.span_since(self.first_of_month());
    }

    fn span_since(&self, date: NaiveDate) -> Span {
        let mut boards = BoardSums::default();
        self.days.boards(date.., |_, day| boards.merge(day));
        // Days that are packed still tell names apart that have been let go of since.
        for scope in Scope::ALL {
            boards.retain(scope, |sym| self.names.has(scope, sym));
        }
        // A calendar that begins later than the week or month began has no older rows either.
        let start = self.moment.calendar.start(date.max(self.moment.calendar.first_date()));
        Span { start: start.map_or(i64::MAX, |start| start.timestamp()), boards }
    }
}

/// Whether two versions are of one request.
fn is_same(one: &UsageRow, other: &UsageRow) -> bool {
    (one.started_at, one.user_id) == (other.started_at, other.user_id)
}

fn identity(row: &UsageRow) -> (i64, i64) {
    (row.started_at.timestamp(), row.request_id)
}
