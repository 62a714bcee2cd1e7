//! Counters over random histories of a ledger: late costs, tokens and durations, deletions, refunds, other outcomes, long
//! transactions, restores with ids given out again, upgrades, switches of what rows mean, other prices; and of two
//! exporters that share a store, are killed, and start again from the checkpoint of either. No counter falls, all
//! families are of the same rows, and each request counts once, as one plain sum over what was seen says.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Duration, TimeZone, Utc};
use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::model::Facts;
use llm_relay_exporter::model::LedgerSum;
use llm_relay_exporter::model::*;
use llm_relay_exporter::relay::{Ledger, Older, Refresh, RefreshRequest, Refused};
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::store::Kept;
use llm_relay_exporter::view::CountersView;
use proptest::prelude::*;

use crate::claude_code_hub::plan;
use crate::reading::view;
use crate::tally::row;

const ZONE: chrono_tz::Tz = chrono_tz::Asia::Shanghai;

/// Later than this a late cost is a past that was written anew; the log goes back 26 hours.
const RECENT: Duration = Duration::hours(20);

/// What is not final by then is no longer looked at by itself.
const ORPHAN: Duration = Duration::hours(24);

#[derive(Clone, Debug)]
struct Stored {
    row: UsageRow,
    /// Not while its transaction is open.
    visible: bool,
}

/// What a backup has.
#[derive(Clone, Debug, Default)]
struct Rows {
    by_id: BTreeMap<i64, Stored>,
    last: i64,
}

/// A relay's database.
#[derive(Debug)]
struct Relay {
    now: DateTime<Utc>,
    calendar: Arc<Calendar>,
    rows: Rows,
    backup: Rows,
    redirected: bool,
    knows_outcomes: bool,
    /// Cost is priced when it is read, at so much of what the row has; `None` where the row has the cost itself.
    price: Option<u8>,
    nonce: i64,
    /// When it was restored last: no request that has come since started before.
    restored: DateTime<Utc>,
}

impl Relay {
    fn new(start: DateTime<Utc>, priced: bool) -> Self {
        let first = start.with_timezone(&ZONE).date_naive() - Duration::days(4);
        let day = |n| first + Duration::days(n);
        let midnight =
            |date: chrono::NaiveDate| ZONE.from_local_datetime(&date.and_hms_opt(0, 0, 0).unwrap()).unwrap().to_utc();
        let days = (0..60).map(|n| (day(n), midnight(day(n)))).collect();
        Self {
            now: start,
            calendar: Arc::new(Calendar::new(ZONE.name(), days).unwrap()),
            rows: Rows::default(),
            backup: Rows::default(),
            redirected: false,
            knows_outcomes: false,
            price: priced.then_some(1),
            nonce: 0,
            restored: DateTime::UNIX_EPOCH,
        }
    }

    fn insert(&mut self, kind: u8, ago: i64, visible: bool) {
        self.nonce += 1;
        // Sometimes far beyond the last, so that the overlap does not hold everything.
        self.rows.last += if kind.is_multiple_of(5) { 900 } else { 1 + i64::from(kind % 3) };
        let id = self.rows.last;
        // A start names its request: no two are alike.
        let start = (self.now - Duration::seconds(1 + ago)).max(self.restored) + Duration::microseconds(self.nonce);
        let mut it = row(id, start);
        it.user_id = 1 + i64::from(kind % 3);
        it.key_id = Some(11 + i64::from(kind % 3));
        it.provider_id = 21 + i64::from(kind / 3 % 2);
        it.model = Some(["a", "b"][usize::from(kind / 7 % 2)].into());
        it.cost = cents(1 + i64::from(kind));
        it.tokens = Tokens { input: 10 + u64::from(kind), output: 7, ..Tokens::default() };
        it.cache_saved = None;
        if kind % 4 == 3 {
            it.duration_ms = None;
            it.ttft_ms = None;
            it.output_speed_micro = None;
        }
        if kind % 6 == 1 {
            it.is_final = false;
        }
        self.rows.by_id.insert(id, Stored { row: it, visible });
    }

    /// A row as its present meaning has it.
    fn reading(&self, stored: &Stored) -> UsageRow {
        let mut it = stored.row.clone();
        if self.redirected && it.user_id == 2 {
            it.model = Some("redirected".into());
        }
        if !self.knows_outcomes {
            it.outcome = Some(Outcome::Success);
        }
        if let Some(price) = self.price {
            it.cost = Usd::from_femto(it.cost.femto() * i128::from(price));
        }
        if !it.is_final {
            it.outcome = None;
            it.cost = Usd::ZERO;
            it.status = None;
            it.duration_ms = None;
        }
        it.board_tokens = it.tokens.total();
        it.failure = (it.outcome == Some(Outcome::Failure)).then_some(FailureClass::Server);
        it.is_success = it.outcome.and_then(Outcome::verdict);
        it.is_error = it.failure.is_some();
        it
    }

    fn readings(&self) -> impl DoubleEndedIterator<Item = UsageRow> {
        self.rows.by_id.values().filter(|stored| stored.visible).map(|stored| self.reading(stored))
    }

    fn pick(&mut self, index: usize, which: impl Fn(&Stored) -> bool) -> Option<&mut UsageRow> {
        let ids: Vec<i64> = self.rows.by_id.iter().filter(|(_, it)| which(it)).map(|(id, _)| *id).collect();
        let id = ids.get(index % ids.len().max(1))?;
        self.rows.by_id.get_mut(id).map(|stored| &mut stored.row)
    }
}

fn cents(cents: i64) -> Usd {
    Usd::from_femto(i128::from(cents) * 10_000_000_000_000)
}

/// The ledger of the relay.
#[derive(Clone)]
struct Shared(Arc<Mutex<Relay>>);

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Relay) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }
}

#[async_trait]
impl Ledger for Shared {
    fn facts(&self) -> Facts {
        Facts::ALL
    }

    async fn refresh(&mut self, ask: &RefreshRequest) -> Result<Refresh, ReadError> {
        let relay = self.0.lock().unwrap();
        let mut rows: Vec<UsageRow> = Vec::new();
        if let Some(after) = ask.after {
            rows.extend(relay.readings().filter(|row| row.id > after).take(ask.limit as usize));
        }
        let more = rows.len() >= ask.limit as usize;
        rows.extend(relay.readings().filter(|row| ask.reread.contains(&row.request_id)));
        let sum = |span: &Range<DateTime<Utc>>| {
            let mut sum = LedgerSum { millis: Some(0), ..LedgerSum::default() };
            for row in relay.readings().filter(|row| row.counted && span.contains(&row.started_at)) {
                sum.count(row.provider_id, row.model.as_deref(), row.outcome, 1);
                sum.cost += row.cost;
                sum.board_tokens += row.board_tokens;
                sum.errors += u64::from(row.is_error);
                let millis = [row.duration_ms, row.ttft_ms].into_iter().flatten().map(u64::from).sum::<u64>();
                sum.millis = sum.millis.map(|sum| sum + millis);
            }
            sum
        };
        Ok(Refresh {
            now: relay.now,
            same_time_yesterday: relay.now - Duration::days(1),
            calendar: Arc::clone(&relay.calendar),
            basis: format!("{} {}", relay.redirected, relay.knows_outcomes),
            tariff: relay.price.map_or_else(String::new, |price| price.to_string()),
            top: relay.readings().map(|row| row.id).max().unwrap_or(0),
            kept_since: None,
            month_since: None,
            rows,
            more,
            refused: Refused::default(),
            audit: ask.audit.iter().map(|span| Some(sum(span))).collect(),
            lost_rows: false,
            resume_token: String::new(),
            zone_error: None,
        })
    }

    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError> {
        let relay = self.0.lock().unwrap();
        let rows: Vec<_> = relay.readings().rev().filter(|row| row.id < below).take(limit as usize).collect();
        Ok(Older { bottom: rows.len() < limit as usize, rows, refused: Refused::default() })
    }

    async fn rows_between(
        &mut self,
        range: Range<DateTime<Utc>>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<UsageRow>, ReadError> {
        let relay = self.0.lock().unwrap();
        let rows = relay.readings().filter(|row| range.contains(&row.started_at) && row.id > after);
        Ok(rows.take(limit as usize).collect())
    }

    async fn spent(&mut self, _: Scope, _: i64, _: Range<DateTime<Utc>>) -> Result<Usd, ReadError> {
        Ok(Usd::ZERO)
    }
}

/// What the counters should have of a request.
#[derive(Clone, Copy, Debug)]
struct Seen {
    cost: Usd,
    tokens: Tokens,
    has_duration: bool,
}

/// By the start of the request, which names it.
type Saw = BTreeMap<DateTime<Utc>, Seen>;

/// Requests, femto-dollars, tokens, durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums(u64, i64, u64, u64);

fn plain(saw: &Saw) -> Sums {
    saw.values().fold(Sums::default(), |sum, it| {
        let cents = (it.cost.to_f64() * 100.0).round() as i64;
        Sums(sum.0 + 1, sum.1 + cents, sum.2 + it.tokens.total(), sum.3 + u64::from(it.has_duration))
    })
}

/// The sums of the counters; asserts that all families say the same.
fn sums(counters: &CountersView) -> Sums {
    let cents = |usd: f64| (usd * 100.0).round() as i64;
    let mut all = Sums::default();
    for it in counters.traffic.iter() {
        all.0 += it.requests.iter().sum::<u64>();
        all.1 += cents(it.cost_usd.unwrap());
        all.2 += it.tokens.iter().map(|(_, count)| count).sum::<u64>();
    }
    all.3 = counters.latency.iter().map(|it| it.duration.buckets.iter().sum::<u64>()).sum();
    for entities in [&counters.users, &counters.keys, &counters.teams, &counters.organizations] {
        let of = entities.iter().fold(Sums::default(), |sum, it| {
            Sums(sum.0 + it.requests, sum.1 + cents(it.cost_usd.unwrap()), sum.2 + it.tokens.unwrap(), all.3)
        });
        assert_eq!(of, all, "whoever spends, it is of the same rows as traffic");
    }
    let responses: u64 = counters.responses.iter().map(|(.., count)| count).sum();
    assert_eq!(responses, all.0, "responses are of the same rows as requests");
    all
}

/// Every counter, one line each.
fn series(counters: &CountersView) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for it in counters.traffic.iter() {
        let of = format!("{} {}", it.provider_id, it.model);
        for (outcome, count) in Outcome::ALL.iter().zip(it.requests) {
            all.insert(format!("requests {of} {}", outcome.label()), count as f64);
        }
        all.insert(format!("cost {of}"), it.cost_usd.unwrap());
        all.extend(it.tokens.iter().map(|(kind, count)| (format!("tokens {of} {kind}"), *count as f64)));
    }
    for it in counters.latency.iter() {
        for (name, histogram) in [("duration", &it.duration), ("ttft", &it.ttft), ("speed", &it.speed)] {
            let of = format!("{name} {} {}", it.provider_id, it.model);
            let mut below = 0;
            for (i, count) in histogram.buckets.iter().enumerate() {
                below += count;
                all.insert(format!("{of} {i}"), below as f64);
            }
            all.insert(format!("{of} sum"), histogram.sum);
        }
    }
    all.extend(counters.responses.iter().map(|(a, b, count)| (format!("response {a} {b}"), *count as f64)));
    all.extend(counters.failures.iter().map(|(a, b, count)| (format!("failure {a} {b}"), *count as f64)));
    all.extend(counters.wasted.iter().map(|(a, b, cost)| (format!("wasted {a} {b}"), *cost)));
    for (kind, entities) in [("user", &counters.users), ("key", &counters.keys)] {
        for it in entities.iter() {
            all.insert(format!("{kind} {} requests", it.id), it.requests as f64);
            all.insert(format!("{kind} {} cost", it.id), it.cost_usd.unwrap());
            all.insert(format!("{kind} {} tokens", it.id), it.tokens.unwrap() as f64);
        }
    }
    all
}

/// One exporter, alive or not, and what it has shown.
struct Exporter {
    follower: Option<Follower>,
    saw: Saw,
    shown: BTreeMap<String, f64>,
}

struct World {
    relay: Shared,
    plan: RelayPlan,
    exporters: [Exporter; 2],
    /// The shared store: parts, and what they are sums of.
    stored: Option<(BTreeMap<String, Bytes>, Saw)>,
    /// Nothing was read anew: corrections are told in full.
    is_told: bool,
}

impl World {
    fn new(start: DateTime<Utc>, priced: bool) -> Self {
        let plan = RelayPlan { audit_interval: std::time::Duration::ZERO, ..plan("postgres://unused", None) };
        let exporter = || Exporter { follower: None, saw: Saw::new(), shown: BTreeMap::new() };
        let relay = Shared(Arc::new(Mutex::new(Relay::new(start, priced))));
        Self { relay, plan, exporters: [exporter(), exporter()], stored: None, is_told: true }
    }

    fn start(&mut self, which: usize) {
        let exporter = &mut self.exporters[which];
        if exporter.follower.is_none() {
            let mut follower = Follower::new(Box::new(self.relay.clone()), &self.plan);
            exporter.saw = Saw::new();
            if let Some((parts, saw)) = &self.stored {
                follower.restore(parts.clone()).unwrap();
                exporter.saw = saw.clone();
            }
            exporter.follower = Some(follower);
        }
    }

    /// Reads until nothing waits, as the poller does, and looks at every page that it would show.
    async fn read(&mut self, which: usize) {
        let Exporter { follower: Some(follower), saw, shown } = &mut self.exporters[which] else { return };
        let mut rest = follower.refresh().await.unwrap();
        loop {
            if rest != Backlog::NewRows
                && let Some(counters) = view(follower, &self.plan, None).counters
            {
                sums(&counters);
                let now = series(&counters);
                for (name, before) in &*shown {
                    let after = now.get(name).copied().unwrap_or(f64::NAN);
                    assert!(after >= before - 1e-9, "{name} of exporter {which} fell from {before} to {after}");
                }
                *shown = now;
            }
            rest = match rest {
                Backlog::NewRows => follower.refresh().await.unwrap(),
                Backlog::RecentHistory | Backlog::History => follower.read_history().await.unwrap(),
                Backlog::Nothing => break,
            };
        }
        let relay = self.relay.0.lock().unwrap();
        for row in relay.readings().filter(|row| row.is_final && row.counted) {
            let now = Seen { cost: row.cost, tokens: row.tokens, has_duration: row.duration_ms.is_some() };
            let seen = saw.entry(row.started_at).or_insert(now);
            // Where the relay prices what it shows, a row that changes was written anew.
            if relay.price.is_none() {
                seen.cost = seen.cost.max(now.cost);
                seen.tokens = seen.tokens.plus(now.tokens.beyond(seen.tokens));
                seen.has_duration |= now.has_duration;
            }
        }
    }

    fn save(&mut self, which: usize) {
        let Exporter { follower: Some(follower), saw, .. } = &mut self.exporters[which] else { return };
        if let Some(parts) = follower.parts(true).unwrap() {
            let parts = parts.into_iter().map(|(key, bytes)| (key, bytes.unwrap().get())).collect();
            self.stored = Some((parts, saw.clone()));
        }
    }

    fn kill(&mut self, which: usize) {
        self.exporters[which].follower = None;
    }

    fn all_alive(&self) -> bool {
        self.exporters.iter().all(|exporter| exporter.follower.is_some())
    }

    fn wait(&mut self, seconds: i64) {
        self.relay.with(|relay| relay.now += Duration::seconds(seconds));
    }

    /// Both exporters have read everything, whatever day it is of, and the store has it: what the ledger loses now or
    /// says otherwise, it cannot be asked again.
    async fn settle(&mut self) {
        for which in [0, 1] {
            self.start(which);
            // One older day is audited each time.
            for _ in 0..20 {
                self.read(which).await;
            }
        }
        self.save(0);
    }

    async fn play(&mut self, step: &Step) {
        match step {
            Step::Insert { count, kind, ago } => {
                for n in 0..*count {
                    self.relay.with(|relay| relay.insert(kind.wrapping_add(n * 17), *ago, true));
                }
            }
            Step::Begin(kind) => self.relay.with(|relay| relay.insert(*kind, 0, false)),
            Step::Commit => self.relay.with(|relay| {
                relay.rows.by_id.values_mut().for_each(|stored| stored.visible = true);
            }),
            Step::Finish(index) => {
                let is_orphan = self.relay.with(|relay| {
                    let since = relay.now - ORPHAN;
                    relay.pick(*index, |it| !it.row.is_final).is_some_and(|row| {
                        row.is_final = true;
                        row.started_at < since
                    })
                });
                // Only an audit of its day finds it, and between two of these there is a save.
                if is_orphan {
                    self.settle().await;
                }
            }
            Step::Late { index, what } => {
                // A row that a dead exporter has let go of may be too old when it is back.
                let limit = if self.all_alive() { RECENT } else { Duration::minutes(8) };
                self.relay.with(|relay| {
                    let (since, priced) = (relay.now - limit, relay.price.is_some());
                    let is_recent = |it: &Stored| it.visible && it.row.is_final && it.row.started_at > since;
                    let Some(row) = relay.pick(*index, is_recent).filter(|_| !priced) else { return };
                    match what % 3 {
                        0 => row.cost += cents(50),
                        1 => row.tokens.output += 1000,
                        _ => {
                            row.duration_ms = row.duration_ms.or(Some(90_000));
                            row.ttft_ms = row.ttft_ms.or(Some(2000));
                        }
                    }
                });
            }
            Step::Lower(index) => {
                self.settle().await;
                self.relay.with(|relay| {
                    if let Some(row) = relay.pick(*index, |it| it.visible && it.row.is_final) {
                        row.cost = (row.cost - cents(9)).max(Usd::ZERO);
                    }
                });
            }
            Step::Delete(index) => {
                self.settle().await;
                self.relay.with(|relay| {
                    let id = relay.pick(*index, |it| it.visible).map(|row| row.id);
                    id.and_then(|id| relay.rows.by_id.remove(&id));
                });
            }
            Step::Relabel(index) => {
                self.settle().await;
                self.relay.with(|relay| {
                    if let Some(row) = relay.pick(*index, |it| it.visible) {
                        row.outcome = Some(Outcome::Failure);
                        row.provider_id = 29;
                    }
                });
            }
            Step::Rewrite => {
                self.settle().await;
                self.relay.with(|relay| {
                    if relay.price.is_some() {
                        relay.rows.by_id.values_mut().for_each(|it| it.row.tokens.input += 5000);
                    }
                });
                self.settle().await;
            }
            Step::Switch | Step::Upgrade | Step::Price => {
                self.settle().await;
                self.is_told = false;
                self.relay.with(|relay| match step {
                    Step::Switch => relay.redirected = !relay.redirected,
                    Step::Upgrade => relay.knows_outcomes = !relay.knows_outcomes,
                    _ => relay.price = relay.price.map(|price| price % 3 + 1),
                });
                self.settle().await;
            }
            Step::Backup => self.relay.with(|relay| relay.backup = relay.rows.clone()),
            Step::Restore { stopped, later } => {
                self.settle().await;
                self.is_told = false;
                if *stopped {
                    self.kill(0);
                    self.kill(1);
                }
                self.wait(3);
                self.relay.with(|relay| {
                    relay.restored = relay.now - Duration::seconds(1);
                    relay.rows = relay.backup.clone();
                    // What was not committed is not in a backup.
                    relay.rows.by_id.retain(|_, it| it.visible);
                    // Its ids begin where it ended, however few its new rows are.
                    for n in 0..*later {
                        relay.insert(n.wrapping_mul(29), 0, true);
                    }
                });
                self.settle().await;
            }
            Step::Wait(seconds) => {
                for which in [0, 1] {
                    self.read(which).await;
                }
                self.wait(*seconds);
                for which in [0, 1] {
                    self.read(which).await;
                }
            }
            Step::Read(which) => self.read(*which).await,
            Step::Save(which) => {
                self.read(*which).await;
                self.save(*which);
            }
            Step::Kill(which) => {
                self.is_told = false;
                self.kill(*which);
            }
            Step::Start(which) => self.start(*which),
        }
    }

    /// Each exporter has counted what it has seen, once; one that begins anew has what is there.
    async fn check(&mut self) {
        self.settle().await;
        let counters = |follower: &mut Follower| view(follower, &self.plan, None).counters.unwrap();
        for (which, exporter) in self.exporters.iter_mut().enumerate() {
            let now = counters(exporter.follower.as_mut().unwrap());
            assert_eq!(sums(&now), plain(&exporter.saw), "exporter {which} and what it has seen");
        }
        let [one, other] = &mut self.exporters;
        let lines = [one, other].map(|it| series(&counters(it.follower.as_mut().unwrap())));
        let differ = |name: &&String| lines[0].get(*name) != lines[1].get(*name);
        let different: Vec<_> = lines[0].keys().chain(lines[1].keys()).filter(differ).collect();
        assert!(different.is_empty(), "the two exporters differ in {different:?}");

        let relay = self.relay.clone();
        let mut fresh = World { relay, stored: None, ..World::new(Utc::now(), false) };
        fresh.start(0);
        fresh.read(0).await;
        let afresh = sums(&counters(fresh.exporters[0].follower.as_mut().unwrap()));
        let there = plain(&fresh.exporters[0].saw);
        assert_eq!(afresh, there, "one that begins anew");
        let follower = self.exporters[0].follower.as_mut().unwrap();
        let long = counters(follower);
        if self.is_told {
            let of = |kind: &str| long.corrections_usd.iter().find(|(it, _)| *it == kind).unwrap().1 * 100.0;
            let ledger = plain(&self.exporters[0].saw).1 as f64 - of("lowered") - of("deleted") + of("rewritten");
            assert!((ledger - there.1 as f64).abs() < 1e-6, "{ledger} with corrections, {} in the ledger", there.1);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { count: u8, kind: u8, ago: i64 },
    Begin(u8),
    Commit,
    Finish(usize),
    Late { index: usize, what: u8 },
    Lower(usize),
    Delete(usize),
    Relabel(usize),
    Rewrite,
    Switch,
    Upgrade,
    Price,
    Backup,
    Restore { stopped: bool, later: u8 },
    Wait(i64),
    Read(usize),
    Save(usize),
    Kill(usize),
    Start(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<usize>;
    let ago = prop_oneof![4 => Just(0), 1 => 0..200_000_i64];
    prop_oneof![
        8 => (1..8_u8, any::<u8>(), ago).prop_map(|(count, kind, ago)| Step::Insert { count, kind, ago }),
        2 => any::<u8>().prop_map(Step::Begin),
        2 => Just(Step::Commit),
        3 => index().prop_map(Step::Finish),
        4 => (index(), any::<u8>()).prop_map(|(index, what)| Step::Late { index, what }),
        1 => index().prop_map(Step::Lower),
        1 => index().prop_map(Step::Delete),
        1 => index().prop_map(Step::Relabel),
        1 => Just(Step::Rewrite),
        1 => prop_oneof![Just(Step::Switch), Just(Step::Upgrade), Just(Step::Price)],
        1 => Just(Step::Backup),
        1 => (any::<bool>(), 0..40_u8).prop_map(|(stopped, later)| Step::Restore { stopped, later }),
        3 => prop_oneof![1..70_i64, 500..2000_i64, 40_000..90_000_i64].prop_map(Step::Wait),
        6 => (0..2_usize).prop_map(Step::Read),
        2 => (0..2_usize).prop_map(Step::Save),
        2 => (0..2_usize).prop_map(Step::Kill),
        4 => (0..2_usize).prop_map(Step::Start),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 4000, ..ProptestConfig::default() })]
    #[test]
    fn every_request_counts_once_in_every_history_and_no_counter_falls(
        priced in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut world = World::new(Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap(), priced);
        runtime.block_on(async {
            for step in &steps {
                world.play(step).await;
            }
            world.check().await;
        });
    }
}

/// The relay's clock is a little ahead of its database's, and a row has a start that is far ahead.
#[tokio::test]
async fn rows_that_start_ahead_of_the_clock_count_once_when_everything_is_read_anew() {
    let mut world = World::new(Utc::now(), false);
    world.start(0);
    world.relay.with(|relay| {
        for (kind, ago) in [(0, 3600), (2, -7200), (4, 60), (6, -8), (8, -3)] {
            relay.insert(kind, ago, true);
        }
    });
    world.read(0).await;
    world.wait(1200);
    world.relay.with(|relay| relay.insert(12, -5, true));
    world.read(0).await;
    for _ in 0..2 {
        world.play(&Step::Switch).await;
        world.check().await;
    }
}
