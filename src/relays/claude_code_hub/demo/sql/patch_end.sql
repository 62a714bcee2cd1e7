-- The request ends; the first finisher wins. The primary key serves it. Claude Code Hub v0.9.0 and later.
update message_request
set
  status_code = $2, error_message = $3, provider_id = $4, provider_chain = $5::text::jsonb, actual_response_model = $6,
  duration_ms = $7, ttfb_ms = $8, first_byte_ms = $9, input_tokens = $10, output_tokens = $11,
  cache_creation_input_tokens = $12, cache_read_input_tokens = $13, cache_creation_5m_input_tokens = $14,
  cache_creation_1h_input_tokens = $15, updated_at = now()
where id = $1 and status_code is null
