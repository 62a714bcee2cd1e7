-- A role for the wall with single requests (Claude Code Hub v0.9.0 and later): reads the few columns that the wall shows.
-- Do not give Grafana the exporter's role: everybody who may look at a dashboard may send any SQL to its data source,
-- and the exporter's role can read the column of the clients' keys.
-- Run it in the relay's database as the owner of its tables:
--   psql "$DSN" -f wall-role.sql
--   psql "$DSN" -c '\password llm_relay_wall'
do $$
begin
  if not exists (select from pg_roles where rolname = 'llm_relay_wall') then
    create role llm_relay_wall login;
  end if;
  execute format('grant connect on database %I to llm_relay_wall', current_database());
end
$$;

grant usage on schema public to llm_relay_wall;
grant select (id, user_id, provider_id, model, original_model, status_code, duration_ms, cost_usd, created_at, deleted_at,
  is_replay) on public.message_request to llm_relay_wall;
grant select (id, name) on public.users to llm_relay_wall;
grant select (id, name) on public.providers to llm_relay_wall;

alter role llm_relay_wall connection limit 4;
alter role llm_relay_wall set default_transaction_read_only = on;
alter role llm_relay_wall set statement_timeout = '2s';
