//! Many scrapers, slow readers, half-open connections and floods against a real exporter; and a soak with a fault in it.
//!
//! The short form runs with all tests. The figures of `docs/reliability.md`:
//! `LOAD_SECONDS=120 SOAK_SECONDS=600 cargo test --release --test it load -- --nocapture --test-threads=1`

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::claude_code_hub::Store;
use crate::process::{Page, Process, ask, fallen, value};
use crate::proxy::{Fault, Proxy};

/// As many as a large Prometheus fleet would be.
const SCRAPERS: usize = 200;
/// Less than the server's limit on connections, together with the scrapers.
const IDLE: usize = 150;

fn seconds(variable: &str, default: u64) -> Duration {
    Duration::from_secs(std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default))
}

fn config(name: &str, url: &str) -> String {
    format!(
        "[relays.{name}]\nkind = \"claude-code-hub\"\ndatabase_url = \"{url}\"\ninterval = \"1s\"\n\
         directory_interval = \"1s\"\nstale_after = \"15s\"\ntimeout = \"5s\"\naudit_interval = \"1m\"\n"
    )
}

/// A relay with people, models and some history.
async fn relay(name: &str) -> Store {
    let mut store = Store::new(name, "v0.9.2").await;
    store.people().await;
    store
        .run(
            "insert into users (name) select 'user ' || n from generate_series(2, 100) n;
             insert into keys (user_id, key, name) select n, 'sk-' || n, 'key ' || n from generate_series(2, 100) n;
             insert into message_request (provider_id, user_id, key, model, status_code, cost_usd, duration_ms, created_at)
             select 1, 2 + n % 99, 'sk-' || 2 + n % 99, 'model ' || n % 30, 200, 0.25, 900, now() - n * interval '20 s'
             from generate_series(1, 3000) n",
        )
        .await;
    store
}

fn memory(page: &Page) -> f64 {
    value(page, "process_resident_memory_bytes", &[]).unwrap() / 1e6
}

fn files(page: &Page) -> f64 {
    value(page, "process_open_fds", &[]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn well_behaved_scrapers_get_every_page_whatever_others_do() {
    let lasts = seconds("LOAD_SECONDS", 3);
    let store = relay("load").await;
    let exporter = Process::start(&config("load", &store.url), &[]);
    exporter.until("it is read", |page| value(page, "llm_relay_history_loaded_ratio", &[]) == Some(1.0));
    let calm = exporter.page();
    let address = exporter.address;
    let (over, answered, dropped) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut times: Vec<Duration> = Vec::new();
    std::thread::scope(|scope| {
        // Each scrapes once a second, on a connection of its own each time.
        let scrapers: Vec<_> = (0..SCRAPERS)
            .map(|number| {
                let (over, answered, dropped) = (&over, &answered, &dropped);
                scope.spawn(move || {
                    let mut times = Vec::new();
                    std::thread::sleep(Duration::from_millis(5 * number as u64));
                    while !over.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        match ask(address, "GET", "/metrics") {
                            Ok((200, body)) if body.len() > 1000 => answered.fetch_add(1, Ordering::Relaxed),
                            _ => dropped.fetch_add(1, Ordering::Relaxed),
                        };
                        times.push(began.elapsed());
                        std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
                    }
                    times
                })
            })
            .collect();
        let began = Instant::now();
        // Half of a request, and then nothing.
        let mut half: Vec<TcpStream> = Vec::new();
        // Ask, and read some bytes a second or nothing at all.
        let mut slow: Vec<TcpStream> = Vec::new();
        while began.elapsed() < lasts {
            half.truncate(IDLE / 2);
            slow.truncate(IDLE / 2);
            while half.len() < IDLE / 2 {
                let Ok(mut stream) = TcpStream::connect(address) else { break };
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").ok();
                half.push(stream);
            }
            while slow.len() < IDLE / 2 {
                let Ok(mut stream) = TcpStream::connect(address) else { break };
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n").ok();
                slow.push(stream);
            }
            // A flood of connections that come and go.
            for _ in 0..50 {
                drop(TcpStream::connect(address));
            }
            std::thread::sleep(Duration::from_millis(250));
            for stream in half.iter().chain(&slow) {
                stream.set_nonblocking(true).unwrap();
            }
            for stream in slow.iter_mut().step_by(2) {
                stream.read_exact(&mut [0; 16]).ok();
            }
            // Those that the server has closed come anew.
            half.retain_mut(|stream| {
                stream.read(&mut [0]).is_err_and(|it| it.kind() == std::io::ErrorKind::WouldBlock)
            });
        }
        over.store(true, Ordering::Relaxed);
        times.extend(scrapers.into_iter().flat_map(|scraper| scraper.join().unwrap()));
    });
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    std::thread::sleep(Duration::from_secs(2));
    let reads = |page: &Page| value(page, "llm_relay_source_up", &[("source", "ledger")]) == Some(1.0);
    exporter.until("reading went on", reads);
    let page = exporter.page();
    println!("| Load for {} s | |\n|---|---|", lasts.as_secs());
    for (what, figure) in [
        ("scrapers, each once a second", format!("{SCRAPERS}")),
        ("half requests, and readers that hardly read", format!("{IDLE}")),
        ("connections that come and go", "200 a second".to_owned()),
        ("pages", format!("{}", answered.load(Ordering::Relaxed))),
        ("dropped or cut", format!("{}", dropped.load(Ordering::Relaxed))),
        ("median, p99, longest", format!("{:.0} ms, {:.0} ms, {:.0} ms", at(0.5), at(0.99), at(1.0))),
        ("memory before and after", format!("{:.1} MB, {:.1} MB", memory(&calm), memory(&page))),
        ("open files before and after", format!("{}, {}", files(&calm), files(&page))),
    ] {
        println!("| {what} | {figure} |");
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    assert!(answered.load(Ordering::Relaxed) >= SCRAPERS, "everybody was served");
    assert!(memory(&page) < memory(&calm) + 60.0, "memory follows neither clients nor time");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_files_stay_flat_over_faults_and_time() {
    let lasts = seconds("SOAK_SECONDS", 12);
    let mut store = relay("soak").await;
    let mut url: url::Url = store.url.parse().unwrap();
    let proxy = Proxy::start(url.port().unwrap()).await;
    url.set_port(Some(proxy.port)).unwrap();
    let exporter = Process::start(&config("soak", url.as_str()), &[]);
    exporter.until("it is read", |page| value(page, "llm_relay_history_loaded_ratio", &[]) == Some(1.0));
    let faults = [
        Fault::Refuse,
        Fault::None,
        Fault::Silence,
        Fault::None,
        Fault::Cut(100),
        Fault::None,
        Fault::Garbage,
        Fault::None,
        Fault::Stall(100),
        Fault::None,
        Fault::Reset,
        Fault::None,
    ];
    let began = Instant::now();
    let mut pages: Vec<Page> = vec![exporter.page()];
    let (mut most, mut rounds) = (0.0_f64, 0);
    let third = |pages: &[Page]| pages.iter().map(memory).fold(0.0, f64::max);
    while began.elapsed() < lasts {
        for fault in faults {
            proxy.set(fault);
            store.requests(20, "0 s").await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            let page = exporter.page();
            assert_eq!(fallen(&pages[pages.len() - 1], &page, "soak"), [""; 0]);
            most = most.max(files(&page));
            pages.push(page);
        }
        rounds += 1;
    }
    proxy.set(Fault::None);
    exporter.until("all is counted in the end", |page| {
        let counted: f64 = crate::process::total(page, "llm_relay_requests_total", "soak");
        counted == f64::from(3000 + rounds * 20 * faults.len() as u32)
    });
    let length = pages.len();
    let (early, late) = (third(&pages[..length / 3]), third(&pages[2 * length / 3..]));
    println!("| Soak for {} s | |\n|---|---|", lasts.as_secs());
    for (what, figure) in [
        ("faults", format!("{}", rounds * 6)),
        ("requests counted, none twice", format!("{}", 3000 + rounds * 20 * faults.len() as u32)),
        ("most memory in the first and in the last third", format!("{early:.1} MB, {late:.1} MB")),
        ("open files at first and at most", format!("{}, {most}", files(&pages[0]))),
    ] {
        println!("| {what} | {figure} |");
    }
    assert!(late < early + 15.0, "memory grew from {early} to {late} MB");
    assert!(most < files(&pages[0]) + 8.0, "files grew from {} to {most}", files(&pages[0]));
}
