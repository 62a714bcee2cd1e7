-- Keys with their limits; two keys may share one secret, which is compared here and goes nowhere. All versions.
-- A key is what its user is: the relay lets nobody in whose user is deleted, disabled or expired (v0.9.2
-- `src/repository/key.ts`), and one without a limit of sessions has its user's (`src/lib/rate-limit/concurrent-session-limit.ts`).
-- Reads the whole table, a few thousand rows at most.
select
  k.id::bigint as id,
  k.name,
  k.user_id::bigint as user_id,
  k.is_enabled is true and u.is_enabled is true and coalesce({u.expires_at:timestamptz} > now(), true) as enabled,
  k.deleted_at is not null or u.id is null or u.deleted_at is not null as deleted,
  case when k.expires_at >= '0001-01-01' and k.expires_at < '10000-01-01' then k.expires_at::timestamptz end as expires_at,
  (first_value(k.id) over (
    partition by k.key order by k.deleted_at is not null, k.is_enabled is not true, k.id
  ))::bigint as counts_as,
  coalesce(nullif(greatest({k.limit_concurrent_sessions:integer}, 0), 0), {u.limit_concurrent_sessions:integer}) as sessions,
  k.limit_5h_usd,
  {k.limit_5h_reset_mode:text}::text as five_hour_mode,
  k.limit_daily_usd,
  k.daily_reset_mode::text as daily_mode,
  k.daily_reset_time,
  k.limit_weekly_usd,
  k.limit_monthly_usd,
  k.limit_total_usd,
  case when reset.at >= '0001-01-01' and reset.at < '10000-01-01' then reset.at end as since,
  case when reset.at >= '0001-01-01' and reset.at < '10000-01-01' then reset.at end as five_hour_since,
  case when reset.at >= '0001-01-01' and reset.at < '10000-01-01' then reset.at end as total_since
from keys k
left join users u on u.id = k.user_id
cross join lateral (select greatest({k.cost_reset_at:timestamptz}, {u.cost_reset_at:timestamptz}) as at) reset
order by k.id
