-- The newest check of each deployment that LiteLLM has stored within two hours: it stores one when the result changes, else
-- once an hour (proxy/health_endpoints/_health_endpoints.py, 1.80.8 to 1.110.2). Index on checked_at. Since 2025-06.
select distinct on (h.model_id)
  left(h.model_id, 256) as model_id,
  h.status = 'healthy' as healthy
from "LiteLLM_HealthCheckTable" h
where h.checked_at >= (now() at time zone 'UTC') - interval '2 hours' and isfinite(h.checked_at) and h.model_id <> ''
order by h.model_id, h.checked_at desc
