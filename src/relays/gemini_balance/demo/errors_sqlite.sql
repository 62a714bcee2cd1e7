-- Entries of the error log, as the relay writes them. ?: JSON array.
insert into t_error_logs (gemini_key, model_name, error_type, error_log, error_code, request_msg, request_time)
select
  value ->> 'key', value ->> 'model', value ->> 'kind', value ->> 'error', value ->> 'status', 'null', value ->> 'at'
from json_each(?)
