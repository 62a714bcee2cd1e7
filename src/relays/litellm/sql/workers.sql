-- Worker processes that have given a sign of life within three of their minutes. Full read of a small table. Since 1.99.
select count(*) as alive
from "LiteLLM_ProxyWorkerHeartbeat" w
where w.last_heartbeat_at >= (now() at time zone 'UTC') - interval '3 minutes'
