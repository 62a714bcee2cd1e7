//! Reads of a ledger that take more than one step, and what is said of rows that could not be understood.

use std::time::Duration;

use chrono::{DateTime, Days, TimeDelta, Utc};

use super::{STEP_ROWS, State};
use crate::model::{ReadError, Reason, UsageRow};
use crate::relay::overlap::Overlap;
use crate::relay::{Ledger, Refresh, RefreshRequest, Refused, TimeRange, within};
use crate::tally::Tally;

/// Where none of so many can be understood, the ledger is not what it was.
const NEWEST: u32 = 100;

/// Of all rows that were read.
pub(super) fn ids(rows: &[UsageRow], refused: &Refused) -> impl Iterator<Item = i64> {
    rows.iter().map(|row| row.id).chain(refused.ids.iter().copied())
}

fn complaint(refused: &Refused) -> Option<String> {
    let rows = refused.ids.len();
    refused.why.as_ref().map(|why| format!("{rows} rows could not be understood; the first, {why}"))
}

/// Tells once of rows that are left out.
pub(super) fn complain(last: &mut Option<String>, refused: &Refused) {
    let complaint = complaint(refused);
    if let Some(complaint) = complaint.as_ref().filter(|complaint| last.as_ref() != Some(complaint)) {
        tracing::warn!("left out: {complaint}");
    }
    *last = complaint;
}

/// Whether some of the newest rows can be understood. A quiet ledger may have one alone that cannot.
async fn understands(ledger: &mut dyn Ledger, timeout: Duration, refused: &Refused) -> Result<bool, ReadError> {
    if ledger.gives_positions() {
        return Ok(refused.ids.len() < NEWEST as usize);
    }
    Ok(!within(timeout, ledger.older(i64::MAX, NEWEST)).await?.rows.is_empty())
}

/// Reads; where the ledger cannot be summed up, without that: new rows may take no time where a sum takes too long.
pub(super) async fn read(
    ledger: &mut dyn Ledger,
    timeout: Duration,
    state: &mut State,
    request: &mut RefreshRequest,
) -> Result<Refresh, ReadError> {
    let refresh = match within(timeout, ledger.refresh(request)).await {
        // What was restored is not shown before it has been held against the ledger.
        Err(error) if error.is_of_effort() && !request.audit.is_empty() && !state.restored => {
            request.audit.clear();
            let refresh = within(timeout, ledger.refresh(request)).await?;
            state.note_failed_audit(refresh.now, &error);
            refresh
        }
        outcome => outcome?,
    };
    // Numbers without any of the newest rows would be none of the ledger's.
    if let Some(complaint) = complaint(&refresh.refused).filter(|_| refresh.rows.is_empty() && !refresh.more)
        && !understands(ledger, timeout, &refresh.refused).await?
    {
        return Err(ReadError::new(Reason::Data, complaint));
    }
    Ok(refresh)
}

/// Tells the tally which requests a ledger of another past has, and which of them are new.
pub(super) async fn part_ways(
    ledger: &mut dyn Ledger,
    timeout: Duration,
    tally: &mut Tally,
    now: DateTime<Utc>,
) -> Result<(), ReadError> {
    // Ids and request ids hardly differ in their order.
    let newest = within(timeout, ledger.older(i64::MAX, Overlap::IDS as u32)).await?;
    let last = newest.rows.iter().map(|row| row.request_id).max().unwrap_or(i64::MIN);
    let since = tally.looked_until() + TimeDelta::microseconds(1);
    let (mut newer, mut after) = (Vec::new(), i64::MIN);
    loop {
        let page = within(timeout, ledger.rows_between(since..now + Days::new(1), after, STEP_ROWS)).await?;
        let Some(greatest) = page.iter().map(|row| row.id).max() else { break };
        after = greatest;
        newer.extend(page.iter().filter(|row| !tally.holds(row)).map(|row| row.request_id));
    }
    tally.part_ways(&newer, last);
    Ok(())
}

/// All rows that started in a span with an id up to `upto`, by ascending id, read in bounded steps. Some above it may come
/// with them; without that limit a relay that writes as fast as it is read would let nobody come to an end.
pub(crate) async fn rows_of_span(
    ledger: &mut dyn Ledger,
    timeout: Duration,
    span: TimeRange,
    upto: i64,
) -> Result<Vec<UsageRow>, ReadError> {
    let mut rows: Vec<UsageRow> = Vec::new();
    loop {
        let after = rows.last().map_or(i64::MIN, |row| row.id);
        if after >= upto {
            return Ok(rows);
        }
        let page = within(timeout, ledger.rows_between(span.clone(), after, STEP_ROWS)).await?;
        // A page may be short because some of its rows could not be understood.
        if page.is_empty() {
            return Ok(rows);
        }
        rows.extend(page);
    }
}
