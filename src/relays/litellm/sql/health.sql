-- The newest check of each deployment within the last hour. Index on checked_at. Since 2025-06.
select distinct on (h.model_id)
  left(h.model_id, 256) as model_id,
  h.status = 'healthy' as healthy,
  h.response_time_ms,
  h.checked_at
from "LiteLLM_HealthCheckTable" h
where h.checked_at >= (now() at time zone 'UTC') - interval '1 hour' and isfinite(h.checked_at) and h.model_id <> ''
order by h.model_id, h.checked_at desc
