-- Whether the relay's operations monitoring runs: it writes a row a minute. Index on created_at.
select coalesce((select max(m.created_at) from ops_system_metrics m) > now() - interval '5 minutes', false) as runs
