-- Attempts, as the relay writes them. ?: JSON array.
insert into t_request_log (request_time, model_name, api_key, is_success, status_code, latency_ms)
select at, model, api_key, coalesce(status, 0) = 200, status, latency_ms
from json_table(
  ?,
  '$[*]' columns (
    at datetime(6) path '$.at', model varchar(100) path '$.model', api_key varchar(100) path '$.key',
    status int path '$.status', latency_ms int path '$.latency_ms'
  )
) attempts
