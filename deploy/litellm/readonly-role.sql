-- A role for llm-relay-exporter in LiteLLM's database: reads what the exporter needs and no column of prompts, answers,
-- addresses or providers' keys, writes nothing. But metadata of "LiteLLM_SpendLogs" is one column: the exporter reads single
-- values of it, by name, and who has the role can read the rest: addresses of clients, error texts, calls of tools, what
-- vector stores were asked (and gave, with store_prompts_in_spend_logs), findings of guardrails.
-- Run it in that database as the owner of its tables, and again after an upgrade of LiteLLM:
--   psql "$DATABASE_URL" -f readonly-role.sql
--   psql "$DATABASE_URL" -c '\password llm_relay_exporter'
-- Where LiteLLM's tables are in another schema (?schema= in DATABASE_URL), run it with that one first in the search path:
--   PGOPTIONS='-c search_path=litellm' psql "$DATABASE_URL" -f readonly-role.sql
-- End users are counted, never named, where the role may tell them apart. That is up to you:
--   grant select (date, end_user_id) on "LiteLLM_DailyEndUserSpend" to llm_relay_exporter;
-- A key's hash tells whose usage a row is.
do $$
declare
  wanted record;
  present text;
begin
  if not exists (select from pg_roles where rolname = 'llm_relay_exporter') then
    create role llm_relay_exporter login;
  end if;
  execute format('grant connect on database %I to llm_relay_exporter', current_database());
  execute format('grant usage on schema %I to llm_relay_exporter', current_schema());
  for wanted in
    select * from (values
      ('LiteLLM_SpendLogs', 'request_id call_type api_key spend prompt_tokens completion_tokens startTime endTime completionStartTime
        model model_id model_group custom_llm_provider user team_id organization_id
        metadata cache_hit status'),
      ('LiteLLM_SpendLogDelivery', 'request_id state applied_at'),
      ('LiteLLM_DailyUserSpend', 'user_id date api_key model model_group custom_llm_provider prompt_tokens
        completion_tokens spend cache_read_input_tokens cache_creation_input_tokens api_requests successful_requests
        failed_requests'),
      ('LiteLLM_DailyTeamSpend', 'team_id date api_key model model_group custom_llm_provider prompt_tokens
        completion_tokens spend cache_read_input_tokens cache_creation_input_tokens api_requests successful_requests
        failed_requests'),
      ('LiteLLM_DailyOrganizationSpend', 'organization_id date api_key model model_group custom_llm_provider prompt_tokens
        completion_tokens spend cache_read_input_tokens cache_creation_input_tokens api_requests successful_requests
        failed_requests'),
      ('LiteLLM_VerificationToken', 'token key_alias spend max_budget budget_duration budget_reset_at budget_id expires
        blocked user_id created_at'),
      ('LiteLLM_DeletedVerificationToken', 'token key_alias user_id deleted_at'),
      ('LiteLLM_UserTable', 'user_id user_alias user_role spend max_budget budget_duration budget_reset_at'),
      ('LiteLLM_TeamTable', 'team_id team_alias organization_id blocked spend max_budget soft_budget budget_duration
        budget_reset_at'),
      ('LiteLLM_OrganizationTable', 'organization_id organization_alias spend budget_id'),
      ('LiteLLM_BudgetTable', 'budget_id max_budget soft_budget budget_duration budget_reset_at'),
      ('LiteLLM_ProxyModelTable', 'model_id model_name blocked'),
      ('LiteLLM_HealthCheckTable', 'model_id status checked_at'),
      ('LiteLLM_ProxyWorkerHeartbeat', 'last_heartbeat_at'),
      ('_prisma_migrations', 'migration_name finished_at')
    ) as w (name, columns)
  loop
    if to_regclass(quote_ident(wanted.name)) is not null then
      -- What an earlier run granted and is not read any more.
      execute format('revoke all on %I from llm_relay_exporter', wanted.name);
    end if;
    select string_agg(quote_ident(a.attname), ', ') into present
    from pg_attribute a
    where a.attrelid = to_regclass(quote_ident(wanted.name)) and a.attnum > 0 and not a.attisdropped
      and a.attname = any (regexp_split_to_array(wanted.columns, '\s+'));
    if present is not null then
      execute format('grant select (%s) on %I to llm_relay_exporter', present, wanted.name);
    end if;
  end loop;
end
$$;

alter role llm_relay_exporter connection limit 8;
alter role llm_relay_exporter set default_transaction_read_only = on;
alter role llm_relay_exporter set statement_timeout = '30s';
