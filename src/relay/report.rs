//! What a look at a relay has found, for people.

use std::fmt;

/// How bad a finding is, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but somebody may want to know.
    Note,
    /// A number is missing or wrong, or the relay suffers.
    Problem,
}

/// One thing that was looked at. The text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: a part, a metric, a setting.
    pub subject: &'static str,
    /// What was found, and what to do about it.
    pub text: String,
}

/// All findings on one relay, in the order of looking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of looking.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn ok(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Level::Ok, subject, text.into());
    }

    pub(crate) fn note(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Level::Note, subject, text.into());
    }

    pub(crate) fn problem(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Level::Problem, subject, text.into());
    }

    fn add(&mut self, level: Level, subject: &'static str, text: String) {
        self.findings.push(Finding { level, subject, text });
    }

    /// The worst level; `Ok` when there is nothing.
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { level, subject, text } in &self.findings {
            let level = match level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Problem => "PROBLEM",
            };
            writeln!(f, "{level:8}{subject:12}{text}")?;
        }
        Ok(())
    }
}
