//! A follower written down and taken up again.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::NaiveDate;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::audit::Drift;
use super::{Follower, State};
use crate::parts::{Part, PartError, decoded, encoded};
use crate::relay::overlap::Overlap;
use crate::store::Kept;
use crate::tally::Tally;

const CURSOR: &str = "cursor";

/// Where reading goes on. `H` is the map of hopeless days.
#[derive(Serialize, Deserialize)]
struct Cursor<S, T, H> {
    basis: S,
    tariff: S,
    top: i64,
    bottom: i64,
    history: i64,
    overlap: T,
    unrepairable: H,
    audit_day: Option<NaiveDate>,
    anew: bool,
    resume_token: S,
}

impl Kept for Follower {
    fn parts(&mut self, all: bool) -> Result<Option<Vec<Part>>, PartError> {
        let Some(state) = &mut self.state else { return Ok(None) };
        let mut parts = state.tally.parts(all)?;
        let cursor = Cursor {
            basis: &state.basis,
            tariff: &state.tariff,
            top: state.top,
            bottom: state.bottom,
            history: state.history,
            overlap: &state.overlap,
            unrepairable: &state.unrepairable,
            audit_day: state.audit_day,
            anew: state.anew,
            resume_token: &state.resume_token,
        };
        parts.push(encoded(CURSOR, &cursor)?);
        parts.extend(self.ledger.parts(all)?);
        Ok(Some(parts))
    }

    /// First what is new and what may have changed is read, then the audit.
    fn restore(&mut self, mut parts: BTreeMap<String, Bytes>) -> Result<(), PartError> {
        let cursor: Cursor<String, Overlap, HashMap<NaiveDate, Drift>> = decoded(&parts, CURSOR)?;
        let mut tally = Tally::restore(&mut parts)?;
        tally.pin(&self.pinned);
        self.ledger.restore(&parts)?;
        self.state = Some(State {
            tally,
            basis: cursor.basis,
            tariff: cursor.tariff,
            top: cursor.top,
            bottom: cursor.bottom,
            history: cursor.history,
            overlap: cursor.overlap,
            audit: None,
            left_out: 0,
            audited_at: None,
            audit_failed_at: None,
            unrepairable: cursor.unrepairable,
            audit_day: cursor.audit_day,
            audit_now: false,
            behind: false,
            anew: cursor.anew,
            restored: true,
            resume_token: cursor.resume_token,
            month_since: None,
            month_moved: false,
            zone_error: None,
        });
        Ok(())
    }
}
