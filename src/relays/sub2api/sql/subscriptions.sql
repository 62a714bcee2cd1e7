-- What users have used of the limits of the groups that they have subscribed to. A window that has ended keeps its number
-- until the next request. One of a day at most has a single daily quota; others begin anew at midnight, before 0.1.172 after
-- 24 hours. $1: time zone. Reads the whole table, some hundreds of rows.
select
  s.user_id::bigint as user_id,
  'group:' || g.name as part,
  g.daily_limit_usd as daily_limit,
  s.daily_usage_usd as daily_used,
  least(case
    when s.expires_at <= s.starts_at + interval '1 day' then s.expires_at
    when {calendar_days} then (date_trunc('day', s.daily_window_start at time zone $1) + interval '1 day') at time zone $1
    else s.daily_window_start + interval '24 hours'
  end, s.expires_at) as daily_end,
  g.weekly_limit_usd as weekly_limit,
  s.weekly_usage_usd as weekly_used,
  least(s.weekly_window_start + interval '168 hours', s.expires_at) as weekly_end,
  g.monthly_limit_usd as monthly_limit,
  s.monthly_usage_usd as monthly_used,
  least(s.monthly_window_start + interval '720 hours', s.expires_at) as monthly_end,
  now() as now
from user_subscriptions s
join groups g on g.id = s.group_id and g.deleted_at is null
where s.status = 'active' and s.expires_at > now() and {s.deleted_at:timestamptz} is null
order by s.id
