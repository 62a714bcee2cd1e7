-- Statistics chart of today by user and hour (Claude Code Hub v0.9.2, src/repository/statistics.ts).
select u.id::text, date_trunc('hour', l.created_at at time zone '{zone}')::text as hour, count(l.id) as requests,
  coalesce(sum(l.cost_usd), 0) as cost_usd
from users u
left join usage_ledger l on l.user_id = u.id
  and l.blocked_by is null and l.is_replay = false
  and (l.endpoint is null
    or lower(regexp_replace(l.endpoint, '/+$', '')) not in ('/v1/messages/count_tokens', '/v1/responses/compact'))
  and l.created_at >= date_trunc('day', now() at time zone '{zone}') at time zone '{zone}'
  and l.created_at < (date_trunc('day', now() at time zone '{zone}') + interval '1 day') at time zone '{zone}'
where u.deleted_at is null
group by u.id, 2
