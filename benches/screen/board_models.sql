-- Daily board of models (Claude Code Hub v0.9.2, src/repository/leaderboard.ts).
select coalesce(l.original_model, l.model) as model, count(*) as requests, coalesce(sum(l.cost_usd), 0) as cost_usd,
  coalesce(sum(l.input_tokens + l.output_tokens + coalesce(l.cache_creation_input_tokens, 0)
    + coalesce(l.cache_read_input_tokens, 0)), 0) as tokens,
  coalesce(count(*) filter (where l.success_rate_outcome = 'success')::double precision
    / nullif(count(*) filter (where l.success_rate_outcome in ('success', 'failure')), 0), 0) as success_rate
from usage_ledger l
where l.blocked_by is null and l.is_replay = false
  and (l.endpoint is null
    or lower(regexp_replace(l.endpoint, '/+$', '')) not in ('/v1/messages/count_tokens', '/v1/responses/compact'))
  and l.created_at >= date_trunc('day', now() at time zone '{zone}') at time zone '{zone}'
  and l.created_at < (date_trunc('day', now() at time zone '{zone}') + interval '1 day') at time zone '{zone}'
  and coalesce(l.original_model, l.model) <> ''
group by 1
order by cost_usd desc, requests desc
