-- Attempts, as the relay writes them. ?: JSON array.
insert into t_request_log (request_time, model_name, api_key, is_success, status_code, latency_ms)
select
  value ->> 'at', value ->> 'model', value ->> 'key', coalesce(value ->> 'status' = 200, 0), value ->> 'status',
  value ->> 'latency_ms'
from json_each(?)
