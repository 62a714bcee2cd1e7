-- What a user, a key or a provider has spent in the last two hours; idx_usage_ledger_created_at_desc_id serves it.
-- Claude Code Hub v0.9.0 and later.
select coalesce(sum(cost_usd), 0)::float8
from usage_ledger
where blocked_by is null and is_replay = false and created_at >= now() - interval '2 hours'
  and ($1::integer is null or user_id = $1)
  and ($2::text is null or key = $2)
  and ($3::integer is null or final_provider_id = $3)
