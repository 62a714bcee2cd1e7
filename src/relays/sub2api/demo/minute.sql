-- What the relay and its upstreams tell again and again: its monitoring, refused requests, windows of accounts, and a spare
-- account that is out of service for a while.
insert into ops_system_metrics default values;
insert into ops_ingress_reject_aggregates (bucket_start, reject_reason, client_ip, request_count) values
  (date_trunc('minute', now()), 'invalid_api_key', '192.0.2.1', 2), (date_trunc('minute', now()), 'api_key_disabled', '192.0.2.2', 1)
on conflict (bucket_start, reject_reason, route_family, protocol, client_ip, user_id, api_key_id)
do update set request_count = ops_ingress_reject_aggregates.request_count + excluded.request_count, last_seen = now();
update accounts set
  session_window_start = now() - interval '2 hours',
  session_window_end = now() + interval '3 hours',
  extra = jsonb_build_object(
    'session_window_utilization', round((0.2 + 0.1 * id + 0.2 * random())::numeric, 3),
    'passive_usage_7d_utilization', round((0.1 + 0.2 * id)::numeric, 3),
    'passive_usage_7d_reset', extract(epoch from now() + interval '3 days')::bigint,
    'passive_usage_sampled_at', to_json(now())
  )
where id in (1, 2);
update accounts set extra = jsonb_build_object(
  'codex_5h_used_percent', round((20 + 40 * random())::numeric, 1), 'codex_5h_reset_at', to_json(now() + interval '2 hours'),
  'codex_7d_used_percent', 35, 'codex_7d_reset_at', to_json(now() + interval '4 days'), 'codex_usage_updated_at', to_json(now())
)
where id = 3;
update accounts set extra = jsonb_build_object('quota_limit', 100000, 'quota_used', (
  select round(coalesce(sum(l.total_cost * l.account_rate_multiplier), 0), 6) from usage_logs l where l.account_id = 4
))
where id = 4;
update accounts set rate_limited_at = now(), rate_limit_reset_at = now() + interval '20 minutes' where id = 5
