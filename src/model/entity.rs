//! Users, keys, providers and models, as labels name them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An entity's id as the relay has it; the label shows it unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EntityId {
    /// Of a database's sequence.
    Number(i64),
    /// Such as a UUID, or a name where the relay has no ids.
    Text(Arc<str>),
}

impl EntityId {
    /// `None` for a text.
    pub const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }
}

impl From<i64> for EntityId {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for EntityId {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// What a leaderboard ranks, and what a quota is set on (all but `Model`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Who owns keys.
    User,
    /// What a request was authorized with.
    Key,
    /// Which upstream account or channel answered.
    Provider,
    /// Which model the relay bills.
    Model,
}

impl Scope {
    /// In the order of the page.
    pub const ALL: [Self; 4] = [Self::User, Self::Key, Self::Provider, Self::Model];

    /// The value of the label `scope`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Key => "key",
            Self::Provider => "provider",
            Self::Model => "model",
        }
    }
}

/// The span of a leaderboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Since the relay's midnight.
    Today,
    /// Rolling.
    Last24Hours,
    /// Since Monday.
    Week,
    /// Since the first.
    Month,
    /// Of a relay that ranks the last seven days itself.
    SevenDays,
    /// The same of thirty days.
    ThirtyDays,
    /// All that is known.
    All,
}

impl Period {
    /// From short to long.
    pub const ALL: [Self; 7] =
        [Self::Today, Self::Last24Hours, Self::Week, Self::Month, Self::SevenDays, Self::ThirtyDays, Self::All];

    /// The value of the label `period`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Today => "today",
            Self::Last24Hours => "last24h",
            Self::Week => "week",
            Self::Month => "month",
            Self::SevenDays => "7d",
            Self::ThirtyDays => "30d",
            Self::All => "all",
        }
    }
}
