-- LiteLLM's own counters of ended requests, those of end users as far as they are read. $1: a JSON array.
with people as (
  insert into "LiteLLM_DailyEndUserSpend" (
    id, end_user_id, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name, endpoint, updated_at
  )
  select distinct on (2, 3, 4, 5, 6)
    gen_random_uuid()::text, r.end_user, to_char(r.start at time zone 'UTC', 'YYYY-MM-DD'), encode(sha256(r.key::bytea), 'hex'),
    r.model, r.provider, '', '/chat/completions', now() at time zone 'UTC'
  from jsonb_to_recordset($1::jsonb) as r (key text, end_user text, start timestamptz, model text, provider text)
  where r.end_user <> ''
  on conflict do nothing
)
insert into "LiteLLM_DailyUserSpend" as d (
  id, user_id, date, api_key, model, model_group, custom_llm_provider, mcp_namespaced_tool_name, endpoint, prompt_tokens,
  completion_tokens, spend, api_requests, successful_requests, failed_requests, updated_at
)
select
  gen_random_uuid()::text, r."user", to_char(r.start at time zone 'UTC', 'YYYY-MM-DD'), encode(sha256(r.key::bytea), 'hex'),
  r.model, min(r."group"), r.provider, '', '/chat/completions', sum(r.prompt), sum(r.completion), sum(r.spend), count(*),
  count(*) filter (where r.status = 'success'), count(*) filter (where r.status = 'failure'), now() at time zone 'UTC'
from jsonb_to_recordset($1::jsonb) as r (
  key text, "user" text, start timestamptz, model text, "group" text, provider text, prompt int, completion int,
  spend float8, status text
)
group by 2, 3, 4, 5, 7
on conflict (user_id, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name, endpoint) do update set
  prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
  completion_tokens = d.completion_tokens + excluded.completion_tokens,
  spend = d.spend + excluded.spend,
  api_requests = d.api_requests + excluded.api_requests,
  successful_requests = d.successful_requests + excluded.successful_requests,
  failed_requests = d.failed_requests + excluded.failed_requests
