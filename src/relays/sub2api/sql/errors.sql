-- Requests that failed, and attempts that another one made good. The caller's condition is a range of the primary key.
-- Where it belongs in the ledger: behind the row that was the newest then; index on created_at of usage_logs.
select
  e.id::bigint as id,
  (extract(epoch from {finite e.created_at}) * 1000000)::bigint as at,
  {finite e.created_at} as ended_at,
  coalesce((
    select l.id from usage_logs l where l.created_at <= e.created_at order by l.created_at desc limit 1
  ), 0)::bigint as position,
  e.user_id::bigint as user_id,
  e.api_key_id::bigint as key_id,
  e.account_id::bigint as account_id,
  nullif(coalesce(nullif(trim({e.requested_model:varchar}), ''), e.model), '') as model,
  e.error_phase as phase,
  e.status_code,
  e.upstream_status_code,
  coalesce({e.is_business_limited:boolean}, false) as limited,
  coalesce({e.is_count_tokens:boolean}, false) as counts_tokens
from ops_error_logs e
where {which}
