use crate::relay::Unsupported;

const NO_ACCOUNTS: &str = "its store knows nothing of the upstream's subscription accounts";
const NO_COLLECTOR: &str = "the relay writes its ledger itself, while requests happen";

/// What neither PostgreSQL nor Redis tells.
pub(crate) const UNSUPPORTED: &[Unsupported] = &[
    Unsupported::teams("users stand alone: its groups are of providers").zh("用户不分团队，其分组属于供应商"),
    Unsupported::metrics(
        "the ledger has what is billed, the relay's multipliers included",
        &["llm_relay_list_cost_usd_total", "llm_relay_key_list_cost_usd_total", "llm_relay_day_list_cost_usd"],
    ),
    Unsupported::metrics("`llm_relay_cost_usd_total` tells it", &["llm_relay_provider_cost_usd_total"]),
    Unsupported::metrics("boards are summed up from the ledger at once", &["llm_relay_leaderboard_timestamp_seconds"]),
    Unsupported::metrics("keys have no tags", &["llm_relay_key_tag_info"]),
    Unsupported::metrics("every request leaves a row", &["llm_relay_requests_missed_total"]),
    Unsupported::metrics(
        NO_COLLECTOR,
        &["llm_relay_imported_requests_total", "llm_relay_dead_letters_total", "llm_relay_collector_"],
    ),
    Unsupported::metrics("the relay gives no money back", &["llm_relay_refunded_usd_total"]),
    Unsupported::metrics("a row has what became of the whole request", &["llm_relay_recovered_attempts_total"]),
    Unsupported::metrics("requests that it refuses are rows as well", &["llm_relay_rejected_requests_total"]),
    Unsupported::metrics("users pay nothing in advance", &["llm_relay_user_balance_usd"]),
    Unsupported::metrics("a provider has one upstream key", &["llm_relay_key_consecutive_failures"]),
    Unsupported::metrics("there is no error log beside the ledger", &["llm_relay_error_log_entries_total"]),
    Unsupported::metrics(
        "a key's limit is of sessions, which `llm_relay_key_sessions_active` tells",
        &["llm_relay_key_slots_"],
    ),
    Unsupported::metrics("the relay has no queue", &["llm_relay_queue_"]),
    Unsupported::metrics(NO_ACCOUNTS, &["llm_relay_provider_account_state", "llm_relay_account_"]),
    Unsupported::metrics("keys have no rate limits", &["llm_relay_rate_limit_"]),
    Unsupported::metrics("the database works out its days", &["llm_relay_timezone_error_seconds"]),
    Unsupported::metrics("its database is a server, of which others tell", &["llm_relay_database_bytes"]),
    Unsupported::metrics("a limit refuses, none only alerts", &["llm_relay_quota_soft_limit_usd"]),
    Unsupported::PEOPLE,
];
