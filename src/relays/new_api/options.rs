//! The relay's options: what a unit of its quota is worth, and what its screens show amounts in.

use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::schema::Schema;
use crate::connect::sql::Session;
use crate::model::{ReadError, Usd};

/// Of the relay, until it is changed; absent from the table until then.
const QUOTA_PER_UNIT: &str = "500000";
const FEMTO: i64 = 1_000_000_000_000_000;

/// What one of the relay's integers is worth: a whole number of 10^-15 dollars, so that a sum of costs is the cost of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate(i128);

impl Rate {
    /// `None` where it is no positive number: the relay's own screens show nothing either.
    fn of(quota_per_unit: &str) -> Option<Self> {
        let text = quota_per_unit.trim();
        let unit = Decimal::from_str(text).or_else(|_| Decimal::from_scientific(text)).ok()?;
        let femto = (unit > Decimal::ZERO).then(|| Decimal::from(FEMTO).checked_div(unit))??.round().to_i128()?;
        (femto > 0).then_some(Self(femto))
    }

    pub(super) fn cost(self, quota: i64) -> Usd {
        Usd::from_femto(i128::from(quota).saturating_mul(self.0))
    }

    /// Of a quota that the relay never had to round.
    pub(super) fn cost_of_share(self, quota: f64) -> Option<Usd> {
        Usd::from_f64(quota * self.0 as f64 / FEMTO as f64)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// As it stands in the table, for the tariff.
    pub quota_per_unit: String,
    /// `None` where costs cannot be told.
    pub rate: Option<Rate>,
    /// What its screens show amounts in; `None` where that is no currency with a code.
    pub currency: Option<String>,
    /// Whether the relay writes its ledger.
    pub logs_usage: bool,
}

impl Options {
    /// Nothing may be read of them.
    const UNKNOWN: Self = Self { quota_per_unit: String::new(), rate: None, currency: None, logs_usage: true };

    pub(super) async fn read(session: &mut Session, schema: &Schema) -> Result<Self, ReadError> {
        if schema.options().is_none() {
            return Ok(Self::UNKNOWN);
        }
        let text = schema.fit(include_str!("sql/options.sql"));
        let rows = session.fetch_good("reading the relay's options", &text, &[], |row| {
            let text = |column| row.text(column).map(|it| it.unwrap_or_default().into_owned());
            Ok((text("name")?, text("value")?))
        });
        Ok(Self::of(&rows.await?))
    }

    fn of(rows: &[(String, String)]) -> Self {
        let value = |name: &str| rows.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str());
        let quota_per_unit = value("QuotaPerUnit").unwrap_or(QUOTA_PER_UNIT);
        let display = match value("DisplayInCurrencyEnabled") {
            Some("false") => "TOKENS",
            _ => "USD",
        };
        let display = value("general_setting.quota_display_type").unwrap_or(display);
        Self {
            quota_per_unit: quota_per_unit.to_owned(),
            rate: Rate::of(quota_per_unit),
            currency: ["USD", "CNY"].contains(&display).then(|| display.to_owned()),
            logs_usage: value("LogConsumeEnabled") != Some("false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_of_quota_is_worth_what_the_option_says() {
        let cost = |unit, quota| Rate::of(unit).map(|rate| rate.cost(quota));
        assert_eq!(cost("500000", 1875), Some(Usd::from_femto(3_750_000_000_000)));
        assert_eq!(cost("1e6", -3), Some(Usd::from_femto(-3_000_000_000)));
        assert_eq!(cost("0.5", 1), Some(Usd::from_femto(2_000_000_000_000_000)));
        for none in ["0", "-1", "free", "", "NaN", "1e300"] {
            assert_eq!(Rate::of(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_sum_of_costs_is_the_cost_of_the_sum_whatever_the_unit() {
        let rate = Rate::of("7").unwrap();
        assert_eq!(rate.cost(3) + rate.cost(5), rate.cost(8));
    }
}
