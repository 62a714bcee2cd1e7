//! Only what has moved is read, and all of that is: in the order in which the relay writes it, by its own totals.

use chrono::Timelike;

use super::*;

/// A relay on a server of its own, whose commands are counted.
async fn alone(plan_of: impl FnOnce(&str) -> RelayPlan) -> (PrivateRedis, Scene) {
    let server = PrivateRedis::start().await.unwrap();
    let admin = redis_connection(&server.url()).await.unwrap();
    let plan = plan_of(&server.url());
    (server, Scene { admin, exporter: Exporter::open(&plan), plan })
}

/// The commands of one refresh of what is counted.
async fn commands(scene: &mut Scene) -> u64 {
    let directory = scene.exporter.directory.read().await.unwrap();
    cmd("CONFIG").arg("RESETSTAT").exec_async(&mut scene.admin).await.unwrap();
    scene.exporter.metered.refresh(&directory).await.unwrap();
    let stats: String = cmd("INFO").arg("commandstats").query_async(&mut scene.admin).await.unwrap();
    let calls = stats.lines().filter(|line| !line.contains("config")).filter_map(|line| line.split_once("calls="));
    calls.map(|(_, rest)| rest.split(',').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_relay_at_rest_costs_a_hundred_commands_and_a_request_costs_its_key() {
    let (_server, mut scene) = alone(plan).await;
    for key in 0..400 {
        scene.add_key(&key_id(key), &[]).await;
        scene.book(&request(key, key % 5)).await;
    }
    for account in 0..5 {
        scene.add_account("claude:account:index", "claude:account:", &account_id(account), &[]).await;
    }
    scene.page().await;
    let mut last = u64::MAX;
    for _ in 0..3 {
        last = commands(&mut scene).await;
    }
    assert!(last < 100, "{last} commands at rest");
    // The sweep of everything is over by then.
    for key in 0..40 {
        scene.book(&request(key, 1)).await;
        scene.page().await;
    }
    scene.book(&request(7, 2)).await;
    let busy = commands(&mut scene).await;
    assert!(busy < 400 + 150, "{busy} commands for one request");
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_day_requests", &[("day", "today")]), Some(441.0));
    assert_eq!(one(&page, "llm_relay_key_requests_total", &[("key_id", &key_id(7))]), Some(3.0));
}

/// Tokens first, then costs, then the account, the record last: a refresh may come in between.
#[tokio::test]
async fn what_the_relay_writes_after_its_totals_is_not_missed() {
    let mut scene = Scene::new(41).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.book(&request(1, 1)).await;
    scene.page().await;
    let mut all = pipe();
    simulated::book(&mut all, Offset::default(), &request(1, 2));
    let names = |it: &Cmd| String::from_utf8_lossy(&it.get_packed_command()).into_owned();
    let late = |it: &Cmd| ["cost:", "account_usage", "records"].iter().any(|part| names(it).contains(part));
    for (step, shown) in [(false, 0.012), (true, 0.024)] {
        let mut part = pipe();
        all.cmd_iter().filter(|it| late(it) == step).for_each(|it| {
            part.add_command(it.clone());
        });
        part.exec_async(&mut scene.admin).await.unwrap();
        let page = scene.page().await;
        assert_eq!(one(&page, "llm_relay_key_requests_total", &[]), Some(2.0));
        assert_eq!(one(&page, "llm_relay_key_cost_usd_total", &[]), Some(shown));
        assert_eq!(one(&page, "llm_relay_cost_usd_total", &[]), Some(0.024), "models are written with the totals");
        let accounts = values(&page, "llm_relay_requests_total", &["provider_id"]);
        assert_eq!(accounts.len(), if step { 2 } else { 1 });
    }
}

#[tokio::test]
async fn a_model_that_left_no_record_is_found_by_the_totals() {
    let mut scene = Scene::new(42).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.book(&request(1, 1)).await;
    scene.page().await;
    let mut all = pipe();
    let usage = Usage { model: "new".to_owned(), counted_model: "new".to_owned(), ..request(1, 1) };
    simulated::book(&mut all, Offset::default(), &usage);
    let mut part = pipe();
    all.cmd_iter().filter(|it| !String::from_utf8_lossy(&it.get_packed_command()).contains("records")).for_each(|it| {
        part.add_command(it.clone());
    });
    part.exec_async(&mut scene.admin).await.unwrap();
    let mut page = scene.page().await;
    for _ in 0..3 {
        page = scene.page().await;
    }
    let costs = values(&page, "llm_relay_cost_usd_total", &["model"]);
    assert_eq!(costs, [("claude-sonnet-4-5", 0.012), ("new", 0.012)].map(|(k, v)| (k.to_owned(), v)).into());
}

/// The first reading takes longer than one attempt may.
#[tokio::test]
async fn the_first_reading_goes_on_where_the_attempt_before_stopped() {
    let (_server, mut scene) = alone(plan).await;
    let hasty = RelayPlan { timeout: Duration::from_millis(600), ..scene.plan.clone() };
    let relay::Usage::Counters(counters) = relay::open(&hasty).unwrap().usage else { panic!("it keeps counters") };
    scene.exporter.metered = CounterFollower::new(counters);
    for key in 0..3000 {
        scene.add_key(&key_id(key), &[]).await;
        scene.book(&request(key, 1)).await;
    }
    let (mut loaded, mut attempts) = (0.0, 0);
    while loaded < 1.0 {
        let page = scene.exporter.refresh(&scene.plan).await;
        let now = one(&page, "llm_relay_history_loaded_ratio", &[]).unwrap();
        assert!(now >= loaded, "{now} after {loaded}");
        for name in ["llm_relay_key_requests_total", "llm_relay_day_requests", "llm_relay_leaderboard_requests"] {
            let shown = page.keys().any(|(metric, _)| metric == name);
            assert_eq!(shown, now == 1.0, "{name} at {now}");
        }
        (loaded, attempts) = (now, attempts + 1);
    }
    assert!(attempts > 1, "all was read in one attempt");
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_day_requests", &[("day", "today")]), Some(3000.0));
}

#[tokio::test]
async fn money_by_account_is_what_the_records_say() {
    let mut scene = Scene::new(43).await;
    scene.add_key(&key_id(1), &[]).await;
    for account in [1, 2] {
        scene.add_account("claude:account:index", "claude:account:", &account_id(account), &[]).await;
    }
    scene.book(&request(1, 1)).await;
    let spent = |page: &Page| values(page, "llm_relay_provider_cost_usd_total", &["provider_id"]);
    let expected = |a: f64, b: f64| BTreeMap::from([(account_id(1), a), (account_id(2), b)]);
    assert_eq!(spent(&scene.page().await), expected(0.0, 0.0), "before the first look");
    scene.book(&Usage { cost: 0.5, ..request(1, 2) }).await;
    scene.book(&Usage { cost: 0.25, ..request(1, 1) }).await;
    scene.book(&Usage { cost: 0.125, account: None, ..request(1, 1) }).await;
    let mut all = expected(0.25, 0.5);
    all.insert("unknown".to_owned(), 0.125);
    assert_eq!(spent(&scene.page().await), all);
}

/// The relay's days begin elsewhere than the configuration says.
#[tokio::test]
async fn a_wrong_offset_is_told_and_no_day_is_shown() {
    // The hour before may be as fresh.
    while !(3..59).contains(&Utc::now().minute()) {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let mut scene = Scene::new(44).await;
    scene.add_key(&key_id(1), &[("dailyCostLimit", "3"), ("totalCostLimit", "5")]).await;
    scene.plan.own.set("timezone_offset", OwnValue::Text("-5".to_owned()));
    scene.restart();
    for booked in 1..4 {
        scene.book(&request(1, 1)).await;
        let page = scene.page().await;
        assert_eq!(one(&page, "llm_relay_key_requests_total", &[]), Some(f64::from(booked)), "counters go on");
        assert_eq!(one(&page, "llm_relay_requests_total", &[]), Some(f64::from(booked)));
        for name in ["llm_relay_day_requests", "llm_relay_day_cost_usd", "llm_relay_day_start_timestamp_seconds"] {
            assert!(page.keys().all(|(metric, _)| metric != name), "{name} of another day");
        }
        let used = values(&page, "llm_relay_quota_used_usd", &["window"]);
        assert_eq!(used.into_keys().collect::<Vec<_>>(), ["total"]);
    }
    let report = check::check(&scene.plan).await.unwrap().to_string();
    assert!(report.contains("PROBLEM") && report.contains("UTC+8, not of UTC-5"), "{report}");
    scene.plan.own.set("timezone_offset", OwnValue::Text("8".to_owned()));
    scene.restart();
    assert_eq!(one(&scene.page().await, "llm_relay_day_requests", &[("day", "today")]), Some(3.0));
}
