-- A batch of events, as the manager's collector writes them. ?1: JSON array.
insert or ignore into usage_events (
  event_hash, timestamp_ms, timestamp, provider, model, requested_model, resolved_model, endpoint, auth_type, auth_index,
  source, source_hash, api_key_hash, input_tokens, output_tokens, cached_tokens, cache_read_tokens, cache_creation_tokens,
  normalized_total_input_tokens, total_tokens, latency_ms, ttft_ms, failed, fail_status_code, raw_json, created_at_ms
)
select
  value ->> 'hash', value ->> 'timestamp_ms', value ->> 'timestamp', value ->> 'provider', value ->> 'model',
  value ->> 'model', value ->> 'resolved_model', value ->> 'endpoint', 'oauth', value ->> 'auth_index',
  value ->> 'source', value ->> 'source_hash', value ->> 'api_key_hash', value ->> 'input_tokens',
  value ->> 'output_tokens', value ->> 'cached_tokens', value ->> 'cache_read_tokens', value ->> 'cache_creation_tokens',
  value ->> 'total_input', value ->> 'total_tokens', value ->> 'latency_ms', value ->> 'ttft_ms', value ->> 'failed',
  value ->> 'status', '{}', value ->> 'created_at_ms'
from json_each(?1)
