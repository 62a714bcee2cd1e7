//! The configuration read again while everything goes on: who asks, and how it went.

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

/// How the last reading of a configuration went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reload {
    /// What was written last is in force.
    pub successful: bool,
    /// When what is in force was read.
    pub last_success: DateTime<Utc>,
}

impl Reload {
    pub(crate) fn now() -> Self {
        Self { successful: true, last_success: Utc::now() }
    }

    /// The version before stays in force.
    #[must_use]
    pub(crate) const fn failed(self) -> Self {
        Self { successful: false, ..self }
    }
}

/// What was wrong, in words that show no value of the configuration.
pub(crate) type Outcome = Result<(), String>;

/// Asks for the configuration to be read again.
#[derive(Clone)]
pub struct Reloader(mpsc::Sender<oneshot::Sender<Outcome>>);

/// What has been asked for; answered one after the other.
pub struct Requests(mpsc::Receiver<oneshot::Sender<Outcome>>);

/// The two ends: who asks, and who reads.
pub fn channel() -> (Reloader, Requests) {
    let (sender, receiver) = mpsc::channel(1);
    (Reloader(sender), Requests(receiver))
}

impl Reloader {
    /// Waits until the configuration is in force, or has been refused.
    ///
    /// # Errors
    /// What is wrong with it; then everything is as before.
    pub async fn reload(&self) -> Outcome {
        let stopping = |_| "the exporter is stopping".to_owned();
        let (answer, outcome) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| "the exporter is stopping".to_owned())?;
        outcome.await.map_err(stopping)?
    }
}

impl Requests {
    /// The next one; none is ever to come once all [`Reloader`]s are gone.
    pub(crate) async fn next(&mut self) -> oneshot::Sender<Outcome> {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}
