//! Days, and who stands on which board.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::NaiveDate;

use super::keys;
use super::reader::{PAIR_FIELDS, Reader};
use super::totals::{Pair, PairCounts};
use crate::connect::redis::KeyCommand;
use crate::model::{EntityId, ReadError, Scope, Usd};
use crate::model::{Ranked, Ranking};

/// Each key's requests, tokens and cost on a day.
pub(super) async fn day(
    reader: &mut Reader,
    ids: &BTreeSet<Arc<str>>,
    date: NaiveDate,
) -> Result<Vec<Ranked>, ReadError> {
    let what = "reading a day";
    let date = keys::day(date);
    let names = ids.iter().map(|id| format!("usage:daily:{id}:{date}")).collect();
    let usage = reader.fields(what, names, &["requests", "allTokens"]).await?;
    let costs = reader.dollars(what, ids.iter().map(|id| format!("usage:cost:daily:{id}:{date}")).collect()).await?;
    let ranked = ids.iter().zip(usage).zip(costs).map(|((id, usage), cost)| Ranked {
        id: EntityId::Text(id.clone()),
        cost: cost.flatten().unwrap_or_default(),
        requests: usage.as_ref().map(|usage| usage.count(0)),
        tokens: usage.as_ref().map(|usage| usage.count(1)),
    });
    Ok(ranked.collect())
}

pub(super) async fn models_today(
    reader: &mut Reader,
    pairs: &BTreeSet<Pair>,
    date: NaiveDate,
) -> Result<Vec<Ranked>, ReadError> {
    let date = keys::day(date);
    let names = pairs.iter().map(|(key, model)| format!("usage:{key}:model:daily:{model}:{date}")).collect();
    let answers = reader.fields("reading models of a day", names, &PAIR_FIELDS).await?;
    Ok(by_model(pairs.iter().zip(answers).filter_map(|((_, model), fields)| {
        // The relay's migration cuts names at a colon: then there is no hash.
        let fields = fields.filter(|fields| !fields.is_empty())?;
        Some((model, fields.pair_counts()))
    })))
}

/// The relay's own rankings, which it renews every half hour and every hour.
pub(super) async fn rankings(reader: &mut Reader) -> Result<Vec<Ranking>, ReadError> {
    let periods = [("7d", "cost_rank:7days"), ("30d", "cost_rank:30days")];
    let asks = periods.map(|(_, key)| KeyCommand::new("ZRANGE", key).with(&["0", "-1", "WITHSCORES"]));
    let answers = reader.redis.each::<Vec<(String, f64)>>("reading rankings", &asks).await?;
    let ranking = |(period, members): (&'static str, Vec<(String, f64)>)| {
        let entries = members.into_iter().filter_map(|(id, cost)| {
            Some(Ranked { id: id.as_str().into(), cost: Usd::from_f64(cost)?, requests: None, tokens: None })
        });
        Ranking { scope: Scope::Key, period, entries: entries.collect() }
    };
    let found = periods.iter().zip(answers).filter_map(|((period, _), members)| Some((*period, members?)));
    Ok(found.filter(|(_, members)| !members.is_empty()).map(ranking).collect())
}

/// Sums by model.
pub(super) fn by_model<'a>(totals: impl Iterator<Item = (&'a Arc<str>, PairCounts)>) -> Vec<Ranked> {
    let mut models: BTreeMap<&Arc<str>, PairCounts> = BTreeMap::new();
    for (model, totals) in totals {
        let sum = models.entry(model).or_default();
        sum.requests = sum.requests.saturating_add(totals.requests);
        sum.tokens = sum.tokens.saturating_add(totals.tokens);
        sum.cost += totals.cost;
    }
    let ranked = models.into_iter().map(|(model, sum)| Ranked {
        id: EntityId::Text(model.clone()),
        cost: sum.cost,
        requests: Some(sum.requests),
        tokens: Some(sum.tokens),
    });
    ranked.collect()
}

/// A day's requests and cost, under its label; `None` where a part of it cannot be read.
pub(super) fn day_sum(day: &'static str, keys: &[Ranked]) -> Option<(&'static str, u64, Usd)> {
    let requests = keys.iter().map(|key| key.requests).sum::<Option<u64>>()?;
    Some((day, requests, keys.iter().map(|key| key.cost).sum()))
}
