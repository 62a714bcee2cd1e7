-- Users, keys and channels, which both programs have.
insert into users (id, username, password, role, quota) values
  (1, 'root', 'x', 100, 100000000), (2, 'alice', 'x', 1, 60000000), (3, 'bo', 'x', 1, 40000000),
  (4, 'chen', 'x', 1, 30000000), (5, 'dana', 'x', 10, 20000000);
insert into tokens (id, user_id, key, name, expired_time, remain_quota, unlimited_quota) values
  (1, 1, 'sk-invented-1', 'playground', -1, 0, true), (2, 2, 'sk-invented-2', 'laptop', -1, 50000000, false),
  (3, 2, 'sk-invented-3', 'ci', unixepoch('now', '+30 days'), 20000000, false),
  (4, 3, 'sk-invented-4', 'editor', -1, 30000000, false), (5, 4, 'sk-invented-5', 'agents', -1, 0, true),
  (6, 5, 'sk-invented-6', 'batch', -1, 15000000, false);
insert into channels (id, type, key, status, name, test_time, response_time, balance, balance_updated_time) values
  (1, 1, 'sk-invented', 1, 'openai north', unixepoch('now', '-20 minutes'), 840, 42.5, unixepoch('now', '-1 hours')),
  (2, 1, 'sk-invented', 1, 'openai south', unixepoch('now', '-20 minutes'), 1230, 7.25, unixepoch('now', '-3 days')),
  (3, 14, 'sk-invented', 1, 'anthropic', unixepoch('now', '-20 minutes'), 1610, 0, 0),
  (4, 24, 'sk-invented', 1, 'gemini pool', 0, 0, 0, 0),
  (5, 1, 'sk-invented', 2, 'old', 0, 0, 0, 0);
insert into options (key, value) values ('QuotaPerUnit', '500000');
