//! Where the relay's days begin.

use chrono_tz::Tz;

use super::schema::Schema;
use crate::connect::postgres::Snapshot;
use crate::model::ReadError;
use crate::relay::plan::RelayPlan;
use sqlx::Row;

/// `timezone` of the configuration, what the relay tells since 0.1.177, or `timezone_fallback`.
#[derive(Clone, Copy)]
pub(super) struct Zones {
    configured: Option<Tz>,
    fallback: Tz,
}

/// What a zone was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    Configuration,
    Relay,
    /// The relay does not tell.
    Nothing,
    /// The relay tells a name that is not known here.
    Unknown(String),
}

impl Zones {
    pub(super) fn of(plan: &RelayPlan) -> Self {
        Self { configured: plan.timezone, fallback: plan.timezone_fallback }
    }

    pub(super) async fn choose(self, snapshot: &mut Snapshot, schema: &Schema) -> Result<(Tz, From), ReadError> {
        if let Some(zone) = self.configured {
            return Ok((zone, From::Configuration));
        }
        let what = "reading the relay's time zone";
        let rows = match schema.has("usage_group_rollup_state", "timezone_name") {
            true => snapshot.fetch(what, sqlx::query(include_str!("sql/zone.sql"))).await?,
            false => Vec::new(),
        };
        let Some(row) = rows.first() else { return Ok((self.fallback, From::Nothing)) };
        let name: String = row.try_get("timezone_name").map_err(|error| snapshot.error(what, &error))?;
        Ok(match name.parse() {
            Ok(zone) => (zone, From::Relay),
            Err(_) => (self.fallback, From::Unknown(name)),
        })
    }
}
