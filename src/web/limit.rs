//! `rate_limit`: a token bucket over all requests.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::yaml::{At, Problems, Section};

/// One request per interval on average, and `burst` at once.
pub(crate) struct Limit {
    interval: Duration,
    burst: f64,
    /// The tokens at that moment.
    level: Mutex<(f64, Instant)>,
}

impl Limit {
    fn new(interval: Duration, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { interval, burst, level: Mutex::new((burst, Instant::now())) }
    }

    /// The time to wait when there is no place now.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let gained = now.duration_since(level.1).as_secs_f64() / self.interval.as_secs_f64();
        let tokens = (level.0 + gained).min(self.burst);
        let granted = tokens >= 1.0;
        *level = (if granted { tokens - 1.0 } else { tokens }, now);
        if granted { Ok(()) } else { Err(self.interval.mul_f64(1.0 - tokens)) }
    }
}

/// None without the section, with the interval 0, and when it has problems.
pub(crate) fn read(mut section: Section, problems: &mut Problems) -> Option<Limit> {
    let interval = section.text("interval", problems);
    let burst = section.text("burst", problems);
    section.finish(problems);
    let At { line, value } = interval?;
    let Some(interval) = duration(&value) else {
        problems.add(line, "rate_limit.interval must be a duration of up to an hour such as 100ms, 1s or 1m30s, or 0");
        return None;
    };
    if interval.is_zero() {
        return None;
    }
    let line = burst.as_ref().map_or(line, |burst| burst.line);
    match burst.and_then(|burst| burst.value.parse().ok()) {
        Some(burst @ 1..) => Some(Limit::new(interval, burst)),
        _ => {
            problems.add(line, "rate_limit.burst must be a whole number from 1: with less, every request is refused");
            None
        }
    }
}

/// Go's notation: numbers with units, largest first by habit, e.g. `1m30s` or `1.5s`.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let next = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(next);
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    (!text.is_empty() && seconds <= 3600.0).then(|| Duration::from_secs_f64(seconds))
}
