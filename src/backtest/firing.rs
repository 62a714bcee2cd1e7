//! When an alert would have fired: Prometheus' own rules for `for` and `keep_firing_for`.

use crate::servers::prometheus::Series;

/// A span in which one alert with one set of labels fired, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Episode {
    pub start: i64,
    /// When it resolved, or the end of what was looked at.
    pub end: i64,
}

/// The episodes of one series of an alert's expression, evaluated every `step` from `first` to `last`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Firing {
    hold: i64,
    keep: i64,
    /// Since when the condition has held without a break.
    active_since: Option<i64>,
    firing_since: Option<i64>,
    /// Since when it fires though the condition does not hold.
    kept_since: Option<i64>,
    pub episodes: Vec<Episode>,
}

impl Firing {
    /// `hold` and `keep` are `for` and `keep_firing_for` in seconds.
    pub(crate) fn new(hold: i64, keep: i64) -> Self {
        Self { hold, keep, ..Self::default() }
    }

    /// One evaluation (Prometheus 2.42 `rules/alerting.go`, `Eval`).
    pub(crate) fn evaluate(&mut self, at: i64, holds: bool) {
        if holds {
            self.kept_since = None;
            let since = *self.active_since.get_or_insert(at);
            if self.firing_since.is_none() && at - since >= self.hold {
                self.firing_since = Some(at);
            }
            return;
        }
        if let Some(start) = self.firing_since {
            if self.keep > 0 && at - *self.kept_since.get_or_insert(at) < self.keep {
                return;
            }
            self.episodes.push(Episode { start, end: at });
        }
        (self.active_since, self.firing_since, self.kept_since) = (None, None, None);
    }

    /// Ends what still fires.
    pub(crate) fn finish(&mut self, at: i64) {
        if let Some(start) = self.firing_since.take() {
            self.episodes.push(Episode { start, end: at });
        }
    }
}

/// The instants at which a series has a value.
pub(crate) fn instants(series: &Series) -> impl Iterator<Item = i64> {
    series.values.iter().map(|(at, _)| at.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(hold: i64, keep: i64, held: &str) -> Vec<(i64, i64)> {
        let mut firing = Firing::new(hold * 60, keep * 60);
        let minutes = held.bytes().enumerate().map(|(minute, it)| (minute as i64 * 60, it == b'x'));
        minutes.for_each(|(at, holds)| firing.evaluate(at, holds));
        firing.finish(held.len() as i64 * 60);
        firing.episodes.iter().map(|it| (it.start / 60, it.end / 60)).collect()
    }

    #[test]
    fn an_alert_fires_after_its_hold_and_is_kept_for_a_while() {
        assert_eq!(run(0, 0, "..xx.."), [(2, 4)]);
        assert_eq!(run(2, 0, "..xx.."), [], "not long enough");
        assert_eq!(run(2, 0, "..xxx."), [(4, 5)]);
        assert_eq!(run(2, 0, ".xx.xxxx."), [(6, 8)], "a break begins anew");
        assert_eq!(run(1, 3, "xx..xx...."), [(1, 9)], "a break that is bridged");
        assert_eq!(run(1, 2, "xx....xx"), [(1, 4), (7, 8)]);
        assert_eq!(run(1, 5, "xxx"), [(1, 3)], "fires at the end");
    }
}
