-- The server, this role, and about how many rows there are. System catalogues only. All releases.
select
  current_setting('server_version') as version,
  current_user::text as role,
  r.rolsuper as superuser,
  (select sum(greatest(c.reltuples, 0))::bigint from pg_class c
   where c.oid = to_regclass('"LiteLLM_SpendLogs"')
      or c.oid in (select inhrelid from pg_inherits where inhparent = to_regclass('"LiteLLM_SpendLogs"'))) as rows
from pg_roles r
where r.rolname = current_user
