//! Claude Code Hub: faults of PostgreSQL, and of Redis.

use async_trait::async_trait;
use llm_relay_exporter::model::Source;
use llm_relay_exporter::servers::{PrivatePostgres, PrivateRedis, redis_connection};
use llm_relay_exporter::settings::RelayPlan;
use sqlx::{Connection, PgConnection};

use super::{Act, Case, Site, quick, signal, wire};
use crate::claude_code_hub::{Store, as_role, plan, postgres, redis_server};
use crate::claude_code_hub_live;
use crate::proxy::Proxy;

const POSTGRES: &[Source] = &[Source::Ledger, Source::Directory];
const REDIS: &[Source] = &[Source::Live];

pub fn postgres_cases() -> Vec<Case> {
    let mut cases: Vec<_> = wire(POSTGRES).collect();
    let sql = |fault, begin, end, down| Case { fault, begin: Act::Sql(begin), end: Act::Sql(end), down };
    cases.extend([
        Case { fault: "the server is stopped and started", begin: Act::Stop, end: Act::Start, down: POSTGRES },
        Case {
            fault: "the server sleeps (`SIGSTOP`)",
            begin: Act::Signal("STOP"),
            end: Act::Signal("CONT"),
            down: POSTGRES,
        },
        sql(
            "grants are revoked",
            "revoke select on all tables in schema public from $role",
            "grant select on all tables in schema public to $role",
            POSTGRES,
        ),
        sql(
            "the password changes, sessions are ended",
            "alter role $role password 'other'; select pg_terminate_backend(pid) from pg_stat_activity where usename = '$role'",
            "alter role $role password '$role'",
            POSTGRES,
        ),
        sql(
            "the role may not connect any more",
            "alter role $role connection limit 0; select pg_terminate_backend(pid) from pg_stat_activity where usename = '$role'",
            "alter role $role connection limit -1",
            POSTGRES,
        ),
        sql("a table is locked", "begin; lock table usage_ledger in access exclusive mode", "commit", &[Source::Ledger]),
        sql(
            "a table has gone",
            "alter table users rename to people",
            "alter table people rename to users",
            &[Source::Directory],
        ),
    ]);
    cases
}

pub fn redis_cases() -> Vec<Case> {
    let mut cases: Vec<_> = wire(REDIS).collect();
    let redis = |fault, begin, end| Case { fault, begin: Act::Redis(begin), end: Act::Redis(end), down: REDIS };
    cases.extend([
        Case { fault: "the server is stopped and started", begin: Act::Stop, end: Act::Start, down: REDIS },
        Case {
            fault: "the server sleeps (`SIGSTOP`)",
            begin: Act::Signal("STOP"),
            end: Act::Signal("CONT"),
            down: REDIS,
        },
        redis("commands are no longer permitted", &["ACL SETUSER $role -@all"], &["ACL SETUSER $role +@all"]),
        redis(
            "the password changes, sessions are ended",
            &["ACL SETUSER $role resetpass >other", "CLIENT KILL USER $role"],
            &["ACL SETUSER $role resetpass >$role"],
        ),
    ]);
    cases
}

/// A relay of its own whose stores can be spoiled.
pub struct Hub {
    plan: RelayPlan,
    role: String,
    owner: Store,
    proxy: Proxy,
    redis: redis::aio::MultiplexedConnection,
    /// Only where the case stops one.
    server: Server,
    /// The database answers nobody: its owner would wait, too.
    sleeps: bool,
}

enum Server {
    Shared,
    Postgres(Box<PrivatePostgres>),
    Redis(Box<PrivateRedis>),
}

/// `scheme://role:role@127.0.0.1:port/path` in place of the owner's address.
fn address(url: &str, role: &str, port: u16) -> String {
    let mut url: url::Url = as_role(url, role, role).parse().unwrap();
    url.set_port(Some(port)).unwrap();
    url.into()
}

impl Hub {
    pub async fn new(store: &'static str, number: usize, case: &Case) -> Self {
        let role = format!("fault_{store}_{number}");
        let mut server = Server::Shared;
        if matches!(case.begin, Act::Stop | Act::Signal(_)) {
            server = match store {
                "postgres" => Server::Postgres(Box::new(PrivatePostgres::start().await.unwrap())),
                _ => Server::Redis(Box::new(PrivateRedis::start().await.unwrap())),
            };
        }
        let database = match &server {
            Server::Postgres(server) => server.database(&role).await.unwrap(),
            _ => postgres().await.database(&role).await.unwrap(),
        };
        let mut owner = Store::on(database, "v0.9.2").await;
        owner.people().await;
        owner
            .run(&format!(
                "create role {role} login password '{role}'; grant select on all tables in schema public to {role}"
            ))
            .await;
        let redis_url = match &server {
            Server::Redis(server) => server.url(),
            _ => redis_server().await.url(),
        };
        let mut site = {
            let behind: url::Url = if store == "postgres" { &owner.url } else { &redis_url }.parse().unwrap();
            let proxy = Proxy::start(behind.port().unwrap()).await;
            let port = |url: &str, spoiled| {
                if spoiled { proxy.port } else { url.parse::<url::Url>().unwrap().port().unwrap() }
            };
            let database = address(&owner.url, &role, port(&owner.url, store == "postgres"));
            let redis = address(&redis_url, &role, port(&redis_url, store == "redis"));
            let mut plan = plan(&database, Some(&redis));
            plan.name = role.clone();
            quick(&mut plan);
            let redis = redis_connection(&redis_url).await.unwrap();
            Self { plan, role, owner, proxy, redis, server, sleeps: false }
        };
        site.redis(&["ACL SETUSER $role on >$role ~* +@all"]).await;
        for _ in 0..20 {
            site.request().await;
        }
        site
    }

    async fn redis(&mut self, commands: &'static [&'static str]) {
        for command in commands {
            claude_code_hub_live::run(&mut self.redis, &command.replace("$role", &self.role)).await;
        }
    }
}

#[async_trait(?Send)]
impl Site for Hub {
    fn plan(&self) -> &RelayPlan {
        &self.plan
    }

    fn shows(source: Source) -> &'static str {
        match source {
            Source::Ledger => "llm_relay_requests_total",
            Source::Live => "llm_relay_provider_circuit_state",
            Source::Directory => "llm_relay_user_info",
        }
    }

    async fn request(&mut self) {
        let request =
            "insert into message_request (provider_id, user_id, key, model, status_code, cost_usd, duration_ms)
                       values (1, 1, 'sk-ann', 'sonnet', 200, 0.25, 900)";
        if !self.sleeps {
            sqlx::raw_sql(request).execute(&mut self.owner.owner).await.ok();
        }
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Wire(fault) => self.proxy.set(fault),
            Act::Sql(sql) => self.owner.run(&sql.replace("$role", &self.role)).await,
            Act::Redis(commands) => self.redis(commands).await,
            Act::Stop => match &mut self.server {
                Server::Postgres(server) => server.stop(),
                Server::Redis(server) => server.stop(),
                Server::Shared => unreachable!("others need it"),
            },
            Act::Signal(name) => match &self.server {
                Server::Postgres(server) => {
                    signal(name, server.directory());
                    self.sleeps = name == "STOP";
                }
                Server::Redis(server) => signal(name, server.directory()),
                Server::Shared => unreachable!("others need it"),
            },
            Act::Start => match &mut self.server {
                Server::Postgres(server) => {
                    server.restart().await.unwrap();
                    self.owner.owner = PgConnection::connect(&self.owner.url).await.unwrap();
                }
                Server::Redis(server) => {
                    server.restart().await.unwrap();
                    self.redis = redis_connection(&server.url()).await.unwrap();
                    // Users are not kept in what it stores.
                    self.redis(&["ACL SETUSER $role on >$role ~* +@all"]).await;
                }
                Server::Shared => unreachable!("others need it"),
            },
            Act::Shell(_) | Act::Offline(_) | Act::Hold | Act::Release => unreachable!("of a file"),
        }
    }

    async fn taken(&mut self) -> u64 {
        let count = "select count(*) from usage_ledger";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.owner.owner).await.unwrap() as u64
    }
}
