-- What users have used of their limits on a platform. A limit of 0 lets nothing through. $1: time zone. Reads the whole
-- table, some hundreds of rows.
select
  q.user_id::bigint as user_id,
  'platform:' || q.platform as part,
  q.daily_limit_usd as daily_limit,
  q.daily_usage_usd as daily_used,
  case
    when {calendar_days} then (date_trunc('day', {finite q.daily_window_start} at time zone $1) + interval '1 day') at time zone $1
    else {finite q.daily_window_start} + interval '24 hours'
  end as daily_end,
  q.weekly_limit_usd as weekly_limit,
  q.weekly_usage_usd as weekly_used,
  {finite q.weekly_window_start} + interval '168 hours' as weekly_end,
  q.monthly_limit_usd as monthly_limit,
  q.monthly_usage_usd as monthly_used,
  {finite q.monthly_window_start} + interval '720 hours' as monthly_end,
  now() as now
from user_platform_quotas q
where q.deleted_at is null
order by q.user_id, q.platform
