//! Private PostgreSQL, MariaDB, Redis, Prometheus, Alertmanager and Grafana servers: on 127.0.0.1, in a temporary directory, with a random password.
//!
//! They end with their value, and with the process however it ends, even by `kill -9`: a small guard process waits for
//! that. A test binary may therefore keep one in a `static` and take a fresh [`PrivatePostgres::database`] per test.

pub mod alertmanager;
pub mod grafana;
pub(crate) mod host;
pub mod prometheus;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use rand::Rng;
use rand::distr::Alphanumeric;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, MySqlConnection};

use self::host::Host;

/// Why a private server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// `initdb` or `postgres` is not found.
    #[error(
        "PostgreSQL is not installed (neither on PATH nor in the usual places): apt-get install postgresql, or brew install postgresql"
    )]
    PostgresMissing,
    /// Neither `redis-server` nor `valkey-server` is found.
    #[error(
        "Redis is not installed (redis-server or valkey-server on PATH): apt-get install redis-server, or brew install redis"
    )]
    RedisMissing,
    /// `mariadbd` or `mariadb-install-db` is not found.
    #[error(
        "MariaDB is not installed (mariadbd and mariadb-install-db): apt-get install mariadb-server, or brew install mariadb"
    )]
    MariaDbMissing,
    /// `prometheus` or `promtool` is not found.
    #[error(
        "Prometheus is not installed (prometheus and promtool on PATH): apt-get install prometheus, or brew install prometheus"
    )]
    PrometheusMissing,
    /// Neither `alertmanager` nor `prometheus-alertmanager` is found.
    #[error(
        "Alertmanager is not installed (alertmanager on PATH): apt-get install prometheus-alertmanager, or https://prometheus.io/download"
    )]
    AlertmanagerMissing,
    /// Neither `grafana` nor `grafana-server` is found, or not what it shows.
    #[error(
        "Grafana is not installed (grafana on PATH): https://grafana.com/docs/grafana/latest/setup-grafana/installation, or brew install grafana"
    )]
    GrafanaMissing,
    /// It ended, or does not answer.
    #[error("the private {server} did not start: {text}")]
    Start {
        /// Which one.
        server: &'static str,
        /// Its last words.
        text: String,
    },
    /// The database could not be made.
    #[error("the private server has no database {name:?}: {text}")]
    Database {
        /// The one that was wanted.
        name: String,
        /// The server's answer.
        text: String,
    },
    /// No directory, port or process could be had for it.
    #[error("the private {server} has no place to run: {error}")]
    Place {
        /// Which one.
        server: &'static str,
        /// What the operating system says.
        error: io::Error,
    },
}

impl ServerError {
    /// The server cannot run on this machine; any other error is worth a look.
    pub(crate) const fn is_missing(&self) -> bool {
        matches!(self, Self::PostgresMissing | Self::RedisMissing)
    }
}

const POSTGRES: &str = "PostgreSQL";
const REDIS: &str = "Redis";
const MARIADB: &str = "MariaDB";
/// MariaDB's `fsync=off`; its data need not outlive a crash of the machine.
const NO_SYNC: &str = "--debug-no-sync";
/// Name of the superuser of the private PostgreSQL.
const OWNER: &str = "demo";
/// Another process may take a free port before the server does.
const PORT_TRIES: u32 = 5;
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// What can be done with any of them.
macro_rules! controls {
    ($($server:ty),+) => {$(
        impl $server {
            /// Ends the server; its port and its data stay for [`Self::restart`].
            pub fn stop(&mut self) {
                self.host.stop();
            }

            /// Starts the stopped server again, on the same port and data.
            ///
            /// # Errors
            /// When it does not start.
            pub async fn restart(&mut self) -> Result<(), ServerError> {
                self.launch(self.port).await
            }

            /// Of 127.0.0.1.
            pub fn port(&self) -> u16 {
                self.port
            }

            /// The temporary directory that it lives in.
            pub fn directory(&self) -> &Path {
                self.host.path()
            }
        }
    )+};
}
controls!(PrivatePostgres, PrivateRedis, PrivateMariaDb);

/// A PostgreSQL server of our own.
pub struct PrivatePostgres {
    host: Host,
    bin: PathBuf,
    port: u16,
    password: String,
}

impl PrivatePostgres {
    /// # Errors
    /// When no PostgreSQL is installed (the text says how to get it), or it does not start (its last words).
    pub async fn start() -> Result<Self, ServerError> {
        let bin = host::find(&["postgres", "initdb"], &postgres_places()).ok_or(ServerError::PostgresMissing)?;
        let place = |error| ServerError::Place { server: POSTGRES, error };
        // SIGINT writes everything down; SIGQUIT loses the last commits, which are asynchronous here.
        let mut host = Host::new("INT", "QUIT").map_err(place)?;
        let password = password();
        let secret = host.write("password", &password).map_err(place)?;
        let mut initdb = host.command(&bin.join("initdb"));
        initdb.args(["--pgdata=data", "--encoding=UTF8", "--no-locale", "--no-sync", "--auth=password"]);
        initdb.args(["--username", OWNER]).arg("--pwfile").arg(&secret);
        host.run(initdb).await.map_err(place)?.map_err(|text| ServerError::Start { server: POSTGRES, text })?;
        let mut server = Self { host, bin, port: 0, password };
        on_free_port(POSTGRES, async |port| server.launch(port).await).await?;
        Ok(server)
    }

    /// A second server that follows this one, made by `pg_basebackup`: it can be read while both run, and when this one
    /// has gone.
    ///
    /// # Errors
    /// When it cannot be copied, or does not start.
    pub async fn standby(&self) -> Result<Self, ServerError> {
        let place = |error| ServerError::Place { server: POSTGRES, error };
        let mut host = Host::new("INT", "QUIT").map_err(place)?;
        let mut copy = host.command(&self.bin.join("pg_basebackup"));
        copy.args(["--pgdata=data", "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--host=127.0.0.1"]);
        copy.arg(format!("--port={}", self.port)).args(["--username", OWNER]).env("PGPASSWORD", &self.password);
        host.run(copy).await.map_err(place)?.map_err(|text| ServerError::Start { server: POSTGRES, text })?;
        let mut server = Self { host, bin: self.bin.clone(), port: 0, password: self.password.clone() };
        on_free_port(POSTGRES, async |port| server.launch(port).await).await?;
        Ok(server)
    }

    /// Connection string of the maintenance database.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Connection string of one of its databases, which need not exist.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{OWNER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Creates a database and gives its connection string. It is a clone of `template1`: whatever was put there
    /// (through `url_of("template1")`, all connections closed again) is in it.
    ///
    /// # Errors
    /// When the name is not made of `a-z`, `0-9` and `_`, or is taken.
    pub async fn database(&self, name: &str) -> Result<String, ServerError> {
        let error = |text: String| ServerError::Database { name: name.to_owned(), text };
        check_name(name).map_err(error)?;
        let create = AssertSqlSafe(format!("create database \"{name}\""));
        let mut connection = self.options().connect().await.map_err(|e| error(e.to_string()))?;
        connection.execute(sqlx::raw_sql(create)).await.map_err(|e| error(e.to_string()))?;
        let _ = connection.close().await;
        Ok(self.url_of(name))
    }

    async fn launch(&mut self, port: u16) -> Result<(), ServerError> {
        self.port = port;
        let mut postgres = self.host.command(&self.bin.join("postgres"));
        postgres.args(["-D", "data", "-h", "127.0.0.1", "-p"]).arg(self.port.to_string());
        for setting in [
            // Passwords for everybody, also for other users of this machine: no socket file besides the port.
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "autovacuum_naptime=10s",
            "shared_buffers=32MB",
            "max_wal_size=256MB",
            "max_connections=200",
            "timezone=UTC",
        ] {
            postgres.args(["-c", setting]);
        }
        self.host.spawn(postgres).map_err(|error| ServerError::Place { server: POSTGRES, error })?;
        let options = self.options();
        until_ready(&mut self.host, POSTGRES, async || {
            let connection = options.connect().await.map_err(|e| e.to_string())?;
            connection.close().await.map_err(|e| e.to_string())
        })
        .await
    }

    fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(OWNER)
            .password(&self.password)
            .database("postgres")
            .ssl_mode(PgSslMode::Disable)
    }
}

/// A Redis server of our own.
pub struct PrivateRedis {
    host: Host,
    program: PathBuf,
    port: u16,
    password: String,
}

impl PrivateRedis {
    /// # Errors
    /// When no Redis is installed (the text says how to get it), or it does not start (its last words).
    pub async fn start() -> Result<Self, ServerError> {
        let program = ["redis-server", "valkey-server"]
            .into_iter()
            .find_map(|name| Some(host::find(&[name], &homebrew("redis"))?.join(name)))
            .ok_or(ServerError::RedisMissing)?;
        let place = |error| ServerError::Place { server: REDIS, error };
        let host = Host::new("TERM", "KILL").map_err(place)?;
        let mut server = Self { host, program, port: 0, password: password() };
        on_free_port(REDIS, async |port| server.launch(port).await).await?;
        Ok(server)
    }

    /// `None` when no Redis is installed, which is told on stderr, with what is missing for it.
    ///
    /// # Errors
    /// When it does not start (its last words).
    pub(crate) async fn start_if_installed(without: &str) -> Result<Option<Self>, ServerError> {
        match Self::start().await {
            Err(missing @ ServerError::RedisMissing) => {
                eprintln!("{without} in this demo: {missing}");
                Ok(None)
            }
            started => started.map(Some),
        }
    }

    /// Connection string of database 0.
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/0", self.password, self.port)
    }

    async fn launch(&mut self, port: u16) -> Result<(), ServerError> {
        self.port = port;
        // A file, not arguments: those are there for every user of the machine to read.
        let settings = format!(
            "bind 127.0.0.1\nport {}\ndatabases 64\nrequirepass {}\ndaemonize no\nsave \"\"\nappendonly yes\nappendfsync no\n",
            self.port, self.password
        );
        let place = |error| ServerError::Place { server: REDIS, error };
        let file = self.host.write("redis.conf", &settings).map_err(place)?;
        let mut redis = self.host.command(&self.program);
        redis.arg(file);
        self.host.spawn(redis).map_err(place)?;
        let url = self.url();
        until_ready(&mut self.host, REDIS, async || {
            let mut connection = redis_connection(&url).await.map_err(|e| e.to_string())?;
            redis::cmd("PING").exec_async(&mut connection).await.map_err(|e| e.to_string())
        })
        .await
    }
}

/// A connection to a Redis that may take its time, as it does while other servers start; the driver's own limit is half a
/// second.
///
/// # Errors
/// Those of the driver.
pub async fn redis_connection(url: &str) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new();
    let config = config.set_connection_timeout(Some(START_TIMEOUT)).set_response_timeout(Some(START_TIMEOUT));
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// A MariaDB server of our own.
pub struct PrivateMariaDb {
    host: Host,
    program: PathBuf,
    port: u16,
    password: String,
}

impl PrivateMariaDb {
    /// # Errors
    /// When no MariaDB is installed (the text says how to get it), or it does not start (its last words).
    pub async fn start() -> Result<Self, ServerError> {
        let mut places = vec![PathBuf::from("/usr/sbin"), PathBuf::from("/usr/libexec")];
        places.extend(homebrew("mariadb"));
        let bin = host::find(&["mariadbd"], &places).ok_or(ServerError::MariaDbMissing)?;
        let install = host::find(&["mariadb-install-db"], &places).ok_or(ServerError::MariaDbMissing)?;
        let place = |error| ServerError::Place { server: MARIADB, error };
        let mut host = Host::new("TERM", "KILL").map_err(place)?;
        let password = password();
        let mut install = host.command(&install.join("mariadb-install-db"));
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args([NO_SYNC, "--innodb-log-file-size=4M"]).arg(data(&host));
        host.run(install).await.map_err(place)?.map_err(|text| ServerError::Start { server: MARIADB, text })?;
        let mut server = Self { host, program: bin.join("mariadbd"), port: 0, password };
        on_free_port(MARIADB, async |port| server.launch(port).await).await?;
        Ok(server)
    }

    /// Connection string of one of its databases, which need not exist.
    pub(crate) fn url_of(&self, database: &str) -> String {
        format!("mysql://{OWNER}:{}@127.0.0.1:{}/{database}?ssl-mode=disabled", self.password, self.port)
    }

    /// Creates a database and gives its connection string.
    ///
    /// # Errors
    /// When the name is not made of `a-z`, `0-9` and `_`, or is taken.
    pub async fn database(&self, name: &str) -> Result<String, ServerError> {
        let error = |text: String| ServerError::Database { name: name.to_owned(), text };
        check_name(name).map_err(error)?;
        let mut connection = MySqlConnection::connect(&self.url_of("mysql")).await.map_err(|e| error(e.to_string()))?;
        let create = AssertSqlSafe(format!("create database {name} character set utf8mb4"));
        connection.execute(sqlx::raw_sql(create)).await.map_err(|e| error(e.to_string()))?;
        let _ = connection.close().await;
        Ok(self.url_of(name))
    }

    async fn launch(&mut self, port: u16) -> Result<(), ServerError> {
        self.port = port;
        let place = |error| ServerError::Place { server: MARIADB, error };
        // The account is made at every start, as nobody else's; there is no other that can log in over the network.
        let accounts = format!(
            "create or replace user {OWNER}@'127.0.0.1' identified by '{p}';\n\
             grant all on *.* to {OWNER}@'127.0.0.1' with grant option;\n\
             alter user root@localhost account lock;\n",
            p = self.password
        );
        let accounts = self.host.write("accounts.sql", &accounts).map_err(place)?;
        let mut mariadb = self.host.command(&self.program);
        mariadb.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]).arg(data(&self.host));
        mariadb.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--max-connections=100"]);
        mariadb.args([NO_SYNC, "--innodb-log-file-size=4M", "--default-time-zone=+00:00", "--pid-file=pid"]);
        mariadb.arg(format!("--port={}", self.port));
        mariadb.arg(format!("--socket={}", self.host.path().join("s").display()));
        mariadb.arg(format!("--init-file={}", accounts.display()));
        self.host.spawn(mariadb).map_err(place)?;
        let url = self.url_of("mysql");
        until_ready(&mut self.host, MARIADB, async || {
            let connection = MySqlConnection::connect(&url).await.map_err(|e| e.to_string())?;
            connection.close().await.map_err(|e| e.to_string())
        })
        .await
    }
}

fn check_name(database: &str) -> Result<(), String> {
    let is_good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let is_name = !database.is_empty() && database.bytes().all(is_good);
    is_name.then_some(()).ok_or_else(|| "a name is made of a-z, 0-9 and _".to_owned())
}

/// MariaDB's data, absolute: it takes a relative directory for one below its programs.
fn data(host: &Host) -> String {
    format!("--datadir={}", host.path().join("data").display())
}

/// Asks until the server answers: a matter of 50 ms.
async fn until_ready(
    host: &mut Host,
    server: &'static str,
    ask: impl AsyncFn() -> Result<(), String>,
) -> Result<(), ServerError> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let Err(text) = ask().await else { return Ok(()) };
        if host.ended() {
            return Err(ServerError::Start { server, text: host.last_words() });
        }
        if Instant::now() > deadline {
            host.stop();
            return Err(ServerError::Start { server, text });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Launches a server on a free port, and on another one where a process has taken that before the server did.
async fn on_free_port(
    server: &'static str,
    mut launch: impl AsyncFnMut(u16) -> Result<(), ServerError>,
) -> Result<(), ServerError> {
    let mut others = 1..PORT_TRIES;
    loop {
        let port = host::free_port().map_err(|error| ServerError::Place { server, error })?;
        match launch(port).await {
            Err(ServerError::Start { text, .. })
                if text.contains("ddress already in use") && others.next().is_some() => {}
            other => return other,
        }
    }
}

fn password() -> String {
    rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect()
}

/// Where packages put PostgreSQL's programs without a link on `PATH`; the newest version first.
fn postgres_places() -> Vec<PathBuf> {
    let mut places = versions("/usr/lib/postgresql", "");
    places.extend(versions("/usr", "pgsql-"));
    places.extend(homebrew("postgresql"));
    places
}

pub(crate) fn homebrew(formula: &str) -> Vec<PathBuf> {
    ["/opt/homebrew/opt", "/usr/local/opt"].into_iter().flat_map(|parent| versions(parent, formula)).collect()
}

/// `parent/<prefix><version>/bin`, the newest version first.
fn versions(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(Path::new(parent))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.trim_start_matches('@');
            // A formula without a version is the newest.
            let version = if version.is_empty() { u32::MAX } else { version.split('.').next()?.parse().ok()? };
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, bin)| bin).collect()
}
