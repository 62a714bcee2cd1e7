-- The distinct keys of a range of ids, hashed before they leave. Primary key. v2.2. ?, ?: ids after, up to; ?: at most.
select distinct
  cast(conv(left(sha2(api_key, 256), 8), 16, 10) as signed) as key_id,
  cast(null as char(1)) as api_key
from t_request_log
where id > ? and id <= ? and api_key is not null
limit ?
