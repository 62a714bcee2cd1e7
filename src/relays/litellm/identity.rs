//! Numbers for what LiteLLM knows by text, and names without a person's address in them.

use sha2::{Digest, Sha256};

use crate::model::is_address;

/// What is numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By the hash of a key, which is all that the database has of it.
    Key,
    /// By LiteLLM's own id of a user.
    User,
    /// By LiteLLM's own id of a team.
    Team,
    /// By LiteLLM's own id of an organization.
    Organization,
    /// By the id of a model's deployment.
    Deployment,
    /// By the name of an upstream, where no deployment was chosen.
    Provider,
}

impl Kind {
    const fn label(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Team => "team",
            Self::Organization => "organization",
            Self::Deployment => "deployment",
            Self::Provider => "provider",
        }
    }

    fn digest(self, text: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.label()).chain_update([0]).chain_update(text).finalize().into()
    }

    /// Positive, and exact as a float; 0 for an empty text.
    pub fn number(self, text: &str) -> i64 {
        if text.is_empty() {
            return 0;
        }
        let digest = self.digest(text);
        let bytes = [0, 0, digest[0] >> 4, digest[1], digest[2], digest[3], digest[4], digest[5]];
        i64::from_be_bytes(bytes)
    }

    /// The first of `names` that is none of a person's addresses; else the kind and some digits of `id`.
    pub(super) fn name(self, names: &[Option<&str>], id: &str) -> String {
        let known = names.iter().copied().flatten().find(|name| !name.trim().is_empty() && !is_address(name));
        known.map_or_else(|| self.stand_in(id), str::to_owned)
    }

    fn stand_in(self, id: &str) -> String {
        let digest = self.digest(id);
        format!("{}-{:02x}{:02x}{:02x}{:02x}", self.label(), digest[0], digest[1], digest[2], digest[3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_no_address() {
        assert_eq!(Kind::User.name(&[Some("ann"), Some("x")], "u1"), "ann");
        assert_eq!(Kind::User.name(&[Some(" "), None, Some("team-bot")], "u1"), "team-bot");
        let hidden = Kind::User.name(&[Some("ann@example.com"), Some("ann@example.com")], "ann@example.com");
        assert!(hidden.starts_with("user-") && hidden.len() == 13, "{hidden}");
        assert_ne!(Kind::Key.number("a"), Kind::User.number("a"));
        assert_eq!(Kind::Key.number(""), 0);
    }
}
