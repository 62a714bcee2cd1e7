-- What the user has used of the subscription to the group. $1: user; $2: dollars charged; $3: group.
update user_subscriptions set
  daily_usage_usd = daily_usage_usd + $2, weekly_usage_usd = weekly_usage_usd + $2, monthly_usage_usd = monthly_usage_usd + $2
where user_id = $1 and group_id = $3
