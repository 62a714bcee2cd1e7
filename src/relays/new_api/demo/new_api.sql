-- What new-api has beside: a channel with several keys, one that was switched off for its answers, subscriptions.
update channels
set channel_info = cast('{"is_multi_key":true,"multi_key_size":4,"multi_key_status_list":{"1":3},"multi_key_mode":"random"}' as blob)
where id = 4;
insert into channels (id, type, key, status, name, other_info) values
  (6, 43, 'sk-invented', 3, 'deepseek', '{"status_reason":"status_code=401, invalid key","status_time":1}');
insert into subscription_plans (id, title, quota_reset_period) values (1, 'daily', 'daily'), (2, 'month', 'monthly');
insert into user_subscriptions (user_id, plan_id, amount_total, amount_used, start_time, end_time, status, next_reset_time) values
  (3, 1, 2500000, 800000, unixepoch('now', '-3 days'), unixepoch('now', '+27 days'), 'active', unixepoch('now', '+9 hours')),
  (4, 2, 25000000, 9000000, unixepoch('now', '-3 days'), unixepoch('now', '+27 days'), 'active', unixepoch('now', '+12 days'));
