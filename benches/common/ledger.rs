//! A private PostgreSQL with the schema of Claude Code Hub and a ledger of any length.

use anyhow::Context;
use chrono::{Timelike, Utc};
use llm_relay_exporter::relays::claude_code_hub::least_schema;
use llm_relay_exporter::servers::PrivatePostgres;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, Row};

/// Requests written by one statement.
const CHUNK: u64 = 1_000_000;

/// What the relay looks like.
pub struct Shape {
    pub requests: u64,
    pub requests_per_day: u64,
    /// Requests of the five weeks before those.
    pub older: u64,
    /// Each has two keys.
    pub users: u64,
    pub providers: u64,
    pub models: u64,
}

impl Shape {
    /// A script for a relay of this shape.
    fn fit(&self, script: &str) -> String {
        let Self { users, providers, models, .. } = self;
        [("{users}", users), ("{providers}", providers), ("{models}", models)]
            .into_iter()
            .fold(script.to_owned(), |script, (name, number)| script.replace(name, &number.to_string()))
    }
}

/// The relay's database. Nothing is left of it when it is dropped.
pub struct Ledger {
    server: PrivatePostgres,
    /// As its owner.
    pub pool: PgPool,
    /// The relay's time zone: one where it is a little after noon, so that half of the day's rows are there.
    pub zone: String,
    shape: Shape,
}

impl Ledger {
    /// Takes about 20 s for a million requests, most of it for the relay's indexes.
    pub async fn start(shape: Shape) -> anyhow::Result<Self> {
        let mut server = PrivatePostgres::start().await?;
        let pool = PgPool::connect(&server.url()).await?;
        sqlx::raw_sql("alter system set shared_preload_libraries = 'pg_stat_statements'").execute(&pool).await?;
        pool.close().await;
        server.stop();
        server.restart().await?;
        let url = server.database("relay").await?;
        let pool = PgPoolOptions::new().max_connections(50).connect(&url).await?;
        let ledger = Self { server, pool, zone: noon(), shape };
        ledger.found().await.context("the relay's schema")?;
        let Shape { requests, requests_per_day, older, .. } = ledger.shape;
        let span = requests * 86_400 / requests_per_day;
        if older > 0 {
            ledger.fill(older, 35 * 86_400, span).await?;
        }
        ledger.fill(requests, span, 0).await?;
        Ok(ledger)
    }

    async fn found(&self) -> sqlx::Result<()> {
        for script in least_schema("v0.9.2") {
            sqlx::raw_sql(script).execute(&self.pool).await?;
        }
        self.run(include_str!("indexes.sql")).await?;
        self.run(&self.shape.fit(include_str!("cast.sql")).replace("{zone}", &self.zone)).await?;
        for statement in [
            "create extension pg_stat_statements",
            "alter system set pg_stat_statements.track_planning = on",
            "select pg_reload_conf()",
        ] {
            self.run(statement).await?;
        }
        Ok(())
    }

    /// Adds finished requests, evenly over `seconds`, the last of them `since` seconds ago.
    pub async fn fill(&self, requests: u64, seconds: u64, since: u64) -> anyhow::Result<()> {
        let mut connection = self.pool.acquire().await?;
        let top = "select coalesce(greatest(max(request_id), max(id) / 3 + 1), 0)::bigint from usage_ledger";
        let top: i64 = sqlx::query_scalar(top).fetch_one(&mut *connection).await?;
        let (first, last) = (top.unsigned_abs() + 1, top.unsigned_abs() + requests);
        // A new ledger gets its indexes afterwards.
        let indexes = if top == 0 { self.drop_indexes().await? } else { Vec::new() };
        for from in (first..=last).step_by(CHUNK as usize) {
            let to = (from + CHUNK - 1).min(last);
            let (age, span) = (since + (last - to) * seconds / requests, (to + 1 - from) * seconds / requests);
            let sql = self
                .shape
                .fit(include_str!("fill.sql"))
                .replace("{from}", &from.to_string())
                .replace("{to}", &to.to_string())
                .replace("{age}", &age.to_string())
                .replace("{span}", &span.to_string());
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.context("filling the ledger")?;
        }
        sqlx::raw_sql("set maintenance_work_mem = '1GB'").execute(&mut *connection).await?;
        for index in indexes {
            sqlx::raw_sql(AssertSqlSafe(index)).execute(&mut *connection).await.context("indexing the ledger")?;
        }
        sqlx::raw_sql("vacuum (analyze) usage_ledger").execute(&mut *connection).await?;
        Ok(())
    }

    /// Drops all but the primary key; gives the statements that make them again.
    async fn drop_indexes(&self) -> anyhow::Result<Vec<String>> {
        let rows = sqlx::query(
            "select indexname, indexdef from pg_indexes
             where tablename = 'usage_ledger' and indexname <> 'usage_ledger_pkey'",
        );
        let mut statements = Vec::new();
        for row in rows.fetch_all(&self.pool).await? {
            let name: String = row.try_get("indexname")?;
            self.run(&format!("drop index {name}")).await?;
            statements.push(row.try_get("indexdef")?);
        }
        Ok(statements)
    }

    /// A connection string of a new role that reads everything, so that its statements can be told apart.
    pub async fn reader(&self, role: &str) -> anyhow::Result<String> {
        self.run(&format!("create role {role} login password '{role}'; grant pg_read_all_data to {role}")).await?;
        Ok(format!("postgres://{role}:{role}@127.0.0.1:{}/relay?sslmode=disable", self.server.port()))
    }

    pub async fn run(&self, sql: &str) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.map(|_| ())
    }
}

fn noon() -> String {
    // The sign of these zones is that of POSIX: west of Greenwich is positive.
    format!("Etc/GMT{:+}", i64::from(Utc::now().hour()) - 12)
}
