-- What the user has used of the subscription to the group; a window that has ended begins anew. $1: user; $2: dollars
-- charged; $3: group.
update user_subscriptions set
  daily_usage_usd = case when daily_window_start >= date_trunc('day', now()) then daily_usage_usd else 0 end + $2,
  daily_window_start = greatest(daily_window_start, date_trunc('day', now())),
  weekly_usage_usd = case when weekly_window_start > now() - interval '7 days' then weekly_usage_usd else 0 end + $2,
  weekly_window_start = weekly_window_start
    + case when weekly_window_start > now() - interval '7 days' then interval '0' else interval '7 days' end,
  monthly_usage_usd = monthly_usage_usd + $2
where user_id = $1 and group_id = $3
