//! Windows of keys, waiting times, the relay's own ranking, and the names of its days and weeks.

use super::*;

#[tokio::test]
async fn rate_windows_queues_and_weekly_spending_are_those_of_the_relay() {
    let mut scene = Scene::new(12).await;
    let id = key_id(1);
    let week = [
        ("weeklyOpusCostLimit", "100"),
        ("weeklyResetDay", "3"),
        ("weeklyResetHour", "9"),
        ("totalCostLimit", "50"),
        ("concurrencyLimit", "2"),
    ];
    let rates = [("rateLimitWindow", "10"), ("rateLimitRequests", "60"), ("rateLimitCost", "2.5")];
    scene.add_key(&id, &[week.as_slice(), &rates].concat()).await;
    scene.add_key(&key_id(2), &[("rateLimitWindow", "10"), ("tokenLimit", "1000"), ("rateLimitCost", "9")]).await;
    scene.add_key(&key_id(3), &[("rateLimitWindow", "10")]).await;
    let opened = Utc::now().timestamp_millis() - 60_000;
    scene.run(&format!("MSET rate_limit:window_start:{id} {opened} rate_limit:requests:{id} 12 rate_limit:tokens:{id} 999 rate_limit:cost:{id} 0.75")).await;
    scene.run(&format!("SET concurrency:queue:{id} 2")).await;
    scene.run(&format!("HSET concurrency:queue:stats:{id} entered 9 success 6 timeout 1")).await;
    scene.run("RPUSH concurrency:queue:wait_times:global 1500 20 300 40 50 60 70 80 90 100 2500").await;
    // The latest Wednesday, 9:00 by the relay's clock.
    let mut start = (Utc::now() + TimeDelta::hours(8)).naive_utc();
    while start.format("%u %H").to_string() != "3 09" {
        start -= TimeDelta::hours(1);
    }
    scene.run(&format!("SET usage:opus:weekly:{id}:{} 17.5", start.format("%Y-%m-%dT%H"))).await;
    scene.run(&format!("SET usage:cost:total:{id} 20.25")).await;
    let page = scene.page().await;
    for (unit, key, used) in [("requests", &id, 12.0), ("usd", &id, 0.75), ("tokens", &key_id(2), 0.0)] {
        let of_unit = values(&page, &format!("llm_relay_rate_limit_used_{unit}"), &["key_id"]);
        assert_eq!(of_unit, [(key.clone(), used)].into(), "{unit}");
    }
    let reset = values(&page, "llm_relay_rate_limit_reset_timestamp_seconds", &["key_id", "unit"]);
    assert_eq!(reset.len(), 2, "a window that is not open has no end");
    assert_eq!(reset[&format!("{id} usd")], (opened + 600_000) as f64 / 1e3);
    assert_eq!(one(&page, "llm_relay_queue_waiting", &[]), Some(2.0));
    let waits = values(&page, "llm_relay_queue_wait_seconds", &["percentile"]);
    assert_eq!(waits, [("50", 0.08), ("90", 1.5), ("99", 2.5)].map(|(k, v)| (k.to_owned(), v)).into());
    let events = values(&page, "llm_relay_queue_events_total", &["event"]);
    assert_eq!(events, [("entered", 9.0), ("success", 6.0), ("timeout", 1.0)].map(|(k, v)| (k.to_owned(), v)).into());
    let spent = values(&page, "llm_relay_quota_used_usd", &["window"]);
    assert_eq!(spent, [("total", 20.25), ("weekly", 17.5)].map(|(k, v)| (k.to_owned(), v)).into());
    let end = one(&page, "llm_relay_quota_reset_timestamp_seconds", &[("window", "weekly")]).unwrap();
    assert_eq!(
        end,
        (start.and_utc() + TimeDelta::days(7) - TimeDelta::hours(8))
            .format("%Y-%m-%dT%H:00:00Z")
            .to_string()
            .parse::<DateTime<Utc>>()
            .unwrap()
            .timestamp() as f64
    );
}

#[tokio::test]
async fn the_cost_ranking_is_a_board_of_cost_alone() {
    let mut scene = Scene::new(13).await;
    scene.plan.boards.top_keys = 1;
    for key in [1, 2] {
        scene.add_key(&key_id(key), &[("name", "twin \"a\"\\ops")]).await;
    }
    scene.run(&format!("ZADD cost_rank:7days 3.5 {} 1.25 {} 0.5 {}", key_id(1), key_id(2), key_id(9))).await;
    scene.run("HSET cost_rank_meta:7days status ready lastUpdate 2026-11-29T12:31:45.382Z").await;
    scene.page().await;
    // Nothing is read of a ranking that the relay has not renewed since.
    scene.run(&format!("ZADD cost_rank:7days 9 {}", key_id(2))).await;
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_leaderboard_timestamp_seconds", &[("period", "7d")]), Some(1_795_955_505.382));
    let board = page.iter().filter(|((_, labels), _)| labels.get("period").is_some_and(|it| it == "7d"));
    let board = board.filter(|((_, labels), _)| labels.contains_key("id"));
    let board: Vec<_> = board
        .map(|((name, labels), value)| (name.as_str(), labels["id"].clone(), labels["name"].as_str(), *value))
        .collect();
    let cost = "llm_relay_leaderboard_cost_usd";
    assert_eq!(board, [(cost, key_id(1), "twin \"a\"\\ops", 3.5), (cost, "other".to_owned(), "other", 1.75)]);
    // A new key stands in the relay's ranking at once, with 0.
    scene.add_key(&key_id(3), &[]).await;
    scene.run(&format!("ZADD cost_rank:7days 0 {}", key_id(3))).await;
    scene.plan.boards.top_keys = 3;
    let page = scene.page().await;
    let of = |key| one(&page, cost, &[("scope", "key"), ("period", "7d"), ("id", key)]);
    assert_eq!((of(&key_id(2)), of(&key_id(3))), (Some(9.0), Some(0.0)));
}

#[test]
fn the_offset_is_understood_as_the_relay_understands_it() {
    let at: DateTime<Utc> = "2026-05-31T20:30:00Z".parse().unwrap();
    for (text, shown, day) in [
        ("8", "UTC+8", "2026-06-01"),
        ("0", "UTC+8", "2026-06-01"),
        ("", "UTC+8", "2026-06-01"),
        ("x", "UTC+8", "2026-06-01"),
        ("5.5", "UTC+5", "2026-06-01"),
        ("-5", "UTC-5", "2026-05-31"),
        (" +3h", "UTC+3", "2026-05-31"),
        ("0x4", "UTC+4", "2026-06-01"),
    ] {
        let offset = Offset::of(text);
        assert_eq!((offset.to_string().as_str(), offset.date(at).to_string().as_str()), (shown, day), "{text:?}");
    }
}

#[test]
fn weeks_have_the_names_that_older_releases_give_them() {
    // Of `getWeekStringInTimezone` (v1.1.280), run in a process whose clock is UTC.
    for (at, week) in [
        ("2026-01-01T12:00:00Z", "2026-W01"),
        ("2026-11-29T12:38:00Z", "2026-W48"),
        ("2026-11-29T16:00:01Z", "2026-W49"),
        ("2026-12-31T15:59:59Z", "2026-W53"),
        ("2026-12-31T16:00:01Z", "2027-W53"),
        ("2027-01-03T12:00:00Z", "2027-W53"),
        ("2027-01-04T12:00:00Z", "2027-W02"),
        ("2025-12-29T12:00:00Z", "2025-W01"),
        ("2028-01-01T12:00:00Z", "2028-W53"),
    ] {
        assert_eq!(Offset::default().week_number(at.parse().unwrap()), week, "{at}");
    }
}

#[tokio::test]
async fn weekly_spending_of_an_older_release_is_that_of_its_numbered_week() {
    let mut scene = Scene::new(45).await;
    scene.run("SET system:migrated:version 1.1.280").await;
    scene.add_key(&key_id(1), &[("weeklyOpusCostLimit", "10"), ("weeklyResetDay", "3")]).await;
    scene.run(&format!("SET usage:opus:weekly:{}:{} 0.18", key_id(1), Offset::default().week_number(Utc::now()))).await;
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_quota_used_usd", &[("window", "weekly")]), Some(0.18));
    let end = one(&page, "llm_relay_quota_reset_timestamp_seconds", &[("window", "weekly")]).unwrap();
    let end = Offset::default().local(DateTime::from_timestamp(end as i64, 0).unwrap());
    assert_eq!(end.format("%u %H:%M").to_string(), "1 00:00");
}
