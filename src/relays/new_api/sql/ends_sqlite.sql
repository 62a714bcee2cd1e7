-- Both ends of the log. Primary key: both in one select would walk through the whole table. The clock is this machine's.
select
  coalesce((select max(id) from logs), 0) as top,
  coalesce((select min(id) from logs), 0) as first,
  (select created_at from logs order by id limit 1) as first_at,
  (select min(created_at) from logs where created_at >= 946684800) as oldest,
  null as latest,
  null as now
