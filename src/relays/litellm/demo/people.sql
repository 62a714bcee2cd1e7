-- The demo's users, keys, budgets and deployments.
insert into "LiteLLM_UserTable" (user_id, user_alias, user_role, max_budget, budget_duration, budget_reset_at, spend) values
  ('ann', 'Ann', 'internal_user', 200, '30d', date_trunc('month', now() at time zone 'UTC') + interval '1 month', 41.5),
  ('bob', null, 'internal_user', 2000, null, null, 310),
  ('cleo', 'cleo@example.com', 'internal_user_viewer', 50, '7d', date_trunc('week', now() at time zone 'UTC') + interval '7 days', 12.25),
  ('dan', 'Dan', 'internal_user', null, null, null, 0),
  ('default_user_id', null, 'proxy_admin', null, null, null, 0);
insert into "LiteLLM_BudgetTable" (budget_id, max_budget, soft_budget, budget_duration, budget_reset_at, created_by, updated_by) values
  ('small', 10, null, '1d', date_trunc('day', now() at time zone 'UTC') + interval '1 day', 'demo', 'demo'),
  ('watched', null, 25, null, null, 'demo', 'demo'),
  ('large', 400, 300, '1mo', date_trunc('month', now() at time zone 'UTC') + interval '1 month', 'demo', 'demo');
insert into "LiteLLM_OrganizationTable" (organization_id, organization_alias, budget_id, spend) values ('acme', 'Acme', 'large', 61.75);
insert into "LiteLLM_TeamTable" (team_id, team_alias, organization_id, max_budget, soft_budget, budget_duration, budget_reset_at, spend) values
  ('search', 'Search', 'acme', 60, 45, '7d', date_trunc('week', now() at time zone 'UTC') + interval '7 days', 21.5),
  ('ads', 'Ads', 'acme', 30, null, '10d', date_trunc('day', now() at time zone 'UTC') + interval '4 days', 9.25),
  ('research', 'Research', null, null, null, null, null, 14);
insert into "LiteLLM_VerificationToken" (token, key_alias, user_id, spend, budget_id, expires) values
  (encode(sha256('ann-laptop'), 'hex'), 'ann-laptop', 'ann', 3.5, 'small', null),
  (encode(sha256('ann-ci'), 'hex'), 'ann-ci', 'ann', 1.25, 'watched', (now() at time zone 'UTC') + interval '20 days'),
  (encode(sha256('bob-agent'), 'hex'), 'bob-agent', 'bob', 9.75, 'small', null),
  (encode(sha256('cleo-notebook'), 'hex'), 'cleo-notebook', 'cleo', 2, null, null);
insert into "LiteLLM_DeletedVerificationToken" (id, token, key_alias, user_id) values
  ('1', encode(sha256('dan-batch'), 'hex'), 'dan-batch', 'dan');
insert into "LiteLLM_ProxyModelTable" (model_id, model_name, litellm_params, created_by, updated_by, blocked) values
  ('azure-west', 'gpt-4o', '{}', 'demo', 'demo', false),
  ('openai-1', 'gpt-4o', '{}', 'demo', 'demo', true);
