-- The sign of a database that the demo has made for itself. No index needed.
create table llm_relay_demo (created_at timestamptz not null default now())
