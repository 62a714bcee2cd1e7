use crate::relay::Unsupported;

const ENDED: &str = "the manager hears of a request when it has ended";

/// What the file does not tell.
pub const UNSUPPORTED: &[Unsupported] = &[
    Unsupported::teams("client keys belong to no team").zh("客户端密钥不属于任何团队"),
    Unsupported::users("client keys belong to nobody").zh("客户端密钥不属于任何用户"),
    Unsupported::metrics(
        ENDED,
        &[
            "llm_relay_sessions_active",
            "llm_relay_requests_in_progress",
            "llm_relay_key_sessions_",
            "llm_relay_provider_slots_",
            "llm_relay_key_slots_",
            "llm_relay_queue_",
        ],
    )
    .zh("管理端在请求结束后才得知"),
    Unsupported::metrics(
        "the manager prices tokens at list prices, which is the cost",
        &[
            "llm_relay_list_cost_usd_total",
            "llm_relay_key_list_cost_usd_total",
            "llm_relay_day_list_cost_usd",
            "llm_relay_account_cost_usd_total",
        ],
    ),
    Unsupported::metrics("`llm_relay_cost_usd_total` tells it", &["llm_relay_provider_cost_usd_total"]),
    Unsupported::metrics("boards are summed up from the events at once", &["llm_relay_leaderboard_timestamp_seconds"]),
    Unsupported::metrics("client keys have no tags", &["llm_relay_key_tag_info"]),
    Unsupported::metrics(
        "a share is as old as the manager's last look, and the upstream's word is not kept",
        &["llm_relay_account_utilization_timestamp_seconds", "llm_relay_account_window_state"],
    ),
    Unsupported::metrics(
        "the file does not tell whether a credential is switched off",
        &["llm_relay_provider_enabled"],
    ),
    Unsupported::metrics("the model that answered is not recorded", &["llm_relay_model_substitutions_total"]),
    Unsupported::metrics("every request that the manager hears of leaves a row", &["llm_relay_requests_missed_total"]),
    Unsupported::metrics("the manager charges nobody", &["llm_relay_refunded_usd_total"]),
    Unsupported::metrics(
        "each attempt that the manager hears of is a request",
        &["llm_relay_recovered_attempts_total"],
    ),
    Unsupported::metrics(
        "the manager does not hear of requests that the proxy refuses",
        &["llm_relay_rejected_requests_total"],
    ),
    Unsupported::metrics(
        "the manager tests no credential and asks for no balance",
        &["llm_relay_account_balance", "llm_relay_account_balance_timestamp_seconds", "llm_relay_account_test_"],
    ),
    Unsupported::metrics("a credential has one key", &["llm_relay_account_keys"]),
    Unsupported::metrics("the proxy's circuits are in its memory", &["llm_relay_provider_circuit_"])
        .zh("代理的熔断状态只在其内存中"),
    Unsupported::metrics("each credential is a provider of its own", &["llm_relay_key_consecutive_failures"]),
    Unsupported::metrics("there is no error log beside the events", &["llm_relay_error_log_entries_total"]),
    Unsupported::metrics(
        "client keys have no limits",
        &["llm_relay_rate_limit_", "llm_relay_quota_", "llm_relay_key_expiry_timestamp_seconds"],
    ),
    Unsupported::metrics("the manager's pages show dollars", &["llm_relay_currency_info"]),
    Unsupported::metrics("its times are of no zone", &["llm_relay_timezone_error_seconds"]),
    Unsupported::STATEMENTS,
    Unsupported::metrics("the file has no replica", &["llm_relay_replica_lag_seconds"]),
    Unsupported::PEOPLE,
];
