//! Names, limits and settings.

use std::sync::Arc;

use super::{EntityId, Scope, Usd};
use chrono::{DateTime, Utc};

/// Names, limits and settings. Deleted entities are kept, marked: rows still refer to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    /// Empty where the relay knows no users.
    pub users: Vec<User>,
    /// What clients log in with; where the relay has a pool of upstream keys, those.
    pub keys: Vec<Key>,
    /// Who shares keys and budgets; empty where the relay knows none.
    pub teams: Vec<Team>,
    /// Who has several teams; empty where the relay knows none.
    pub organizations: Vec<Organization>,
    /// Upstream accounts or channels.
    pub providers: Vec<Provider>,
    /// Spending limits; what is unlimited has none.
    pub limits: Vec<Limit>,
    /// How many people behind its callers had requests today; `None` where the relay does not tell.
    pub end_users_today: Option<u64>,
    /// Providers whose circuit breaker is off, unless the live state has another setting of it.
    pub without_breaker: Vec<EntityId>,
    /// Keys and the tags that the relay's people have given them.
    pub key_tags: Vec<(EntityId, String)>,
    /// ISO code of the currency that the relay's screens show; amounts stay in USD.
    pub currency: Option<String>,
    /// The relay's version or schema level, as far as its store tells.
    pub version: String,
    /// Where days begin: an IANA name, or an offset such as `UTC+8`.
    pub timezone: String,
    /// A row of the ledger is an attempt at an upstream, not a request: one that fails and the next one, which answers, are
    /// a failure and a success.
    pub counts_attempts: bool,
    /// The states of accounts are those of the last stored health check, whatever requests meet since.
    pub states_are_checks: bool,
    /// The relay does not track sessions now (a mode for high load), so that none can be counted.
    pub sessions_untracked: bool,
    /// How far the database that is read is behind the one that is written, in seconds; `None` where it is that one.
    pub replica_lag_seconds: Option<f64>,
}

/// Whether a name may be the address of a person. That of a model may hold an `@` as well, and is none of these.
pub(crate) fn is_address(name: &str) -> bool {
    name.contains('@')
}

impl Directory {
    /// Names are often the addresses of people: such a one is replaced by what it names, and such a tag is left out.
    #[must_use]
    pub(crate) fn without_addresses(mut self) -> Self {
        let users = self.users.iter_mut().map(|it| (Scope::User, &it.id, &mut it.name));
        let keys = self.keys.iter_mut().map(|it| (Scope::Key, &it.id, &mut it.name));
        let teams = self.teams.iter_mut().map(|it| (Scope::Team, &it.id, &mut it.name));
        let organizations = self.organizations.iter_mut().map(|it| (Scope::Organization, &it.id, &mut it.name));
        let providers = self.providers.iter_mut().map(|it| (Scope::Provider, &it.id, &mut it.name));
        for (scope, id, name) in users.chain(keys).chain(teams).chain(organizations).chain(providers) {
            if is_address(name) {
                *name = format!("{}-{id}", scope.label());
            }
        }
        self.key_tags.retain(|(_, tag)| !is_address(tag));
        self
    }
}

/// Somebody who owns keys.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// As usage rows have it.
    pub id: EntityId,
    /// For people; need not be unique.
    pub name: String,
    /// The relay's own word, e.g. `admin` or `user`; empty where it has none.
    pub role: String,
    /// `None` where the relay does not tell.
    pub enabled: Option<bool>,
    /// Gone from the relay's screens.
    pub deleted: bool,
    /// `None` when it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
    /// Live sessions at a time; `None` when unlimited.
    pub sessions: Option<u64>,
    /// Requests in a minute; `None` when unlimited.
    pub requests_per_minute: Option<u64>,
    /// What is left of what was paid in advance, below 0 where more was spent; `None` where the relay has no such thing.
    pub balance: Option<Usd>,
}

/// A key, told by its name and id; the secret is never read.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// As usage rows have it.
    pub id: EntityId,
    /// For people; need not be unique.
    pub name: String,
    /// `None` where the relay does not know whose key it is.
    pub user_id: Option<EntityId>,
    /// `None` where the relay does not tell.
    pub enabled: Option<bool>,
    /// Gone from the relay's screens.
    pub deleted: bool,
    /// `None` when it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
    /// `None` where the relay does not tell.
    pub created_at: Option<DateTime<Utc>>,
    /// Requests at a time; `None` when unlimited.
    pub slots: Option<u64>,
    /// Live sessions at a time; `None` when unlimited.
    pub sessions: Option<u64>,
    /// The key id under which this key's usage is counted: its own, unless two keys share one secret.
    pub counts_as: EntityId,
}

impl Key {
    /// Of which nothing else is told.
    pub fn of(id: EntityId, name: String) -> Self {
        Self {
            name,
            user_id: None,
            enabled: None,
            deleted: false,
            expires_at: None,
            created_at: None,
            slots: None,
            sessions: None,
            counts_as: id.clone(),
            id,
        }
    }
}

/// Users who share keys and a budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Team {
    /// As usage rows have it.
    pub id: EntityId,
    /// For people; need not be unique.
    pub name: String,
    /// `None` where it belongs to none.
    pub organization_id: Option<EntityId>,
    /// `None` where the relay does not tell.
    pub enabled: Option<bool>,
}

/// Several teams.
#[derive(Clone, Debug, PartialEq)]
pub struct Organization {
    /// As usage rows have it.
    pub id: EntityId,
    /// For people; need not be unique.
    pub name: String,
}

/// An upstream account or channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// As usage rows have it.
    pub id: EntityId,
    /// For people; need not be unique.
    pub name: String,
    /// The relay's own word: `claude`, `codex`, `gemini`, ...
    pub kind: String,
    /// The relay's own word for those that stand in for each other; empty where there is none.
    pub group: String,
    /// `None` where the relay does not tell.
    pub enabled: Option<bool>,
    /// Gone from the relay's screens.
    pub deleted: bool,
    /// `None` when unlimited.
    pub slots: Option<u64>,
}

/// The span that a spending limit is of; [`WindowRule`] says when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QuotaWindow {
    /// Five hours, rolling or from the first request.
    FiveHours,
    /// A day, rolling or from a time of day.
    Daily,
    /// A week.
    Weekly,
    /// A month of the calendar.
    Monthly,
    /// All time.
    Total,
    /// As long as something lasts that was bought, or until it is renewed.
    Subscription,
    /// Of another length, in the relay's own notation, such as `10d`.
    Other(Arc<str>),
}

impl QuotaWindow {
    /// From short to long.
    pub const ALL: [Self; 6] =
        [Self::FiveHours, Self::Daily, Self::Weekly, Self::Monthly, Self::Total, Self::Subscription];

    /// The value of the label `window`.
    pub fn label(&self) -> &str {
        match self {
            Self::FiveHours => "5h",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Total => "total",
            Self::Subscription => "subscription",
            Self::Other(length) => length,
        }
    }
}

/// When a quota's window begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowRule {
    /// The last so many hours.
    Rolling {
        /// Its length.
        hours: u32,
    },
    /// Since the latest local time of day `HH:MM`.
    DailyAt {
        /// 0 to 23.
        hour: u32,
        /// 0 to 59.
        minute: u32,
    },
    /// Since Monday 00:00.
    Weekly,
    /// Since the 1st, 00:00.
    Monthly,
    /// Since the beginning, or [`Limit::since`].
    Total,
    /// Known to the live state alone ([`Live::window_spend`](super::Live)).
    Live,
    /// The relay keeps beside the limit what is used of it.
    Told {
        /// In the present window; may be more than the limit.
        used: Usd,
        /// When the relay means to begin the window anew; in the past where it is late.
        resets_at: Option<DateTime<Utc>>,
    },
}

/// A spending limit of one entity in one window. An entity without a limit has none of these.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Whose limit it is.
    pub scope: Scope,
    /// The entity.
    pub id: EntityId,
    /// Which of its limits.
    pub window: QuotaWindow,
    /// Which part of the spending alone counts, such as `group:vip` or `platform:openai`; empty where all of it does.
    pub part: Arc<str>,
    /// When the window begins.
    pub rule: WindowRule,
    /// The most that may be spent in the window; `None` where there is only a [`Self::soft_limit`].
    pub limit: Option<Usd>,
    /// Spending from which on the relay alerts and lets requests through.
    pub soft_limit: Option<Usd>,
    /// Spending before this instant does not count (a manual reset).
    pub since: Option<DateTime<Utc>>,
}

/// Whose limit it is, and of which window.
pub type LimitKey = (Scope, EntityId, QuotaWindow);

impl Limit {
    /// On all that is spent in the window.
    pub fn of(scope: Scope, id: EntityId, window: QuotaWindow, rule: WindowRule, limit: Usd) -> Self {
        Self { scope, id, window, part: Arc::default(), rule, limit: Some(limit), soft_limit: None, since: None }
    }

    /// What the live state tells its spending by.
    pub(crate) fn key(&self) -> LimitKey {
        (self.scope, self.id.clone(), self.window.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_name_and_no_tag() {
        let organization = |name: &str| Organization { id: 7.into(), name: name.to_owned() };
        let tag = |tag: &str| (1.into(), tag.to_owned());
        let directory = Directory {
            organizations: vec![organization("ann@example.com"), organization("north")],
            key_tags: vec![tag("ann@example.com"), tag("ci")],
            ..Directory::default()
        };
        let told = directory.without_addresses();
        assert_eq!(told.organizations, [organization("organization-7"), organization("north")]);
        assert_eq!(told.key_tags, [tag("ci")]);
    }
}
