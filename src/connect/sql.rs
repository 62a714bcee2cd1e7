//! A database of any of the three engines: statements with question marks, cells of any row.

use std::borrow::Cow;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::mysql::MySqlRow;
use sqlx::postgres::PgRow;
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Encode, Row, Type};

use super::address::{OpenError, Store};
use super::{mysql, postgres, sqlite};
use crate::model::{ReadError, Reason};

/// Which engine it is, and with it the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    MySql,
    Sqlite,
}

/// A database of one of the engines. Has at most one connection.
pub(crate) enum Database {
    Postgres(Box<postgres::Database>),
    MySql(Box<mysql::Database>),
    Sqlite(sqlite::File),
}

impl Database {
    /// `limit` is the limit of one session, connecting included; `longest_statement` that of one statement on a SQLite file
    /// with a rollback journal.
    ///
    /// # Errors
    /// When the URL is of none of the engines.
    pub(crate) fn new(url: &SecretString, limit: Duration, longest_statement: Duration) -> Result<Self, OpenError> {
        let scheme = url.expose_secret().split(':').next().unwrap_or_default();
        let is = |store: Store| store.schemes().contains(&scheme);
        if is(Store::Postgres) {
            postgres::Database::new(url, limit).map(|it| Self::Postgres(Box::new(it)))
        } else if is(Store::MySql) {
            mysql::Database::new(url, limit).map(|it| Self::MySql(Box::new(it)))
        } else if is(Store::Sqlite) {
            sqlite::File::new(url, limit, longest_statement).map(Self::Sqlite)
        } else {
            Err(OpenError("the database URL is of neither PostgreSQL, MySQL nor SQLite".to_owned()))
        }
    }

    /// For people.
    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::Postgres(database) => format!("PostgreSQL at {} as {}", database.endpoint(), database.account()),
            Self::MySql(database) => format!("MySQL at {} as {}", database.endpoint(), database.account()),
            Self::Sqlite(file) => format!("SQLite file {}", file.endpoint()),
        }
    }

    /// Sizes of the files, in bytes; of a server, nothing.
    pub(crate) fn sizes(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Postgres(_) | Self::MySql(_) => Vec::new(),
            Self::Sqlite(file) => file.sizes(),
        }
    }

    /// # Errors
    /// When no connection can be had in time.
    pub(crate) async fn session(&mut self) -> Result<Session, ReadError> {
        Ok(match self {
            Self::Postgres(database) => Session::Postgres(database.snapshot().await?),
            Self::MySql(database) => Session::MySql(database.snapshot().await?),
            Self::Sqlite(file) => Session::Sqlite(file.snapshot().await?),
        })
    }

    /// Ends a look; keeps a server's connection, and closes a file.
    pub(crate) async fn finish(&mut self, session: Session) {
        match (self, session) {
            (Self::Postgres(database), Session::Postgres(snapshot)) => database.finish(snapshot).await,
            (Self::MySql(database), Session::MySql(snapshot)) => database.finish(snapshot).await,
            (_, Session::Sqlite(snapshot)) => snapshot.close().await,
            // Dropped, it closes its connection.
            _ => {}
        }
    }

    pub(crate) async fn close(&mut self) {
        match self {
            Self::Postgres(database) => database.close().await,
            Self::MySql(database) => database.close().await,
            Self::Sqlite(_) => {}
        }
    }
}

/// Some statements, one after the other. Of a server all see one moment. Of a SQLite file without a write-ahead log, where
/// an open read would stop the relay, each sees its own: what belongs together is bounded by an id that was read first.
pub(crate) enum Session {
    Postgres(postgres::Snapshot),
    MySql(mysql::Snapshot),
    Sqlite(sqlite::Snapshot),
}

/// A value of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Int(i64),
    Text(&'a str),
}

impl Session {
    pub(crate) const fn engine(&self) -> Engine {
        match self {
            Self::Postgres(_) => Engine::Postgres,
            Self::MySql(_) => Engine::MySql,
            Self::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// Each row of a statement as it is understood; `what` names the read in the error. The text is made of constants and
    /// of question marks, one for each value.
    ///
    /// # Errors
    /// Those of the statement, and when it was not done in time.
    pub(crate) async fn fetch<T>(
        &mut self,
        what: &str,
        text: &str,
        values: &[Value<'_>],
        read: impl Fn(&dyn Cells) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<Result<T, sqlx::Error>>, ReadError> {
        Ok(match self {
            Self::Postgres(snapshot) => {
                let query = bound(sqlx::query(AssertSqlSafe(numbered(text))), values);
                snapshot.fetch(what, query).await?.iter().map(|row| read(row)).collect()
            }
            Self::MySql(snapshot) => {
                let query = bound(sqlx::query(AssertSqlSafe(text.to_owned())), values);
                snapshot.fetch(what, query).await?.iter().map(|row| read(row)).collect()
            }
            Self::Sqlite(snapshot) => {
                let query = bound(sqlx::query(AssertSqlSafe(text.to_owned())), values);
                snapshot.fetch(what, query).await?.iter().map(|row| read(row)).collect()
            }
        })
    }

    /// The rows of a statement that are understood; the others are told, and left out.
    ///
    /// # Errors
    /// Those of [`Self::fetch`].
    pub(crate) async fn fetch_good<T>(
        &mut self,
        what: &str,
        text: &str,
        values: &[Value<'_>],
        read: impl Fn(&dyn Cells) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, ReadError> {
        let tell = |error: &sqlx::Error| tracing::warn!(%error, "{what}: left out a row that could not be understood");
        let rows = self.fetch(what, text, values, read).await?;
        Ok(rows.into_iter().filter_map(|row| row.inspect_err(tell).ok()).collect())
    }

    /// The only row of a statement.
    ///
    /// # Errors
    /// Those of [`Self::fetch`], and when there is none that can be understood.
    pub(crate) async fn fetch_one<T>(
        &mut self,
        what: &str,
        text: &str,
        values: &[Value<'_>],
        read: impl Fn(&dyn Cells) -> Result<T, sqlx::Error>,
    ) -> Result<T, ReadError> {
        let wrong = || ReadError::new(Reason::Data, format!("{what}: the answer cannot be understood"));
        self.fetch(what, text, values, read).await?.into_iter().next().and_then(Result::ok).ok_or_else(wrong)
    }
}

/// PostgreSQL's placeholders have numbers. Lines of comment, which explain them, are left out.
fn numbered(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("--")).collect();
    let text = lines.join("\n");
    let mut parts = text.split('?');
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    for (place, part) in parts.enumerate() {
        numbered += &format!("${}{part}", place + 1);
    }
    numbered
}

fn bound<'q, DB>(query: Query<'q, DB, DB::Arguments>, values: &[Value<'q>]) -> Query<'q, DB, DB::Arguments>
where
    DB: sqlx::Database,
    i64: Encode<'q, DB> + Type<DB>,
    &'q str: Encode<'q, DB> + Type<DB>,
{
    values.iter().fold(query, |query, value| match value {
        Value::Int(number) => query.bind(*number),
        Value::Text(text) => query.bind(*text),
    })
}

/// A row of any engine. A column of another type is an error, or is converted as the engine does it.
pub(crate) trait Cells {
    fn int(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;
    fn float(&self, column: &str) -> Result<Option<f64>, sqlx::Error>;
    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, sqlx::Error>;
}

impl dyn Cells + '_ {
    /// What is not UTF-8 becomes a replacement character.
    pub(crate) fn text(&self, column: &str) -> Result<Option<Cow<'_, str>>, sqlx::Error> {
        Ok(self.bytes(column)?.map(String::from_utf8_lossy))
    }
}

macro_rules! cells {
    ($row:ty) => {
        impl Cells for $row {
            fn int(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
                self.try_get_unchecked(column)
            }

            fn float(&self, column: &str) -> Result<Option<f64>, sqlx::Error> {
                self.try_get_unchecked(column)
            }

            fn bytes(&self, column: &str) -> Result<Option<&[u8]>, sqlx::Error> {
                self.try_get_unchecked(column)
            }
        }
    };
}

cells!(PgRow);
cells!(MySqlRow);
cells!(SqliteRow);
