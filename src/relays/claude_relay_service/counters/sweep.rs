//! Everything, once at the start and then again little by little: what moved tells itself, so this only finds what was
//! changed by hand. The first reading goes on where the attempt before ran out of time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, TimeDelta, Utc};

use super::super::keys;
use super::keys::{AT_ONCE, Depth};
use super::{CounterReader, Directory, Pair, ReadError, Span, text};

/// Pause between the beginnings of two sweeps.
const EVERY: TimeDelta = TimeDelta::minutes(10);
/// Days of index sets, which live 32 days: who had traffic in them is not idle.
const INDEXED_DAYS: u64 = 32;
/// Keys that a refresh reads, once all have been read.
const KEYS_A_REFRESH: usize = 20;
/// Combinations of accounts and models that are read in one step.
const PAIRS_AT_ONCE: usize = 250;
/// Combinations that are looked for in one step.
const SEARCHED_AT_ONCE: usize = 5_000;

#[derive(Default)]
pub(super) struct Sweep {
    environment: Environment,
    /// All keys have been read once.
    has_been: bool,
    began_at: Option<DateTime<Utc>>,
    /// Keys and account totals that are still to be read.
    keys: BTreeSet<Arc<str>>,
    accounts: BTreeSet<Pair>,
    /// Keys at the beginning.
    all: usize,
    /// Models of keys that index sets name.
    found: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Keys and accounts whose idle models have been looked for.
    searched: HashSet<Arc<str>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Environment {
    #[default]
    Rests,
    /// The index sets of so many days are still to be read.
    Indexes {
        days: u64,
        of: u64,
    },
    Keys,
    Accounts,
    Search,
}

impl Sweep {
    /// The share that has been read, 1 once that was all.
    pub(super) fn loaded(&self) -> f64 {
        match self.environment {
            _ if self.has_been => 1.0,
            Environment::Rests => 0.0,
            // A hundredth is what comes before the keys, another what comes after.
            Environment::Indexes { days, of } => 0.01 * (1.0 - days as f64 / of as f64),
            Environment::Keys => 0.01 + 0.98 * (1.0 - self.keys.len() as f64 / self.all.max(1) as f64),
            Environment::Accounts | Environment::Search => 0.99,
        }
    }

    /// An index set names a model of a key.
    pub(super) fn find(&mut self, (key, model): Pair) {
        self.found.entry(key).or_default().insert(model);
    }

    pub(super) fn found(&self, key: &str) -> impl Iterator<Item = Arc<str>> {
        self.found.get(key).into_iter().flatten().cloned()
    }

    /// The next refresh begins anew.
    pub(super) fn begin_anew(&mut self) {
        (self.environment, self.began_at) = (Environment::Rests, None);
    }
}

impl CounterReader {
    /// Goes on reading everything, where it is time.
    pub(super) async fn sweep(&mut self, directory: &Directory, span: &Span) -> Result<(), ReadError> {
        let sweep = &mut self.progress.sweep;
        let in_haste = !sweep.has_been || span.resetting;
        if sweep.environment == Environment::Rests {
            let is_due = sweep.began_at.is_none_or(|at| span.now - at >= EVERY);
            if is_due || span.resetting {
                let of = if sweep.has_been { 2 } else { INDEXED_DAYS };
                sweep.began_at = Some(span.now);
                self.progress.keys.begin_anew();
                sweep.environment = Environment::Indexes { days: of, of };
                let known = self.known.keys.keys().cloned();
                sweep.keys = directory.keys.iter().map(|key| text(&key.id)).chain(known).collect();
                sweep.accounts = self.known.traffic.keys().cloned().collect();
            }
        }
        self.begin_year(span);
        // Where nothing moves, there is nothing to find.
        let mut goes_on = in_haste || self.progress.stirred > 0;
        while goes_on && self.progress.sweep.environment != Environment::Rests {
            self.step(directory, span, in_haste).await?;
            goes_on = in_haste && !span.is_up();
        }
        if self.progress.sweep.has_been {
            self.known.order_models(Vec::new());
        }
        Ok(())
    }

    async fn step(&mut self, directory: &Directory, span: &Span, in_haste: bool) -> Result<(), ReadError> {
        self.progress.sweep.environment = match self.progress.sweep.environment {
            Environment::Rests => Environment::Rests,
            Environment::Indexes { days: 0, .. } => {
                self.progress.sweep.all = self.progress.sweep.keys.len();
                Environment::Keys
            }
            Environment::Indexes { days, of } => {
                self.read_index(of - days, span.today).await?;
                Environment::Indexes { days: days - 1, of }
            }
            Environment::Keys if self.progress.sweep.keys.is_empty() => Environment::Accounts,
            Environment::Keys => {
                let some = if in_haste { AT_ONCE } else { KEYS_A_REFRESH };
                let some: Vec<Arc<str>> = self.progress.sweep.keys.iter().take(some).cloned().collect();
                let yesterday = !self.progress.sweep.has_been || span.resetting || span.is_early;
                self.read_whole(&some, Depth { all_models: true, yesterday }, span).await?;
                for id in &some {
                    self.progress.sweep.keys.remove(id);
                    self.progress.sweep.found.remove(id);
                }
                Environment::Keys
            }
            Environment::Accounts if self.progress.sweep.accounts.is_empty() => Environment::Search,
            Environment::Accounts => {
                let some: BTreeSet<Pair> = self.progress.sweep.accounts.iter().take(PAIRS_AT_ONCE).cloned().collect();
                self.account_totals(some.clone(), true, span).await?;
                self.progress.sweep.accounts.retain(|pair| !some.contains(pair));
                Environment::Accounts
            }
            Environment::Search => {
                let models = self.models(span.today).await?;
                if !self.search_keys(&models, span).await? || !self.search_accounts(&models, directory, span).await? {
                    return Ok(());
                }
                self.known.order_models(models);
                self.progress.sweep.has_been = true;
                Environment::Rests
            }
        };
        Ok(())
    }

    /// Who had traffic on a day, so many days ago.
    async fn read_index(&mut self, ago: u64, today: NaiveDate) -> Result<(), ReadError> {
        let what = "reading who had traffic";
        let date = keys::day(today - Days::new(ago));
        let names = ["usage:keymodel:daily:index:", "account_usage:model:daily:index:", "usage:daily:index:"];
        let names = names.into_iter().take(if ago < 2 { 3 } else { 2 });
        let mut sets = self.reader.sets(what, names.map(|name| format!("{name}{date}")).collect()).await?.into_iter();
        let sweep = &mut self.progress.sweep;
        sets.next().iter().flatten().filter_map(|member| pair(member)).for_each(|pair| sweep.find(pair));
        sweep.accounts.extend(sets.next().iter().flatten().filter_map(|member| pair(member)));
        sweep.keys.extend(sets.next().into_iter().flatten().map(Arc::from));
        // A key that is gone has left its models.
        let gone: Vec<Arc<str>> = sweep.found.keys().filter(|id| !sweep.keys.contains(*id)).cloned().collect();
        sweep.keys.extend(gone);
        Ok(())
    }

    /// Looks once for models that a key has not used for so long that no index names them. Its sum tells whether it has
    /// some. Tells whether it is through.
    async fn search_keys(&mut self, models: &[Arc<str>], span: &Span) -> Result<bool, ReadError> {
        let searched = &self.progress.sweep.searched;
        let keys = self.known.keys.iter().filter(|(id, _)| !searched.contains(*id));
        let missing = keys.filter(|(id, totals)| totals.requests.now() > self.known.requests_by_model(id));
        let missing: Vec<Arc<str>> = missing.map(|(id, _)| id.clone()).collect();
        for some in missing.chunks(SEARCHED_AT_ONCE.div_ceil(models.len().max(1))) {
            if span.is_up() {
                return Ok(false);
            }
            let pairs = some.iter().flat_map(|id| models.iter().map(move |model| (id.clone(), model.clone())));
            self.pair_totals(pairs.collect(), false).await?;
            for id in some {
                self.account_for(id, true);
                self.progress.sweep.searched.insert(id.clone());
            }
        }
        Ok(true)
    }

    /// The same for accounts, whose months have sums.
    async fn search_accounts(
        &mut self,
        models: &[Arc<str>],
        directory: &Directory,
        span: &Span,
    ) -> Result<bool, ReadError> {
        let accounts = directory.providers.iter().map(|account| text(&account.id));
        let accounts: Vec<Arc<str>> = accounts.filter(|id| !self.progress.sweep.searched.contains(id)).collect();
        let mut found: HashMap<(Arc<str>, u32), u64> = HashMap::new();
        for ((account, _), of_months) in &self.known.traffic {
            for (month, totals) in of_months {
                *found.entry((account.clone(), *month)).or_default() += totals.requests.now();
            }
        }
        for id in accounts {
            if span.is_up() {
                return Ok(false);
            }
            let name = |month| format!("account_usage:monthly:{id}:{}", keys::month(span.year, month));
            let names = (1..=span.last_month).map(name).collect();
            let sums = self.reader.fields("reading totals of accounts", names, &["requests"]).await?;
            let missing = (1..=span.last_month).zip(sums).filter(|(month, sum)| {
                let found = found.get(&(id.clone(), *month)).copied().unwrap_or(0);
                sum.as_ref().is_some_and(|sum| sum.count(0) > found)
            });
            let asked = missing.flat_map(|(month, _)| models.iter().map(move |model| (model.clone(), month)));
            let asked = asked.map(|(model, month)| ((id.clone(), model), month)).collect();
            self.month_totals(asked, false).await?;
            self.progress.sweep.searched.insert(id);
        }
        Ok(true)
    }

    /// The names of the models of a year, by the month and, in the last weeks, by the day of their first appearance, then by
    /// name: the same order in every process.
    async fn models(&mut self, today: NaiveDate) -> Result<Vec<Arc<str>>, ReadError> {
        let oldest_day = today - Days::new(INDEXED_DAYS - 1);
        let month = |date: NaiveDate| format!("usage:model:monthly:index:{}", keys::month(date.year(), date.month()));
        let months = (0..=12).rev().map(|ago| month(oldest_day - Months::new(ago)));
        let days = oldest_day.iter_days().take(INDEXED_DAYS as usize);
        let days = days.map(|day| format!("usage:model:daily:index:{}", keys::day(day)));
        let rest = [today - Months::new(1), today].map(month);
        let sets = self.reader.sets("reading the names of models", months.chain(days).chain(rest).collect()).await?;
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        for set in sets {
            let names: BTreeSet<Arc<str>> = set.into_iter().map(Arc::from).collect();
            all.extend(names.into_iter().filter(|name| seen.insert(name.clone())));
        }
        Ok(all)
    }
}

pub(super) fn pair(member: &str) -> Option<Pair> {
    keys::pair(member).map(|(id, model)| (id.into(), model.into()))
}
