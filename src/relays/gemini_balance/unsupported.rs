use crate::relay::Unsupported;

/// What the tables do not tell.
pub const UNSUPPORTED: &[Unsupported] = &[
    Unsupported::teams("the relay does not log who called, and knows no teams").zh("中转不记录调用者，也没有团队"),
    Unsupported::users("the relay does not log who called").zh("中转不记录调用者"),
    Unsupported::metrics(
        "a row is written when the attempt has ended",
        &[
            "llm_relay_sessions_active",
            "llm_relay_requests_in_progress",
            "llm_relay_key_sessions_",
            "llm_relay_provider_slots_",
            "llm_relay_key_slots_",
            "llm_relay_queue_",
        ],
    )
    .zh("请求结束后才写入记录"),
    Unsupported::metrics(
        "the relay knows no prices and no costs",
        &[
            "llm_relay_day_cost_usd",
            "llm_relay_day_list_cost_usd",
            "llm_relay_provider_cost_usd_total",
            "llm_relay_cost_usd_total",
            "llm_relay_list_cost_usd_total",
            "llm_relay_key_cost_usd_total",
            "llm_relay_key_list_cost_usd_total",
            "llm_relay_wasted_cost_usd_total",
            "llm_relay_refunded_usd_total",
            "llm_relay_cache_saved_usd_total",
            "llm_relay_unpriced_requests_total",
            "llm_relay_leaderboard_cost_usd",
            "llm_relay_audit_drift_cost_usd",
            "llm_relay_ledger_corrections_usd_total",
            "llm_relay_currency_info",
        ],
    )
    .zh("中转没有价格，也不计成本"),
    Unsupported::metrics(
        "the relay does not log tokens",
        &[
            "llm_relay_tokens_last_minute",
            "llm_relay_tokens_total",
            "llm_relay_key_tokens_total",
            "llm_relay_output_tokens_per_second",
            "llm_relay_leaderboard_tokens",
            "llm_relay_leaderboard_mean_output_tokens_per_second",
            "llm_relay_leaderboard_cache_hit_ratio",
        ],
    ),
    Unsupported::metrics(
        "the relay logs the duration of the whole attempt only",
        &["llm_relay_time_to_first_token_seconds", "llm_relay_leaderboard_mean_ttft_seconds"],
    ),
    Unsupported::metrics("a key is in use as long as it is in the settings", &["llm_relay_provider_enabled"]),
    Unsupported::metrics("the relay logs the model that was asked for only", &["llm_relay_model_substitutions_total"]),
    Unsupported::metrics("boards are summed up from the rows at once", &["llm_relay_leaderboard_timestamp_seconds"]),
    Unsupported::metrics("keys have no tags", &["llm_relay_key_tag_info"]),
    Unsupported::metrics(
        "what leaves no row leaves no trace",
        &["llm_relay_requests_missed_total", "llm_relay_rejected_requests_total"],
    ),
    Unsupported::metrics("each attempt is a row", &["llm_relay_recovered_attempts_total"]),
    Unsupported::metrics(
        "the relay writes its rows itself",
        &["llm_relay_imported_requests_total", "llm_relay_dead_letters_total", "llm_relay_collector_"],
    ),
    Unsupported::metrics(
        "there is one upstream with a pool of keys: `llm_relay_key_consecutive_failures`",
        &["llm_relay_provider_circuit_", "llm_relay_provider_account_state", "llm_relay_account_"],
    )
    .zh("只有一个上游，使用密钥池"),
    Unsupported::metrics(
        "the relay sets no limits",
        &["llm_relay_rate_limit_", "llm_relay_quota_", "llm_relay_key_expiry_timestamp_seconds"],
    ),
    Unsupported::metrics(
        "no recurring statement can become expensive: all are bounded by id",
        &["llm_relay_statement_refused"],
    ),
    Unsupported::metrics("the database is not asked whether it is a replica", &["llm_relay_replica_lag_seconds"]),
    Unsupported::PEOPLE,
];
