-- Entries of the error log, as the relay writes them. ?: JSON array.
insert into t_error_logs (gemini_key, model_name, error_type, error_log, error_code, request_msg, request_time)
select api_key, model, kind, error, status, 'null', at
from json_table(
  ?,
  '$[*]' columns (
    at datetime(6) path '$.at', model varchar(100) path '$.model', api_key varchar(100) path '$.key',
    kind varchar(50) path '$.kind', error text path '$.error', status int path '$.status'
  )
) errors
