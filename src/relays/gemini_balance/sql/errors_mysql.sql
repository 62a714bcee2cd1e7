-- What the error log knows beside its texts, by primary key.
select
  id,
  timestampdiff(microsecond, '1970-01-01 00:00:00', request_time) as at,
  {key} as key_id,
  cast(null as char(1)) as api_key,
  error_type,
  error_code
from t_error_logs
where {which}
