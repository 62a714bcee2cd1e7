//! What is read of one relay, and how: its settings, checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Product;
use crate::probe;
use crate::view::{Boards, SeriesBudget};

/// One relay, checked.
#[derive(Clone, Debug)]
pub struct RelayPlan {
    /// Its name in the configuration, and the value of the label `relay`.
    pub name: String,
    /// What it is an instance of.
    pub product: &'static Product,
    /// Empty where [`Product::database`] is [`Need::Nothing`](super::Need).
    pub database_url: SecretString,
    /// `None` where the product has none, or live state is not wanted.
    pub redis_url: Option<SecretString>,
    /// Pause between two refreshes of the ledger and of the live state.
    pub interval: Duration,
    /// Pause between two reads of names, limits and settings.
    pub directory_interval: Duration,
    /// Age at which numbers that could not be renewed disappear.
    pub stale_after: Duration,
    /// Limit of one read, at the client; the server's own limit is shorter.
    pub timeout: Duration,
    /// Overrides the relay's own setting.
    pub timezone: Option<Tz>,
    /// Where the relay's setting is empty: its `TZ`, which the exporter cannot see.
    pub timezone_fallback: Tz,
    /// Pause between two audits of the ledger's newest days.
    pub audit_interval: Duration,
    /// How much of each minute reading older history may take, at most.
    pub history_budget: Duration,
    /// Sizes of the leaderboards.
    pub boards: Boards,
    /// Limits of the number of series.
    pub series: SeriesBudget,
    /// How the relay itself is probed.
    pub health: Health,
    /// What only this product understands.
    pub own: OwnSettings,
}

impl PartialEq for RelayPlan {
    fn eq(&self, other: &Self) -> bool {
        // Taken apart, so that a new setting cannot be forgotten.
        let Self {
            name,
            product,
            database_url,
            redis_url,
            interval,
            directory_interval,
            stale_after,
            timeout,
            timezone,
            timezone_fallback,
            audit_interval,
            history_budget,
            boards,
            series,
            health,
            own,
        } = self;
        let exposed = |secret: &Option<SecretString>| secret.as_ref().map(|it| it.expose_secret().to_owned());
        *name == other.name
            && *product == other.product
            && database_url.expose_secret() == other.database_url.expose_secret()
            && exposed(redis_url) == exposed(&other.redis_url)
            && *interval == other.interval
            && *directory_interval == other.directory_interval
            && *stale_after == other.stale_after
            && *timeout == other.timeout
            && *timezone == other.timezone
            && *timezone_fallback == other.timezone_fallback
            && *audit_interval == other.audit_interval
            && *history_budget == other.history_budget
            && *boards == other.boards
            && *series == other.series
            && *health == other.health
            && *own == other.own
    }
}

/// The values of the settings that are a product's own, by path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnSettings(BTreeMap<&'static str, OwnValue>);

/// The value of such a setting.
#[derive(Clone, Debug)]
pub enum OwnValue {
    /// Written like `300s`.
    Duration(Duration),
    /// Written as it is.
    Text(String),
    /// An address with a password in it.
    Secret(SecretString),
}

impl PartialEq for OwnValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Duration(one), Self::Duration(other)) => one == other,
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::Secret(one), Self::Secret(other)) => one.expose_secret() == other.expose_secret(),
            _ => false,
        }
    }
}

impl OwnSettings {
    /// For the functions that [`ValueType`](super::setting::ValueType) holds.
    pub fn set(&mut self, path: &'static str, value: OwnValue) {
        self.0.insert(path, value);
    }

    /// # Panics
    /// When the plan's product has no such setting that is a duration.
    pub fn duration(&self, path: &str) -> Duration {
        match self.0.get(path) {
            Some(OwnValue::Duration(duration)) => *duration,
            other => panic!("{path} is no duration among the product's settings: {other:?}"),
        }
    }

    /// `None` where it was left out.
    pub(crate) fn secret(&self, path: &str) -> Option<&SecretString> {
        match self.0.get(path)? {
            OwnValue::Secret(secret) => Some(secret),
            other => panic!("{path} is no secret among the product's settings: {other:?}"),
        }
    }

    /// # Panics
    /// When the plan's product has no such setting that is a text.
    pub(crate) fn text(&self, path: &str) -> &str {
        match self.0.get(path) {
            Some(OwnValue::Text(text)) => text,
            other => panic!("{path} is no text among the product's settings: {other:?}"),
        }
    }
}

/// How the relay itself is probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `http` or `https`, without user, password and query; without one, nothing is probed.
    pub url: Option<Url>,
    /// PEM file with authorities in place of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Pause between two probes.
    pub interval: Duration,
    /// Limit of one probe, connecting included.
    pub timeout: Duration,
}

impl Health {
    pub(crate) fn target(&self) -> Option<probe::Target> {
        let url = self.url.clone()?;
        Some(probe::Target { url, ca_file: self.ca_file.clone(), timeout: self.timeout })
    }
}
