use crate::relay::Unsupported;

/// What both products do not tell, and what one of them does not.
macro_rules! unsupported {
    ($($own:expr),* $(,)?) => {
        &[
            Unsupported::metrics(
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
            .zh("请求结束后才写入记录，且不保存会话"),
            Unsupported::metrics(
                "users do not expire, and have no rate limits of their own",
                &["llm_relay_user_expiry_timestamp_seconds", "llm_relay_user_requests_per_minute_limit"],
            ),
            Unsupported::teams("users stand alone: its groups are of prices and channels")
                .zh("用户不分团队，其分组属于价格和渠道"),
            Unsupported::metrics("a limit refuses, none only alerts", &["llm_relay_quota_soft_limit_usd"]),
            Unsupported::PEOPLE,
            Unsupported::metrics(
                "attempts are not told from requests that failed, and what it refuses leaves no row",
                &["llm_relay_recovered_attempts_total", "llm_relay_rejected_requests_total"],
            ),
            Unsupported::metrics(
                "a wallet is a quota: `llm_relay_quota_limit_usd` less `llm_relay_quota_used_usd`",
                &["llm_relay_user_balance_usd"],
            ),
            Unsupported::metrics(
                "the rows have what is billed, the rate of the group included",
                &[
                    "llm_relay_list_cost_usd_total",
                    "llm_relay_key_list_cost_usd_total",
                    "llm_relay_day_list_cost_usd",
                    "llm_relay_account_cost_usd_total",
                ],
            ),
            Unsupported::metrics("`llm_relay_cost_usd_total` tells it", &["llm_relay_provider_cost_usd_total"]),
            Unsupported::metrics(
                "boards are summed up from the rows at once",
                &["llm_relay_leaderboard_timestamp_seconds"],
            ),
            Unsupported::metrics("keys have no tags", &["llm_relay_key_tag_info"]),
            Unsupported::metrics("the model that answered is not recorded", &["llm_relay_model_substitutions_total"]),
            Unsupported::metrics(
                "the relay writes its rows itself",
                &[
                    "llm_relay_imported_requests_total",
                    "llm_relay_dead_letters_total",
                    "llm_relay_collector_",
                    "llm_relay_requests_missed_total",
                ],
            ),
            Unsupported::metrics(
                "channels have states (`llm_relay_provider_account_state`), no circuit breakers",
                &["llm_relay_provider_circuit_"],
            )
            .zh("渠道只有状态，没有熔断器"),
            Unsupported::metrics(
                "of channels, states, balances and tests are kept",
                &[
                    "llm_relay_account_return_timestamp_seconds",
                    "llm_relay_account_plan_info",
                    "llm_relay_account_utilization_ratio",
                    "llm_relay_account_utilization_timestamp_seconds",
                    "llm_relay_account_window_state",
                    "llm_relay_account_reset_timestamp_seconds",
                ],
            ),
            Unsupported::metrics("there is no error log beside the log", &["llm_relay_error_log_entries_total"]),
            Unsupported::metrics("its rate limits are in Redis or in memory", &["llm_relay_rate_limit_"]),
            Unsupported::metrics(
                "the database is not asked whether it is a replica",
                &["llm_relay_replica_lag_seconds"],
            ),
            Unsupported::metrics("its times are of no zone", &["llm_relay_timezone_error_seconds"]),
            Unsupported::STATEMENTS,
            $($own),*
        ]
    };
}

/// What new-api's tables do not tell.
pub(super) const NEW_API_UNSUPPORTED: &[Unsupported] = unsupported![
    Unsupported::metrics(
        "its screens have no shares of errors, and attempts that failed are rows only with `ERROR_LOG_ENABLED`",
        &["llm_relay_day_error_ratio", "llm_relay_leaderboard_success_ratio"],
    )
    .zh("其界面不显示错误率；失败的尝试仅在开启 `ERROR_LOG_ENABLED` 时才有记录"),
    Unsupported::metrics(
        "keys of a channel are lines of its secret: `llm_relay_account_keys` counts them by state",
        &["llm_relay_key_consecutive_failures"],
    ),
];

/// What one-api's tables do not tell.
pub(super) const ONE_API_UNSUPPORTED: &[Unsupported] = unsupported![
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
    Unsupported::metrics("a channel has one key", &["llm_relay_key_consecutive_failures", "llm_relay_account_keys"]),
];
