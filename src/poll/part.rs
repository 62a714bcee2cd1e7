//! What is known of one part of a relay: its newest data, and how reading it goes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};
use tokio::sync::SetOnce;

use crate::back_off::back_off;
use crate::model::{ReadError, Reason, Source};
use crate::view::{HistogramView, SourceStatus};

/// Upper bounds of refresh durations in seconds.
const REFRESH_BOUNDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// A failure that persists is logged again after so many attempts.
const REPEAT_LOG: u32 = 100;

/// One part of a relay: its newest data and how reading it goes.
pub(super) struct Part<T> {
    source: Source,
    data: ArcSwapOption<Fresh<T>>,
    progress: Mutex<Progress>,
    /// Reading has been tried, whatever came of it.
    pub(super) tried: SetOnce<()>,
}

struct Fresh<T> {
    value: Arc<T>,
    at: Instant,
}

#[derive(Default)]
pub(super) struct Progress {
    succeeded: bool,
    last_success: Option<DateTime<Utc>>,
    seconds: Vec<u64>,
    seconds_sum: f64,
    failures: [u64; Reason::ALL.len()],
    failures_in_a_row: u32,
    skipped: u64,
    pub(super) rows_read: u64,
    pub(super) statements: Vec<(&'static str, bool)>,
    problem: Option<ReadError>,
}

impl<T> Part<T> {
    pub(super) fn new(source: Source) -> Arc<Self> {
        Arc::new(Self { source, data: ArcSwapOption::empty(), progress: Mutex::default(), tried: SetOnce::new() })
    }

    pub(super) fn fresh(&self, stale_after: Duration) -> Option<Arc<T>> {
        let data = self.data.load();
        data.as_ref().filter(|fresh| fresh.at.elapsed() <= stale_after).map(|fresh| fresh.value.clone())
    }

    /// However old.
    pub(super) fn last(&self) -> Option<Arc<T>> {
        self.data.load().as_ref().map(|fresh| fresh.value.clone())
    }

    pub(super) fn publish(&self, value: impl Into<Arc<T>>) {
        self.data.store(Some(Arc::new(Fresh { value: value.into(), at: Instant::now() })));
    }

    pub(super) fn progress<R>(&self, act: impl FnOnce(&mut Progress) -> R) -> R {
        act(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn status(&self, stale_after: Duration) -> SourceStatus {
        let is_fresh = self.data.load().as_ref().is_some_and(|fresh| fresh.at.elapsed() <= stale_after);
        self.progress(|progress| {
            let mut buckets = progress.seconds.clone();
            buckets.resize(REFRESH_BOUNDS.len() + 1, 0);
            SourceStatus {
                source: self.source,
                up: progress.succeeded && is_fresh,
                last_success: progress.last_success,
                refresh_seconds: HistogramView { bounds: REFRESH_BOUNDS, buckets, sum: progress.seconds_sum },
                failures: Reason::ALL.into_iter().zip(progress.failures).collect(),
                skipped: progress.skipped,
                rows_read: progress.rows_read,
                statements: progress.statements.clone(),
                problem: progress.problem.clone(),
            }
        })
    }

    /// Notes that a refresh which takes long has read something that is shown.
    pub(super) fn note_progress(&self) {
        self.progress(|progress| {
            progress.succeeded = true;
            progress.last_success = Some(Utc::now());
        });
    }

    /// Notes how a refresh that began at `began` went.
    pub(super) fn note(&self, began: Instant, outcome: Result<u64, ReadError>) {
        let seconds = began.elapsed().as_secs_f64();
        let source = self.source;
        // Only the first time counts.
        self.tried.set(()).ok();
        self.progress(|progress| {
            progress.seconds.resize(REFRESH_BOUNDS.len() + 1, 0);
            progress.seconds[REFRESH_BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
            progress.seconds_sum += seconds;
            match outcome {
                Ok(rows_read) => {
                    if progress.problem.take().is_some() {
                        tracing::info!(%source, "the source can be read again");
                    }
                    progress.rows_read = rows_read;
                    progress.succeeded = true;
                    progress.failures_in_a_row = 0;
                    progress.last_success = Some(Utc::now());
                }
                Err(error) => {
                    let reason = error.reason;
                    progress.failures[reason as usize] += 1;
                    progress.failures_in_a_row += 1;
                    progress.succeeded = false;
                    let known = progress.problem.as_ref().is_some_and(|problem| problem.reason == reason);
                    if !known || progress.failures_in_a_row.is_multiple_of(REPEAT_LOG) {
                        let failures = progress.failures_in_a_row;
                        tracing::warn!(%source, reason = reason.label(), failures, error = error.text, "the source cannot be read");
                    }
                    progress.problem = Some(error);
                }
            }
        });
    }

    /// Sleeps until the next refresh is due: `interval` after the last began, later after failures.
    pub(super) async fn rest(&self, began: Instant, interval: Duration) {
        let failures = self.progress(|progress| {
            let missed = began.elapsed().as_nanos() / interval.as_nanos().max(1);
            progress.skipped += u64::try_from(missed).unwrap_or(u64::MAX);
            progress.failures_in_a_row
        });
        let due = if failures == 0 {
            // On the beat: a refresh that took longer than the interval leaves out those it overran.
            let missed = (began.elapsed().as_nanos() / interval.as_nanos().max(1)) as u32;
            began + interval * (missed + 1)
        } else {
            Instant::now() + back_off(interval, failures)
        };
        tokio::time::sleep_until(due.into()).await;
    }
}
