-- The request log in the shape of the ledger. Up to v0.5.8, which had no ledger.
(
  select
    m.id, m.id as request_id, m.user_id, m.key, m.provider_id as final_provider_id, m.model, m.original_model, m.endpoint,
    m.status_code, m.blocked_by, m.cost_usd, m.cost_multiplier,
    coalesce(m.error_message, '') = '' as has_no_error,
    coalesce(m.error_message, '') = '' and coalesce(m.status_code < 400, true) as is_success,
    m.input_tokens, m.output_tokens, m.cache_creation_input_tokens, m.cache_read_input_tokens,
    m.cache_creation_5m_input_tokens, m.cache_creation_1h_input_tokens,
    m.duration_ms, {m.ttfb_ms:integer} as ttfb_ms, m.created_at
  from message_request m
  where m.deleted_at is null
)
