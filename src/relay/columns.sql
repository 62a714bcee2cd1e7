-- Which columns the wanted tables have, and which of them this role may read. System catalogues only.
-- information_schema would hide what the role may not read, and a missing grant would look like an old version.
select c.relname::text as table_name, a.attname::text as column_name, has_column_privilege(c.oid, a.attnum, 'select') as readable
from unnest($1::text[]) as wanted (name)
join pg_class c on c.oid = to_regclass(quote_ident(wanted.name))
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
