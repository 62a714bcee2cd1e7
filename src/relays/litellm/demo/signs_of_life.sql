-- What the workers before have left is accounted for, and two workers live.
update "LiteLLM_SpendLogDelivery" set state = 'applied', applied_at = now() at time zone 'UTC' where state = 'pending';
delete from "LiteLLM_SpendLogDelivery" where state = 'applied' and applied_at < (now() at time zone 'UTC') - interval '1 day';
insert into "LiteLLM_ProxyWorkerHeartbeat" (worker_id, hostname, last_heartbeat_at) values
  ('1', 'litellm-1', now() at time zone 'UTC'), ('2', 'litellm-2', now() at time zone 'UTC')
on conflict (worker_id) do update set last_heartbeat_at = excluded.last_heartbeat_at
