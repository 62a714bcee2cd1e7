-- What the error log knows beside its texts, by primary key.
select
  id,
  unixepoch(substr(request_time, 1, 19)) * 1000000 + cast(substr(request_time || '000000', 21, 6) as integer) as at,
  null as key_id,
  {key} as api_key,
  error_type,
  case when typeof(error_code) = 'integer' then error_code end as error_code
from t_error_logs
where {which}
