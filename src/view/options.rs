//! What a view may show, and under which names.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::model::Scope;

/// Sizes of the leaderboards and how they name people and things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boards {
    /// Most users on a leaderboard; 0 for none.
    pub top_users: usize,
    /// Most keys on a leaderboard; 0 for none.
    pub top_keys: usize,
    /// Most teams, and most organizations, on a leaderboard; 0 for none.
    pub top_teams: usize,
    /// Most providers on a leaderboard; 0 for none.
    pub top_providers: usize,
    /// Most models on a leaderboard; 0 for none.
    pub top_models: usize,
    /// What stands in the label `name`.
    pub names: NameMode,
}

/// How people and things are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameMode {
    /// The relay's names.
    Name,
    /// A stable pseudonym, for wall screens.
    Alias,
    /// The id.
    Id,
}

impl NameMode {
    /// What an entity is called.
    pub(crate) fn shown(self, scope: Scope, id: &str, name: &str) -> String {
        match self {
            Self::Name => name.to_owned(),
            Self::Alias => alias(scope, id),
            Self::Id => id.to_owned(),
        }
    }
}

/// A pseudonym that stays the same for the same entity, on every replica. Models are not people: they keep their names.
fn alias(scope: Scope, id: &str) -> String {
    if scope == Scope::Model {
        return id.to_owned();
    }
    let digest = Sha256::digest(format!("{}/{id}", scope.label()));
    format!("{}-{:02x}{:02x}{:02x}", scope.label(), digest[0], digest[1], digest[2])
}

/// How many values each dimension that clients can grow may have; further ones count as `other`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesBudget {
    /// Most models with series of their own.
    pub max_models: usize,
    /// Most users with series of their own.
    pub max_users: usize,
    /// Most keys with series of their own.
    pub max_keys: usize,
    /// Most teams, and most organizations, with series of their own.
    pub max_teams: usize,
    /// Combinations of provider and model with histograms.
    pub max_histograms: usize,
    /// Models that are always admitted.
    pub pinned_models: Vec<String>,
    /// A counter without traffic for so long is not exposed until traffic returns.
    pub idle_after: Duration,
}

impl SeriesBudget {
    /// Most of a scope with series of their own.
    pub(crate) const fn most(&self, scope: Scope) -> usize {
        match scope {
            Scope::User => self.max_users,
            Scope::Key => self.max_keys,
            Scope::Team | Scope::Organization => self.max_teams,
            Scope::Model => self.max_models,
            Scope::Provider => usize::MAX,
        }
    }
}

impl Default for Boards {
    fn default() -> Self {
        Self { top_users: 20, top_keys: 20, top_teams: 20, top_providers: 20, top_models: 20, names: NameMode::Name }
    }
}

impl Default for SeriesBudget {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            max_models: 200,
            max_users: 1000,
            max_keys: 1000,
            max_teams: 1000,
            max_histograms: 300,
            pinned_models: Vec::new(),
            idle_after: Duration::from_secs(35 * DAY),
        }
    }
}
