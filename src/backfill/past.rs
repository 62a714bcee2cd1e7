//! A relay's ledger played again from its first row on: what an exporter would have shown at any instant since.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Duration as Span, Utc};
use chrono_tz::Tz;
use hashbrown::HashSet;

use crate::follow::rows_of_span;
use crate::model::{Calendar, ReadError, Tokens, UsageRow, Usd};
use crate::page::samples::{self, Family};
use crate::relay::plan::RelayPlan;
use crate::relay::{Ledger, RefreshRequest, within};
use crate::tally::{Moment, ORPHAN_SECONDS, Presentation, Tally};
use crate::view::SeriesBudget;
use crate::view::View;

/// Rows are read by spans of this length of their start: what waits in memory is what starts and runs meanwhile.
const SLICE: Span = Span::hours(1);

/// The state of a ledger at an instant that only moves forward.
pub(crate) struct Past {
    ledger: Box<dyn Ledger>,
    timeout: Duration,
    budget: SeriesBudget,
    tally: Tally,
    calendar: Arc<Calendar>,
    zone: Tz,
    basis: String,
    /// The store's clock when the past was opened.
    present: DateTime<Utc>,
    now: DateTime<Utc>,
    /// Every row that started before has been read.
    read_until: DateTime<Utc>,
    /// Rows that have yet to start, in order of start.
    coming: VecDeque<UsageRow>,
    /// Rows that have started, by their end and id.
    running: BTreeMap<(DateTime<Utc>, i64), UsageRow>,
    rows_read: u64,
    /// Without its ledger.
    frame: View,
}

impl Past {
    /// At the start of the ledger's first day.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub(crate) async fn open(mut ledger: Box<dyn Ledger>, plan: &RelayPlan) -> Result<Self, ReadError> {
        let refresh = within(plan.timeout, ledger.refresh(&RefreshRequest::default())).await?;
        let calendar = refresh.calendar;
        let begin = calendar.start(calendar.first_date()).unwrap_or(refresh.now).min(refresh.now);
        let zone = calendar.zone().parse().unwrap_or(chrono_tz::UTC);
        let mut tally = Tally::new(moment(&*ledger, &calendar, zone, begin));
        tally.pin(&plan.series.pinned_models);
        tally.rows_tell(ledger.facts());
        // Of nothing, everything has been read; from here on the tally follows the ledger as an exporter would.
        tally.complete();
        let frame = View {
            relay: plan.name.as_str().into(),
            kind: plan.product.label,
            names: plan.boards.names,
            ledger: None,
            live: None,
            directory: None,
            sources: Vec::new(),
            probe: None,
            store: None,
        };
        Ok(Self {
            ledger,
            timeout: plan.timeout,
            budget: plan.series.clone(),
            tally,
            zone,
            basis: refresh.basis,
            present: refresh.now,
            now: begin,
            read_until: begin,
            calendar,
            coming: VecDeque::new(),
            running: BTreeMap::new(),
            rows_read: 0,
            frame,
        })
    }

    /// Start of the ledger's first day.
    pub(crate) fn begin(&self) -> DateTime<Utc> {
        self.calendar.start(self.calendar.first_date()).unwrap_or(self.present)
    }

    /// The store's clock when the past was opened: nothing is known of later instants.
    pub(crate) const fn present(&self) -> DateTime<Utc> {
        self.present
    }

    /// The relay's time zone.
    pub(crate) const fn zone(&self) -> Tz {
        self.zone
    }

    /// What the rows' meaning rests on.
    pub(crate) fn basis(&self) -> &str {
        &self.basis
    }

    pub(crate) const fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// The instant that it has moved on to.
    pub(crate) const fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Moves on towards an instant, at most by the span of one read.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub(crate) async fn advance(&mut self, to: DateTime<Utc>) -> Result<(), ReadError> {
        let to = to.min(self.now + SLICE);
        // Ids are not quite in the order of starts: look a little ahead, so that names are admitted in that of ids.
        while self.read_until <= to + self.ledger.disorder() && self.read_until <= self.present {
            self.read_slice().await?;
        }
        let mut rows = Vec::new();
        while let Some(row) = self.coming.pop_front_if(|row| row.started_at <= to) {
            match end(&row) {
                Some(end) if end > to => {
                    rows.push(in_flight(&row));
                    self.running.insert((end, row.id), row);
                }
                Some(_) | None => rows.push(row),
            }
        }
        while let Some(first) = self.running.first_entry()
            && first.key().0 <= to
        {
            rows.push(first.remove());
        }
        self.tally.advance(moment(&*self.ledger, &self.calendar, self.zone, to));
        self.tally.apply(rows);
        // Nothing else will change: what the ledger says today is how each request ended.
        let due = self.tally.due();
        self.tally.looked_at(&due, &due.iter().copied().collect::<HashSet<_>>());
        self.tally.settle(i64::MAX);
        self.now = to;
        Ok(())
    }

    /// What an exporter would show now, as far as rows alone tell.
    pub(crate) fn families(&mut self) -> Vec<Family> {
        let view = self.tally.view(&Presentation {
            directory: None,
            live: None,
            boards: &crate::view::Boards::default(),
            series: &self.budget,
        });
        samples::past(&View { ledger: Some(Arc::new(view)), ..self.frame.clone() })
    }

    async fn read_slice(&mut self) -> Result<(), ReadError> {
        let until = self.read_until + SLICE;
        let mut rows = rows_of_span(&mut *self.ledger, self.timeout, self.read_until..until, i64::MAX).await?;
        self.rows_read += rows.len() as u64;
        self.read_until = until;
        rows.iter().for_each(|row| self.tally.announce(row));
        rows.sort_by_key(|row| (row.started_at, row.id));
        self.coming.extend(rows);
        Ok(())
    }
}

/// When a row becomes final; `None` when it has not. One that says to have run for longer than an orphan is waited for is
/// taken to have ended then.
fn end(row: &UsageRow) -> Option<DateTime<Utc>> {
    let lasted = Span::milliseconds(row.duration_ms.unwrap_or(0).into()).min(Span::seconds(ORPHAN_SECONDS));
    row.is_final.then(|| row.started_at + lasted)
}

/// The row as it was before it ended.
fn in_flight(row: &UsageRow) -> UsageRow {
    UsageRow {
        is_final: false,
        is_error: false,
        is_success: None,
        outcome: None,
        failure: None,
        answered_model: None,
        status: None,
        cost: Usd::ZERO,
        tokens: Tokens::default(),
        board_tokens: 0,
        duration_ms: None,
        ttft_ms: None,
        output_speed_micro: None,
        list_cost: None,
        account_cost: None,
        cache_saved: None,
        ..row.clone()
    }
}

fn moment(ledger: &dyn Ledger, calendar: &Arc<Calendar>, zone: Tz, now: DateTime<Utc>) -> Moment {
    Moment { now, same_time_yesterday: ledger.day_before(zone, now), calendar: Arc::clone(calendar) }
}
