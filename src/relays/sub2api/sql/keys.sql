-- Keys by name and id, with their quotas. Windows open at the first charged request after the last one has ended. Reads the
-- whole table.
select
  k.id::bigint as id,
  k.name,
  k.user_id::bigint as user_id,
  k.status = 'active' and coalesce(k.expires_at > now(), true) as enabled,
  k.deleted_at is not null as deleted,
  {finite k.expires_at} as expires_at,
  k.quota as total_limit,
  k.quota_used as total_used,
  {k.rate_limit_5h:numeric} as five_hour_limit,
  {k.usage_5h:numeric} as five_hour_used,
  {finite k.window_5h_start:timestamptz} + interval '5 hours' as five_hour_end,
  {k.rate_limit_1d:numeric} as daily_limit,
  {k.usage_1d:numeric} as daily_used,
  {finite k.window_1d_start:timestamptz} + interval '24 hours' as daily_end,
  {k.rate_limit_7d:numeric} as weekly_limit,
  {k.usage_7d:numeric} as weekly_used,
  {finite k.window_7d_start:timestamptz} + interval '168 hours' as weekly_end,
  now() as now
from api_keys k
order by k.id
