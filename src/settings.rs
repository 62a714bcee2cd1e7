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
use crate::relays::claude_relay_service::Offset;
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
            problems.extend(file::strangers(&mut layer));
            layer
        }),
        None if environment::configures_a_relay(env) => Ok(layer::Layer::default()),
        None => environment::relay_of_variables(env, &mut warnings).map_err(|problem| vec![problem]),
    };
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let plan = match ground {
        Ok(ground) => {
            let (layer, around) = (ground.under(overrides), check::Around { env, folder });
            let plan = check::plan(&layer, &around, &mut problems);
            Plan { store: store::plan(&layer, &around, &mut problems), ..plan }
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

/// The relay products that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ClaudeCodeHub,
    ClaudeRelayService,
    CpaManager,
    GeminiBalance,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::ClaudeCodeHub, Self::ClaudeRelayService, Self::CpaManager, Self::GeminiBalance];

    pub const fn label(self) -> &'static str {
        match self {
            Self::ClaudeCodeHub => "claude-code-hub",
            Self::CpaManager => "cpa-manager",
            Self::GeminiBalance => "gemini-balance",
            Self::ClaudeRelayService => "claude-relay-service",
        }
    }

    /// The path of its own health check, on the port that clients use; open to everybody.
    ///
    /// claude-code-hub v0.9.2 `src/app/api/health/ready/route.ts` (since v0.7.1; 503 without its database),
    /// claude-relay-service v1.1.314 `src/app.js` (200 also without its Redis), gemini-balance 2.2.8
    /// `app/router/routes.py`. CPA-Manager watches CLIProxyAPI, which serves the requests: v7.2.140
    /// `internal/api/server_routes.go`.
    pub const fn health_path(self) -> &'static str {
        match self {
            Self::ClaudeCodeHub => "/api/health/ready",
            Self::CpaManager => "/healthz",
            Self::GeminiBalance | Self::ClaudeRelayService => "/health",
        }
    }

    /// Where a relay of this kind keeps its usage: the stores that `database_url` may name.
    pub const fn database(self) -> Need {
        match self {
            Self::ClaudeCodeHub => Need::Required(&[Store::Postgres]),
            Self::CpaManager => Need::Required(&[Store::Sqlite]),
            Self::GeminiBalance => Need::Required(&[Store::MySql, Store::Sqlite]),
            Self::ClaudeRelayService => Need::Nothing,
        }
    }

    /// Whether a relay of this kind has a Redis, named by `redis_url`.
    pub const fn redis(self) -> Need {
        match self {
            Self::ClaudeCodeHub => Need::Optional(&[Store::Redis]),
            Self::CpaManager | Self::GeminiBalance => Need::Nothing,
            Self::ClaudeRelayService => Need::Required(&[Store::Redis]),
        }
    }
}

/// Whether an address is part of a relay's settings, and the stores that it may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Required(&'static [Store]),
    Optional(&'static [Store]),
    /// A relay of this kind has no such store.
    Nothing,
}

impl Need {
    pub const fn stores(self) -> &'static [Store] {
        match self {
            Self::Required(stores) | Self::Optional(stores) => stores,
            Self::Nothing => &[],
        }
    }
}

/// The products that relays keep their data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    Postgres,
    MySql,
    Sqlite,
    Redis,
}

impl Store {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::MySql => "MySQL",
            Self::Sqlite => "SQLite",
            Self::Redis => "Redis",
        }
    }

    /// The schemes of its URLs, without `:`.
    pub const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["postgres", "postgresql"],
            Self::MySql => &["mysql", "mariadb"],
            Self::Sqlite => &["sqlite"],
            Self::Redis => &[
                "redis",
                "rediss",
                "valkey",
                "valkeys",
                "redis+unix",
                "redis+sentinel",
                "rediss+sentinel",
                "redis+cluster",
                "rediss+cluster",
            ],
        }
    }

    /// How its URLs are written.
    pub const fn example(self) -> &'static str {
        match self {
            Self::Postgres => "postgres://user:password@host:5432/database",
            Self::MySql => "mysql://user:password@host:3306/database",
            Self::Sqlite => "sqlite:///path/to/file.db",
            Self::Redis => "redis://user:password@host:6379/0, or rediss:// for TLS",
        }
    }
}

/// One relay, checked.
#[derive(Clone, Debug)]
pub struct RelayPlan {
    pub name: String,
    pub kind: Kind,
    /// Empty where [`Kind::database`] is [`Need::Nothing`].
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
    /// The relay's `SESSION_TTL`: how long after its last activity a session counts as live.
    pub session_ttl: Duration,
    /// Overrides the relay's own setting.
    pub timezone: Option<Tz>,
    /// Where the relay's setting is empty: its `TZ`, which the exporter cannot see.
    pub timezone_fallback: Tz,
    /// The `TIMEZONE_OFFSET` of claude-relay-service.
    pub timezone_offset: Offset,
    /// Whether the key space of claude-relay-service may be searched.
    pub scan: bool,
    pub audit_interval: Duration,
    /// How much of each minute reading older history may take, at most.
    pub history_budget: Duration,
    pub boards: Boards,
    pub series: SeriesBudget,
    pub health: Health,
}

impl PartialEq for RelayPlan {
    fn eq(&self, other: &Self) -> bool {
        // Taken apart, so that a new setting cannot be forgotten.
        let Self {
            name,
            kind,
            database_url,
            redis_url,
            interval,
            directory_interval,
            stale_after,
            timeout,
            session_ttl,
            timezone,
            timezone_fallback,
            timezone_offset,
            scan,
            audit_interval,
            history_budget,
            boards,
            series,
            health,
        } = self;
        let exposed = |secret: &Option<SecretString>| secret.as_ref().map(|it| it.expose_secret().to_owned());
        *name == other.name
            && *kind == other.kind
            && database_url.expose_secret() == other.database_url.expose_secret()
            && exposed(redis_url) == exposed(&other.redis_url)
            && *interval == other.interval
            && *directory_interval == other.directory_interval
            && *stale_after == other.stale_after
            && *timeout == other.timeout
            && *session_ttl == other.session_ttl
            && *timezone == other.timezone
            && *timezone_fallback == other.timezone_fallback
            && *timezone_offset == other.timezone_offset
            && *scan == other.scan
            && *audit_interval == other.audit_interval
            && *history_budget == other.history_budget
            && *boards == other.boards
            && *series == other.series
            && *health == other.health
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
