-- Requests that failed, and attempts that another account made good. $1: a JSON list.
insert into ops_error_logs (
  created_at, client_request_id, user_id, api_key_id, account_id, group_id, platform, model, requested_model, error_phase,
  error_type, error_owner, status_code, upstream_status_code, is_business_limited
)
select
  j.at, gen_random_uuid(), j.user_id, j.key_id, j.account_id, j.group_id, g.platform, j.model, j.model, j.phase,
  'upstream_error', case j.phase when 'upstream' then 'provider' when 'routing' then 'platform' else 'client' end, j.status,
  j.upstream, j.limited
from jsonb_to_recordset(cast($1::text as jsonb)) as j (
  at timestamptz, user_id bigint, key_id bigint, account_id bigint, group_id bigint, model text, phase text, status integer,
  upstream integer, limited boolean
)
join groups g on g.id = j.group_id
order by j.at
