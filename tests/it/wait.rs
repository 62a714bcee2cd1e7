//! Waiting for what is soon so.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// For a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again until it is so.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    found(what, async || holds().await.then_some(()).ok_or("not yet")).await;
}

/// Looks again until it is there; of a wait in vain it tells what was there instead.
pub async fn found<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(it) => return it,
            Err(instead) => assert!(began.elapsed() < PATIENCE, "waited in vain: {what}: {instead:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same without a runtime.
pub fn seen(what: &str, instead: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}\n{}", instead());
        std::thread::sleep(PAUSE);
    }
}
