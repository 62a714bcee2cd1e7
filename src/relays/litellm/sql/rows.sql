-- Rows by what tells them. Primary key, or the index on "startTime". Of the metadata single values only: the rest may be
-- prompts. $1, $2: ids and starts; $3, $4: the first and the last of these. All releases.
select
  l.request_id,
  l."startTime" as started_at,
  case when isfinite(l."endTime") then l."endTime" end as ended_at,
  case when isfinite(l."completionStartTime") then l."completionStartTime" end as first_token_at,
  left(l.api_key, 256) as api_key,
  left(l."user", 256) as user_id,
  left({l.team_id:text}, 256) as team_id,
  left({l.organization_id:text}, 256) as organization_id,
  left({l.call_type:text}, 50) as call_type,
  l.spend,
  l.prompt_tokens,
  l.completion_tokens,
  left(l.model, 200) as model,
  left(l.model_group, 200) as model_group,
  left(l.model_id, 256) as model_id,
  left(l.custom_llm_provider, 100) as provider,
  l.cache_hit = 'True' as from_cache,
  left(coalesce(l.metadata ->> 'status', l.status), 20) as status,
  left(l.metadata #>> '{error_information,error_code}', 20) as error_code,
  left(l.metadata #>> '{error_information,error_class}', 100) as error_class,
  left(l.metadata #>> '{error_information,error_rate_limit_category}', 100) as limited_by,
  left(l.metadata #>> '{error_information,llm_provider}', 100) as error_provider,
  left(l.metadata #>> '{usage_object,cache_read_input_tokens}', 20) as cache_read,
  left(l.metadata #>> '{usage_object,prompt_tokens_details,cached_tokens}', 20) as cached,
  left(l.metadata #>> '{usage_object,cache_creation_input_tokens}', 20) as cache_creation,
  left(l.metadata #>> '{usage_object,prompt_tokens_details,cache_write_tokens}', 20) as cache_write,
  left(l.metadata #>> '{usage_object,prompt_tokens_details,cache_creation_tokens}', 20) as cache_created,
  left(l.metadata #>> '{usage_object,prompt_tokens_details,cache_creation_token_details,ephemeral_5m_input_tokens}', 20) as written_5m,
  left(l.metadata #>> '{usage_object,prompt_tokens_details,cache_creation_token_details,ephemeral_1h_input_tokens}', 20) as written_1h,
  {is_internal} as is_internal
from unnest($1::text[], $2::timestamp[]) as wanted (request_id, started_at)
join "LiteLLM_SpendLogs" l on l.request_id = wanted.request_id and l."startTime" = wanted.started_at
where l."startTime" >= $3 and l."startTime" <= $4
