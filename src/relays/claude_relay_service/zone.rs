//! Whether the relay's days begin where the configuration says: its newest key names tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Timelike, Utc};

use super::clock::Offset;
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::ReadError;

/// Hours from UTC that are looked for.
const HOURS: std::ops::RangeInclusive<i64> = -12..=14;
/// How long the set of keys by hour lives after each request (`src/models/redis.js`, v1.1.263 to v1.1.314).
const LIVES: i64 = 7 * 86_400;
/// A set that was renewed so many seconds ago is that of the present hour, once this has lasted as long.
const FRESH: i64 = 120;
/// Pause between two looks, in seconds.
const EVERY: i64 = 60;
/// The two are the same, as far as the relay tells.
const AGREED: i64 = i64::MAX;

/// The offset of the configuration, held against the relay's; shared by the parts of one relay.
#[derive(Clone)]
pub(super) struct Zone {
    configured: Offset,
    /// Hours of the relay's own where they are others, else [`AGREED`].
    told: Arc<AtomicI64>,
    /// Second of the last look.
    looked: Arc<AtomicI64>,
}

impl Zone {
    pub(super) fn new(configured: Offset) -> Self {
        let (told, looked) = (Arc::new(AtomicI64::new(AGREED)), Arc::new(AtomicI64::new(0)));
        Self { configured, told, looked }
    }

    /// Knows what `before` was told, where that was held against the same offset; tells whether it was.
    pub(super) fn take_over(&self, before: &Self) -> bool {
        let is_same = self.configured == before.configured;
        if is_same {
            self.told.store(before.told.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        is_same
    }

    /// Where the relay's days begin.
    pub(super) fn offset(&self) -> Offset {
        self.relays().unwrap_or(self.configured)
    }

    /// The relay's own offset where it is not the configured one: then no number of a day can be relied on.
    pub(super) fn relays(&self) -> Option<Offset> {
        Some(self.told.load(Ordering::Relaxed)).filter(|hours| *hours != AGREED).map(Offset::hours)
    }

    /// Looks which hour the relay has written last, where it has just written; once a minute.
    pub(super) async fn look(&self, redis: &mut Redis, now: DateTime<Utc>) -> Result<(), ReadError> {
        // A set of the hour before may be as fresh.
        let is_ambiguous = i64::from(now.minute()) * 60 <= FRESH;
        if is_ambiguous || now.timestamp() - self.looked.load(Ordering::Relaxed) < EVERY {
            return Ok(());
        }
        self.looked.store(now.timestamp(), Ordering::Relaxed);
        let set = |hours: i64| {
            let local = now.naive_utc() + TimeDelta::hours(hours);
            KeyCommand::new("TTL", format!("usage:hourly:index:{}", local.format("%Y-%m-%d:%H")))
        };
        let asks: Vec<KeyCommand> = HOURS.map(set).collect();
        let lives = redis.each::<i64>("looking where the relay's days begin", &asks).await?;
        let fresh = HOURS.zip(lives).filter(|(_, left)| left.is_some_and(|left| left >= LIVES - FRESH));
        let Some((hours, _)) = fresh.max_by_key(|(_, left)| *left) else { return Ok(()) };
        let told = if Offset::hours(hours) == self.configured { AGREED } else { hours };
        let before = self.told.swap(told, Ordering::Relaxed);
        if told != before {
            match self.relays() {
                Some(relays) => tracing::warn!("{}", wrong(self.configured, relays)),
                None => tracing::info!(offset = %self.configured, "`timezone_offset` is the relay's"),
            }
        }
        Ok(())
    }
}

/// What to do about it.
pub(super) fn wrong(configured: Offset, relays: Offset) -> String {
    format!(
        "the relay's days begin at midnight of {relays}, not of {configured} as `timezone_offset` says: numbers of days and weeks are left out; set `timezone_offset` to its TIMEZONE_OFFSET"
    )
}
