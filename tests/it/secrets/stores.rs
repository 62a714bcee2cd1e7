//! The stores of the relays, with secrets where the relays keep them, and the configuration that reads them.

use std::path::Path;

use llm_relay_exporter::relays::claude_relay_service::Offset;
use llm_relay_exporter::relays::claude_relay_service::demo::{self as crs, Usage};
use llm_relay_exporter::relays::cpa_manager::{Level, least_schema as manager_schema};
use llm_relay_exporter::relays::gemini_balance::MYSQL_SCHEMA;
use llm_relay_exporter::relays::litellm::LEAST_SCHEMA;
use llm_relay_exporter::relays::new_api::SQLITE_SCHEMA;
use llm_relay_exporter::servers::{PrivateMariaDb, PrivateRedis, redis_connection};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, PgConnection, SqliteConnection};

use super::relays::Secrets;
use crate::claude_code_hub::{Store, as_role};

pub(super) async fn hub(secrets: &mut Secrets, redis: &PrivateRedis) -> String {
    let mut secret = |what| secrets.plant("claude-code-hub", what);
    let mut relay = Store::new("secrets_of_hub", "v0.9.2").await;
    let password = secret("password of the database role");
    let (key, session, error) = (secret("API key of a user"), secret("session id"), secret("error text"));
    relay
        .run(&format!(
            "insert into users (name, description) values ('{name}@example.com', '{mail}@example.com');
             insert into keys (user_id, key, name) values (1, 'sk-{key}', '{name}@example.com'), (1, 'sk-{key}-2', 'laptop');
             insert into providers (name, url, key, provider_type)
               values ('{name}@example.com', 'https://user:{address}@up.example', 'sk-{upstream}', 'claude');
             insert into system_settings (site_title) values ('{mail}');
             insert into message_request (provider_id, user_id, key, model, status_code, error_message, duration_ms, cost_usd, session_id, endpoint)
               select 1, 1, 'sk-{key}' || which, 'sonnet', 500, 'denied for {error} at 10.1.2.3', 900, 0.5, '{session}', '/v1/{session}'
               from (values (''), ('-2'), ('-unknown')) as row (which);
             create role secrets_reader login password '{password}'; grant select on all tables in schema public to secrets_reader",
            mail = secret("e-mail address of a user"),
            name = secret("e-mail address as a name"),
            address = secret("address of an upstream"),
            upstream = secret("key of an upstream"),
        ))
        .await;
    let url = as_role(&relay.url, "secrets_reader", &password);
    let redis = redis_user(redis, "hub", &secret("password of the Redis user"), 1).await;
    format!("[relays.hub]\nkind = \"claude-code-hub\"\ndatabase_url = \"{url}\"\nredis_url = \"{redis}\"\n")
}

/// A user of a Redis, and the address with it.
async fn redis_user(server: &PrivateRedis, user: &str, password: &str, number: u32) -> String {
    let mut admin = redis_connection(&server.url()).await.unwrap();
    let mut acl = redis::cmd("ACL");
    acl.arg(&["SETUSER", user, "on", &format!(">{password}"), "~*", "+@all"]);
    acl.exec_async(&mut admin).await.unwrap();
    format!("redis://{user}:{password}@127.0.0.1:{}/{number}", server.port())
}

pub(super) async fn service(secrets: &mut Secrets, server: &PrivateRedis) -> String {
    let mut secret = |what| secrets.plant("claude-relay-service", what);
    let url = redis_user(server, "service", &secret("password of the Redis user"), 2).await;
    let mut admin = redis_connection(&url).await.unwrap();
    let mut pipe = redis::pipe();
    let (hash, token) = (secret("hash of an API key"), secret("access token of an account"));
    let (mail, admin_hash) = (secret("e-mail address of an account"), secret("password hash of the administrator"));
    pipe.set("apikey:index:version", 2).sadd("apikey:idx:all", "k1");
    let name = format!("{}@example.com", secret("e-mail address as a name"));
    let tags = format!("[\"{name}\"]");
    let key = [("id", "k1"), ("name", &name), ("isActive", "true"), ("apiKey", &hash), ("tags", &tags)];
    pipe.hset_multiple("apikey:k1", &key);
    pipe.hset("apikey:hash_map", &hash, "k1").sadd("claude:account:index", "a1");
    let mail = format!("{mail}@example.com");
    let account = [("id", "a1"), ("name", &name), ("isActive", "true"), ("accessToken", &token), ("email", &mail)];
    pipe.hset_multiple("claude:account:a1", &account).hset("session:admin_credentials", "passwordHash", &admin_hash);
    let usage = Usage {
        key: "k1".into(),
        account: Some("a1".into()),
        model: "claude-sonnet-4".into(),
        counted_model: "claude-sonnet-4".into(),
        requests: 3,
        input: 100,
        output: 10,
        at: chrono::Utc::now(),
        ..Usage::default()
    };
    crs::book(&mut pipe, Offset::default(), &usage);
    pipe.exec_async(&mut admin).await.unwrap();
    format!("[relays.service]\nkind = \"claude-relay-service\"\nredis_url = \"{url}\"\n")
}

pub(super) async fn gemini(secrets: &mut Secrets, server: &PrivateMariaDb) -> String {
    let mut secret = |what| secrets.plant("gemini-balance", what);
    let url = server.database("secrets").await.unwrap();
    let mut owner = MySqlConnection::connect(&url).await.unwrap();
    let password = secret("password of the MariaDB account");
    let key = format!("AIza{}", secret("upstream key of an attempt"));
    let script = format!(
        "{MYSQL_SCHEMA}
         insert into t_settings (`key`, value) values ('AUTH_TOKEN', '{token}'), ('API_KEYS', '[\"{key}\", \"{unused}\"]');
         create sql security definer view exporter_keys as
           select cast(conv(left(sha2(k.api_key, 256), 8), 16, 10) as signed) as key_id
           from t_settings s, json_table(s.value, '$[*]' columns (api_key varchar(100) path '$')) k
           where s.`key` = 'API_KEYS';
         insert into t_request_log (request_time, model_name, api_key, is_success, status_code, latency_ms)
           values (utc_timestamp(), 'gemini-2.5-pro', '{key}', 1, 200, 900), (utc_timestamp(), 'gemini-2.5-pro', '{key}', 0, 429, 90);
         insert into t_error_logs (gemini_key, model_name, error_type, error_log, error_code, request_msg, request_time)
           values ('{key}', 'gemini-2.5-pro', 'gemini-chat', '{error}', 429, '\"{body}\"', utc_timestamp());
         create user reader identified by '{password}'; grant select on secrets.* to reader",
        token = secret("token in the settings"),
        unused = secret("upstream key that was never used"),
        error = secret("error text"),
        body = secret("body of a request"),
    );
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut owner).await.unwrap();
    let url = format!("mysql://reader:{password}@127.0.0.1:{}/secrets?ssl-mode=disabled", server.port());
    format!("[relays.gemini]\nkind = \"gemini-balance\"\ndatabase_url = \"{url}\"\ntimezone = \"UTC\"\n")
}

/// Ends with the manager, as whose log only a running one leaves.
pub(super) async fn manager(secrets: &mut Secrets, folder: &Path) -> (String, SqliteConnection) {
    let mut secret = |what| secrets.plant("cpa-manager", what);
    let file = folder.join("usage.sqlite");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut manager = options.pragma("journal_mode", "wal").connect().await.unwrap();
    for script in manager_schema(Level::Plus) {
        sqlx::raw_sql(script).execute(&mut manager).await.unwrap();
    }
    let now = chrono::Utc::now().timestamp_millis();
    let script = format!(
        "insert into settings (key, value, updated_at_ms) values ('setup', '{management}', 0);
         insert into usage_events (event_hash, timestamp_ms, timestamp, provider, model, auth_index, source, source_hash,
           api_key_hash, input_tokens, output_tokens, total_tokens, latency_ms, raw_json, created_at_ms, account_snapshot, client_ip,
           endpoint, failed, fail_status_code)
         select n, {now} - 900, '', 'codex', 'gpt-5-codex', '0', '{mail}@example.com', '', '{key}', 10, 5, 15, 900,
           '{{\"prompt\": \"{body}\"}}', {now}, '{mail}@example.com', '{address}', 'POST /v1/{body}', n, n * 500
         from (select 0 as n union select 1);
         insert into dead_letter_events (payload, error, created_at_ms) values ('{body}', 'e', 1);
         insert into api_key_aliases values ('{key}', '{name}@example.com', 0)",
        management = secret("management key in the settings"),
        mail = secret("e-mail address of an account"),
        key = secret("hash of a client's key"),
        name = secret("e-mail address as a name"),
        body = secret("body of an event"),
        address = secret("address of a client"),
    );
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut manager).await.unwrap();
    (format!("[relays.manager]\nkind = \"cpa-manager\"\ndatabase_url = \"sqlite:{}\"\n", file.display()), manager)
}

pub(super) async fn api(secrets: &mut Secrets, folder: &Path) -> String {
    let mut secret = |what| secrets.plant("new-api", what);
    let file = folder.join("one-api.db");
    let mut relay = SqliteConnectOptions::new().filename(&file).create_if_missing(true).connect().await.unwrap();
    let script = format!(
        r#"{SQLITE_SCHEMA}
         insert into users (id, username, password, email) values (1, '{name}@example.com', '{password}', '{mail}@example.com');
         insert into tokens (id, user_id, key, name) values (1, 1, '{token}', '{name}@example.com');
         insert into channels (id, type, key, status, name, other_info, channel_info) values
           (1, 1, 'sk-{channel}', 3, '{name}@example.com', '{{"status_reason":"status_code=401, {reason}"}}',
             cast('{{"is_multi_key":true,"multi_key_size":2,"multi_key_status_list":{{"0":3}},"multi_key_disabled_reason":{{"0":"{reason}"}}}}' as blob));
         insert into options values ('SMTPToken', '{option}');
         insert into logs (created_at, type, user_id, token_id, channel_id, model_name, quota, content, ip, other) values
           (unixepoch(), 2, 1, 1, 1, 'gpt-4o', 1000, '{text}', '{address}', '{{"po":"{text}"}}'),
           (unixepoch(), 5, 1, 1, 1, 'gpt-4o', 0, '{text}', '{address}', '{{"error_type":"openai_error","error_code":"{code}","status_code":500}}')"#,
        password = secret("password hash of a user"),
        mail = secret("e-mail address of a user"),
        name = secret("e-mail address as a name"),
        token = secret("key of a user"),
        channel = secret("key of a channel"),
        reason = secret("reason why a channel is off"),
        option = secret("token in the options"),
        text = secret("text of a row"),
        address = secret("address of a client"),
        code = secret("error code of an upstream"),
    );
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut relay).await.unwrap();
    format!("[relays.api]\nkind = \"new-api\"\ndatabase_url = \"sqlite:{}\"\n", file.display())
}

pub(super) async fn sub(secrets: &mut Secrets) -> String {
    let mut secret = |what| secrets.plant("sub2api", what);
    let mut relay = crate::sub2api::database::Store::new("secrets_of_sub2api").await;
    let password = secret("password of the database role");
    relay.grant().await;
    relay
        .run(&format!(
            "insert into users (email, password_hash, username) values ('{mail}@example.com', '{hash}', 'ann {mail}@example.com');
             insert into api_keys (user_id, key, name) values (1, 'sk-{key}', '{mail}@example.com');
             insert into accounts (name, platform, type, credentials, extra, session_window_end) values
               ('{mail}@example.com', 'anthropic', 'oauth', '{{\"token\": \"{token}\"}}', '{{\"session_window_utilization\": 0.5, \"email\": \"{extra}\"}}', now() + interval '1 hour');
             insert into ops_system_metrics default values;
             insert into settings (key, value) values ('smtp_password', '{option}'), ('ops_advanced_settings', '{{\"webhook\": \"{option}\"}}');
             insert into usage_logs (user_id, api_key_id, account_id, model, output_tokens, total_cost, actual_cost, user_agent, ip_address)
               values (1, 1, 1, 'sonnet', 5, 0.5, 0.5, '{address}', '192.0.2.1');
             insert into ops_error_logs (user_id, api_key_id, account_id, model, error_phase, error_type, status_code, error_message, error_body, user_agent)
               values (1, 1, 1, 'sonnet', 'upstream', 'upstream_error', 502, '{error}', '{error}', '{address}');
             create role secrets_of_sub2api login password '{password}' in role llm_relay_exporter",
            mail = secret("e-mail address of a user"),
            hash = secret("password hash of a user"),
            key = secret("key of a user"),
            token = secret("credentials of an account"),
            extra = secret("what else an account has"),
            option = secret("password in the settings"),
            error = secret("error text"),
            address = secret("address of a client"),
        ))
        .await;
    let url = as_role(&relay.url, "secrets_of_sub2api", &password);
    format!("[relays.sub]\nkind = \"sub2api\"\ndatabase_url = \"{url}\"\n")
}

pub(super) async fn gateway(secrets: &mut Secrets) -> String {
    let mut secret = |what| secrets.plant("litellm", what);
    let url = crate::store::server().await.database("secrets_of_gateway").await.unwrap();
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let password = secret("password of the database role");
    let (key, mail) = (secret("hash of a key"), format!("{}@example.com", secret("e-mail address of a user")));
    let script = format!(
        r#"{LEAST_SCHEMA}
         insert into "LiteLLM_UserTable" (user_id, user_alias, user_email) values ('{mail}', '{mail}', '{mail}');
         insert into "LiteLLM_VerificationToken" (token, key_name, key_alias, user_id) values ('{key}', 'sk-...{key}', '{mail}', '{mail}');
         insert into "LiteLLM_ProxyModelTable" (model_id, model_name, litellm_params, created_by, updated_by)
           values ('north', 'gpt-4o', '{{"api_key": "{provider}"}}', 'x', 'x');
         insert into "LiteLLM_SpendLogs" (request_id, call_type, api_key, "startTime", "endTime", model, model_id, "user", end_user,
             requester_ip_address, messages, response, metadata, status)
           select n, 'acompletion', '{key}', now() at time zone 'UTC', now() at time zone 'UTC', 'gpt-4o', 'north', '{mail}', '{end_user}',
             '{address}', '"{prompt}"', '"{answer}"', case n when '1' then '{{"user_api_key_user_email": "{mail}"}}'
               else '{{"status": "failure", "error_information": {{"error_code": "500", "error_message": "{error}"}}}}' end::jsonb, 'success'
           from (values ('1'), ('2')) as row (n);
         create role gateway_reader login password '{password}'; grant select on all tables in schema public to gateway_reader"#,
        provider = secret("key of a provider"),
        prompt = secret("prompt"),
        answer = secret("answer"),
        error = secret("error text"),
        address = secret("address of a client"),
        end_user = secret("end user"),
    );
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut owner).await.unwrap();
    let url = as_role(&url, "gateway_reader", &password);
    format!("[relays.gateway]\nkind = \"litellm\"\ndatabase_url = \"{url}\"\n")
}
