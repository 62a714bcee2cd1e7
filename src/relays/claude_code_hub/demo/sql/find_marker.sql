-- Whether the demo's sign is there, and how many tables are; any PostgreSQL. Catalogue indexes serve it.
select
  to_regclass('public.llm_relay_demo') is not null as marked,
  (
    select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname not in ('pg_catalog', 'information_schema')
      and n.nspname not like 'pg\_toast%' and n.nspname not like 'pg\_temp%'
  ) as relations
