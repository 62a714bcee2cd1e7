//! What is not what it seems in the stores of three relays, and the test that steps on it.

use std::path::Path;

/// Relay, trap, test.
const TRAPS: &[(&str, &str, &str)] = &[
    // claude-relay-service
    (
        "claude_relay_service",
        "the member `index` in index sets, a set where a hash should be (WRONGTYPE)",
        "the_word_index_in_an_index_and_a_set_where_a_hash_should_be_change_nothing",
    ),
    (
        "claude_relay_service",
        "`:` in names of models, members without a hash",
        "colons_in_model_names_are_part_of_the_name",
    ),
    (
        "claude_relay_service",
        "cached tokens without a split count twice in counters of keys",
        "tokens_that_the_relay_counts_twice_are_shown_as_it_counts_them",
    ),
    (
        "claude_relay_service",
        "weekly spending under a name that its own list does not read",
        "rate_windows_queues_and_weekly_spending_are_those_of_the_relay",
    ),
    (
        "claude_relay_service",
        "expired leases still in the set of running requests",
        "random_traffic_gives_the_numbers_that_are_in_redis",
    ),
    (
        "claude_relay_service",
        "three types under `concurrency:`",
        "the_word_index_in_an_index_and_a_set_where_a_hash_should_be_change_nothing",
    ),
    (
        "claude_relay_service",
        "rate-limited accounts shown as paused; platforms that its totals leave out",
        "accounts_of_all_ten_platforms_have_a_state",
    ),
    ("claude_relay_service", "offsets of whole hours, 0 is 8", "the_offset_is_understood_as_the_relay_understands_it"),
    (
        "claude_relay_service",
        "soft-deleted keys keep their counters",
        "deleted_keys_keep_their_counters_and_leave_the_boards",
    ),
    ("claude_relay_service", "deletion for good leaves some counters behind", "a_key_deleted_for_good_lowers_no_sum"),
    (
        "claude_relay_service",
        "a reset deletes every usage key",
        "counters_go_on_after_a_reset_of_the_statistics_and_boards_follow_the_relay",
    ),
    ("claude_relay_service", "dollars with the noise of floats", "noise_of_floats_never_looks_like_a_reset"),
    (
        "claude_relay_service",
        "200 records a key, older ones are pushed out",
        "records_that_were_pushed_out_are_counted_as_missed",
    ),
    ("claude_relay_service", "two errors in one millisecond", "failures_of_one_millisecond_each_count_once"),
    (
        "claude_relay_service",
        "windows of a subscription that are over; a field named after the wrong model",
        "subscription_windows_are_shares_with_their_end_and_vanish_when_over",
    ),
    (
        "claude_relay_service",
        "no index sets in old releases; `SCAN` of the whole key space",
        "a_release_without_indexes_is_searched_where_that_is_allowed",
    ),
    ("claude_relay_service", "secrets beside names and states", "check_says_what_is_there_and_what_the_user_may_not"),
    // gemini-balance
    (
        "gemini_balance",
        "no status code is neither success nor failure (`is None` in its SQL)",
        "every_number_equals_plain_sql_on_sqlite",
    ),
    (
        "gemini_balance",
        "texts in the integer column, empty ones, no entry in the error log",
        "texts_in_the_column_of_codes_are_failures_of_no_known_class_whatever_the_error_log_says",
    ),
    ("gemini_balance", "MySQL has no rows of such failures", "every_number_equals_plain_sql_on_mariadb"),
    ("gemini_balance", "rows in the order of ends, times of starts", "every_number_equals_plain_sql_on_sqlite"),
    (
        "gemini_balance",
        "ids that SQLite gives out again; rows that the clean-up takes",
        "every_number_equals_plain_sql_on_sqlite",
    ),
    ("gemini_balance", "a smaller id that is committed later", "rows_that_become_visible_late_are_counted_on_mariadb"),
    (
        "gemini_balance",
        "an open read makes the relay lose rows; no index but the id",
        "a_writer_on_sqlite_is_never_refused_and_a_long_log_is_audited_in_slices",
    ),
    (
        "gemini_balance",
        "an open transaction stops a change of the table",
        "rows_that_become_visible_late_are_counted_on_mariadb",
    ),
    ("gemini_balance", "local times of a zone that is stored nowhere", "check_tells_a_wrong_zone_by_whole_hours"),
    ("gemini_balance", "keys in clear in both logs", "key_health_and_the_error_log_are_told_and_keys_are_not"),
    ("gemini_balance", "settings with every secret", "the_documented_account_reads_all_that_is_needed_and_no_secret"),
    // CPA-Manager
    ("cpa_manager", "generations without a version", "each_generation_is_told_by_its_columns_and_says_what_it_has"),
    ("cpa_manager", "an upgrade in place", "an_upgrade_in_place_is_noticed"),
    (
        "cpa_manager",
        "names cut within a character: no UTF-8 in a column of text",
        "a_name_that_was_cut_within_a_character_loses_no_row",
    ),
    (
        "cpa_manager",
        "rows in the order of arrival, times of starts",
        "starts_out_of_the_order_of_ids_are_all_counted_in_their_windows",
    ),
    ("cpa_manager", "imports: old times with new ids", "imports_belong_to_their_day_and_to_no_live_counter"),
    ("cpa_manager", "an import that fills a whole read", "a_large_import_is_not_taken_for_the_end_of_today"),
    (
        "cpa_manager",
        "no stored cost: prices change",
        "a_price_is_that_of_its_time_in_counters_and_that_of_now_on_screens",
    ),
    ("cpa_manager", "migrations rewrite tokens of old rows", "rewritten_tokens_reach_the_screens_and_lower_no_counter"),
    ("cpa_manager", "a latency of 0 is unknown", "an_unknown_latency_is_no_latency_of_zero"),
    ("cpa_manager", "a restored or replaced file", "a_replaced_file_is_read_anew_and_no_counter_falls"),
    ("cpa_manager", "a writer without patience", "the_manager_never_finds_its_file_busy"),
    (
        "cpa_manager",
        "groups that walk through an index, indexes that are built late",
        "a_steady_refresh_costs_the_same_in_a_small_and_in_a_large_file",
    ),
    (
        "cpa_manager",
        "a stopped manager and a directory that cannot be written",
        "without_its_manager_the_file_waits_for_it",
    ),
    (
        "cpa_manager",
        "raw requests and dead letters in clear, accounts that are e-mail addresses",
        "nothing_that_is_shown_or_said_is_a_secret",
    ),
];

#[test]
fn every_trap_has_its_test() {
    for (relay, trap, test) in TRAPS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
        let more = std::fs::read_dir(folder.join(relay)).into_iter().flatten().map(|it| it.unwrap().path());
        let files = more.chain([folder.join(format!("{relay}.rs"))]);
        let text: String = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
        assert!(text.contains(&format!("fn {test}()")), "{relay}: {trap}: there is no {test}");
    }
}
