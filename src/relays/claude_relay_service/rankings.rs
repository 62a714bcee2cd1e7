//! Who stands on which board.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::directory::instant;
use super::reader::Reader;
use super::totals::PairCounts;
use crate::connect::redis::KeyCommand;
use crate::model::{Directory, EntityId, Period, Ranked, Ranking, ReadError, Scope, Usd};

/// Period, and the relay's name of the ranking.
const RANKINGS: [(Period, &str); 2] = [(Period::SevenDays, "7days"), (Period::ThirtyDays, "30days")];

/// The relay's own rankings of keys, which it renews every half hour and every hour, as they were last read.
#[derive(Default)]
pub(super) struct Rankings {
    read: Vec<Ranking>,
    /// Keys that there were.
    keys: usize,
}

impl Rankings {
    /// Reads those that the relay has renewed since; all of them when keys have come or gone, which it adds and takes out at
    /// once (v1.1.314 `src/services/costRankService.js`).
    pub(super) async fn read(&mut self, reader: &mut Reader, directory: &Directory) -> Result<Vec<Ranking>, ReadError> {
        let what = "reading rankings";
        let asks =
            RANKINGS.map(|(_, name)| KeyCommand::new("HMGET", format!("cost_rank_meta:{name}")).with(&["lastUpdate"]));
        let told = reader.redis.each::<Vec<Option<String>>>(what, &asks).await?;
        let told = told.into_iter().map(|fields| instant(fields?.first()?.as_deref()?));
        let keys = directory.keys.iter().filter(|key| !key.deleted).count();
        let are_same = keys == self.keys;
        let wanted: Vec<_> = RANKINGS
            .into_iter()
            .zip(told)
            .filter(|((period, _), at)| {
                let is_known = self.read.iter().any(|it| it.period == *period && it.renewed_at == *at);
                at.is_none() || !are_same || !is_known
            })
            .collect();
        let asks = wanted.iter().map(|((_, name), _)| {
            KeyCommand::new("ZRANGE", format!("cost_rank:{name}")).with(&["0", "-1", "WITHSCORES"])
        });
        let asks: Vec<KeyCommand> = asks.collect();
        let answers = reader.redis.each::<Vec<(String, f64)>>(what, &asks).await?;
        for (((period, _), at), members) in wanted.into_iter().zip(answers) {
            self.read.retain(|it| it.period != period);
            self.read.extend(members.filter(|it| !it.is_empty()).map(|it| ranking(period, at, it)));
        }
        self.keys = keys;
        Ok(self.read.clone())
    }
}

fn ranking(period: Period, renewed_at: Option<DateTime<Utc>>, members: Vec<(String, f64)>) -> Ranking {
    let entries = members.into_iter().filter_map(|(id, cost)| {
        Some(Ranked { id: id.as_str().into(), cost: Usd::from_f64(cost)?, requests: None, tokens: None })
    });
    Ranking { scope: Scope::Key, period, entries: entries.collect(), renewed_at }
}

/// A board of models.
pub(super) fn of_models<'a>(period: Period, models: impl Iterator<Item = (&'a Arc<str>, PairCounts)>) -> Ranking {
    let entries = models.map(|(model, sum)| Ranked {
        id: EntityId::Text(model.clone()),
        cost: sum.cost,
        requests: Some(sum.requests),
        tokens: Some(sum.tokens),
    });
    Ranking { scope: Scope::Model, period, entries: entries.collect(), renewed_at: None }
}
