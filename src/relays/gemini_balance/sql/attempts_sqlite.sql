-- Attempts. The caller's condition is a range of the primary key, the only index. Status codes may be texts here.
-- v2.2.
select
  id,
  unixepoch(substr(request_time, 1, 19)) * 1000000 + cast(substr(request_time || '000000', 21, 6) as integer) as at,
  model_name as model,
  null as key_id,
  api_key,
  case when typeof(status_code) = 'integer' then status_code end as status,
  typeof(status_code) = 'text' as has_text,
  case when typeof(latency_ms) = 'integer' then latency_ms end as latency_ms
from t_request_log
where {which}
