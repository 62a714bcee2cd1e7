//! A relay's side of a database of any of the three engines.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, PgConnection, Row, SqliteConnection};

/// The relay's connection.
pub enum Db {
    Postgres(PgConnection),
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

/// A clock that a test turns: in PostgreSQL an unqualified now() finds it before the server's, in sessions to come.
pub const CLOCK: &str = "
    create schema clock; create table clock.hand (at timestamptz); insert into clock.hand values (clock_timestamp());
    create function clock.now() returns timestamptz language sql stable as 'select at from clock.hand';
    do $$ begin execute format('alter database %I set search_path = clock, pg_catalog, public', current_database()); end $$";

impl Db {
    pub async fn connect(url: &str) -> Self {
        match url.split(':').next().unwrap() {
            "postgres" => Self::Postgres(PgConnection::connect(url).await.unwrap()),
            "mysql" => Self::MySql(MySqlConnection::connect(url).await.unwrap()),
            _ => {
                // As relays open it: a rollback journal, and five seconds of patience.
                let path = url.strip_prefix("sqlite:").unwrap();
                let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
                Self::Sqlite(options.busy_timeout(Duration::from_secs(5)).connect().await.unwrap())
            }
        }
    }

    pub async fn try_run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Postgres(connection) => statement.execute(connection).await.map(drop),
            Self::MySql(connection) => statement.execute(connection).await.map(drop),
            Self::Sqlite(connection) => statement.execute(connection).await.map(drop),
        }
    }

    pub async fn run(&mut self, sql: &str) {
        self.try_run(sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// A text and some whole numbers by row.
    pub async fn table(&mut self, sql: &str) -> BTreeMap<String, Vec<i64>> {
        let statement = AssertSqlSafe(sql.to_owned());
        macro_rules! read {
            ($connection:expr) => {
                sqlx::query(statement)
                    .fetch_all($connection)
                    .await
                    .unwrap_or_else(|error| panic!("{error}: {sql}"))
                    .iter()
                    .map(|row| {
                        let name: String = row.get_unchecked(0);
                        (name, (1..row.len()).map(|i| row.get_unchecked::<Option<i64>, _>(i).unwrap_or(0)).collect())
                    })
                    .collect()
            };
        }
        match self {
            Self::Postgres(connection) => read!(connection),
            Self::MySql(connection) => read!(connection),
            Self::Sqlite(connection) => read!(connection),
        }
    }

    /// The numbers of the only row.
    pub async fn numbers(&mut self, columns: &str, rest: &str) -> Vec<i64> {
        self.table(&format!("select 'it', {columns} from {rest}")).await.remove("it").unwrap()
    }

    pub const fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// A sum as a whole number.
    pub fn sum(&self, of: &str) -> String {
        format!("cast(coalesce(sum({of}), 0) as {})", if matches!(self, Self::MySql(_)) { "signed" } else { "bigint" })
    }

    /// A name that is a word of SQL.
    pub fn quoted(&self, name: &str) -> String {
        if matches!(self, Self::MySql(_)) { format!("`{name}`") } else { format!("\"{name}\"") }
    }
}
