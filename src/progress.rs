//! How far a long command has come: a bar on a terminal, elsewhere a line every few seconds, both on stderr.

use std::cell::Cell;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(5);
const LENGTH: u64 = 1000;

pub(crate) struct Progress {
    what: &'static str,
    began: Instant,
    bar: ProgressBar,
    /// `None` on a terminal.
    last_line: Option<Cell<Instant>>,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(LENGTH);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {percent} % {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        let began = Instant::now();
        Self { what, began, bar, last_line: (!stderr().is_terminal()).then(|| Cell::new(began)) }
    }

    /// `done` is the share of the whole, 0 to 1.
    pub(crate) fn at(&self, done: f64, doing: &str) {
        let elapsed = self.began.elapsed();
        let left = elapsed.mul_f64((1.0 - done).clamp(0.0, 1.0) / done.max(0.001));
        // A guess from less would be none.
        let left = if done > 0.02 { format!(", about {} left", span(left)) } else { String::new() };
        self.bar.set_position((done * LENGTH as f64) as u64);
        self.bar.set_message(format!("{doing}{left}"));
        if let Some(last) = self.last_line.as_ref().filter(|last| last.get().elapsed() >= PAUSE) {
            last.set(Instant::now());
            eprintln!("{}: {:.0} % after {}{left}: {doing}", self.what, 100.0 * done, span(elapsed));
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Whole seconds, for people.
pub(crate) fn span(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
