//! Windows that slide over the log.
//!
//! A window is kept, not computed: a row is added when it arrives and taken away when the window's edge passes it, so a
//! refresh costs what came and went, whatever the window holds.

use super::Moment;
use super::course::Course;
use super::log::Log;
use super::sums::{BoardSums, KeyModels, Sliding, Spending, Sums, Total, WindowFact};

/// The windows that end now.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    pub minute: Window<Sums>,
    pub hour: Window<Sums>,
    pub eight_hours: Window<Sums>,
    pub day: Window<BoardSums>,
    pub key_models: Window<KeyModels>,
    pub five_hours: Window<Spending>,
    pub since_same_time_yesterday: Window<Sums>,
    pub since_midnight: Window<Sums>,
    pub course: Course,
}

impl Windows {
    pub(crate) fn add(&mut self, second: i64, fact: &WindowFact) {
        self.all().into_iter().for_each(|window| window.add(second, fact));
    }

    pub(crate) fn sub(&mut self, second: i64, fact: &WindowFact) {
        self.all().into_iter().for_each(|window| window.sub(second, fact));
    }

    /// Moves the edges to a moment.
    pub(crate) fn slide(&mut self, log: &mut Log, moment: &Moment) {
        let edges = edges(moment);
        if self.all().iter().zip(edges).any(|(window, edge)| edge < window.edge()) {
            // The clock was set back.
            return self.begin(log, moment);
        }
        for (window, edge) in self.all().into_iter().zip(edges) {
            log.each(window.edge()..edge, |second, fact| window.sub(second, fact));
            window.begin_at(edge);
        }
    }

    /// Works the windows out anew.
    pub(crate) fn begin(&mut self, log: &mut Log, moment: &Moment) {
        *self = Self::default();
        let edges = edges(moment);
        self.all().into_iter().zip(edges).for_each(|(window, edge)| window.begin_at(edge));
        log.each(edges.into_iter().min().unwrap_or(i64::MIN)..i64::MAX, |second, fact| self.add(second, fact));
    }

    fn all(&mut self) -> [&mut dyn Sliding; 9] {
        [
            &mut self.minute,
            &mut self.hour,
            &mut self.eight_hours,
            &mut self.day,
            &mut self.key_models,
            &mut self.five_hours,
            &mut self.since_same_time_yesterday,
            &mut self.since_midnight,
            &mut self.course,
        ]
    }
}

/// Where the windows begin at a moment, in the order of [`Windows::all`].
fn edges(moment: &Moment) -> [i64; 9] {
    let now = moment.now.timestamp();
    let midnight = moment.calendar.start(moment.today()).map_or(now, |start| start.timestamp());
    [
        now - 60,
        now - 3600,
        now - 8 * 3600,
        now - 24 * 3600,
        now - 24 * 3600,
        now - 5 * 3600,
        moment.same_time_yesterday.timestamp(),
        midnight,
        Course::edge_at(now),
    ]
}

/// The total of the facts that started at or after an edge that moves forward.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window<T> {
    edge: i64,
    pub total: T,
}

impl<T: Total> Sliding for Window<T> {
    fn edge(&self) -> i64 {
        self.edge
    }

    fn begin_at(&mut self, edge: i64) {
        self.edge = edge;
    }

    fn add(&mut self, second: i64, fact: &WindowFact) {
        if second >= self.edge {
            self.total.add(fact);
        }
    }

    fn sub(&mut self, second: i64, fact: &WindowFact) {
        if second >= self.edge {
            self.total.sub(fact);
        }
    }
}
