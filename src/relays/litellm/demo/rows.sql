-- Rows of ended requests. $1: a JSON array.
insert into "LiteLLM_SpendLogs" (
  request_id, call_type, api_key, spend, total_tokens, prompt_tokens, completion_tokens, "startTime", "endTime",
  "completionStartTime", model, model_id, model_group, custom_llm_provider, "user", team_id, organization_id,
  metadata, status
)
select
  r.request_id, r.call_type, encode(sha256(r.key::bytea), 'hex'), r.spend, r.prompt + r.completion, r.prompt, r.completion,
  r.start at time zone 'UTC', r."end" at time zone 'UTC', r.first at time zone 'UTC', r.model, r.model_id, r."group",
  r.provider, r."user", r.team, r.organization, r.metadata, r.status
from jsonb_to_recordset($1::jsonb) as r (
  request_id text, call_type text, key text, "user" text, team text, organization text, start timestamptz, "end" timestamptz, first timestamptz,
  model text, "group" text, model_id text, provider text, prompt int, completion int, spend float8, status text,
  metadata jsonb
)
on conflict do nothing
