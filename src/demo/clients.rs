//! The people at work now: who asks next, and when.

use std::time::Duration;

use anyhow::ensure;
use chrono::{Timelike, Utc};
use chrono_tz::Tz;
use rand::Rng;
use tokio::time::Instant;

use super::rhythm::HOURS;
use super::traffic::{Request, Session, Traffic, Trouble};

/// How live traffic comes.
#[derive(Clone, Debug)]
pub struct SimulatorOptions {
    /// Requests per second at the busiest hour.
    pub rate: f64,
    /// Of every choice that is made.
    pub seed: u64,
    /// The relay's time zone.
    pub zone: Tz,
    /// From one provider's trouble (errors, then an open circuit) to the next one's.
    pub trouble_period: Duration,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self { rate: 1.0, seed: 1, zone: chrono_tz::Asia::Shanghai, trouble_period: Duration::from_secs(180) }
    }
}

impl SimulatorOptions {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!((1e-3..=1e4).contains(&self.rate), "--rate is {}; give 0.001 to 10000 requests per second", self.rate);
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
        let mut traffic = Traffic::new(options.seed, now);
        // A client asks about twice a minute.
        let count = (options.rate * 25.0).clamp(8.0, 400.0) as usize;
        let sessions = (0..count).map(|_| traffic.session(now)).collect();
        Self { traffic, sessions, started: Instant::now() }
    }

    pub(crate) fn next(&mut self, trouble: Option<Trouble>) -> (Session, Request) {
        let now = Utc::now();
        let at = self.traffic.rng.random_range(0..self.sessions.len());
        if self.sessions[at].left == 0 {
            self.sessions[at] = self.traffic.session(now);
        }
        let request = self.traffic.request(&mut self.sessions[at], now, trouble);
        (self.sessions[at].clone(), request)
    }

    /// Time to the next request: a Poisson process with the hour's rate, a wave of ten minutes on top.
    pub(crate) fn pause(&mut self, options: &SimulatorOptions) -> Duration {
        let hour = Utc::now().with_timezone(&options.zone).hour() as usize;
        let wave = (self.started.elapsed().as_secs_f64() * std::f64::consts::TAU / 600.0).sin();
        let rate = options.rate * (0.55 + 0.4 * HOURS[hour]) * (1.0 + 0.2 * wave);
        Duration::from_secs_f64(-self.traffic.unit().ln() / rate)
    }
}
