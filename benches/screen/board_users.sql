-- Daily board of users (Claude Code Hub v0.9.2, src/repository/leaderboard.ts).
select u.id::text, u.name, count(*) as requests, coalesce(sum(l.cost_usd), 0) as cost_usd,
  coalesce(sum(l.input_tokens + l.output_tokens + coalesce(l.cache_creation_input_tokens, 0)
    + coalesce(l.cache_read_input_tokens, 0)), 0) as tokens
from usage_ledger l
join users u on u.id = l.user_id and u.deleted_at is null
where l.blocked_by is null and l.is_replay = false
  and (l.endpoint is null
    or lower(regexp_replace(l.endpoint, '/+$', '')) not in ('/v1/messages/count_tokens', '/v1/responses/compact'))
  and l.created_at >= date_trunc('day', now() at time zone '{zone}') at time zone '{zone}'
  and l.created_at < (date_trunc('day', now() at time zone '{zone}') + interval '1 day') at time zone '{zone}'
group by u.id, u.name
order by cost_usd desc
