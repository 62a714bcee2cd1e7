//! Read-only sessions with the servers and files that relays keep their data in. Nothing here knows a relay.

pub(crate) mod address;
pub mod mysql;
pub mod postgres;
pub mod redis;
mod session;
pub(crate) mod sql;
pub mod sqlite;
pub(crate) mod tls;

use crate::model::{ReadError, Reason};

/// What became of a statement in its time.
type Timed<T> = Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>;

/// The value of a statement, or its error; `None` when it was not done in time. After that, and after an error that is
/// not harmless, its connection is not usable any more.
fn settle<T>(
    result: Timed<T>,
    usable: &mut bool,
    harmless: impl Fn(&sqlx::Error) -> bool,
) -> Result<T, Option<sqlx::Error>> {
    let error = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    *usable &= error.as_ref().is_some_and(harmless);
    Err(error)
}

/// What is wrong with an answer that the driver cannot read; `None` for every other error. `at` says what was read, where.
fn undecodable(at: &str, error: &sqlx::Error) -> Option<ReadError> {
    let text = match error {
        sqlx::Error::ColumnDecode { index, source } => format!("{at}: column {index}: {source}"),
        sqlx::Error::ColumnNotFound(column) => format!("{at}: no column {column} in the answer"),
        sqlx::Error::RowNotFound => format!("{at}: no row in the answer"),
        _ => return None,
    };
    Some(ReadError::new(Reason::Data, text))
}
