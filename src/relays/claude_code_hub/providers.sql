-- Providers with their limits, without addresses and secrets. Reads the whole table, some dozens of rows. All versions.
select
  p.id::bigint as id,
  p.name,
  p.provider_type as kind,
  coalesce(nullif(p.group_tag, ''), 'default') as provider_group,
  p.is_enabled as enabled,
  p.deleted_at is not null as deleted,
  p.limit_concurrent_sessions as slots,
  coalesce({p.circuit_breaker_failure_threshold:integer} <= 0, false) as without_breaker,
  p.limit_5h_usd,
  {p.limit_5h_reset_mode:text}::text as five_hour_mode,
  p.limit_daily_usd,
  p.daily_reset_mode::text as daily_mode,
  p.daily_reset_time,
  p.limit_weekly_usd,
  p.limit_monthly_usd,
  {p.limit_total_usd:numeric} as limit_total_usd,
  null::timestamptz as since,
  null::timestamptz as five_hour_since,
  case when {p.total_cost_reset_at:timestamptz} >= '0001-01-01' and {p.total_cost_reset_at:timestamptz} < '10000-01-01' then {p.total_cost_reset_at:timestamptz} end as total_since
from providers p
order by p.id
