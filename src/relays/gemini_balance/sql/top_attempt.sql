-- The newest attempt. Primary key. v2.2.
select coalesce(max(id), 0) as top
from t_request_log
