-- The request ends.
update message_request
set status_code = 200, duration_ms = $2, ttfb_ms = 700, first_byte_ms = 720, input_tokens = 900, output_tokens = 700,
  cache_creation_input_tokens = 1200, cache_read_input_tokens = 30000, cache_creation_5m_input_tokens = 1200,
  cache_creation_1h_input_tokens = 0, updated_at = now()
where id = $1 and status_code is null
