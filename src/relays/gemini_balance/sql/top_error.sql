-- The newest entry of the error log. Primary key. v2.2.
select coalesce(max(id), 0) as top
from t_error_logs
