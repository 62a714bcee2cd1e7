-- Which of the relay's columns exist.
select m.name as table_name, c.name as column_name, 1 as readable
from sqlite_master m, pragma_table_info(m.name) c
where m.type in ('table', 'view') and m.name in (
  'logs', 'users', 'tokens', 'channels', 'options', 'exporter_options', 'user_subscriptions', 'subscription_plans',
  'system_instances'
)
