use crate::model::Scope;
use crate::relay::Unsupported;

/// What Redis does not tell.
pub const UNSUPPORTED: &[Unsupported] = &[
    Unsupported::teams("keys stand alone: its tags are told").zh("密钥不分团队，其标签另有指标"),
    Unsupported::users("the names of users are never read, and usage is not kept by user")
        .zh("不读取用户名，用量也不按用户统计"),
    Unsupported::leaderboards(
        "the relay ranks keys and counts models; accounts it does not compare",
        &[Scope::Provider],
    )
    .zh("中转只对密钥排名、对模型计数，不比较账号"),
    Unsupported::metrics(
        "the relay tracks running requests of keys and accounts with a limit only",
        &["llm_relay_sessions_active", "llm_relay_requests_in_progress", "llm_relay_key_sessions_"],
    )
    .zh("中转只跟踪有上限的密钥和账号的进行中请求"),
    Unsupported::metrics(
        "durations are kept for the newest 200 requests of each key only",
        &["llm_relay_day_mean_duration_seconds"],
    )
    .zh("只保留每个密钥最近 200 个请求的耗时"),
    Unsupported::metrics(
        "requests that failed are not counted",
        &[
            "llm_relay_day_error_ratio",
            "llm_relay_responses_total",
            "llm_relay_wasted_cost_usd_total",
            "llm_relay_leaderboard_success_ratio",
            "llm_relay_key_outcomes_total",
        ],
    )
    .zh("不统计失败的请求"),
    Unsupported::metrics(
        "counters by day, hour and minute of the clock give no sliding windows",
        &["llm_relay_window_requests", "llm_relay_key_model_requests"],
    )
    .zh("计数按自然日、小时和分钟保存，无法得出滑动窗口"),
    Unsupported::metrics(
        "the relay does not measure the time to the first token, nor the output speed",
        &[
            "llm_relay_time_to_first_token_seconds",
            "llm_relay_output_tokens_per_second",
            "llm_relay_leaderboard_mean_ttft_seconds",
            "llm_relay_leaderboard_mean_output_tokens_per_second",
        ],
    ),
    Unsupported::metrics("the relay's price list is a file beside its store", &["llm_relay_cache_saved_usd_total"]),
    Unsupported::metrics(
        "its counters are sums: what one request was is lost",
        &[
            "llm_relay_unpriced_requests_total",
            "llm_relay_model_substitutions_total",
            "llm_relay_leaderboard_cache_hit_ratio",
            "llm_relay_provider_last_request_timestamp_seconds",
        ],
    ),
    Unsupported::metrics(
        "there are no rows: the relay's own counters are shown, so there is nothing to correct or to audit",
        &[
            "llm_relay_ledger_corrections_total",
            "llm_relay_ledger_corrections_usd_total",
            "llm_relay_imported_requests_total",
            "llm_relay_ledger_lag_seconds",
            "llm_relay_ledger_rows_left_out",
            "llm_relay_audit_",
            "llm_relay_statement_refused",
        ],
    ),
    Unsupported::metrics(
        "the relay counts requests itself, while they happen",
        &["llm_relay_dead_letters_total", "llm_relay_collector_"],
    ),
    Unsupported::metrics(
        "accounts have states (`llm_relay_provider_account_state`), no circuit breakers",
        &["llm_relay_provider_circuit_"],
    )
    .zh("账号只有状态，没有熔断器"),
    Unsupported::metrics("the relay gives no money back", &["llm_relay_refunded_usd_total"]),
    Unsupported::metrics(
        "an attempt that was made good is a failure like any other",
        &["llm_relay_recovered_attempts_total"],
    ),
    Unsupported::metrics("requests that it refuses are not counted", &["llm_relay_rejected_requests_total"]),
    Unsupported::metrics("costs are kept by key and by model", &["llm_relay_account_cost_usd_total"]),
    Unsupported::metrics(
        "an account has one upstream key",
        &["llm_relay_key_consecutive_failures", "llm_relay_account_keys"],
    ),
    Unsupported::metrics("its error history is in `llm_relay_failures_total`", &["llm_relay_error_log_entries_total"]),
    Unsupported::metrics(
        "spending is known as a total of the window, without its course",
        &["llm_relay_quota_exhaustion_timestamp_seconds"],
    ),
    Unsupported::metrics("the relay's screens show dollars", &["llm_relay_currency_info"]),
    Unsupported::metrics("Redis does not tell its replicas how old they are", &["llm_relay_replica_lag_seconds"]),
    Unsupported::metrics("its counters are by days of its own", &["llm_relay_timezone_error_seconds"]),
    Unsupported::metrics("its database is a server, of which others tell", &["llm_relay_database_bytes"]),
    Unsupported::metrics(
        "of accounts, states and windows are read",
        &[
            "llm_relay_account_plan_info",
            "llm_relay_account_balance",
            "llm_relay_account_balance_timestamp_seconds",
            "llm_relay_account_test_",
        ],
    ),
    Unsupported::metrics("a limit refuses, none only alerts", &["llm_relay_quota_soft_limit_usd"]),
    Unsupported::PEOPLE,
];
