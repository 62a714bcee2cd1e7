//! States of accounts in the order of the relay's own list, when they come back, and what their subscriptions have left. The
//! fields are those that releases v1.1.263 to v1.1.314 write.

use super::*;

const CLAUDE: [&str; 2] = ["claude:account:index", "claude:account:"];
const CONSOLE: [&str; 2] = ["claude_console_account:index", "claude_console_account:"];
const RESPONSES: [&str; 2] = ["openai_responses_account:index", "openai_responses_account:"];

/// So many minutes from now, as the relay writes times.
fn minutes(from_now: i64) -> String {
    (Utc::now() + TimeDelta::minutes(from_now)).format("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

async fn state_of(scene: &mut Scene, id: &str) -> (String, Option<i64>) {
    let page = scene.page().await;
    let states = values(&page, "llm_relay_provider_account_state", &["provider_id", "state"]);
    let present =
        states.into_iter().find(|(name, value)| *value == 1.0 && name.starts_with(&format!("{id} "))).unwrap().0;
    let back = one(&page, "llm_relay_account_return_timestamp_seconds", &[("provider_id", id), ("models", "all")]);
    let minutes = back.map(|at| ((at - Utc::now().timestamp() as f64) / 60.0).round() as i64);
    (present.split_once(' ').unwrap().1.to_owned(), minutes)
}

#[tokio::test]
async fn accounts_of_all_ten_platforms_have_a_state() {
    let mut scene = Scene::new(10).await;
    scene.add_key(&key_id(1), &[]).await;
    let in_an_hour = (Utc::now() + TimeDelta::hours(1)).to_rfc3339();
    let an_hour_ago = (Utc::now() - TimeDelta::hours(1)).to_rfc3339();
    /// Index, prefix of the account's key, name, fields, expected state.
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 9] = [
        (
            "claude:account:index",
            "claude:account:",
            "limited",
            &[("rateLimitStatus", "limited"), ("rateLimitEndAt", &in_an_hour), ("schedulable", "false")],
            "rate_limited",
        ),
        (
            "claude_console_account:index",
            "claude_console_account:",
            "quota",
            &[("quotaStoppedAt", "2026-01-01T00:00:00Z")],
            "quota_exceeded",
        ),
        ("ccr_account:index", "ccr_account:", "off", &[("isActive", "false"), ("status", "active")], "disabled"),
        ("gemini_account:index", "gemini_account:", "cooling", &[("status", "active")], "cooling_down"),
        ("gemini_api_account:index", "gemini_api_account:", "paused", &[("schedulable", "false")], "paused"),
        (
            "openai:account:index",
            "openai:account:",
            "was-limited",
            &[("rateLimitStatus", "limited"), ("rateLimitResetAt", &an_hour_ago)],
            "normal",
        ),
        (
            "openai_responses_account:index",
            "openai_responses_account:",
            "unauthorized",
            &[("status", "unauthorized")],
            "unauthorized",
        ),
        ("azure_openai:account:index", "azure_openai:account:", "broken", &[("status", "temp_error")], "error"),
        ("droid:account:index", "droid:account:", "fine", &[("status", "created")], "normal"),
    ];
    for (index, prefix, id, fields, _) in cases {
        scene.add_account(index, prefix, id, fields).await;
    }
    scene.run("SET temp_unavailable:gemini:cooling {} EX 60").await;
    scene.run("SADD bedrock_account:index rock gone").await;
    let rock =
        r#"{"name":"rock","isActive":true,"schedulable":false,"awsCredentials":"planted-secret","status":"active"}"#;
    cmd("SET").arg("bedrock_account:rock").arg(rock).exec_async(&mut scene.admin).await.unwrap();
    let page = scene.page().await;
    let mut present = values(&page, "llm_relay_provider_account_state", &["provider_id", "state"]);
    present.retain(|_, value| *value == 1.0);
    let mut expected: Vec<String> = cases.iter().map(|(_, _, id, _, state)| format!("{id} {state}")).collect();
    expected.push("rock paused".to_owned());
    expected.sort();
    assert_eq!(present.into_keys().collect::<Vec<_>>(), expected);
    assert_eq!(values(&page, "llm_relay_provider_info", &["type"]).len(), 10);
}

/// What a 429 leaves on an account of Claude Console: it is off until its hour is over, and longer if the relay forgets it.
#[tokio::test]
async fn a_rate_limited_console_account_is_limited_and_not_switched_off() {
    let mut scene = Scene::new(35).await;
    scene.add_key(&key_id(1), &[]).await;
    let of = |at: String| {
        [
            ("isActive", "false".to_owned()),
            ("status", "rate_limited".to_owned()),
            ("schedulable", "false".to_owned()),
            ("rateLimitStatus", "limited".to_owned()),
            ("rateLimitedAt", at),
            ("rateLimitDuration", "60".to_owned()),
        ]
    };
    for (limited_at, back) in [(-10, 50), (-90, -30)] {
        let fields = of(minutes(limited_at));
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        scene.add_account(CONSOLE[0], CONSOLE[1], "co", &fields).await;
        assert_eq!(state_of(&mut scene, "co").await, ("rate_limited".to_owned(), Some(back)));
        assert_eq!(one(&scene.page().await, "llm_relay_provider_enabled", &[("provider_id", "co")]), Some(1.0));
    }
    scene.run("HSET claude_console_account:co status active rateLimitStatus normal").await;
    assert_eq!(state_of(&mut scene, "co").await.0, "disabled");
    assert_eq!(one(&scene.page().await, "llm_relay_provider_enabled", &[("provider_id", "co")]), Some(0.0));
}

#[tokio::test]
async fn each_reason_has_its_place_and_its_end() {
    let mut scene = Scene::new(36).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.add_account(CLAUDE[0], CLAUDE[1], "c", &[("status", "active"), ("schedulable", "true")]).await;
    assert_eq!(state_of(&mut scene, "c").await, ("normal".to_owned(), None));
    scene.run("HSET claude:account:c schedulable false").await;
    assert_eq!(state_of(&mut scene, "c").await, ("paused".to_owned(), None));
    scene.run(&format!("HSET claude:account:c status temp_error tempErrorAt {}", minutes(-1))).await;
    assert_eq!(state_of(&mut scene, "c").await, ("error".to_owned(), Some(4)));
    scene.run(&format!("SET account:overload:c {{\"expiresAt\":\"{}\"}} EX 600", minutes(10))).await;
    assert_eq!(state_of(&mut scene, "c").await, ("overloaded".to_owned(), Some(10)));
    let pause = format!("{{\"statusCode\":503,\"markedAt\":\"{}\",\"expiresAt\":\"{}\"}}", minutes(-1), minutes(5));
    scene.run(&format!("SET temp_unavailable:claude-official:c {pause} EX 360")).await;
    assert_eq!(state_of(&mut scene, "c").await, ("cooling_down".to_owned(), Some(5)));
    // Releases before v1.1.290 do not say how long.
    scene.run(&format!("SET temp_unavailable:claude-official:c {{\"markedAt\":\"{}\"}} EX 360", minutes(-1))).await;
    assert_eq!(state_of(&mut scene, "c").await, ("cooling_down".to_owned(), None));
    scene.run(&format!("HSET claude:account:c rateLimitStatus limited rateLimitEndAt {}", minutes(240))).await;
    assert_eq!(state_of(&mut scene, "c").await, ("rate_limited".to_owned(), Some(240)));
    scene.run("HSET claude:account:c status unauthorized").await;
    assert_eq!(state_of(&mut scene, "c").await, ("unauthorized".to_owned(), None));

    scene.add_account(CONSOLE[0], CONSOLE[1], "banned", &[("status", "account_blocked"), ("isActive", "false")]).await;
    assert_eq!(state_of(&mut scene, "banned").await.0, "blocked");
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_provider_enabled", &[("provider_id", "banned")]), Some(1.0));
}

#[tokio::test]
async fn a_limit_of_one_family_of_models_leaves_the_account_in_use() {
    let mut scene = Scene::new(37).await;
    scene.add_key(&key_id(1), &[]).await;
    let (soon, past) = (minutes(60), minutes(-60));
    let fields = [("sonnetRateLimitEndAt", soon.as_str()), ("opusRateLimitEndAt", past.as_str())];
    scene.add_account(CLAUDE[0], CLAUDE[1], "c", &fields).await;
    assert_eq!(state_of(&mut scene, "c").await, ("normal".to_owned(), None));
    let back = values(&scene.page().await, "llm_relay_account_return_timestamp_seconds", &["models"]);
    let end: DateTime<Utc> = soon.parse().unwrap();
    assert_eq!(back, [("sonnet".to_owned(), end.timestamp() as f64)].into());
}

/// The quota of an account is in the relay's store, and of OpenAI Responses what is used of it.
#[tokio::test]
async fn quotas_of_accounts_start_anew_when_the_relay_says() {
    let mut scene = Scene::new(38).await;
    scene.add_key(&key_id(1), &[]).await;
    let local = (Utc::now() + TimeDelta::hours(8)).naive_utc();
    let (today, midnight) = (local.date().to_string(), (local.date() + Days::new(1)).and_hms_opt(0, 0, 0).unwrap());
    let to_midnight = (midnight - local).num_seconds().div_euclid(60);
    let stopped = minutes(0);
    let quota = [("dailyQuota", "5"), ("lastResetDate", today.as_str()), ("quotaStoppedAt", &stopped)];
    let responses = [quota.as_slice(), &[("status", "quotaExceeded"), ("dailyUsage", "5.25")]].concat();
    scene.add_account(RESPONSES[0], RESPONSES[1], "or", &responses).await;
    let console = [quota.as_slice(), &[("quotaResetTime", "06:30"), ("schedulable", "false")]].concat();
    scene.add_account(CONSOLE[0], CONSOLE[1], "co", &console).await;
    let near = |(state, back): (String, Option<i64>), minutes: i64| {
        assert!(state == "quota_exceeded" && (back.unwrap() - minutes).abs() <= 1, "{state} {back:?} {minutes}");
    };
    near(state_of(&mut scene, "or").await, to_midnight);
    near(state_of(&mut scene, "co").await, to_midnight + 390);
    let page = scene.page().await;
    let limits = values(&page, "llm_relay_quota_limit_usd", &["scope", "id"]);
    assert_eq!(limits, [("provider co".to_owned(), 5.0), ("provider or".to_owned(), 5.0)].into());
    let used = values(&page, "llm_relay_quota_used_usd", &["scope", "id"]);
    assert_eq!(used, [("provider or".to_owned(), 5.25)].into(), "the relay works the other out from its price list");
}

#[tokio::test]
async fn an_account_is_in_its_groups_and_a_key_has_its_tags() {
    let mut scene = Scene::new(39).await;
    scene.add_key(&key_id(1), &[("tags", "[\"team-a\",\"x\"]")]).await;
    scene.add_account(CLAUDE[0], CLAUDE[1], "c", &[("accountType", "group")]).await;
    scene.add_account(CLAUDE[0], CLAUDE[1], "d", &[("accountType", "shared")]).await;
    scene.run("SADD account_groups g1 g2").await;
    scene.run("HSET account_group:g1 id g1 name red platform claude").await;
    scene.run("HSET account_group:g2 id g2 name blue platform claude").await;
    scene.run("SADD account_group_members:g1 c").await;
    scene.run("SADD account_group_members:g2 c").await;
    let page = scene.page().await;
    let groups = values(&page, "llm_relay_provider_info", &["provider_id", "group"]);
    assert_eq!(groups.into_keys().collect::<Vec<_>>(), ["c blue, red", "d shared"]);
    let tags = values(&page, "llm_relay_key_tag_info", &["tag"]);
    assert_eq!(tags.into_keys().collect::<Vec<_>>(), ["team-a", "x"]);
}

/// Nobody has looked at the relay's list of accounts for two hours, and the account was in use all the time.
#[tokio::test]
async fn an_old_share_of_a_window_is_left_out_and_its_age_told() {
    let mut scene = Scene::new(40).await;
    scene.add_key(&key_id(1), &[]).await;
    let (told, ends, week) = (minutes(-120), minutes(100), minutes(5000));
    let fields = [
        ("claudeUsageUpdatedAt", told.as_str()),
        ("claudeFiveHourUtilization", "37.5"),
        ("claudeFiveHourResetsAt", &ends),
        ("claudeSevenDayUtilization", "61"),
        ("claudeSevenDayResetsAt", &week),
        ("sessionWindowStatus", "allowed_warning"),
        ("sessionWindowEnd", &ends),
        ("lastUsedAt", &minutes(-1)),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    scene.add_account(CLAUDE[0], CLAUDE[1], "c", &fields).await;
    let page = scene.page().await;
    let shares = values(&page, "llm_relay_account_utilization_ratio", &["window"]);
    assert_eq!(shares, [("7d".to_owned(), 0.61)].into(), "two hours are much of five, and little of a week");
    let at = told.parse::<DateTime<Utc>>().unwrap().timestamp() as f64;
    let ages = values(&page, "llm_relay_account_utilization_timestamp_seconds", &["window"]);
    assert_eq!(ages, [("5h".to_owned(), at), ("7d".to_owned(), at)].into());
    let mut states = values(&page, "llm_relay_account_window_state", &["window", "state"]);
    states.retain(|_, value| *value == 1.0);
    assert_eq!(states.into_keys().collect::<Vec<_>>(), ["5h allowed_warning"]);
    // Where nothing has been sent since, the share still holds.
    scene.run(&format!("HSET claude:account:c lastUsedAt {}", minutes(-110))).await;
    assert_eq!(values(&scene.page().await, "llm_relay_account_utilization_ratio", &["window"]).len(), 2);
}

#[tokio::test]
async fn subscription_windows_are_shares_with_their_end_and_vanish_when_over() {
    let mut scene = Scene::new(11).await;
    scene.add_key(&key_id(1), &[]).await;
    let (soon, past) = ((Utc::now() + TimeDelta::hours(2)).to_rfc3339(), "2026-01-01T00:00:00Z");
    let claude = [
        ("claudeFiveHourUtilization", "42.5"),
        ("claudeFiveHourResetsAt", &soon),
        ("claudeSevenDayUtilization", "99"),
        ("claudeSevenDayResetsAt", past),
        ("claudeSevenDayOpusUtilization", "7"),
        ("claudeSevenDayOpusResetsAt", &soon),
    ];
    scene.add_account("claude:account:index", "claude:account:", "max", &claude).await;
    let now = Utc::now().to_rfc3339();
    let codex = [
        ("codexUsageUpdatedAt", now.as_str()),
        ("codexPrimaryUsedPercent", "12"),
        ("codexPrimaryResetAfterSeconds", "3600"),
        ("codexSecondaryUsedPercent", "50"),
        ("codexSecondaryResetAfterSeconds", "360000"),
    ];
    scene.add_account("openai:account:index", "openai:account:", "plus", &codex).await;
    let page = scene.page().await;
    let expected = [("max 5h", 0.425), ("max 7d_sonnet", 0.07), ("plus primary", 0.12), ("plus secondary", 0.5)];
    let ratios = values(&page, "llm_relay_account_utilization_ratio", &["provider_id", "window"]);
    same(&ratios, &expected.map(|(name, value)| (name.to_owned(), value)).into(), "utilization");
    let resets = values(&page, "llm_relay_account_reset_timestamp_seconds", &["provider_id", "window"]);
    assert!((resets["plus primary"] - Utc::now().timestamp() as f64 - 3600.0).abs() < 60.0);
    assert_eq!(resets.len(), 4);
}
