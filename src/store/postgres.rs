//! The store in a PostgreSQL schema that replicas share. Locks belong to the session that also saves: a session that has
//! ended can neither hold the one nor do the other. So the address must be PostgreSQL's own, or that of a pooler in
//! session mode.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, PgConnection, Row, SqlSafeStr};
use tokio::time::timeout;

use super::statements::checkpoints;
use super::{Changes, Owner, StoreError, Stored, way_out};
use crate::connect::address::OpenError;
use crate::connect::postgres::{self, Server};

const NAME: &str = "llm_relay_exporter";
const RIGHTS: &str = "it needs `create` on the database, or to own the schema llm_relay_exporter";
/// Limit of connecting: the exporter's start waits for it.
const CONNECT: Duration = Duration::from_secs(5);
const MIGRATIONS: [(&str, &str); 1] =
    [("checkpoint", include_str!("../../migrations/store/postgres/0001_checkpoint.sql"))];

pub(crate) struct Schema {
    server: Server,
    session: Option<Session>,
}

struct Session {
    connection: PgConnection,
    /// Locks that this session holds, by the relay's key.
    leads: HashSet<i64>,
}

checkpoints!(PgConnection, include_str!("sql/postgres/begin_read.sql"), include_str!("sql/postgres/begin_write.sql"));

impl Schema {
    pub(crate) fn new(url: &SecretString) -> Result<Self, StoreError> {
        let refused =
            |text| StoreError::Refused(format!("the address of the store: {text}; a file is written as sqlite:<path>"));
        let mut servers = postgres::servers(url.expose_secret()).map_err(|flaw| refused(OpenError::from(flaw).0))?;
        match (servers.pop(), servers.is_empty()) {
            (Some(server), true) => Ok(Self { server, session: None }),
            _ => Err(refused("several hosts; name the one that takes writes".to_owned())),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.server.endpoint().to_owned()
    }

    pub(crate) async fn load(&mut self, owner: &Owner) -> Result<Option<Stored>, StoreError> {
        let mut session = self.session().await?;
        let stored = read(&mut session.connection, owner).await.map_err(|error| self.error("reading", &error))?;
        self.session = Some(session);
        Ok(stored)
    }

    pub(crate) async fn save(&mut self, owner: &Owner, changes: &Changes) -> Result<Option<i64>, StoreError> {
        let mut session = self.session().await?;
        if !session.leads.contains(&key(owner)) {
            self.session = Some(session);
            return Err(StoreError::NotWriter);
        }
        let saved =
            write(&mut session.connection, owner, changes).await.map_err(|error| self.error("writing", &error))?;
        self.session = Some(session);
        Ok(saved)
    }

    pub(crate) async fn become_writer(&mut self, owner: &Owner) -> Result<bool, StoreError> {
        let mut session = self.session().await?;
        let key = key(owner);
        // A session may lock twice, but then the lock would have to be given back twice.
        if !session.leads.contains(&key) {
            let become_writer = sqlx::query_scalar(include_str!("sql/postgres/lead.sql")).bind(key);
            let locked: bool = become_writer
                .fetch_one(&mut session.connection)
                .await
                .map_err(|error| self.error("locking", &error))?;
            if locked {
                session.leads.insert(key);
            }
        }
        let leads = session.leads.contains(&key);
        self.session = Some(session);
        Ok(leads)
    }

    /// A session that has ended holds no lock.
    pub(crate) async fn resign(&mut self, owner: &Owner) -> Result<(), StoreError> {
        let Some(mut session) = self.session.take() else { return Ok(()) };
        let key = key(owner);
        if session.leads.remove(&key) {
            let resign = sqlx::query(include_str!("sql/postgres/resign.sql")).bind(key);
            resign.execute(&mut session.connection).await.map_err(|error| self.error("unlocking", &error))?;
        }
        self.session = Some(session);
        Ok(())
    }

    /// The checkpoints of the owners as they are; `None` before there is a store. Makes and changes nothing.
    pub(crate) async fn inspect(&self, owners: &[Owner]) -> Result<Option<Vec<Option<Stored>>>, StoreError> {
        let mut connection = self.connect().await?;
        let what = "looking at";
        let inspect = sqlx::query(include_str!("sql/postgres/look.sql")).fetch_one(&mut connection).await;
        let inspect = inspect.map_err(|error| self.error(what, &error))?;
        let is = |column| inspect.try_get::<bool, _>(column).map_err(|error| self.error(what, &error));
        if !is("made")? {
            return if is("may_make")? { Ok(None) } else { Err(self.forbidden("the role may not make its schema")) };
        }
        if !is("may_write")? {
            return Err(self.forbidden("the role may not write to its tables"));
        }
        let version = sqlx::query_scalar(include_str!("sql/postgres/version.sql")).fetch_one(&mut connection).await;
        let version: i64 = version.map_err(|error| self.error(what, &error))?;
        if version > MIGRATIONS.len() as i64 {
            return Err(self.newer(version));
        }
        let mut seen = Vec::with_capacity(owners.len());
        for owner in owners {
            seen.push(read(&mut connection, owner).await.map_err(|error| self.error("reading", &error))?);
        }
        connection.close().await.map_err(|error| self.error(what, &error))?;
        Ok(Some(seen))
    }

    pub(crate) async fn close(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.connection.close().await
        {
            tracing::debug!(%error, "the store's session did not end well");
        }
    }

    /// The idle session, or a new one. Whoever is done puts it back; after an error it ends, and its locks with it.
    async fn session(&mut self) -> Result<Session, StoreError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let mut connection = self.connect().await?;
        self.migrate(&mut connection).await?;
        Ok(Session { connection, leads: HashSet::new() })
    }

    async fn connect(&self) -> Result<PgConnection, StoreError> {
        let connecting = |error: &sqlx::Error| self.error("connecting to", error);
        let connection = timeout(CONNECT, self.server.connect()).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {CONNECT:?}")).into())
        });
        let mut connection = connection.map_err(|error| connecting(&error))?;
        let session = sqlx::query(include_str!("sql/postgres/session.sql"));
        session.execute(&mut connection).await.map_err(|error| connecting(&error))?;
        Ok(connection)
    }

    async fn migrate(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let schema = sqlx::query_scalar(include_str!("sql/postgres/schema.sql")).fetch_one(&mut *connection).await;
        let exists: bool = schema.map_err(|error| self.error("preparing", &error))?;
        let migrations = (1..).zip(MIGRATIONS).map(|(version, (name, sql))| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let mut migrator = Migrator::with_migrations(migrations.collect());
        migrator.dangerous_set_table_name(format!("{NAME}._sqlx_migrations"));
        if !exists {
            migrator.create_schema(NAME);
        }
        migrator.run_direct(None, connection, false).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => self.error("preparing", &error),
            MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => self.newer(version),
            _ => self.refused(&format!("its schema {NAME} is not the exporter's own or is damaged")),
        })
    }

    fn newer(&self, version: i64) -> StoreError {
        self.refused(&format!("its schema {NAME} is of a newer exporter (migration {version})"))
    }

    fn forbidden(&self, what: &str) -> StoreError {
        StoreError::Refused(format!("the store {}: {what}; {RIGHTS}", self.endpoint()))
    }

    fn refused(&self, what: &str) -> StoreError {
        StoreError::Refused(format!("the store {}: {what}; {}", self.endpoint(), way_out()))
    }

    fn error(&self, what: &str, error: &sqlx::Error) -> StoreError {
        let at = format!("{what} the store {}", self.endpoint());
        let Some(refusal) = error.as_database_error() else {
            // A driver's text on a protocol error may repeat what was read.
            return match error {
                sqlx::Error::Io(error) => StoreError::Unavailable(format!("{at}: {error}")),
                sqlx::Error::Tls(error) => StoreError::Unavailable(format!("{at}: TLS: {error}")),
                sqlx::Error::ColumnDecode { index, .. } => self.refused(&format!("column {index} has another type")),
                _ => StoreError::Unavailable(format!("{at}: the connection cannot be used")),
            };
        };
        let (code, words) = (refusal.code().unwrap_or_default(), postgres::words(refusal));
        let hint = match &*code {
            "28P01" | "28000" => "; check user and password of [store] url, and pg_hba.conf",
            "3D000" => "; create the database, or check its name in [store] url",
            "42501" => return self.forbidden(&format!("{words} ({code})")),
            "42P07" | "42P01" | "42703" => "; the schema llm_relay_exporter is not the exporter's own, or damaged",
            _ => return StoreError::Unavailable(format!("{at}: {words} ({code})")),
        };
        StoreError::Refused(format!("{at}: {words} ({code}){hint}"))
    }
}

/// The lock's number: 64 bits of a digest, so that other users of advisory locks are not met by chance.
fn key(owner: &Owner) -> i64 {
    let digest = Sha256::digest(format!("{NAME}/{}/{}", owner.kind, owner.relay));
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(number)
}
