-- Which of the relay's columns exist, and which of them this role may read. System catalogues only.
-- information_schema would hide what the role may not read, and a missing grant would look like an old version.
-- Besides, what the administrator's function tells, if this role may call it.
select c.relname::text as table_name, a.attname::text as column_name,
  case when has_column_privilege(c.oid, a.attnum, 'select') then 1 else 0 end as readable
from unnest(array[
  'logs', 'users', 'tokens', 'channels', 'options', 'exporter_options', 'user_subscriptions', 'subscription_plans',
  'system_instances'
]) as wanted (name)
join pg_class c on c.oid = to_regclass(wanted.name)
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
union all
select 'exporter_options()', told.name, 1
from unnest(array['key', 'value']) as told (name)
where has_function_privilege(to_regprocedure('exporter_options()')::oid, 'execute')
