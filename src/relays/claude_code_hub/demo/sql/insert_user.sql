-- One user of the demo; Claude Code Hub v0.7.1 and later. No index needed.
insert into users (
  id, name, role, is_enabled, created_at, deleted_at, cost_reset_at, rpm_limit, expires_at, provider_group,
  limit_5h_usd, limit_5h_reset_mode, daily_limit_usd, daily_reset_mode, daily_reset_time,
  limit_weekly_usd, limit_monthly_usd, limit_total_usd, limit_concurrent_sessions
) values (
  $1, $2, $3, $4, $5, $6, $7, $8, $9, 'default',
  $10, $11::text::daily_reset_mode, $12, $13::text::daily_reset_mode, $14,
  $15, $16, $17, $18
)
