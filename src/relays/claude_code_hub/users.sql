-- Users with their limits. Reads the whole table, a few hundred rows. All versions.
select
  u.id::bigint as id,
  u.name,
  coalesce(u.role, 'user') as role,
  u.is_enabled as enabled,
  u.deleted_at is not null as deleted,
  case when {u.expires_at:timestamptz} >= '0001-01-01' and {u.expires_at:timestamptz} < '10000-01-01' then {u.expires_at:timestamptz} end as expires_at,
  {u.limit_concurrent_sessions:integer} as sessions,
  {u.rpm_limit:integer} as requests_per_minute,
  u.limit_5h_usd,
  {u.limit_5h_reset_mode:text}::text as five_hour_mode,
  u.daily_limit_usd as limit_daily_usd,
  u.daily_reset_mode::text as daily_mode,
  u.daily_reset_time,
  u.limit_weekly_usd,
  u.limit_monthly_usd,
  u.limit_total_usd,
  case when {u.cost_reset_at:timestamptz} >= '0001-01-01' and {u.cost_reset_at:timestamptz} < '10000-01-01' then {u.cost_reset_at:timestamptz} end as since,
  case when greatest({u.cost_reset_at:timestamptz}, {u.limit_5h_cost_reset_at:timestamptz}) >= '0001-01-01' and greatest({u.cost_reset_at:timestamptz}, {u.limit_5h_cost_reset_at:timestamptz}) < '10000-01-01'
    then greatest({u.cost_reset_at:timestamptz}, {u.limit_5h_cost_reset_at:timestamptz}) end as five_hour_since,
  case when {u.cost_reset_at:timestamptz} >= '0001-01-01' and {u.cost_reset_at:timestamptz} < '10000-01-01' then {u.cost_reset_at:timestamptz} end as total_since
from users u
order by u.id
