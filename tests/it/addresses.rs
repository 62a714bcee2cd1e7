//! Addresses as other tools write them, on real servers: sockets, IPv6, parameters that are understood and all others.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use llm_relay_exporter::connect::mysql;
use llm_relay_exporter::connect::postgres::Database;
use llm_relay_exporter::connect::redis::Redis;
use llm_relay_exporter::servers::{PrivateMariaDb, PrivatePostgres};
use redis::cmd;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::redis_servers::{RedisServer, free_port};
use crate::wait::found;

const LIMIT: Duration = Duration::from_secs(10);

/// What a statement says, read through a URL.
async fn answer(url: &str, question: &'static str) -> String {
    let mut database = Database::new(&url.into(), LIMIT).unwrap_or_else(|error| panic!("{url}: {error}"));
    let mut snapshot = database.snapshot().await.unwrap_or_else(|error| panic!("{url}: {error}"));
    let row = snapshot.fetch_one("asking", sqlx::query(question)).await.unwrap();
    database.finish(snapshot).await;
    sqlx::Row::get(&row, 0)
}

/// Counts a client and leads it to the server.
fn forward(mut inside: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, port: u16, count: &AtomicUsize) {
    count.fetch_add(1, Relaxed);
    tokio::spawn(async move {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        copy_bidirectional(&mut inside, &mut server).await.ok();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_reached_by_every_form_of_its_address() {
    let server = PrivatePostgres::start().await.unwrap();
    let mut owner = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::raw_sql("create role reader login password 'p w'").execute(&mut owner).await.unwrap();
    let sockets = tempfile::tempdir().unwrap();
    let (folder, port) = (sockets.path().display().to_string(), server.port());
    // The private server listens on 127.0.0.1 alone; two more doors lead to it.
    let unix = UnixListener::bind(format!("{folder}/.s.PGSQL.{port}")).unwrap();
    let six = TcpListener::bind(("::1", port)).await.unwrap();
    let (by_unix, by_six) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (unix_count, six_count) = (by_unix.clone(), by_six.clone());
    tokio::spawn(async move {
        loop {
            forward(unix.accept().await.unwrap().0, port, &unix_count);
        }
    });
    tokio::spawn(async move {
        loop {
            forward(six.accept().await.unwrap().0, port, &six_count);
        }
    });
    let encoded = folder.replace('/', "%2F");
    for (url, door) in [
        (format!("postgres://reader:p%20w@127.0.0.1:{port}/postgres"), "tcp"),
        (format!("postgres://reader:p%20w@[::1]:{port}/postgres"), "six"),
        (format!("postgresql://reader:p%20w@127.0.0.1:1,[::1]:{port}/postgres"), "six"),
        (format!("postgres://reader:p%20w@/postgres?host={folder}&port={port}"), "unix"),
        (format!("postgres://reader:p%20w@{encoded}:{port}/postgres"), "unix"),
        (format!("postgres://@/postgres?host={folder}&port={port}&user=reader&password=p%20w"), "unix"),
        (format!("postgres://127.0.0.1:{port}?dbname=postgres&user=reader&password=p%20w"), "tcp"),
        (format!("postgres://reader:p%20w@elsewhere.invalid:{port}/postgres?host=127.0.0.1"), "tcp"),
        (format!("postgres://reader:p%20w@127.0.0.1:{port}/postgres?connect_timeout=5&ssl=false"), "tcp"),
    ] {
        let before = (by_unix.load(Relaxed), by_six.load(Relaxed));
        assert_eq!(answer(&url, "select current_user::text").await, "reader", "{url}");
        let used = (by_unix.load(Relaxed) > before.0, by_six.load(Relaxed) > before.1);
        assert_eq!(used, (door == "unix", door == "six"), "{url}");
    }
    let url = format!("postgres://reader:p%20w@127.0.0.1:{port}/postgres");
    for (parameters, question, wanted) in [
        ("?application_name=mine", "show application_name", "mine"),
        ("", "show application_name", "llm-relay-exporter"),
        ("?options=-c%20work_mem%3D7MB%20-c%20geqo%3Doff", "show work_mem", "7MB"),
    ] {
        assert_eq!(answer(&format!("{url}{parameters}"), question).await, wanted, "{parameters}");
    }
    let endpoint = |url: String| Database::new(&url.as_str().into(), LIMIT).unwrap().endpoint().to_owned();
    assert_eq!(endpoint("postgres://reader:pw@[::1]/relay".into()), "[::1]:5432/relay");
    assert_eq!(endpoint("postgres://reader:pw@/relay?host=/run/postgresql".into()), "/run/postgresql/relay");
    // A server without TLS: these want it.
    for parameters in ["ssl=true", "sslmode=require", "ssl=1", "sslmode=no-verify"] {
        let url = format!("{url}?{parameters}");
        let Err(error) = Database::new(&url.as_str().into(), LIMIT).unwrap().snapshot().await else {
            panic!("{parameters} left the connection open to plain text")
        };
        assert!(error.text.contains("TLS"), "{error}");
    }
    // One that takes no connections is away; nothing about its rows is wrong.
    let closed = "create database closed allow_connections false";
    sqlx::raw_sql(closed).execute(&mut owner).await.unwrap();
    let url = format!("postgres://reader:p%20w@127.0.0.1:{port}/closed");
    let error = Database::new(&url.as_str().into(), LIMIT).unwrap().snapshot().await.err().unwrap();
    assert_eq!(error.reason, llm_relay_exporter::model::Reason::Connection, "{error}");
    assert!(error.text.contains("55000"), "{error}");
}

/// libpq's variables of the environment say nothing: the configuration alone names a server.
#[tokio::test(flavor = "multi_thread")]
async fn variables_of_libpq_complete_no_address() {
    let server = PrivatePostgres::start().await.unwrap();
    let check = |url: &str, env: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
        let output = command.env_clear().arg("check").env("DSN", url).envs(env.iter().copied()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let mut url: url::Url = server.url().parse().unwrap();
    let password = url.password().unwrap().to_owned();
    assert!(
        check(url.as_str(), &[("PGSSLMODE", "verify-full"), ("PGHOST", "192.0.2.1"), ("PGOPTIONS", "-c nothing=1")])
            .contains("connected to")
    );
    url.set_password(None).unwrap();
    let text = check(url.as_str(), &[("PGPASSWORD", &password)]);
    assert!(!text.contains("connected to"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_reached_by_every_form_of_its_address() {
    let server = PrivateMariaDb::start().await.unwrap();
    let mut owner = sqlx::MySqlConnection::connect(&server.database("forms").await.unwrap()).await.unwrap();
    let account = "create user reader identified by 'p w'; grant select on forms.* to reader";
    sqlx::raw_sql(account).execute(&mut owner).await.unwrap();
    let socket: String = sqlx::query_scalar("select @@socket").fetch_one(&mut owner).await.unwrap();
    let encoded = socket.replace('/', "%2F");
    for (url, endpoint) in [
        (format!("mysql://reader:p%20w@/forms?socket={socket}"), format!("{socket}/forms")),
        (format!("mariadb://reader:p%20w@localhost/forms?socket={socket}"), format!("{socket}/forms")),
        (format!("mysql://reader:p%20w@{encoded}/forms"), format!("{socket}/forms")),
        (
            format!("mysql://reader:p%20w@127.0.0.1:{}/forms", server.port()),
            format!("127.0.0.1:{}/forms", server.port()),
        ),
    ] {
        let mut database = mysql::Database::new(&url.as_str().into(), LIMIT).unwrap();
        assert_eq!(database.endpoint(), endpoint);
        let snapshot = database.snapshot().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        database.finish(snapshot).await;
    }
    // The private server listens on 127.0.0.1 alone: a literal is tried as an address, never as a name.
    let url = format!("mysql://reader:pw@[::1]:{}/forms", server.port());
    let error = mysql::Database::new(&url.as_str().into(), LIMIT).unwrap().snapshot().await.err().unwrap();
    assert!(
        error.text.contains("refused") && error.text.contains(&format!("[::1]:{}/forms", server.port())),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_reached_by_every_form_of_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let port = free_port();
    let words =
        ["--port", &port.to_string(), "--bind", "127.0.0.1", "::1", "--unixsocket", &socket, "--requirepass", "p w"];
    let _server = RedisServer::start(port, &words.map(str::to_owned));
    let database = async |url: &str| {
        let mut redis = Redis::new(&url.into(), LIMIT).unwrap_or_else(|error| panic!("{url}: {error}"));
        let answer = redis.read("asking", &[cmd("CLIENT").arg("INFO").clone()]).await?.remove(0).unwrap();
        let text: String = redis::from_redis_value(answer).unwrap();
        let number = text.split(' ').find_map(|it| it.strip_prefix("db=")).unwrap().to_owned();
        Ok::<_, llm_relay_exporter::model::ReadError>((number, redis.endpoint().to_owned()))
    };
    found("Redis answers", async || database(&format!("redis://:p%20w@127.0.0.1:{port}")).await).await;
    for (url, number, endpoint) in [
        (format!("redis://:p%20w@127.0.0.1:{port}?db=9"), "9", format!("127.0.0.1:{port}/9")),
        (format!("redis://:p%20w@127.0.0.1:{port}/9"), "9", format!("127.0.0.1:{port}/9")),
        (format!("redis://:p%20w@127.0.0.1:{port}/9?db=9&family=0"), "9", format!("127.0.0.1:{port}/9")),
        (format!("valkey://:p%20w@127.0.0.1:{port}/2"), "2", format!("127.0.0.1:{port}/2")),
        (format!("redis://default:p%20w@[::1]:{port}/1"), "1", format!("[::1]:{port}/1")),
        (format!("redis+unix://{socket}?db=3&pass=p%20w"), "3", format!("{socket}/3")),
        (format!("redis+unix://:p%20w@{socket}?db=3"), "3", format!("{socket}/3")),
    ] {
        assert_eq!(database(&url).await.unwrap(), (number.to_owned(), endpoint), "{url}");
    }
}

/// What is not understood is refused by the settings, and named only where it can be no part of a password.
#[test]
fn parameters_that_mean_nothing_are_refused() {
    let refused = |dsn: &str, redis: &str| {
        let env = [("DSN", dsn), ("REDIS_URL", redis)].map(|(name, url)| (name.to_owned(), url.to_owned()));
        llm_relay_exporter::settings::load(None, &env.into()).err().map(|problems| problems.to_string())
    };
    let (dsn, redis) = ("postgres://u:pw@db/cch", "redis://:pw@kv");
    assert_eq!(refused(dsn, redis), None);
    for (parameter, said) in [
        ("schema=public", "`schema`"),
        ("channel_binding=require", "`channel_binding`"),
        ("target_session_attrs=read-write", "`target_session_attrs`"),
        ("sslmod=verify-full", "a parameter that is not understood"),
        ("hunter2=x", "a parameter that is not understood"),
        ("hunter2", "has no value"),
        ("sslmode=hunter2", "`sslmode`"),
        ("ssl=hunter2", "`ssl`"),
        ("connect_timeout=hunter2", "`connect_timeout`"),
        ("port=hunter2", "`port`"),
        ("host=hunter2!", "host"),
    ] {
        let text = refused(&format!("{dsn}?{parameter}"), redis).unwrap_or_else(|| panic!("{parameter} is dropped"));
        assert!(text.contains(said) && !text.contains("hunter2"), "{parameter}: {text}");
    }
    // What the driver would take and not apply.
    for (parameters, said) in [
        ("sslrootcert=/ca.pem", "sslmode=verify-full"),
        ("sslrootcert=/ca.pem&sslmode=prefer", "sslmode=verify-full"),
        ("sslrootcert=/ca.pem&sslmode=allow", "sslmode=verify-full"),
        ("sslrootcert=/ca.pem&ssl=false", "sslmode=verify-full"),
        ("sslservername=hunter2", "sslmode=verify-full"),
        ("sslmode=verify-ca&sslservername=hunter2", "sslmode=verify-full"),
        ("sslmode=verify-full&sslcert=/hunter2.pem", "sslkey"),
        ("sslmode=verify-full&sslkey=/hunter2.key", "sslcert"),
        ("sslmode=disable&sslcert=/hunter2.pem&sslkey=/hunter2.key", "sslmode=verify-full"),
    ] {
        let text = refused(&format!("{dsn}?{parameters}"), redis).unwrap_or_else(|| panic!("{parameters} is dropped"));
        assert!(text.contains(said) && !text.contains("hunter2"), "{parameters}: {text}");
    }
    for parameters in ["sslmode=verify-ca&sslrootcert=/ca.pem", "sslcert=/my.pem&sslkey=/my.key", "sslrootcert=system"]
    {
        assert_eq!(refused(&format!("{dsn}?{parameters}"), redis), None, "{parameters}");
    }
    for (parameters, said) in [
        ("ssl-ca=/ca.pem", Some("ssl-mode=VERIFY_IDENTITY")),
        ("ssl-mode=REQUIRED&ssl-ca=/ca.pem", Some("ssl-mode=VERIFY_IDENTITY")),
        ("ssl-ca=/ca.pem&ssl-mode=VERIFY_CA", None),
        ("ssl-ca=/ca.pem&ssl-mode=VERIFY_IDENTITY&ssl-cert=/my.pem&ssl-key=/my.key", None),
        ("ssl-mode=REQUIRED&ssl-cert=/hunter2.pem", Some("ssl-key")),
        ("ssl-mode=DISABLED&ssl-cert=/hunter2.pem&ssl-key=/hunter2.key", Some("ssl-mode=VERIFY_IDENTITY")),
    ] {
        let refused = mysql::Database::new(&format!("mysql://u:pw@db/relay?{parameters}").into(), LIMIT).err();
        let text = refused.map(|error| error.to_string());
        let right = match (&text, said) {
            (Some(text), Some(said)) => text.contains(said) && !text.contains("hunter2"),
            (text, said) => text.is_none() && said.is_none(),
        };
        assert!(right, "{parameters}: {text:?}");
    }
    for (url, said) in [
        ("redis://:pw@kv?protocol=resp3", "`protocol`"),
        ("redis://:pw@kv?db=x", "`db`"),
        ("redis://:pw@kv/1?db=2", "two database numbers"),
        ("redis://:pw@kv/hunter2", "database number"),
        ("redis://:pw@kv?sentinel_password=hunter2", "`sentinel_password`"),
        ("redis://:pw@one,two", "several hosts"),
        ("redis://:pw@/0", "host"),
        ("redis+sentinel://:pw@kv", "no master"),
        ("redis://:pw@kv?sslrootcert=/ca.pem", "asks for none"),
        ("redis+cluster://:pw@kv?sslservername=hunter2", "asks for none"),
        ("rediss://:pw@kv?sslcert=/hunter2.pem", "sslkey"),
    ] {
        let text = refused(dsn, url).unwrap_or_else(|| panic!("{url} is taken"));
        assert!(text.contains(said) && !text.contains("hunter2"), "{url}: {text}");
    }
}
