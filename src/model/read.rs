//! Reading, and why it fails.

use std::fmt;

/// The three parts of a relay; each fails alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The record of usage, rows or counters.
    Ledger,
    /// What only the running processes know, e.g. in Redis.
    Live,
    /// Names, limits and settings.
    Directory,
}

impl Source {
    /// The value of the label `source`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Live => "live",
            Self::Directory => "directory",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why a read failed: the closed list behind the `reason` label. The driver's error goes to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No answer in time.
    Timeout,
    /// The server cannot be reached, or has closed the connection.
    Connection,
    /// The role may not read what is needed, or may not log in.
    Permission,
    /// A table or column is not as any known release of the relay has it.
    Schema,
    /// A value cannot be understood.
    Data,
    /// A statement is not run because it would walk through a whole large table.
    Plan,
}

impl Reason {
    /// In the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Timeout, Self::Connection, Self::Permission, Self::Schema, Self::Data, Self::Plan];

    /// The value of the label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Permission => "permission",
            Self::Schema => "schema",
            Self::Data => "data",
            Self::Plan => "plan",
        }
    }
}

/// A read that failed: the reason for the metric, the text for the log. The text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", reason.label())]
pub struct ReadError {
    /// For the metric.
    pub reason: Reason,
    /// For people: what, where, what to do.
    pub text: String,
}

impl ReadError {
    /// Whether something that asks for less may succeed.
    pub(crate) fn is_of_effort(&self) -> bool {
        matches!(self.reason, Reason::Timeout | Reason::Plan)
    }

    /// The text must hold no secret.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// For people; for strangers the word alone, because the text names addresses.
    pub(crate) fn shown(&self, strangers: bool) -> String {
        if strangers { self.reason.label().to_owned() } else { self.to_string() }
    }
}
