//! The pause after a failure.

use std::time::Duration;

use rand::Rng;

const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// How long to wait after so many failures in a row, at least one, with jitter.
pub(crate) fn back_off(interval: Duration, failures: u32) -> Duration {
    let longest = LONGEST_BACK_OFF.max(interval);
    (interval * 2_u32.pow(failures.clamp(1, 6) - 1)).min(longest).mul_f64(rand::rng().random_range(0.8..1.2))
}
