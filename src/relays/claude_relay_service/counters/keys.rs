//! Keys: which of them have moved, and what they have now.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{Days, TimeDelta};

use super::super::days::KeyDay;
use super::super::events::Told;
use super::super::keys;
use super::super::reader::{Fields, PAIR_FIELDS};
use super::{BEGINS, CounterReader, Directory, Pair, ReadError, Span, text};
use crate::connect::redis::KeyCommand;
use crate::model::Usd;

/// Keys that are read in one step: some thousand commands.
pub(super) const AT_ONCE: usize = 250;
/// Fields of `usage:{key}`.
const USAGE: [&str; 3] = ["totalRequests", "totalAllTokens", "totalTokens"];
/// The set of all keys' models is looked at again after a second for each so many members.
const MEMBERS_A_SECOND: usize = 1_000;

/// For so long the relay may be at work on a request that its total has: its index of the last use comes a little later.
const WRITES: Duration = Duration::from_millis(20);
/// The clocks of several processes of a relay may be so many milliseconds apart.
const APART: f64 = 2_000.0;

/// What is read of keys.
#[derive(Clone, Copy)]
pub(super) struct Depth {
    /// All their models, not just those of their new records.
    pub all_models: bool,
    pub yesterday: bool,
}

/// The totals of keys as they were seen last.
#[derive(Default)]
pub(super) struct Totals {
    /// Requests and tokens.
    seen: HashMap<Arc<str>, (u64, u64)>,
    requests: i128,
    /// Requests of the relay that are of no key that is known.
    rest: Option<i128>,
}

impl Totals {
    pub(super) fn get(&self, id: &str) -> Option<(u64, u64)> {
        self.seen.get(id).copied()
    }

    /// Tells whether they have moved.
    fn see(&mut self, id: &Arc<str>, now: (u64, u64)) -> bool {
        let before = self.seen.insert(id.clone(), now);
        self.requests += i128::from(now.0) - i128::from(before.unwrap_or_default().0);
        before != Some(now)
    }

    /// All keys have been looked at.
    fn are_all(&mut self, of_relay: u64) {
        let rest = i128::from(of_relay) - self.requests;
        self.rest = Some(self.rest.map_or(rest, |before| before.max(rest)));
    }

    /// Whether no key can have moved that has not been looked at.
    fn account_for(&self, of_relay: u64) -> bool {
        self.rest.is_some_and(|rest| i128::from(of_relay) - self.requests <= rest)
    }

    /// The next look is at all keys.
    pub(super) fn begin_anew(&mut self) {
        self.rest = None;
    }
}

impl CounterReader {
    /// Reads the keys whose totals have moved.
    pub(super) async fn moved_keys(&mut self, directory: &Directory, span: &Span) -> Result<(), ReadError> {
        if let Some(used) = self.used_keys(span).await? {
            self.see_totals(&used).await?;
        }
        // The relay's own total tells whether they were all.
        if !span.requests.is_some_and(|requests| self.progress.keys.account_for(requests)) {
            let new = directory.keys.iter().map(|key| text(&key.id)).filter(|id| !self.known.keys.contains_key(id));
            let ids: Vec<Arc<str>> = self.known.keys.keys().cloned().chain(new).collect();
            self.see_totals(&ids).await?;
            if let Some(requests) = span.requests {
                self.progress.keys.are_all(requests);
            }
        }
        let depth = Depth { all_models: false, yesterday: span.is_early };
        let due: Vec<Arc<str>> = self.progress.due.iter().cloned().collect();
        for some in due.chunks(AT_ONCE) {
            self.read_keys(some, depth, span).await?;
            if span.is_up() {
                break;
            }
        }
        self.find_strays(span).await
    }

    /// The keys that were used since the last look, as the relay's index says; `None` when all may have been.
    async fn used_keys(&mut self, span: &Span) -> Result<Option<Vec<Arc<str>>>, ReadError> {
        let (what, index) = ("reading which keys were used", "apikey:idx:lastUsedAt");
        tokio::time::sleep(WRITES).await;
        let mut count = 0;
        if let Some(at) = self.progress.used_at.filter(|_| !span.resetting) {
            let request = KeyCommand::new("ZCOUNT", index).with(&[&(at - APART).to_string(), "+inf"]);
            count = self.reader.redis.each::<u64>(what, &[request]).await?.into_iter().flatten().next().unwrap_or(0);
        }
        let are_few = count > 0 && count <= self.known.keys.len() as u64 / 2 + 1;
        // Where all keys are looked at, only when the newest was used.
        let newest = if are_few { count } else { 1 };
        let request = KeyCommand::new("ZRANGE", index).with(&[&format!("-{newest}"), "-1", "WITHSCORES"]);
        let used = self.reader.redis.each::<Vec<(String, f64)>>(what, &[request]).await?;
        let used: Vec<(String, f64)> = used.into_iter().flatten().flatten().collect();
        self.progress.used_at = used.iter().map(|(_, at)| *at).reduce(f64::max);
        Ok(are_few.then(|| used.into_iter().map(|(id, _)| Arc::from(id)).collect()))
    }

    /// Looks at the totals of keys: those that have moved are due.
    async fn see_totals(&mut self, ids: &[Arc<str>]) -> Result<(), ReadError> {
        let names = ids.iter().map(|id| format!("usage:{id}")).collect();
        let usage = self.reader.fields("reading totals of keys", names, &USAGE).await?;
        for (id, usage) in ids.iter().zip(usage) {
            if usage.is_some_and(|usage| self.progress.keys.see(id, counts(&usage))) {
                self.progress.due.insert(id.clone());
            }
        }
        Ok(())
    }

    /// Reads everything of keys, their totals too.
    pub(super) async fn read_whole(&mut self, ids: &[Arc<str>], depth: Depth, span: &Span) -> Result<(), ReadError> {
        self.see_totals(ids).await?;
        self.read_keys(ids, depth, span).await
    }

    /// Reads what there is of keys beside their totals: costs, days, records and models.
    async fn read_keys(&mut self, ids: &[Arc<str>], depth: Depth, span: &Span) -> Result<(), ReadError> {
        let what = "reading costs of keys";
        let of = |prefix: &str| ids.iter().map(|id| format!("{prefix}{id}")).collect();
        let costs = self.reader.dollars(what, of("usage:cost:total:")).await?;
        let list_costs = self.reader.dollars(what, of("usage:cost:real:total:")).await?;
        for ((id, cost), list_cost) in ids.iter().zip(costs).zip(list_costs) {
            self.see_key(id, (cost, list_cost), span.resetting);
        }
        self.read_days(ids, depth, span).await?;

        let requests = |id: &Arc<str>| self.known.keys.get(id).map_or(0, |totals| totals.requests.total());
        let counted: Vec<(Arc<str>, u64)> = ids.iter().map(|id| (id.clone(), requests(id))).collect();
        let told = self.cursors.records(&mut self.reader, &counted, &mut self.known.changed).await?;
        self.read_models(ids, &told, depth, span).await?;
        for (id, told) in ids.iter().zip(told) {
            if told.late {
                self.progress.due.insert(id.clone());
            } else {
                self.progress.due.remove(id);
                self.account_for(id, depth.all_models);
            }
        }
        Ok(())
    }

    fn see_key(
        &mut self,
        id: &Arc<str>,
        (cost, list_cost): (Option<Option<Usd>>, Option<Option<Usd>>),
        resetting: bool,
    ) {
        let usage = self.progress.keys.get(id);
        // Of a key that has never been read whole, nothing is told.
        if !self.known.keys.contains_key(id) && (usage.is_none() || cost.is_none()) {
            return;
        }
        let totals = self.known.keys.entry(id.clone()).or_default();
        let before = *totals;
        let mut begins = false;
        // What is not there has been reset, or belonged to a key that was deleted for good.
        if let Some((requests, tokens)) = usage.filter(|usage| resetting || *usage != (0, 0)) {
            begins |= totals.requests.see(requests, resetting);
            begins |= totals.tokens.see(tokens, resetting);
        }
        let told = |cost: Option<Option<Usd>>| cost.and_then(|cost| cost.or(resetting.then_some(Usd::ZERO)));
        if let Some(cost) = told(cost) {
            begins |= totals.cost.see(cost, resetting);
        }
        if let Some(cost) = told(list_cost).filter(|cost| totals.list_cost.is_some() || cost.is_positive()) {
            begins |= totals.list_cost.get_or_insert_default().see(cost, resetting);
        }
        if begins && !resetting {
            tracing::info!(key = &**id, "{BEGINS}");
        }
        if before != *totals {
            self.known.changed.insert(id.clone());
        }
    }

    async fn read_days(&mut self, ids: &[Arc<str>], depth: Depth, span: &Span) -> Result<(), ReadError> {
        let what = "reading a day";
        for ago in 0..=u64::from(depth.yesterday) {
            let date = keys::day(span.today - Days::new(ago));
            let names = ids.iter().map(|id| format!("usage:daily:{id}:{date}")).collect();
            let usage = self.reader.fields(what, names, &["requests", "allTokens"]).await?;
            let names = ids.iter().map(|id| format!("usage:cost:daily:{id}:{date}")).collect();
            let costs = self.reader.dollars(what, names).await?;
            let day = if ago == 0 { &mut self.progress.days.today } else { &mut self.progress.days.yesterday };
            for ((id, usage), cost) in ids.iter().zip(usage).zip(costs) {
                let count = |field| usage.as_ref().map(|usage| usage.count(field));
                let cost = cost.flatten().unwrap_or_default();
                day.see_key(id, KeyDay { requests: count(0), tokens: count(1), cost });
            }
        }
        Ok(())
    }

    /// Reads the models that the new records tell; all that a key has used where these do not tell all.
    async fn read_models(
        &mut self,
        ids: &[Arc<str>],
        told: &[Told],
        depth: Depth,
        span: &Span,
    ) -> Result<(), ReadError> {
        let mut pairs: Vec<Pair> = Vec::new();
        for (id, told) in ids.iter().zip(told) {
            let mut models = told.models.clone();
            if depth.all_models || !told.whole {
                models.extend(self.known.models_of(id).cloned());
                models.extend(self.progress.sweep.found(id));
            }
            pairs.extend(models.into_iter().map(|model| (id.clone(), model)));
        }
        for ago in 0..=u64::from(depth.yesterday) {
            let date = keys::day(span.today - Days::new(ago));
            let name = |(key, model): &Pair| format!("usage:{key}:model:daily:{model}:{date}");
            let names = pairs.iter().map(name).collect();
            let answers = self.reader.fields("reading models of a day", names, &PAIR_FIELDS).await?;
            let day = if ago == 0 { &mut self.progress.days.today } else { &mut self.progress.days.yesterday };
            for (pair, fields) in pairs.iter().zip(answers) {
                if let Some(fields) = fields {
                    day.see_pair(pair, fields.pair_counts());
                }
            }
        }
        self.pair_totals(pairs, span.resetting).await
    }

    pub(super) async fn pair_totals(&mut self, pairs: Vec<Pair>, resetting: bool) -> Result<(), ReadError> {
        let names = pairs.iter().map(|(key, model)| format!("usage:{key}:model:alltime:{model}")).collect();
        let answers = self.reader.fields("reading totals of keys by model", names, &PAIR_FIELDS).await?;
        for (pair, fields) in pairs.into_iter().zip(answers) {
            // A cut name of a model has no hash.
            let is_known = self.known.knows_pair(&pair);
            let Some(fields) = fields.filter(|fields| !fields.is_empty() || resetting && is_known) else { continue };
            if self.known.see_pair(&pair, fields.pair_counts(), resetting) && !resetting {
                tracing::info!(key = &*pair.0, model = &*pair.1, "{BEGINS}");
            }
        }
        Ok(())
    }

    /// Holds the requests of a key against those of its models: when these lag, it has used one that was not read.
    pub(super) fn account_for(&mut self, id: &Arc<str>, whole: bool) {
        let requests = self.known.keys.get(id).map_or(0, |totals| totals.requests.now());
        let rest = i128::from(requests) - i128::from(self.known.requests_by_model(id));
        let before = self.progress.rests.get(id);
        // A Redis that is a little older than what was shown hides what a key has used since.
        let is_behind = self.progress.keys.get(id).is_some_and(|(now, _)| now < requests);
        if whole || before.is_none() && rest <= 0 && !is_behind {
            self.progress.rests.insert(id.clone(), rest);
        } else if is_behind || before.is_none_or(|before| rest > *before) {
            self.progress.strays.insert(id.clone());
        }
    }

    /// Looks for models of keys that did without a record.
    async fn find_strays(&mut self, span: &Span) -> Result<(), ReadError> {
        let rests = self.progress.strays_rest.is_some_and(|until| span.now < until);
        if self.progress.strays.is_empty() || span.is_up() || rests {
            return Ok(());
        }
        let days = 0..=u64::from(span.is_early);
        let names = days.map(|ago| format!("usage:keymodel:daily:index:{}", keys::day(span.today - Days::new(ago))));
        let sets = self.reader.sets("reading who used which model", names.collect()).await?;
        let members = sets.iter().flatten().filter_map(|member| keys::pair(member));
        for (key, model) in members.filter(|(key, _)| self.progress.strays.contains(*key)) {
            self.progress.sweep.find((key.into(), model.into()));
        }
        let members = sets.iter().map(Vec::len).sum::<usize>();
        self.progress.strays_rest = Some(span.now + TimeDelta::seconds((members / MEMBERS_A_SECOND) as i64));
        let strays: BTreeSet<Arc<str>> = self.progress.strays.clone();
        for some in strays.into_iter().collect::<Vec<_>>().chunks(AT_ONCE) {
            self.read_whole(some, Depth { all_models: true, yesterday: span.is_early }, span).await?;
            for id in some {
                self.progress.strays.remove(id);
            }
            if span.is_up() {
                break;
            }
        }
        Ok(())
    }
}

/// Requests and tokens of `usage:{key}`; old hashes have only the sum without caches.
fn counts(usage: &Fields) -> (u64, u64) {
    (usage.count(0), usage.count(1).max(usage.count(2)))
}
