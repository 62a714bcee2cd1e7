use crate::relay::Unsupported;

/// What its database does not tell.
pub(super) const UNSUPPORTED: &[Unsupported] = &[
    Unsupported::metrics(
        "a row is written when the request has ended; requests in flight, cooldowns and rate limits are in LiteLLM's memory or Redis",
        &[
            "llm_relay_sessions_active",
            "llm_relay_user_sessions_",
            "llm_relay_requests_in_progress",
            "llm_relay_user_requests_in_progress",
            "llm_relay_key_sessions_",
            "llm_relay_provider_slots_",
            "llm_relay_key_slots_",
            "llm_relay_queue_",
            "llm_relay_provider_circuit_",
            "llm_relay_rate_limit_",
            "llm_relay_user_requests_per_minute_limit",
        ],
    )
    .zh("请求结束后才写入记录；进行中的请求、冷却和限流只在 LiteLLM 的内存或 Redis 中"),
    Unsupported::metrics(
        "the rows have what was spent, after discounts and margins",
        &[
            "llm_relay_list_cost_usd_total",
            "llm_relay_key_list_cost_usd_total",
            "llm_relay_day_list_cost_usd",
            "llm_relay_account_cost_usd_total",
            "llm_relay_cache_saved_usd_total",
        ],
    ),
    Unsupported::metrics("`llm_relay_cost_usd_total` tells it", &["llm_relay_provider_cost_usd_total"]),
    Unsupported::metrics("boards are summed up from the rows at once", &["llm_relay_leaderboard_timestamp_seconds"]),
    Unsupported::metrics("users do not expire", &["llm_relay_user_expiry_timestamp_seconds"]),
    Unsupported::metrics("tags are free text of the clients", &["llm_relay_key_tag_info"]),
    Unsupported::metrics("the model that answered is the one that was sent", &["llm_relay_model_substitutions_total"]),
    Unsupported::metrics("a row has what became of the whole request", &["llm_relay_recovered_attempts_total"]),
    Unsupported::metrics("requests that it refuses are rows as well", &["llm_relay_rejected_requests_total"]),
    Unsupported::metrics("users have budgets and pay nothing in advance", &["llm_relay_user_balance_usd"]),
    Unsupported::metrics("LiteLLM gives no money back", &["llm_relay_refunded_usd_total"]),
    Unsupported::metrics(
        "LiteLLM writes its rows itself",
        &["llm_relay_imported_requests_total", "llm_relay_dead_letters_total", "llm_relay_collector_"],
    ),
    Unsupported::metrics("a deployment has one key", &["llm_relay_key_consecutive_failures", "llm_relay_account_keys"]),
    Unsupported::metrics("no code writes its error log any more", &["llm_relay_error_log_entries_total"]),
    Unsupported::metrics(
        "of deployments, health checks are kept",
        &[
            "llm_relay_account_return_timestamp_seconds",
            "llm_relay_account_plan_info",
            "llm_relay_account_utilization_ratio",
            "llm_relay_account_utilization_timestamp_seconds",
            "llm_relay_account_window_state",
            "llm_relay_account_reset_timestamp_seconds",
            "llm_relay_account_balance",
            "llm_relay_account_balance_timestamp_seconds",
        ],
    ),
    Unsupported::metrics(
        "a health check is stored when its result changes, else once an hour, with the time that storing it took",
        &["llm_relay_account_test_"],
    ),
    Unsupported::metrics("the database is not asked whether it is a replica", &["llm_relay_replica_lag_seconds"]),
    Unsupported::metrics("its times are UTC", &["llm_relay_timezone_error_seconds"]),
    Unsupported::STATEMENTS,
    Unsupported::metrics("its database is a server, of which others tell", &["llm_relay_database_bytes"]),
];
