-- Which of the relay's columns exist, and which of them this role may read. System catalogues only.
-- information_schema would hide what the role may not read, and a missing grant would look like an old version.
select c.relname::text as table_name, a.attname::text as column_name, has_column_privilege(c.oid, a.attnum, 'select') as readable
from unnest(array[
  'usage_ledger', 'message_request', 'users', 'keys', 'providers', 'system_settings', 'model_prices'
]) as wanted (name)
join pg_class c on c.oid = to_regclass(wanted.name)
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
