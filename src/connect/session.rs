//! Sessions with a database server: one held connection, read in consistent snapshots that cannot write, with limits on
//! both sides and honest errors.

use std::io;
use std::time::Duration;

use sqlx::database::HasStatementCache;
use sqlx::error::DatabaseError;
use sqlx::query::Query;
use sqlx::{Connection, Executor, IntoArguments};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Timed, settle, undecodable};
use crate::model::{ReadError, Reason};

/// How long one connection is used: addresses and accounts change behind names.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// A server that a URL names, and what its kind of database has of its own.
pub trait Server: Send + Sync {
    /// The driver's.
    type Database: sqlx::Database + HasStatementCache;

    /// The database's name, for people.
    const PRODUCT: &'static str;
    /// What to look at when the server cannot be trusted.
    const TLS_HINT: &'static str;
    /// Begins one consistent view of the store that cannot write.
    const BEGIN: &'static str;
    /// Ends it.
    const END: &'static str;
    /// Whether statements stay prepared for the next snapshot.
    const KEEPS_STATEMENTS: bool;

    /// `host:port/database`, for people.
    fn endpoint(&self) -> &str;

    /// The account that reads.
    fn account(&self) -> &str;

    /// The URL's own limit of connecting.
    fn connect_timeout(&self) -> Option<Duration> {
        None
    }

    /// A connection on which no statement runs longer than `limit`, if that is a property of connections.
    fn connect(
        &self,
        limit: Duration,
    ) -> impl Future<Output = Result<<Self::Database as sqlx::Database>::Connection, sqlx::Error>> + Send;

    /// The statement that sets the limits of one snapshot, if they are properties of transactions.
    fn limits(
        _limit: Duration,
    ) -> Option<Query<'static, Self::Database, <Self::Database as sqlx::Database>::Arguments>> {
        None
    }

    /// The class of a refusal, and what to say of it: no value that was read, and no secret.
    fn refusal(error: &dyn DatabaseError) -> (Reason, String);
}

/// The part of a snapshot's time that a statement of it may take: a query whose client has gone runs on until the server
/// stops it, so the server's limit is the shorter one.
pub(super) fn statement_limit(limit: Duration) -> Duration {
    limit.mul_f64(0.9)
}

/// A relay's database. Holds at most one connection, opened by the first snapshot.
pub struct Database<S: Server> {
    /// The first that answers is read.
    servers: Vec<S>,
    /// `host:port/database`, for people.
    endpoint: String,
    limit: Duration,
    idle: Option<Held<S>>,
}

struct Held<S: Server> {
    connection: <S::Database as sqlx::Database>::Connection,
    since: Instant,
    endpoint: String,
}

impl<S: Server> Database<S>
where
    for<'c> &'c mut <S::Database as sqlx::Database>::Connection: Executor<'c, Database = S::Database>,
    <S::Database as sqlx::Database>::Arguments: IntoArguments<S::Database>,
{
    pub(super) fn of(servers: Vec<S>, limit: Duration) -> Self {
        let endpoint = servers.iter().map(Server::endpoint).collect::<Vec<_>>().join(",");
        Self { servers, endpoint, limit, idle: None }
    }

    /// `host:port/database`, one after the other.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn account(&self) -> &str {
        self.servers.first().map_or("", Server::account)
    }

    /// Begins a consistent, read-only view of the store. Dropped without [`Database::finish`], it closes its connection.
    ///
    /// # Errors
    /// When no connection can be had, or the server does not take its settings, within the limit.
    pub async fn snapshot(&mut self) -> Result<Snapshot<S>, ReadError> {
        let deadline = Instant::now() + self.limit;
        // A connection that went bad while it was idle says nothing about the server.
        if let Some(held) = self.idle.take().filter(|held| held.since.elapsed() < MAX_AGE)
            && let Ok(snapshot) = self.begin(held, deadline).await
        {
            return Ok(snapshot);
        }
        let mut failed: Option<ReadError> = None;
        for (tried, server) in self.servers.iter().enumerate() {
            // One that says nothing must leave time for the next.
            let time = deadline.saturating_duration_since(Instant::now()) / (self.servers.len() - tried) as u32;
            let time = server.connect_timeout().map_or(time, |own| own.min(time));
            let error = match timeout(time, server.connect(self.limit)).await {
                Ok(Ok(connection)) => {
                    let held = Held { connection, since: Instant::now(), endpoint: server.endpoint().to_owned() };
                    return self.begin(held, deadline).await;
                }
                Ok(Err(error)) => read_error::<S>(server.endpoint(), "connecting", &error),
                Err(_) => {
                    let (product, endpoint) = (S::PRODUCT, server.endpoint());
                    let text = format!(
                        "connecting to {product} at {endpoint}: no answer within {time:.1?}; check the address and the firewall"
                    );
                    ReadError::new(Reason::Timeout, text)
                }
            };
            failed = Some(match failed {
                Some(before) => ReadError::new(error.reason, format!("{}; {}", before.text, error.text)),
                None => error,
            });
        }
        Err(failed.unwrap_or_else(|| ReadError::new(Reason::Connection, "the database URL names no host".to_owned())))
    }

    async fn begin(&self, held: Held<S>, deadline: Instant) -> Result<Snapshot<S>, ReadError> {
        let mut snapshot = Snapshot { held, deadline, limit: self.limit, usable: true };
        snapshot.execute("beginning", S::BEGIN).await?;
        if let Some(limits) = S::limits(self.limit) {
            snapshot.fetch("setting limits", limits).await?;
        }
        Ok(snapshot)
    }

    /// Ends a snapshot and keeps its connection for the next one when it is still good.
    pub async fn finish(&mut self, mut snapshot: Snapshot<S>) {
        if !snapshot.usable {
            return;
        }
        snapshot.deadline = snapshot.deadline.max(Instant::now() + Duration::from_secs(1));
        if snapshot.execute("ending", S::END).await.is_ok() {
            self.idle = Some(snapshot.held);
        }
    }

    /// Says goodbye to the server; without it the server only notices that the peer has gone.
    pub async fn close(&mut self) {
        if let Some(held) = self.idle.take() {
            // The peer may be gone already.
            let _ = timeout(Duration::from_secs(1), held.connection.close()).await;
        }
    }
}

/// One consistent view of the store.
pub struct Snapshot<S: Server> {
    held: Held<S>,
    deadline: Instant,
    limit: Duration,
    /// False once the connection is in an unknown state.
    usable: bool,
}

impl<S: Server> Snapshot<S>
where
    for<'c> &'c mut <S::Database as sqlx::Database>::Connection: Executor<'c, Database = S::Database>,
    <S::Database as sqlx::Database>::Arguments: IntoArguments<S::Database>,
{
    /// All rows of a statement; `what` names the read in the error.
    pub(crate) async fn fetch(
        &mut self,
        what: &str,
        query: Query<'_, S::Database, <S::Database as sqlx::Database>::Arguments>,
    ) -> Result<Vec<<S::Database as sqlx::Database>::Row>, ReadError> {
        let query = query.persistent(S::KEEPS_STATEMENTS);
        let result = timeout_at(self.deadline, query.fetch_all(&mut self.held.connection)).await;
        self.settle(what, result)
    }

    /// The only row of a statement.
    ///
    /// # Errors
    /// When it fails, or gives no row.
    pub async fn fetch_one(
        &mut self,
        what: &str,
        query: Query<'_, S::Database, <S::Database as sqlx::Database>::Arguments>,
    ) -> Result<<S::Database as sqlx::Database>::Row, ReadError> {
        let row = self.fetch(what, query).await?.pop();
        row.ok_or_else(|| self.error(what, &sqlx::Error::RowNotFound))
    }

    async fn execute(&mut self, what: &str, statement: &'static str) -> Result<(), ReadError> {
        let result = timeout_at(self.deadline, (&mut self.held.connection).execute(sqlx::raw_sql(statement))).await;
        self.settle(what, result).map(|_| ())
    }

    fn settle<T>(&mut self, what: &str, result: Timed<T>) -> Result<T, ReadError> {
        let harmless = |error: &_| matches!(error, sqlx::Error::Database(_));
        settle(result, &mut self.usable, harmless).map_err(|error| match error {
            Some(error) => self.error(what, &error),
            None => {
                let text = format!(
                    "{what} from {} at {}: not done within {:?}; raise `timeout`, or see `check` for a missing index",
                    S::PRODUCT,
                    self.held.endpoint,
                    self.limit
                );
                ReadError::new(Reason::Timeout, text)
            }
        })
    }

    /// An error of this store in the words of the log.
    pub(crate) fn error(&self, what: &str, error: &sqlx::Error) -> ReadError {
        read_error::<S>(&self.held.endpoint, what, error)
    }
}

/// What went wrong, where, and what to do. Names no value that was read and no secret.
fn read_error<S: Server>(endpoint: &str, what: &str, error: &sqlx::Error) -> ReadError {
    let at = format!("{what}: {} at {endpoint}", S::PRODUCT);
    if let Some(error) = undecodable(&at, error) {
        return error;
    }
    let hint = S::TLS_HINT;
    let (reason, text) = match error {
        sqlx::Error::Database(refusal) => S::refusal(refusal.as_ref()),
        // What the TLS library refuses comes as invalid data.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            (Reason::Connection, format!("TLS: {error}; {hint}"))
        }
        sqlx::Error::Tls(error) => (Reason::Connection, format!("TLS: {error}; {hint}")),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            (Reason::Connection, format!("{error}; check the files that the URL names"))
        }
        sqlx::Error::Io(error) => {
            (Reason::Connection, format!("{error}; check that it runs and that the address is right"))
        }
        sqlx::Error::Protocol(_) => {
            (Reason::Connection, format!("an answer that is not {}'s; check host and port", S::PRODUCT))
        }
        _ => (Reason::Connection, "the connection cannot be used; check the URL".to_owned()),
    };
    ReadError::new(reason, format!("{at}: {text}"))
}
