-- Daily board of providers (Claude Code Hub v0.9.2, src/repository/leaderboard.ts).
select p.id::text, p.name, count(*) as requests, coalesce(sum(l.cost_usd), 0) as cost_usd,
  coalesce(sum(l.input_tokens + l.output_tokens + coalesce(l.cache_creation_input_tokens, 0)
    + coalesce(l.cache_read_input_tokens, 0)), 0) as tokens,
  coalesce(count(*) filter (where l.success_rate_outcome = 'success')::double precision
    / nullif(count(*) filter (where l.success_rate_outcome in ('success', 'failure')), 0), 0) as success_rate,
  coalesce(avg(l.ttfb_ms), 0) as ttft_ms,
  coalesce(avg(case
    when l.output_tokens > 0 and l.duration_ms - l.first_byte_ms >= 100
    then l.output_tokens * 1000.0 / (l.duration_ms - l.first_byte_ms)
  end), 0) as tokens_per_second
from usage_ledger l
join providers p on p.id = l.final_provider_id and p.deleted_at is null
where l.blocked_by is null and l.is_replay = false
  and (l.endpoint is null
    or lower(regexp_replace(l.endpoint, '/+$', '')) not in ('/v1/messages/count_tokens', '/v1/responses/compact'))
  and l.created_at >= date_trunc('day', now() at time zone '{zone}') at time zone '{zone}'
  and l.created_at < (date_trunc('day', now() at time zone '{zone}') + interval '1 day') at time zone '{zone}'
group by p.id, p.name
order by cost_usd desc
