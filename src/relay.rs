//! A relay product is one folder here: it translates that product's store into the words of [`crate::model`].
//!
//! A relay keeps no metrics and no totals. Its three parts fail independently. Opening one connects to nothing:
//! the first read does, so that a store that is down at start is a failed read like any other.

pub(crate) mod civil;
pub(crate) mod columns;
pub mod demo;
pub(crate) mod known_database;
pub(crate) mod overlap;
pub(crate) mod plan;
pub(crate) mod product;
pub(crate) mod report;
pub(crate) mod schema_cache;
pub mod setting;
pub(crate) mod shared_names;
pub(crate) mod stable_ids;
pub(crate) mod steady;
pub mod unsupported;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use futures_util::FutureExt;

pub(crate) use crate::connect::address::{OpenError, Store};
use crate::model::{
    Calendar, CounterSnapshot, Directory, Facts, LedgerSum, Live, ReadError, Reason, Scope, UsageRow, Usd,
};
use crate::parts::{Part, PartError};
use plan::RelayPlan;
pub use product::{Need, Product, Variables};
pub use unsupported::Unsupported;

/// With its first instant, without its last.
pub type TimeRange = Range<DateTime<Utc>>;

/// The usage ledger of a relay that keeps one row per request.
#[async_trait]
pub trait Ledger: Send {
    /// New rows and the present version of rows that may still change, all from one consistent snapshot.
    async fn refresh(&mut self, request: &RefreshRequest) -> Result<Refresh, ReadError>;

    /// The newest `limit` rows with an id below `below`, in any order.
    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError>;

    /// Rows that started in `range` with an id above `after`, by ascending id, at most `limit`.
    async fn rows_between(&mut self, range: TimeRange, after: i64, limit: u32) -> Result<Vec<UsageRow>, ReadError>;

    /// What one entity spent in `range`, summed by the store; for windows that begin where the tally has no detail. Asked
    /// only where the relay counts limits from its rows.
    async fn spent(&mut self, _scope: Scope, _id: i64, _range: TimeRange) -> Result<Usd, ReadError> {
        Err(ReadError::new(Reason::Data, "the relay counts no limits from its rows"))
    }

    /// The same local time of day, one local day before an instant; what [`Refresh::same_time_yesterday`] is of now.
    fn day_before(&self, zone: Tz, instant: DateTime<Utc>) -> DateTime<Utc> {
        civil::day_before(zone, instant)
    }

    /// What its rows tell.
    fn facts(&self) -> Facts;

    /// Whether the store has no ids that grow, so that the ledger gives each row its position when it first sees it. It
    /// then delivers each row once: those from before the beginning with [`Self::older`], others with [`Self::refresh`]
    /// whenever they appear and wherever they started. Rows are final, and positions do not fall.
    fn gives_positions(&self) -> bool {
        false
    }

    /// From now on the rows up to the present top are history, to be delivered again by [`Self::older`].
    fn begin(&mut self) {}

    /// The smallest position that there may be, for the progress of the history.
    fn first(&self) -> i64 {
        0
    }

    /// How far the start of a row of the past may lie from the order of positions.
    fn disorder(&self) -> TimeDelta {
        TimeDelta::minutes(1)
    }

    /// Requests since it was first read that the relay has counted and of which it has no row; `None` where it does not
    /// count for itself.
    fn missed(&self) -> Option<u64> {
        None
    }

    /// What the ledger must remember beside the cursor, in parts; those that have not changed since the last time without
    /// their bytes, unless `all` are wanted.
    ///
    /// # Errors
    /// When a part cannot be written.
    fn parts(&mut self, _all: bool) -> Result<Vec<Part>, PartError> {
        Ok(Vec::new())
    }

    /// Goes on where the one that wrote the parts was.
    ///
    /// # Errors
    /// When a part is missing or cannot be understood; it is then as before.
    fn restore(&mut self, _parts: &BTreeMap<String, Bytes>) -> Result<(), PartError> {
        Ok(())
    }

    /// Recurring statements by name, and whether each is refused because it would walk through a whole large table.
    fn statements(&self) -> Vec<(&'static str, bool)> {
        Vec::new()
    }
}

/// What to read in one refresh.
#[derive(Clone, Debug, Default)]
pub struct RefreshRequest {
    /// Rows with a greater id are new. `None` on the first refresh: read no new rows, only tell where the ledger ends.
    pub after: Option<i64>,
    /// At most so many new rows.
    pub limit: u32,
    /// Request ids whose present version is wanted.
    pub reread: Vec<i64>,
    /// Spans of start time to aggregate independently, after the rows, in the same snapshot.
    pub audit: Vec<TimeRange>,
    /// All rows will be read again: also those that only a refresh delivers.
    pub anew: bool,
    /// [`Refresh::resume_token`] of the last refresh, perhaps of another process; empty before the first.
    pub resume_token: String,
}

/// What one refresh has read, of one moment.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// The store's clock at the snapshot.
    pub now: DateTime<Utc>,
    /// The same local time of day, one local day before `now`.
    pub same_time_yesterday: DateTime<Utc>,
    /// From the first day that a row or a window may need, to tomorrow.
    pub calendar: Arc<Calendar>,
    /// What the rows' meaning rests on (time zone, billing model, schema). When it changes, all rows must be read again.
    pub basis: String,
    /// What the rows' cost rests on, where the relay prices tokens only when it shows them; empty where it stores the
    /// cost. When it changes, all rows are read again; counters keep what they have counted at the price of its time, and
    /// nothing that changes in a counted row is spending.
    pub tariff: String,
    /// The greatest id in the ledger; 0 when it is empty.
    pub top: i64,
    /// The local date of the oldest row, where the relay deletes old rows by itself; `None` where it keeps them all.
    pub kept_since: Option<NaiveDate>,
    /// Start of the oldest row, where the relay's own screen counts of the present month what it still has; else `None`.
    pub month_since: Option<DateTime<Utc>>,
    /// New and re-read rows in any order. A re-read request that is missing here is gone from the ledger.
    pub rows: Vec<UsageRow>,
    /// More new rows than `limit` are waiting.
    pub more: bool,
    /// What could not be understood.
    pub refused: Refused,
    /// One for each span of [`RefreshRequest::audit`]; `None` of one that would cost the store too much.
    pub audit: Vec<Option<LedgerSum>>,
    /// Rows that had been read are gone, not just the oldest: the audit should look now.
    pub lost_rows: bool,
    /// What the ledger itself must remember; kept with the cursor.
    pub resume_token: String,
    /// Where times stand without their zone, in seconds: how old rows seem when they appear, because they are read in
    /// another zone than the relay's; 0 when it is the relay's. `None` where or until this cannot be told.
    pub zone_error: Option<i64>,
}

/// Rows of the past, for a first read from the newest to the oldest.
#[derive(Clone, Debug)]
pub struct Older {
    /// In any order.
    pub rows: Vec<UsageRow>,
    /// No row has a smaller id than these.
    pub bottom: bool,
    /// What could not be understood.
    pub refused: Refused,
}

/// Rows that were read and could not be understood, and so are left out.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// As [`UsageRow::id`] would be.
    pub ids: Vec<i64>,
    /// What is wrong with the first.
    pub why: Option<String>,
}

impl Refused {
    /// The row, if it could be understood.
    pub(crate) fn sift<T, E: fmt::Display>(&mut self, row: Result<T, E>, id: i64) -> Option<T> {
        let note = |error: &E| {
            self.ids.push(id);
            self.why.get_or_insert_with(|| format!("row {id}: {error}"));
        };
        row.inspect_err(note).ok()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.why = self.why.take().or(other.why);
    }
}

/// The usage of a relay that keeps durable counters instead of rows.
#[async_trait]
pub trait Counters: Any + Send {
    /// What the counters say now. `directory` tells which entities exist.
    async fn read(&mut self, directory: &Directory) -> Result<CounterSnapshot, ReadError>;

    /// What a restart must find again, in parts; those that have not changed since the last time without their bytes,
    /// unless `all` are wanted.
    ///
    /// # Errors
    /// When a part cannot be written.
    fn parts(&mut self, all: bool) -> Result<Vec<Part>, PartError>;

    /// Goes on where the one that wrote the parts was.
    ///
    /// # Errors
    /// When a part is missing or cannot be understood; it is then as before.
    fn restore(&mut self, parts: &BTreeMap<String, Bytes>) -> Result<(), PartError>;

    /// Goes on where `before` was: the same relay's, which was opened with other settings.
    ///
    /// # Errors
    /// As [`Self::parts`] and [`Self::restore`].
    fn take_over(&mut self, mut before: Box<dyn Counters>) -> Result<(), PartError> {
        let parts = before.parts(true)?;
        self.restore(&parts.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.get()))).collect())
    }
}

/// Live state, e.g. from Redis.
#[async_trait]
pub trait LiveState: Send {
    /// `directory` tells which entities exist, so that no key space has to be searched.
    async fn read(&mut self, directory: &Directory) -> Result<Live, ReadError>;
}

/// Names, limits, settings.
#[async_trait]
pub trait DirectorySource: Send {
    /// All of it, anew.
    async fn read(&mut self) -> Result<Directory, ReadError>;
}

/// Bounds a read at the client, in case the server's own limit does not reach it.
pub(crate) async fn within<T>(
    limit: Duration,
    read: impl Future<Output = Result<T, ReadError>>,
) -> Result<T, ReadError> {
    // A panic in one read would otherwise be the end of that part's task.
    match tokio::time::timeout(limit, AssertUnwindSafe(read).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(fault()),
        Err(_) => {
            Err(ReadError::new(Reason::Timeout, format!("no answer within {}", humantime::format_duration(limit))))
        }
    }
}

/// What is told after a panic.
pub(crate) fn fault() -> ReadError {
    ReadError::new(Reason::Data, "a fault of the exporter itself; please report what it printed")
}

/// The parts of one relay, opened but not yet connected.
pub struct Relay {
    /// The ledger.
    pub usage: Usage,
    /// `None` when the configuration names no store for it.
    pub live: Option<Box<dyn LiveState>>,
    /// Names, limits, settings.
    pub directory: Box<dyn DirectorySource>,
}

/// Where a relay's usage comes from.
pub enum Usage {
    /// One row per request.
    Rows(Box<dyn Ledger>),
    /// Counters that the relay keeps itself.
    Counters(Box<dyn Counters>),
}

/// Opens the parts of a relay; connects to nothing.
///
/// # Errors
/// When an address cannot be used.
pub fn open(plan: &RelayPlan) -> Result<Relay, OpenError> {
    let relay = (plan.product.open)(plan)?;
    Ok(Relay { directory: Box::new(WithoutAddresses(relay.directory)), ..relay })
}

/// See [`Directory::without_addresses`].
struct WithoutAddresses(Box<dyn DirectorySource>);

#[async_trait]
impl DirectorySource for WithoutAddresses {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        Ok(self.0.read().await?.without_addresses())
    }
}
