-- Which of the administrator's functions this role may call.
select wanted.name as function
from unnest(array['relay_exporter_account_windows', 'relay_exporter_ops_settings']) as wanted (name)
cross join lateral (select to_regprocedure(wanted.name || '()')::oid as oid) f
where has_function_privilege(f.oid, 'execute')
