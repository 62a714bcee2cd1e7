-- The error log without its texts. Primary key. v2.2. ?, ?: ids after, up to.
select
  id,
  unixepoch(substr(request_time, 1, 19)) * 1000000 + cast(substr(request_time || '000000', 21, 6) as integer) as at,
  error_type,
  case when typeof(error_code) = 'integer' then error_code end as error_code
from t_error_logs
where id > ? and id <= ?
order by id
