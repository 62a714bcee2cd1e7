//! What a look at a relay has found, for people.

use std::fmt;

use super::OpenError;
use super::plan::RelayPlan;
use crate::connect::postgres::{Database, Snapshot};
use crate::connect::redis::Redis;
use crate::model::ReadError;

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

    /// Connects to PostgreSQL and looks; whether it answers.
    pub(crate) async fn postgres(
        &mut self,
        database: &mut Database,
        look: impl AsyncFnOnce(&mut Snapshot, &mut Self) -> Result<(), ReadError>,
    ) -> bool {
        match database.snapshot().await {
            Err(error) => {
                self.problem("postgres", error.text);
                false
            }
            Ok(mut snapshot) => {
                self.ok("postgres", format!("connected to {} as {}", database.endpoint(), database.account()));
                if let Err(error) = look(&mut snapshot, self).await {
                    self.problem("postgres", error.text);
                }
                database.finish(snapshot).await;
                true
            }
        }
    }

    /// Connects to Redis, where there is one, and tells what a look at it says. `without` is what is missing without it.
    ///
    /// # Errors
    /// When the address cannot be used at all.
    pub(crate) async fn redis(
        &mut self,
        plan: &RelayPlan,
        without: &str,
        look: impl AsyncFnOnce(&mut Redis) -> Result<String, ReadError>,
    ) -> Result<(), OpenError> {
        let Some(url) = &plan.redis_url else {
            self.note("redis", format!("not configured: {without}"));
            return Ok(());
        };
        let mut redis = Redis::new(url, plan.timeout)?;
        match look(&mut redis).await {
            Ok(text) => self.ok("redis", format!("connected to {}; {text}", redis.endpoint())),
            Err(error) => self.problem("redis", error.text),
        }
        Ok(())
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
