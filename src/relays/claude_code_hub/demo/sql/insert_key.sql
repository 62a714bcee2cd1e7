-- One API key of the demo; Claude Code Hub v0.7.1 and later. No index needed.
insert into keys (
  id, user_id, key, name, is_enabled, created_at, deleted_at, expires_at,
  limit_5h_usd, limit_5h_reset_mode, limit_daily_usd, daily_reset_mode, daily_reset_time,
  limit_weekly_usd, limit_monthly_usd, limit_total_usd, limit_concurrent_sessions
) values (
  $1, $2, $3, $4, $5, $6, $7, $8,
  $9, $10::text::daily_reset_mode, $11, $12::text::daily_reset_mode, $13,
  $14, $15, $16, $17
)
