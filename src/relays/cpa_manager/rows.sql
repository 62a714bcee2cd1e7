-- Rows of the ledger, in the relay's own terms of input and cached input (Plus v1.12.2 usageaggregate/repository.go).
-- The caller's condition is served by the primary key (new, again, older) or the index on timestamp_ms (between).
-- Texts come as bytes: the relay cuts some within a character. Counts beyond 2^40 are a broken row's. All generations.
select
  id, timestamp_ms, created_at_ms, provider, model, requested_model, resolved_model, service_tier, auth_index,
  source_hash, api_key_hash, failed, status, latency_ms, ttft_ms, total_tokens, total_input, output_tokens, cached,
  cache_read, cache_creation, max(total_input - cached - cache_read - cache_creation, 0) as prompt_tokens
from (
  select
    id,
    cast(timestamp_ms as integer) as timestamp_ms,
    cast(created_at_ms as integer) as created_at_ms,
    cast(provider as blob) as provider,
    cast(model as blob) as model,
    cast({usage_events.requested_model} as blob) as requested_model,
    cast({usage_events.resolved_model} as blob) as resolved_model,
    cast({usage_events.service_tier} as blob) as service_tier,
    cast(auth_index as blob) as auth_index,
    cast(source_hash as blob) as source_hash,
    cast(api_key_hash as blob) as api_key_hash,
    cast(failed as integer) <> 0 as failed,
    cast({usage_events.fail_status_code} as integer) as status,
    cast(latency_ms as integer) as latency_ms,
    cast({usage_events.ttft_ms} as integer) as ttft_ms,
    min(max(cast(total_tokens as integer), 0), 1099511627776) as total_tokens,
    min(max(cast(coalesce({usage_events.normalized_total_input_tokens}, input_tokens, 0) as integer), 0), 1099511627776)
      as total_input,
    min(max(cast(output_tokens as integer), 0), 1099511627776) as output_tokens,
    min(max(
      max(cast(cached_tokens as integer), cast(cache_tokens as integer))
        - max(cast(coalesce({usage_events.cache_read_tokens}, 0) as integer), 0)
        - max(cast(coalesce({usage_events.cache_creation_tokens}, 0) as integer), 0),
      0
    ), 1099511627776) as cached,
    min(max(cast(coalesce({usage_events.cache_read_tokens}, 0) as integer), 0), 1099511627776) as cache_read,
    min(max(cast(coalesce({usage_events.cache_creation_tokens}, 0) as integer), 0), 1099511627776) as cache_creation
  from usage_events
  where {which}
)
