//! What is wrong with a configuration. A problem never repeats what was written: it may be a password in a wrong place.

use std::fmt::{self, Write};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The setting, e.g. `relays.main.interval`; a file or variable where no setting is concerned.
    pub path: String,
    /// `file:line:column`, or the environment variable.
    pub place: Option<String>,
    /// What is wrong, without what was written.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Everything that is wrong with a configuration, by path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

/// What is wrong with one value, wherever it stands.
pub(crate) struct InvalidValue {
    pub what: String,
    pub hint: String,
}

impl InvalidValue {
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    pub(crate) fn at(self, path: impl Into<String>, place: Option<&str>) -> Problem {
        Problem { path: path.into(), place: place.map(str::to_owned), what: self.what, hint: Some(self.hint) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a problem:")?,
            many => write!(f, "the configuration has {many} problems:")?,
        }
        for problem in &self.0 {
            write!(f, "\n\n  {}", Plain(&problem.path))?;
            if let Some(place) = &problem.place {
                write!(f, "  ({})", Plain(place))?;
            }
            write!(f, "\n    {}", Plain(&problem.what))?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n    hint: {}", Plain(hint))?;
            }
        }
        Ok(())
    }
}

/// Text without control characters: names of settings and files come from outside and go to a terminal.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) })
    }
}
