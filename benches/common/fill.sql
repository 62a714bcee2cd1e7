-- Finished requests {from} to {to}, evenly over {span} seconds, the last of them {age} seconds ago. Straight into the
-- ledger: the log's trigger would take hours. Each took three ids of the ledger, as in the relay, which burns one on
-- every update of a row.
insert into usage_ledger (
  id, request_id, user_id, key, provider_id, final_provider_id, model, original_model, endpoint, api_type, session_id,
  session_identity, status_code, is_success, success_rate_outcome, cost_usd, cost_multiplier, group_cost_multiplier,
  input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens, cache_creation_5m_input_tokens,
  cache_creation_1h_input_tokens, duration_ms, ttfb_ms, first_byte_ms, created_at
)
select
  3 * n, n, (who + 1) / 2, 'sk-' || md5(who::text), provider, provider, model, model, '/v1/messages', 'claude', session,
  session, case when failed then 500 else 200 end, not failed, case when failed then 'failure' else 'success' end,
  case when failed then 0 else 0.002 + (n % 9973) * 0.000011 end, 1, 1,
  200 + n % 4000, case when failed then 0 else 50 + n % 1900 end, n % 3000, n % 60000, n % 3000,
  0, 2000 + n % 23000, 300 + n % 1500, 320 + n % 1500,
  now() - make_interval(secs => {age} + {span} * ({to} - n) / ({to} - {from} + 1)::double precision)
from generate_series({from}::bigint, {to}) n
cross join lateral (select
  -- Some people and models are used far more than others.
  1 + (n * 7919 % 104729 * (n * 31 % 997) / 997) % (2 * {users}) as who,
  1 + (n * 6007 % 10007) * (n * 17 % 499) / 499 % {providers} as provider,
  'claude-sonnet-4-' || (n * 5003 % 7001) * (n * 13 % 251) / 251 % {models} as model,
  'session-' || n / 25 as session,
  n % 41 = 0 as failed
) as made;
select setval('usage_ledger_id_seq', 3 * {to}), setval('message_request_id_seq', {to});
