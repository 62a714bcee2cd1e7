//! A relay with something to say about every metric of the catalogue.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeZone, Utc};
use llm_relay_exporter::exporter_info::{ExporterInfo, Process};
use llm_relay_exporter::model::{
    AccountReturn, AccountState, AccountTest, Balance, Circuit, Collector, Directory, ErrorCount, Key, Live,
    Organization, Period, Provider, Queue, QuotaWindow, RateWindow, ReadError, Reason, Scope, Source, Subscription,
    SubscriptionStatus, Team, Usd, User,
};
use llm_relay_exporter::probe::Last;
use llm_relay_exporter::reload::Reload;
use llm_relay_exporter::view::{
    AuditView, Board, BoardEntry, CountersView, CourseStep, DayView, EntityCounters, HistogramView, LatencyView,
    LedgerView, NameMode, ProbeStatus, QuotaView, SourceStatus, StoreStatus, TrafficView, View,
};

pub fn at(second: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_795_000_000 + second, 0).unwrap()
}

pub fn view(relay: &str) -> View {
    View {
        relay: relay.into(),
        // Of no kind that exists: each of those has something that it cannot tell.
        kind: "every-relay",
        names: NameMode::Name,
        ledger: Some(Arc::new(ledger())),
        live: Some(Arc::new(live())),
        directory: Some(Arc::new(directory())),
        sources: [Source::Ledger, Source::Live, Source::Directory].map(healthy).into(),
        probe: Some(ProbeStatus { last: Some(Last { up: true, seconds: 0.012 }), failures: [0, 3, 0, 1, 0, 0] }),
        store: Some(StoreStatus {
            restored: true,
            up: true,
            writer: true,
            last_save: Some(at(-7)),
            bytes: 54_321,
            failures: 2,
        }),
    }
}

/// A relay of which nothing could be read so far.
pub fn unread(relay: &str) -> View {
    let sources = [Source::Ledger, Source::Live, Source::Directory].map(|source| SourceStatus {
        up: false,
        last_success: None,
        failures: vec![(Reason::Connection, 1)],
        rows_read: 0,
        problem: Some(ReadError::new(Reason::Connection, "refused by db.internal:5432")),
        ..healthy(source)
    });
    View { ledger: None, live: None, directory: None, sources: sources.into(), probe: None, store: None, ..view(relay) }
}

pub fn own() -> ExporterInfo {
    let process = Process {
        cpu_seconds: Some(1.25),
        open_fds: Some(12.0),
        max_fds: Some(1024.0),
        virtual_memory_bytes: Some(1e9),
        resident_memory_bytes: Some(2e7),
        start_time_seconds: Some(1_795_000_000.25),
    };
    ExporterInfo {
        version: "0.1.0",
        revision: "abc",
        rustc: "1.95.0",
        process,
        config: Some(Reload { successful: false, last_success: at(0) }),
        web_config: Some(Reload { successful: true, last_success: at(0) }),
    }
}

pub fn healthy(source: Source) -> SourceStatus {
    SourceStatus {
        source,
        up: true,
        last_success: Some(at(0)),
        refresh_seconds: full_histogram(),
        failures: vec![(Reason::Timeout, 2), (Reason::Connection, 0)],
        skipped: 1,
        rows_read: 4321,
        statements: vec![("audit", true), ("clock", false)],
        problem: None,
    }
}

/// Three requests: one in the first bucket, none in the second, two beyond the last bound.
pub fn full_histogram() -> HistogramView {
    HistogramView { bounds: &[0.1, 2.5], buckets: vec![1, 0, 2], sum: 61.7 }
}

fn ledger() -> LedgerView {
    let day = DayView {
        requests: 120,
        cost_usd: Some(1.5),
        list_cost_usd: Some(1.75),
        mean_duration_seconds: Some(3.25),
        error_ratio: Some(0.05),
    };
    let board = |scope| Board {
        renewed_at: Some(at(-900)),
        scope,
        period: Period::Today,
        entries: vec![entry("7", "alice", 0.75), entry("other", "other", 0.25)],
    };
    LedgerView {
        requests_in_progress: Some(3),
        user_requests_in_progress: vec![("7".into(), 3)],
        last_requests: vec![("3".into(), at(-5).timestamp())],
        requests_last_minute: Some(14.0),
        tokens_last_minute: Some(52_000.0),
        days: vec![("today", day.clone()), ("yesterday_same_time", day.clone()), ("yesterday", day)],
        day_start: Some(at(-3600)),
        windows: vec![("1m", [10, 2, 2]), ("24h", [1000, 20, 2])],
        course: (0..49).map(course_step).collect(),
        boards: Scope::ALL.map(board).into(),
        key_models: vec![("4".into(), "claude-sonnet-4".into(), 50), ("4".into(), "other".into(), 10)],
        quotas: vec![QuotaView {
            scope: Scope::Key,
            id: 4.into(),
            window: QuotaWindow::FiveHours,
            part: "group:vip".into(),
            limit_usd: Some(20.0),
            soft_limit_usd: Some(15.0),
            used_usd: Some(12.5),
            resets_at: Some(at(7200)),
            exhausted_at: Some(at(3600)),
        }]
        .into(),
        counters: Some(counters()),
        history_loaded: 1.0,
        lag_seconds: Some(0.5),
        zone_error_seconds: Some(-28_800.0),
        rows_left_out: Some(3),
        audit: Some(AuditView { at: at(-60), drift_requests: 0.0, drift_cost_usd: Some(-0.25) }),
        folded: vec![("model", 0)],
    }
}

fn course_step(step: i64) -> CourseStep {
    let requests = (step as u64 * 7) % 30;
    CourseStep { start: at(1800 * (step - 49)), requests, cost_usd: Some(requests as f64 / 4.0) }
}

fn entry(id: &str, name: &str, cost_usd: f64) -> BoardEntry {
    BoardEntry {
        id: id.into(),
        name: name.into(),
        cost_usd: Some(cost_usd),
        requests: Some(60),
        tokens: Some(9000),
        success_ratio: Some(0.95),
        mean_ttft_seconds: Some(1.5),
        mean_output_tokens_per_second: Some(42.5),
        cache_hit_ratio: Some(0.875),
    }
}

fn counters() -> CountersView {
    let entity = |id: &str| EntityCounters {
        id: id.into(),
        requests: 500,
        outcomes: Some([400, 60, 40]),
        cost_usd: Some(12.345_678),
        list_cost_usd: Some(11.5),
        tokens: Some(9_007_199_254_740_991),
    };
    CountersView {
        spent: vec![("3".into(), 0.25)],
        traffic: vec![TrafficView {
            provider_id: "3".into(),
            model: "claude-sonnet-4".into(),
            requests: [400, 60, 40],
            cost_usd: Some(12.345_678),
            list_cost_usd: Some(11.5),
            account_cost_usd: Some(9.25),
            tokens: vec![("input", 10), ("output", 20), ("cache_read", 30)],
            cache_saved_usd: Some(2.5),
        }]
        .into(),
        responses: vec![("3".into(), "200".into(), 400), ("3".into(), "none".into(), 5)],
        failures: vec![("3".into(), "rate_limited", 60)],
        recovered: vec![("3".into(), "server", 6)],
        users: vec![entity("7")].into(),
        keys: vec![entity("4"), entity("other")].into(),
        teams: vec![entity("8")].into(),
        organizations: vec![entity("9")].into(),
        refunds: vec![("3".into(), 0.75)],
        wasted: vec![("3".into(), "failed", 0.125)],
        unpriced: vec![("gpt-5".into(), 2)],
        substitutions: vec![("3".into(), "claude-opus-4".into(), "claude-sonnet-4".into(), 1)],
        corrections: vec![("late_cost", 9)],
        corrections_usd: vec![("late_cost", 0.25)],
        imported: Some(3),
        latency: vec![LatencyView {
            provider_id: "3".into(),
            model: "claude-sonnet-4".into(),
            duration: full_histogram(),
            ttft: full_histogram(),
            speed: full_histogram(),
        }]
        .into(),
        missed: Some(3),
    }
}

fn live() -> Live {
    Live {
        sessions: Some(5),
        requests_in_progress: None,
        rejected: Some(vec![("invalid_api_key".into(), 8)]),
        slots_used: Some(vec![(3.into(), 2)]),
        circuits: Some(vec![(3.into(), Circuit::Open { reopens_at: Some(at(30)) })]),
        user_sessions: Some(vec![(7.into(), 4)]),
        key_sessions: Some(vec![(4.into(), 4)]),
        window_spend: HashMap::new(),
        collector: Some(Collector { delay_seconds: Some(1.5), last_record: Some(at(-2)), dead_letters: 2 }),
        workers_alive: Some(4),
        unaccounted: vec![("pending", 3), ("parked", 1)],
        database_bytes: vec![("main", 1_200_000_000), ("wal", 70_000_000)],
        balances: vec![Balance { provider_id: 3.into(), amount: 12.5, told_at: at(-3600) }],
        tests: vec![AccountTest { provider_id: 3.into(), duration_ms: 1250, at: at(-600) }],
        account_keys: vec![(3.into(), AccountState::Normal, 2), (3.into(), AccountState::Error, 1)],
        key_failures: Some(vec![(4.into(), 2)]),
        error_log: Some(vec![ErrorCount { kind: "gemini-chat-stream".into(), code: "429".into(), count: 12 }]),
        key_slots_used: vec![(4.into(), 2)],
        queues: vec![Queue { key_id: 4.into(), waiting: 1, events: vec![("entered", 9), ("success", 8)] }],
        queue_waits: vec![("50", 0.25), ("90", 1.5)],
        rate_windows: ["requests", "tokens", "usd"]
            .map(|unit| RateWindow { key_id: 4.into(), unit, limit: 100.0, used: 40.0, resets_at: Some(at(600)) })
            .into(),
        accounts: vec![(3.into(), AccountState::RateLimited)],
        returns: vec![AccountReturn { provider_id: 3.into(), models: "all", at: at(900) }],
        plans: vec![(3.into(), "plus".into())],
        subscriptions: vec![Subscription {
            provider_id: 3.into(),
            window: "5h",
            used_ratio: Some(0.75),
            told_at: Some(at(-60)),
            resets_at: Some(at(3600)),
            status: Some(SubscriptionStatus::AllowedWarning),
        }],
    }
}

fn directory() -> Directory {
    Directory {
        sessions_untracked: false,
        replica_lag_seconds: Some(7.5),
        without_breaker: Vec::new(),
        key_tags: vec![(4.into(), "team-a".into())],
        users: vec![user(7, "alice")],
        keys: vec![Key {
            id: 4.into(),
            name: "laptop".into(),
            user_id: Some(7.into()),
            enabled: Some(true),
            deleted: false,
            expires_at: Some(at(86_400)),
            created_at: None,
            slots: Some(5),
            sessions: Some(6),
            counts_as: 4.into(),
        }],
        providers: vec![Provider {
            id: 3.into(),
            name: "upstream".into(),
            kind: "claude".into(),
            group: "default".into(),
            enabled: Some(true),
            deleted: false,
            slots: Some(10),
        }],
        end_users_today: Some(17),
        teams: vec![Team { id: 8.into(), name: "search".into(), organization_id: Some(9.into()), enabled: Some(true) }],
        organizations: vec![Organization { id: 9.into(), name: "acme".into() }],
        limits: Vec::new(),
        currency: Some("CNY".into()),
        version: "0.9.9".into(),
        timezone: "Asia/Shanghai".into(),
        counts_attempts: false,
        states_are_checks: false,
    }
}

pub fn user(id: i64, name: &str) -> User {
    User {
        id: id.into(),
        name: name.into(),
        role: "user".into(),
        enabled: Some(true),
        deleted: false,
        expires_at: Some(at(864_000)),
        sessions: Some(8),
        requests_per_minute: Some(60),
        balance: Some(Usd::from_femto(-1_250_000_000_000_000)),
    }
}

/// The same relay with these users in its directory.
pub fn with_users(mut view: View, users: Vec<User>) -> View {
    let mut directory = view.directory.as_deref().cloned().unwrap_or_default();
    directory.users = users;
    view.directory = Some(Arc::new(directory));
    view
}
