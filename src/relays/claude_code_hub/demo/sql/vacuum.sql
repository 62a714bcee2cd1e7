-- After a bulk load: statistics for the planner, visibility for index-only scans; any PostgreSQL.
vacuum (analyze) message_request, usage_ledger
