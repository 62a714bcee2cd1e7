-- One provider of the demo; Claude Code Hub v0.7.1 and later. No index needed.
insert into providers (
  id, name, url, key, provider_type, group_tag, is_enabled, cost_multiplier, created_at, deleted_at, total_cost_reset_at,
  limit_5h_usd, limit_5h_reset_mode, limit_daily_usd, daily_reset_mode, daily_reset_time,
  limit_weekly_usd, limit_monthly_usd, limit_total_usd, limit_concurrent_sessions
) values (
  $1, $2, 'https://upstream.example', 'sk-upstream', $3, $4, $5, $6, $7, $8, $9,
  $10, $11::text::daily_reset_mode, $12, $13::text::daily_reset_mode, $14,
  $15, $16, $17, $18
)
