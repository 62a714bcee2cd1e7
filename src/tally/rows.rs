//! One request taken into every sum, changed in them, or taken out.

use chrono::Days;

use super::counters::{Counters, Final};
use super::log::KEPT_SECONDS;
use super::names::{NONE, Sym};
use super::sums::{ABSURD, BoardSums, Total, WindowFact};
use super::{GRACE_SECONDS, Held, KEPT_DAYS, ORPHAN_SECONDS, Tally, identity, is_same};
use crate::model::{Outcome, RowKind, Scope, UsageRow, Usd};

impl Tally {
    pub(super) fn put(&mut self, row: UsageRow) {
        let Some(held) = self.held.remove(&row.request_id) else { return self.take(row, None) };
        if held.row == row {
            self.held.insert(row.request_id, held);
        } else if is_same(&held.row, &row) {
            self.withdraw(&held.row);
            self.enter(&row);
            self.book(&row, Some(&held.row));
            let now = self.now();
            let final_since = held.final_since.or(row.is_final.then_some(now));
            self.held.insert(row.request_id, Held { row, final_since, next_look: next_look(now, final_since) });
        } else {
            // Another request with its id.
            self.lose(&held.row);
            self.take(row, None);
        }
    }

    /// Takes a row in that no sum has; `before` is what the sums had of it until now.
    pub(super) fn take(&mut self, row: UsageRow, before: Option<&UsageRow>) {
        let now = self.now();
        self.newest = self.newest.max(Some(row.started_at));
        self.enter(&row);
        self.book(&row, before);
        let final_since = row.is_final.then(|| {
            let ended = row.started_at.timestamp() + i64::from(row.duration_ms.unwrap_or(0) / 1000);
            ended.min(now)
        });
        if row.id > self.floor || !settled(&row, final_since, now) {
            self.held.insert(row.request_id, Held { row, final_since, next_look: next_look(now, final_since) });
        }
    }

    /// Brings the counters up to a row. `before` is the version that they have seen last, if that is known.
    pub(super) fn book(&mut self, row: &UsageRow, before: Option<&UsageRow>) {
        if !self.has_counted(row) {
            if row.counted && row.is_final {
                self.counted.insert(row.request_id);
                self.count(row);
            }
            return;
        }
        // A counted request that is in flight again has come back with a restored ledger: it is as it was counted.
        let counted_as = before.filter(|before| before.is_final);
        let Some(had) = self.booked.remove(&identity(row)).or_else(|| counted_as.cloned()) else { return };
        let have = if self.rows_grow && row.counted && row.is_final {
            let it = self.resolve(&had);
            self.counters.amend(&it, row)
        } else {
            had.clone()
        };
        let late = have.cost - had.cost;
        self.corrections.late_cost.note(u64::from(late.is_positive()), late);
        if let Some(before) = before {
            self.corrections.reclassified += u64::from(class(before) != class(row));
            let cost = |row: &UsageRow| if row.counted { row.cost } else { Usd::ZERO };
            let change = cost(row) - cost(before);
            let (less, rewritten) = ((-change).max(Usd::ZERO), (change - late).max(Usd::ZERO));
            self.corrections.lowered.note(u64::from(less.is_positive() || (before.counted && !row.counted)), less);
            self.corrections.rewritten.note(u64::from(rewritten.is_positive()), rewritten);
        }
        if self.rows_grow && have != *row {
            self.booked.insert(identity(row), have);
        }
    }

    pub(super) fn knows(&self, request_id: i64) -> bool {
        self.counted.contains(request_id) || self.doubtful.values().any(|ids| ids.contains(request_id))
    }

    /// Whether the counters have the request of a row.
    pub(super) fn has_counted(&mut self, row: &UsageRow) -> bool {
        for (since, ids) in &mut self.doubtful {
            if ids.remove(row.request_id) && row.started_at.timestamp_micros() <= *since {
                self.counted.insert(row.request_id);
            }
        }
        self.counted.contains(row.request_id)
    }

    pub(super) fn count(&mut self, row: &UsageRow) {
        if row.outcome == Some(Outcome::Success)
            && let Some(model) = &row.model
        {
            let model = self.names.models.sym(model);
            let first = self.names.models.first(model);
            // Once counters have been shown, rows do not move from `other` to their model: `other` would fall.
            if first == i64::MAX || (!self.counters_complete && row.id < first) {
                self.names.models.admit(model, row.id);
                self.admit_early(model, row.id);
            }
        }
        let it = self.resolve(row);
        if it.early {
            self.early_models.insert(it.model);
        }
        self.counters.count(&it);
    }

    /// While history is read backwards, rows count as early until an older success of their model turns up.
    pub(super) fn admit_early(&mut self, model: Sym, id: i64) {
        let later = |counters: &Counters| {
            counters.traffic.iter().all(|(key, traffic)| key.1 != model || !key.2 || traffic.first_id > id)
        };
        if self.early_models.contains(&model) && later(&self.counters) {
            self.early_models.remove(&model);
            self.counters.admit_early(model);
        }
    }

    pub(super) fn resolve<'a>(&mut self, row: &'a UsageRow) -> Final<'a> {
        let fact = self.fact(row);
        let mut model = fact.entity(Scope::Model);
        // A success never is, even where one with a greater id ended before it.
        let succeeded = row.outcome == Some(Outcome::Success) && self.names.models.is_admitted(model);
        let early = model != NONE && !succeeded && !self.names.models.has_series(model, row.id);
        if early && self.counters_complete {
            model = NONE;
        }
        let answered = row.answered_model.as_ref().map_or(NONE, |model| self.names.models.sym(model));
        Final {
            row,
            spenders: Scope::SPENDERS.map(|scope| fact.entity(scope)),
            provider: fact.entity(Scope::Provider),
            model,
            answered,
            early: early && model != NONE,
        }
    }

    pub(super) fn fact(&mut self, row: &UsageRow) -> WindowFact {
        let names = &mut self.names;
        WindowFact {
            request_id: row.request_id,
            cost: row.cost,
            board_tokens: row.board_tokens.min(ABSURD),
            speed_micro: row.output_speed_micro.map(|speed| speed.min(ABSURD)),
            entities: Scope::ALL.map(|scope| match names.ids.get_mut(scope as usize) {
                Some(ids) => row.id_of(scope).map_or(NONE, |id| ids.sym(&id)),
                None => row.model.as_ref().map_or(NONE, |model| names.models.sym(model)),
            }),
            duration_ms: row.duration_ms,
            ttft_ms: row.ttft_ms,
            tokens: row.tokens,
            requests: row.requests(),
            is_error: row.is_error,
            outcome: row.outcome,
            is_success: row.is_success,
            failure: row.failure,
        }
    }

    /// The row that a fact was made of; where the fact does not say, as `now`, a later version.
    pub(super) fn row_of(&self, fact: &WindowFact, now: &UsageRow) -> UsageRow {
        let id = |scope| self.names.ids(scope)?.value(fact.entity(scope)).copied();
        UsageRow {
            counted: true,
            kind: if fact.requests > 0 { RowKind::Request } else { RowKind::Charge },
            is_error: fact.is_error,
            outcome: fact.outcome,
            is_success: fact.is_success,
            failure: fact.failure,
            user_id: id(Scope::User).unwrap_or(now.user_id),
            key_id: id(Scope::Key),
            team_id: id(Scope::Team),
            organization_id: id(Scope::Organization),
            provider_id: id(Scope::Provider).unwrap_or(now.provider_id),
            model: self.names.models.value(fact.entity(Scope::Model)).cloned(),
            cost: fact.cost,
            tokens: fact.tokens,
            duration_ms: fact.duration_ms,
            ttft_ms: fact.ttft_ms,
            output_speed_micro: fact.speed_micro,
            ..now.clone()
        }
    }

    pub(super) fn day_of(&mut self, row: &UsageRow) -> Option<&mut BoardSums> {
        let date = self.moment.calendar.date(row.started_at)?;
        (date + Days::new(KEPT_DAYS) >= self.today()).then(|| self.days.entry(date))
    }

    /// Adds a row to the sums that the relay's screens have, if it is in them.
    pub(super) fn enter(&mut self, row: &UsageRow) {
        if !row.counted {
            return;
        }
        let second = row.started_at.timestamp();
        let fact = self.fact(row);
        self.names.admit(&Scope::LIMITED, &fact, row.id);
        if !row.is_shown() {
            return;
        }
        self.total.add(&fact);
        if let Some(day) = self.day_of(row) {
            day.add(&fact);
        }
        if let Some(date) = self.moment.calendar.date(row.started_at) {
            let sum = self.day_sums.entry(date).or_default();
            sum.count(row.provider_id, row.model.as_deref(), row.outcome, row.requests());
            sum.cost += fact.cost;
            if let Some(list_cost) = row.list_cost {
                *sum.list_cost.get_or_insert_default() += list_cost;
            }
            sum.board_tokens = sum.board_tokens.wrapping_add(fact.board_tokens);
            sum.errors += u64::from(fact.is_error);
            sum.millis = Some(sum.millis.unwrap_or(0).wrapping_add(millis(row)));
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

    /// Takes a row out of these sums.
    pub(super) fn withdraw(&mut self, row: &UsageRow) {
        if !row.is_shown() {
            return;
        }
        let second = row.started_at.timestamp();
        let fact = self.fact(row);
        self.total.sub(&fact);
        if let Some(day) = self.day_of(row) {
            day.sub(&fact);
        }
        if let Some(sum) = self.moment.calendar.date(row.started_at).and_then(|date| self.day_sums.get_mut(&date)) {
            sum.uncount(row.provider_id, row.model.as_deref(), row.outcome, row.requests());
            sum.cost -= fact.cost;
            if let (Some(sum), Some(list_cost)) = (&mut sum.list_cost, row.list_cost) {
                *sum -= list_cost;
            }
            sum.board_tokens = sum.board_tokens.wrapping_sub(fact.board_tokens);
            sum.errors -= u64::from(fact.is_error);
            sum.millis = Some(sum.millis.unwrap_or(0).wrapping_sub(millis(row)));
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
}

/// What a counted row is told apart by.
fn class(row: &UsageRow) -> impl PartialEq + '_ {
    let labels = (row.provider_id, row.model.as_deref(), row.key_id);
    (row.counted, row.is_shown(), row.is_final, row.outcome, row.failure, row.status, labels)
}

/// See [`LedgerSum::millis`](crate::model::LedgerSum).
fn millis(row: &UsageRow) -> u64 {
    u64::from(row.duration_ms.unwrap_or(0)) + u64::from(row.ttft_ms.unwrap_or(0))
}

/// When to read a row again that is as it should be now: one in flight each time, a final one when its age has doubled.
pub(super) fn next_look(now: i64, final_since: Option<i64>) -> i64 {
    now + final_since.map_or(0, |since| now - since).max(1)
}

pub(super) fn settled(row: &UsageRow, final_since: Option<i64>, now: i64) -> bool {
    match final_since {
        Some(since) => now - since > GRACE_SECONDS,
        None => now - row.started_at.timestamp() > ORPHAN_SECONDS,
    }
}
