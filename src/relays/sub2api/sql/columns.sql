-- Which of the relay's columns exist, and which of them this role may read; and which functions of the administrator's it may
-- call. System catalogues only. information_schema would hide what the role may not read.
select c.relname::text as table_name, a.attname::text as column_name, has_column_privilege(c.oid, a.attnum, 'select') as readable
from unnest(array[
  'usage_logs', 'ops_error_logs', 'ops_ingress_reject_aggregates', 'ops_system_metrics', 'users', 'api_keys', 'accounts',
  'groups', 'account_groups', 'user_subscriptions', 'user_platform_quotas', 'usage_cleanup_tasks',
  'usage_group_rollup_state'
]) as wanted (name)
join pg_class c on c.oid = to_regclass(wanted.name)
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
union all
select wanted.name, '()', has_function_privilege(f.oid, 'execute')
from unnest(array['relay_exporter_account_windows', 'relay_exporter_ops_settings']) as wanted (name)
cross join lateral (select to_regprocedure(wanted.name || '()')::oid as oid) f
where f.oid is not null
