//! What the user wrote, checked as a whole. The rest of the program takes only a [`Plan`].
//!
//! File and environment become layers of values that know their place; layered by `config`, they are walked once
//! against [`catalogue::SETTINGS`], which collects every problem instead of stopping at the first.

pub mod catalogue;
mod check;
mod environment;
mod file;
mod layer;
mod problem;
mod secret;
pub mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::probe;
use crate::relay::Product;
pub use environment::variable;
pub use problem::{Problem, Problems};

/// A checked configuration and what its writer may want to know.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub plan: Plan,
    pub warnings: Vec<String>,
}

/// Reads the file, if any, and the environment. Where neither configures a relay, the relay's own variables do:
/// `DATABASE_URL` or `DSN`, `REDIS_URL`, `TZ`.
///
/// # Errors
/// Every problem at once; none shows a value.
pub fn load(file: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Loaded, Problems> {
    let mut warnings = Vec::new();
    let (overrides, mut problems) = environment::overrides(env);
    let ground = match file {
        Some(path) => file::read(path).map(|mut layer| {
            problems.extend(file::unknown_tables(&mut layer));
            layer
        }),
        None if environment::configures_a_relay(env) => Ok(layer::Layer::default()),
        None => environment::relay_of_variables(env, &mut warnings).map_err(|problem| vec![problem]),
    };
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let plan = match ground {
        Ok(ground) => {
            let (layer, context) = (ground.under(overrides), check::Context { env, folder });
            let plan = check::plan(&layer, &context, &mut problems);
            Plan { store: store::plan(&layer, &context, &mut problems), ..plan }
        }
        Err(unreadable) => {
            problems.extend(unreadable);
            Plan { relays: BTreeMap::new(), store: None }
        }
    };
    if problems.is_empty() {
        Ok(Loaded { plan, warnings })
    } else {
        // Stable: the parser's problems with one file stay in the order of its lines.
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Err(Problems(problems))
    }
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Plan {
    pub relays: BTreeMap<String, RelayPlan>,
    /// Without one, every start reads the whole ledger.
    pub store: Option<StorePlan>,
}

/// Where the exporter keeps what it has read.
#[derive(Clone, Debug)]
pub struct StorePlan {
    /// `sqlite:<path>` for a file of this exporter's own, `postgres://...` for a database that replicas share.
    pub url: SecretString,
    /// Pause between two saves.
    pub save_interval: Duration,
}

impl StorePlan {
    /// The default of [`Self::save_interval`].
    pub const SAVE_INTERVAL: Duration = Duration::from_secs(10);

    pub fn new(url: impl Into<SecretString>) -> Self {
        Self { url: url.into(), save_interval: Self::SAVE_INTERVAL }
    }
}

/// One relay, checked.
#[derive(Clone, Debug)]
pub struct RelayPlan {
    pub name: String,
    pub product: &'static Product,
    /// Empty where [`Product::database`] is [`Need::Nothing`](crate::relay::Need).
    pub database_url: SecretString,
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
    pub audit_interval: Duration,
    /// How much of each minute reading older history may take, at most.
    pub history_budget: Duration,
    pub boards: Boards,
    pub series: SeriesBudget,
    pub health: Health,
    pub own: OwnSettings,
}

impl RelayPlan {
    /// A relay with the defaults of its product, and without addresses.
    pub fn new(name: impl Into<String>, product: &'static Product) -> Self {
        check::defaults(name.into(), product)
    }
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnSettings(BTreeMap<&'static str, OwnValue>);

/// The value of such a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnValue {
    Duration(Duration),
    Text(String),
}

impl OwnSettings {
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

    /// # Panics
    /// When the plan's product has no such setting that is a text.
    pub fn text(&self, path: &str) -> &str {
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
    pub interval: Duration,
    pub timeout: Duration,
}

impl Health {
    pub fn target(&self) -> Option<probe::Target> {
        let url = self.url.clone()?;
        Some(probe::Target { url, ca_file: self.ca_file.clone(), timeout: self.timeout })
    }
}

/// Sizes of the leaderboards and how they name people and things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boards {
    pub top_users: usize,
    pub top_keys: usize,
    pub top_providers: usize,
    pub top_models: usize,
    pub names: NameMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameMode {
    /// The relay's names.
    Name,
    /// A stable pseudonym, for wall screens.
    Alias,
    /// The id.
    Id,
}

/// How many values each dimension that clients can grow may have; further ones count as `other`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesBudget {
    pub max_models: usize,
    pub max_users: usize,
    pub max_keys: usize,
    /// Combinations of provider and model with histograms.
    pub max_histograms: usize,
    /// Models that are always admitted.
    pub pinned_models: Vec<String>,
    /// A counter without traffic for so long is not exposed until traffic returns.
    pub idle_after: Duration,
}

impl Default for Boards {
    fn default() -> Self {
        Self { top_users: 20, top_keys: 20, top_providers: 20, top_models: 20, names: NameMode::Name }
    }
}

impl Default for SeriesBudget {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            max_models: 200,
            max_users: 1000,
            max_keys: 1000,
            max_histograms: 300,
            pinned_models: Vec::new(),
            idle_after: Duration::from_secs(35 * DAY),
        }
    }
}
