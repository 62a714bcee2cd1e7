-- What the log page says of their cost (new-api of 2026-08, model/log.go SumUsedQuota).
select coalesce(sum(quota), 0) quota from logs where created_at >= {from} and created_at <= {to} and type = 2
