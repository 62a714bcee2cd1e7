//! The tally against sums worked out by hand from the rows as they are now: after random inserts, late updates,
//! deletions, duplicates and jumps of the clock, in time zones with and without clock changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Datelike, Days, Duration, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;
use llm_relay_exporter::model::*;
use llm_relay_exporter::settings::{Boards, SeriesBudget};
use llm_relay_exporter::tally::{Moment, Presentation, Tally};
use llm_relay_exporter::view::{Blocks, BoardEntry, CountersView, EntityCounters, LedgerView};
use proptest::prelude::*;

use crate::reading::Saved;

const ZONES: [Tz; 4] = [
    chrono_tz::Asia::Shanghai,
    chrono_tz::America::New_York,
    chrono_tz::Asia::Kathmandu,
    chrono_tz::Australia::Lord_Howe,
];

fn midnight(zone: Tz, date: NaiveDate) -> DateTime<Utc> {
    zone.from_local_datetime(&date.and_hms_opt(0, 0, 0).unwrap()).earliest().unwrap().to_utc()
}

fn calendar(zone: Tz, around: DateTime<Utc>) -> Arc<Calendar> {
    let today = around.with_timezone(&zone).date_naive();
    let days = (-70..=45).map(|n| today + Duration::days(n)).map(|date| (date, midnight(zone, date))).collect();
    Arc::new(Calendar::new(zone.name(), days).unwrap())
}

/// New York's clocks went back on 1 November 2026, Lord Howe's forward on 4 October.
pub fn moment(zone: Tz, now: DateTime<Utc>) -> Moment {
    let yesterday = now.with_timezone(&zone).naive_local() - Days::new(1);
    let same_time = zone.from_local_datetime(&yesterday).earliest().map_or(now - Duration::days(1), |at| at.to_utc());
    Moment { now, same_time_yesterday: same_time, calendar: calendar(zone, now) }
}

pub fn row(id: i64, started_at: DateTime<Utc>) -> UsageRow {
    UsageRow {
        id,
        request_id: id,
        started_at,
        counted: true,
        kind: RowKind::Request,
        imported: false,
        is_final: true,
        is_error: false,
        outcome: Some(Outcome::Success),
        is_success: Some(true),
        failure: None,
        user_id: 1,
        key_id: Some(11),
        team_id: None,
        organization_id: None,
        provider_id: 21,
        model: Some("claude-sonnet".into()),
        answered_model: None,
        status: Some(200),
        cost: Usd::from_f64(0.01).unwrap(),
        tokens: Tokens { input: 100, output: 50, cache_read: 30, ..Tokens::default() },
        board_tokens: 180,
        duration_ms: Some(4000),
        ttft_ms: Some(700),
        output_speed_micro: Some(12_500_000),
        list_cost: None,
        account_cost: None,
        cache_saved: None,
    }
}

fn directory(limits: Vec<Limit>) -> Directory {
    let user = |id: i64, deleted| User {
        id: id.into(),
        name: format!("user {id}"),
        role: "user".into(),
        enabled: Some(true),
        deleted,
        expires_at: None,
        sessions: None,
        requests_per_minute: None,
        balance: None,
    };
    let key = |id: i64| Key {
        id: id.into(),
        name: format!("key {id}"),
        user_id: Some((id - 10).into()),
        enabled: Some(true),
        deleted: false,
        expires_at: None,
        created_at: None,
        slots: None,
        sessions: None,
        counts_as: id.into(),
    };
    let provider = |id: i64| Provider {
        id: id.into(),
        name: format!("provider {id}"),
        kind: "claude".into(),
        group: String::new(),
        enabled: Some(true),
        deleted: false,
        slots: None,
    };
    let team = |id: i64| Team { id: id.into(), name: format!("team {id}"), organization_id: None, enabled: None };
    let organization = |id: i64| Organization { id: id.into(), name: format!("organization {id}") };
    Directory {
        users: vec![user(1, false), user(2, false), user(3, true)],
        keys: (11..=13).map(key).collect(),
        providers: (21..=23).map(provider).collect(),
        teams: (31..=33).map(team).collect(),
        organizations: (41..=43).map(organization).collect(),
        limits,
        ..Directory::default()
    }
}

fn limits(reset: DateTime<Utc>) -> Vec<Limit> {
    let mut limits = Vec::new();
    for (scope, first) in Scope::LIMITED.into_iter().zip([1_i64, 11, 31, 41, 21]) {
        for (id, since) in [(first, None), (first + 1, Some(reset))] {
            for (window, rule) in [
                (QuotaWindow::FiveHours, WindowRule::Rolling { hours: 5 }),
                (QuotaWindow::Daily, WindowRule::Rolling { hours: 24 }),
                (QuotaWindow::Daily, WindowRule::DailyAt { hour: 0, minute: 0 }),
                (QuotaWindow::Daily, WindowRule::DailyAt { hour: 9, minute: 30 }),
                (QuotaWindow::Weekly, WindowRule::Weekly),
                (QuotaWindow::Monthly, WindowRule::Monthly),
                (QuotaWindow::Total, WindowRule::Total),
            ] {
                limits.push(Limit {
                    scope,
                    id: id.into(),
                    window,
                    part: "".into(),
                    rule,
                    limit: Usd::from_f64(1e6),
                    soft_limit: None,
                    since,
                });
            }
        }
    }
    limits
}

fn view(tally: &mut Tally, directory: &Directory) -> LedgerView {
    tally.view(&Presentation {
        directory: Some(directory),
        live: None,
        boards: &Boards {
            top_users: 2,
            top_keys: 2,
            top_teams: 2,
            top_providers: 2,
            top_models: 2,
            ..Boards::default()
        },
        series: &SeriesBudget::default(),
    })
}

#[test]
fn money_given_back_ends_no_quota_and_lowers_no_counter() {
    let now = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
    let mut tally = Tally::new(moment(chrono_tz::Asia::Shanghai, now));
    tally.complete();
    let minutes = |n: i64| now - Duration::minutes(n);
    let saved = |id: i64, cents: i64| UsageRow {
        cache_saved: Some(Usd::from_f64(cents as f64 / 100.0).unwrap()),
        ..row(id, minutes(id))
    };
    tally.apply([saved(10, 50)]);
    let sum = |tally: &mut Tally| {
        let view = view(tally, &directory(limits(minutes(60))));
        let exhausted: Vec<_> = view.quotas.iter().filter_map(|it| it.exhausted_at).collect();
        assert!(exhausted.iter().all(|at| *at >= now), "{exhausted:?}");
        view.counters.unwrap().traffic.iter().map(|it| it.cache_saved_usd.unwrap()).sum::<f64>()
    };
    assert_eq!(sum(&mut tally), 0.5);
    // More is paid for writing into the cache than is saved by reading it, and more is given back than spent.
    tally.apply([UsageRow {
        cost: -(row(9, now).cost + row(10, now).cost + Usd::from_f64(1e-6).unwrap()),
        ..saved(9, -20)
    }]);
    assert_eq!(sum(&mut tally), 0.5);
}

/// What a run does to the ledger.
#[derive(Clone, Debug)]
enum Step {
    Insert { ago: i64, kind: u8, who: u8 },
    Finish(usize),
    LateCost(usize),
    Delete(usize),
    Block(usize),
    Again(usize),
    Wait(i64),
    Save,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    // Starts crowd around the edges of the windows.
    let ago = prop_oneof![
        0..200_i64,
        3500..3700_i64,
        17_900..18_100_i64,
        28_700..28_900_i64,
        82_000..91_000_i64,
        0..260_000_i64
    ];
    prop_oneof![
        8 => (ago, any::<u8>(), any::<u8>()).prop_map(|(ago, kind, who)| Step::Insert { ago, kind, who }),
        3 => any::<usize>().prop_map(Step::Finish),
        1 => any::<usize>().prop_map(Step::LateCost),
        1 => any::<usize>().prop_map(Step::Delete),
        1 => any::<usize>().prop_map(Step::Block),
        1 => any::<usize>().prop_map(Step::Again),
        1 => Just(Step::Save),
        1 => Just(Step::Restart),
        2 => prop_oneof![1..90_i64, 1000..9000_i64, 30_000..90_000_i64].prop_map(Step::Wait),
    ]
}

fn insert(id: i64, now: DateTime<Utc>, ago: i64, kind: u8, who: u8) -> UsageRow {
    let mut it = row(id, now - Duration::seconds(ago) + Duration::milliseconds(i64::from(kind) * 3));
    it.user_id = 1 + i64::from(who % 3);
    it.key_id = (who % 5 != 4).then_some(11 + i64::from(who % 3));
    it.team_id = (who % 7 != 6).then_some(31 + i64::from(who / 2 % 3));
    it.organization_id = (who % 3 != 2).then_some(41 + i64::from(who / 8 % 3));
    it.provider_id = 21 + i64::from(who / 4 % 4);
    it.model = [Some("a"), Some("b"), Some("c"), None][usize::from(who / 16 % 4)].map(Arc::from);
    it.cost = Usd::from_femto(i128::from(kind) * 1_234_567_890_123);
    it.board_tokens = u64::from(kind) * 7;
    it.duration_ms = (!kind.is_multiple_of(3)).then_some(u32::from(kind) * 40);
    match kind % 4 {
        0 => {
            it.is_final = false;
            it.outcome = None;
            it.status = None;
            it.cost = Usd::ZERO;
        }
        1 => {
            it.is_error = true;
            it.outcome = Some(Outcome::Failure);
            it.failure = Some(FailureClass::Server);
            it.status = Some(502);
        }
        2 => {
            it.is_error = true;
            it.outcome = Some(Outcome::Excluded);
            it.failure = Some(FailureClass::ClientAbort);
            it.status = Some(499);
        }
        _ => {}
    }
    // What is no request: only what it used is on a screen.
    if kind.is_multiple_of(23) {
        it.kind = RowKind::Charge;
        (it.is_final, it.is_error, it.outcome, it.failure, it.status) = (true, false, None, None, None);
        it.duration_ms = None;
    }
    it.is_success = it.outcome.and_then(Outcome::verdict);
    it
}

/// Those of the rows that are requests.
fn requests(rows: &[&UsageRow]) -> u64 {
    rows.iter().filter(|row| row.kind == RowKind::Request).count() as u64
}

/// The rows as they are now, and sums over them without any cleverness.
struct Naive<'a> {
    rows: Vec<&'a UsageRow>,
    moment: Moment,
}

impl Naive<'_> {
    fn between(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<&UsageRow> {
        // Whole seconds: that is the promise.
        let (from, to) = (from.timestamp(), to.timestamp());
        self.rows
            .iter()
            .copied()
            .filter(|row| row.counted && row.started_at.timestamp() >= from && row.started_at.timestamp() < to)
            .collect()
    }

    fn since(&self, from: DateTime<Utc>) -> Vec<&UsageRow> {
        self.between(from, Utc.with_ymd_and_hms(9999, 1, 1, 0, 0, 0).unwrap())
    }

    fn start(&self, date: NaiveDate) -> DateTime<Utc> {
        midnight(self.moment.calendar.zone().parse().unwrap(), date)
    }

    fn today(&self) -> NaiveDate {
        self.moment.calendar.date(self.moment.now).unwrap()
    }
}

fn cost(rows: &[&UsageRow]) -> f64 {
    rows.iter().map(|row| row.cost).sum::<Usd>().to_f64()
}

fn check(view: &LedgerView, naive: &Naive<'_>, limits: &[Limit]) {
    let today = naive.today();
    let yesterday = today.pred_opt().unwrap();
    let (midnight, tomorrow) = (naive.start(today), naive.start(today.succ_opt().unwrap()));
    let days: BTreeMap<_, _> = view.days.iter().map(|(day, sums)| (*day, sums)).collect();
    for (day, rows) in [
        ("today", naive.between(midnight, tomorrow)),
        ("yesterday", naive.between(naive.start(yesterday), midnight)),
        ("yesterday_same_time", naive.between(naive.start(yesterday), naive.moment.same_time_yesterday)),
    ] {
        let sums = days[day];
        assert_eq!(sums.requests, requests(&rows), "{day}");
        assert_eq!(sums.cost_usd, Some(cost(&rows)), "{day}");
        let durations: Vec<u64> = rows.iter().filter_map(|row| row.duration_ms).map(u64::from).collect();
        let mean = durations.iter().sum::<u64>() as f64 / durations.len() as f64 / 1e3;
        assert_eq!(sums.mean_duration_seconds, (!durations.is_empty()).then_some(mean), "{day}");
        let errors = rows.iter().filter(|row| row.is_error).count();
        assert_eq!(sums.error_ratio, Some(errors as f64 / requests(&rows).max(1) as f64), "{day}");
    }

    let now = naive.moment.now;
    let first = naive.start(today.with_day(1).unwrap());
    let monday = naive.start(today - Days::new(u64::from(today.weekday().num_days_from_monday())));
    for (window, rows) in [
        ("1m", naive.since(now - Duration::seconds(60))),
        ("1h", naive.since(now - Duration::hours(1))),
        ("8h", naive.since(now - Duration::hours(8))),
        ("24h", naive.since(now - Duration::hours(24))),
        ("month", naive.since(first)),
    ] {
        let (_, counts) = view.windows.iter().find(|(label, _)| *label == window).unwrap();
        let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count() as u64;
        let (success, failure) = (count(Some(Outcome::Success)), count(Some(Outcome::Failure)));
        assert_eq!(*counts, [success, failure, requests(&rows) - success - failure], "{window}");
    }
    let minute = naive.since(now - Duration::seconds(60));
    assert_eq!(view.requests_last_minute, Some(requests(&minute) as f64));
    assert_eq!(view.tokens_last_minute, Some(minute.iter().map(|row| row.board_tokens).sum::<u64>() as f64));

    let step = Duration::minutes(30);
    let (first_step, last_step) = (view.course.first().unwrap(), view.course.last().unwrap());
    assert!((0..1800).contains(&(now - last_step.start).num_seconds()), "{last_step:?} runs at {now}");
    assert_eq!((view.course.len(), last_step.start - first_step.start), (49, step * 48));
    for it in &view.course {
        let rows = naive.between(it.start, it.start + step);
        assert_eq!((it.requests, it.cost_usd), (requests(&rows), Some(cost(&rows))), "{}", it.start);
    }

    for (period, rows) in [
        ("today", naive.between(midnight, tomorrow)),
        ("last24h", naive.since(now - Duration::hours(24))),
        ("week", naive.since(monday)),
        ("month", naive.since(first)),
        ("all", naive.since(DateTime::UNIX_EPOCH)),
    ] {
        for scope in Scope::ALL {
            let board =
                view.boards.iter().find(|board| board.scope == scope && board.period.label() == period).unwrap();
            assert_board(&board.entries, scope, &rows);
        }
    }

    assert_eq!(view.quotas.iter().count(), limits.len());
    for (quota, limit) in view.quotas.iter().zip(limits) {
        let start = match limit.rule {
            WindowRule::Rolling { hours } => now - Duration::hours(hours.into()),
            WindowRule::DailyAt { hour: 0, minute: 0 } => midnight,
            WindowRule::DailyAt { hour, minute } => {
                let zone: Tz = naive.moment.calendar.zone().parse().unwrap();
                let reset = zone.from_local_datetime(&today.and_hms_opt(hour, minute, 0).unwrap()).earliest().unwrap();
                if now < reset.to_utc() { reset.to_utc() - Duration::hours(24) } else { reset.to_utc() }
            }
            WindowRule::Weekly => monday,
            WindowRule::Monthly => first,
            WindowRule::Total | WindowRule::Live | WindowRule::Told { .. } => DateTime::UNIX_EPOCH,
        };
        let rows = naive.since(start.max(limit.since.unwrap_or(start)));
        let mine: Vec<_> = rows
            .into_iter()
            .filter(|row| match limit.scope {
                Scope::User => Some(row.user_id) == limit.id.number(),
                Scope::Key => row.key_id == limit.id.number(),
                Scope::Team => row.team_id == limit.id.number(),
                Scope::Organization => row.organization_id == limit.id.number(),
                Scope::Provider => Some(row.provider_id) == limit.id.number(),
                Scope::Model => false,
            })
            .collect();
        assert_eq!(quota.used_usd, Some(cost(&mine)), "{limit:?}");
    }
}

fn assert_board(entries: &[BoardEntry], scope: Scope, rows: &[&UsageRow]) {
    let known = |row: &UsageRow| -> Option<String> {
        match scope {
            Scope::User => (row.user_id != 3).then(|| row.user_id.to_string()),
            Scope::Key => row.key_id.map(|key| key.to_string()),
            Scope::Team => row.team_id.map(|team| team.to_string()),
            Scope::Organization => row.organization_id.map(|organization| organization.to_string()),
            Scope::Provider => (row.provider_id <= 23).then(|| row.provider_id.to_string()),
            Scope::Model => row.model.as_deref().map(str::to_owned),
        }
    };
    let mut groups: BTreeMap<String, Vec<&UsageRow>> = BTreeMap::new();
    for row in rows {
        if let Some(id) = known(row) {
            groups.entry(id).or_default().push(row);
        }
    }
    let (other, ranked) = entries.split_last().unwrap();
    assert_eq!(other.id, "other");
    assert_eq!(ranked.len(), groups.len().min(2));
    for entry in ranked {
        let rows = &groups[&entry.id];
        assert_eq!(entry.cost_usd, Some(cost(rows)));
        assert_eq!(entry.requests, Some(requests(rows)));
        assert_eq!(entry.tokens, Some(rows.iter().map(|row| row.board_tokens).sum::<u64>()));
        let success = rows.iter().filter(|row| row.outcome == Some(Outcome::Success)).count() as f64;
        let failure = rows.iter().filter(|row| row.outcome == Some(Outcome::Failure)).count() as f64;
        let ratio = success / (success + failure);
        assert_eq!(entry.success_ratio, Some(ratio).filter(|ratio| !ratio.is_nan()));
    }
    let least = ranked.iter().filter_map(|entry| entry.cost_usd).fold(f64::INFINITY, f64::min);
    for (id, rows) in &groups {
        assert!(ranked.iter().any(|entry| entry.id == *id) || cost(rows) <= least, "{id} is missing");
    }
    assert_eq!(entries.iter().filter_map(|entry| entry.requests).sum::<u64>(), requests(rows));
    let sum: f64 = entries.iter().filter_map(|entry| entry.cost_usd).sum();
    assert!((sum - cost(rows)).abs() < 1e-9);
}

fn save(tally: &mut Tally, saved: &mut Saved) {
    saved.keep(tally.parts(saved.0.is_empty()).unwrap(), |bytes| bytes.get());
}

/// Every counter as a line. The order of a hash map is nobody's business: the page sorts.
pub fn counter_lines(counters: &CountersView) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(counters.traffic.iter().map(|it| format!("{it:?}")));
    lines.extend(counters.latency.iter().map(|it| format!("{it:?}")));
    lines.extend(counters.responses.iter().map(|it| format!("response {it:?}")));
    lines.extend(counters.failures.iter().map(|it| format!("failure {it:?}")));
    lines.extend(counters.users.iter().map(|it| format!("user {it:?}")));
    lines.extend(counters.keys.iter().map(|it| format!("key {it:?}")));
    lines.extend(counters.teams.iter().map(|it| format!("team {it:?}")));
    lines.extend(counters.organizations.iter().map(|it| format!("organization {it:?}")));
    lines.extend(counters.wasted.iter().map(|it| format!("wasted {it:?}")));
    lines.extend(counters.unpriced.iter().map(|it| format!("unpriced {it:?}")));
    lines.extend(counters.substitutions.iter().map(|it| format!("substitution {it:?}")));
    lines.sort();
    lines
}

fn counters(tally: &mut Tally, directory: &Directory) -> (Vec<String>, Vec<(&'static str, u64)>) {
    let counters = view(tally, directory).counters.unwrap();
    (counter_lines(&counters), counters.corrections)
}

/// Plays the steps; the tally sees only versions of rows, the naive sums see the ledger.
fn play(zone: Tz, start: DateTime<Utc>, steps: &[Step]) {
    let mut now = start;
    let reset = start - Duration::hours(30);
    let limits = limits(reset);
    let directory = directory(limits.clone());
    let mut tally = Tally::new(moment(zone, now));
    tally.complete();
    let mut ledger: Vec<UsageRow> = Vec::new();
    let mut next_id = 1;
    let mut saved = Saved::default();
    for step in steps {
        let len = ledger.len();
        let pick = |index: usize| index % len.max(1);
        match step {
            Step::Insert { ago, kind, who } => {
                ledger.push(insert(next_id, now, *ago, *kind, *who));
                next_id += 1;
                tally.apply(ledger.last().cloned());
            }
            Step::Wait(seconds) => {
                now += Duration::seconds(*seconds);
                // Nothing settles: that rows of any age may change is the harder case.
                tally.advance(moment(zone, now));
            }
            Step::Save => save(&mut tally, &mut saved),
            Step::Restart => {
                save(&mut tally, &mut saved);
                let before = counters(&mut tally, &directory);
                tally = Tally::restore(&mut saved.0.clone()).unwrap();
                assert_eq!(counters(&mut tally, &directory), before);
            }
            _ if len == 0 => {}
            Step::Finish(index) => {
                let row = &mut ledger[pick(*index)];
                if !row.is_final {
                    row.is_final = true;
                    row.outcome = Some(Outcome::Success);
                    row.is_success = Some(true);
                    row.status = Some(200);
                    row.cost = Usd::from_femto(777_000_000_000_123);
                    row.duration_ms = Some(90_000);
                }
                let row = row.clone();
                tally.apply([row]);
            }
            Step::LateCost(index) => {
                let row = &mut ledger[pick(*index)];
                row.cost += Usd::from_femto(55_000_000_000_001);
                let row = row.clone();
                tally.apply([row]);
            }
            Step::Block(index) => {
                let row = &mut ledger[pick(*index)];
                row.counted = false;
                let row = row.clone();
                tally.apply([row]);
            }
            Step::Delete(index) => {
                let row = ledger.remove(pick(*index));
                tally.looked_at(&[row.request_id], &hashbrown::HashSet::new());
            }
            Step::Again(index) => {
                let row = ledger[pick(*index)].clone();
                tally.apply([row.clone(), row]);
            }
        }
        // Marks that need the store are answered as the store would.
        view(&mut tally, &directory);
        for want in tally.take_pending_sums() {
            let spent = ledger
                .iter()
                .filter(|row| row.counted && row.started_at >= want.range.start && row.started_at < want.range.end)
                .filter(|row| match want.scope {
                    Scope::User => row.user_id == want.id,
                    Scope::Key => row.key_id == Some(want.id),
                    Scope::Team => row.team_id == Some(want.id),
                    Scope::Organization => row.organization_id == Some(want.id),
                    Scope::Provider => row.provider_id == want.id,
                    Scope::Model => false,
                })
                .map(|row| row.cost)
                .sum();
            tally.answer(&[(want, spent)]);
        }
        let naive = Naive { rows: ledger.iter().collect(), moment: moment(zone, now) };
        check(&view(&mut tally, &directory), &naive, &limits);
    }
}

proptest! {
    #[test]
    fn every_number_equals_a_plain_sum_after_every_step(
        zone in prop::sample::select(ZONES.to_vec()),
        // Around the clock changes of New York and Lord Howe, and the turn of a month.
        start in prop_oneof![
            Just(Utc.with_ymd_and_hms(2026, 11, 1, 3, 30, 0).unwrap()),
            Just(Utc.with_ymd_and_hms(2026, 10, 3, 14, 0, 0).unwrap()),
            Just(Utc.with_ymd_and_hms(2026, 3, 8, 5, 0, 0).unwrap()),
            (0..40_000_000_i64).prop_map(|n| Utc.timestamp_opt(1_760_000_000 + n, 0).unwrap()),
        ],
        steps in prop::collection::vec(step(), 1..40),
    ) {
        play(zone, start, &steps);
    }

    #[test]
    fn dollars_are_the_nearest_float(femto in prop_oneof![any::<i128>(), (-1_i128 << 70)..1 << 70, -9_999_i128..9_999]) {
        let (whole, rest) = (femto.unsigned_abs() / 10_u128.pow(15), femto.unsigned_abs() % 10_u128.pow(15));
        let decimal = format!("{}{whole}.{rest:015}", if femto < 0 { "-" } else { "" });
        prop_assert_eq!(Usd::from_femto(femto).to_f64(), decimal.parse::<f64>().unwrap());
    }

    #[test]
    fn batches_order_and_repetition_make_no_difference(
        kinds in prop::collection::vec((0..200_000_i64, any::<u8>(), any::<u8>()), 1..60),
        order in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let now = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
        let zone = chrono_tz::Asia::Shanghai;
        let rows: Vec<_> =
            kinds.iter().enumerate().map(|(i, (ago, kind, who))| insert(i as i64 + 1, now, *ago, *kind, *who)).collect();
        let directory = directory(Vec::new());
        let total = |batches: Vec<Vec<UsageRow>>, restarts: bool| {
            let mut tally = Tally::new(moment(zone, now));
            let mut saved = Saved::default();
            for batch in batches {
                tally.apply(batch);
                if restarts {
                    save(&mut tally, &mut saved);
                    tally = Tally::restore(&mut saved.0.clone()).unwrap();
                }
            }
            tally.complete();
            let mut view = view(&mut tally, &directory);
            let lines = counter_lines(&view.counters.take().unwrap());
            (format!("{view:?}"), lines)
        };
        let straight = total(vec![rows.clone()], false);
        // Backwards, as history is read.
        let backwards = || rows.iter().rev().map(|row| vec![row.clone()]).collect();
        prop_assert_eq!(&straight, &total(backwards(), false));
        prop_assert_eq!(&straight, &total(backwards(), true), "restarted after every row");
        // In two parts that overlap.
        let cut = order.index(rows.len());
        let overlap = cut.saturating_sub((seed % 7) as usize);
        let parts = total(vec![rows[..cut].to_vec(), rows[overlap..].to_vec()], false);
        prop_assert_eq!(&straight, &parts);
    }
}

#[test]
fn counters_keep_what_the_ledger_loses_and_gauges_follow_it() {
    let now = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
    let zone = chrono_tz::Asia::Shanghai;
    let directory = directory(Vec::new());
    let mut tally = Tally::new(moment(zone, now));
    tally.complete();
    tally.apply((1..=3).map(|id| row(id, now - Duration::seconds(id))));
    tally.looked_at(&[2], &hashbrown::HashSet::new());
    let mut lowered = row(3, now - Duration::seconds(3));
    lowered.cost = Usd::from_f64(0.004).unwrap();
    tally.apply([lowered]);

    let view = view(&mut tally, &directory);
    let today = &view.days[0].1;
    assert_eq!((today.requests, today.cost_usd), (2, Some(0.014)));
    let counters = view.counters.unwrap();
    assert_eq!(counters.traffic[0].requests, [3, 0, 0]);
    assert_eq!(counters.traffic[0].cost_usd, Some(0.03));
    let [late, lowered, deleted, rewritten, reclassified] =
        ["late_cost", "lowered", "deleted", "rewritten", "reclassified"];
    let rows = [(late, 0), (lowered, 1), (deleted, 1), (rewritten, 0), (reclassified, 0)];
    assert_eq!(counters.corrections, rows);
    let dollars = [(late, 0.0), (lowered, 0.006), (deleted, 0.01), (rewritten, 0.0)];
    assert_eq!(counters.corrections_usd, dollars, "$0.03 were counted, $0.014 are there");
}

#[test]
fn failed_attempts_and_refunds_are_in_counters_and_on_no_screen() {
    let now = Utc.with_ymd_and_hms(2026, 11, 21, 9, 0, 0).unwrap();
    let day = now.with_timezone(&chrono_tz::Asia::Shanghai).date_naive();
    let at = now - Duration::seconds(30);
    let attempt = UsageRow {
        kind: RowKind::FailedAttempt,
        outcome: Some(Outcome::Failure),
        is_success: None,
        failure: Some(FailureClass::Server),
        status: Some(500),
        cost: Usd::ZERO,
        tokens: Tokens::default(),
        board_tokens: 0,
        user_id: 2,
        provider_id: 22,
        ..row(2, at)
    };
    let refund = UsageRow { kind: RowKind::Refund(Usd::from_f64(0.25).unwrap()), provider_id: 23, ..attempt.clone() };
    let rows = vec![row(1, at), attempt.clone(), UsageRow { id: 3, request_id: 3, ..refund }];
    let shown = |tally: &mut Tally| {
        let it = view(tally, &directory(Vec::new()));
        let on_boards: Vec<_> = it.boards.iter().flat_map(|board| &board.entries).map(|it| it.id.clone()).collect();
        assert!(!on_boards.iter().any(|id| ["2", "22", "23"].contains(&id.as_str())), "{on_boards:?}");
        (it.requests_last_minute, it.days[0].1.requests, it.windows[0].1, it.counters.unwrap())
    };
    let mut tally = Tally::new(moment(chrono_tz::Asia::Shanghai, now));
    tally.complete();
    tally.apply(rows.clone());
    let is_right = |tally: &mut Tally, deleted: u64| {
        let (minute, requests, window, counters) = shown(tally);
        assert_eq!((minute, requests, window), (Some(1.0), 1, [1, 0, 0]));
        assert_eq!(counters.failures, [("22".to_owned(), "server", 1)]);
        assert_eq!(counters.refunds, [("23".to_owned(), 0.25)]);
        assert_eq!(counters.users.iter().map(|user| user.requests).sum::<u64>(), 2);
        assert_eq!(counters.corrections.iter().find(|(kind, _)| *kind == "deleted"), Some(&("deleted", deleted)));
        assert_eq!(tally.day_sum(day).requests, 1);
    };
    is_right(&mut tally, 0);
    tally.replace_day(day, rows);
    is_right(&mut tally, 0);
    tally.looked_at(&[2], &hashbrown::HashSet::new());
    is_right(&mut tally, 1);
}

#[test]
fn recovered_attempts_are_no_requests_and_each_money_is_summed_by_itself() {
    let now = Utc.with_ymd_and_hms(2026, 11, 21, 9, 0, 0).unwrap();
    let at = now - Duration::seconds(30);
    let recovered = UsageRow {
        kind: RowKind::RecoveredAttempt,
        outcome: Some(Outcome::Excluded),
        is_success: None,
        failure: Some(FailureClass::Overloaded),
        cost: Usd::ZERO,
        tokens: Tokens::default(),
        provider_id: 22,
        ..row(2, at)
    };
    let usd = |dollars| Usd::from_f64(dollars);
    let priced = UsageRow { list_cost: usd(0.25), account_cost: usd(0.5), ..row(1, at) };
    let yesterday = UsageRow { list_cost: usd(0.125), ..row(3, at - Duration::days(1)) };
    let mut tally = Tally::new(moment(chrono_tz::Asia::Shanghai, now));
    tally.complete();
    tally.apply([priced.clone(), recovered, yesterday, row(4, at)]);
    let shown = view(&mut tally, &directory(Vec::new()));
    let lists: Vec<_> = shown.days.iter().map(|(day, it)| (*day, it.list_cost_usd)).collect();
    assert_eq!(lists, [("today", Some(0.25)), ("yesterday_same_time", None), ("yesterday", Some(0.125))]);
    let counters = shown.counters.unwrap();
    assert_eq!(counters.recovered, [("22".to_owned(), "overloaded", 1)]);
    assert_eq!(counters.traffic.iter().count(), 1, "{:?}", counters.traffic);
    let traffic = &counters.traffic[0];
    assert_eq!((traffic.requests, traffic.cost_usd), ([3, 0, 0], Some(0.03)));
    assert_eq!((traffic.list_cost_usd, traffic.account_cost_usd), (Some(0.375), Some(0.5)));
    assert_eq!(counters.keys[0].list_cost_usd, Some(0.375));
    // A row that is gone takes its list price out of its day.
    tally.looked_at(&[1], &hashbrown::HashSet::new());
    assert_eq!(view(&mut tally, &directory(Vec::new())).days[0].1.list_cost_usd, Some(0.0));
}

#[test]
fn a_repaired_day_counts_each_row_that_was_missed_and_lowers_only_gauges() {
    let now = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
    let zone = chrono_tz::Asia::Shanghai;
    let directory = directory(Vec::new());
    let mut tally = Tally::new(moment(zone, now));
    tally.complete();
    let today = tally.today();
    let rows: Vec<_> = (1..=10).map(|id| row(id, now - Duration::seconds(id * 1000))).collect();
    tally.apply(rows.iter().take(8).cloned());
    // The ledger lost rows 1 and 2, and has 9 and 10, which no cursor saw.
    let ledger: Vec<_> = rows.iter().skip(2).cloned().collect();
    assert_ne!(tally.day_sum(today).cost, ledger.iter().map(|row| row.cost).sum::<Usd>() + Usd::from_femto(1));
    tally.replace_day(today, ledger.clone());
    let naive = Naive { rows: ledger.iter().collect(), moment: moment(zone, now) };
    check(&view(&mut tally, &directory), &naive, &[]);
    assert_eq!(
        totals(&mut tally),
        [(10, 10); 3],
        "eight that were counted, two of which are gone, and the two that were missed"
    );

    // The two are back, with two more that no cursor saw.
    let more: Vec<_> = rows.iter().cloned().chain([row(11, now), row(12, now)]).collect();
    tally.replace_day(today, more.clone());
    assert_eq!(totals(&mut tally), [(12, 12); 3]);
}

#[test]
fn models_are_admitted_by_their_first_success_and_other_never_falls() {
    let now = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
    let zone = chrono_tz::Asia::Shanghai;
    let named = |id: i64, model: &str, success: bool| {
        let mut it = row(id, now);
        it.model = Some(model.into());
        if !success {
            it.outcome = Some(Outcome::Failure);
            it.failure = Some(FailureClass::Server);
            it.status = Some(500);
        }
        it
    };
    // "late" fails once before it succeeds; "never" never does; "third" is over the budget of two.
    let rows = [
        named(1, "late", false),
        named(2, "first", true),
        named(3, "never", false),
        named(4, "late", true),
        named(5, "late", false),
        named(6, "third", true),
    ];
    let labels = |order: &[usize]| {
        let mut tally = Tally::new(moment(zone, now));
        order.iter().for_each(|index| tally.apply([rows[*index].clone()]));
        tally.complete();
        let view = tally.view(&Presentation {
            directory: None,
            live: None,
            boards: &Boards::default(),
            series: &SeriesBudget { max_models: 2, ..SeriesBudget::default() },
        });
        let mut traffic: Vec<_> = view
            .counters
            .unwrap()
            .traffic
            .iter()
            .map(|it| (it.model.clone(), it.requests[0], it.requests[1]))
            .collect();
        traffic.sort();
        let folded = view.folded.iter().find(|(dimension, _)| *dimension == "model").unwrap().1;
        (traffic, folded)
    };
    let expected = (vec![("first".to_owned(), 1, 0), ("late".to_owned(), 1, 1), ("other".to_owned(), 1, 2)], 1);
    assert_eq!(labels(&[0, 1, 2, 3, 4, 5]), expected, "as it happened");
    assert_eq!(labels(&[5, 4, 3, 2, 1, 0]), expected, "as history is read");
}

#[test]
fn a_model_that_is_called_other_is_a_part_of_the_rest() {
    let now = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
    let mut tally = Tally::new(moment(chrono_tz::Asia::Shanghai, now));
    // The name of the rest costs most.
    let models = ["other", "other", "a", "a", "b", "c"];
    tally.apply((1..).zip(models).map(|(id, model)| UsageRow { model: Some(model.into()), ..row(id, now) }));
    tally.complete();
    let view = view(&mut tally, &directory(Vec::new()));
    let mut key: Vec<_> = view.key_models.iter().map(|(key, model, count)| (&**key, &**model, *count)).collect();
    key.sort_unstable();
    assert_eq!(key, [("11", "a", 2), ("11", "b", 1), ("11", "other", 3)]);
    for board in view.boards.iter().filter(|board| board.scope == Scope::Model) {
        let entries: Vec<_> = board.entries.iter().map(|it| (&*it.id, it.requests)).collect();
        assert_eq!(entries, [("a", Some(2)), ("b", Some(1)), ("other", Some(3))], "{:?}", board.period);
    }
}

#[test]
fn a_row_that_nobody_looked_at_for_a_while_is_looked_at_before_it_is_let_go() {
    let start = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
    let zone = chrono_tz::Asia::Shanghai;
    let mut tally = Tally::new(moment(zone, start));
    tally.complete();
    tally.apply([row(1, start - Duration::seconds(10))]);
    // The relay's database, or the exporter, was away for an hour; meanwhile the cost has grown.
    let mut saved = Saved::default();
    save(&mut tally, &mut saved);
    let mut tally = Tally::restore(&mut saved.0.clone()).unwrap();
    tally.advance(moment(zone, start + Duration::hours(1)));
    tally.settle(10);
    assert_eq!(tally.due(), [1]);
    let mut late = row(1, start - Duration::seconds(10));
    late.cost = Usd::from_f64(0.05).unwrap();
    tally.apply([late]);
    tally.looked_at(&[1], &[1].into());
    // Later rows come, and it is let go.
    tally.apply((21..=40).map(|id| row(id, start - Duration::seconds(10))));
    tally.settle(40);
    assert!(!tally.unsettled().contains(&1));
    let counters = view(&mut tally, &directory(Vec::new())).counters.unwrap();
    assert_eq!(counters.traffic[0].cost_usd, Some(0.25));
}

/// Requests and dollars by every family that has them.
fn totals(tally: &mut Tally) -> [(u64, i64); 3] {
    let counters = view(tally, &directory(Vec::new())).counters.unwrap();
    let cents = |usd: f64| (usd * 100.0).round() as i64;
    let traffic = counters.traffic.iter().map(|it| (it.requests.iter().sum(), cents(it.cost_usd.unwrap())));
    let of = |it: &Blocks<EntityCounters>| {
        it.iter().fold((0, 0), |sum, it| (sum.0 + it.requests, sum.1 + cents(it.cost_usd.unwrap())))
    };
    let traffic = traffic.fold((0, 0), |sum, it: (u64, i64)| (sum.0 + it.0, sum.1 + it.1));
    [traffic, of(&counters.users), of(&counters.keys)]
}

#[test]
fn what_runs_is_told_by_user_without_what_runs_at_deleted_providers() {
    let now = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
    let at = |id: i64| now - Duration::seconds(100 - id);
    let runs = |id: i64, user_id, provider_id| UsageRow {
        is_final: false,
        outcome: None,
        user_id,
        provider_id,
        ..row(id, at(id))
    };
    let mut tally = Tally::new(moment(chrono_tz::Asia::Shanghai, now));
    tally.complete();
    let ended = UsageRow { user_id: 1, provider_id: 22, ..row(1, at(1)) };
    tally.apply([ended, runs(2, 1, 21), runs(3, 2, 21), runs(4, 2, 21), runs(5, 2, 23)]);
    let mut directory = directory(Vec::new());
    directory.providers[2].deleted = true;
    let told = view(&mut tally, &directory);
    assert_eq!(told.requests_in_progress, Some(3));
    assert_eq!(told.user_requests_in_progress, [("1".to_owned(), 1), ("2".to_owned(), 2)]);
    let last = [(21, 4), (22, 1), (23, 5)].map(|(provider, id)| (provider.to_string(), at(id).timestamp()));
    assert_eq!(told.last_requests, last);
}

#[test]
fn rows_that_come_to_mean_something_else_are_not_counted_again() {
    let now = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
    let zone = chrono_tz::Asia::Shanghai;
    let at = |id: i64| now - Duration::seconds(2000 - id);
    let in_flight = |id: i64| UsageRow { is_final: false, outcome: None, ..row(id, at(id)) };
    let mut tally = Tally::new(moment(zone, now));
    tally.complete();
    // Row 5 has not become visible yet, 3 is in flight since long ago, 10 since just now.
    let seen = [1, 2, 4, 6, 7, 8, 9].map(|id| row(id, at(id)));
    tally.apply(seen.iter().cloned().chain([in_flight(3), in_flight(10)]));
    tally.settle(4);
    assert_eq!(totals(&mut tally), [(7, 7); 3]);

    // The relay bills by another model, and its release tells other outcomes: everything is read again, newest first.
    let mut ledger: Vec<_> = (1..=10).rev().map(|id| row(id, at(id))).collect();
    ledger[0] = in_flight(10);
    for row in &mut ledger {
        row.model = Some("redirected".into());
        row.outcome = row.outcome.map(|_| Outcome::Failure);
    }
    for _ in 0..3 {
        tally = tally.restart(moment(zone, now));
        tally.apply(ledger.iter().cloned());
        tally.settle(4);
        tally.complete();
        assert_eq!(totals(&mut tally), [(9, 9); 3], "3 has ended and 5 has become visible; all else was counted");
    }
    tally.apply([row(10, at(10)), row(11, now)]);
    assert_eq!(totals(&mut tally), [(11, 11); 3]);
}

#[test]
fn after_a_restore_every_row_that_may_have_changed_is_due() {
    let now = Utc.with_ymd_and_hms(2026, 6, 3, 12, 0, 0).unwrap();
    let zone = chrono_tz::Asia::Shanghai;
    let mut tally = Tally::new(moment(zone, now));
    tally.complete();
    tally.apply((1..=5).map(|id| row(id, now - Duration::seconds(id * 100))));
    tally.settle(4);
    assert_eq!(tally.due(), Vec::<i64>::new(), "they have just been read");
    let mut saved = Saved::default();
    save(&mut tally, &mut saved);
    let restored = Tally::restore(&mut saved.0.clone()).unwrap();
    let mut due = restored.due();
    due.sort_unstable();
    assert_eq!(due, [1, 2, 3, 4, 5], "a cost that another process has shown may be in any");
}
