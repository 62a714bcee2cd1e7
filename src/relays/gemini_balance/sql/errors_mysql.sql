-- The error log without its texts. Primary key. v2.2. ?, ?: ids after, up to.
select
  id,
  timestampdiff(microsecond, '1970-01-01 00:00:00', request_time) as at,
  error_type,
  error_code
from t_error_logs
where id > ? and id <= ?
order by id
