-- What the user has used on the group's platform; a day that has ended begins anew. $1: user; $2: dollars charged; $3: group.
update user_platform_quotas set
  daily_usage_usd = case when daily_window_start >= date_trunc('day', now()) then daily_usage_usd else 0 end + $2,
  daily_window_start = greatest(daily_window_start, date_trunc('day', now())),
  monthly_usage_usd = monthly_usage_usd + $2
where user_id = $1 and platform = (select platform from groups where id = $3)
