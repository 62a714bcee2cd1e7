-- How many rows the log page has of today (new-api of 2026-08, model/log.go GetAllLogs).
select count(*) from logs where logs.created_at >= {from} and logs.created_at <= {to}
