-- How many rows the fact table has, by the server's own estimate, and which server this is. System catalogues only.
select
  current_setting('server_version') as server_version,
  current_user::text as role,
  current_setting('is_superuser') = 'on' as superuser,
  coalesce((select c.reltuples::bigint from pg_class c where c.oid = to_regclass($1)), -1) as rows
