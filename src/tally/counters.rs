//! Counters and histograms over final rows. They never fall: a correction downwards leaves them as they are.

use std::hash::Hash;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::names::{NONE, Sym};
use crate::model::{FailureClass, Outcome, RowKind, Scope, Tokens, UsageRow, Usd};

/// Upper bounds of request durations in seconds; agents work for many minutes.
pub(crate) const DURATION_BOUNDS: &[f64] =
    &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 900.0];
/// Upper bounds of the time to first token in seconds.
pub(crate) const TTFT_BOUNDS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0];
/// Upper bounds of output speed in tokens per second.
pub(crate) const SPEED_BOUNDS: &[f64] =
    &[1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0];

/// A final row whose names have been looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Final<'a> {
    pub row: &'a UsageRow,
    /// By [`Scope::SPENDERS`].
    pub spenders: [Sym; 4],
    pub provider: Sym,
    pub model: Sym,
    pub answered: Sym,
    /// The row came before its model's first success: it counts as `other` for good.
    pub early: bool,
}

/// Buckets' own counts (the last is `+Inf`) and the sum in the rows' integer unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Histogram {
    pub buckets: Vec<u64>,
    pub sum: u64,
}

impl Histogram {
    /// `value` in the integer unit of which `unit` make one of the bounds'.
    pub(crate) fn observe(&mut self, bounds: &[f64], unit: f64, value: u64) {
        self.buckets.resize(bounds.len() + 1, 0);
        let bucket = bounds.partition_point(|bound| bound * unit < value as f64);
        self.buckets[bucket] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// One provider and model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// By [`Outcome::ALL`].
    pub requests: [u64; 3],
    pub cost: Usd,
    pub list_cost: Option<Usd>,
    pub account_cost: Option<Usd>,
    /// By [`crate::model::Tokens::by_type`].
    pub tokens: [u64; 6],
    pub cache_saved: Option<Usd>,
    pub duration: Histogram,
    pub ttft: Histogram,
    pub speed: Histogram,
    /// The smallest row id, for the order of first appearance.
    pub first_id: i64,
    /// Unix second of the latest start.
    pub last_second: i64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            requests: [0; 3],
            cost: Usd::ZERO,
            list_cost: None,
            account_cost: None,
            tokens: [0; 6],
            cache_saved: None,
            duration: Histogram::default(),
            ttft: Histogram::default(),
            speed: Histogram::default(),
            first_id: i64::MAX,
            last_second: i64::MIN,
        }
    }
}

/// One user, key, team or organization.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spender {
    /// By [`Outcome::ALL`].
    pub outcomes: [u64; 3],
    pub cost: Usd,
    pub list_cost: Option<Usd>,
    pub tokens: u64,
    pub last_second: i64,
}

impl Spender {
    pub(super) fn requests(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.outcomes.iter_mut().zip(other.outcomes) {
            *mine += theirs;
        }
        self.cost += other.cost;
        add_known(&mut self.list_cost, other.list_cost);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.last_second = self.last_second.max(other.last_second);
    }
}

/// Why money was paid for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Waste {
    Failed,
    ClientAbort,
}

impl Waste {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::ClientAbort => "client_abort",
        }
    }

    fn of(row: &UsageRow) -> Option<Self> {
        match (row.outcome, row.failure) {
            (_, Some(FailureClass::ClientAbort)) => Some(Self::ClientAbort),
            (Some(Outcome::Failure), _) => Some(Self::Failed),
            _ => None,
        }
    }
}

/// A counter without labels worth naming, and when it last moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub value: u64,
    pub last_second: i64,
}

/// Provider, model, and whether the rows came before the model's first success.
pub(crate) type TrafficKey = (Sym, Sym, bool);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub traffic: HashMap<TrafficKey, Traffic>,
    pub responses: HashMap<(Sym, Option<u16>), Count>,
    pub failures: HashMap<(Sym, FailureClass), Count>,
    /// By [`Scope::SPENDERS`].
    pub spenders: [HashMap<Sym, Spender>; 4],
    pub wasted: HashMap<(Sym, Waste), Usd>,
    pub unpriced: HashMap<(Sym, bool), Count>,
    pub substitutions: HashMap<(Sym, Sym, Sym, bool), Count>,
    /// Rows that were imported long after they happened, which nothing else here has.
    pub imported: u64,
    /// By provider.
    pub refunds: HashMap<Sym, Usd>,
    pub recovered: HashMap<(Sym, FailureClass), Count>,
}

impl Counters {
    /// Counts a row that has become final.
    pub(crate) fn count(&mut self, it: &Final) {
        let row = it.row;
        if row.imported {
            self.imported += 1;
            return;
        }
        if let RowKind::Refund(amount) = row.kind {
            *self.refunds.entry(it.provider).or_default() += positive(amount);
            return;
        }
        let second = row.started_at.timestamp();
        if row.kind == RowKind::RecoveredAttempt {
            tick(
                self.recovered.entry((it.provider, row.failure.unwrap_or(FailureClass::Unknown))).or_default(),
                second,
            );
            return;
        }
        self.weigh(it, second);
        if row.kind == RowKind::Charge {
            return;
        }
        let outcome = row.outcome.unwrap_or(Outcome::Excluded);
        let traffic = self.traffic(it);
        traffic.requests[outcome as usize] += 1;
        if let Some(ms) = row.duration_ms {
            traffic.duration.observe(DURATION_BOUNDS, 1e3, ms.into());
        }
        if let Some(ms) = row.ttft_ms {
            traffic.ttft.observe(TTFT_BOUNDS, 1e3, ms.into());
        }
        if let Some(micro) = row.output_speed_micro {
            traffic.speed.observe(SPEED_BOUNDS, 1e6, micro);
        }

        tick(self.responses.entry((it.provider, row.status)).or_default(), second);
        if let Some(class) = row.failure {
            tick(self.failures.entry((it.provider, class)).or_default(), second);
        }
        for (spenders, entity) in self.spenders.iter_mut().zip(it.spenders) {
            let spender = spenders.entry(entity).or_default();
            spender.outcomes[outcome as usize] += 1;
        }
        let price = row.list_cost.unwrap_or(row.cost);
        if outcome == Outcome::Success && price == Usd::ZERO && row.tokens.total() > 0 {
            tick(self.unpriced.entry((it.model, it.early)).or_default(), second);
        }
        if it.answered != NONE {
            tick(self.substitutions.entry((it.provider, it.model, it.answered, it.early)).or_default(), second);
        }
    }

    /// Adds what a row used and cost.
    fn weigh(&mut self, it: &Final, second: i64) {
        let row = it.row;
        let traffic = self.traffic(it);
        traffic.first_id = traffic.first_id.min(row.id);
        traffic.last_second = traffic.last_second.max(second);
        for (sum, (_, tokens)) in traffic.tokens.iter_mut().zip(row.tokens.by_type()) {
            *sum = sum.saturating_add(tokens);
        }
        // What was given back lowers no counter.
        add_known(&mut traffic.list_cost, row.list_cost.map(positive));
        add_known(&mut traffic.account_cost, row.account_cost.map(positive));
        add_known(&mut traffic.cache_saved, row.cache_saved.map(positive));
        for (spenders, entity) in self.spenders.iter_mut().zip(it.spenders) {
            let spender = spenders.entry(entity).or_default();
            add_known(&mut spender.list_cost, row.list_cost.map(positive));
            spender.tokens = spender.tokens.saturating_add(row.tokens.total());
            spender.last_second = spender.last_second.max(second);
        }
        self.charge(it, row.cost);
    }

    /// Adds what a later version of a counted row has more, under the labels that it was counted with (`it`). Gives back
    /// what the counters have of the row now.
    pub(crate) fn amend(&mut self, it: &Final, now: &UsageRow) -> UsageRow {
        let had = it.row;
        let late = now.tokens.beyond(had.tokens);
        let late_cost = positive(positive(now.cost) - positive(had.cost));
        let all = completed(had, now, late, late_cost);
        let amount = |row: &UsageRow| {
            (row.cost, row.tokens, row.duration_ms, row.ttft_ms, row.output_speed_micro, row.cache_saved)
        };
        if had.imported || amount(&all) == amount(had) {
            return all;
        }
        let traffic = self.traffic(it);
        // What comes late may be the first under labels that a row has got since it was counted.
        traffic.first_id = traffic.first_id.min(now.id);
        traffic.last_second = traffic.last_second.max(now.started_at.timestamp());
        for (sum, (_, tokens)) in traffic.tokens.iter_mut().zip(late.by_type()) {
            *sum = sum.saturating_add(tokens);
        }
        if let Some(saved) = all.cache_saved
            && all.cache_saved != had.cache_saved
        {
            let before = positive(had.cache_saved.unwrap_or_default());
            *traffic.cache_saved.get_or_insert_default() += positive(saved) - before;
        }
        if had.duration_ms.is_none()
            && let Some(ms) = now.duration_ms
        {
            traffic.duration.observe(DURATION_BOUNDS, 1e3, ms.into());
        }
        if had.ttft_ms.is_none()
            && let Some(ms) = now.ttft_ms
        {
            traffic.ttft.observe(TTFT_BOUNDS, 1e3, ms.into());
        }
        if had.output_speed_micro.is_none()
            && let Some(micro) = now.output_speed_micro
        {
            traffic.speed.observe(SPEED_BOUNDS, 1e6, micro);
        }
        for (spenders, entity) in self.spenders.iter_mut().zip(it.spenders) {
            let spender = spenders.entry(entity).or_default();
            spender.tokens = spender.tokens.saturating_add(late.total());
        }
        self.charge(it, late_cost);
        all
    }

    /// Adds cost that belongs to a row: all of it when the row becomes final, what comes later when it appears.
    fn charge(&mut self, it: &Final, cost: Usd) {
        if !cost.is_positive() {
            return;
        }
        self.traffic(it).cost += cost;
        for (spenders, entity) in self.spenders.iter_mut().zip(it.spenders) {
            spenders.entry(entity).or_default().cost += cost;
        }
        if let Some(waste) = Waste::of(it.row) {
            *self.wasted.entry((it.provider, waste)).or_default() += cost;
        }
    }

    fn traffic(&mut self, it: &Final) -> &mut Traffic {
        self.traffic.entry((it.provider, it.model, it.early)).or_default()
    }

    /// An older success of `model` has been found: rows since then are not early after all.
    pub(crate) fn admit_early(&mut self, model: Sym) {
        self.relabel(|sym, early| (sym, early && sym != model));
    }

    /// No older success will be found: what is early is `other`, whatever its name.
    pub(crate) fn settle_early(&mut self) {
        self.relabel(|sym, early| (if early { NONE } else { sym }, false));
    }

    /// What is not kept apart any more is `other`.
    pub(crate) fn fold(&mut self, keeps: impl Fn(Scope, Sym) -> bool) {
        let kept = |scope, sym| if keeps(scope, sym) { sym } else { NONE };
        let provider = |sym| kept(Scope::Provider, sym);
        self.relabel(|sym, early| (kept(Scope::Model, sym), early && keeps(Scope::Model, sym)));
        rekey(&mut self.traffic, |(sym, model, early)| (provider(sym), model, early), merge_traffic);
        rekey(
            &mut self.substitutions,
            |(sym, asked, answered, early)| (provider(sym), asked, kept(Scope::Model, answered), early),
            merge_count,
        );
        rekey(&mut self.responses, |(sym, status)| (provider(sym), status), merge_count);
        rekey(&mut self.failures, |(sym, class)| (provider(sym), class), merge_count);
        rekey(&mut self.wasted, |(sym, waste)| (provider(sym), waste), |into, from| *into += *from);
        rekey(&mut self.recovered, |(sym, class)| (provider(sym), class), merge_count);
        rekey(&mut self.refunds, provider, |into, from| *into += *from);
        for (spenders, scope) in self.spenders.iter_mut().zip(Scope::SPENDERS) {
            rekey(spenders, |sym| kept(scope, sym), Spender::merge);
        }
    }

    /// Gives what was asked for another name and another earliness.
    fn relabel(&mut self, model: impl Fn(Sym, bool) -> (Sym, bool)) {
        let traffic = |(provider, asked, early)| {
            let (asked, early) = model(asked, early);
            (provider, asked, early)
        };
        let substitution = |(provider, asked, answered, early)| {
            let (asked, early) = model(asked, early);
            (provider, asked, answered, early)
        };
        rekey(&mut self.traffic, traffic, merge_traffic);
        rekey(&mut self.unpriced, |(asked, early)| model(asked, early), merge_count);
        rekey(&mut self.substitutions, substitution, merge_count);
    }
}

/// A counted row with what a later version of it has more: `late` and `late_cost` of it.
fn completed(had: &UsageRow, now: &UsageRow, late: Tokens, late_cost: Usd) -> UsageRow {
    UsageRow {
        imported: had.imported,
        is_error: had.is_error,
        outcome: had.outcome,
        is_success: had.is_success,
        failure: had.failure,
        user_id: had.user_id,
        key_id: had.key_id,
        team_id: had.team_id,
        organization_id: had.organization_id,
        provider_id: had.provider_id,
        model: had.model.clone(),
        answered_model: had.answered_model.clone(),
        status: had.status,
        cost: had.cost + late_cost,
        tokens: had.tokens.plus(late),
        duration_ms: had.duration_ms.or(now.duration_ms),
        ttft_ms: had.ttft_ms.or(now.ttft_ms),
        output_speed_micro: had.output_speed_micro.or(now.output_speed_micro),
        cache_saved: had.cache_saved.max(now.cache_saved),
        ..now.clone()
    }
}

fn tick(count: &mut Count, second: i64) {
    count.value += 1;
    count.last_second = count.last_second.max(second);
}

/// Moves every value whose key becomes another one.
fn rekey<K: Copy + Eq + Hash, V: Default>(
    values: &mut HashMap<K, V>,
    renamed: impl Fn(K) -> K,
    merge: impl Fn(&mut V, &V),
) {
    let moved: Vec<(K, V)> = values.extract_if(|key, _| renamed(*key) != *key).collect();
    for (key, value) in moved {
        merge(values.entry(renamed(key)).or_default(), &value);
    }
}

fn merge_count(into: &mut Count, from: &Count) {
    into.value += from.value;
    into.last_second = into.last_second.max(from.last_second);
}

fn merge_traffic(into: &mut Traffic, from: &Traffic) {
    for (mine, theirs) in into.requests.iter_mut().zip(from.requests) {
        *mine += theirs;
    }
    for (mine, theirs) in into.tokens.iter_mut().zip(from.tokens) {
        *mine = mine.saturating_add(theirs);
    }
    into.cost += from.cost;
    add_known(&mut into.list_cost, from.list_cost);
    add_known(&mut into.account_cost, from.account_cost);
    add_known(&mut into.cache_saved, from.cache_saved);
    into.duration.merge(&from.duration);
    into.ttft.merge(&from.ttft);
    into.speed.merge(&from.speed);
    into.first_id = into.first_id.min(from.first_id);
    into.last_second = into.last_second.max(from.last_second);
}

/// Folds the traffic of several combinations into one series.
pub(crate) fn fold<'a>(parts: impl Iterator<Item = &'a Traffic>) -> Traffic {
    let mut whole = Traffic::default();
    parts.for_each(|part| merge_traffic(&mut whole, part));
    whole
}

/// A sum is known as soon as one of its terms is.
fn add_known(sum: &mut Option<Usd>, term: Option<Usd>) {
    if let Some(term) = term {
        *sum.get_or_insert_default() += term;
    }
}

fn positive(amount: Usd) -> Usd {
    amount.max(Usd::ZERO)
}
