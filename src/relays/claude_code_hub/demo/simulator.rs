//! Live traffic: requests that begin, change and end in the relay's store as the relay itself writes them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rand::Rng;
use redis::aio::ConnectionManager;
use rust_decimal::Decimal;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::live::{Circuit, Live};
use super::rows::{chain, copy, losers, usd};
use crate::demo::clients::{Clients, SimulatorOptions};
use crate::demo::people::{Family, PROVIDERS, Provider};
use crate::demo::traffic::{Request, Session, Trouble};
use crate::model::Usd;

/// The relay writes cost and end separately, each with the next flush of its buffer.
const FLUSH: Duration = Duration::from_millis(250);

/// Writes traffic until `stop`. Requests under way then stay open, as after a crash of the relay.
///
/// A store that fails for a while is waited for: requests of that time are lost, or stay open.
///
/// # Errors
/// When the database cannot be read at the beginning.
pub(crate) async fn run(
    pool: &PgPool,
    redis: Option<ConnectionManager>,
    options: &SimulatorOptions,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut clients = Clients::new(options);
    let live = Live::new(redis);
    live.prepare(pool, &clients.sessions).await?;
    let relay = Arc::new(Relay { pool: pool.clone(), live, trouble: Mutex::default(), down: AtomicBool::new(false) });
    let tasks = TaskTracker::new();
    tasks.spawn(stop.clone().run_until_cancelled_owned(cause_trouble(relay.clone(), options.clone())));
    let mut due = Instant::now();
    loop {
        due += clients.pause(options);
        if stop.run_until_cancelled(sleep_until(due)).await.is_none() {
            break;
        }
        let (session, request) = clients.next(relay.trouble());
        let relay = relay.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move { relay.serve(session, request).await }));
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// The part of the relay that writes.
struct Relay {
    pool: PgPool,
    live: Live,
    trouble: Mutex<Option<Trouble>>,
    /// The last write failed: further failures are not worth a line in the log.
    down: AtomicBool,
}

impl Relay {
    fn trouble(&self) -> Option<Trouble> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_trouble(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    async fn serve(&self, session: Session, request: Request) {
        let served = match request.first {
            Some(first) => self.forward(&session, &request, first).await.map_err(anyhow::Error::from),
            None => self.answer_here(request).await,
        };
        let was_down = self.down.swap(served.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (served, was_down) {
            tracing::warn!(%error, "a request is not written");
        }
    }

    /// Replays, warm-ups and blocked requests: one finished row.
    async fn answer_here(&self, mut request: Request) -> anyhow::Result<()> {
        sleep(Duration::from_millis(request.duration_ms.unsigned_abs().into())).await;
        request.at = Utc::now() - TimeDelta::milliseconds(request.duration_ms.into());
        copy(&mut *self.pool.acquire().await?, &[request]).await
    }

    async fn forward(&self, session: &Session, request: &Request, first: &'static Provider) -> sqlx::Result<()> {
        let (races, drain) = {
            let mut rng = rand::rng();
            // A loser is drained for up to two minutes; most end soon after the winner.
            let drain = (-20.0 * (1.0 - rng.random::<f64>()).ln()).clamp(0.5, 118.0);
            (rng.random_bool(0.05), Duration::from_secs_f64(drain))
        };
        let begun = Instant::now();
        let id = self.begin(request, first).await?;
        self.live.began(session, first).await;
        if request.never_ends() {
            return Ok(());
        }
        let after = |ms: i32| begun + Duration::from_millis(ms.unsigned_abs().into());
        sleep_until(after(request.ttft_ms.unwrap_or(request.duration_ms))).await;
        self.live.answered(session).await;
        sleep_until(after(request.duration_ms)).await;
        if races {
            // The cost overtaken by the end, in the relay's queue.
            self.end(id, request).await?;
            sleep(FLUSH).await;
            self.book(id, session, request).await?;
        } else {
            self.book(id, session, request).await?;
            sleep(FLUSH).await;
            self.end(id, request).await?;
        }
        self.live.ended(session, request).await;
        if let Some((_, cost)) = request.loser {
            sleep(drain).await;
            sqlx::query(include_str!("sql/add_late_cost.sql"))
                .bind(id)
                .bind(usd(cost))
                .bind(losers(request))
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    async fn begin(&self, request: &Request, first: &Provider) -> sqlx::Result<i32> {
        sqlx::query_scalar(include_str!("sql/insert_request.sql"))
            .bind(first.id)
            .bind(request.user.id)
            .bind(request.key.secret())
            .bind(request.model)
            .bind(request.original_model)
            .bind(&request.session)
            .bind(request.sequence)
            .bind(Decimal::new(request.multiplier.into(), 4))
            .bind(&request.endpoint)
            .bind(request.family.api_type())
            .fetch_one(&self.pool)
            .await
    }

    async fn book(&self, id: i32, session: &Session, request: &Request) -> sqlx::Result<()> {
        if request.cost > Usd::ZERO {
            sqlx::query(include_str!("sql/patch_cost.sql"))
                .bind(id)
                .bind(usd(request.cost))
                .execute(&self.pool)
                .await?;
        }
        self.live.booked(session, request).await;
        Ok(())
    }

    async fn end(&self, id: i32, request: &Request) -> sqlx::Result<()> {
        let tokens = request.tokens;
        let count = |of: fn(crate::demo::traffic::Tokens) -> u64| tokens.map(|t| of(t).cast_signed());
        sqlx::query(include_str!("sql/patch_end.sql"))
            .bind(id)
            .bind(request.status)
            .bind(request.error)
            .bind(request.provider.map_or(0, |p| p.id))
            .bind(chain(request))
            .bind(request.answered_model)
            .bind(request.duration_ms)
            .bind(request.ttft_ms)
            .bind(request.first_byte_ms)
            .bind(count(|t| t.input))
            .bind(count(|t| t.output))
            .bind(count(|t| t.cache_write_5m + t.cache_write_1h))
            .bind(count(|t| t.cache_read))
            .bind(count(|t| t.cache_write_5m))
            .bind(count(|t| t.cache_write_1h))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Now and then one provider fails, its circuit opens, is tried and closes again.
async fn cause_trouble(relay: Arc<Relay>, options: SimulatorOptions) {
    let part = |share: f64| options.trouble_period.mul_f64(share);
    // Families with a second provider to go to.
    let candidates: Vec<&Provider> =
        PROVIDERS.iter().filter(|p| p.enabled && !p.deleted && p.family != Family::Gemini).collect();
    loop {
        sleep(part(0.5)).await;
        let id = candidates[rand::rng().random_range(0..candidates.len())].id;
        relay.set_trouble(Some(Trouble::Failing(id)));
        sleep(part(0.1)).await;
        relay.set_trouble(Some(Trouble::Open(id)));
        let until = Utc::now() + TimeDelta::from_std(part(0.3)).unwrap_or_default();
        relay.live.circuit(id, Circuit::Open { until }).await;
        sleep(part(0.3)).await;
        relay.set_trouble(None);
        relay.live.circuit(id, Circuit::HalfOpen).await;
        sleep(part(0.1)).await;
        relay.live.circuit(id, Circuit::Closed).await;
    }
}
