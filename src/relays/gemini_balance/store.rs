//! The relay's database, whichever engine it is: attempts, the error log, their ends and sums.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, key_of};
use crate::connect::sql::{self, Cells, Engine, Value};
use crate::model::{Outcome, ReadError, Reason};

/// Keys that are kept apart, whatever is in the table.
const MOST_KEYS: i64 = 20_000;

/// Rows of one statement: some 20 ms of SQLite, for which the relay's writes may have to wait.
pub(super) const STEP: i64 = 5_000;

/// Statements that say what they want. Of SQLite each sees its own moment, so what belongs together is bounded by an id that
/// was read first.
pub(super) struct Session(pub sql::Session);

/// A statement in the dialects of both engines.
#[derive(Clone, Copy)]
struct Text {
    mysql: &'static str,
    sqlite: &'static str,
}

impl Text {
    const fn same(text: &'static str) -> Self {
        Self { mysql: text, sqlite: text }
    }
}

macro_rules! dialects {
    ($name:literal) => {
        Text {
            mysql: include_str!(concat!("sql/", $name, "_mysql.sql")),
            sqlite: include_str!(concat!("sql/", $name, "_sqlite.sql")),
        }
    };
}

const ATTEMPTS: Text = dialects!("attempts");
const ENDS: Text = dialects!("ends");
const ERRORS: Text = dialects!("errors");
const GROUPS: Text = dialects!("groups");
const POOL_KEYS: Text = dialects!("pool_keys");
const SETTINGS: Text = Text::same(include_str!("sql/settings.sql"));
const TOP_ATTEMPT: Text = Text::same(include_str!("sql/top_attempt.sql"));
const TOP_ERROR: Text = Text::same(include_str!("sql/top_error.sql"));
const USED_KEYS: Text = dialects!("used_keys");

/// Which attempts are wanted: a range of the primary key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'a> {
    /// Above one id and up to another, the first `limit` of them.
    After {
        after: i64,
        upto: i64,
        limit: i64,
    },
    /// Up to an id, the last `limit` of them.
    Before {
        upto: i64,
        limit: i64,
    },
    /// As [`Self::After`], those that began within naive times `[from, to)`.
    Began {
        after: i64,
        upto: i64,
        from: &'a str,
        to: &'a str,
        limit: i64,
    },
    /// The first one above an id that has a time.
    Timed {
        after: i64,
        upto: i64,
    },
    Ids(&'a [i64]),
}

impl<'a> Which<'a> {
    /// What stands in the place of `{which}`, with a question mark for each value.
    fn condition(self) -> Cow<'static, str> {
        match self {
            Self::After { .. } => "id > ? and id <= ? order by id limit ?".into(),
            Self::Before { .. } => "id <= ? order by id desc limit ?".into(),
            Self::Began { .. } => {
                "id > ? and id <= ? and request_time >= ? and request_time < ? order by id limit ?".into()
            }
            Self::Timed { .. } => "id > ? and id <= ? and request_time is not null order by id limit 1".into(),
            Self::Ids(ids) => format!("id in ({})", vec!["?"; ids.len()].join(",")).into(),
        }
    }

    fn values(self) -> Vec<Value<'a>> {
        use Value::{Int, Text};
        match self {
            Self::After { after, upto, limit } => vec![Int(after), Int(upto), Int(limit)],
            Self::Before { upto, limit } => vec![Int(upto), Int(limit)],
            Self::Began { after, upto, from, to, limit } => {
                vec![Int(after), Int(upto), Text(from), Text(to), Int(limit)]
            }
            Self::Timed { after, upto } => vec![Int(after), Int(upto)],
            Self::Ids(ids) => ids.iter().map(|id| Int(*id)).collect(),
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

/// One entry of the error log, without its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ErrorEntry {
    pub id: i64,
    /// Naive microseconds.
    pub at: Option<i64>,
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

impl Session {
    pub(super) async fn ends(&mut self) -> Result<Ends, ReadError> {
        let what = "looking at both ends of the request log";
        let ends = self.rows(what, ENDS, &[], |row| Ok((row.int("top")?, row.int("first")?, row.int("now")?))).await?;
        let Some(Ok((top, first, now))) = ends.into_iter().next() else {
            return Err(ReadError::new(Reason::Data, format!("{what}: the answer cannot be understood")));
        };
        let now = now.and_then(DateTime::from_timestamp_micros).unwrap_or_else(Utc::now);
        let (top, first) = (top.unwrap_or(0), first.unwrap_or(0));
        let first = if top > 0 { self.timed_after(first - 1, top).await? } else { None };
        Ok(Ends { now, top, first })
    }

    /// The first attempt above an id that has a time.
    pub(super) async fn timed_after(&mut self, after: i64, upto: i64) -> Result<Option<(i64, i64)>, ReadError> {
        let found = self.attempts("looking for a time", Which::Timed { after, upto }).await?;
        Ok(found.into_iter().flatten().find_map(|row| Some((row.id, row.at?))))
    }

    /// Attempts by a range of ids; one that cannot be understood does not take the others with it.
    pub(super) async fn attempts(
        &mut self,
        what: &str,
        which: Which<'_>,
    ) -> Result<Vec<Result<Attempt, (Option<i64>, sqlx::Error)>>, ReadError> {
        let text = self.dialect(ATTEMPTS).replace("{which}", &which.condition());
        let values = which.values();
        let rows = self.0.fetch(what, &text, &values, |row| {
            Ok(Attempt::read(row).map_err(|error| (row.int("id").ok().flatten(), error)))
        });
        Ok(rows.await?.into_iter().filter_map(Result::ok).collect())
    }

    /// Entries of the error log with an id above `after`, up to `upto`.
    pub(super) async fn errors(&mut self, after: i64, upto: i64) -> Result<Vec<ErrorEntry>, ReadError> {
        let values = [Value::Int(after), Value::Int(upto)];
        let rows = self.rows("reading the error log", ERRORS, &values, |row| {
            Ok(ErrorEntry {
                id: row.int("id")?.unwrap_or(0),
                at: row.int("at")?,
                kind: row.text("error_type")?.map(Cow::into_owned),
                code: row.int("error_code")?,
            })
        });
        Ok(rows.await?.into_iter().filter_map(Result::ok).collect())
    }

    /// The greatest id of the attempts; 0 when there is none.
    pub(super) async fn top_attempt(&mut self) -> Result<i64, ReadError> {
        self.top(TOP_ATTEMPT).await
    }

    /// The greatest id of the error log; 0 when it is empty.
    pub(super) async fn top_error(&mut self) -> Result<i64, ReadError> {
        self.top(TOP_ERROR).await
    }

    async fn top(&mut self, text: Text) -> Result<i64, ReadError> {
        let rows = self.rows("looking for the newest row", text, &[], |row| row.int("top")).await?;
        Ok(rows.into_iter().find_map(|top| top.ok().flatten()).unwrap_or(0))
    }

    /// The distinct keys of a range of ids, hashed.
    pub(super) async fn used_keys(&mut self, after: i64, upto: i64) -> Result<Vec<i64>, ReadError> {
        let values = [Value::Int(after), Value::Int(upto), Value::Int(MOST_KEYS)];
        let rows = self.rows("reading the keys", USED_KEYS, &values, key_of).await?;
        Ok(rows.into_iter().filter_map(|key| key.ok().flatten()).collect())
    }

    /// The keys of the pool, hashed.
    pub(super) async fn pool_keys(&mut self) -> Result<Vec<i64>, ReadError> {
        let rows = self.rows("reading the keys of the pool", POOL_KEYS, &[], key_of).await?;
        Ok(rows.into_iter().filter_map(|key| key.ok().flatten()).collect())
    }

    /// Whether this account may read the relay's settings, with all its secrets; nothing of them is read.
    pub(super) async fn reads_settings(&mut self) -> bool {
        self.rows("looking whether secrets are readable", SETTINGS, &[], |row| row.int("it")).await.is_ok()
    }

    /// Attempts of a range of ids and naive times `[from, to)`, by model and outcome.
    pub(super) async fn groups(&mut self, ids: (i64, i64), from: &str, to: &str) -> Result<Vec<Group>, ReadError> {
        let what = "summing the request log";
        let values = [Value::Int(ids.0), Value::Int(ids.1), Value::Text(from), Value::Text(to)];
        let rows = self.rows(what, GROUPS, &values, |row| {
            Ok(Group {
                model: row.text("model")?.map(Cow::into_owned),
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

    pub(super) const fn is_server(&self) -> bool {
        !matches!(self.0.engine(), Engine::Sqlite)
    }

    const fn dialect(&self, text: Text) -> &'static str {
        if self.is_server() { text.mysql } else { text.sqlite }
    }

    /// Each row as it is understood; the driver's rows, and a key that stands in one, are gone when this returns.
    async fn rows<T>(
        &mut self,
        what: &str,
        text: Text,
        values: &[Value<'_>],
        read: impl Fn(&dyn Cells) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<Result<T, sqlx::Error>>, ReadError> {
        let text = self.dialect(text);
        self.0.fetch(what, text, values, read).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use sqlx::mysql::MySqlConnection;
    use sqlx::sqlite::SqliteConnection;
    use sqlx::{Connection, Executor, Row, raw_sql};

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
        let mut session = async |text: &'static str| -> (i64, i64, u32) {
            steps.store(0, Ordering::Relaxed);
            let row = sqlx::query(text).fetch_one(&mut file).await.unwrap();
            (row.get(0), row.get(1), steps.load(Ordering::Relaxed))
        };
        let (top, first, steps) = session(ENDS.sqlite).await;
        assert_eq!((top, first), (ROWS, 1));
        assert!((1..200).contains(&steps), "{steps} steps");
        // The control: both in one select.
        let (.., steps) = session("select max(id), min(id) from t_request_log").await;
        assert!(steps > 100_000, "{steps} steps");
    }

    #[tokio::test]
    async fn both_ends_are_found_without_a_walk_through_mariadbs_table() {
        let server = PrivateMariaDb::start().await.unwrap();
        let mut database = MySqlConnection::connect(&server.database("ends").await.unwrap()).await.unwrap();
        raw_sql(MYSQL_SCHEMA).execute(&mut database).await.unwrap();
        let fill = "insert into t_request_log (is_success) select 1 from seq_1_to_100000";
        database.execute(fill).await.unwrap();
        let mut rows_read = async |text: &'static str| -> u64 {
            database.execute("flush status").await.unwrap();
            sqlx::query(text).fetch_one(&mut database).await.unwrap();
            let status = database.fetch_all("show session status like 'Handler_read%'").await.unwrap();
            status.iter().map(|row| row.get::<String, _>(1).parse::<u64>().unwrap()).sum()
        };
        let read = rows_read(ENDS.mysql).await;
        assert!(read < 20, "{read} rows");
        let read = rows_read("select count(*) from t_request_log").await;
        assert!(read >= ROWS.unsigned_abs(), "{read} rows");
    }
}
