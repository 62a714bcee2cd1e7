-- A request begins, as Claude Code Hub v0.9.0 and later write it; the trigger makes the ledger row. No index needed.
insert into message_request (
  provider_id, user_id, key, model, original_model, session_id, session_identity, request_sequence, user_agent,
  cost_multiplier, group_cost_multiplier, endpoint, api_type
) values (
  $1, $2, $3, $4, $5, $6, $6, $7, 'demo/1.0', $8, 1, $9, $10
)
returning id
