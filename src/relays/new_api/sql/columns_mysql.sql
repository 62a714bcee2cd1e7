-- Which of the relay's columns there are for this account: the server hides those that it may not read.
select table_name as table_name, column_name as column_name, 1 as readable
from information_schema.columns
where table_schema = database() and table_name in (
  'logs', 'users', 'tokens', 'channels', 'options', 'exporter_options', 'user_subscriptions', 'subscription_plans',
  'system_instances'
)
