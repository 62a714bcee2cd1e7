-- 0.1.161: refused requests in numbers.
create table ops_ingress_reject_aggregates (
  bucket_start timestamptz not null,
  reject_reason varchar(64) not null,
  route_family varchar(64) not null default '',
  protocol varchar(32) not null default '',
  client_ip inet not null,
  user_id bigint not null default 0,
  api_key_id bigint not null default 0,
  request_count bigint not null,
  last_seen timestamptz not null default now(),
  primary key (bucket_start, reject_reason, route_family, protocol, client_ip, user_id, api_key_id)
);
