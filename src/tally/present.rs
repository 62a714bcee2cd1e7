//! The tally as a view.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Duration};
use hashbrown::{HashMap, HashSet};

use super::boards::{BoardNames, board};
use super::counters::{self, Count, Counters, Histogram, Traffic};
use super::course::{Course, Step};
use super::names::{Admitted, OTHER, Sym, other};
use super::sums::{BoardSums, Sum, Sums};
use super::{Correction, Corrections, Dimensions, Tally};
use crate::model::{Directory, Facts, FailureClass, Live, Period, Scope, Tokens, Usd};
use crate::view;
use crate::view::{
    Blocks, Board, CountersView, CourseStep, DayView, EntityCounters, HistogramView, LatencyView, LedgerView,
    TrafficView,
};

/// What the view needs beside the tally.
pub struct Presentation<'a> {
    /// BoardSums and quotas need names and limits; without them they are absent.
    pub directory: Option<&'a Directory>,
    /// Windows that only live state knows; without it their spending is absent.
    pub live: Option<&'a Live>,
    /// Sizes and names of the leaderboards.
    pub boards: &'a view::Boards,
    /// How many label values have series of their own.
    pub series: &'a view::SeriesBudget,
}

impl Tally {
    /// The numbers at the tally's moment. What has not been read far enough back is absent.
    pub fn view(&mut self, with: &Presentation<'_>) -> LedgerView {
        let now = self.now();
        let covers = |span: i64| self.covered_since <= now - span;
        let minute = covers(60).then_some(&self.windows.minute.total);
        let in_progress = self.facts.in_progress && covers(super::ORPHAN_SECONDS);
        let in_progress = in_progress.then(|| self.in_progress(with.directory));
        let mut view = LedgerView {
            requests_in_progress: in_progress.as_ref().map(|users| users.values().sum()),
            user_requests_in_progress: in_progress
                .into_iter()
                .flatten()
                .filter(|_| self.facts.users)
                .map(|(user, requests)| (user.to_string(), requests))
                .collect(),
            requests_last_minute: minute.map(|sums| sums.spent.requests as f64),
            tokens_last_minute: minute.filter(|_| self.facts.tokens).map(|sums| sums.spent.board_tokens as f64),
            day_start: self.moment.calendar.start(self.today()),
            days: self.day_views(),
            windows: if self.facts.failures { self.window_views() } else { Vec::new() },
            course: self.course(),
            lag_seconds: self.newest.map(|newest| (self.moment.now - newest).max(Duration::zero()).as_seconds_f64()),
            ..LedgerView::default()
        };
        if let Some(directory) = with.directory {
            let names = BoardNames::new(directory, with.boards);
            for (period, boards) in self.periods() {
                for scope in Scope::ALL.into_iter().filter(|scope| self.knows_of(*scope) && names.size(*scope) > 0) {
                    view.boards.push(board(&self.names, &names, scope, period, boards, self.facts));
                }
            }
            view.key_models = self.key_models(&view.boards, with.boards.top_models);
            view.quotas = self.quotas(directory, with.live);
        }
        if self.counters_complete {
            let before = std::mem::take(&mut self.shown_spenders);
            let (counters, folded) = self.counters_view(with.series, &before);
            self.shown_spenders =
                [&counters.users, &counters.keys, &counters.teams, &counters.organizations].map(Clone::clone);
            view.counters = Some(counters);
            view.last_requests = self.last_requests();
            view.folded = folded;
        }
        view
    }

    fn knows_of(&self, scope: Scope) -> bool {
        match scope {
            Scope::User => self.facts.users,
            Scope::Team | Scope::Organization => self.facts.teams,
            Scope::Key | Scope::Provider | Scope::Model => true,
        }
    }

    /// Requests that run, by user; those of deleted providers are not on the relay's screen (Claude Code Hub v0.9.2
    /// `src/lib/proxy-status-tracker.ts`).
    fn in_progress(&self, directory: Option<&Directory>) -> BTreeMap<i64, u64> {
        let oldest = self.now() - super::ORPHAN_SECONDS;
        let deleted = directory.into_iter().flat_map(|it| &it.providers).filter(|provider| provider.deleted);
        let deleted: HashSet<i64> = deleted.filter_map(|provider| provider.id.number()).collect();
        let mut users = BTreeMap::new();
        for row in self.held.values().map(|held| &held.row) {
            let runs = row.is_shown() && !row.is_final && row.started_at.timestamp() >= oldest;
            if runs && !deleted.contains(&row.provider_id) {
                *users.entry(row.user_id).or_default() += 1;
            }
        }
        users
    }

    /// The second in which the newest request of each provider started.
    fn last_requests(&self) -> Vec<(String, i64)> {
        let mut last: BTreeMap<i64, i64> = BTreeMap::new();
        let mut note = |provider: i64, second| {
            let last = last.entry(provider).or_insert(second);
            *last = second.max(*last);
        };
        for ((provider, ..), traffic) in &self.counters.traffic {
            if let Some(provider) = self.names.ids[Scope::Provider as usize].value(*provider) {
                note(*provider, traffic.last_second);
            }
        }
        let held = self.held.values().map(|held| &held.row).filter(|row| row.is_shown() && !row.imported);
        held.for_each(|row| note(row.provider_id, row.started_at.timestamp()));
        last.into_iter().filter(|(_, second)| *second > i64::MIN).map(|(id, second)| (id.to_string(), second)).collect()
    }

    /// The models of the first keys of the last 24 hours; what is none of the first models is `other`.
    fn key_models(&self, boards: &[Board], top: usize) -> Vec<(String, String, u64)> {
        let keys = boards.iter().find(|board| (board.scope, board.period) == (Scope::Key, Period::Last24Hours));
        let mut view = Vec::new();
        for key in keys.filter(|_| top > 0).into_iter().flat_map(|board| &board.entries) {
            let Some(sym) = key.id.parse().ok().and_then(|id| self.entity(Scope::Key, id)) else { continue };
            let name = |(model, requests)| Some((requests, self.names.model(model)?));
            let mut models: Vec<_> = self.windows.key_models.total.of(sym).filter_map(name).collect();
            models.sort_unstable_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
            models.truncate(top);
            let rest = key.requests.unwrap_or(0).saturating_sub(models.iter().map(|(requests, _)| requests).sum());
            view.extend(models.into_iter().map(|(requests, model)| (key.id.clone(), model.to_string(), requests)));
            if rest > 0 {
                view.push((key.id.clone(), other(), rest));
            }
        }
        view
    }

    fn day_views(&self) -> Vec<(&'static str, DayView)> {
        let of_day = |date| DayView {
            list_cost_usd: self.facts.list_cost.then(|| self.day_sum(date).list_cost.unwrap_or_default().to_f64()),
            ..day_view(&self.days.whole(date), self.facts)
        };
        let mut views = Vec::new();
        if self.covers(self.today()) {
            views.push(("today", of_day(self.today())));
        }
        if let Some(yesterday) = self.today().pred_opt()
            && self.covers(yesterday.max(self.moment.calendar.first_date()))
        {
            // Yesterday up to now's time of day is yesterday without what came after that time.
            let mut so_far = self.days.whole(yesterday);
            so_far.unmerge(&self.windows.since_same_time_yesterday.total);
            so_far.merge(&self.windows.since_midnight.total);
            views.push(("yesterday_same_time", day_view(&so_far, self.facts)));
            views.push(("yesterday", of_day(yesterday)));
        }
        views
    }

    fn window_views(&self) -> Vec<(&'static str, [u64; 3])> {
        let now = self.now();
        let windows = [
            ("1m", now - 60, self.windows.minute.total.spent.by_outcome()),
            ("1h", now - 3600, self.windows.hour.total.spent.by_outcome()),
            ("8h", now - 8 * 3600, self.windows.eight_hours.total.spent.by_outcome()),
            ("24h", now - 24 * 3600, self.windows.day.total.whole.spent.by_outcome()),
            ("month", self.month.start, self.month()),
        ];
        let covered = windows.into_iter().filter(|(_, start, _)| self.covered_since <= *start);
        covered.map(|(label, _, counts)| (label, counts)).collect()
    }

    /// Absent before the whole of it has been read.
    fn course(&self) -> Vec<CourseStep> {
        let now = self.now();
        let covered = self.covered_since <= Course::edge_at(now);
        let steps = self.windows.course.steps(now).filter(|_| covered);
        let view = |(start, step): (i64, Step)| {
            Some(CourseStep {
                start: DateTime::from_timestamp(start, 0)?,
                requests: step.requests,
                cost_usd: self.facts.cost.then(|| step.cost.to_f64()),
            })
        };
        steps.filter_map(view).collect()
    }

    fn periods(&self) -> Vec<(Period, &BoardSums)> {
        let none: &'static BoardSums = empty();
        let today = self.days.ready(self.today()).unwrap_or(none);
        let midnight = self.moment.calendar.start(self.today()).map_or(i64::MAX, |start| start.timestamp());
        [
            (Period::Today, midnight, today),
            (Period::Last24Hours, self.now() - 24 * 3600, &self.windows.day.total),
            (Period::Week, self.week.start, &self.week.boards),
            (Period::Month, self.month.start, &self.month.boards),
            (Period::All, i64::MIN, &self.total),
        ]
        .into_iter()
        .filter(|(_, start, _)| self.covered_since <= *start)
        .map(|(period, _, boards)| (period, boards))
        .collect()
    }

    /// `before`: the spenders of the view before.
    fn counters_view(
        &self,
        budget: &view::SeriesBudget,
        before: &[Blocks<EntityCounters>; 4],
    ) -> (CountersView, Vec<(&'static str, u64)>) {
        let fresh_since = self.now() - i64::try_from(budget.idle_after.as_secs()).unwrap_or(i64::MAX);
        let labels = Labels { names: &self.names, models: self.names.models.admitted(budget.max_models) };
        let (facts, counters) = (self.facts, &self.counters);
        let traffic = combine(counters, &labels);
        let (latency, folded_histograms) = latency_views(&traffic, budget.max_histograms, fresh_since);
        let fresh = |count: &Count| (count.last_second >= fresh_since).then_some(count.value);
        let code = |status: Option<u16>| status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let substitutions = sums(counters.substitutions.iter().map(|((provider, asked, answered, early), count)| {
            ((labels.provider(*provider), labels.model(*asked, *early), labels.model(*answered, false)), count.value)
        }));
        let mut view = CountersView {
            traffic: (traffic.iter())
                .filter(|(_, traffic)| traffic.last_second >= fresh_since)
                .map(|(labels, traffic)| traffic_view(labels, traffic, facts))
                .collect(),
            responses: (counters.responses.iter().filter(|_| facts.failures))
                .filter_map(|((sym, status), count)| Some((labels.provider(*sym), code(*status), fresh(count)?)))
                .collect(),
            failures: by_class(&counters.failures, &labels, fresh_since),
            recovered: by_class(&counters.recovered, &labels, fresh_since),
            unpriced: sums(
                counters.unpriced.iter().map(|((sym, early), count)| (labels.model(*sym, *early), count.value)),
            )
            .into_iter()
            .collect(),
            substitutions: substitutions.into_iter().map(|((a, b, c), count)| (a, b, c, count)).collect(),
            corrections: corrections(self.corrections),
            imported: facts.imports.then_some(counters.imported),
            latency,
            ..CountersView::default()
        };
        if facts.cost {
            let wasted = counters.wasted.iter();
            view.wasted =
                wasted.map(|((sym, reason), cost)| (labels.provider(*sym), reason.label(), cost.to_f64())).collect();
            view.corrections_usd = corrections_usd(self.corrections);
            let refunds = counters.refunds.iter().filter(|_| facts.refunds);
            view.refunds = refunds.map(|(sym, amount)| (labels.provider(*sym), amount.to_f64())).collect();
        }
        let unproven = self.total.spent(Scope::Model).filter(|(sym, _)| !self.names.models.is_admitted(*sym)).count();
        let mut folded = vec![
            ("model", labels.models.folded),
            ("model_without_success", unproven as u64 + self.names.models.folded().others),
            ("histogram", folded_histograms),
        ];
        let [users, keys, teams, organizations] = Scope::SPENDERS.map(|scope| {
            let known = self.knows_of(scope).then(|| self.spenders(scope, budget, fresh_since, before));
            let (spenders, folded_spenders) = known.unzip();
            folded.extend(folded_spenders.map(|count| (scope.label(), count)));
            spenders.unwrap_or_default()
        });
        (CountersView { users, keys, teams, organizations, ..view }, folded)
    }

    /// Those of a scope who have series of their own, the others together, and how many these are.
    fn spenders(
        &self,
        scope: Scope,
        budget: &view::SeriesBudget,
        fresh_since: i64,
        before: &[Blocks<EntityCounters>; 4],
    ) -> (Blocks<EntityCounters>, u64) {
        let admitted = self.names.ids[scope as usize].admitted(budget.most(scope));
        let mut shown = Vec::new();
        let mut rest = counters::Spender::default();
        for (sym, spender) in &self.counters.spenders[scope as usize] {
            match admitted.value(*sym) {
                Some(_) if spender.last_second < fresh_since => {}
                Some(id) => shown.push((Some(*id), spender)),
                None => rest.merge(spender),
            }
        }
        if rest != counters::Spender::default() {
            shown.push((None, &rest));
        }
        let view = |(id, spender): (Option<i64>, _), spare: Option<EntityCounters>| {
            let mut label = spare.map(|spare| spare.id).unwrap_or_default();
            label.clear();
            match id {
                Some(id) => label.push_str(itoa::Buffer::new().format(id)),
                None => label.push_str(OTHER),
            }
            spender_view(label, spender, self.facts)
        };
        (Blocks::renewed(&before[scope as usize], shown, view), admitted.folded)
    }
}

impl Dimensions {
    /// The name of a model that may stand beside the rest: one that is called like it is a part of it.
    pub(super) fn model(&self, sym: Sym) -> Option<&str> {
        self.models.value(sym).map(AsRef::as_ref).filter(|name| *name != OTHER)
    }
}

/// What providers and models are shown as.
struct Labels<'a> {
    names: &'a Dimensions,
    models: Admitted<'a, Arc<str>>,
}

impl Labels<'_> {
    fn provider(&self, sym: Sym) -> String {
        self.names.ids[Scope::Provider as usize].value(sym).map_or_else(other, i64::to_string)
    }

    fn model(&self, sym: Sym, early: bool) -> String {
        self.models.value(sym).filter(|_| !early).map_or_else(other, ToString::to_string)
    }
}

fn empty() -> &'static BoardSums {
    static EMPTY: std::sync::LazyLock<BoardSums> = std::sync::LazyLock::new(BoardSums::default);
    &EMPTY
}

fn day_view(sums: &Sums, facts: Facts) -> DayView {
    DayView {
        requests: sums.spent.requests,
        cost_usd: facts.cost.then(|| sums.spent.cost.to_f64()),
        list_cost_usd: None,
        mean_duration_seconds: sums.mean_duration_seconds(),
        // 0 without requests, as the relay's card shows it.
        error_ratio: facts.errors.then(|| sums.spent.errors as f64 / sums.spent.requests.max(1) as f64),
    }
}

fn sums<K: Ord>(counts: impl Iterator<Item = (K, u64)>) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for (labels, count) in counts {
        *sums.entry(labels).or_default() += count;
    }
    sums
}

/// Traffic by the labels it is shown under.
fn combine(counters: &Counters, labels: &Labels<'_>) -> BTreeMap<(String, String), Traffic> {
    let mut parts: BTreeMap<(String, String), Vec<&Traffic>> = BTreeMap::new();
    for ((provider, model, early), traffic) in &counters.traffic {
        parts.entry((labels.provider(*provider), labels.model(*model, *early))).or_default().push(traffic);
    }
    parts.into_iter().map(|(labels, parts)| (labels, counters::fold(parts.into_iter()))).collect()
}

fn traffic_view((provider_id, model): &(String, String), traffic: &Traffic, facts: Facts) -> TrafficView {
    let tokens = Tokens::default().by_type().map(|(kind, _)| kind).into_iter().zip(traffic.tokens);
    TrafficView {
        provider_id: provider_id.clone(),
        model: model.clone(),
        requests: traffic.requests,
        cost_usd: facts.cost.then(|| traffic.cost.to_f64()),
        list_cost_usd: traffic.list_cost.map(Usd::to_f64),
        account_cost_usd: traffic.account_cost.map(Usd::to_f64),
        tokens: tokens.filter(|(_, count)| *count > 0).collect(),
        cache_saved_usd: traffic.cache_saved.map(Usd::to_f64),
    }
}

/// At most `most` combinations apart, and how many are not.
fn latency_views(
    combined: &BTreeMap<(String, String), Traffic>,
    most: usize,
    fresh_since: i64,
) -> (Blocks<LatencyView>, u64) {
    let apart = histograms(combined, most);
    let mut latency: BTreeMap<(&str, &str), Vec<&Traffic>> = BTreeMap::new();
    let mut folded = 0;
    for ((provider, model), traffic) in combined {
        let labels = (provider.as_str(), model.as_str());
        let is_apart = apart.contains(&labels);
        folded += u64::from(!is_apart);
        latency.entry(if is_apart { labels } else { (provider, OTHER) }).or_default().push(traffic);
    }
    let wholes = latency.into_iter().map(|(labels, parts)| (labels, counters::fold(parts.into_iter())));
    let fresh = wholes.filter(|(_, whole)| whole.last_second >= fresh_since);
    let view = |((provider_id, model), whole): ((&str, &str), Traffic)| LatencyView {
        provider_id: provider_id.to_owned(),
        model: model.to_owned(),
        duration: histogram(&whole.duration, counters::DURATION_BOUNDS, 1e3),
        ttft: histogram(&whole.ttft, counters::TTFT_BOUNDS, 1e3),
        speed: histogram(&whole.speed, counters::SPEED_BOUNDS, 1e6),
    };
    (fresh.map(view).collect(), folded)
}

/// The combinations that have histograms of their own: the first `max` by first appearance.
fn histograms(combined: &BTreeMap<(String, String), Traffic>, max: usize) -> HashSet<(&str, &str)> {
    let mut order: Vec<(i64, (&str, &str))> = combined
        .iter()
        .map(|((provider, model), traffic)| (traffic.first_id, (provider.as_str(), model.as_str())))
        .collect();
    order.sort_unstable();
    order.into_iter().take(max).map(|(_, labels)| labels).collect()
}

pub(super) fn histogram(from: &Histogram, bounds: &'static [f64], unit: f64) -> HistogramView {
    let mut buckets = from.buckets.clone();
    buckets.resize(bounds.len() + 1, 0);
    HistogramView { bounds, buckets, sum: from.sum as f64 / unit }
}

fn spender_view(id: String, spender: &counters::Spender, facts: Facts) -> EntityCounters {
    EntityCounters {
        id,
        requests: spender.requests(),
        outcomes: Some(spender.outcomes),
        cost_usd: facts.cost.then(|| spender.cost.to_f64()),
        list_cost_usd: spender.list_cost.map(Usd::to_f64),
        tokens: facts.tokens.then_some(spender.tokens),
    }
}

fn by_class(
    counts: &HashMap<(Sym, FailureClass), Count>,
    labels: &Labels<'_>,
    fresh_since: i64,
) -> Vec<(String, &'static str, u64)> {
    let fresh = counts.iter().filter(|(_, count)| count.last_second >= fresh_since);
    fresh.map(|((sym, class), count)| (labels.provider(*sym), class.label(), count.value)).collect()
}

fn corrections(of: Corrections) -> Vec<(&'static str, u64)> {
    let rows = costly(of).into_iter().map(|(kind, correction)| (kind, correction.rows));
    rows.chain([("reclassified", of.reclassified)]).collect()
}

fn corrections_usd(of: Corrections) -> Vec<(&'static str, f64)> {
    costly(of).into_iter().map(|(kind, correction)| (kind, correction.cost.to_f64())).collect()
}

fn costly(of: Corrections) -> [(&'static str, Correction); 4] {
    [("late_cost", of.late_cost), ("lowered", of.lowered), ("deleted", of.deleted), ("rewritten", of.rewritten)]
}
