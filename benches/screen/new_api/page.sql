-- The first page of them (new-api of 2026-08, model/log.go GetAllLogs).
select * from logs where logs.created_at >= {from} and logs.created_at <= {to}
order by logs.created_at desc, logs.id desc limit 20
