//! What `check` says, a whole exporter at work, and releases without index sets.

use llm_relay_exporter::demo::Pace;

use super::*;

#[tokio::test]
async fn check_says_what_is_there_and_what_the_user_may_not() {
    let mut scene = Scene::new(14).await;
    scene.run("SET system:migrated:version 1.1.314").await;
    scene.add_key(&key_id(1), &[("dailyCostLimit", "3")]).await;
    scene.add_account("droid:account:index", "droid:account:", "d1", &[]).await;
    let report = check::check(&scene.plan).await.unwrap().to_string();
    for part in
        ["claude-relay-service 1.1.314", "UTC+8", "1, of which 0 deleted; 1 limits", "1 droid", "a later refresh read"]
    {
        assert!(report.contains(part), "{part} is missing in\n{report}");
    }
    assert!(!report.contains("may do more") && !report.contains("PROBLEM") && !report.contains("planted"), "{report}");
    let report = check::check(&plan(&server().await.url().replace("/0", "/15"))).await.unwrap().to_string();
    assert!(report.contains("may do more") && report.contains("no key found"), "{report}");

    scene.run("ACL SETUSER narrow on >planted-secret ~* -@all +time +get +select").await;
    let narrow = format!("redis://narrow:planted-secret@127.0.0.1:{}/14", server().await.port());
    let error = relay::open(&plan(&narrow)).unwrap().directory.read().await.unwrap_err();
    assert_eq!(error.reason, Reason::Permission);
    assert!(error.text.contains("smembers") && !error.text.contains("planted"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_serves_the_simulated_relay() {
    let mut scene = Scene::new(21).await;
    let options = simulated::Options {
        days: 4,
        requests_per_day: 800,
        pace: Pace::Steady(50.0),
        seed: 5,
        offset: Offset::default(),
    };
    simulated::fill(&mut scene.admin, &options).await.unwrap();
    let exporter =
        Serving::start(Plan { relays: BTreeMap::from([("crs".to_owned(), scene.plan.clone())]), store: None });
    let requests = |page: &Page| values(page, "llm_relay_key_requests_total", &["key_id"]).values().sum::<f64>();
    let until = async |what: &str, ready: &dyn Fn(&Page) -> bool| {
        for _ in 0..100 {
            let page = exporter.page();
            if ready(&page) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{what} did not happen")
    };
    let up = |page: &Page, source: &str| one(page, "llm_relay_source_up", &[("source", source)]) == Some(1.0);
    let all_up = |page: &Page| ["ledger", "live", "directory"].iter().all(|source| up(page, source));
    let first = until("the first refresh", &|page| requests(page) > 0.0 && all_up(page)).await;
    assert_eq!(values(&first, "llm_relay_account_utilization_ratio", &["provider_id", "window"]).len(), 4);
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..40 {
        simulated::tick(&mut scene.admin, options.offset, &mut random).await.unwrap();
    }
    let raw = Raw::read(&mut scene.admin).await;
    let total = raw.count("usage:global:total", "requests");
    let before = requests(&first);
    assert!(total > before);
    // Each request is booked or fails.
    until("the last refresh", &|page| {
        let failures: f64 = values(page, "llm_relay_failures_total", &["provider_id", "class"]).values().sum();
        requests(page) == total && failures + total - before == 40.0
    })
    .await;
    exporter.stop().await;
}

#[tokio::test]
async fn a_release_without_indexes_is_searched_where_that_is_allowed() {
    let server = PrivateRedis::start().await.unwrap();
    let mut admin = redis_connection(&server.url()).await.unwrap();
    documented_user().exec_async(&mut admin).await.unwrap();
    let mut plan = plan(&format!("redis://llm_relay_exporter:planted-secret@127.0.0.1:{}/0", server.port()));
    let mut scene = Scene { admin, exporter: Exporter::open(&plan), plan: plan.clone() };
    // As v1.1.249 has it, among more names than one refresh looks at.
    let today = Offset::default().date(Utc::now()).format("%Y-%m-%d").to_string();
    for n in 0..30 {
        let id = key_id(n);
        scene
            .write(|pipe| {
                pipe.hset_multiple(
                    format!("apikey:{id}"),
                    &[("name", "old"), ("isActive", "true"), ("dailyCostLimit", "5")],
                );
                pipe.hset_multiple(format!("usage:{id}"), &[("totalRequests", "7"), ("totalTokens", "70")]);
                pipe.set(format!("usage:cost:total:{id}"), "0.5").set(format!("usage:cost:daily:{id}:{today}"), "0.25");
                pipe.hset(format!("usage:daily:{id}:{today}"), "requests", 3);
            })
            .await;
    }
    scene.run("HSET claude:account:a1 name a1 isActive true status active").await;
    scene.run("SET bedrock_account:b1 {\"name\":\"b1\",\"isActive\":true}").await;
    scene.run("SADD apikey:tag:my-team planted-tag").await;
    scene.run("HSET apikey:hash_map planted-digest planted-id").await;
    scene
        .write(|pipe| {
            (0..25_000).for_each(|n| {
                pipe.set(format!("session:planted-{n}"), 1);
            });
        })
        .await;

    assert_eq!(values(&scene.page().await, "llm_relay_key_requests_total", &["key_id"]).len(), 0, "not allowed");
    plan.own.set("find_keys", OwnValue::Text("scan".to_owned()));
    scene.plan = plan;
    scene.restart();
    let error = scene.exporter.directory.read().await.unwrap_err();
    assert!(error.reason == Reason::Permission && error.text.contains("scan"), "{error}");
    documented(1).exec_async(&mut scene.admin).await.unwrap();
    cmd("CONFIG").arg("RESETSTAT").exec_async(&mut scene.admin).await.unwrap();
    let first = scene.page().await;
    let stats: String = cmd("INFO").arg("commandstats").query_async(&mut scene.admin).await.unwrap();
    assert!(stats.contains("cmdstat_scan:calls=20,"), "{stats}");
    let keys = |page: &Page| values(page, "llm_relay_key_requests_total", &["key_id"]);
    assert!(keys(&first).len() < 30, "a refresh has its measure");
    for _ in 0..6 {
        scene.page().await;
    }
    let page = scene.page().await;
    assert_eq!(keys(&page), (0..30).map(|n| (key_id(n), 7.0)).collect());
    assert_eq!(one(&page, "llm_relay_day_requests", &[("day", "today")]), Some(90.0));
    assert_eq!(one(&page, "llm_relay_day_cost_usd", &[("day", "today")]), Some(7.5));
    assert_eq!(one(&page, "llm_relay_day_list_cost_usd", &[("day", "today")]), None, "it keeps none");
    assert_eq!(values(&page, "llm_relay_quota_used_usd", &["id", "window"]).len(), 30);
    let types = values(&page, "llm_relay_provider_info", &["type", "provider"]);
    assert_eq!(types.into_keys().collect::<Vec<_>>(), ["bedrock b1", "claude a1"]);

    // Traffic is seen at once; a deleted key is gone after the next pass.
    scene.run(&format!("HINCRBY usage:{} totalRequests 1", key_id(2))).await;
    scene.run(&format!("DEL apikey:{0} usage:{0}", key_id(1))).await;
    assert_eq!(keys(&scene.page().await)[&key_id(2)], 8.0);
    for _ in 0..14 {
        scene.page().await;
    }
    assert_eq!(values(&scene.page().await, "llm_relay_key_info", &["key_id"]).len(), 29);
}
