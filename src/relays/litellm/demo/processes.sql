-- What LiteLLM's processes write about themselves since 1.110.
create table "LiteLLM_ProxyWorkerHeartbeat" (
  worker_id text primary key,
  hostname text not null,
  last_heartbeat_at timestamp(3) without time zone not null
);
create type "AccountingDeliveryState" as enum ('pending', 'applied', 'parked');
create table "LiteLLM_SpendLogDelivery" (
  delivery_id text primary key default gen_random_uuid()::text,
  request_id text not null,
  state "AccountingDeliveryState" default 'pending' not null,
  next_attempt_at timestamp(3) without time zone not null,
  applied_at timestamp(3) without time zone,
  created_at timestamp(3) without time zone not null
);
create index on "LiteLLM_SpendLogDelivery" (state, next_attempt_at);
create index on "LiteLLM_SpendLogDelivery" (state, applied_at)
