//! Read-only sessions with the servers and files that relays keep their data in. Nothing here knows a relay.

pub(crate) mod address;
pub mod mysql;
pub mod postgres;
pub mod redis;
pub(crate) mod sql;
pub mod sqlite;
pub(crate) mod tls;

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
