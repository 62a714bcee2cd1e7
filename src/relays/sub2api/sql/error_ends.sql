-- Both ends of the error log. Primary key.
select
  coalesce((select max(e.id) from ops_error_logs e), 0)::bigint as top,
  f.id::bigint as first,
  case when f.created_at >= '2000-01-01' and f.created_at < '10000-01-01' then (extract(epoch from f.created_at) * 1000000)::bigint end as first_at
from (select 1) one
left join lateral (select e.id, e.created_at from ops_error_logs e order by e.id limit 1) f on true
