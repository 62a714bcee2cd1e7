use crate::relay::Unsupported;

const ENDED: Unsupported = Unsupported::metrics(
    "a row is written when the request has ended, and the relay keeps no sessions",
    &[
        "llm_relay_sessions_active",
        "llm_relay_user_sessions_",
        "llm_relay_requests_in_progress",
        "llm_relay_user_requests_in_progress",
        "llm_relay_key_sessions_",
        "llm_relay_provider_slots_",
        "llm_relay_key_slots_",
        "llm_relay_queue_",
    ],
)
.zh("请求结束后才写入记录，且不保存会话");
const USERS: Unsupported = Unsupported::metrics(
    "users do not expire, and have no rate limits of their own",
    &["llm_relay_user_expiry_timestamp_seconds", "llm_relay_user_requests_per_minute_limit"],
);
const TEAMS: Unsupported = Unsupported::teams("users stand alone: its groups are of prices and channels")
    .zh("用户不分团队，其分组属于价格和渠道");
const SOFT_LIMITS: Unsupported =
    Unsupported::metrics("a limit refuses, none only alerts", &["llm_relay_quota_soft_limit_usd"]);
const PROCESSES: Unsupported = Unsupported::metrics(
    "nothing is told of people behind the callers, and of the relay's own processes",
    &["llm_relay_end_users_active", "llm_relay_workers_alive", "llm_relay_unaccounted_requests"],
);
const ATTEMPTS: Unsupported = Unsupported::metrics(
    "attempts are not told from requests that failed, and what it refuses leaves no row",
    &["llm_relay_recovered_attempts_total", "llm_relay_rejected_requests_total"],
);
const WALLETS: Unsupported = Unsupported::metrics(
    "a wallet is a quota: `llm_relay_quota_limit_usd` less `llm_relay_quota_used_usd`",
    &["llm_relay_user_balance_usd"],
);
const LIST_COST: Unsupported = Unsupported::metrics(
    "the rows have what is billed, the rate of the group included",
    &[
        "llm_relay_list_cost_usd_total",
        "llm_relay_key_list_cost_usd_total",
        "llm_relay_day_list_cost_usd",
        "llm_relay_account_cost_usd_total",
    ],
);
const PROVIDER_COST: Unsupported =
    Unsupported::metrics("`llm_relay_cost_usd_total` tells it", &["llm_relay_provider_cost_usd_total"]);
const BOARD_TIME: Unsupported =
    Unsupported::metrics("boards are summed up from the rows at once", &["llm_relay_leaderboard_timestamp_seconds"]);
const TAGS: Unsupported = Unsupported::metrics("keys have no tags", &["llm_relay_key_tag_info"]);
const ANSWERED: Unsupported =
    Unsupported::metrics("the model that answered is not recorded", &["llm_relay_model_substitutions_total"]);
const COLLECTOR: Unsupported = Unsupported::metrics(
    "the relay writes its rows itself",
    &[
        "llm_relay_imported_requests_total",
        "llm_relay_dead_letters_total",
        "llm_relay_collector_",
        "llm_relay_requests_missed_total",
    ],
);
const CIRCUITS: Unsupported = Unsupported::metrics(
    "channels have states (`llm_relay_provider_account_state`), no circuit breakers",
    &["llm_relay_provider_circuit_"],
)
.zh("渠道只有状态，没有熔断器");
const ACCOUNTS: Unsupported = Unsupported::metrics(
    "of channels, states, balances and tests are kept",
    &[
        "llm_relay_account_return_timestamp_seconds",
        "llm_relay_account_plan_info",
        "llm_relay_account_utilization_ratio",
        "llm_relay_account_utilization_timestamp_seconds",
        "llm_relay_account_window_state",
        "llm_relay_account_reset_timestamp_seconds",
    ],
);
const ERROR_LOG: Unsupported =
    Unsupported::metrics("there is no error log beside the log", &["llm_relay_error_log_entries_total"]);
const RATE_LIMITS: Unsupported =
    Unsupported::metrics("its rate limits are in Redis or in memory", &["llm_relay_rate_limit_"]);
const REPLICA: Unsupported =
    Unsupported::metrics("the database is not asked whether it is a replica", &["llm_relay_replica_lag_seconds"]);
const ZONE: Unsupported = Unsupported::metrics("its times are of no zone", &["llm_relay_timezone_error_seconds"]);
const STATEMENTS: Unsupported = Unsupported::metrics(
    "no recurring statement can become expensive: all are bounded by an index",
    &["llm_relay_statement_refused"],
);

/// What new-api's tables do not tell.
pub(super) const NEW_API_UNSUPPORTED: &[Unsupported] = &[
    ENDED,
    USERS,
    TEAMS,
    SOFT_LIMITS,
    PROCESSES,
    Unsupported::metrics(
        "its screens have no shares of errors, and attempts that failed are rows only with `ERROR_LOG_ENABLED`",
        &["llm_relay_day_error_ratio", "llm_relay_leaderboard_success_ratio"],
    )
    .zh("其界面不显示错误率；失败的尝试仅在开启 `ERROR_LOG_ENABLED` 时才有记录"),
    ATTEMPTS,
    WALLETS,
    LIST_COST,
    PROVIDER_COST,
    BOARD_TIME,
    TAGS,
    ANSWERED,
    COLLECTOR,
    CIRCUITS,
    ACCOUNTS,
    Unsupported::metrics(
        "keys of a channel are lines of its secret: `llm_relay_account_keys` counts them by state",
        &["llm_relay_key_consecutive_failures"],
    ),
    ERROR_LOG,
    RATE_LIMITS,
    REPLICA,
    ZONE,
    STATEMENTS,
];

/// What one-api's tables do not tell.
pub(super) const ONE_API_UNSUPPORTED: &[Unsupported] = &[
    ENDED,
    USERS,
    TEAMS,
    SOFT_LIMITS,
    PROCESSES,
    Unsupported::metrics(
        "requests that failed leave no row",
        &[
            "llm_relay_day_error_ratio",
            "llm_relay_leaderboard_success_ratio",
            "llm_relay_window_requests",
            "llm_relay_responses_total",
            "llm_relay_failures_total",
            "llm_relay_wasted_cost_usd_total",
        ],
    )
    .zh("失败的请求不留记录"),
    Unsupported::metrics("the relay gives no money back", &["llm_relay_refunded_usd_total"]),
    Unsupported::metrics(
        "the relay does not measure the time to the first token",
        &["llm_relay_time_to_first_token_seconds", "llm_relay_leaderboard_mean_ttft_seconds"],
    ),
    Unsupported::metrics(
        "cached tokens are not told from the others",
        &["llm_relay_cache_saved_usd_total", "llm_relay_leaderboard_cache_hit_ratio"],
    ),
    Unsupported::metrics("there are no quotas of a window", &["llm_relay_quota_reset_timestamp_seconds"]),
    ATTEMPTS,
    WALLETS,
    LIST_COST,
    PROVIDER_COST,
    BOARD_TIME,
    TAGS,
    ANSWERED,
    COLLECTOR,
    CIRCUITS,
    ACCOUNTS,
    Unsupported::metrics("a channel has one key", &["llm_relay_key_consecutive_failures", "llm_relay_account_keys"]),
    ERROR_LOG,
    RATE_LIMITS,
    REPLICA,
    ZONE,
    STATEMENTS,
];
