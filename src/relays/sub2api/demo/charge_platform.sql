-- What the user has used on the group's platform. $1: user; $2: dollars charged; $3: group.
update user_platform_quotas set daily_usage_usd = daily_usage_usd + $2, monthly_usage_usd = monthly_usage_usd + $2
where user_id = $1 and platform = (select platform from groups where id = $3)
