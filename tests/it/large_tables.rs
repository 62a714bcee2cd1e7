//! Large tables of relays on PostgreSQL: whatever an exporter does in its life, no statement walks through one, by the
//! database's own statistics.

use std::sync::{Arc, Mutex};

use chrono::Utc;
use llm_relay_exporter::check::check;
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::relay;
use llm_relay_exporter::settings::RelayPlan;
use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

use crate::reading::{Saved, settle};
use crate::wait::until;
use crate::{new_api, sub2api};

/// A relay that has run for 90 days.
struct Large {
    plan: RelayPlan,
    tables: &'static [&'static str],
    /// A request that comes while the exporter looks.
    request: &'static str,
}

impl Large {
    async fn new(plan: RelayPlan, tables: &'static [&'static str], fill: &str, request: &'static str) -> Self {
        let it = Self { plan, tables, request };
        it.run(&format!("{fill}; analyze {}", tables.join(", "))).await;
        it
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.plan.database_url.expose_secret()).await.unwrap()
    }

    async fn run(&self, sql: &str) {
        let mut owner = self.connect().await;
        raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut owner).await.unwrap();
        owner.close().await.unwrap();
    }

    /// By all sessions, once they have ended: before it ends a session tells what it did.
    async fn scans(&self) -> i64 {
        let mut connection = self.connect().await;
        let others = "select count(*) from pg_stat_activity
            where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()";
        let mut open = async || sqlx::query_scalar::<_, i64>(others).fetch_one(&mut connection).await.unwrap();
        until("all sessions end", async || open().await == 0).await;
        let sql = "select sum(seq_scan)::bigint from pg_stat_user_tables where relname = any($1)";
        sqlx::query_scalar(sql).bind(self.tables).fetch_one(&mut connection).await.unwrap()
    }

    /// How often tables were walked through by a check, a first read with its audit, new rows, a look at all else, and a
    /// restart.
    async fn walks(&self, follower: impl Fn(&RelayPlan) -> Follower) -> i64 {
        let before = self.scans().await;
        check(&self.plan).await.unwrap();
        let (mut first, mut saved) = (follower(&self.plan), Saved::default());
        settle(&mut first).await;
        saved.save(&mut first);
        self.run(self.request).await;
        settle(&mut first).await;
        drop(first);
        let mut relay = relay::open(&self.plan).unwrap();
        let directory = relay.directory.read().await.unwrap();
        relay.live.as_mut().unwrap().read(&directory).await.unwrap();
        drop(relay);
        let mut second = saved.restored(follower(&self.plan));
        settle(&mut second).await;
        drop(second);
        self.scans().await - before
    }
}

#[tokio::test]
async fn nothing_walks_through_sub2apis_ledger_or_its_error_log() {
    let mut store = sub2api::database::Store::new("large").await;
    store.people().await;
    let fill = "
        insert into usage_logs (user_id, api_key_id, account_id, model, input_tokens, total_cost, actual_cost, created_at)
        select 1 + n % 3, 1 + n % 3, 1 + n % 3, 'sonnet', 10, 0.01, 0.01, now() - interval '90 days' * (1 - n / 60000.0)
        from generate_series(1, 60000) n;
        insert into ops_error_logs (user_id, api_key_id, account_id, model, error_phase, error_type, status_code, created_at)
        select 1, 1, 1, 'sonnet', 'upstream', 'upstream_error', 502, now() - interval '30 days' * (1 - n / 20000.0)
        from generate_series(1, 20000) n";
    let request = "insert into usage_logs (user_id, api_key_id, account_id, model) values (1, 1, 1, 'sonnet')";
    let plan = store.plan();
    drop(store);
    let large = Large::new(plan, &["usage_logs", "ops_error_logs"], fill, request).await;
    assert_eq!(large.walks(sub2api::database::follower).await, 0);
}

#[tokio::test]
async fn nothing_walks_through_new_apis_log() {
    let server = new_api::database::Place::postgres().await;
    let (mut db, url) = server.relay("large").await;
    new_api::database::people(&mut db).await;
    let fill = "
        insert into logs (created_at, type, user_id, token_id, channel_id, model_name, quota, prompt_tokens, completion_tokens)
        select extract(epoch from now())::bigint - 130 * (60000 - n), 2, 1 + n % 3, 1 + n % 3, 1 + n % 3, 'sonnet', 9, 9, 9
        from generate_series(1, 60000) n";
    let request = "insert into logs (created_at, type, user_id, token_id, channel_id, model_name, quota)
        values (extract(epoch from now())::bigint, 2, 1, 1, 1, 'sonnet', 9)";
    drop(db);
    let large = Large::new(new_api::database::plan(&url, "UTC"), &["logs"], fill, request).await;
    let follower = |plan: &RelayPlan| new_api::database::follower(plan, &Arc::new(Mutex::new(Utc::now())));
    assert_eq!(large.walks(follower).await, 0);
}
