//! What LiteLLM has counted by day, and how it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::ModelName;
use super::deployments::Deployments;
use super::identity::Kind;
use super::schema::{COUNTERS, ORGANIZATION_DAYS, Schema, TEAM_DAYS};
use crate::connect::postgres::Snapshot;
use crate::model::{ReadError, Scope, Tokens, Usd};

/// Whose counters some are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Entity {
    /// A provider's, with one model.
    Traffic(i64, Arc<str>),
    /// A user's, key's, team's or organization's; 0 is nobody.
    Spender(Scope, i64),
}

/// Counters of one entity, of one day or more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Of callers; cost and tokens are of LiteLLM's own calls as well, as on its Usage page.
    pub requests: u64,
    pub successes: u64,
    pub failures: u64,
    pub cost: Usd,
    pub tokens: Tokens,
    pub board_tokens: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.successes += other.successes;
        self.failures += other.failures;
        self.cost += other.cost;
        self.tokens = self.tokens.plus(other.tokens);
        self.board_tokens = self.board_tokens.saturating_add(other.board_tokens);
    }

    /// What these are more than others, number by number.
    pub(super) fn beyond(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            successes: self.successes.saturating_sub(other.successes),
            failures: self.failures.saturating_sub(other.failures),
            cost: (self.cost - other.cost).max(Usd::ZERO),
            tokens: self.tokens.beyond(other.tokens),
            board_tokens: self.board_tokens.saturating_sub(other.board_tokens),
        }
    }

    fn is_as(&self, other: &Self) -> bool {
        let numbers = |it: &Self| (it.requests, it.successes, it.failures, it.cost, it.board_tokens);
        numbers(self) == numbers(other)
    }

    fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let count = |column| row.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or(0));
        let femto = row.try_get::<&str, _>("femto")?.parse();
        let femto = femto.map_err(|_| sqlx::Error::Decode("a sum of money is no number".into()))?;
        let (prompt, output) = (count("prompt")?, count("completion")?);
        let (cache_read, cache_write) = (count("cache_read")?, count("cache_written")?);
        let input = prompt.saturating_sub(cache_read).saturating_sub(cache_write);
        Ok(Self {
            requests: count("requests")?,
            successes: count("successes")?,
            failures: count("failures")?,
            cost: Usd::from_femto(femto),
            tokens: Tokens { input, output, cache_read, cache_write, ..Tokens::default() },
            board_tokens: prompt.saturating_add(output),
        })
    }
}

/// The counters of one day, or of more than one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Day(pub BTreeMap<Entity, Sums>);

impl Day {
    pub(super) fn add(&mut self, other: &Self) {
        for (entity, sums) in &other.0 {
            self.0.entry(entity.clone()).or_default().add(sums);
        }
    }

    pub(super) fn traffic(&self) -> impl Iterator<Item = (i64, &Arc<str>, &Sums)> {
        self.0.iter().filter_map(|(entity, sums)| match entity {
            Entity::Traffic(provider, model) => Some((*provider, model, sums)),
            Entity::Spender(..) => None,
        })
    }

    pub(super) fn spenders(&self, scope: Scope) -> impl Iterator<Item = (i64, &Sums)> {
        self.0.range(Entity::Spender(scope, i64::MIN)..=Entity::Spender(scope, i64::MAX)).filter_map(
            |(entity, sums)| match entity {
                Entity::Spender(_, id) => Some((*id, sums)),
                Entity::Traffic(..) => None,
            },
        )
    }

    pub(super) fn whole(&self) -> Sums {
        sum(self.traffic().map(|(.., sums)| sums))
    }
}

fn sum<'a>(all: impl Iterator<Item = &'a Sums>) -> Sums {
    all.fold(Sums::default(), |mut sum, it| {
        sum.add(it);
        sum
    })
}

/// The server's clock, and the first day that LiteLLM has counted.
pub(super) async fn ends(snapshot: &mut Snapshot) -> Result<(DateTime<Utc>, NaiveDate), ReadError> {
    let what = "looking for the first day";
    let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/first_day.sql"))).await?;
    let read = || {
        let now: DateTime<Utc> = row.try_get("now")?;
        let first = row.try_get::<Option<&str>, _>("first")?.and_then(|date| date.parse().ok());
        Ok((now, first.unwrap_or(now.date_naive()).min(now.date_naive())))
    };
    read().map_err(|error| snapshot.error(what, &error))
}

/// Those days of which the sums are others now than what was read of them.
pub(super) async fn changed(
    snapshot: &mut Snapshot,
    schema: &Schema,
    days: &BTreeMap<NaiveDate, &Day>,
) -> Result<Vec<NaiveDate>, ReadError> {
    let what = "looking for days that have changed";
    let dates: Vec<String> = days.keys().map(ToString::to_string).collect();
    let mut changed = Vec::new();
    for (table, scope) in tables(schema) {
        let mut found: BTreeMap<NaiveDate, Sums> = BTreeMap::new();
        let text = statement(table, "date", "''");
        for row in snapshot.fetch(what, sqlx::query(text).bind(&dates)).await? {
            let read = || Ok((row.try_get::<&str, _>("id")?.parse().unwrap_or_default(), Sums::of(&row)?));
            let (date, sums) = read().map_err(|error| snapshot.error(what, &error))?;
            found.insert(date, sums);
        }
        let known = |day: &Day| match scope {
            None => day.whole(),
            Some(scope) => sum(day.spenders(scope).map(|(_, sums)| sums)),
        };
        for (date, day) in days {
            if !found.remove(date).unwrap_or_default().is_as(&known(day)) {
                changed.push(*date);
            }
        }
    }
    changed.sort_unstable();
    changed.dedup();
    Ok(changed)
}

/// All counters of one day. Those of a table that this role may not read any more are as `before`: when it can be read
/// again, they would seem to have grown.
pub(super) async fn read(
    snapshot: &mut Snapshot,
    schema: &Schema,
    date: NaiveDate,
    before: Option<&Day>,
    model: ModelName,
    deployments: &Deployments,
) -> Result<Day, ReadError> {
    let what = "reading a day";
    let model = match model {
        ModelName::Group => "coalesce(nullif(d.model_group, ''), d.model, '')",
        ModelName::Sent => "coalesce(d.model, '')",
    };
    let groups = [
        (COUNTERS, "custom_llm_provider", model, None),
        (COUNTERS, "user_id", "''", Some((Scope::User, Kind::User))),
        (COUNTERS, "api_key", "''", Some((Scope::Key, Kind::Key))),
        (TEAM_DAYS, "team_id", "''", Some((Scope::Team, Kind::Team))),
        (ORGANIZATION_DAYS, "organization_id", "''", Some((Scope::Organization, Kind::Organization))),
    ];
    let mut day = Day::default();
    for (table, id, model, spender) in groups {
        if table != COUNTERS && !schema.reads(table) {
            let known = before.zip(spender).into_iter();
            let known = known.flat_map(|(before, (scope, _))| before.spenders(scope).map(move |it| (scope, it)));
            day.0.extend(known.map(|(scope, (id, sums))| (Entity::Spender(scope, id), sums.clone())));
            continue;
        }
        let query = sqlx::query(statement(table, id, model)).bind(vec![date.to_string()]);
        for row in snapshot.fetch(what, query).await? {
            let read = || {
                let id: &str = row.try_get("id")?;
                let entity = match spender {
                    None => Entity::Traffic(deployments.number("", id, ""), row.try_get::<&str, _>("model")?.into()),
                    Some((scope, kind)) => Entity::Spender(scope, kind.number(id)),
                };
                if let Entity::Spender(Scope::Key, number) = entity {
                    deployments.note_caller(number, id);
                }
                Ok((entity, Sums::of(&row)?))
            };
            let (entity, sums) = read().map_err(|error| snapshot.error(what, &error))?;
            day.0.entry(entity).or_default().add(&sums);
        }
    }
    Ok(day)
}

fn statement(table: &str, id: &str, model: &str) -> AssertSqlSafe<String> {
    let text = include_str!("sql/days.sql").replace("{table}", &format!("\"{table}\""));
    AssertSqlSafe(text.replace("{id}", &format!("coalesce(d.{id}, '')")).replace("{model}", model))
}

/// The tables of a day, and of whom they are apart from all.
fn tables(schema: &Schema) -> Vec<(&'static str, Option<Scope>)> {
    let of = [(TEAM_DAYS, Scope::Team), (ORGANIZATION_DAYS, Scope::Organization)];
    let of = of.into_iter().filter(|(table, _)| schema.reads(table)).map(|(table, scope)| (table, Some(scope)));
    [(COUNTERS, None)].into_iter().chain(of).collect()
}
