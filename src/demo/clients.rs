//! The people at work now: who asks next, and when.

use std::time::Duration;

use anyhow::ensure;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rand::Rng;
use tokio::time::Instant;

use super::rhythm::Pace;
use super::traffic::{Request, Session, Traffic, Trouble};

/// How often a client whose provider is full looks for another.
const TRIES: usize = 20;

/// How live traffic comes.
#[derive(Clone, Debug)]
pub struct SimulatorOptions {
    /// How many requests come.
    pub pace: Pace,
    /// Of every choice that is made.
    pub seed: u64,
    /// The relay's time zone.
    pub zone: Tz,
    /// From one provider's trouble (errors, then an open circuit) to the next one's.
    pub trouble_period: Duration,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self {
            pace: Pace::Steady(1.0),
            seed: 1,
            zone: chrono_tz::Asia::Shanghai,
            trouble_period: Duration::from_secs(180),
        }
    }
}

impl SimulatorOptions {
    /// Requests per second now.
    pub(crate) fn per_second(&self) -> f64 {
        self.pace.per_second(Utc::now().with_timezone(&self.zone).naive_local())
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if let Pace::Steady(rate) = self.pace {
            ensure!((1e-3..=1e4).contains(&rate), "--rate is {rate}; give 0.001 to 10000 requests per second");
        }
        ensure!(self.trouble_period >= Duration::from_secs(1), "the period of troubles is shorter than a second");
        Ok(())
    }
}

/// The sessions that are going on.
pub(crate) struct Clients {
    traffic: Traffic,
    pub(crate) sessions: Vec<Session>,
    started: Instant,
}

impl Clients {
    pub(crate) fn new(options: &SimulatorOptions) -> Self {
        let now = Utc::now();
        let traffic = Traffic::new(options.seed, now);
        // A client asks about twice a minute.
        let count = (options.per_second() * 25.0).clamp(8.0, 400.0) as usize;
        let mut clients = Self { traffic, sessions: Vec::with_capacity(count), started: Instant::now() };
        while clients.sessions.len() < count {
            let session = clients.open(now);
            clients.sessions.push(session);
        }
        clients
    }

    /// A session for which its provider has a slot: of these, half go to sessions that have ended and are not yet forgotten.
    fn open(&mut self, now: DateTime<Utc>) -> Session {
        let mut session = self.traffic.session(now);
        for _ in 0..TRIES {
            let held = self.sessions.iter().filter(|it| it.provider.id == session.provider.id).count();
            if session.provider.limits.sessions.is_none_or(|slots| 2 * held < slots.unsigned_abs() as usize) {
                break;
            }
            session = self.traffic.session(now);
        }
        session
    }

    pub(crate) fn next(&mut self, trouble: Option<Trouble>) -> (Session, Request) {
        let now = Utc::now();
        let at = self.traffic.rng.random_range(0..self.sessions.len());
        if self.sessions[at].left == 0 {
            self.sessions[at] = self.open(now);
        }
        let request = self.traffic.request(&mut self.sessions[at], now, trouble);
        (self.sessions[at].clone(), request)
    }

    /// Time to the next request: a Poisson process with the hour's rate, a wave of ten minutes on top.
    pub(crate) fn pause(&mut self, options: &SimulatorOptions) -> Duration {
        let wave = (self.started.elapsed().as_secs_f64() * std::f64::consts::TAU / 600.0).sin();
        let rate = options.per_second() * (1.0 + 0.2 * wave);
        Duration::from_secs_f64(-self.traffic.unit().ln() / rate)
    }
}
