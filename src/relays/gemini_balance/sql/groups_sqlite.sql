-- Attempts by model and by the relay's own rule of success (v2.2.8 app/service/stats/stats_service.py): a text, which is
-- greater than any number in SQLite, is a failure, too. Primary key, of which the caller reads a slice at a time. v2.2.
-- ?, ?: ids after, up to; ?, ?: naive times from, to (exclusive).
select
  model_name as model,
  coalesce(status_code >= 200 and status_code < 300, 0) as succeeded,
  coalesce(status_code < 200 or status_code >= 300, 0) as failed,
  count(*) as requests
from t_request_log
where id > ? and id <= ? and request_time >= ? and request_time < ?
group by 1, 2, 3
