//! Reads hashes, sets and sums of dollars, and counts what was read.

use super::keys;
use super::totals::PairCounts;
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{ReadError, Tokens, Usd};

pub(super) struct Reader {
    pub redis: Redis,
    /// Redis keys that were read in this refresh.
    pub read: u64,
}

impl Reader {
    pub(super) const fn new(redis: Redis) -> Self {
        Self { redis, read: 0 }
    }

    /// Counts in hashes. A hash that is not there has none of them; `None` where one of them is no whole number.
    pub(super) async fn fields(
        &mut self,
        what: &str,
        keys: Vec<String>,
        names: &'static [&'static str],
    ) -> Result<Vec<Option<Fields>>, ReadError> {
        self.read += keys.len() as u64;
        let asks: Vec<KeyCommand> = keys.iter().map(|key| KeyCommand::new("HMGET", key).fields(names)).collect();
        let answers = self.redis.each::<Vec<Option<String>>>(what, &asks).await?;
        let mut found = Vec::with_capacity(answers.len());
        for (key, answer) in keys.iter().zip(answers) {
            let fields = answer.map(Fields);
            let is_wrong = fields.as_ref().is_some_and(|fields| !fields.are_counts());
            if is_wrong {
                self.redis.report(key);
            }
            found.push(fields.filter(|_| !is_wrong));
        }
        Ok(found)
    }

    pub(super) async fn sets(&mut self, what: &str, keys: Vec<String>) -> Result<Vec<Vec<String>>, ReadError> {
        self.read += keys.len() as u64;
        let asks: Vec<KeyCommand> = keys.into_iter().map(|key| KeyCommand::new("SMEMBERS", key)).collect();
        let sets = self.redis.each::<Vec<String>>(what, &asks).await?;
        Ok(sets.into_iter().map(|set| keys::members(set.unwrap_or_default()).collect()).collect())
    }

    /// Dollars that the relay writes with `INCRBYFLOAT`; `None` within where there is no key, `None` without where it is
    /// no sum of dollars.
    pub(super) async fn dollars(
        &mut self,
        what: &str,
        keys: Vec<String>,
    ) -> Result<Vec<Option<Option<Usd>>>, ReadError> {
        self.read += keys.len() as u64;
        let texts = self.redis.texts(what, &keys).await?;
        let mut found = Vec::with_capacity(texts.len());
        for (key, text) in keys.iter().zip(texts) {
            let dollars = text.map(|text| Usd::from_f64(text.parse().ok()?).filter(|usd| *usd >= Usd::ZERO));
            if dollars == Some(None) {
                self.redis.report(key);
            }
            found.push(dollars.map_or(Some(None), |dollars| dollars.map(Some)));
        }
        Ok(found)
    }
}

pub(super) const TOKEN_FIELDS: [&str; 7] = [
    "requests",
    "inputTokens",
    "outputTokens",
    "cacheReadTokens",
    "cacheCreateTokens",
    "ephemeral5mTokens",
    "ephemeral1hTokens",
];
pub(super) const PAIR_FIELDS: [&str; 7] = [
    "requests",
    "inputTokens",
    "outputTokens",
    "cacheReadTokens",
    "cacheCreateTokens",
    "ratedCostMicro",
    "realCostMicro",
];

/// Fields of one hash, in the order in which they were asked for.
pub(super) struct Fields(Vec<Option<String>>);

impl Fields {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    fn are_counts(&self) -> bool {
        self.0.iter().flatten().all(|text| text.parse::<u64>().is_ok())
    }

    /// 0 for what is absent.
    pub(super) fn count(&self, field: usize) -> u64 {
        self.0.get(field).and_then(|text| text.as_ref()?.parse().ok()).unwrap_or(0)
    }

    /// Of [`TOKEN_FIELDS`].
    pub(super) fn tokens(&self) -> Tokens {
        let (cache_write_5m, cache_write_1h) = (self.count(5), self.count(6));
        Tokens {
            input: self.count(1),
            output: self.count(2),
            cache_read: self.count(3),
            cache_write_5m,
            cache_write_1h,
            cache_write: self.count(4).saturating_sub(cache_write_5m.saturating_add(cache_write_1h)),
        }
    }

    /// Of [`PAIR_FIELDS`].
    pub(super) fn pair_counts(&self) -> PairCounts {
        let micro = |field| Usd::from_femto(i128::from(self.count(field)) * 1_000_000_000);
        PairCounts {
            requests: self.count(0),
            tokens: (1..=4).fold(0_u64, |sum, field| sum.saturating_add(self.count(field))),
            cost: micro(5),
            list_cost: micro(6),
        }
    }
}
