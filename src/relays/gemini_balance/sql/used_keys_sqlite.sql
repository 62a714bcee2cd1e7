-- The distinct keys of a range of ids. Primary key. v2.2. ?, ?: ids after, up to; ?: at most.
select distinct null as key_id, api_key
from t_request_log
where id > ? and id <= ? and api_key is not null
limit ?
