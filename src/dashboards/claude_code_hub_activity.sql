-- The newest 20 requests of Claude Code Hub v0.9.0 and later, by the rules of its activity stream (v0.9.2,
-- src/repository/activity-stream.ts): deleted requests and replays are left out, warm-ups and refused ones are not;
-- the latency of a running request is its age, its status 0, its provider not yet known.
-- Served by idx_message_request_created_at_id_active.
select
  m.created_at as at,
  coalesce(u.name, 'Unknown') as "user",
  coalesce(m.original_model, m.model) as model,
  case when m.status_code is not null or m.duration_ms is not null then p.name end as provider,
  coalesce(m.duration_ms, (extract(epoch from now() - m.created_at) * 1000)::bigint) as latency,
  coalesce(m.status_code, case when m.duration_ms is not null then 200 else 0 end) as status,
  m.cost_usd::double precision as cost
from (
  select created_at, id, user_id, provider_id, model, original_model, duration_ms, status_code, cost_usd
  from message_request
  where deleted_at is null and not is_replay
  order by created_at desc nulls last, id desc nulls last
  limit 20
) m
left join users u on u.id = m.user_id
left join providers p on p.id = m.provider_id
order by m.created_at desc nulls last, m.id desc nulls last
