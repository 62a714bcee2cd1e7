-- Who uses the demo's relay, and what stands behind it.
insert into users (email, username, role, balance, concurrency, rpm_limit) values
  ('root@sub2api.example', 'root', 'admin', 0, 0, 0),
  ('alice@sub2api.example', 'alice', 'user', 1000000, 10, 60),
  ('bo@sub2api.example', 'bo', 'user', 1000000, 5, 0),
  ('chen@sub2api.example', '', 'user', -2.5, 5, 30);
insert into groups (name, platform, rate_multiplier, subscription_type, daily_limit_usd, weekly_limit_usd, monthly_limit_usd) values
  ('claude', 'anthropic', 1.2, 'standard', null, null, null),
  ('openai', 'openai', 0.9, 'standard', null, null, null),
  ('claude-monthly', 'anthropic', 1, 'subscription', 60, 300, 1000),
  ('free', 'openai', 0, 'standard', null, null, null);
insert into api_keys (user_id, key, name, group_id, quota, rate_limit_5h, rate_limit_1d, rate_limit_7d, expires_at) values
  (1, 'demo-1', 'console', 1, 0, 0, 0, 0, null),
  (2, 'demo-2', 'laptop', 1, 100000, 0, 0, 0, now() + interval '45 days'),
  (2, 'demo-3', 'ci', 2, 0, 0, 50, 250, null),
  (3, 'demo-4', 'desktop', 3, 0, 40, 0, 0, null),
  (4, 'demo-5', 'scripts', 4, 0, 0, 0, 0, null);
insert into accounts (name, platform, type, concurrency, rate_multiplier, session_window_status) values
  ('max-east', 'anthropic', 'oauth', 6, 1, 'allowed'),
  ('max-west', 'anthropic', 'oauth', 4, 1, 'allowed_warning'),
  ('plus-one', 'openai', 'oauth', 8, 1, null),
  ('openai-key', 'openai', 'apikey', 0, 0.8, null),
  ('spare', 'anthropic', 'setup-token', 3, 1, null);
insert into account_groups (account_id, group_id) values (1, 1), (2, 1), (1, 3), (2, 3), (5, 1), (3, 2), (4, 2), (4, 4);
insert into user_subscriptions (user_id, group_id, starts_at, expires_at, daily_window_start, weekly_window_start, monthly_window_start)
values (3, 3, now() - interval '3 days', now() + interval '27 days', now(), now() - interval '3 days', now() - interval '3 days');
insert into user_platform_quotas (user_id, platform, daily_limit_usd, monthly_limit_usd, daily_window_start, monthly_window_start)
values (2, 'openai', 40, 900, now(), now());
