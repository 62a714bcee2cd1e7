//! gemini-balance: faults of MariaDB, where all parts of the relay are.

use async_trait::async_trait;
use llm_relay_exporter::model::Source;
use llm_relay_exporter::relays::gemini_balance::{self, MYSQL_SCHEMA};
use llm_relay_exporter::servers::PrivateMariaDb;
use llm_relay_exporter::settings::RelayPlan;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::sync::OnceCell;

use super::{ALL, Act, Case, Site, quick, signal, wire};
use crate::claude_code_hub::plan;
use crate::proxy::Proxy;

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = wire(ALL).collect();
    let case = |fault, begin, end| Case { fault, begin, end, down: ALL };
    cases.extend([
        case("the server is stopped and started", Act::Stop, Act::Start),
        case("the server sleeps (`SIGSTOP`)", Act::Signal("STOP"), Act::Signal("CONT")),
        case(
            "grants are revoked",
            Act::Sql("revoke select on t_request_log from $role; revoke select on t_error_logs from $role"),
            Act::Sql("grant select on t_request_log to $role; grant select on t_error_logs to $role"),
        ),
        case(
            "the password changes, sessions are ended",
            Act::Sql("alter user $role identified by 'other'; kill user $role"),
            Act::Sql("alter user $role identified by '$role'"),
        ),
        case("a table is locked", Act::Sql("lock tables t_request_log write"), Act::Sql("unlock tables")),
        case(
            "a table has gone",
            Act::Sql("rename table t_request_log to log"),
            Act::Sql("rename table log to t_request_log"),
        ),
    ]);
    cases
}

pub struct Gemini {
    plan: RelayPlan,
    role: String,
    url: String,
    owner: MySqlConnection,
    proxy: Proxy,
    /// Only where the case stops one.
    server: Option<PrivateMariaDb>,
    sleeps: bool,
}

async fn shared() -> &'static PrivateMariaDb {
    static SERVER: OnceCell<PrivateMariaDb> = OnceCell::const_new();
    SERVER.get_or_init(async || PrivateMariaDb::start().await.unwrap()).await
}

impl Gemini {
    pub async fn new(number: usize, case: &Case) -> Self {
        let role = format!("fault_mariadb_{number}");
        let own = matches!(case.begin, Act::Stop | Act::Signal(_));
        let server = if own { Some(PrivateMariaDb::start().await.unwrap()) } else { None };
        let (url, port) = match &server {
            Some(server) => (server.database(&role).await.unwrap(), server.port()),
            None => (shared().await.database(&role).await.unwrap(), shared().await.port()),
        };
        let owner = MySqlConnection::connect(&url).await.unwrap();
        let proxy = Proxy::start(port).await;
        let address = format!("mysql://{role}:{role}@127.0.0.1:{}/{role}?ssl-mode=disabled", proxy.port);
        let mut plan = RelayPlan { name: role.clone(), product: &gemini_balance::PRODUCT, ..plan(&address, None) };
        // What the relay writes below.
        plan.timezone = Some(chrono_tz::UTC);
        quick(&mut plan);
        let mut site = Self { plan, role, url, owner, proxy, server, sleeps: false };
        site.run(MYSQL_SCHEMA).await;
        // An open session keeps what it may do to a whole database.
        let account = "create user $role identified by '$role'; grant select on t_request_log to $role; grant select on t_error_logs to $role";
        site.run(account).await;
        for _ in 0..20 {
            site.request().await;
        }
        site
    }

    async fn run(&mut self, sql: &str) {
        let sql = sql.replace("$role", &self.role);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.owner).await.unwrap();
    }
}

#[async_trait(?Send)]
impl Site for Gemini {
    fn plan(&self) -> &RelayPlan {
        &self.plan
    }

    fn shows(source: Source) -> &'static str {
        match source {
            Source::Ledger => "llm_relay_requests_total",
            Source::Live => "llm_relay_key_consecutive_failures",
            Source::Directory => "llm_relay_key_info",
        }
    }

    async fn request(&mut self) {
        let request =
            "insert into t_request_log (request_time, model_name, api_key, is_success, status_code, latency_ms)
                       values (utc_timestamp(), 'gemini-2.5-pro', 'AIzaSyFault', 1, 200, 900)";
        if !self.sleeps {
            sqlx::raw_sql(request).execute(&mut self.owner).await.ok();
        }
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Wire(fault) => self.proxy.set(fault),
            Act::Sql(sql) => self.run(sql).await,
            Act::Stop => self.server.as_mut().unwrap().stop(),
            Act::Start => {
                self.server.as_mut().unwrap().restart().await.unwrap();
                self.owner = MySqlConnection::connect(&self.url).await.unwrap();
            }
            Act::Signal(name) => {
                signal(name, self.server.as_ref().unwrap().directory());
                self.sleeps = name == "STOP";
            }
            Act::Redis(_) | Act::Shell(_) | Act::Offline(_) | Act::Hold | Act::Release => {
                unreachable!("of other stores")
            }
        }
    }

    async fn taken(&mut self) -> u64 {
        let count = "select count(*) from t_request_log";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.owner).await.unwrap() as u64
    }
}
