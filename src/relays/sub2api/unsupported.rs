use crate::relay::Unsupported;

/// What neither PostgreSQL nor Redis tells.
pub(super) const UNSUPPORTED: &[Unsupported] = &[
    Unsupported::teams("users stand alone: its groups are of upstream accounts").zh("用户不分团队，其分组属于上游账号"),
    Unsupported::metrics(
        "the relay tracks sessions of some upstream accounts alone",
        &["llm_relay_sessions_active", "llm_relay_user_sessions_", "llm_relay_key_sessions_"],
    )
    .zh("中转只跟踪部分上游账号的会话"),
    Unsupported::metrics(
        "its dashboards count answers alone, and its operations pages errors beside them",
        &[
            "llm_relay_day_error_ratio",
            "llm_relay_window_requests",
            "llm_relay_responses_total",
            "llm_relay_leaderboard_success_ratio",
        ],
    )
    .zh("其仪表盘只统计已应答的请求，错误另列于运维页面"),
    Unsupported::metrics(
        "a stream that broke off is an answer in one table and an error in the other: its cost is that of an answer",
        &["llm_relay_wasted_cost_usd_total"],
    ),
    Unsupported::metrics("the relay gives no money back", &["llm_relay_refunded_usd_total"]),
    Unsupported::metrics("`llm_relay_cost_usd_total` tells it", &["llm_relay_provider_cost_usd_total"]),
    Unsupported::metrics("boards are summed up from the rows at once", &["llm_relay_leaderboard_timestamp_seconds"]),
    Unsupported::metrics("keys have no tags", &["llm_relay_key_tag_info"]),
    Unsupported::metrics("what it drops is counted in its memory", &["llm_relay_requests_missed_total"]),
    Unsupported::metrics(
        "the relay writes its rows itself",
        &["llm_relay_imported_requests_total", "llm_relay_dead_letters_total", "llm_relay_collector_"],
    ),
    Unsupported::metrics(
        "accounts have states (`llm_relay_provider_account_state`), no circuit breakers",
        &["llm_relay_provider_circuit_"],
    )
    .zh("账号只有状态，没有熔断器"),
    Unsupported::metrics(
        "an account has one upstream key",
        &["llm_relay_key_consecutive_failures", "llm_relay_account_keys"],
    ),
    Unsupported::metrics("its error log is in `llm_relay_failures_total`", &["llm_relay_error_log_entries_total"]),
    Unsupported::metrics("keys have no limit of requests at a time", &["llm_relay_key_slots_limit"]),
    Unsupported::metrics("requests wait by user and by account, not by key", &["llm_relay_queue_"]),
    Unsupported::metrics(
        "windows of keys are quotas in dollars: `llm_relay_quota_limit_usd`",
        &["llm_relay_rate_limit_"],
    ),
    Unsupported::metrics("users do not expire", &["llm_relay_user_expiry_timestamp_seconds"]),
    Unsupported::metrics(
        "of accounts, states and windows are kept",
        &[
            "llm_relay_account_balance",
            "llm_relay_account_balance_timestamp_seconds",
            "llm_relay_account_test_",
            "llm_relay_account_plan_info",
        ],
    ),
    Unsupported::metrics("its screens show dollars", &["llm_relay_currency_info"]),
    Unsupported::metrics("the database is not asked whether it is a replica", &["llm_relay_replica_lag_seconds"]),
    Unsupported::metrics("its times have a zone", &["llm_relay_timezone_error_seconds"]),
    Unsupported::metrics("its database is a server, of which others tell", &["llm_relay_database_bytes"]),
    Unsupported::STATEMENTS,
    Unsupported::metrics("a limit refuses, none only alerts", &["llm_relay_quota_soft_limit_usd"]),
    Unsupported::PEOPLE,
];
