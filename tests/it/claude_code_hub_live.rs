//! Claude Code Hub: live state, counted by the relay's rule without its writes.

use chrono::{TimeDelta, Utc};
use llm_relay_exporter::model::{
    Circuit, Directory, Key, Limit, Live, Provider, QuotaWindow, Reason, Scope, User, WindowRule, WindowSpend,
};
use llm_relay_exporter::relay;
use llm_relay_exporter::servers::redis_connection;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::net::TcpListener;

use crate::claude_code_hub::{plan, redis_server, usd};

/// A database of its own on the shared server.
pub async fn database(number: u32) -> (String, MultiplexedConnection) {
    let url = redis_server().await.url().replace("/0", &format!("/{number}"));
    let connection = redis_connection(&url).await.unwrap();
    (url, connection)
}

pub async fn run(connection: &mut MultiplexedConnection, command: &str) {
    let mut words = command.split(' ');
    let mut command = cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>()).exec_async(connection).await.unwrap();
}

async fn read(url: &str, directory: &Directory) -> Live {
    let plan = plan("postgres://nobody@127.0.0.1:1/none", Some(url));
    relay::open(&plan).unwrap().live.unwrap().read(directory).await.unwrap()
}

fn directory(version: &str) -> Directory {
    let user = |id: i64| User {
        id: id.into(),
        name: format!("u{id}"),
        role: "user".to_owned(),
        enabled: Some(true),
        deleted: false,
        expires_at: None,
        sessions: None,
        requests_per_minute: None,
        balance: None,
    };
    let key = |id: i64| Key {
        id: id.into(),
        name: format!("k{id}"),
        user_id: Some(id.into()),
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
        name: format!("p{id}"),
        kind: "claude".to_owned(),
        group: "default".to_owned(),
        enabled: Some(id != 4),
        deleted: id == 5,
        slots: Some(10),
    };
    Directory {
        users: [1, 2].map(user).into(),
        keys: [1, 2, 3].map(key).into(),
        providers: [1, 2, 3, 4, 5].map(provider).into(),
        version: version.to_owned(),
        ..Directory::default()
    }
}

/// What the relay does when it counts: it prunes, takes all, and asks for each.
async fn counted_by_the_relay(connection: &mut MultiplexedConnection, key: &str) -> u64 {
    let cutoff = Utc::now().timestamp_millis() - 300_000;
    cmd("ZREMRANGEBYSCORE").arg(key).arg("-inf").arg(cutoff).exec_async(connection).await.unwrap();
    let ids: Vec<String> = cmd("ZRANGE").arg(key).arg(0).arg(-1).query_async(connection).await.unwrap();
    let mut count = 0;
    for id in ids {
        let alive: bool = cmd("EXISTS").arg(format!("session:{id}:info")).query_async(connection).await.unwrap();
        count += u64::from(alive);
    }
    count
}

#[tokio::test]
async fn sessions_are_counted_like_the_relay_does_and_nothing_is_written() {
    let (url, mut ours) = database(1).await;
    let (_, mut theirs) = database(2).await;
    let mut random = StdRng::seed_from_u64(7);
    let sets = [
        "{observed_sessions}:global:active_sessions",
        "{active_sessions}:global:active_sessions",
        "provider:1:active_sessions",
        "provider:2:active_sessions",
        "{active_sessions}:user:1:active_sessions",
        "{active_sessions}:key:2:active_sessions",
    ];
    let now = Utc::now().timestamp_millis();
    for session in 0..400 {
        // Away from the edge of the time to live: the two counts are not made in the same millisecond.
        let age = if random.random_bool(0.5) {
            random.random_range(0..290_000)
        } else {
            random.random_range(310_000..900_000)
        };
        let set = sets[random.random_range(0..sets.len())];
        let has_info = random.random_bool(0.7);
        for connection in [&mut ours, &mut theirs] {
            run(connection, &format!("ZADD {set} {} s{session}", now - age)).await;
            if has_info {
                run(connection, &format!("HSET session:s{session}:info userId 1")).await;
            }
        }
    }
    let sizes = async |connection: &mut MultiplexedConnection| -> Vec<u64> {
        let mut sizes = Vec::new();
        for set in sets {
            sizes.push(cmd("ZCARD").arg(set).query_async(connection).await.unwrap());
        }
        sizes
    };
    let before = sizes(&mut ours).await;
    let live = read(&url, &directory("v0.9.0+")).await;
    let older = read(&url, &directory("v0.7.1 to v0.8.10")).await;
    assert_eq!(sizes(&mut ours).await, before);

    let mut expected = Vec::new();
    for set in sets {
        expected.push(counted_by_the_relay(&mut theirs, set).await);
    }
    assert!(expected.iter().all(|count| *count > 0) && sizes(&mut theirs).await != before);
    assert_eq!(live.sessions, Some(expected[0]));
    assert_eq!(older.sessions, Some(expected[1]), "older dashboards count physical sessions");
    assert_eq!(
        live.slots_used,
        Some(vec![(1.into(), expected[2]), (2.into(), expected[3]), (3.into(), 0)]),
        "enabled providers only"
    );
    assert_eq!(live.user_sessions, Some(vec![(1.into(), expected[4])]));
    assert_eq!(live.key_sessions, Some(vec![(2.into(), expected[5])]));
}

#[tokio::test]
async fn sets_without_a_hash_tag_are_read_where_the_relay_is_that_old() {
    let (url, mut connection) = database(3).await;
    let now = Utc::now().timestamp_millis();
    for command in [
        format!("ZADD global:active_sessions {now} a {now} b"),
        format!("ZADD key:3:active_sessions {now} a"),
        "HSET session:a:info userId 1".to_owned(),
        "HSET session:b:info userId 1".to_owned(),
    ] {
        run(&mut connection, &command).await;
    }
    let live = read(&url, &directory("v0.5.2 to v0.5.8")).await;
    assert_eq!((live.sessions, live.key_sessions), (Some(2), Some(vec![(3.into(), 1)])));
    assert_eq!(read(&url, &directory("v0.9.0+")).await.sessions, Some(0));
}

#[tokio::test]
async fn a_circuit_is_half_open_as_soon_as_its_time_is_over() {
    let (url, mut connection) = database(4).await;
    let until = Utc::now() + TimeDelta::minutes(10);
    let until_ms = until.timestamp_millis();
    for command in [
        "HSET circuit_breaker:state:1 circuitState open circuitOpenUntil 1000 failureCount 5".to_owned(),
        format!("HSET circuit_breaker:state:2 circuitState open circuitOpenUntil {until_ms}"),
        format!("HSET circuit_breaker:state:4 circuitState open circuitOpenUntil {until_ms}"),
        "HSET circuit_breaker:config:4 failureThreshold 0".to_owned(),
    ] {
        run(&mut connection, &command).await;
    }
    let mut directory = directory("v0.9.0+");
    let circuits = read(&url, &directory).await.circuits.unwrap();
    let reopens_at = chrono::DateTime::from_timestamp_millis(until_ms);
    let expected =
        [(1, Circuit::HalfOpen), (2, Circuit::Open { reopens_at }), (3, Circuit::Closed), (4, Circuit::Closed)];
    assert_eq!(circuits, expected.map(|(id, circuit)| (id.into(), circuit)));
    // A breaker that is off in the database, where Redis has no setting or another one.
    directory.without_breaker = vec![1.into(), 2.into()];
    run(&mut connection, "HSET circuit_breaker:config:1 failureThreshold 5").await;
    let circuits = read(&url, &directory).await.circuits.unwrap();
    assert_eq!(circuits[..2], [(1.into(), Circuit::HalfOpen), (2.into(), Circuit::Closed)]);
    let state: String =
        cmd("HGET").arg("circuit_breaker:state:1").arg("circuitState").query_async(&mut connection).await.unwrap();
    assert_eq!(state, "open", "the relay would have rewritten it; we do not");
}

#[tokio::test]
async fn a_key_of_another_type_costs_one_entity_only() {
    let (url, mut connection) = database(5).await;
    let now = Utc::now().timestamp_millis();
    for command in [
        "SET provider:2:active_sessions oops".to_owned(),
        "SET circuit_breaker:state:3 oops".to_owned(),
        format!("ZADD provider:1:active_sessions {now} a"),
        "HSET session:a:info userId 1".to_owned(),
    ] {
        run(&mut connection, &command).await;
    }
    let live = read(&url, &directory("v0.9.0+")).await;
    assert_eq!(live.slots_used, Some(vec![(1.into(), 1), (3.into(), 0)]));
    let circuits = live.circuits.unwrap();
    assert_eq!(circuits.iter().filter_map(|(id, _)| id.number()).collect::<Vec<_>>(), [1, 2, 4]);
}

#[tokio::test]
async fn untracked_sessions_are_absent_not_zero() {
    let (url, _connection) = database(6).await;
    let live = read(&url, &Directory { sessions_untracked: true, ..directory("v0.9.0+") }).await;
    assert_eq!((live.sessions, live.slots_used, live.user_sessions, live.key_sessions), (None, None, None, None));
    assert_eq!(live.circuits.map(|circuits| circuits.len()), Some(4));
}

#[tokio::test]
async fn a_fixed_five_hour_window_is_read_with_its_end() {
    let (url, mut connection) = database(7).await;
    run(&mut connection, "SET key:1:cost_5h_fixed 1.25 EX 3600").await;
    run(&mut connection, "SET provider:3:cost_5h_fixed many EX 3600").await;
    let limit = |scope, id: i64, rule| Limit {
        scope,
        id: id.into(),
        window: QuotaWindow::FiveHours,
        part: "".into(),
        rule,
        limit: Some(usd("5")),
        soft_limit: None,
        since: None,
    };
    let limits = vec![
        limit(Scope::Key, 1, WindowRule::Live),
        limit(Scope::User, 2, WindowRule::Live),
        limit(Scope::Provider, 3, WindowRule::Live),
        limit(Scope::User, 1, WindowRule::Rolling { hours: 5 }),
    ];
    let windows = read(&url, &Directory { limits, ..directory("v0.9.0+") }).await.window_spend;
    assert_eq!(windows.len(), 2, "{windows:?}");
    let window = |scope, id: i64| windows[&(scope, id.into(), QuotaWindow::FiveHours)];
    let (open, none) = (window(Scope::Key, 1), window(Scope::User, 2));
    assert_eq!((open.used, none), (usd("1.25"), WindowSpend { used: usd("0"), resets_at: None }));
    let left = open.resets_at.unwrap() - Utc::now();
    assert!((TimeDelta::seconds(3590)..=TimeDelta::seconds(3601)).contains(&left), "{left}");
}

#[tokio::test]
async fn what_is_wrong_with_redis_is_said_without_its_password() {
    let url = redis_server().await.url();
    let (_, mut admin) = database(0).await;
    run(&mut admin, "ACL SETUSER watcher on >planted-secret ~* +time +info").await;
    let port = redis_server().await.port();
    let hangs_up = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = hangs_up.local_addr().unwrap().port();
    tokio::spawn(async move { while hangs_up.accept().await.is_ok() {} });
    let cases = [
        (format!("redis://:planted-secret@127.0.0.1:{port}/0"), Reason::Permission, "password"),
        (format!("redis://watcher:planted-secret@127.0.0.1:{port}/0"), Reason::Permission, "hmget"),
        (format!("rediss://:planted-secret@127.0.0.1:{mute}/0"), Reason::Connection, "check that it runs"),
        ("redis://:planted-secret@127.0.0.1:1/0".to_owned(), Reason::Connection, "refused"),
    ];
    for (url, reason, word) in cases {
        let plan = plan("postgres://nobody@127.0.0.1:1/none", Some(&url));
        let mut live = relay::open(&plan).unwrap().live.unwrap();
        let error = live.read(&directory("v0.9.0+")).await.unwrap_err();
        assert_eq!(error.reason, reason, "{error}");
        assert!(error.text.contains(word) && error.text.contains("127.0.0.1"), "{error}");
        assert!(!error.text.contains("planted-secret"), "{error}");
    }
    let error = relay::open(&plan("postgres://nobody@127.0.0.1:1/none", Some("redis//planted-secret"))).err().unwrap();
    assert!(!error.0.contains("planted-secret"), "{error}");
    assert!(url.contains("127.0.0.1"));
}
