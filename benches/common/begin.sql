-- A request begins, as the relay writes it; its trigger makes the ledger row.
insert into message_request (
  provider_id, user_id, key, model, original_model, session_id, session_identity, user_agent, cost_multiplier,
  group_cost_multiplier, endpoint, api_type
)
values (1 + $1 % 5, ($1 % 40 + 2) / 2, 'sk-' || md5(($1 % 40 + 1)::text), 'claude-sonnet-4-' || $1 % 10,
  'claude-sonnet-4-' || $1 % 10, 'live-' || $1 / 25, 'live-' || $1 / 25, 'bench/1.0', 1, 1, '/v1/messages', 'claude')
returning id
