//! LiteLLM's own counters by day, in the place of its rows where these are switched off.
//!
//! A day's counters grow while it lasts, after its end as well, and after an outage longer still. Each refresh compares the
//! sums of the last days, and of an older one in turn, with what has been read of them, and reads those again that differ.
//! What a day has more is added to totals, which never fall.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, Utc};
use tokio::time::Instant;

use super::ModelName;
use super::day::{self, Day, Entity, Sums};
use super::deployments::Deployments;
use super::schema::Schema;
use crate::connect::postgres::{Database, Snapshot};
use crate::model::{
    CounterSnapshot, DayReading, Directory, EntityId, FailureClass, KeyCounters, Period, Ranked, Ranking, ReadError,
    Scope, TrafficCounters,
};
use crate::parts::{Part, PartError, decoded, encoded};
use crate::relay::Counters;
use crate::relay::known_database::KnownDatabase;
use crate::relay::plan::RelayPlan;

/// Days before the last that are looked at each time.
const RECENT: Days = Days::new(2);
/// Days before it that are kept: the longest month, and the week around its first day.
const KEPT: Days = Days::new(38);

const TOTALS: &str = "daily";
const DAY: &str = "daily/";

pub(super) struct DailyReader {
    database: KnownDatabase<Schema>,
    model: ModelName,
    deployments: Deployments,
    /// How long days may be read in one refresh.
    budget: Duration,
    /// How long those that were never read before, but for the first of them.
    history_budget: Duration,
    /// Of all days that were read. They never fall.
    totals: Day,
    days: BTreeMap<NaiveDate, Day>,
    /// Days that have changed since they were last written.
    touched: BTreeSet<NaiveDate>,
    /// The first day that has never been read; `None` before the first look.
    next: Option<NaiveDate>,
    /// The older day that was looked at last.
    turn: NaiveDate,
}

/// What one look has found.
struct Look {
    now: DateTime<Utc>,
    first: NaiveDate,
    read: Vec<(NaiveDate, Day)>,
}

impl DailyReader {
    pub(super) fn new(database: Database, model: ModelName, deployments: Deployments, plan: &RelayPlan) -> Self {
        Self {
            database: KnownDatabase::new(database),
            model,
            deployments,
            budget: plan.timeout / 2,
            // It is of a minute.
            history_budget: plan.history_budget.mul_f64(plan.interval.as_secs_f64() / 60.0).min(plan.timeout / 2),
            totals: Day::default(),
            days: BTreeMap::new(),
            touched: BTreeSet::new(),
            next: None,
            turn: NaiveDate::MIN,
        }
    }

    async fn look(&mut self, snapshot: &mut Snapshot, schema: &Schema) -> Result<Look, ReadError> {
        let began = Instant::now();
        let (now, first) = day::ends(snapshot).await?;
        let today = now.date_naive();
        let next = self.next.unwrap_or(first);
        // After a pause, the last days that were read may have grown since.
        let recent = next.min(today) - RECENT;
        let mut compared: BTreeMap<NaiveDate, &Day> =
            self.days.range(recent..).map(|(date, day)| (*date, day)).collect();
        let older = self.days.range(..recent);
        let in_turn = older.clone().find(|(date, _)| **date > self.turn).or(older.clone().next());
        if let Some((date, day)) = in_turn {
            self.turn = *date;
            compared.insert(*date, day);
        }
        let changed = day::changed(snapshot, schema, &compared).await?;
        let mut read = Vec::new();
        // A new day comes first: without it there are no numbers.
        for date in next.iter_days().take_while(|date| *date <= today).chain(changed) {
            let budget = if date < next { self.budget } else { self.history_budget };
            if read.is_empty() || began.elapsed() < budget {
                let before = self.days.get(&date);
                read.push((date, day::read(snapshot, schema, date, before, self.model, &self.deployments).await?));
            }
        }
        Ok(Look { now, first, read })
    }

    /// Takes in what has been read, and tells what failed of it at each provider.
    fn take(&mut self, look: &mut Look) -> BTreeMap<i64, u64> {
        let mut failures = BTreeMap::new();
        let nothing = Sums::default();
        let mut next = self.next.unwrap_or(look.first);
        for (date, day) in look.read.drain(..) {
            let before = self.days.remove(&date).unwrap_or_default();
            for (entity, sums) in &day.0 {
                let more = sums.beyond(before.0.get(entity).unwrap_or(&nothing));
                if let Entity::Traffic(provider, _) = entity {
                    *failures.entry(*provider).or_default() += more.failures;
                }
                self.totals.0.entry(entity.clone()).or_default().add(&more);
            }
            next = next.max(date + Days::new(1));
            self.touched.insert(date);
            self.days.insert(date, day);
        }
        self.next = Some(next);
        self.days = self.days.split_off(&(next - KEPT));
        failures
    }

    fn reading(&self, look: &Look, failures: BTreeMap<i64, u64>) -> CounterSnapshot {
        let (today, next) = (look.now.date_naive(), self.next.unwrap_or(look.first));
        let unread = (today - next).num_days() + 1;
        let all = (today - look.first).num_days() + 1;
        let mut reading = CounterSnapshot {
            loaded: if unread > 0 { (all - unread).max(0) as f64 / all as f64 } else { 1.0 },
            failures: failures.into_iter().map(|(id, count)| (id.into(), FailureClass::Unknown, count)).collect(),
            ..CounterSnapshot::default()
        };
        if unread > 0 {
            return reading;
        }
        reading.day_start = Some(today.and_time(NaiveTime::MIN).and_utc());
        for (label, date) in [("today", today), ("yesterday", today - Days::new(1))] {
            let whole = self.days.get(&date).map(Day::whole).unwrap_or_default();
            let errors = Some(whole.failures);
            reading.days.push(DayReading {
                day: label,
                requests: whole.requests,
                cost: whole.cost,
                errors,
                list_cost: None,
            });
        }
        reading.traffic = self.totals.traffic().map(traffic).collect();
        let models: BTreeSet<&Arc<str>> = self.totals.traffic().map(|(_, model, _)| model).collect();
        reading.models = models.into_iter().filter(|model| !model.is_empty()).cloned().collect();
        let spenders = |scope| self.totals.spenders(scope).map(spender).collect();
        reading.users = spenders(Scope::User);
        reading.keys = spenders(Scope::Key);
        reading.teams = spenders(Scope::Team);
        reading.organizations = spenders(Scope::Organization);
        let monday = today - Days::new(u64::from(today.weekday().num_days_from_monday()));
        let periods =
            [(Period::Today, today), (Period::Week, monday), (Period::Month, today.with_day(1).unwrap_or(today))];
        for (period, since) in periods {
            let mut sums = Day::default();
            self.days.range(since..).for_each(|(_, day)| sums.add(day));
            reading.rankings.extend(Scope::ALL.map(|scope| ranking(scope, period, &sums)));
        }
        reading.rankings.extend(Scope::ALL.map(|scope| ranking(scope, Period::All, &self.totals)));
        reading
    }
}

#[async_trait]
impl Counters for DailyReader {
    async fn read(&mut self, _: &Directory) -> Result<CounterSnapshot, ReadError> {
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let result = self.look(&mut snapshot, &schema).await;
        let mut look = self.database.end(snapshot, result).await?;
        let read = look.read.len() as u64;
        let failures = self.take(&mut look);
        Ok(CounterSnapshot { read, ..self.reading(&look, failures) })
    }

    fn parts(&mut self, all: bool) -> Result<Vec<Part>, PartError> {
        let touched = std::mem::take(&mut self.touched);
        let mut parts =
            vec![encoded(TOTALS, &(self.model.label(), &self.totals, self.next))?, self.deployments.part(all)?];
        for (date, day) in &self.days {
            let name = format!("{DAY}{date}");
            let wanted = all || touched.contains(date);
            parts.push(if wanted { encoded(&name, day)? } else { (name, None) });
        }
        Ok(parts)
    }

    fn restore(&mut self, parts: &BTreeMap<String, Bytes>) -> Result<(), PartError> {
        let (model, totals, next): (String, _, _) = decoded(parts, TOTALS)?;
        if model != self.model.label() {
            tracing::info!("the days are of other names of models; they are read anew");
            return Err(PartError::Unreadable(TOTALS.to_owned()));
        }
        let mut days = BTreeMap::new();
        for name in parts.keys() {
            let Some(date) = name.strip_prefix(DAY) else { continue };
            let date = date.parse().map_err(|_| PartError::Unreadable(name.clone()))?;
            days.insert(date, decoded(parts, name)?);
        }
        self.deployments.restore(parts)?;
        (self.totals, self.next, self.days) = (totals, next, days);
        self.touched.clear();
        Ok(())
    }
}

fn traffic((provider, model, sums): (i64, &Arc<str>, &Sums)) -> TrafficCounters {
    TrafficCounters {
        provider: Some(provider.into()),
        model: Arc::clone(model),
        requests: Some(sums.successes),
        tokens: sums.tokens,
        cost: Some(sums.cost),
        list_cost: None,
    }
}

fn spender((id, sums): (i64, &Sums)) -> KeyCounters {
    let tokens = sums.tokens.total();
    KeyCounters { id: id.into(), requests: sums.requests, tokens, cost: sums.cost, list_cost: None }
}

fn ranking(scope: Scope, period: Period, day: &Day) -> Ranking {
    let mut sums: BTreeMap<EntityId, Sums> = BTreeMap::new();
    match scope {
        Scope::Provider | Scope::Model => {
            for (provider, model, it) in day.traffic() {
                let id = match scope {
                    Scope::Model if !model.is_empty() => EntityId::Text(Arc::clone(model)),
                    Scope::Model => EntityId::Number(0),
                    _ => provider.into(),
                };
                sums.entry(id).or_default().add(it);
            }
        }
        spender => sums.extend(day.spenders(spender).map(|(id, it)| (id.into(), it.clone()))),
    }
    let ranked = |(id, it): (EntityId, Sums)| Ranked {
        id,
        cost: it.cost,
        requests: Some(it.requests),
        tokens: Some(it.board_tokens),
    };
    Ranking { scope, period, entries: sums.into_iter().map(ranked).collect(), renewed_at: None }
}
