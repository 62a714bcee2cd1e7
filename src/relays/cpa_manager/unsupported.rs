use crate::relay::Unsupported;

const ENDED: &str = "the manager hears of a request when it has ended";

/// What the file does not tell.
pub const UNSUPPORTED: &[Unsupported] = &[
    Unsupported::users("client keys belong to nobody"),
    Unsupported::metrics(
        ENDED,
        &[
            "llm_relay_sessions_active",
            "llm_relay_requests_in_progress",
            "llm_relay_key_sessions_active",
            "llm_relay_provider_slots_",
            "llm_relay_key_slots_",
            "llm_relay_queue_",
        ],
    ),
    Unsupported::metrics(
        "the manager prices tokens at list prices, which is the cost",
        &["llm_relay_list_cost_usd_total", "llm_relay_key_list_cost_usd_total"],
    ),
    Unsupported::metrics(
        "the file does not tell whether a credential is switched off",
        &["llm_relay_provider_enabled"],
    ),
    Unsupported::metrics("the model that answered is not recorded", &["llm_relay_model_substitutions_total"]),
    Unsupported::metrics("every request that the manager hears of leaves a row", &["llm_relay_requests_missed_total"]),
    Unsupported::metrics("the proxy's circuits are in its memory", &["llm_relay_provider_circuit_"]),
    Unsupported::metrics("each credential is a provider of its own", &["llm_relay_key_consecutive_failures"]),
    Unsupported::metrics("there is no error log beside the events", &["llm_relay_error_log_entries_total"]),
    Unsupported::metrics(
        "client keys have no limits",
        &["llm_relay_rate_limit_", "llm_relay_quota_", "llm_relay_key_expiry_timestamp_seconds"],
    ),
    Unsupported::metrics("the manager's pages show dollars", &["llm_relay_currency_info"]),
    Unsupported::metrics(
        "no recurring statement can become expensive: all are bounded by an index",
        &["llm_relay_statement_refused"],
    ),
    Unsupported::metrics("the file has no replica", &["llm_relay_replica_lag_seconds"]),
];
