//! Behind PgBouncer in transaction mode each transaction may meet another session of the server.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use llm_relay_exporter::check::{Level, check};
use llm_relay_exporter::demo::{HistoryOptions, Pace, SimulatorOptions, Urls};
use llm_relay_exporter::relays::claude_code_hub::demo::{self, SimulateOptions};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::claude_code_hub::plan;
use crate::guarded::Guarded;
use crate::store::history;
use crate::store_process::{Process, assert_none_fell, differs_from_plain_sql};
use crate::wait::found;

/// A PgBouncer of our own before a database; it ends with its value.
struct PgBouncer {
    _child: Guarded,
    url: String,
    _directory: TempDir,
}

impl PgBouncer {
    async fn start(database: &str) -> Self {
        let places = std::env::var("PATH").unwrap_or_default();
        let program = std::env::split_paths(&places)
            .chain([PathBuf::from("/usr/sbin")])
            .map(|place| place.join("pgbouncer"))
            .find(|program| program.is_file())
            .expect("pgbouncer is missing; tests/run installs it");
        let url = url::Url::parse(database).unwrap();
        let (user, password) = (url.username(), url.password().unwrap());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            fs::write(directory.path().join(name), text).unwrap();
        };
        file("users.txt", format!("\"{user}\" \"{password}\"\n"));
        // Two sessions for everybody, and nothing that is not PgBouncer's default is forgiven.
        file(
            "pgbouncer.ini",
            format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = md5\nauth_file = users.txt\npool_mode = transaction\n\
                 default_pool_size = 2\n",
                url.port().unwrap()
            ),
        );
        let mut command = Command::new(program);
        command.arg("--quiet").arg("pgbouncer.ini").current_dir(directory.path()).stdin(Stdio::null());
        command.stderr(fs::File::create(directory.path().join("log")).unwrap());
        // It refuses root.
        if fs::metadata(directory.path()).unwrap().uid() == 0 {
            for path in ["", "users.txt", "pgbouncer.ini"] {
                chown(directory.path().join(path), Some(65534), Some(65534)).unwrap();
            }
            command.uid(65534).gid(65534);
        }
        let child = Guarded(command.spawn().unwrap());
        let url = format!("postgres://{user}:{password}@127.0.0.1:{port}{}", url.path());
        let bouncer = Self { _child: child, url, _directory: directory };
        let log = || fs::read_to_string(bouncer._directory.path().join("log")).unwrap_or_default();
        found("PgBouncer answers", async || bouncer.connect().await.map_err(|error| (error, log()))).await;
        bouncer
    }

    /// As a client that knows PgBouncer.
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let options: PgConnectOptions = self.url.parse().unwrap();
        PgConnection::connect_with(&options.extra_float_digits(None)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exporter_reads_through_pgbouncer_in_transaction_mode_and_leaves_nothing_in_its_sessions() {
    let direct = history("bounced", 3, 1500).await;
    let bouncer = PgBouncer::start(&direct).await;

    let report = check(&plan(&bouncer.url, None)).await.unwrap();
    assert!(report.worst() < Level::Problem, "{report}");

    // Others take their turns between the exporter's transactions, so that it changes sessions all the time.
    let stop = CancellationToken::new();
    let mut others = Vec::new();
    for _ in 0..3 {
        let (mut connection, stop) = (bouncer.connect().await.unwrap(), stop.clone());
        others.push(tokio::spawn(async move {
            while !stop.is_cancelled() {
                connection.execute(sqlx::raw_sql("begin; select pg_sleep(0.002); commit")).await.unwrap();
            }
        }));
    }
    let simulation = SimulateOptions {
        urls: Urls { database_url: direct.clone().into(), redis_url: None },
        init: false,
        history: HistoryOptions::default(),
        simulator: SimulatorOptions { pace: Pace::Steady(40.0), ..SimulatorOptions::default() },
    };
    let traffic = tokio::spawn(demo::simulate(simulation, stop.clone()));
    let one = Process::start(&bouncer.url, None).await;
    let other = Process::start(&bouncer.url, None).await;
    let mut last = Default::default();
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        if let Some(now) = one.counters() {
            assert_none_fell(&last, &now);
            last = now;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    traffic.await.unwrap().unwrap();
    for task in others {
        task.await.unwrap();
    }
    for process in [one, other] {
        found("it says what the ledger says", async || {
            let Some(now) = process.counters() else { return Err("no counters".to_owned()) };
            differs_from_plain_sql(&direct, &now).await.map_or(Ok(()), Err)
        })
        .await;
        let page = process.page().unwrap();
        let failures: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("llm_relay_refresh_failures_total{") && !line.ends_with(" 0"))
            .collect();
        assert_eq!(failures, [""; 0]);
        process.kill().await;
    }

    // Whoever gets these sessions next finds them as they were.
    let mut connection = bouncer.connect().await.unwrap();
    let left = "select current_setting('statement_timeout') || current_setting('lock_timeout')
                || current_setting('transaction_read_only') || (select count(*) from pg_prepared_statements)";
    for _ in 0..20 {
        let mut transaction = connection.begin().await.unwrap();
        let left: String = sqlx::query_scalar(left).persistent(false).fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(left, "00off0");
        transaction.commit().await.unwrap();
    }
}
