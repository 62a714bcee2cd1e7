-- Overview, today (Claude Code Hub v0.9.2, src/repository/overview.ts).
select count(*) as requests, coalesce(sum(l.cost_usd), 0) as cost_usd, coalesce(avg(l.duration_ms), 0) as duration_ms,
  count(*) filter (where not l.is_success) as errors
from usage_ledger l
where l.blocked_by is null and l.is_replay = false
  and (l.endpoint is null
    or lower(regexp_replace(l.endpoint, '/+$', '')) not in ('/v1/messages/count_tokens', '/v1/responses/compact'))
  and l.created_at >= date_trunc('day', now() at time zone '{zone}') at time zone '{zone}'
  and l.created_at < (date_trunc('day', now() at time zone '{zone}') + interval '1 day') at time zone '{zone}'
