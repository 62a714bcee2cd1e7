-- What users have used of the limits of the groups that they have subscribed to. A window that has ended keeps its number
-- until the next request, and none outlives its subscription. One of a day at most has a single daily quota; others begin
-- anew at midnight, before 0.1.172 after 24 hours. $1: time zone. Reads the whole table, some hundreds of rows.
with subscriptions as (
  select
    s.*,
    {finite s.expires_at} as ends_at,
    {finite s.daily_window_start} as day_start,
    {finite s.weekly_window_start} as week_start,
    {finite s.monthly_window_start} as month_start
  from (
    select
      id, user_id, group_id, status, starts_at, expires_at, daily_window_start, weekly_window_start, monthly_window_start,
      daily_usage_usd, weekly_usage_usd, monthly_usage_usd, {s.deleted_at:timestamptz} as deleted_at
    from user_subscriptions s
  ) s
  where s.status = 'active' and s.expires_at > now() and s.deleted_at is null
)
select
  s.user_id::bigint as user_id,
  'group:' || g.name as part,
  g.daily_limit_usd as daily_limit,
  s.daily_usage_usd as daily_used,
  case
    when s.day_start is null then null
    when s.expires_at <= s.starts_at + interval '1 day' then s.ends_at
    when {calendar_days}
      then least((date_trunc('day', s.day_start at time zone $1) + interval '1 day') at time zone $1, s.ends_at)
    else least(s.day_start + interval '24 hours', s.ends_at)
  end as daily_end,
  g.weekly_limit_usd as weekly_limit,
  s.weekly_usage_usd as weekly_used,
  case when s.week_start is not null then least(s.week_start + interval '168 hours', s.ends_at) end as weekly_end,
  g.monthly_limit_usd as monthly_limit,
  s.monthly_usage_usd as monthly_used,
  case when s.month_start is not null then least(s.month_start + interval '720 hours', s.ends_at) end as monthly_end,
  now() as now
from subscriptions s
join groups g on g.id = s.group_id and g.deleted_at is null
order by s.id
