//! What the rest of the program knows of a relay product: one value in the product's folder.

use std::fmt;

use futures_util::future::{BoxFuture, LocalBoxFuture};

use super::{OpenError, Relay, Store, Unsupported};
use crate::demo::{DemoOptions, Environment};
use crate::relay::plan::RelayPlan;
use crate::relay::report::Report;
use crate::relay::setting::Setting;

/// A relay product. All of it stands in the product's folder; [`PRODUCTS`](crate::relays::PRODUCTS) lists them.
pub struct Product {
    /// Its `kind` in the configuration and on the page.
    pub label: &'static str,
    /// Where it keeps its usage: the stores that `database_url` may name.
    pub database: Need,
    /// Whether it has a Redis, named by `redis_url`.
    pub redis: Need,
    /// The path of its own health check, on the port that clients use; open to everybody.
    pub health_path: &'static str,
    /// The settings that it understands beside those of every relay.
    pub settings: &'static [Setting],
    /// Its own variables, where they may stand for a configuration. One product at most has them.
    pub variables: Option<Variables>,
    /// What it does not support.
    pub unsupported: &'static [Unsupported],
    /// The name of the ledger that its settings lead to, where that is another than the usual one: what is kept of the one
    /// is of no use for the other.
    pub other_ledger: fn(&RelayPlan) -> Option<&'static str>,
    /// Opens the parts of a relay; connects to nothing.
    pub open: fn(&RelayPlan) -> Result<Relay, OpenError>,
    /// Looks at the relay's stores, for people; changes nothing.
    pub check: for<'a> fn(&'a RelayPlan) -> BoxFuture<'a, Result<Report, OpenError>>,
    /// Sets up a private store with a history and live traffic. Fails with a
    /// [`ServerError`](crate::servers::ServerError) that is missing where this machine has not what it needs.
    pub demo: fn(DemoOptions) -> LocalBoxFuture<'static, anyhow::Result<Environment>>,
}

/// The names of the environment variables that the relay itself is configured with.
pub struct Variables {
    /// The relay's name, for people.
    pub name: &'static str,
    /// The database; where several are set they must agree.
    pub database: [&'static str; 2],
    /// The Redis, where the variable is set.
    pub redis: &'static str,
    /// The time zone; one that is none means UTC.
    pub zone: &'static str,
}

impl Product {
    /// Whether it understands a setting that not every relay has.
    pub fn understands(&self, path: &str) -> bool {
        self.settings.iter().any(|setting| setting.path == path)
    }
}

impl PartialEq for Product {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label
    }
}

impl Eq for Product {}

impl fmt::Debug for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label)
    }
}

/// Whether an address is part of a relay's settings, and the stores that it may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must be given, as an address of one of these stores.
    Required(&'static [Store]),
    /// It may be left out; what it tells is absent then.
    Optional(&'static [Store]),
    /// The product has no such store.
    Nothing,
}

impl Need {
    pub(crate) const fn stores(self) -> &'static [Store] {
        match self {
            Self::Required(stores) | Self::Optional(stores) => stores,
            Self::Nothing => &[],
        }
    }
}
