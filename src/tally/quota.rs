//! What counts against a limit.
//!
//! Calendar windows are sums of days and rolling ones slide over the log. Any other start (a manual reset, a daily reset
//! at half past nine) is a *mark*: the spending of one entity since one instant, kept up to date row by row.

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, TimeZone, Utc};
use hashbrown::HashMap;

use super::Tally;
use super::log::{KEPT_SECONDS, Log};
use super::names::{Folded, Sym};
use super::sums::WindowFact;
use crate::model::{Calendar, Directory, EntityId, Limit, Live, Scope, Usd, WindowRule, local_instant};
use crate::view::{Blocks, QuotaView};

/// Spending that only the store can tell: the part of a mark that lies before the days that are kept in detail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PendingSum {
    /// Whose spending it is.
    pub scope: Scope,
    /// The id in the relay.
    pub id: i64,
    /// By start of the request.
    pub range: Range<DateTime<Utc>>,
}

/// Spending since an instant, of entities whose windows begin at odd times.
#[derive(Debug, Default)]
pub(super) struct Marks {
    by_entity: HashMap<(Scope, Sym), Vec<Mark>>,
    wanted: Vec<PendingSum>,
}

#[derive(Debug)]
struct Mark {
    since: i64,
    spent: Usd,
    /// Asked for since the last pruning.
    used: bool,
    /// Its spending has yet to be summed up from the log.
    waits: bool,
}

impl Marks {
    pub(crate) fn change(&mut self, second: i64, fact: &WindowFact, amount: Usd) {
        if self.by_entity.is_empty() {
            return;
        }
        for mark in self.of(fact) {
            if second >= mark.since {
                mark.spent += amount;
            }
        }
    }

    fn of(&mut self, fact: &WindowFact) -> impl Iterator<Item = &mut Mark> {
        let entities = Scope::LIMITED.map(|scope| (scope, fact.entity(scope)));
        let marks = self.by_entity.get_disjoint_mut(entities.each_ref());
        marks.into_iter().flatten().flatten()
    }

    /// Sums up the marks that wait for it, all in one walk. Tells whether there was one.
    fn sum_up(&mut self, log: &mut Log) -> bool {
        let marks = || self.by_entity.values().flatten().filter(|mark| mark.waits);
        let Some(since) = marks().map(|mark| mark.since).min() else { return false };
        log.each(since..i64::MAX, |second, fact| {
            for mark in self.of(fact) {
                if mark.waits && second >= mark.since {
                    mark.spent += fact.cost;
                }
            }
        });
        self.by_entity.values_mut().flatten().for_each(|mark| mark.waits = false);
        true
    }

    pub(crate) fn clear(&mut self) {
        self.by_entity.clear();
    }

    /// What was spent; where that `waits`, [`Self::sum_up`] tells later.
    fn set(&mut self, scope: Scope, entity: Sym, since: i64, spent: Option<Usd>) {
        let (spent, waits) = (spent.unwrap_or_default(), spent.is_none());
        self.by_entity.entry((scope, entity)).or_default().push(Mark { since, spent, used: true, waits });
    }

    fn get(&mut self, scope: Scope, entity: Sym, since: i64) -> Option<Usd> {
        let mark = self.by_entity.get_mut(&(scope, entity))?.iter_mut().find(|mark| mark.since == since)?;
        mark.used = true;
        Some(mark.spent)
    }

    fn prune(&mut self) {
        self.by_entity.retain(|_, marks| {
            marks.retain_mut(|mark| std::mem::take(&mut mark.used));
            !marks.is_empty()
        });
    }
}

/// The quota as far as the limit itself tells it, or the live state.
pub(crate) fn live_quota(limit: &Limit, live: Option<&Live>) -> QuotaView {
    let told = match limit.rule {
        WindowRule::Told { used, resets_at } => Some((used, resets_at)),
        WindowRule::Live => {
            live.and_then(|live| live.window_spend.get(&limit.key())).map(|spend| (spend.used, spend.resets_at))
        }
        _ => None,
    };
    QuotaView {
        scope: limit.scope,
        id: limit.id.clone(),
        window: limit.window.clone(),
        part: Arc::clone(&limit.part),
        limit_usd: limit.limit.map(Usd::to_f64),
        soft_limit_usd: limit.soft_limit.map(Usd::to_f64),
        used_usd: told.map(|(used, _)| used.to_f64()),
        resets_at: told.and_then(|(_, resets_at)| resets_at),
        exhausted_at: None,
    }
}

impl Tally {
    /// Marks that wait for the store's answer. Asking clears the list; what is still wanted comes back with the next view.
    pub fn take_pending_sums(&mut self) -> Vec<PendingSum> {
        std::mem::take(&mut self.marks.wanted)
    }

    /// The store's answers to wants; what was spent since is added.
    pub fn answer(&mut self, answers: &[(PendingSum, Usd)]) {
        let calendar = &self.moment.calendar;
        let known = |(want, spent): &(PendingSum, Usd)| {
            let entity = (want.scope, self.entity(want.scope, want.id)?);
            Some((entity, want.range.start.timestamp(), calendar.date(want.range.end)?, *spent))
        };
        let mut marks: Vec<_> = answers.iter().filter_map(known).collect();
        let Some(first) = marks.iter().map(|(_, _, from, _)| *from).min() else { return };
        self.days.boards(first.., |date, day| {
            for ((scope, entity), _, from, spent) in &mut marks {
                if date >= *from {
                    *spent += day.cost(*scope, *entity);
                }
            }
        });
        for ((scope, entity), since, _, spent) in marks {
            self.marks.set(scope, entity, since, Some(spent));
        }
    }

    pub(super) fn quotas(&mut self, directory: &Directory, live: Option<&Live>) -> Blocks<QuotaView> {
        let others = directory.keys.iter().filter(|key| key.counts_as != key.id);
        let counts_as: HashMap<&EntityId, &EntityId> = others.map(|key| (&key.id, &key.counts_as)).collect();
        let (calendar, today, now) = (self.moment.calendar.clone(), self.today(), self.moment.now);
        // Thousands of limits have few rules.
        let mut known: HashMap<WindowRule, Bounds> = HashMap::new();
        let mut bounds = |rule| match rule {
            WindowRule::Told { resets_at, .. } => (None, resets_at),
            rule => *known.entry(rule).or_insert_with(|| bounds(&calendar, today, now, rule)),
        };
        let mut read = |tally: &mut Self| -> Blocks<QuotaView> {
            let quotas = directory.limits.iter().filter_map(|limit| {
                let other = if limit.scope == Scope::Key { counts_as.get(&limit.id).copied() } else { None };
                Some(tally.quota(limit, other.unwrap_or(&limit.id).number()?, live, bounds(limit.rule)))
            });
            quotas.collect()
        };
        let mut quotas = read(self);
        if self.marks.sum_up(&mut self.log) {
            // The same are wanted once more.
            self.marks.wanted.clear();
            quotas = read(self);
        }
        self.marks.prune();
        quotas
    }

    /// `id` is the entity under which the spending is counted.
    fn quota(&mut self, limit: &Limit, id: i64, live: Option<&Live>, (start, reset): Bounds) -> QuotaView {
        let now = self.moment.now;
        let mut view = live_quota(limit, live);
        let entity = self.entity(limit.scope, id);
        let used = match limit.rule {
            WindowRule::Live => return view,
            WindowRule::Told { used, .. } => Some(used),
            _ => self.used(limit, id, entity, start),
        };
        view.resets_at = reset;
        view.used_usd = used.map(Usd::to_f64);

        // The pace of the last five hours, or since the window began if that is shorter.
        if let (Some(used), Some(most)) = (used, limit.limit)
            && used < most
            // What the relay itself tells may be known before the rows are.
            && (start.is_some() || self.covered_since <= now.timestamp() - 5 * 3600)
            && !matches!(limit.rule, WindowRule::Rolling { .. })
            && let Some(entity) = entity
        {
            const FIVE_HOURS: f64 = 5.0 * 3600.0;
            let elapsed = (now - start.max(limit.since).unwrap_or(DateTime::UNIX_EPOCH)).as_seconds_f64();
            let recent =
                if elapsed < FIVE_HOURS { used } else { self.windows.five_hours.total.of(limit.scope, entity) };
            let per_second = recent.to_f64() / elapsed.clamp(1.0, FIVE_HOURS);
            let left = (most - used).to_f64() / per_second;
            // A year is as good as never, and keeps the date in range. Nothing runs out while more is given back than spent.
            if (0.0..365.0 * 86400.0).contains(&left) {
                let at = now + chrono::Duration::milliseconds((left * 1e3) as i64);
                view.exhausted_at = reset.is_none_or(|reset| at < reset).then_some(at);
            }
        }
        view
    }

    /// `start` is where the window begins; `None` for all time.
    fn used(&mut self, limit: &Limit, id: i64, entity: Option<Sym>, start: Option<DateTime<Utc>>) -> Option<Usd> {
        let begin = start.max(limit.since);
        let begin_second = begin.map_or(i64::MIN, |begin| begin.timestamp());
        if self.covered_since > begin_second && !self.is_complete() {
            return None;
        }
        let Some(entity) = entity else {
            // Everything since the start has been read, and this entity was not in it, unless it was let go of.
            return (!self.has_folded(limit.scope)).then_some(Usd::ZERO);
        };
        let scope = limit.scope;
        if limit.since <= start {
            let midnight = self.moment.calendar.start(self.today());
            match limit.rule {
                WindowRule::Rolling { hours: 5 } => return Some(self.windows.five_hours.total.of(scope, entity)),
                WindowRule::Rolling { hours: 24 } => return Some(self.windows.day.total.cost(scope, entity)),
                WindowRule::DailyAt { .. } if start == midnight => {
                    let today = self.today();
                    return Some(self.days.ready(today).map_or(Usd::ZERO, |day| day.cost(scope, entity)));
                }
                WindowRule::Weekly => return Some(self.week.boards.cost(scope, entity)),
                WindowRule::Monthly => return Some(self.month.boards.cost(scope, entity)),
                WindowRule::Total => return Some(self.total.cost(scope, entity)),
                WindowRule::Rolling { .. }
                | WindowRule::DailyAt { .. }
                | WindowRule::Live
                | WindowRule::Told { .. } => {}
            }
        }
        self.since(scope, id, entity, begin?)
    }

    fn since(&mut self, scope: Scope, id: i64, entity: Sym, since: DateTime<Utc>) -> Option<Usd> {
        let second = since.timestamp();
        if let Some(spent) = self.marks.get(scope, entity, second) {
            return Some(spent);
        }
        if second >= self.now() - KEPT_SECONDS {
            self.marks.set(scope, entity, second, None);
            return None;
        }
        let calendar = &self.moment.calendar;
        let kept = self.today() - Days::new(super::KEPT_DAYS);
        let next = calendar.date(since).and_then(|date| date.succ_opt()).unwrap_or(kept);
        let end = calendar.start(next.max(kept).max(calendar.first_date()))?;
        let start = Utc.timestamp_opt(second, 0).single()?;
        if end <= start {
            // The calendar, and so the ledger, begins after the mark.
            let spent = self.total.cost(scope, entity);
            self.marks.set(scope, entity, second, Some(spent));
            return Some(spent);
        }
        self.marks.wanted.push(PendingSum { scope, id, range: start..end });
        None
    }

    fn has_folded(&self, scope: Scope) -> bool {
        self.names.ids(scope).is_some_and(|ids| ids.folded() != Folded::default())
    }

    pub(super) fn entity(&self, scope: Scope, id: i64) -> Option<Sym> {
        self.names.ids(scope)?.find(&id)
    }
}

/// Where a window begins (`None`: it has no beginning) and when a fixed one starts anew.
type Bounds = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

fn bounds(calendar: &Calendar, today: NaiveDate, now: DateTime<Utc>, rule: WindowRule) -> Bounds {
    match rule {
        WindowRule::Rolling { hours } => (Some(now - chrono::Duration::hours(hours.into())), None),
        WindowRule::DailyAt { hour, minute } => {
            let reset = instant(calendar, today, hour, minute);
            if now < reset {
                // Claude Code Hub v0.9.2, `rate-limit/time-utils.ts`: a day is 24 hours here, whatever the clock did.
                (Some(reset - chrono::Duration::hours(24)), Some(reset))
            } else {
                (Some(reset), Some(instant(calendar, today + Days::new(1), hour, minute)))
            }
        }
        WindowRule::Weekly => {
            let monday = today - Days::new(u64::from(today.weekday().num_days_from_monday()));
            (Some(instant(calendar, monday, 0, 0)), Some(instant(calendar, monday + Days::new(7), 0, 0)))
        }
        WindowRule::Monthly => {
            let first = today.with_day(1).unwrap_or(today);
            (Some(instant(calendar, first, 0, 0)), Some(instant(calendar, first + Months::new(1), 0, 0)))
        }
        WindowRule::Total | WindowRule::Live | WindowRule::Told { .. } => (None, None),
    }
}

/// A local time of day as an instant. The relay's own boundary where the calendar has it; its zone's rules elsewhere.
fn instant(calendar: &Calendar, date: NaiveDate, hour: u32, minute: u32) -> DateTime<Utc> {
    if (hour, minute) == (0, 0)
        && let Some(start) = calendar.start(date)
    {
        return start;
    }
    let time = NaiveTime::from_hms_opt(hour, minute, 0).unwrap_or_default();
    let zone: chrono_tz::Tz = calendar.zone().parse().unwrap_or(chrono_tz::UTC);
    local_instant(zone, date.and_time(time))
}
