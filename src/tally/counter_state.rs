//! What the readings of a relay that counts for itself amount to. Pure: the last reading is the totals; only events
//! (failures, durations) add up here, from the first reading on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::boards::BoardNames;
use super::counters::{DURATION_BOUNDS, Histogram, SPEED_BOUNDS, TTFT_BOUNDS};
use super::names::other;
use super::present::{Presentation, histogram};
use super::quota::live_quota;
use crate::model::{CounterSnapshot, DayReading, KeyCounters, Ranked, Ranking, TrafficCounters};
use crate::model::{EntityId, FailureClass, Scope, Tokens, Usd};
use crate::parts::{Part, PartError, decoded, encoded};
use crate::view::{
    Blocks, Board, BoardEntry, CountersView, DayView, EntityCounters, HistogramView, LatencyView, LedgerView,
    TrafficView,
};

/// Whose id is of nobody.
const NOBODY: EntityId = EntityId::Number(0);

/// The provider of what a relay does not keep apart by provider.
const UNKNOWN: &str = "unknown";

const METER: &str = "meter";

/// Histograms that are kept apart in memory, whatever clients call their models.
const MOST_HISTOGRAMS: usize = 5_000;

/// A relay's counters, and the events since they were first read.
#[derive(Default)]
pub struct CounterState {
    reading: Option<CounterSnapshot>,
    failures: BTreeMap<(EntityId, FailureClass), u64>,
    latency: HashMap<(EntityId, Arc<str>), Histogram>,
    /// Of [`Self::latency`].
    combinations: Order<(EntityId, Arc<str>)>,
    /// By provider, in money.
    spent: BTreeMap<EntityId, Usd>,
    missed: u64,
    read: u64,
    models: Order<Arc<str>>,
    /// By [`Scope::SPENDERS`].
    spenders: [Order<EntityId>; 4],
}

/// A part of a checkpoint: what the readings do not tell again.
#[derive(Serialize, Deserialize)]
struct MeterPart<F, L, S, M, E> {
    failures: F,
    latency: L,
    spent: S,
    missed: u64,
    models: M,
    spenders: E,
}

/// Values in the order in which they may have series of their own. A later one never takes the place of an earlier one.
struct Order<T> {
    values: Vec<T>,
    places: HashMap<T, usize>,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { values: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Order<T> {
    fn admit<'a>(&mut self, values: impl IntoIterator<Item = &'a T>)
    where
        T: 'a,
    {
        for value in values {
            if !self.places.contains_key(value) {
                self.places.insert(value.clone(), self.values.len());
                self.values.push(value.clone());
            }
        }
    }

    /// Those that a budget of `max` admits, the pinned ones first, and how many it does not.
    fn admitted(&self, max: usize, pinned: impl Fn(&T) -> bool) -> (HashSet<&T>, u64) {
        let (first, rest): (Vec<&T>, Vec<&T>) = self.values.iter().partition(|value| pinned(value));
        let admitted = first.into_iter().chain(rest).take(max).collect();
        (admitted, self.values.len().saturating_sub(max) as u64)
    }
}

impl<T: Clone + Eq + Hash> From<Vec<T>> for Order<T> {
    fn from(values: Vec<T>) -> Self {
        let mut order = Self::default();
        order.admit(&values);
        order
    }
}

impl CounterState {
    /// Redis keys (or the like) read since the start.
    pub(crate) const fn read(&self) -> u64 {
        self.read
    }

    /// There has been a reading.
    pub(crate) const fn has_begun(&self) -> bool {
        self.reading.is_some()
    }

    /// Takes the present totals, and adds what has happened since the reading before.
    pub fn apply(&mut self, mut reading: CounterSnapshot) {
        for (provider, class, count) in reading.failures.drain(..) {
            *self.failures.entry((provider, class)).or_default() += count;
        }
        for (provider, model, ms) in reading.durations.drain(..) {
            let mut combination = (provider, model);
            if self.latency.len() >= MOST_HISTOGRAMS && !self.latency.contains_key(&combination) {
                combination.1 = other().into();
            }
            self.combinations.admit([&combination]);
            self.latency.entry(combination).or_default().observe(DURATION_BOUNDS, 1e3, ms);
        }
        for (provider, cost) in reading.spent.drain(..) {
            *self.spent.entry(provider).or_default() += cost;
        }
        self.missed += reading.missed.unwrap_or(0);
        self.read += reading.read;
        self.models.admit(&reading.models);
        for (order, counters) in self.spenders.iter_mut().zip(spenders_of(&reading)) {
            order.admit(counters.iter().map(|it| &it.id).filter(|id| **id != NOBODY));
        }
        self.reading = Some(reading);
    }

    /// What a restart must find again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn part(&self) -> Result<Part, PartError> {
        let failures: Vec<_> = self.failures.iter().collect();
        // In their order.
        let latency: Vec<_> = self.combinations.values.iter().map(|it| (it, &self.latency[it])).collect();
        let spent: Vec<_> = self.spent.iter().collect();
        let (models, spenders) = (&self.models.values, self.spenders.each_ref().map(|order| &order.values));
        encoded(METER, &MeterPart { failures, latency, spent, missed: self.missed, models, spenders })
    }

    /// The meter that [`Self::part`] came from.
    ///
    /// # Errors
    /// When the part is missing or cannot be understood.
    pub(crate) fn restore(parts: &BTreeMap<String, Bytes>) -> Result<Self, PartError> {
        type Events<K, V> = Vec<(K, V)>;
        type Latency = Events<(EntityId, Arc<str>), Histogram>;
        let part: MeterPart<Events<_, _>, Latency, Events<_, _>, Vec<_>, [Vec<_>; 4]> = decoded(parts, METER)?;
        let combinations: Vec<_> = part.latency.iter().map(|(combination, _)| combination.clone()).collect();
        Ok(Self {
            failures: part.failures.into_iter().collect(),
            combinations: combinations.into(),
            latency: part.latency.into_iter().collect(),
            spent: part.spent.into_iter().collect(),
            missed: part.missed,
            models: part.models.into(),
            spenders: part.spenders.map(Into::into),
            ..Self::default()
        })
    }

    /// The numbers of the last reading; `None` before the first.
    pub fn view(&self, with: &Presentation<'_>) -> Option<LedgerView> {
        let reading = self.reading.as_ref()?;
        let (counters, folded) = self.counters(reading, with);
        let mut view = LedgerView {
            requests_last_minute: reading.requests_per_minute,
            tokens_last_minute: reading.tokens_per_minute,
            days: reading.days.iter().map(|day| (day.day, day_view(day))).collect(),
            day_start: reading.day_start,
            counters: (reading.loaded >= 1.0).then_some(counters),
            history_loaded: reading.loaded,
            folded,
            ..LedgerView::default()
        };
        if let Some(directory) = with.directory {
            let names = BoardNames::new(directory, with.boards);
            view.boards = reading
                .rankings
                .iter()
                .filter(|it| names.size(it.scope) > 0)
                .map(|ranking| board(ranking, &names))
                .collect();
            view.quotas = directory.limits.iter().map(|limit| live_quota(limit, with.live)).collect();
        }
        Some(view)
    }

    fn counters(&self, reading: &CounterSnapshot, with: &Presentation<'_>) -> (CountersView, Vec<(&'static str, u64)>) {
        let budget = with.series;
        let pinned = |model: &Arc<str>| budget.pinned_models.iter().any(|it| **it == **model);
        let (models, limited_models) = self.models.admitted(budget.max_models, pinned);
        let model = |name: &Arc<str>| if models.contains(name) { name.to_string() } else { other() };
        let (latency, folded) = self.latency(budget.max_histograms, model);
        let view = CountersView {
            traffic: traffic(&reading.traffic, model),
            failures: (self.failures.iter())
                .map(|((provider, class), count)| (provider.to_string(), class.label(), *count))
                .collect(),
            spent: self.spent.iter().map(|(provider, cost)| (provider.to_string(), cost.to_f64())).collect(),
            latency,
            missed: reading.missed.map(|_| self.missed),
            ..CountersView::default()
        };
        let mut folded = vec![("model", limited_models), ("histogram", folded)];
        let all = spenders_of(reading);
        let [users, keys, teams, organizations] = Scope::SPENDERS.map(|scope| {
            let (counters, order) = (all[scope as usize], &self.spenders[scope as usize]);
            let (admitted, limited) = order.admitted(budget.most(scope), |_| false);
            if scope == Scope::Key || !counters.is_empty() {
                folded.push((scope.label(), limited));
            }
            spenders(counters, &admitted)
        });
        (CountersView { users, keys, teams, organizations, ..view }, folded)
    }

    /// The first `most` combinations apart, and how many are not.
    fn latency(&self, most: usize, model: impl Fn(&Arc<str>) -> String) -> (Blocks<LatencyView>, u64) {
        let mut latency: BTreeMap<(String, String), Histogram> = BTreeMap::new();
        let mut folded = 0;
        for combination in &self.combinations.values {
            let (provider, name) = combination;
            let mut labels = (provider.to_string(), model(name));
            if latency.len() >= most && !latency.contains_key(&labels) {
                folded += 1;
                labels.1 = other();
            }
            latency.entry(labels).or_default().merge(&self.latency[combination]);
        }
        let views = latency.into_iter().map(|((provider_id, model), durations)| LatencyView {
            provider_id,
            model,
            duration: histogram(&durations, DURATION_BOUNDS, 1e3),
            ttft: none(TTFT_BOUNDS),
            speed: none(SPEED_BOUNDS),
        });
        (views.collect(), folded)
    }
}

/// By the labels that it is shown under.
fn traffic(counters: &[TrafficCounters], model: impl Fn(&Arc<str>) -> String) -> Blocks<TrafficView> {
    let mut traffic: BTreeMap<(String, String), TrafficCounters> = BTreeMap::new();
    for it in counters {
        let provider = it.provider.as_ref().map_or_else(|| UNKNOWN.to_owned(), ToString::to_string);
        let sum = traffic.entry((provider, model(&it.model))).or_default();
        sum.requests = plus(sum.requests, it.requests);
        sum.cost = plus(sum.cost, it.cost);
        sum.list_cost = plus(sum.list_cost, it.list_cost);
        sum.tokens = sum.tokens.plus(it.tokens);
    }
    traffic.into_iter().map(|(labels, sum)| traffic_view(labels, &sum)).collect()
}

/// By [`Scope::SPENDERS`].
fn spenders_of(reading: &CounterSnapshot) -> [&[KeyCounters]; 4] {
    [&reading.users, &reading.keys, &reading.teams, &reading.organizations]
}

/// Those that are admitted, and the others together.
fn spenders(counters: &[KeyCounters], admitted: &HashSet<&EntityId>) -> Blocks<EntityCounters> {
    let (shown, folded): (Vec<_>, Vec<_>) = counters.iter().partition(|key| admitted.contains(&key.id));
    let rest = folded.into_iter().map(|key| key_view(other(), key)).reduce(|sum, one| EntityCounters {
        requests: sum.requests + one.requests,
        tokens: plus(sum.tokens, one.tokens),
        cost_usd: plus(sum.cost_usd, one.cost_usd),
        list_cost_usd: plus(sum.list_cost_usd, one.list_cost_usd),
        ..sum
    });
    shown.into_iter().map(|key| key_view(key.id.to_string(), key)).chain(rest).collect()
}

fn plus<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

fn day_view(day: &DayReading) -> DayView {
    DayView {
        requests: day.requests,
        cost_usd: Some(day.cost.to_f64()),
        list_cost_usd: day.list_cost.map(Usd::to_f64),
        error_ratio: day.errors.map(|errors| errors as f64 / day.requests.max(1) as f64),
        ..DayView::default()
    }
}

fn traffic_view((provider_id, model): (String, String), sum: &TrafficCounters) -> TrafficView {
    TrafficView {
        provider_id,
        model,
        // The relay counts what succeeded.
        requests: [sum.requests.unwrap_or(0), 0, 0],
        cost_usd: sum.cost.map(Usd::to_f64),
        account_cost_usd: None,
        list_cost_usd: sum.list_cost.map(Usd::to_f64),
        tokens: Tokens::by_type(sum.tokens).into_iter().filter(|(_, count)| *count > 0).collect(),
        cache_saved_usd: None,
    }
}

fn key_view(id: String, key: &KeyCounters) -> EntityCounters {
    EntityCounters {
        id,
        requests: key.requests,
        outcomes: None,
        cost_usd: Some(key.cost.to_f64()),
        list_cost_usd: key.list_cost.map(Usd::to_f64),
        tokens: Some(key.tokens),
    }
}

fn none(bounds: &'static [f64]) -> HistogramView {
    HistogramView { bounds, buckets: vec![0; bounds.len() + 1], sum: 0.0 }
}

fn board(Ranking { scope, period, entries, renewed_at }: &Ranking, names: &BoardNames<'_>) -> Board {
    let mut ranked: Vec<(&Ranked, String, &str)> = entries
        .iter()
        .filter_map(|entry| {
            let id = entry.id.to_string();
            Some((entry, id, names.name(*scope, &entry.id)?))
        })
        .collect();
    ranked.sort_unstable_by(|(a, a_id, _), (b, b_id, _)| {
        (Reverse(a.cost), Reverse(a.requests), a_id).cmp(&(Reverse(b.cost), Reverse(b.requests), b_id))
    });
    ranked.truncate(names.size(*scope));
    let sum = |entries: &mut dyn Iterator<Item = &Ranked>| {
        entries.fold((Usd::ZERO, None, None), |(cost, requests, tokens), it| {
            (cost + it.cost, plus(requests, it.requests), plus(tokens, it.tokens))
        })
    };
    let whole = sum(&mut entries.iter());
    let top = sum(&mut ranked.iter().map(|(entry, ..)| *entry));
    let minus = |a: Option<u64>, b: Option<u64>| a.map(|a| a - b.unwrap_or(0));
    let rest = BoardEntry {
        id: other(),
        name: other(),
        cost_usd: Some((whole.0 - top.0).to_f64()),
        requests: minus(whole.1, top.1),
        tokens: minus(whole.2, top.2),
        ..BoardEntry::default()
    };
    let entries = ranked.into_iter().map(|(entry, id, name)| BoardEntry {
        name: names.shown(*scope, &id, name),
        id,
        cost_usd: Some(entry.cost.to_f64()),
        requests: entry.requests,
        tokens: entry.tokens,
        ..BoardEntry::default()
    });
    Board { scope: *scope, period: *period, entries: entries.chain([rest]).collect(), renewed_at: *renewed_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Directory, Period};
    use crate::view::{Boards, SeriesBudget};

    fn view(state: &CounterState, series: &SeriesBudget) -> LedgerView {
        let (directory, boards) = (Directory::default(), Boards::default());
        state.view(&Presentation { directory: Some(&directory), live: None, boards: &boards, series }).unwrap()
    }

    #[test]
    fn a_model_that_is_called_other_is_a_part_of_the_rest() {
        let ranked = |model: &str, cost: f64| Ranked {
            id: model.into(),
            requests: Some(2),
            cost: Usd::from_f64(cost).unwrap(),
            tokens: None,
        };
        let entries = vec![ranked("other", 3.0), ranked("a", 1.0)];
        let ranking = Ranking { scope: Scope::Model, period: Period::Today, entries, renewed_at: None };
        let mut state = CounterState::default();
        state.apply(CounterSnapshot { rankings: vec![ranking], ..CounterSnapshot::default() });
        let view = view(&state, &SeriesBudget::default());
        let entries: Vec<_> = view.boards[0].entries.iter().map(|it| (&*it.id, it.cost_usd)).collect();
        assert_eq!(entries, [("a", Some(1.0)), ("other", Some(3.0))]);
    }

    /// One request of each.
    fn ended(models: &[&str]) -> CounterSnapshot {
        let names: Vec<Arc<str>> = models.iter().map(|model| Arc::from(*model)).collect();
        let durations = names.iter().map(|model| (EntityId::from("p"), Arc::clone(model), 900)).collect();
        CounterSnapshot { loaded: 1.0, models: names, durations, ..CounterSnapshot::default() }
    }

    /// Models with a histogram, the requests in it, and the combinations without.
    fn histograms(state: &CounterState, series: &SeriesBudget) -> (Vec<(String, u64)>, u64) {
        let view = view(state, series);
        let counters = view.counters.unwrap();
        let apart = counters.latency.iter().map(|it| (it.model.clone(), it.duration.buckets.iter().sum()));
        (apart.collect(), view.folded.iter().find(|it| it.0 == "histogram").unwrap().1)
    }

    #[test]
    fn histograms_keep_their_places_whatever_comes_later() {
        let series = SeriesBudget { max_histograms: 2, ..SeriesBudget::default() };
        let mut state = CounterState::default();
        state.apply(ended(&["m", "n"]));
        state.apply(ended(&["a", "m"]));
        let expected = [("m".to_owned(), 2), ("n".to_owned(), 1), ("other".to_owned(), 1)];
        assert_eq!(histograms(&state, &series), (expected.to_vec(), 1));

        let (name, bytes) = state.part().unwrap();
        let mut state = CounterState::restore(&[(name, bytes.unwrap().get())].into()).unwrap();
        state.apply(ended(&["b", "n"]));
        let expected = [("m".to_owned(), 2), ("n".to_owned(), 2), ("other".to_owned(), 2)];
        assert_eq!(histograms(&state, &series), (expected.to_vec(), 2), "after a restart");
    }

    #[test]
    fn histograms_go_on_when_no_more_are_kept_apart() {
        let series = SeriesBudget { max_models: 10_000, max_histograms: 10_000, ..SeriesBudget::default() };
        let names: Vec<String> = (0..MOST_HISTOGRAMS).map(|number| format!("m{number}")).collect();
        let mut state = CounterState::default();
        state.apply(ended(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        state.apply(ended(&["m7", "late"]));
        let (apart, _) = histograms(&state, &series);
        let requests = |model: &str| apart.iter().find(|it| it.0 == model).map(|it| it.1);
        assert_eq!((requests("m7"), requests("other"), requests("late")), (Some(2), Some(1), None));
    }
}
