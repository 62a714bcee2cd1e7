-- Health checks, when the last ones are five minutes old.
insert into "LiteLLM_HealthCheckTable" (
  health_check_id, model_name, model_id, status, healthy_count, unhealthy_count, response_time_ms, checked_at, updated_at
)
select
  gen_random_uuid()::text, m.name, m.id, case when m.id = 'ollama-1' then 'unhealthy' else 'healthy' end,
  (m.id <> 'ollama-1')::int, (m.id = 'ollama-1')::int, 400 + 500 * random(), now() at time zone 'UTC', now() at time zone 'UTC'
from (values
  ('gpt-4o', 'azure-west'), ('gpt-4o', 'azure-east'), ('gpt-4o', 'openai-1'), ('claude-sonnet', 'bedrock-1'),
  ('claude-sonnet', 'anthropic-1'), ('gemini-pro', 'vertex-1'), ('local-llama', 'ollama-1')
) as m (name, id)
where not exists (
  select from "LiteLLM_HealthCheckTable" h where h.checked_at > (now() at time zone 'UTC') - interval '5 minutes'
)
