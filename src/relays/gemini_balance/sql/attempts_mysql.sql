-- Attempts. The caller's condition is a range of the primary key, the only index. The key is hashed before it leaves.
-- v2.2.
select
  id,
  timestampdiff(microsecond, '1970-01-01 00:00:00', request_time) as at,
  model_name as model,
  cast(conv(left(sha2(api_key, 256), 8), 16, 10) as signed) as key_id,
  cast(null as char(1)) as api_key,
  status_code as status,
  false as has_text,
  latency_ms
from t_request_log
where {which}
