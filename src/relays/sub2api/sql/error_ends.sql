-- Both ends of the error log, and the time of the newest row of both logs. Primary keys. The relay writes an error some
-- seconds after it happened, so that a row of usage tells of a minute before.
select
  coalesce((select max(e.id) from ops_error_logs e), 0)::bigint as top,
  f.id::bigint as first,
  case when f.created_at >= '2000-01-01' and f.created_at < '10000-01-01' then (extract(epoch from f.created_at) * 1000000)::bigint end as first_at,
  case when n.created_at >= '2000-01-01' and n.created_at < '10000-01-01' then (extract(epoch from n.created_at) * 1000000)::bigint end as latest
from (select 1) one
left join lateral (select e.id, e.created_at from ops_error_logs e order by e.id limit 1) f on true
left join lateral (
  select greatest(
    (select e.created_at from ops_error_logs e order by e.id desc limit 1),
    (select l.created_at - interval '1 minute' from usage_logs l order by l.id desc limit 1)
  ) as created_at
) n on true
