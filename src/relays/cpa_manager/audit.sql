-- The relay's sums over a span of start times, by all that a price or a label depends on; requests whose size may change their
-- price stand alone. Index on timestamp_ms. All generations. ?1, ?2: from, to (exclusive); ?3: the smallest such size.
select
  provider, auth_index, source_hash, model, requested_model, resolved_model, service_tier, failed, status,
  case when total_input > ?3 then total_input else 0 end as large_input,
  count(*) as requests,
  sum(failed) as errors,
  sum(total_tokens) as total_tokens,
  sum(max(total_input - cached - cache_read - cache_creation, 0)) as prompt_tokens,
  sum(output_tokens) as output_tokens,
  sum(cached) as cached,
  sum(cache_read) as cache_read,
  sum(cache_creation) as cache_creation
from (
  select
    cast(provider as blob) as provider,
    cast(auth_index as blob) as auth_index,
    cast(source_hash as blob) as source_hash,
    cast({usage_events.fail_status_code} as integer) as status,
    cast(model as blob) as model,
    cast({usage_events.requested_model} as blob) as requested_model,
    cast({usage_events.resolved_model} as blob) as resolved_model,
    cast({usage_events.service_tier} as blob) as service_tier,
    cast(failed as integer) <> 0 as failed,
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
  where timestamp_ms >= ?1 and timestamp_ms < ?2
)
group by
  provider, auth_index, source_hash, model, requested_model, resolved_model, service_tier, failed, status, large_input
