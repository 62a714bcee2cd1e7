//! The relay's database, whichever engine it is: attempts, the error log, their ends and sums.

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use sqlx::mysql::MySqlRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use super::attempt::{Attempt, key_of};
use crate::connect::{mysql, sqlite};
use crate::model::{Outcome, ReadError, Reason};
use crate::relay::OpenError;
use crate::relay::plan::RelayPlan;

/// Keys that are kept apart, whatever is in the table.
const MOST_KEYS: u32 = 20_000;

/// A database of one of the two engines. Has at most one connection.
pub(super) enum Store {
    MySql(Box<mysql::Database>),
    Sqlite(sqlite::File),
}

impl Store {
    /// # Errors
    /// When the URL is of neither engine.
    pub(super) fn new(plan: &RelayPlan) -> Result<Self, OpenError> {
        let url = &plan.database_url;
        match url.expose_secret().split(':').next() {
            Some("mysql" | "mariadb") => mysql::Database::new(url, plan.timeout).map(|it| Self::MySql(Box::new(it))),
            Some("sqlite") => sqlite::File::new(url, plan.timeout).map(Self::Sqlite),
            _ => Err(OpenError("the database URL is neither mysql://, mariadb:// nor sqlite:".to_owned())),
        }
    }

    /// For people.
    pub(super) fn endpoint(&self) -> String {
        match self {
            Self::MySql(database) => format!("MySQL at {} as {}", database.endpoint(), database.account()),
            Self::Sqlite(file) => format!("SQLite file {}", file.endpoint()),
        }
    }

    pub(super) async fn session(&mut self) -> Result<Session, ReadError> {
        Ok(match self {
            Self::MySql(database) => Session::MySql(database.snapshot().await?),
            Self::Sqlite(file) => Session::Sqlite(file.snapshot().await?),
        })
    }

    /// Ends a look; keeps a server's connection, and closes a file.
    pub(super) async fn finish(&mut self, session: Session) {
        match (self, session) {
            (Self::MySql(database), Session::MySql(snapshot)) => database.finish(snapshot).await,
            (_, Session::Sqlite(snapshot)) => snapshot.close().await,
            (Self::Sqlite(_), Session::MySql(_)) => {}
        }
    }

    pub(super) async fn close(&mut self) {
        if let Self::MySql(database) = self {
            database.close().await;
        }
    }
}

/// Some statements, one after the other: of MySQL all see one moment; of SQLite, where an open read would stop the
/// relay, each sees its own. What belongs together is therefore bounded by an id that was read first.
pub(super) enum Session {
    MySql(mysql::Snapshot),
    Sqlite(sqlite::Snapshot),
}

/// A table of the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Attempts,
    Errors,
}

impl Table {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Attempts => "t_request_log",
            Self::Errors => "t_error_logs",
        }
    }
}

/// Both ends of the attempts, and the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub now: DateTime<Utc>,
    /// The greatest id; 0 when there is none.
    pub top: i64,
    /// The smallest id that has a time, with it.
    pub first: Option<(i64, i64)>,
}

/// One entry of the error log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ErrorEntry {
    pub id: i64,
    /// Naive microseconds.
    pub at: Option<i64>,
    pub key: Option<i64>,
    pub kind: Option<String>,
    pub code: Option<i64>,
}

/// Attempts with one model and one outcome by the relay's own rule, and how many they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub model: Option<String>,
    pub outcome: Outcome,
    pub requests: u64,
}

const MYSQL_CLOCK: &str = "timestampdiff(microsecond, '1970-01-01 00:00:00', utc_timestamp(6))";
/// Of this machine.
const SQLITE_CLOCK: &str = "null";

/// The greatest id first: what follows is bounded by it. SQLite walks through the whole table for both in one select.
fn ends_text(clock: &str) -> String {
    format!(
        "select coalesce((select max(id) from t_request_log), 0) as top, \
         coalesce((select min(id) from t_request_log), 0) as first, {clock} as now"
    )
}

impl Session {
    pub(super) async fn ends(&mut self) -> Result<Ends, ReadError> {
        let text = ends_text(match self {
            Self::MySql(_) => MYSQL_CLOCK,
            Self::Sqlite(_) => SQLITE_CLOCK,
        });
        let what = "looking at both ends of the request log";
        let ends = self.rows(what, text, |row| Ok((row.int("top")?, row.int("first")?, row.int("now")?))).await?;
        let Some(Ok((top, first, now))) = ends.into_iter().next() else {
            return Err(ReadError::new(Reason::Data, format!("{what}: the answer cannot be understood")));
        };
        let now = now.and_then(DateTime::from_timestamp_micros).unwrap_or_else(Utc::now);
        let (top, first) = (top.unwrap_or(0), first.unwrap_or(0));
        let first = if top > 0 { self.timed_from(first, top).await? } else { None };
        Ok(Ends { now, top, first })
    }

    /// The first attempt from an id on that has a time.
    pub(super) async fn timed_from(&mut self, from: i64, top: i64) -> Result<Option<(i64, i64)>, ReadError> {
        let which = format!("id >= {from} and id <= {top} and request_time is not null order by id limit 1");
        let found = self.attempts("looking for a time", &which).await?;
        Ok(found.into_iter().flatten().find_map(|row| Some((row.id, row.at?))))
    }

    /// Attempts by a range of ids; one that cannot be understood does not take the others with it.
    pub(super) async fn attempts(
        &mut self,
        what: &str,
        which: &str,
    ) -> Result<Vec<Result<Attempt, (Option<i64>, sqlx::Error)>>, ReadError> {
        let text = match self {
            Self::MySql(_) => include_str!("sql/attempts_mysql.sql"),
            Self::Sqlite(_) => include_str!("sql/attempts_sqlite.sql"),
        };
        let rows = self.rows(what, text.replace("{which}", which), |row| {
            Ok(Attempt::read(row).map_err(|error| (row.int("id").ok().flatten(), error)))
        });
        Ok(rows.await?.into_iter().filter_map(Result::ok).collect())
    }

    /// Entries of the error log; without their keys where this account may not read those.
    pub(super) async fn errors(&mut self, which: &str, with_keys: bool) -> Result<Vec<ErrorEntry>, ReadError> {
        let (text, key) = match self {
            Self::MySql(_) => {
                (include_str!("sql/errors_mysql.sql"), "cast(conv(left(sha2(gemini_key, 256), 8), 16, 10) as signed)")
            }
            Self::Sqlite(_) => (include_str!("sql/errors_sqlite.sql"), "gemini_key"),
        };
        let key = if with_keys { key } else { "null" };
        let text = text.replace("{key}", key).replace("{which}", which);
        let rows = self.rows("reading the error log", text, |row| {
            Ok(ErrorEntry {
                id: row.int("id")?.unwrap_or(0),
                at: row.int("at")?,
                key: if with_keys { key_of(row)? } else { None },
                kind: row.text("error_type")?,
                code: row.int("error_code")?,
            })
        });
        Ok(rows.await?.into_iter().filter_map(Result::ok).collect())
    }

    /// The greatest id of a table; 0 when it is empty.
    pub(super) async fn top(&mut self, table: Table) -> Result<i64, ReadError> {
        let text = format!("select coalesce(max(id), 0) as top from {}", table.name());
        let rows = self.rows("looking for the newest row", text, |row| row.int("top")).await?;
        Ok(rows.into_iter().find_map(|top| top.ok().flatten()).unwrap_or(0))
    }

    /// The distinct keys of a range of ids, hashed.
    pub(super) async fn keys(&mut self, after: i64, upto: i64) -> Result<Vec<i64>, ReadError> {
        let column = match self {
            Self::MySql(_) => {
                "cast(conv(left(sha2(api_key, 256), 8), 16, 10) as signed) as key_id, cast(null as char(1)) as api_key"
            }
            Self::Sqlite(_) => "null as key_id, api_key",
        };
        let text = format!(
            "select distinct {column} from t_request_log where id > {after} and id <= {upto} and api_key is not null limit {MOST_KEYS}"
        );
        let rows = self.rows("reading the keys", text, key_of).await?;
        Ok(rows.into_iter().filter_map(|key| key.ok().flatten()).collect())
    }

    /// Attempts of a range of ids and naive times `[from, to)`, by model and outcome.
    pub(super) async fn groups(&mut self, ids: (i64, i64), from: &str, to: &str) -> Result<Vec<Group>, ReadError> {
        let text = format!(
            "select model_name as model, {} as succeeded, {} as failed, count(*) as requests from t_request_log \
             where id > {} and id <= {} and request_time >= '{from}' and request_time < '{to}' group by 1, 2, 3",
            "coalesce(status_code >= 200 and status_code < 300, 0)",
            // A text is greater than any number in SQLite, so it is a failure there, too.
            "coalesce(status_code < 200 or status_code >= 300, 0)",
            ids.0,
            ids.1,
        );
        let what = "summing the request log";
        let rows = self.rows(what, text, |row| {
            Ok(Group {
                model: row.text("model")?,
                outcome: match (row.int("succeeded")?, row.int("failed")?) {
                    (Some(1), _) => Outcome::Success,
                    (_, Some(1)) => Outcome::Failure,
                    _ => Outcome::Excluded,
                },
                requests: row.int("requests")?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            })
        });
        let groups: Result<_, sqlx::Error> = rows.await?.into_iter().collect();
        groups.map_err(|_| ReadError::new(Reason::Data, format!("{what}: the answer cannot be understood")))
    }

    /// Each row as it is understood; the driver's rows, and a key that stands in one, are gone when this returns.
    pub(super) async fn rows<T>(
        &mut self,
        what: &str,
        text: String,
        read: impl Fn(&dyn Cells) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<Result<T, sqlx::Error>>, ReadError> {
        let query = AssertSqlSafe(text);
        Ok(match self {
            Self::MySql(snapshot) => {
                snapshot.fetch(what, sqlx::query(query)).await?.iter().map(|row| read(row)).collect()
            }
            Self::Sqlite(snapshot) => {
                snapshot.fetch(what, sqlx::query(query)).await?.iter().map(|row| read(row)).collect()
            }
        })
    }
}

/// A row of either engine.
pub(super) trait Cells {
    fn int(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;
    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error>;
}

impl Cells for MySqlRow {
    fn int(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get_unchecked(column)
    }

    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        self.try_get_unchecked(column)
    }
}

impl Cells for SqliteRow {
    fn int(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get_unchecked(column)
    }

    fn text(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        self.try_get_unchecked(column)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use sqlx::mysql::MySqlConnection;
    use sqlx::sqlite::SqliteConnection;
    use sqlx::{Connection, Executor, raw_sql};

    use super::*;
    use crate::relays::gemini_balance::{MYSQL_SCHEMA, SQLITE_SCHEMA};
    use crate::servers::PrivateMariaDb;

    const ROWS: i64 = 100_000;

    #[tokio::test]
    async fn both_ends_are_found_without_a_walk_through_sqlites_table() {
        let mut file = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        raw_sql(SQLITE_SCHEMA).execute(&mut file).await.unwrap();
        let fill = "insert into t_request_log (is_success) with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000) select 1 from n";
        file.execute(fill).await.unwrap();
        let steps = Arc::new(AtomicU32::new(0));
        let counted = steps.clone();
        let mut handle = file.lock_handle().await.unwrap();
        handle.set_progress_handler(1, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            true
        });
        drop(handle);
        let mut session = async |text: String| -> (i64, i64, u32) {
            steps.store(0, Ordering::Relaxed);
            let row = sqlx::query(AssertSqlSafe(text)).fetch_one(&mut file).await.unwrap();
            (row.get(0), row.get(1), steps.load(Ordering::Relaxed))
        };
        let (top, first, steps) = session(ends_text(SQLITE_CLOCK)).await;
        assert_eq!((top, first), (ROWS, 1));
        assert!((1..200).contains(&steps), "{steps} steps");
        // The control: both in one select.
        let (.., steps) = session("select max(id), min(id) from t_request_log".to_owned()).await;
        assert!(steps > 100_000, "{steps} steps");
    }

    #[tokio::test]
    async fn both_ends_are_found_without_a_walk_through_mariadbs_table() {
        let server = PrivateMariaDb::start().await.unwrap();
        let mut database = MySqlConnection::connect(&server.database("ends").await.unwrap()).await.unwrap();
        raw_sql(MYSQL_SCHEMA).execute(&mut database).await.unwrap();
        let fill = "insert into t_request_log (is_success) select 1 from seq_1_to_100000";
        database.execute(fill).await.unwrap();
        let mut rows_read = async |text: String| -> u64 {
            database.execute("flush status").await.unwrap();
            sqlx::query(AssertSqlSafe(text)).fetch_one(&mut database).await.unwrap();
            let status = database.fetch_all("show session status like 'Handler_read%'").await.unwrap();
            status.iter().map(|row| row.get::<String, _>(1).parse::<u64>().unwrap()).sum()
        };
        let read = rows_read(ends_text(MYSQL_CLOCK)).await;
        assert!(read < 20, "{read} rows");
        let read = rows_read("select count(*) from t_request_log".to_owned()).await;
        assert!(read >= ROWS.unsigned_abs(), "{read} rows");
    }
}
