//! What a request costs: the relay stores no cost, its pages price tokens when they are shown. Here a row is priced when
//! it is read, by the same rules (Plus v1.12.2 `service/pricing/cost.go`; v1.x `features/monitoring`).
//!
//! Amounts are whole numbers of 10^-15 dollars per token, so that the price of a sum is the sum of the prices.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::schema::{Level, Schema};
use crate::connect::sqlite::Snapshot;
use crate::model::{ReadError, Usd};

/// Beyond so many input tokens some models of OpenAI cost more (`usage/event.go`).
const LONG_CONTEXT: i64 = 272_000;

/// Tokens by what they cost; the kinds exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub prompt: i64,
    pub output: i64,
    /// Cached input of which the relay only knows that it was cached.
    pub cached: i64,
    pub cache_read: i64,
    pub cache_creation: i64,
}

/// The names that a price is looked up by, as they are in the row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Models<'a> {
    pub model: &'a str,
    pub requested: &'a str,
    pub resolved: &'a str,
}

impl<'a> Models<'a> {
    /// What was asked for: in Plus, the requested name goes before the recorded one.
    pub(super) fn asked(&self) -> &'a str {
        if self.requested.is_empty() { self.model } else { self.requested }
    }
}

/// The model that a request counts under: without the suffix by which the proxy sets the thinking effort
/// (Plus `usageidentity/model.go`).
pub(super) fn without_effort(model: &str) -> &str {
    let Some((base, effort)) = model.strip_suffix(')').and_then(|name| name.rsplit_once('(')) else { return model };
    let words = ["none", "auto", "-1", "minimal", "low", "medium", "high", "xhigh", "max"];
    let is_effort = words.iter().any(|word| word.eq_ignore_ascii_case(effort))
        || effort.parse::<i64>().is_ok_and(|budget| budget >= 0);
    if is_effort && !base.is_empty() { base } else { model }
}

/// US dollars per million tokens; `None` where none was set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    prompt: Option<f64>,
    completion: Option<f64>,
    cache: Option<f64>,
    cache_read: Option<f64>,
    cache_creation: Option<f64>,
}

impl Rates {
    /// A rate that is not marked as set counts as set when it is positive.
    fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let rate = |column, identity| {
            let rate: Option<f64> = row.try_get(column)?;
            let is_set = row.try_get::<Option<i64>, _>(identity).ok().flatten().is_some_and(|identity| identity != 0);
            Ok::<_, sqlx::Error>(rate.filter(|rate| rate.is_finite() && (is_set || *rate > 0.0)))
        };
        Ok(Self {
            prompt: rate("prompt", "has_prompt")?,
            completion: rate("completion", "has_completion")?,
            cache: row.try_get::<Option<f64>, _>("cache")?.filter(|rate| rate.is_finite()),
            cache_read: rate("cache_read", "has_cache_read")?,
            cache_creation: rate("cache_creation", "has_cache_creation")?,
        })
    }

    /// Only what the tier sets.
    fn of_tier(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let rate =
            |column, identity| {
                let rate: Option<f64> = row.try_get(column)?;
                Ok::<_, sqlx::Error>(rate.filter(|rate| {
                    rate.is_finite() && row.try_get::<i64, _>(identity).is_ok_and(|identity| identity != 0)
                }))
            };
        Ok(Self {
            prompt: rate("prompt", "has_prompt")?,
            completion: rate("completion", "has_completion")?,
            cache: rate("cache", "has_cache")?,
            cache_read: rate("cache_read", "has_cache_read")?,
            cache_creation: rate("cache_creation", "has_cache_creation")?,
        })
    }

    /// These, where set, before those.
    fn or(self, base: Self) -> Self {
        Self {
            prompt: self.prompt.or(base.prompt),
            completion: self.completion.or(base.completion),
            cache: self.cache.or(base.cache),
            cache_read: self.cache_read.or(base.cache_read),
            cache_creation: self.cache_creation.or(base.cache_creation),
        }
    }

    fn times(self, input: f64, output: f64) -> PerToken {
        let prompt = self.prompt.unwrap_or(0.0);
        let cache = self.cache.unwrap_or(0.0);
        let read = self.cache_read.unwrap_or(if cache > 0.0 { cache } else { prompt * 0.1 });
        // A dollar per million tokens is 10^9 times 10^-15 dollars per token.
        let femto = |rate: f64, factor: f64| (rate * factor * 1e9).round() as i128;
        PerToken {
            prompt: femto(prompt, input),
            output: femto(self.completion.unwrap_or(0.0), output),
            cached: femto(cache, input),
            cache_read: femto(read, input),
            cache_creation: femto(self.cache_creation.unwrap_or(prompt), input),
        }
    }
}

/// 10^-15 dollars per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PerToken {
    prompt: i128,
    output: i128,
    cached: i128,
    cache_read: i128,
    cache_creation: i128,
}

impl PerToken {
    pub(super) fn cost(&self, parts: &Parts) -> Usd {
        let priced = |tokens: i64, price: i128| i128::from(tokens).saturating_mul(price);
        Usd::from_femto(
            priced(parts.prompt, self.prompt)
                + priced(parts.output, self.output)
                + priced(parts.cached, self.cached)
                + priced(parts.cache_read, self.cache_read)
                + priced(parts.cache_creation, self.cache_creation),
        )
    }

    /// What the cached input would have cost as plain input, minus what it cost.
    pub(super) fn saved(&self, parts: &Parts) -> Usd {
        let saved = |tokens: i64, price: i128| i128::from(tokens).saturating_mul(self.prompt - price);
        Usd::from_femto(saved(parts.cached, self.cached) + saved(parts.cache_read, self.cache_read))
    }
}

#[derive(Debug, Default)]
struct Price {
    base: Rates,
    /// By the input tokens above which they hold, ascending.
    contexts: Vec<(i64, Rates)>,
    /// By both names of the tier, in lower case.
    services: Vec<([String; 2], Rates)>,
}

/// The relay's price table.
#[derive(Debug, Default)]
pub(super) struct Prices {
    identity: Option<String>,
    /// Changes when some price does.
    tariff: String,
    plus: bool,
    by_model: HashMap<String, Price>,
}

impl Prices {
    /// Reads the table anew when it may have changed.
    pub(super) async fn renew(&mut self, snapshot: &mut Snapshot, schema: &Schema) -> Result<(), ReadError> {
        let what = "looking at model prices";
        let row = snapshot.fetch_one(what, sqlx::query(schema.fit(include_str!("tariff.sql")))).await?;
        let identity: String = row.try_get("mark").map_err(|error| snapshot.error(what, &error))?;
        let plus = schema.level == Level::Plus;
        if self.identity.as_ref() == Some(&identity) && self.plus == plus {
            return Ok(());
        }
        let mut by_model: HashMap<String, Price> = HashMap::new();
        let what = "reading model prices";
        let wrong = |error: &sqlx::Error| tracing::warn!(%error, "left out a price that could not be understood");
        for row in snapshot.fetch(what, sqlx::query(schema.fit(include_str!("prices.sql")))).await? {
            match (name(&row, "model"), Rates::of(&row)) {
                (Ok(model), Ok(base)) => by_model.entry(model).or_default().base = base,
                (Err(error), _) | (_, Err(error)) => wrong(&error),
            }
        }
        if schema.has_table("model_price_context_tiers") {
            for row in snapshot.fetch(what, sqlx::query(include_str!("context_tiers.sql"))).await? {
                match (name(&row, "model"), row.try_get("threshold"), Rates::of_tier(&row)) {
                    (Ok(model), Ok(threshold), Ok(rates)) => {
                        by_model.entry(model).and_modify(|price| price.contexts.push((threshold, rates)));
                    }
                    (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => wrong(&error),
                }
            }
        }
        if schema.has_table("model_price_service_tiers") {
            for row in snapshot.fetch(what, sqlx::query(include_str!("service_tiers.sql"))).await? {
                match (name(&row, "model"), name(&row, "mode"), name(&row, "service_tier"), Rates::of_tier(&row)) {
                    (Ok(model), Ok(mode), Ok(tier), Ok(rates)) => {
                        let names = [mode, tier].map(|name| name.trim().to_lowercase());
                        by_model.entry(model).and_modify(|price| price.services.push((names, rates)));
                    }
                    (Err(error), ..) | (_, Err(error), ..) | (_, _, Err(error), _) | (.., Err(error)) => wrong(&error),
                }
            }
        }
        *self = Self { identity: Some(identity), tariff: tariff(plus, &by_model), plus, by_model };
        Ok(())
    }

    pub(super) fn tariff(&self) -> &str {
        &self.tariff
    }

    /// The smallest size of input above which some request may cost more than its tokens at the base price.
    pub(super) fn smallest_step(&self) -> i64 {
        let steps = self.by_model.values().flat_map(|price| price.contexts.iter().map(|(threshold, _)| *threshold));
        steps.fold(LONG_CONTEXT, i64::min)
    }

    /// What a token of a request costs; `None` when no price is known for its model.
    pub(super) fn per_token(&self, models: Models<'_>, service_tier: &str, total_input: i64) -> Option<PerToken> {
        if !self.plus {
            return self
                .by_model
                .get(models.model)
                .map(|price| Rates { cache_read: None, ..price.base }.times(1.0, 1.0));
        }
        let asked = models.asked();
        let analytics = without_effort(asked);
        let billing = if models.resolved.is_empty() { analytics } else { models.resolved };
        let slug = slug(billing);
        let known = [billing, analytics, asked].into_iter().find_map(|model| self.by_model.get(model));
        let official;
        let price = match known {
            Some(price) => price,
            None => {
                let base = [billing, analytics, asked].into_iter().find_map(official_rates)?;
                official = Price { base, ..Price::default() };
                &official
            }
        };
        let base = with_official(billing, price.base);
        // The whole request is at the rates of the highest step that it is above, whatever its service tier.
        if let Some((_, rates)) = price.contexts.iter().rev().find(|(threshold, _)| total_input > *threshold) {
            return Some(rates.or(base).times(1.0, 1.0));
        }
        let tier = service_tier.trim().to_lowercase();
        let explicit = price.services.iter().find(|(names, _)| !tier.is_empty() && names.contains(&tier));
        let long = price.contexts.is_empty() && has_long_context(&slug) && total_input > LONG_CONTEXT;
        let (input, output) = if long { (2.0, 1.5) } else { (1.0, 1.0) };
        if long && matches!(tier.as_str(), "priority" | "fast") {
            return Some(base.times(input, output));
        }
        if let Some((_, rates)) = explicit {
            return Some(with_official(billing, rates.or(price.base)).times(input, output));
        }
        let factor = tier_factor(&slug, &tier);
        Some(base.times(input * factor, output * factor))
    }
}

fn name(row: &SqliteRow, column: &str) -> Result<String, sqlx::Error> {
    row.try_get::<&[u8], _>(column).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn tariff(plus: bool, by_model: &HashMap<String, Price>) -> String {
    let mut models: Vec<_> = by_model.iter().collect();
    models.sort_unstable_by_key(|(model, _)| *model);
    let digest = Sha256::digest(format!("{plus} {models:?}"));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn slug(model: &str) -> String {
    let model = model.trim().to_lowercase();
    model.rsplit_once('/').map_or(model.as_str(), |(_, name)| name).to_owned()
}

fn is_family(slug: &str, family: &str) -> bool {
    slug.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn has_long_context(slug: &str) -> bool {
    let dated = |family: &str| slug.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with("-20"));
    is_family(slug, "gpt-5.6") || dated("gpt-5.5") || dated("gpt-5.4") || dated("gpt-5.4-pro")
}

fn tier_factor(slug: &str, tier: &str) -> f64 {
    match tier {
        "flex" | "batch" => 0.5,
        "priority" | "fast" if is_family(slug, "gpt-5.5") => 2.5,
        "priority" | "fast" if ["gpt-5.6", "gpt-5.4", "gpt-5.3-codex"].iter().any(|family| is_family(slug, family)) => {
            2.0
        }
        _ => 1.0,
    }
}

/// Prices that Plus knows without a table.
fn official_rates(model: &str) -> Option<Rates> {
    let slug = slug(model);
    let (prompt, completion) = if is_family(&slug, "gpt-5.6-sol") {
        (5.0, 30.0)
    } else if is_family(&slug, "gpt-5.6-terra") {
        (2.5, 15.0)
    } else if is_family(&slug, "gpt-5.6-luna") {
        (1.0, 6.0)
    } else {
        return None;
    };
    Some(Rates {
        prompt: Some(prompt),
        completion: Some(completion),
        cache: Some(prompt * 0.1),
        cache_read: Some(prompt * 0.1),
        cache_creation: Some(prompt * 1.25),
    })
}

/// What the table leaves open of a model that Plus knows the prices of.
fn with_official(model: &str, rates: Rates) -> Rates {
    let Some(official) = official_rates(model) else { return rates };
    let prompt = rates.prompt.or(official.prompt);
    Rates {
        prompt,
        completion: rates.completion.or(official.completion),
        cache: rates.cache,
        cache_read: rates.cache_read.or(prompt.map(|prompt| prompt * 0.1)),
        cache_creation: rates.cache_creation.or(prompt.map(|prompt| prompt * 1.25)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices() -> Prices {
        let base = |prompt, completion, cache| Rates {
            prompt: Some(prompt),
            completion: Some(completion),
            cache: Some(cache),
            ..Rates::default()
        };
        let stepped = Price {
            base: base(3.0, 15.0, 0.3),
            contexts: vec![(200_000, Rates { prompt: Some(6.0), completion: Some(22.5), ..Rates::default() })],
            ..Price::default()
        };
        let tiered = Price {
            base: base(1.0, 8.0, 0.1),
            services: vec![(["fast".into(), "priority".into()], Rates { prompt: Some(5.0), ..Rates::default() })],
            ..Price::default()
        };
        let plain = |price| Price { base: price, ..Price::default() };
        let by_model = HashMap::from([
            ("claude".to_owned(), stepped),
            ("tiered".to_owned(), tiered),
            ("gpt-5.4".to_owned(), plain(base(2.0, 10.0, 0.2))),
            ("openai/gpt-5.5".to_owned(), plain(base(2.0, 10.0, 0.2))),
            ("bare".to_owned(), plain(base(4.0, 0.0, 0.0))),
        ]);
        Prices { plus: true, by_model, ..Prices::default() }
    }

    fn cost(prices: &Prices, model: &str, tier: &str, input: i64) -> Option<f64> {
        let models = Models { model, requested: "", resolved: "" };
        let parts = Parts { prompt: 1_000_000, output: 1_000_000, cached: 0, cache_read: 1_000_000, cache_creation: 0 };
        prices.per_token(models, tier, input).map(|price| price.cost(&parts).to_f64())
    }

    #[test]
    fn the_rules_of_plus_price_a_request() {
        let prices = prices();
        for (model, tier, input, dollars) in [
            ("claude", "", 200_000, Some(18.3)),
            ("claude", "priority", 200_001, Some(28.8)),
            ("claude(high)", "", 0, Some(18.3)),
            ("claude(31999)", "", 0, Some(18.3)),
            ("claude(odd)", "", 0, None),
            ("bare", "", 0, Some(4.4)),
            ("tiered", " Fast ", 0, Some(13.1)),
            ("tiered", "flex", 0, Some(4.55)),
            ("gpt-5.4", "", 272_000, Some(12.2)),
            ("gpt-5.4", "", 272_001, Some(19.4)),
            ("gpt-5.4", "priority", 272_000, Some(24.4)),
            ("gpt-5.4", "priority", 272_001, Some(19.4)),
            ("gpt-5.4", "batch", 272_001, Some(9.7)),
            ("openai/gpt-5.5", "fast", 0, Some(30.5)),
            ("gpt-5.6-luna", "", 0, Some(7.1)),
            ("unknown", "", 0, None),
        ] {
            let ours = cost(&prices, model, tier, input);
            assert!(
                ours.zip(dollars).map_or(ours == dollars, |(ours, dollars)| (ours - dollars).abs() < 1e-9),
                "{model} {tier:?} {input}: {ours:?}, not {dollars:?}"
            );
        }
    }

    #[test]
    fn before_plus_a_price_has_no_steps_and_no_tiers() {
        let prices = Prices { plus: false, ..prices() };
        assert_eq!(cost(&prices, "gpt-5.4", "priority", 300_000), Some(12.2));
        assert_eq!(cost(&prices, "claude(high)", "", 0), None);
    }
}
