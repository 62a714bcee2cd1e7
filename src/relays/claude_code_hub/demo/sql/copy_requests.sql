-- Finished requests in bulk, as tab-separated text; Claude Code Hub v0.9.0 and later. The trigger fills the ledger.
copy message_request (
  created_at, updated_at, provider_id, user_id, key, model, original_model, actual_response_model, endpoint, api_type,
  session_id, session_identity, request_sequence, user_agent, cost_multiplier, group_cost_multiplier,
  status_code, error_message, blocked_by, is_replay, cost_usd, input_tokens, output_tokens,
  cache_creation_input_tokens, cache_read_input_tokens, cache_creation_5m_input_tokens, cache_creation_1h_input_tokens,
  duration_ms, ttfb_ms, first_byte_ms, provider_chain, hedge_losers
) from stdin
