//! Names, budgets, deployments.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDateTime;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::Mutex;

use super::budget;
use super::deployments::{Deployment, Deployments};
use super::identity::Kind;
use super::schema::{END_USERS, ORGANIZATIONS, Schema, TEAMS};
use super::statements;
use crate::connect::postgres::Snapshot;
use crate::model::{Directory, EntityId, Key, Limit, Organization, Provider, ReadError, Scope, Team, User};
use crate::relay::DirectorySource;
use crate::relay::known_database::KnownDatabase;

const DELETED: &str = "LiteLLM_DeletedVerificationToken";
const MODELS: &str = "LiteLLM_ProxyModelTable";

pub(super) struct DirectoryReader {
    database: Arc<Mutex<KnownDatabase<Schema>>>,
    deployments: Deployments,
}

impl DirectoryReader {
    pub(super) fn new(database: Arc<Mutex<KnownDatabase<Schema>>>, deployments: Deployments) -> Self {
        Self { database, deployments }
    }

    async fn read_all(&self, snapshot: &mut Snapshot, schema: &Schema) -> Result<Directory, ReadError> {
        let mut directory = Directory {
            currency: Some("USD".to_owned()),
            version: version(snapshot, schema).await?,
            timezone: "UTC".to_owned(),
            states_are_checks: true,
            ..Directory::default()
        };
        for row in snapshot.fetch("reading users", sqlx::query(include_str!("sql/users.sql"))).await? {
            let read = user(&row).and_then(|user| Ok((budget::limit(&row, Scope::User, &user.id)?, user)));
            understood("user", read, &mut directory.users, &mut directory.limits);
        }
        let mut keys = snapshot.fetch("reading keys", sqlx::query(schema.fit(include_str!("sql/keys.sql")))).await?;
        if schema.reads(DELETED) {
            let deleted = sqlx::query(include_str!("sql/deleted_keys.sql"));
            keys.extend(snapshot.fetch("reading deleted keys", deleted).await?);
        }
        for row in keys {
            let read = key(&row).and_then(|key| Ok((budget::limit(&row, Scope::Key, &key.id)?, key)));
            understood("key", read, &mut directory.keys, &mut directory.limits);
        }
        read_owners(snapshot, schema, &mut directory).await?;
        // Those who call without a key of the table.
        directory.keys.extend(self.deployments.callers().into_iter().map(|(id, name)| Key::of(id.into(), name)));
        directory.providers = self.providers(snapshot, schema).await?;
        if schema.reads(END_USERS) {
            // The last statement: what is refused ends the transaction.
            match statements::end_users(snapshot).await {
                Ok(count) => directory.end_users_today = Some(count),
                Err(error) => tracing::warn!(error = error.text, "end users are not counted"),
            }
        }
        Ok(directory)
    }

    async fn providers(&self, snapshot: &mut Snapshot, schema: &Schema) -> Result<Vec<Provider>, ReadError> {
        let mut seen = self.deployments.all();
        let mut providers = Vec::new();
        if schema.reads_column(MODELS, "model_id") {
            let blocked = if schema.has(MODELS, "blocked") { "m.blocked" } else { "false" };
            let text = include_str!("sql/models.sql").replace("{blocked}", blocked);
            let what = "reading deployments";
            for row in snapshot.fetch(what, sqlx::query(AssertSqlSafe(text))).await? {
                let mut read = || {
                    let number = Kind::Deployment.number(row.try_get("model_id")?);
                    let seen = seen.remove(&number);
                    let kind = seen.map_or_else(String::new, |seen| seen.provider);
                    let group: String = row.try_get("name")?;
                    let enabled = !row.try_get::<bool, _>("blocked")?;
                    Ok(provider(number, Deployment { group, provider: kind }, Some(enabled)))
                };
                let read: Result<Provider, sqlx::Error> = read();
                providers.push(read.map_err(|error| snapshot.error(what, &error))?);
            }
        }
        providers.extend(seen.into_iter().map(|(number, it)| provider(number, it, None)));
        Ok(providers)
    }
}

#[async_trait]
impl DirectorySource for DirectoryReader {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        let mut database = self.database.lock().await;
        let (mut snapshot, schema) = database.snapshot().await?;
        let result = self.read_all(&mut snapshot, &schema).await;
        database.end(snapshot, result).await
    }
}

/// Teams and organizations, as far as this release and role have them.
async fn read_owners(snapshot: &mut Snapshot, schema: &Schema, directory: &mut Directory) -> Result<(), ReadError> {
    if schema.reads_column(TEAMS, "team_id") {
        let query = sqlx::query(schema.fit(include_str!("sql/teams.sql")));
        for row in snapshot.fetch("reading teams", query).await? {
            let read = team(&row).and_then(|team| Ok((budget::limit(&row, Scope::Team, &team.id)?, team)));
            understood("team", read, &mut directory.teams, &mut directory.limits);
        }
    }
    if schema.reads(ORGANIZATIONS) {
        let query = sqlx::query(schema.fit(include_str!("sql/organizations.sql")));
        for row in snapshot.fetch("reading organizations", query).await? {
            let read = organization(&row).and_then(|it| Ok((budget::limit(&row, Scope::Organization, &it.id)?, it)));
            understood("organization", read, &mut directory.organizations, &mut directory.limits);
        }
    }
    Ok(())
}

/// The newest migration, which is no release, but tells of one; empty where the schema came without migrations.
async fn version(snapshot: &mut Snapshot, schema: &Schema) -> Result<String, ReadError> {
    if !schema.reads("_prisma_migrations") {
        return Ok(String::new());
    }
    let what = "reading the newest migration";
    let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/version.sql"))).await?;
    let version: Option<String> = row.try_get("version").map_err(|error| snapshot.error(what, &error))?;
    Ok(version.unwrap_or_default())
}

/// One entity that cannot be understood does not take the others with it.
fn understood<T>(
    entity: &str,
    read: Result<(Option<Limit>, T), sqlx::Error>,
    entities: &mut Vec<T>,
    limits: &mut Vec<Limit>,
) {
    match read {
        Ok((limit, it)) => {
            limits.extend(limit);
            entities.push(it);
        }
        Err(error) => tracing::warn!(entity, %error, "left out an entity that could not be understood"),
    }
}

fn user(row: &PgRow) -> Result<User, sqlx::Error> {
    let id: &str = row.try_get("user_id")?;
    Ok(User {
        id: Kind::User.number(id).into(),
        name: Kind::User.name(&[row.try_get("alias")?, Some(id)], id),
        role: row.try_get("role")?,
        enabled: None,
        deleted: false,
        expires_at: None,
        sessions: None,
        requests_per_minute: None,
        balance: None,
    })
}

fn key(row: &PgRow) -> Result<Key, sqlx::Error> {
    let token: &str = row.try_get("token")?;
    let id = EntityId::from(Kind::Key.number(token));
    let user: Option<&str> = row.try_get("user_id")?;
    let at = |column| row.try_get::<Option<NaiveDateTime>, _>(column).map(|at| at.map(|at| at.and_utc()));
    Ok(Key {
        name: Kind::Key.name(&[row.try_get("alias")?], token),
        user_id: user.filter(|user| !user.is_empty()).map(|user| Kind::User.number(user).into()),
        enabled: Some(row.try_get("enabled")?),
        // The Usage page shows it all the same.
        deleted: false,
        expires_at: at("expires_at")?,
        created_at: at("created_at")?,
        slots: None,
        sessions: None,
        counts_as: id.clone(),
        id,
    })
}

fn team(row: &PgRow) -> Result<Team, sqlx::Error> {
    let id: &str = row.try_get("team_id")?;
    let above: Option<&str> = row.try_get("organization_id")?;
    Ok(Team {
        id: Kind::Team.number(id).into(),
        name: Kind::Team.name(&[row.try_get("alias")?, Some(id)], id),
        organization_id: above.filter(|id| !id.is_empty()).map(|id| Kind::Organization.number(id).into()),
        enabled: Some(row.try_get("enabled")?),
    })
}

fn organization(row: &PgRow) -> Result<Organization, sqlx::Error> {
    let id: &str = row.try_get("organization_id")?;
    let name = Kind::Organization.name(&[row.try_get("alias")?, Some(id)], id);
    Ok(Organization { id: Kind::Organization.number(id).into(), name })
}

fn provider(number: i64, it: Deployment, enabled: Option<bool>) -> Provider {
    let name = match (&*it.group, &*it.provider) {
        (group, "") => group.to_owned(),
        ("", provider) => provider.to_owned(),
        (group, provider) => format!("{group} · {provider}"),
    };
    Provider { id: number.into(), name, kind: it.provider, group: it.group, enabled, deleted: false, slots: None }
}
