-- What tells errors from others with their ids. Primary key. $1, $2: first and last id.
select
  e.id::bigint as id,
  case when e.created_at >= '2000-01-01' and e.created_at < '10000-01-01' then (extract(epoch from e.created_at) * 1000000)::bigint end as at,
  e.api_key_id::bigint as key
from ops_error_logs e
where e.id between $1 and $2
